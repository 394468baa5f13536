"""Every setting of every run, in one table: ``preset("quick").segmentation``."""

import math
from dataclasses import asdict, dataclass, replace
from numbers import Integral


@dataclass(frozen=True)
class Settings:
    """How one task is trained.

    Attributes:
        size: (height, width) in pixels that every picture is brought to.
        width: channels of the network's first stage.
        epochs: how often each training picture is seen.
        batch_size: how many pictures a step learns from.
        lr: the learning rate, at the peak of its schedule.
        schedule: "constant", "linear" (to zero) or "cosine" (to zero, after a tenth of warm-up).
        optimizer: "adam" or "adamw".
        weight_decay: AdamW's.
        augment: how strongly training pictures are flipped, moved, turned and re-lit; 0 is not at all, None
            as much as the number of steps can bear, see ``strength``.
        coarse: share of the epochs, the first ones, in which training pictures have half the size.
        loss: one of the task's ``losses``, see ``helpers.tasks``.
        label_smoothing: of the class cross-entropies.
        balance: of segmentation: classes weigh 1 / share^balance; 0 leaves the rare ones to chance.
        dice: of segmentation: how much soft Dice over the classes of a batch is added to the cross-entropy.
        limit: train on this many pictures only.
        seed: fixes initial weights, order and augmentation; another one gives another, equally good run.

    A value that nothing can be trained with raises ValueError.
    """

    size: tuple[int, int]
    width: int
    epochs: int
    batch_size: int
    lr: float
    schedule: str = "constant"
    optimizer: str = "adam"
    weight_decay: float = 0.0
    augment: float | None = 0.0
    coarse: float = 0.0
    loss: str = "cross_entropy"
    label_smoothing: float = 0.0
    balance: float = 0.0
    dice: float = 0.0
    limit: int | None = None
    seed: int = 0

    def __post_init__(self):
        for name, value in asdict(self).items():
            if name in KNOWN and value not in KNOWN[name]:
                raise ValueError(f"no {name} {value!r}: choose one of {', '.join(KNOWN[name])}")
            if name == "size" and (len(value) != 2 or not all(whole(side, 16) for side in value)):
                raise ValueError(f"size={value}: give (height, width) in pixels, at least 16 each")
            optional = value is None and name in ("augment", "limit")
            if name in WHOLE and not optional and not whole(value, WHOLE[name]):
                raise ValueError(f"{name}={value}: give a whole number of at least {WHOLE[name]}")
            if name in REAL and not optional and (not 0 <= value < math.inf or (value == 0 and name == "lr")):
                raise ValueError(f"{name}={value}: give a finite number {REAL[name]}")

    def strength(self, steps):
        """How strongly to augment in a training of so many ``steps``: 0.3 in hundreds, 1 in ten thousand."""
        return min(1.0, max(0.3, steps / 10_000)) if self.augment is None else self.augment


KNOWN = {
    "schedule": ("constant", "linear", "cosine"),
    "optimizer": ("adam", "adamw"),
    "loss": ("cross_entropy", "channel_cross_entropy", "softmax_cross_entropy", "l1", "colour_classes"),
}
WHOLE = {"width": 1, "epochs": 1, "batch_size": 1, "limit": 1, "seed": 0}
NOT_BELOW_0 = ("weight_decay", "augment", "coarse", "label_smoothing", "balance", "dice")
REAL = {"lr": "above 0"} | dict.fromkeys(NOT_BELOW_0, "of at least 0")


def whole(value, least):
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
ADAMW = {"optimizer": "adamw", "schedule": "cosine", "augment": None}
BETTER = {  # what won on photographs, ingredient by ingredient: see the README
    "classification": {"lr": 2e-3, "weight_decay": 0.05, "label_smoothing": 0.1, **ADAMW},
    "segmentation": {"lr": 4e-3, "weight_decay": 0.01, "balance": 0.5, "dice": 1.0, "coarse": 0.6, **ADAMW},
    "colorization": {"lr": 4e-3, "weight_decay": 0.01, "loss": "colour_classes", **ADAMW},
}
PRESETS = {p.name: p for p in (
    Preset(  # tests: does every cell run?
        "smoke", "synthetic",
        Settings(size=(32, 32), width=4, epochs=2, batch_size=40, lr=3e-3, limit=40, **LINEAR),
        Settings(size=(48, 64), width=4, epochs=2, batch_size=16, lr=3e-3, limit=16),
        Settings(size=(32, 48), width=4, epochs=2, batch_size=24, lr=3e-3, limit=24, **RGB),
    ),
    Preset(  # the default: embedded data, two CPU cores, ten minutes
        "quick", "synthetic",
        Settings(size=(64, 64), width=32, epochs=10, batch_size=16, **BETTER["classification"] | LINEAR),
        Settings(size=(72, 96), width=16, epochs=4, batch_size=4, lr=4e-3, balance=0.5, **LINEAR),
        Settings(size=(64, 96), width=12, epochs=5, batch_size=8, lr=3e-3, limit=220, **RGB, **LINEAR),
    ),
    Preset(  # the report's settings, gaps filled: real data, one GPU
        "report", "",
        Settings(size=(224, 224), width=64, epochs=20, batch_size=64, lr=1e-3, **LINEAR),
        Settings(size=(240, 320), width=64, epochs=10, batch_size=8, lr=1e-4),
        Settings(size=(256, 256), width=64, epochs=5, batch_size=8, lr=1e-4, **RGB),
    ),
    Preset(  # what we would do instead: the same data and networks, about as long, by a better recipe
        "best", "",
        Settings(size=(224, 224), width=64, epochs=20, batch_size=64, **BETTER["classification"]),
        Settings(size=(240, 320), width=64, epochs=16, batch_size=8, **BETTER["segmentation"]),
        Settings(size=(256, 256), width=64, epochs=5, batch_size=8, **BETTER["colorization"]),
    ),
)}  # fmt: skip


def preset(name, **changes):
    """The preset of that name; ``changes`` are applied to each of its tasks, e.g. ``epochs=3``."""
    if name not in PRESETS:
        raise ValueError(f"no preset {name!r}: choose one of {', '.join(PRESETS)}")
    found = PRESETS[name]
    tasks = ("classification", "segmentation", "colorization")
    return replace(found, **{task: replace(getattr(found, task), **changes) for task in tasks})
