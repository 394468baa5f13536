"""Landscapes: any folder of photos, nested or flat, of any size and orientation."""

from pathlib import Path

import numpy as np
from PIL import Image

from .listing import SPLITS, SUFFIXES, UNREAD, DataError, Item, Listing, folders, walk
from .similar import families

WANTED = "landscape photos"


def looks_right(folder: Path) -> bool:
    known = SUFFIXES | UNREAD.keys()
    return any(file.suffix.lower() in known for child in folders(folder, 2) for file in child.iterdir())


def scan(root: Path, classes: None = None) -> Listing:
    """List all photos; the split waits until they are decoded, since it depends on what they look like."""
    stamps, left_out = walk(root)
    if masks := [path for path in stamps if "CameraSeg/" in path]:
        raise DataError(f"{root}/{masks[0]} is a mask: this is a streets folder, give one of landscapes.")
    items = [Item(path, None, None) for path in stamps]
    return Listing("landscapes", root, [], items, stamps, left_out, unfit=unfit, split=split_photos)


def unfit(image: Image.Image) -> str | None:
    """Refuse a grey photo, however it is stored: hardly a pixel whose channels differ visibly."""
    spread = np.ptp(np.asarray(image).astype(np.int16), axis=-1)
    return None if np.quantile(spread, 0.99) > 6 else "is grey: no colour to learn from"


def split_photos(hashes: np.ndarray, seed: int = 0) -> np.ndarray:
    """Draw 80/10/10 by chance; photos that are near-duplicates of each other go to the same side."""
    n = len(hashes)
    if n < len(SPLITS):
        return np.array(SPLITS)[:n]
    group = families(hashes)
    members = np.bincount(group)
    order = np.random.default_rng(seed).permutation(len(members))
    order = order[np.argsort(-members[order], kind="stable")]  # the largest first, while there is room
    side, have = np.zeros(len(members), dtype=int), np.zeros(3)
    room = np.maximum(1, n * np.array([0.8, 0.1, 0.1]))
    side[order[-2:]] = (1, 2)[-len(order) :]  # the smallest, so that no split stays empty
    np.add.at(have, side[order[-2:]], members[order[-2:]])
    for i in order[:-2]:
        fits = have + members[i] <= room
        side[i] = np.where(fits, have / room, np.inf).argmin() if fits.any() else 0
        have[side[i]] += members[i]
    return np.array(SPLITS)[side[group]]
