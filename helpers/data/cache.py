"""Decode a listing once into uint8 arrays on disk, and find them again.

A cache folder holds images.u8 (N, H, W, 3), masks.u8 (N, H, W) for streets, sums.npy (a checksum a row) and
content.json (names, class numbers, report), rows sorted by split.
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
from tqdm.auto import tqdm

from .decode import decode_into
from .listing import SPLITS, LeftOut, Listing
from .parallel import mapped
from .places import check_space, locked, made_beside
from .report import Report

VERSION = 1  # raise it when the same files would give other arrays
CHECKED = 2**26  # bytes whose checksums are compared on opening; spread evenly over a larger cache


def open_or_build(
    listing: Listing, size: tuple[int, int], folder: Path, skip_bad: bool
) -> tuple[dict, Report]:
    """Arrays of a listing at ``size`` (height, width), from the cache below ``folder`` or decoded now.

    Returns ``{split: (images, targets or None, names)}`` and the report.
    """
    source = zlib.crc32(os.fsencode(listing.root.resolve()) + listing.variant.encode())
    stem = f"{listing.name}-{size[0]}x{size[1]}-{source:08x}"
    place = folder / f"{stem}-{listing.key}-v{VERSION}"
    with locked(folder / stem):
        opened = open_cache(place, size)
        if opened is None:
            build(listing, size, place, skip_bad)
            opened = open_cache(place, size)
            for stale in folder.glob(f"{stem}-*"):  # of an earlier state of this source
                if stale != place:
                    shutil.rmtree(stale, ignore_errors=True)
    opened[1].check(listing.root, skip_bad)
    return opened


def build(listing: Listing, size: tuple[int, int], place: Path, skip_bad: bool) -> None:
    """Decode all files of a listing, once and fully, into a new cache folder."""
    has_masks, root = listing.name == "streets", os.path.join(listing.root, "")
    jobs = [
        (row, root + item.image, root + item.target if has_masks else None)
        for row, item in enumerate(listing.items)
    ]
    check_space(place.parent, len(jobs) * size[0] * size[1] * (3 + has_masks))
    report = Report(listing.name, left_out=list(listing.left_out))
    rows, hashes, sums, counts = [], [], [], np.zeros(14, np.int64)
    with made_beside(place) as part:
        files = {"images.u8": (*size, 3)} | ({"masks.u8": size} if has_masks else {})
        for file in files:
            (part / file).touch()
        work = partial(decode_into, str(part), size, listing.crop, listing.needs_colour)
        progress = {"desc": f"decoding {listing.name}", "unit": "image", "leave": False}
        for row, told in enumerate(tqdm(mapped(work, jobs), total=len(jobs), **progress)):
            if told.fault:
                file, reason, bad = told.fault
                report.left_out.append(LeftOut(file.removeprefix(root), reason, bad))
                report.give_up(listing.root, skip_bad, len(jobs))
            else:
                rows.append(row)
                hashes.append(told.phash)
                sums.append(told.checksum)
                counts += told.counts
                report.converted.update(told.notes)
        report.read = {"train": len(rows)}
        report.check(listing.root, skip_bad)
        kept, hashes = [listing.items[row] for row in rows], np.array(hashes, dtype=np.uint64)
        splits = listing.split(hashes) if listing.split else np.array([item.split for item in kept])
        order = np.argsort([SPLITS.index(split) for split in splits], kind="stable")
        kept, splits, rows = [kept[i] for i in order], splits[order], [rows[i] for i in order]
        if rows != list(range(len(jobs))):
            for file, shape in files.items():
                reorder(part / file, math.prod(shape), rows)
        report.read = {split: int((splits == split).sum()) for split in SPLITS}
        report.check(listing.root, skip_bad)
        report.pixels = counts.tolist() if has_masks else None
        report.count_near(hashes[order], splits, [item.image for item in kept])
        content = {
            "names": [item.image for item in kept],
            "classes": [item.target for item in kept] if listing.name == "birds" else None,
            "report": vars(report),
        }
        (part / "content.json").write_text(json.dumps(content))
        np.save(part / "sums.npy", np.array(sums, dtype=np.uint32)[order])


def reorder(path: Path, row: int, order: list[int]) -> None:
    """Rewrite a file of rows of ``row`` bytes, in this order."""
    with open(path, "rb") as old, open(path.with_suffix(".new"), "wb") as new:
        for i in order:
            old.seek(i * row)
            new.write(old.read(row))
    os.replace(path.with_suffix(".new"), path)


def open_cache(place: Path, size: tuple[int, int]) -> tuple[dict, Report] | None:
    """Map a cache into memory; None where there is none, or a damaged one, which is then removed."""
    if not place.exists():
        return None
    try:
        content = json.loads((place / "content.json").read_text())
        report, names, sums = Report(**content["report"]), content["names"], np.load(place / "sums.npy")
        n = sum(report.read.values())
        images = np.memmap(place / "images.u8", np.uint8, "r", shape=(n, *size, 3))
        masks = np.memmap(place / "masks.u8", np.uint8, "r", shape=(n, *size)) if report.pixels else None
        targets = masks if content["classes"] is None else np.array(content["classes"], dtype=np.int64)
        if not n == len(names) == len(sums) == len(names if targets is None else targets):
            raise ValueError("its parts differ in length")
        parts = [part for part in (images, masks) if part is not None]
        for i in range(0, n, -(-images.nbytes // CHECKED)):
            found = 0
            for part in parts:  # read, not mapped, so that memory stays flat
                row = part[0].nbytes
                found = zlib.crc32(np.fromfile(part.filename, np.uint8, row, offset=i * row), found)
            if found != sums[i]:
                raise ValueError(f"{names[i]} has changed")
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        print(f"The cache {place.name} is damaged ({error}): decoding again.")
        shutil.rmtree(place, ignore_errors=True)
        with contextlib.suppress(FileNotFoundError):
            place.unlink()
        return None
    splits, start = {}, 0
    for split in SPLITS:
        rows = slice(start, start := start + report.read[split])
        splits[split] = images[rows], None if targets is None else targets[rows], names[rows]
    return splits, report
