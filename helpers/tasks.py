"""The three tasks: what goes into a network, what it is compared with, what its answer means.

Each class has the same names, which is all that training and figures know of a task.
"""

import copy
import math
from dataclasses import asdict, fields, replace

import numpy as np
import torch

from helpers import VOID, losses
from helpers.colour import ColourClasses, rgb_to_grey, to_float
from helpers.metrics import ConfusionMatrix, MeanPSNR, is_counted
from helpers.models import FCN, ResNet, UNet
from helpers.models.resnet import begin_whitened, whitening_filters
from helpers.presets import Settings, concerns

MEAN = (0.485, 0.456, 0.406)  # of ImageNet's photos, the field's habit
STD = (0.229, 0.224, 0.225)


class Classification:
    """Which class is the image? Prediction: (N, C) probabilities.

    ``models`` maps a name to the keyword arguments of ``make``, or to a function of the task that
    makes a new network.
    """

    name = "classification"
    data_set = "birds"
    metric = "accuracy"
    known_losses = ("cross_entropy",)
    stride = None  # a map of answers has one for each square of stride × stride pixels
    weight = None  # (C,) of the classes in the loss
    filters = None  # with which the first layer of a network begins
    models = {
        "resnet18": {"blocks": (2, 2, 2, 2)},
        "plain18": {"blocks": (2, 2, 2, 2), "skip": False},
        "resnet10": {"blocks": (1, 1, 1, 1)},
        "plain10": {"blocks": (1, 1, 1, 1), "skip": False},
        "resnet34": {"blocks": (3, 4, 6, 3)},
        "plain34": {"blocks": (3, 4, 6, 3), "skip": False},
    }

    def __init__(self, data, settings):
        self.check(settings)
        self.settings = settings
        self.classes = list(data.classes)
        self.outputs = len(self.classes)  # channels of what a network returns
        if settings.whitening:
            train = data.train.subset(settings.limit)
            inputs, _ = self.sample(train, min(len(train), 300))
            self.filters = whitening_filters(inputs, settings.whitening)

    @classmethod
    def check(cls, settings):
        """Raise ValueError for a loss of another task, and for a setting that changes nothing."""
        if settings.loss not in cls.known_losses:
            known = ", ".join(cls.known_losses)
            raise ValueError(f"no loss {settings.loss!r} for {cls.name}: choose one of {known}")
        for one in fields(settings):
            value = getattr(settings, one.name)
            if value != one.default and not concerns(one, cls.name):
                tasks = " and ".join(one.metadata["tasks"])
                raise ValueError(
                    f"{one.name}={value} changes nothing in {cls.name}, only in {tasks}: "
                    "leave it out"
                )

    def make(self, **options):
        """A new network; ``options`` are those of ``helpers.models``."""
        model = ResNet(num_classes=self.outputs, **options)
        if self.filters is not None:
            begin_whitened(model, self.filters)
        return model

    def seeded(self, more):
        """This task with a seed that is higher by ``more``: other weights, order and views."""
        other = copy.copy(self)
        other.settings = replace(self.settings, seed=self.settings.seed + more)
        return other

    def inputs(self, images, target):
        """Images in [0, 1] and their labels -> (what the network sees, what is compared)."""
        return normalise(images), target

    def check_output(self, output, inputs, mode):
        """Raise ValueError unless a network's output for ``inputs`` has the task's shape.

        ``mode`` is "training" or "evaluation", for the message.
        """
        wanted = [len(inputs), self.outputs]
        if self.stride:
            wanted += [math.ceil(side / self.stride) for side in inputs.shape[2:]]
        returned = list(getattr(output, "shape", [])) or f"a {type(output).__name__}"
        if returned != wanted:
            found = f"in {mode} mode it returned {returned}"
            raise ValueError(f"your network must return {wanted}; {found}")

    def loss(self, logits, target):
        """The mean loss of a batch, a scalar tensor."""
        smoothing = self.settings.label_smoothing
        return losses.class_cross_entropy(
            logits, target, weight=self.weight, label_smoothing=smoothing
        )

    def counted(self, target):
        """How many images of a batch count in its mean loss, a scalar tensor."""
        return torch.tensor(float(len(target)))

    def scores(self):
        """Collects predictions and targets, and then has ``metric`` as an attribute."""
        return ConfusionMatrix(len(self.classes))

    def predict(self, logits, inputs):
        """The answer that logits mean."""
        return torch.softmax(logits, 1)

    def saved(self):
        """Plain values and tensors, of which ``restore`` makes this task again, without data."""
        kinds = (bool, int, float, str, list, tuple, torch.Tensor)
        values = {name: value for name, value in vars(self).items() if isinstance(value, kinds)}
        return values | {"name": self.name, "settings": asdict(self.settings)}

    def sample(self, dataset, count):
        """(inputs, target) of ``count`` images, evenly spread over ``dataset``."""
        images, target = dataset[np.linspace(0, len(dataset) - 1, count).astype(int)]
        return self.inputs(to_float(images), target)


