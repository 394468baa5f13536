"""The three tasks: what goes into the network, what it is compared with, and what its answer means.

Each class has the same names, which is all that training and figures know of a task.
"""

from copy import copy
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from helpers import losses
from helpers.colour import ColourClasses, rgb_to_grey, to_float
from helpers.metrics import ConfusionMatrix, MeanPSNR
from helpers.models import FCN, ResNet, ResNet18, UNet

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's photos, the field's habit


def normalise(images):
    """(N, 3, H, W) in [0, 1] to about zero mean and unit variance in each channel."""
    return torch.stack([(c - m) / s for c, m, s in zip(images.unbind(1), MEAN, STD, strict=True)], 1)


def resnet(blocks, skip):
    return lambda task: ResNet(blocks, len(task.classes), width=task.settings.width, skip=skip)


class Classification:
    """Which class is the picture? Prediction: (N, C) probabilities.

    ``networks`` maps a name to a function of the task that makes a new network.
    """

    name, data_set, metric = "classification", "birds", "accuracy"
    known_losses, stride = ("cross_entropy",), None  # a map of answers has one for stride × stride pixels
    networks = {  # add yours here
        "resnet18": lambda task: ResNet18(len(task.classes), width=task.settings.width),
        "plain18": lambda task: ResNet18(len(task.classes), width=task.settings.width, skip=False),
        "resnet10": resnet((1, 1, 1, 1), True),
        "plain10": resnet((1, 1, 1, 1), False),
        "resnet34": resnet((3, 4, 6, 3), True),
        "plain34": resnet((3, 4, 6, 3), False),
    }

    def __init__(self, data, settings):
        self.check(settings)
        self.classes, self.settings = list(data.classes), settings
        self.outputs = len(self.classes)  # channels of what a network returns

    @classmethod
    def check(cls, settings):
        if settings.loss not in cls.known_losses:
            known = ", ".join(cls.known_losses)
            raise ValueError(f"no loss {settings.loss!r} for {cls.name}: choose one of {known}")

    def seeded(self, more):
        """This task with a seed that is higher by ``more``: other first weights, order and views."""
        other = copy(self)
        other.settings = replace(self.settings, seed=self.settings.seed + more)
        return other

    def inputs(self, images, target):
        """Pictures in [0, 1] and their labels -> (what the network sees, what its output is compared to)."""
        return normalise(images), target

    def check_output(self, output, inputs):
        """Raise ValueError unless a network's output for ``inputs`` is a tensor of the task's shape."""
        sides = [-(-side // self.stride) for side in inputs.shape[2:]] if self.stride else []
        wanted = (len(inputs), self.outputs, *sides)
        if getattr(output, "shape", None) != wanted:
            shape = tuple(getattr(output, "shape", ())) or f"a {type(output).__name__}"
            inside = ", ".join(map(str, wanted[1:]))
            raise ValueError(
                f"your network must return (N, {inside}), it returned {shape} for N = {wanted[0]}"
            )

    def loss(self, logits, target):
        return losses.class_cross_entropy(logits, target, label_smoothing=self.settings.label_smoothing)

    def scores(self):
        return ConfusionMatrix(len(self.classes))

    def predict(self, logits, inputs):
        return torch.softmax(logits, 1)

    def sample(self, dataset, count):
        """(inputs, target) of ``count`` pictures, evenly spread over ``dataset``: a batch to probe with."""
        images, target = dataset[np.linspace(0, len(dataset) - 1, count).astype(int)]
        return self.inputs(to_float(images), target)


def fcn(skip):
    return lambda task: FCN(len(task.classes), width=task.settings.width, skip=skip)


class Segmentation(Classification):
    """Which class is each pixel? Prediction: (N, H, W) class ids."""

    name, data_set, metric, stride = "segmentation", "streets", "mean_iou", 1
    networks = {
        "fcn": fcn(False),
        "fcn16s": fcn("16s"),
        "fcn8s": fcn(True),
        "unet": lambda task: UNet(3, len(task.classes), width=task.settings.width),
        "unet_no_skips": lambda task: UNet(3, len(task.classes), width=task.settings.width, skip=False),
    }

    def __init__(self, data, settings):
        super().__init__(data, settings)
        self.weight = None
        if settings.balance:
            count = partial(np.bincount, minlength=len(self.classes))
            self.weight = losses.balance(
                sum(count(mask.ravel()) for mask in data.train.targets), settings.balance
            )

    def loss(self, logits, target):
        how = {"weight": self.weight, "label_smoothing": self.settings.label_smoothing}
        loss = losses.class_cross_entropy(logits, target, **how)
        return loss + self.settings.dice * losses.soft_dice(logits, target) if self.settings.dice else loss

    def predict(self, logits, inputs):
        return logits.argmax(1).byte()


def colour_unet(skip):
    return lambda task: UNet(1, task.outputs, width=task.settings.width, skip=skip, stride=task.stride)


class Colorization(Classification):
    """What colours did this grey picture have? Prediction: (N, 3, H, W) RGB in [0, 1].

    Its losses have three outputs each, but for "colour_classes": one for each cell of the ab plane, whose
    answer is read at ``temperature`` and ``rarity``, see ``ColourClasses.decode``.
    """

    name, data_set, metric, stride = "colorization", "landscapes", "psnr", 1
    temperature, rarity = 0.38, 0.0  # the first is Zhang et al.'s
    known_losses = ("channel_cross_entropy", "softmax_cross_entropy", "l1", "colour_classes")
    networks = {
        "unet": colour_unet(True),
        "unet_no_skips": colour_unet(False),
        "unet_without_1": colour_unet([False, True, True, True]),
        "unet_without_1_2": colour_unet([False, False, True, True]),
        "unet_without_1_2_3": colour_unet([False, False, False, True]),
    }

    def __init__(self, data, settings):
        super().__init__(data, settings)
        self.colours, self.outputs = None, 3
        if settings.loss == "colour_classes":
            self.colours = ColourClasses()
            batches = np.array_split(np.arange(len(data.train)), -(-len(data.train) // 64))
            self.colours.rebalance(to_float(data.train[rows][0]) for rows in batches)
            self.outputs, self.stride = len(self.colours.centres), self.colours.stride
        else:
            self.compare = getattr(losses, settings.loss)

    def inputs(self, images, target):
        """Pictures in [0, 1] -> (their grey version in [−1, 1], the pictures themselves)."""
        return 2 * rgb_to_grey(images) - 1, images

    def loss(self, logits, rgb):
        if self.colours is None:
            return self.compare(logits, rgb)
        colours = self.colours.to(logits.device)
        return losses.soft_cross_entropy(logits, *colours.encode(rgb))

    def scores(self):
        return MeanPSNR()

    def predict(self, logits, inputs):
        if self.colours is not None:
            read = self.colours.to(logits.device).decode
            return read(logits, (inputs + 1) / 2, self.temperature, self.rarity)
        return torch.softmax(logits, 1) if self.settings.loss == "softmax_cross_entropy" else logits.sigmoid()


TASKS = {task.name: task for task in (Classification, Segmentation, Colorization)}


def build(task, network):
    """A freshly initialised network of that name, the same for the same ``task.settings.seed``.

    ``network`` may also be a function of the task that makes one, like those in ``task.networks``.
    """
    if not callable(network) and network not in task.networks:
        raise ValueError(f"no network {network!r} for {task.name}: choose one of {', '.join(task.networks)}")
    with torch.random.fork_rng():
        torch.manual_seed(task.settings.seed)
        return (network if callable(network) else task.networks[network])(task)
