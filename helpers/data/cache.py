"""Decode a listing once into uint8 arrays on disk, and find them again.

A cache folder holds images.u8 (N, H, W, 3), masks.u8 (N, H, W) for streets, and content.json: a table of the
N files that were read, in the order of the listing, and the inventory of all.
"""

import contextlib
import json
import math
import os
import shutil
import zlib
from functools import partial
from pathlib import Path

import numpy as np
from joblib import cpu_count
from tqdm.auto import tqdm

from helpers.engine.files import check_space, locked, made_beside
from helpers.engine.parallel import ahead

from .batches import ArrayDataset
from .decode import decode
from .inventory import Inventory, take_stock
from .listing import SPLITS, Listing

VERSION = 4  # raise it when the same files would give other arrays
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
    told, bad, shapes, count = [], 0, listing.shapes(size), len(listing.items)
    check_space(place.parent, count * sum(map(math.prod, shapes.values())))
    with made_beside(place) as part:
        with contextlib.ExitStack() as opened:  # no writable maps: they crash on a full disk
            files = [opened.enter_context(open(part / name, "wb")) for name in shapes]
            decoding = ahead(partial(decode, listing, size), listing.items, cpu_count())
            for one in tqdm(decoding, f"decoding {listing.name}", count, leave=False, unit="image"):
                for file, array in zip(files, one.arrays, strict=not one.fault):
                    file.write(array)
                told.append(one._replace(arrays=()))
                bad += bool(one.fault and one.fault.bad)
                if bad > max(100, 0.1 * count) and not skip_bad:
                    break  # so many that the rest cannot help
        masks = map_arrays(part, shapes)[1:] if listing.read_mask and len(told) > bad else ()
        inventory, table = take_stock(listing, told, *masks)
        del masks  # Windows moves no folder with an open file
        inventory.check(listing.root, skip_bad)
        (part / "content.json").write_text(json.dumps({"table": table, "inventory": vars(inventory)}))


def open_cache(listing: Listing, size: tuple, place: Path) -> tuple[dict, Inventory] | None:
    """Map a cache into memory; None where there is none, or a damaged one, which is then removed."""
    if not place.exists():
        return None
    try:
        content = json.loads((place / "content.json").read_text())
        inventory, table = Inventory(**content["inventory"]), content["table"]
        items = [listing.items[row] for row in table["item"]]
        arrays = images, *masks = map_arrays(place, listing.shapes(size))
        if {len(items)} != {*map(len, table.values()), *map(len, arrays)}:
            raise ValueError("its parts differ in length")
        for row in range(0, len(items), -(-images.nbytes // CHECKED)):
            if zlib.crc32(b"".join(array[row] for array in arrays)) != table["checksum"][row]:
                raise ValueError(f"{items[row].image} has changed")
    except (OSError, ValueError, LookupError, TypeError) as error:
        print(f"The cache {place.name} is damaged ({error}): decoding again.")
        shutil.rmtree(place, ignore_errors=True)
        return None
    numbers = np.array([item.target for item in items]) if listing.classes else None
    whole = images, masks[0] if masks else numbers, [item.image for item in items]
    splits, groups = {}, np.array(table["group"])
    for split in SPLITS:
        rows = np.flatnonzero(np.array(table["split"]) == split)
        alone = "pictures" if len(set(groups[rows])) == len(rows) else "groups of near-duplicates"
        splits[split] = ArrayDataset(*whole, rows, groups, listing.unit or alone)
    return splits, inventory


def map_arrays(folder: Path, shapes: dict[str, tuple]) -> list[np.memmap]:
    return [np.memmap(folder / name, np.uint8, "r").reshape(-1, *shape) for name, shape in shapes.items()]
