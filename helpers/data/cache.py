"""Decode a listing once into uint8 arrays on disk, and find them again.

A cache folder holds images.npy (N, H, W, 3), masks.npy (N, H, W) for streets, and content.json: the rows of
each split, a checksum and a group of each row, and the inventory. Rows stand in the order of the listing;
those of files that were left out stay empty.
"""

import json
import math
import os
import shutil
import zlib
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from helpers.engine.files import check_space, locked, made_beside
from helpers.engine.parallel import mapped

from .batches import ArrayDataset
from .decode import checksum, decode_rows
from .inventory import Inventory, take_stock
from .listing import Listing
from .similar import COUNTED

VERSION = f"3{'' if COUNTED else '-exact'}"  # raise it when the same files would give other arrays
CHECKED = 2**26  # bytes whose checksums are compared on opening; spread evenly over a larger cache


def open_or_build(listing: Listing, size: tuple, folder: Path, skip_bad: bool) -> tuple[dict, Inventory]:
    """The splits of a listing at ``size`` (height, width), from the cache below ``folder`` or decoded now."""
    source = zlib.crc32(os.fsencode(listing.root.resolve()) + listing.variant.encode())
    stem = f"{listing.name}-{size[0]}x{size[1]}-{source:08x}"
    place = folder / f"{stem}-{listing.key}-v{VERSION}"
    with locked(folder / stem):
        if (opened := open_cache(listing, size, place)) is None:
            build(listing, size, place, skip_bad)  # leave to skip holds as long as this cache
            opened = open_cache(listing, size, place)
            for stale in folder.glob(f"{stem}-*"):  # of an earlier state of this source
                if stale != place:
                    shutil.rmtree(stale, ignore_errors=True)
    return opened


def build(listing: Listing, size: tuple, place: Path, skip_bad: bool) -> None:
    """Decode all files of a listing, once and fully, into a new cache folder."""
    told, bad, jobs = [], 0, list(enumerate(listing.items))
    shapes = listing.shapes(len(jobs), size)
    check_space(place.parent, sum(map(math.prod, shapes.values())))
    with made_beside(place) as part:
        new = partial(np.lib.format.open_memmap, mode="w+", dtype=np.uint8)
        starts = {part / name: new(part / name, shape=shape).offset for name, shape in shapes.items()}
        work = partial(decode_rows, replace(listing, items=[], stamps={}, left_out=[]), starts, size)
        for one in tqdm(mapped(work, jobs), f"decoding {listing.name}", len(jobs), leave=False, unit="image"):
            told.append(one)
            bad += one.fault is not None and one.fault.bad
            if bad > max(100, 0.1 * len(jobs)) and not skip_bad:
                break  # so many that the rest cannot help
        masks = part / "masks.npy"  # opened for the call alone: Windows moves no folder with an open file
        inventory, rows, groups = take_stock(listing, told, np.load(masks, "r") if listing.read_mask else ())
        inventory.check(listing.root, skip_bad)
        sums = [one.checksum for one in told]
        content = {"rows": rows, "groups": groups, "checksums": sums, "inventory": vars(inventory)}
        (part / "content.json").write_text(json.dumps(content))


def open_cache(listing: Listing, size: tuple, place: Path) -> tuple[dict, Inventory] | None:
    """Map a cache into memory; None where there is none, or a damaged one, which is then removed."""
    if not place.exists():
        return None
    try:
        content = json.loads((place / "content.json").read_text())
        names, sums, groups = [item.image for item in listing.items], content["checksums"], content["groups"]
        files = listing.shapes(len(names), size)
        arrays = images, *masks = [np.load(place / file, mmap_mode="r") for file in files]
        if {len(names)} != {len(sums), len(groups), *map(len, arrays)}:
            raise ValueError("its parts differ in length")
        read = sorted(row for rows in content["rows"].values() for row in rows)
        for row in read[:: -(-images.nbytes // CHECKED)]:
            if checksum(*(array[row] for array in arrays)) != sums[row]:
                raise ValueError(f"{names[row]} has changed")
        inventory = Inventory(**content["inventory"])
    except (OSError, ValueError, LookupError, TypeError, EOFError) as error:
        print(f"The cache {place.name} is damaged ({error}): decoding again.")
        shutil.rmtree(place, ignore_errors=True)
        return None
    numbers = np.array([item.target for item in listing.items]) if listing.classes else None
    targets, splits = masks[0] if masks else numbers, {}
    for split, rows in content["rows"].items():
        alone = "pictures" if len({groups[row] for row in rows}) == len(rows) else "groups of near-duplicates"
        splits[split] = ArrayDataset(images, targets, names, rows, groups, listing.unit or alone)
    return splits, inventory
