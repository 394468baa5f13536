"""The data sets: a folder, an archive, a download or synthetic data -> arrays at memory speed."""

from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import numpy as np

import helpers

from . import birds, landscapes, streets
from .batches import ArrayDataset
from .cache import open_or_build
from .download import fetch, unpack
from .inventory import Inventory
from .listing import DataError, check_root
from .synthetic import draw_once

ROOT = helpers.DATA
SETS = {"birds": birds, "streets": streets, "landscapes": landscapes}


@dataclass
class DataSet:
    """A prepared data set: three sets of uint8 arrays, and what became of the files."""

    name: str
    classes: list
    train: ArrayDataset
    valid: ArrayDataset
    test: ArrayDataset
    inventory: Inventory
    label: str  # where the images come from, for captions
    synthetic: bool
    palette: np.ndarray = None  # streets: uint8 (C, 3)
    ids: list = None  # streets: the id of each class in the masks on disk


def prepare(name, source=None, size=(96, 96), classes=None, skip_bad=False, root=ROOT, student=""):
    """Find, check and decode a data set once. Later calls open the arrays in a moment.

    Args:
        name: birds, streets or landscapes.
        source: a folder or an archive (.zip, .tar, .tar.gz, …), which is only read. "synthetic":
            the synthetic set. None or "": a copy below ``root``, or a download.
        size: one number, or (height, width). Birds and landscapes are cropped to it. Streets are
            scaled to it, so keep their 4:3.
        classes: birds only: use the first so many species names.
        skip_bad: go on when more than 1 % of the files are bad. Later calls for the same files
            then go on, too.
        root: the folder for downloads and caches.
        student: a name, which has synthetic images of its own, in a folder of their own.

    Raises:
        DataError: the data cannot be used. It says what was found, where, and what to do.
    """
    if name not in SETS:
        raise DataError(f"There is no data set {name!r}: choose one of {', '.join(SETS)}.")
    if isinstance(size, int):
        size = (size, size)
    if len(size) != 2 or min(size) < 16:
        raise DataError(f"size={size} cannot be used: give (height, width), at least 16 each.")

    if classes is not None and name != "birds":
        raise DataError(
            f"classes={classes} changes nothing for {name}, only for birds: leave it out."
        )

    kind = SETS[name]
    root = Path(root).absolute()
    folder = Path(source or "").expanduser().absolute()
    synthetic = source == "synthetic"
    if synthetic:
        seed = crc32(student.encode())  # 0 of an empty name
        place = "synthetic"
        if student:
            place += f"-{seed:08x}"
        folder = draw_once(name, root / place, seed)
    elif not source:
        folder = fetch(name, root, kind.looks_right)
    elif folder.is_file():
        folder = unpack(folder, root, kind.looks_right)
    check_root(folder, kind.looks_right, kind.WANTED)

    listing = kind.scan(folder, classes)
    sets, inventory = open_or_build(listing, size, root / "cache", skip_bad)
    label = f"{name} from {folder.resolve().name}/"
    if synthetic:
        label = f"synthetic {name}"
        if student:
            label += f" for {student}"
    return DataSet(
        name,
        inventory.classes,
        **sets,
        inventory=inventory,
        label=label,
        synthetic=synthetic,
        palette=listing.table and listing.table.palette,
        ids=listing.table and listing.table.own_ids,
    )


def prepare_or_draw(name, source=None, **options):
    """As ``prepare``, for notebooks: goes on with synthetic data where no real ones can be had.

    A source that is given and wrong stays an error.
    """
    try:
        return prepare(name, source, **options)
    except DataError as error:
        if source:
            raise
        print(f"{error}\n\nGoing on with synthetic {name} instead; every figure says so.")
        return prepare(name, "synthetic", **options)
