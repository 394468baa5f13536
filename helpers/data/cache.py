"""Decode a listing once into uint8 arrays on disk, and find them again.

A cache folder holds images.u8 (N, H, W, 3), for streets masks.u8 (N, H, W), and content.json: the
inventory of all files, and a table of the N that were read, in the order of the listing.
"""

import contextlib
import json
import math
import os
import shutil
import zlib

import numpy as np
from joblib import Parallel, delayed
from tqdm.auto import tqdm

from helpers.engine.files import check_space, locked, made_beside

from .batches import ArrayDataset
from .decode import decode
from .inventory import Inventory, take_stock
from .listing import SPLITS

VERSION = 7  # raise it when the same files would give other arrays
CHECKED = 2**26  # bytes whose checksums are compared on opening, spread over the whole cache


def open_or_build(listing, size, folder, skip_bad):
    """Open the cache of a listing at ``size`` (height, width) below ``folder``, or build it.

    Returns:
        {"train", "valid", "test": ArrayDataset}, and the Inventory.
    """
    source = os.fsencode(f"{listing.root.resolve()}{listing.variant}")
    stem = f"{listing.name}-{size[0]}x{size[1]}-{zlib.crc32(source):08x}"
    place = folder / f"{stem}-{listing.key}-v{VERSION}"
    opened = open_cache(listing, size, place)  # who only reads needs no lock
    if opened:
        return opened
    with locked(folder / stem):
        opened = open_cache(listing, size, place)  # another process may just have built it
        if opened is None:
            if place.exists():
                print(f"The cache {place.name} is damaged: decoding again.")
            shutil.rmtree(place, ignore_errors=True)
            build(listing, size, place, skip_bad)
            opened = open_cache(listing, size, place)
            for stale in folder.glob(f"{stem}-*"):  # of an earlier state of this source
                if stale != place:
                    shutil.rmtree(stale, ignore_errors=True)
    return opened


def build(listing, size, place, skip_bad):
    """Decode all files of a listing, once and fully, into a new cache folder.

    Raises:
        DataError: too many files are bad, or the disk is full. Then nothing is left behind.
    """
    shapes = listing.shapes(size)
    check_space(place.parent, len(listing.items) * sum(map(math.prod, shapes.values())))
    with made_beside(place) as part:
        records, faults = write_arrays(listing, size, part)
        shares = {}
        if listing.measure and records:
            # No name keeps the file open: Windows moves no folder with an open one.
            shares = listing.measure(map_arrays(part, shapes)[1])
        inventory, table = take_stock(listing, records, faults, shares)
        inventory.check(listing.root, skip_bad)
        content = {"table": table, "inventory": vars(inventory)}
        (part / "content.json").write_text(json.dumps(content))


def write_arrays(listing, size, folder):
    """Decode in threads and write in order.

    Returns:
        A list of the Records of all files that were read, and one of the LeftOuts of the others.
    """
    records = []
    faults = []
    jobs = [delayed(decode)(listing, size, item) for item in listing.items]
    threads = Parallel(n_jobs=-1, prefer="threads", return_as="generator")
    with contextlib.ExitStack() as opened:
        coming = opened.enter_context(contextlib.closing(threads(jobs)))
        # Plain files: a writable memory map crashes on a full disk.
        files = [opened.enter_context(open(folder / name, "wb")) for name in listing.shapes(size)]
        for arrays, told in tqdm(
            coming, f"decoding {listing.name}", len(jobs), leave=False, unit="image"
        ):
            if not arrays:
                faults.append(told)
                continue
            records.append(told)
            for file, array in zip(files, arrays, strict=True):
                file.write(array)
    return records, faults


def map_arrays(folder, shapes):
    """Memory maps of the arrays in a cache folder: [images] or [images, masks]."""
    return [
        np.memmap(folder / name, np.uint8, "r").reshape(-1, *shape)
        for name, shape in shapes.items()
    ]


def open_cache(listing, size, place):
    """Open a cache. None where there is none, or a damaged one."""
    try:
        content = json.loads((place / "content.json").read_text())
        inventory = Inventory(**content["inventory"])
        table = content["table"]
        arrays = map_arrays(place, listing.shapes(size))
        compare(table, arrays)
    except (OSError, ValueError, LookupError, TypeError):
        return None

    targets = None
    if listing.read_mask:
        targets = arrays[1]
    elif listing.classes:
        targets = np.array(table["target"])
    groups = np.array(table["group"])
    sets = {}
    for split in SPLITS:
        rows = np.flatnonzero(np.array(table["split"]) == split)
        unit = listing.unit
        if unit == "images" and len(np.unique(groups[rows])) < len(rows):
            unit = "groups of near-duplicates"
        sets[split] = ArrayDataset(
            arrays[0], targets, table["name"], rows, groups, unit, table["checksum"]
        )
    return sets, inventory


def compare(table, arrays):
    """Raise ValueError where table and arrays disagree. Of a large cache it reads some rows."""
    lengths = {len(column) for column in [*table.values(), *arrays]}
    if len(lengths) > 1:
        raise ValueError("its arrays and its table differ in length")
    step = math.ceil(arrays[0].nbytes / CHECKED)
    for row in range(0, len(arrays[0]), step):
        checksum = zlib.crc32(b"".join(array[row] for array in arrays))
        if checksum != table["checksum"][row]:
            raise ValueError(f"{table['name'][row]} has changed")
