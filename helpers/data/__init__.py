"""The data sets: a folder on disk, an archive, a download or our own drawings -> arrays at memory speed."""

from dataclasses import dataclass
from pathlib import Path

import helpers
from helpers.drawings import draw

from . import birds, landscapes, streets
from .batches import ArrayDataset
from .cache import open_or_build
from .download import fetch, unpack
from .inventory import Inventory
from .listing import DataError, check_root

__all__ = ["ROOT", "ArrayDataset", "DataError", "DataSet", "Inventory", "prepare", "prepare_or_draw"]

ROOT = helpers.ROOT / "data"
SETS = {"birds": birds, "streets": streets, "landscapes": landscapes}


@dataclass
class DataSet:
    """A prepared data set: three splits of uint8 arrays, class names, and what became of the files."""

    name: str
    classes: list[str]
    train: ArrayDataset
    valid: ArrayDataset
    test: ArrayDataset
    inventory: Inventory
    label: str  # for captions: where the pictures come from
    synthetic: bool = False


def prepare(
    name: str,
    source: str | Path | None = None,
    size: int | tuple[int, int] = (96, 96),
    classes: int | None = None,
    skip_bad: bool = False,
    root: str | Path = ROOT,
) -> DataSet:
    """Find, check and decode a data set once; later calls open the arrays in a moment.

    Args:
        name: birds, streets or landscapes.
        source: a folder or archive (.zip, .tar.gz), only read; "synthetic": the embedded drawings; empty: a
            copy below ``root`` or a download.
        size: (height, width). Birds and landscapes are cropped to it; streets scaled, so keep their 4:3.
        classes: birds only: the first so many species names.
        skip_bad: go on when more than 1 % of the files are bad, and later calls for the same files, too.
        root: where downloads and caches go.
    """
    if name not in SETS:
        raise DataError(f"There is no data set {name!r}: choose one of {', '.join(SETS)}.")
    size = (size, size) if isinstance(size, int) else tuple(size)
    if len(size) != 2 or min(size) < 16:
        raise DataError(f"size={size} cannot be used: give (height, width), at least 16 each.")
    kind, root, drawn = SETS[name], Path(root).absolute(), str(source) == "synthetic"
    folder = Path(source or "").expanduser().absolute()
    if drawn:
        folder = draw(name, root / "synthetic")
    elif not source:
        folder = fetch(name, root, kind.looks_right)
    elif folder.is_file():
        folder = unpack(folder, root, kind.looks_right)
    check_root(folder, kind.looks_right, kind.WANTED)
    listing = kind.scan(folder, classes)
    splits, inventory = open_or_build(listing, size, root / "cache", skip_bad)
    label = f"embedded drawn {name}" if drawn else f"{name} from {folder.resolve().name}/"
    return DataSet(name, listing.classes, **splits, inventory=inventory, label=label, synthetic=drawn)


def prepare_or_draw(name: str, source: str | Path | None = None, **options) -> DataSet:
    """``prepare`` for notebooks, which goes on with the embedded data where no real ones can be had.

    A source that is given and wrong stays an error.
    """
    try:
        return prepare(name, source, **options)
    except DataError as error:
        if source:
            raise
        print(f"{error}\n\nGoing on with the embedded, drawn {name} instead; every figure says so.")
        return prepare(name, "synthetic", **options)
