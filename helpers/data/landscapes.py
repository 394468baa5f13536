"""Landscapes: any folder of photos, nested or flat, of any size and orientation."""

from pathlib import Path

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from .listing import SUFFIXES, DataError, Item, Listing, check_root, folders, walk
from .similar import near_pairs

WANTED = "landscape photos"


def looks_right(folder: Path) -> bool:
    return any(file.suffix.lower() in SUFFIXES for child in folders(folder, 2) for file in child.iterdir())


def scan(root: Path, classes: None = None) -> Listing:
    """List all photos; the split waits until they are decoded, since it depends on what they look like."""
    check_root(root, looks_right, WANTED)
    stamps, left_out = walk(root)
    if masks := [path for path in stamps if "CameraSeg/" in path]:
        raise DataError(f"{root}/{masks[0]} is a mask, no photo: this is a streets folder, give one of landscapes.")
    items = [Item(path, None, None) for path in stamps]
    return Listing("landscapes", root, [], items, stamps, left_out, needs_colour=True, split=split_photos)


def split_photos(hashes: np.ndarray, seed: int = 0) -> np.ndarray:
    """Draw 80/10/10 by chance; photos that are near-duplicates of each other go to the same side."""
    n = len(hashes)
    if n < 3:
        raise DataError(f"{n} usable landscape photos are too few: train, valid and test need at least 3.")
    i, j = near_pairs(hashes, hashes)
    _, group = connected_components(coo_array((np.ones(len(i)), (i, j)), shape=(n, n)), directed=False)
    members = np.bincount(group)
    order = np.random.default_rng(seed).permutation(len(members))
    # A large group would burst a small split: the biggest groups go first, and so into train.
    order = order[np.argsort(-np.minimum(members[order], 1 + (members[order] > n // 20)), kind="stable")]
    done = np.cumsum(members[order]) - members[order] / 2  # the middle of each group on the line of all photos
    side = np.select([done < 0.8 * n, done < 0.9 * n], ["train", "valid"], "test")
    for split, place in (("valid", -2), ("test", -1)):
        if split not in side and len(side) > 2:
            side[place] = split
    split = np.empty(len(members), dtype=side.dtype)
    split[order] = side
    return split[group]
