"""The three tasks: what goes into the network, what it is compared with, and what its answer means.

Each class has the same six names, which is all that training and figures know of a task.
"""

from functools import cache

import torch

from helpers import losses
from helpers.colour import ColourClasses, rgb_to_grey
from helpers.metrics import ConfusionMatrix, MeanPSNR
from helpers.models import FCN, ResNet18, UNet

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's photos, the field's habit


def normalise(images):
    """(N, 3, H, W) in [0, 1] to about zero mean and unit variance in each channel."""
    mean, std = _channels(images.device)
    return (images - mean) / std


@cache  # a new copy for each batch would make the program wait for the GPU
def _channels(device):
    with torch.inference_mode(False):
        return [torch.tensor(values, device=device).view(1, 3, 1, 1) for values in (MEAN, STD)]


class Classification:
    """Which class is the picture? Prediction: (N, C) probabilities."""

    name, metric = "classification", "accuracy"

    def __init__(self, data, settings):
        self.classes, self.settings = list(data.classes), settings
        size = {"num_classes": len(self.classes), "width": settings.width}
        self.networks = {
            "resnet18": lambda: ResNet18(**size),
            "plain18": lambda: ResNet18(**size, skip=False),
        }

    def inputs(self, images, target):
        """Pictures in [0, 1] and their labels -> (what the network sees, what its output is compared to)."""
        return normalise(images), target

    def loss(self, logits, target):
        return losses.class_cross_entropy(logits, target, label_smoothing=self.settings.label_smoothing)

    def scores(self):
        return ConfusionMatrix(len(self.classes))

    def predict(self, logits, inputs):
        return torch.softmax(logits, 1)


class Segmentation(Classification):
    """Which class is each pixel? Prediction: (N, H, W) class ids."""

    name, metric = "segmentation", "mean_iou"

    def __init__(self, data, settings):
        self.classes, self.settings = list(data.classes), settings
        count = len(self.classes)
        self.networks = {
            "fcn": lambda: FCN(count, width=settings.fcn_width or settings.width),
            "unet": lambda: UNet(3, count, width=settings.width),
            "unet_no_skips": lambda: UNet(3, count, width=settings.width, skip=False),
        }

    def predict(self, logits, inputs):
        return logits.argmax(1).byte()


class Colorization:
    """What colours did this grey picture have? Prediction: (N, 3, H, W) RGB in [0, 1].

    ``settings.loss`` is one of "channel_cross_entropy", "softmax_cross_entropy", "l1" (three outputs
    each) or "colour_classes" (one output for each cell of the ab plane).
    """

    name, metric = "colorization", "psnr"
    classes = ()
    _losses = {  # noqa: RUF012, never changed
        "channel_cross_entropy": losses.channel_cross_entropy,
        "softmax_cross_entropy": losses.softmax_cross_entropy,
        "l1": losses.l1_loss,
    }

    def __init__(self, data, settings):
        self.settings = settings
        self.colours = None
        if settings.loss == "colour_classes":
            self.colours = ColourClasses()
            sample, _ = data.train.__getitems__(range(0, len(data.train), -(-len(data.train) // 200)))
            self.colours.rebalance(sample.float() / 255)
        elif settings.loss not in self._losses:
            known = ", ".join([*self._losses, "colour_classes"])
            raise ValueError(f"no loss {settings.loss!r} for colorization: choose one of {known}")
        outputs = len(self.colours.centres) if self.colours else 3

        def unet(skip):
            return lambda: UNet(1, outputs, width=settings.width, skip=skip)

        self.networks = {"unet": unet(True), "unet_no_skips": unet(False)}
        for level in range(4):
            self.networks[f"unet_without_level_{level + 1}"] = unet([i != level for i in range(4)])

    def inputs(self, images, target):
        """Pictures in [0, 1] -> (their grey version in [−1, 1], the pictures themselves)."""
        return 2 * rgb_to_grey(images) - 1, images

    def loss(self, logits, rgb):
        if self.colours is None:
            return self._losses[self.settings.loss](logits, rgb)
        weight = self.colours.to(logits.device).weights
        return losses.class_cross_entropy(logits, self.colours.encode(rgb), weight=weight)

    def scores(self):
        return MeanPSNR(self.predict)

    def predict(self, logits, inputs):
        grey = (inputs + 1) / 2
        if self.colours is not None:
            return self.colours.decode(logits, grey)
        if self.settings.loss == "softmax_cross_entropy":
            return torch.softmax(logits, 1)
        return torch.sigmoid(logits)


TASKS = {task.name: task for task in (Classification, Segmentation, Colorization)}
DATA_SETS = {"classification": "birds", "segmentation": "streets", "colorization": "landscapes"}


def build(task, network):
    """A freshly initialised network of that name, the same for the same ``task.settings.seed``."""
    if network not in task.networks:
        raise ValueError(f"no network {network!r} for {task.name}: choose one of {', '.join(task.networks)}")
    with torch.random.fork_rng():
        torch.manual_seed(task.settings.seed)
        return task.networks[network]()
