"""Every setting of every run, in one table: ``preset("quick").segmentation``."""

import math
from dataclasses import MISSING, dataclass, field, fields, replace
from numbers import Integral, Real

LOSSES = ("cross_entropy", "channel_cross_entropy", "softmax_cross_entropy", "l1", "colour_classes")


def setting(says, default=MISSING, known=(), tasks=()):
    """A field of ``Settings``: what it says, its default, the known names, and for which tasks.

    Without ``tasks`` it concerns all of them.
    """
    return field(default=default, metadata={"help": says, "known": known, "tasks": tasks})


@dataclass(frozen=True)
class Settings:
    """How one task is trained. A value that nothing can be trained with raises ValueError."""

    size: tuple[int, int] = setting("height and width of the images in pixels, such as 96x128")
    width: int = setting("channels of the network's first stage")
    epochs: int = setting("how often each training image is seen")
    batch_size: int = setting("how many images a step learns from")
    lr: float = setting("the learning rate, at the peak of its schedule")
    schedule: str = setting(
        "how the learning rate falls", "constant", ("constant", "linear", "cosine")
    )
    optimizer: str = setting("what updates the weights", "adam", ("adam", "adamw", "muon"))
    weight_decay: float = setting("how strongly AdamW and Muon shrink the weights", 0.0)
    augment: float | None = setting(
        "strength of the random views, 0 is none; by default the preset says it", 0.0
    )
    loss: str = setting("what is minimised", "cross_entropy", LOSSES)
    label_smoothing: float = setting(
        "probability that the target gives to the other classes",
        0.0,
        tasks=("classification", "segmentation"),
    )
    whitening: float = setting(
        "the first layer begins with filters that whiten patches; this is added to their variance",
        0.0,
        tasks=("classification",),
    )
    balance: float = setting(
        "classes weigh 1 / share^balance in the loss", 0.0, tasks=("segmentation",)
    )
    dice: float = setting("weight of soft Dice, added to the loss", 0.0, tasks=("segmentation",))
    limit: int | None = setting("train on this many images only", None)
    seed: int = setting("fixes first weights, order and random views", 0)
    precision: str = setting(
        "no is fp32, best the fastest honest one here", "best", ("best", "no", "bf16", "fp16")
    )

    def __post_init__(self):
        for one in fields(self):
            check(one, getattr(self, one.name))

    @property
    def open_ended(self):
        """Whether each epoch is the same, however many are to come."""
        return self.schedule == "constant" and self.augment is not None

    def strength(self, steps):
        """How strongly to augment in a training of so many steps.

        As ``augment`` says, or √(steps / 10,000), at most 1: 0.1 in 150 steps, 0.3 in 1,000.
        """
        if self.augment is not None:
            return self.augment
        return min(1.0, math.sqrt(steps / 10_000))


def check(one, value):
    """Raise ValueError unless ``value`` suits the field ``one`` of the settings."""
    name = one.name
    if name == "size":
        is_pair = isinstance(value, tuple | list) and len(value) == 2
        if not is_pair or not all(is_whole(side, 16) for side in value):
            raise ValueError(f"size={value}: give (height, width) in pixels, at least 16 each")
    elif one.type is str:
        known = one.metadata["known"]
        if value not in known:
            raise ValueError(f"no {name} {value!r}: choose one of {', '.join(known)}")
    elif value is None and name in ("augment", "limit"):
        return
    elif one.type in (int, int | None):
        least = 0 if name == "seed" else 1
        if not is_whole(value, least):
            raise ValueError(f"{name}={value}: give a whole number of at least {least}")
    elif not isinstance(value, Real) or not 0 <= value < math.inf:
        raise ValueError(f"{name}={value}: give a finite number of at least 0")
    elif name == "lr" and value == 0:
        raise ValueError(f"{name}={value}: give a number above 0")


def concerns(one, task):
    """Whether a field of the settings changes anything in the task of that name."""
    return not one.metadata["tasks"] or task in one.metadata["tasks"]


def is_whole(value, least):
    return isinstance(value, Integral) and value >= least


@dataclass(frozen=True)
class Preset:
    """The settings of the three tasks, and the data they are meant for."""

    name: str
    source: str  # for ``helpers.data.prepare_or_draw``: "synthetic", or "" for real data
    classification: Settings
    segmentation: Settings
    colorization: Settings


RGB = {"loss": "channel_cross_entropy"}
LINEAR = {"schedule": "linear"}
MUON = {"optimizer": "muon"}
ADAMW = {"optimizer": "adamw", "weight_decay": 0.05}
COSINE = {"schedule": "cosine", "augment": None}
BETTER = {  # what won on photographs: see tests/benchmarks/README.md
    "classification": {"lr": 2e-3, "label_smoothing": 0.1, **ADAMW, **COSINE},
    "segmentation": {
        "lr": 8e-3,
        "weight_decay": 0.05,
        "balance": 0.5,
        "dice": 1.0,
        **MUON,
        **COSINE,
    },
    "colorization": {"lr": 4e-3, "weight_decay": 0.01, "loss": "colour_classes", **MUON, **COSINE},
}
# Settings begin with the size, the width, the number of epochs and the batch size.
PRESETS = {p.name: p for p in (
    Preset(  # tests: does every cell run?
        "smoke", "synthetic",
        Settings((32, 32), 4, 2, 40, lr=3e-3, limit=40, **LINEAR),
        Settings((48, 64), 4, 2, 16, lr=3e-3, limit=16),
        Settings((32, 48), 4, 2, 24, lr=3e-3, limit=24, **RGB),
    ),
    Preset(  # the default: embedded data, two CPU cores, ten minutes
        "quick", "synthetic",
        Settings((64, 64), 32, 10, 16, **BETTER["classification"] | LINEAR | {"augment": 0.3}),
        Settings((72, 96), 16, 4, 8, lr=12e-3, balance=0.5, **MUON, **LINEAR),
        Settings((64, 96), 12, 3, 8, lr=6e-3, limit=220, **RGB, **MUON, **LINEAR),
    ),
    Preset(  # the report's settings, gaps filled: real data, one GPU
        "report", "",
        Settings((224, 224), 64, 20, 64, lr=1e-3, **LINEAR),
        Settings((240, 320), 64, 10, 8, lr=1e-4),
        Settings((256, 256), 64, 5, 8, lr=1e-4, **RGB),
    ),
    Preset(  # what we would do instead: a better recipe on the same data and networks
        "best", "",
        Settings((224, 224), 64, 20, 64, **BETTER["classification"], whitening=0.05),
        Settings((240, 320), 64, 10, 8, **BETTER["segmentation"]),
        Settings((256, 256), 64, 5, 8, **BETTER["colorization"]),
    ),
)}  # fmt: skip


def preset(name, seed=0):
    """The preset of that name; its three tasks begin with that seed."""
    if name not in PRESETS:
        raise ValueError(f"no preset {name!r}: choose one of {', '.join(PRESETS)}")
    chosen = PRESETS[name]
    tasks = ("classification", "segmentation", "colorization")
    return replace(chosen, **{task: replace(getattr(chosen, task), seed=seed) for task in tasks})
