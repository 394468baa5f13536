"""What do skip connections buy? Networks, metrics and figures, and what runs the notebooks."""

import os
from pathlib import Path

_PROJECT = Path(__file__).resolve().parents[1]
ROOT = _PROJECT if (_PROJECT / "pyproject.toml").exists() else Path.cwd()


def _absolute(folder):
    return Path(folder).expanduser().absolute()


# Downloads, and what is drawn or decoded; what runs leave; data sets that are only read.
DATA = _absolute(os.environ.get("COURSEWORK_DATA") or ROOT / "data")
REPORTS = _absolute(os.environ.get("COURSEWORK_REPORTS") or ROOT / "reports")
INPUTS = _absolute(os.environ.get("COURSEWORK_INPUTS") or "/kaggle/input")
VOID = 255  # the class id of mask pixels that count nowhere


def plural(count, word):
    """A number and its noun: "1 seed", "3 seeds"."""
    if count == 1:
        return f"1 {word}"
    return f"{count} {word}s"


def headless():
    """Whether ``python -m helpers run`` executes this notebook: nobody can move a control."""
    return bool(os.environ.get("COURSEWORK_HEADLESS"))


def predict(images, task="segmentation", run=None):
    """A trained network's answers for images of your own: a list of ``Answer``.

    ``images`` are files, folders or arrays, and ``run`` is the folder of a training, by default the
    last one. All is said in ``helpers.publishing.predicting``, by ``predict`` and ``Answer``.
    """
    from helpers.publishing import predicting  # which takes seconds to import

    return predicting.predict(images, task, run)