class Segmentation(Classification):
    """Which class is each pixel? Prediction: (N, H, W) class ids."""

    name = "segmentation"
    data_set = "streets"
    metric = "mean_iou"
    stride = 1
    palette = None  # of data without one
    models = {
        "fcn": {"network": FCN},
        "fcn16s": {"network": FCN, "skip": "16s"},
        "fcn8s": {"network": FCN, "skip": True},
        "unet": {},
        "unet_no_skips": {"skip": False},
    }

    def __init__(self, data, settings):
        super().__init__(data, settings)
        # As the user's masks have them: (C, 3) colours and (C,) ids
        self.palette = np.array(getattr(data, "palette", None)).tolist()
        self.ids = list(getattr(data, "ids", None) or range(self.outputs))
        if settings.balance:
            counts = np.zeros(self.outputs)
            for mask in data.train.targets:
                found = np.bincount(mask.ravel(), minlength=VOID + 1)
                counts += found[: self.outputs]  # without void
            self.weight = losses.balance(counts, settings.balance)

    def make(self, network=UNet, **options):
        if network is FCN:
            return FCN(self.outputs, **options)
        return network(3, self.outputs, **options)

    def loss(self, logits, target):
        loss = super().loss(logits, target)
        if self.settings.dice:
            loss = loss + self.settings.dice * losses.soft_dice(logits, target)
        return loss

    def counted(self, target):
        return is_counted(target, self.outputs).float().mean((1, 2)).sum()  # without void

    def predict(self, logits, inputs):
        return logits.argmax(1).byte()


class Colorization(Classification):
    """What colours did this grey image have? Prediction: (N, 3, H, W) RGB in [0, 1].

    Its losses have three outputs each, but for "colour_classes": one for each cell of the ab plane.
    Those are read at ``temperature`` and ``rarity``, see ``ColourClasses.decode``.
    """

    name = "colorization"
    data_set = "landscapes"
    metric = "psnr"
    known_losses = ("channel_cross_entropy", "softmax_cross_entropy", "l1", "colour_classes")
    stride = 1
    colours = None  # the ``ColourClasses`` of that loss
    models = {
        "unet": {},
        "unet_no_skips": {"skip": False},
        "unet_without_1": {"skip": (False, True, True, True)},
        "unet_without_1_2": {"skip": (False, False, True, True)},
        "unet_without_1_2_3": {"skip": (False, False, False, True)},
    }

    def __init__(self, data, settings, temperature=0.38, rarity=0.0):
        super().__init__(data, settings)
        self.temperature = temperature  # Zhang et al.'s
        self.rarity = rarity
        self.outputs = 3
        if settings.loss == "colour_classes":
            self.colours = ColourClasses()
            batches = torch.arange(len(data.train)).split(64)
            self.colours.rebalance(to_float(data.train[rows.numpy()][0]) for rows in batches)
            self.rare = self.colours.weights  # is saved, unlike ``colours``, which are large
            self.outputs = len(self.colours.centres)
            self.stride = self.colours.stride

    def make(self, **options):
        return UNet(1, self.outputs, stride=self.stride, **options)

    def with_rarity(self, rarity):
        """This task, whose answers are read with rare colours raised by ``rarity``."""
        other = copy.copy(self)
        other.rarity = rarity
        return other

    def inputs(self, images, target):
        """Images in [0, 1] -> (their grey version in [−1, 1], the images themselves)."""
        return 2 * rgb_to_grey(images) - 1, images

    def loss(self, logits, rgb):
        if self.colours is None:
            return getattr(losses, self.settings.loss)(logits, rgb)
        colours = self.colours.to(logits.device)
        return losses.soft_cross_entropy(logits, *colours.encode(rgb))

    def scores(self):
        return MeanPSNR()

    def predict(self, logits, inputs):
        if self.colours is not None:
            colours = self.colours.to(logits.device)
            return colours.decode(logits, (inputs + 1) / 2, self.temperature, self.rarity)
        if self.settings.loss == "softmax_cross_entropy":
            return torch.softmax(logits, 1)
        return logits.sigmoid()


TASKS = {task.name: task for task in (Classification, Segmentation, Colorization)}


def restore(saved):
    """The task that ``task.saved()`` tells of, to predict with. It needs no data."""
    gone = saved["settings"].keys() - {one.name for one in fields(Settings)}
    if gone:
        raise ValueError(f"a run of an older version, with {', '.join(gone)}: train it again")
    kind = TASKS[saved["name"]]
    task = kind.__new__(kind)
    vars(task).update(saved)
    task.settings = Settings(**saved["settings"])
    if "rare" in saved:
        task.colours = ColourClasses()
        task.colours.weights.copy_(saved["rare"])
    return task


def normalise(images):
    """(N, 3, H, W) in [0, 1] to about zero mean and unit variance in each channel."""
    channels = zip(images.unbind(1), MEAN, STD, strict=True)
    return torch.stack([(channel - mean) / std for channel, mean, std in channels], 1)


def build(task, model):
    """A freshly initialised network, the same for the same ``task.settings.seed``.

    ``model`` is a name in ``task.models``, keyword arguments like those there, or a function of the
    task that makes a network.
    """
    name = None
    if isinstance(model, str):
        if model not in task.models:
            known = ", ".join(task.models)
            raise ValueError(f"no model {model!r} for {task.name}: choose one of {known}")
        name = model
        model = task.models[name]
    with torch.random.fork_rng():
        torch.manual_seed(task.settings.seed)
        if callable(model):
            made = model(task)
        else:
            made = task.make(**{"width": task.settings.width, **model})
    made._name = name  # a checkpoint keeps it; no setting, so that it does not change a run
    return made
