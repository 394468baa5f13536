"""Decode a listing once into uint8 arrays on disk, and find them again.

A cache folder holds images.u8 (N, H, W, 3), masks.u8 (N, H, W) for streets, sums.npy (a checksum a row) and
content.json (names, class numbers, report), rows sorted by split.
"""

import contextlib
import json
import os
import shutil
import zlib
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from .batches import give_back
from .decode import decode_all
from .listing import SPLITS, LeftOut, Listing
from .parallel import mapped
from .places import check_space, locked, made_beside
from .report import Report
from .streets import count_pixels

VERSION = 1  # raise it when the same files would give other arrays
CHECKED = 2**26  # bytes whose checksums are compared on opening; spread evenly over a larger cache


def open_or_build(
    listing: Listing, size: tuple[int, int], folder: Path, skip_bad: bool
) -> tuple[dict, Report]:
    """Arrays of a listing at ``size`` (height, width), from the cache below ``folder`` or decoded now.

    Returns ``{split: (images, targets or None, names)}`` and the report.
    """
    source = zlib.crc32(os.fsencode(listing.root.resolve()))
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
    has_masks = listing.name == "streets"
    root = os.fspath(listing.root)
    jobs = [
        (
            os.path.join(root, item.image),
            os.path.join(root, item.target) if has_masks else None,
            size,
            listing.crop,
            listing.needs_colour,
        )
        for item in listing.items
    ]
    check_space(place.parent, len(jobs) * size[0] * size[1] * (3 + has_masks))
    report = Report(listing.name, left_out=list(listing.left_out))
    kept, hashes, sums, counts = [], [], [], np.zeros(14, np.int64)
    with made_beside(place) as part:
        bar = tqdm(total=len(jobs), desc=f"decoding {listing.name}", unit="image", leave=False)
        # Plain writes, not a writable map: there a full disk is an error, here it would be a crash.
        with bar, open(part / "images.u8", "wb") as images, open(part / "masks.u8", "wb") as masks:
            for item, (pixels, mask, phash, notes, fault) in zip(
                listing.items, mapped(decode_all, jobs), strict=True
            ):
                bar.update()
                if fault:
                    in_mask, reason, bad = fault
                    report.left_out.append(LeftOut(item.target if in_mask else item.image, reason, bad))
                    report.give_up(listing.root, skip_bad, len(jobs))
                    continue
                images.write(pixels)
                sums.append(zlib.crc32(pixels))
                if has_masks:
                    masks.write(mask)
                    sums[-1] = zlib.crc32(mask, sums[-1])
                    counts += count_pixels(mask)
                report.converted.update(notes)
                kept.append(item)
                hashes.append(phash)
        report.read = {split: len(kept) for split in SPLITS[:1]}
        report.check(listing.root, skip_bad)
        hashes = np.array(hashes, dtype=np.uint64)
        splits = listing.split(hashes) if listing.split else np.array([item.split for item in kept])
        order = np.argsort([SPLITS.index(split) for split in splits], kind="stable")
        if listing.split:
            reorder(part / "images.u8", (*size, 3), order)
        kept, splits = [kept[i] for i in order], splits[order]
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


def reorder(path: Path, shape: tuple[int, ...], order: np.ndarray) -> None:
    rows = np.memmap(path, np.uint8, "r", shape=(len(order), *shape))
    with open(path.with_suffix(".sorted"), "wb") as file:
        for i in order:
            file.write(rows[i])
    rows._mmap.close()  # Windows replaces no open file
    os.replace(path.with_suffix(".sorted"), path)


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
        for i in range(0, n, -(-images.nbytes // CHECKED)):
            found = zlib.crc32(images[i])
            if (found if masks is None else zlib.crc32(masks[i], found)) != sums[i]:
                raise ValueError(f"{names[i]} has changed")
        give_back(images, masks)
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
