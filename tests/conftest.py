"""What several test files need: tiny data sets in memory, and the folder of real samples."""

import os
import signal
from types import SimpleNamespace

import hypothesis
import numpy as np
import pytest

# One thread for each of pytest's workers: threads that wait for each other's cores spin.
os.environ["OMP_NUM_THREADS"] = "1"
# Where there is a GPU, too: it adds up in an order that varies, and many tests compare bits.
os.environ.setdefault("ACCELERATE_USE_CPU", "true")

import torch

from helpers import ROOT
from helpers.data.batches import ArrayDataset

# In fp32 on every CPU: many tests allow for less rounding than bf16's.
torch.cpu.get_capabilities = dict
os.environ["PYTHONPATH"] = str(ROOT)  # what tests start finds the project that they test
hypothesis.settings.register_profile("steady", deadline=None)  # a busy machine is slow
hypothesis.settings.load_profile("steady")
# A suite that was started in the background ignores interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)
REAL = ROOT.parent / "shared" / "realdata"


def pytest_collection_modifyitems(items):
    """The longest tests first: started last, one of them would leave the other workers idle."""
    items.sort(key=lambda item: item.path.name != "test_notebooks.py")


@pytest.fixture(autouse=True)
def the_same_draws():
    """Each test gets the same random numbers: a random network may be dead, its ReLUs all at 0."""
    torch.manual_seed(0)


@pytest.fixture
def real_data():
    """The folder of real samples, which is not part of the project."""
    if not REAL.is_dir():
        pytest.skip(f"no real samples in {REAL}")
    return REAL


def tiny_data(kind, count=24, size=(32, 32), classes=3, seed=0):
    """A learnable data set: the class of an image, or of a pixel, is its brightest channel."""
    rng = np.random.default_rng(seed)

    def made(n):
        images = rng.integers(0, 60, (n, *size, 3), dtype=np.uint8)
        if kind == "birds":
            targets = np.arange(n) % classes
            for image, target in zip(images, targets, strict=True):
                image[..., target % 3] += 120
        elif kind == "streets":
            targets = rng.integers(0, classes, (n, size[0] // 8, size[1] // 8)).astype(np.uint8)
            targets = targets.repeat(8, 1).repeat(8, 2)
            np.put_along_axis(images, targets[..., None].astype(int) % 3, 200, 3)
        else:
            targets = None
        return ArrayDataset(images, targets, [f"{kind}_{i}.png" for i in range(n)])

    names = [] if kind == "landscapes" else [f"class {c}" for c in range(classes)]
    return SimpleNamespace(
        classes=names,
        train=made(count),
        valid=made(count // 2),
        test=made(count // 2),
        synthetic=True,
        label="tiny",
    )
