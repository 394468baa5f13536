"""Landscapes: any folder of photos, nested or flat, of any size and orientation."""

import itertools
import os
from pathlib import PurePath

import numpy as np

from .listing import SPLITS, SUFFIXES, UNREAD, DataError, Item, Listing, walk
from .similar import families

WANTED = "landscape photos"
SHARES = np.array([0.8, 0.1, 0.1])  # of train, valid and test


def looks_right(folder):
    """Whether photos lie in it, at any depth; of a whole disk 10,000 folders are looked into."""
    known = SUFFIXES | UNREAD.keys()
    return any(
        suffix in known
        for _, _, files in itertools.islice(os.walk(folder, followlinks=True), 10_000)
        for file in files
        for suffix in PurePath(file.lower()).suffixes  # photo.jpg.1 has two
    )


def scan(root, classes):
    """List all photos. What they look like decides their split, so that waits for decoding."""
    stamps, left_out = walk(root)
    for path in stamps:
        if "CameraSeg/" in path:
            raise DataError(
                f"{root}/{path} is a mask: this is a streets folder, give one of landscapes."
            )
    items = [Item(path, None, None) for path in stamps]
    return Listing(
        "landscapes", root, [], items, stamps, left_out, split=split_photos, needs_colour=True
    )


def split_photos(hashes, *_):
    """Split 80/10/10 by chance, groups of near-duplicates as a whole.

    Args:
        hashes: (N,) perceptual hashes. What ``Listing.split`` gets more is not needed.

    Returns:
        (N,) the name of each photo's split.
    """
    family = families(hashes)
    members = np.bincount(family)
    order = np.random.default_rng(0).permutation(len(members))
    order = order[np.argsort(-members[order], kind="stable")]  # the largest first, if there is room
    room = np.maximum(1, len(hashes) * SHARES)
    have = np.zeros(len(SPLITS))
    side = np.zeros(len(members), dtype=int)
    for place, group in enumerate(np.roll(order, 2)):
        fits = have + members[group] <= room
        split = np.where(fits, have / room, np.inf).argmin()  # the emptiest; train if none fits
        if place < 2:
            split = place + 1  # the two smallest: neither valid nor test stays empty
        side[group] = split
        have[split] += members[group]
    return np.array(SPLITS)[side[family]]
