"""Every setting of every run, in one table: ``preset("quick").segmentation``."""

from dataclasses import asdict, dataclass, fields, replace
from functools import partial


@dataclass(frozen=True)
class Settings:
    """How one task is trained.

    Attributes:
        size: (height, width) in pixels that every picture is brought to.
        width: channels of the network's first stage.
        epochs, batch_size, lr: the usual; lr is the peak of the schedule.
        schedule: "constant", "linear" (to zero) or "cosine" (to zero, after a tenth of warm-up).
        optimizer: "adam" or "adamw".
        weight_decay: AdamW's.
        augment: how strongly training pictures are flipped, moved, turned and re-lit; 0 is not at all.
        loss: see ``helpers.tasks``; each task has its default first.
        label_smoothing: of the class cross-entropies.
        fcn_width: ``width`` of the FCN's backbone, where it differs.
        limit: train on this many pictures only.
        seed: fixes initial weights, order and augmentation: on the same CPU, the same seed gives the same
            bits, and ``replace(settings, seed=1)`` another, equally good run.
    """

    size: tuple[int, int]
    width: int
    epochs: int
    batch_size: int
    lr: float
    schedule: str = "constant"
    optimizer: str = "adam"
    weight_decay: float = 0.0
    augment: float = 0.0
    loss: str = "cross_entropy"
    label_smoothing: float = 0.0
    fcn_width: int | None = None
    limit: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class Preset:
    """The settings of the three tasks, what they are for, and the data they are meant for.

    ``source`` is what ``helpers.data.prepare_or_draw`` takes: "synthetic", or "" for real data.
    """

    name: str
    purpose: str
    source: str
    classification: Settings
    segmentation: Settings
    colorization: Settings


PRESETS = {
    p.name: p
    for p in (
        Preset(
            "smoke",
            "tests: does every cell run?",
            "synthetic",
            Settings((32, 32), 4, 2, 16, 3e-3, "linear", limit=40),
            Settings((48, 64), 4, 2, 4, 3e-3, fcn_width=4, limit=16),
            Settings((32, 48), 4, 2, 8, 3e-3, loss="channel_cross_entropy", limit=24),
        ),
        Preset(
            "quick",
            "the default: embedded data, two CPU cores, ten minutes",
            "synthetic",
            Settings((64, 64), 32, 20, 16, 1e-3, "linear", augment=0.3),
            Settings((72, 96), 16, 8, 4, 4e-3, "linear", fcn_width=32),
            Settings((64, 96), 12, 5, 4, 2e-3, "linear", loss="channel_cross_entropy", limit=220),
        ),
        Preset(
            "report",
            "the report's settings to the letter: real data, one GPU",
            "",
            Settings((224, 224), 64, 20, 64, 1e-3, "linear"),
            Settings((240, 320), 64, 10, 8, 1e-4),
            Settings((256, 256), 64, 5, 8, 1e-4, loss="channel_cross_entropy"),
        ),
        Preset(
            "best",
            "what we would do instead: the same data, networks and epochs, a better recipe",
            "",
            Settings(
                (224, 224), 64, 20, 128, 2e-3, "cosine", "adamw", 0.05, augment=1.0, label_smoothing=0.1
            ),
            Settings((240, 320), 64, 10, 16, 1e-3, "cosine", "adamw", 0.01, augment=1.0),
            Settings(
                (256, 256), 64, 5, 16, 1e-3, "cosine", "adamw", 0.01, augment=0.5, loss="colour_classes"
            ),
        ),
    )
}


def preset(name, **changes):
    """The preset of that name; ``changes`` are applied to each of its tasks, e.g. ``epochs=3``."""
    if name not in PRESETS:
        raise ValueError(f"no preset {name!r}: choose one of {', '.join(PRESETS)}")
    found = PRESETS[name]
    tasks = ("classification", "segmentation", "colorization")
    return replace(found, **{task: replace(getattr(found, task), **changes) for task in tasks})


def table(name, batches=(1, 2, 4, 8, 16, 32, 64)):
    """A preset as a table, one column a task: every setting, then the memory of a training step in GiB.

    The memory is computed (see ``helpers.memory``) for ResNet-18 with 400 classes, the U-Net with 13, and
    the U-Net that colours, at the preset's sizes: in bf16 or fp16, and in brackets in fp32.
    """
    import pandas as pd

    from helpers.colour import ColourClasses
    from helpers.losses import channel_cross_entropy, class_cross_entropy
    from helpers.memory import training_memory
    from helpers.models import ResNet18, UNet

    def colour_loss(logits, target):
        return channel_cross_entropy(logits, logits.detach())  # any three channels will do as a target

    found = preset(name)
    outputs = len(ColourClasses().centres) if found.colorization.loss == "colour_classes" else 3
    networks = {
        "classification": (lambda width: ResNet18(400, width=width), 3, class_cross_entropy),
        "segmentation": (lambda width: UNet(3, 13, width=width), 3, class_cross_entropy),
        "colorization": (
            lambda width: UNet(1, outputs, width=width),
            1,
            colour_loss if outputs == 3 else class_cross_entropy,
        ),
    }
    columns = {}
    for task, (network, channels, loss) in networks.items():
        settings = getattr(found, task)
        rows = {setting: str(value) for setting, value in asdict(settings).items()}
        for batch in batches:
            shape = (batch, channels, *settings.size)
            build = partial(network, settings.width)
            try:
                needs = [training_memory(build, shape, precision=p, loss=loss) for p in ("bf16", "no")]
                rows[f"GiB at batch {batch}"] = "{:.2f} ({:.2f})".format(*(n / 2**30 for n in needs))
            except ValueError:  # batch norm: one picture that has shrunk to one pixel has no variance
                rows[f"GiB at batch {batch}"] = "cannot be trained"
        columns[task] = rows
    return pd.DataFrame(columns)


def differences(settings, other):
    """What differs between two ``Settings``, for a table: {field: (one, other)}."""
    pairs = {f.name: (asdict(settings)[f.name], asdict(other)[f.name]) for f in fields(Settings)}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
