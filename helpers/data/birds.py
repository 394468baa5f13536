"""BIRDS: train, valid and test folders with one folder for each species, or such folders alone."""

import difflib
import unicodedata
from collections import defaultdict
from functools import partial

import numpy as np

from .landscapes import split_photos
from .listing import SPLITS, SUFFIXES, DataError, Item, LeftOut, Listing, sum_up, visible, walk

WANTED = "train, valid and test folders with a folder of images for each species"
CALLED = {
    "train": "train training",
    "valid": "valid validation validate val dev",
    "test": "test testing tests",
}
SPLIT_NAMES = {name: split for split, names in CALLED.items() for name in names.split()}
TYPOS = {"PARAKETT AKULET": "PARAKETT AUKLET", "PARAKEET AUKLET": "PARAKETT AUKLET"}
NOT_BIRDS = {"LOONEY BIRDS"}


def looks_right(folder):
    """Whether a folder holds train, valid and test, or folders of images by species."""
    if has_splits(folder):
        return True
    if folder.name.lower() in SPLIT_NAMES and has_splits(folder.parent):
        return False  # its parent is right
    names = visible(child.name for child in folder.glob("*/"))
    species = [name for name in names if has_images(folder / name)]
    most = len(species) > max(1, len(names) / 2)  # a home has images in a few of its folders
    return most and "CameraRGB" not in names


def has_splits(folder):
    splits = {SPLIT_NAMES.get(child.name.lower()) for child in folder.glob("*/")} - {None}
    return "train" in splits or len(splits) > 1


def has_images(folder):
    return any(file.suffix.lower() in SUFFIXES for file in folder.glob("*"))


def scan(root, classes=None):
    """List the images by split and species; ``classes``: the first so many species names.

    ``birds.csv`` is not read, because its ids disagree with the folders. Splits that are missing
    are taken from the training images.
    """
    stamps, left_out = walk(root)
    in_splits = lie_in_splits(stamps)
    found = find_species(root, stamps, in_splits, left_out)
    there = {split for splits in found.values() for split in splits}
    missing = [split for split in SPLITS if split not in there]
    named = {SPLIT_NAMES.get(folder.name.lower()) for folder in root.iterdir()}
    for split in missing:
        if split == "train" or (in_splits and split in named):
            raise DataError(
                f"{root}/{split} is missing or holds no images ({sum_up(left_out, root)}): "
                f"BIRDS has {WANTED}."
            )
    note = ""
    if missing:
        note = (
            f"{root} has no {' and no '.join(missing)}: a tenth of each species' training images "
            "is taken for each, near-duplicates together."
        )
        print(note)

    if len(found) == 1:
        raise DataError(
            f"{root} has one species, {min(found)}: give the folder above, or move its folders up."
        )

    names = []
    for name in sorted(found):
        reason = None
        if name in NOT_BIRDS:
            reason = "is not a bird"
        elif not missing:
            reason = refuse(name, found)
        if reason is None:
            names.append(name)
            continue
        bad = name not in NOT_BIRDS
        for split in SPLITS:
            left_out += [LeftOut(path, reason, bad) for path in found[name][split]]
    if classes is not None and not 2 <= classes <= len(names):
        raise DataError(
            f"{root} has {len(names)} species: classes={classes} is not between 2 and that."
        )
    names = names[:classes]

    items = [
        Item(path, number, split)
        for split in SPLITS
        for number, name in enumerate(names)
        for path in found[name][split]
    ]
    return Listing(
        "birds",
        root,
        names,
        items,
        stamps,
        left_out,
        variant=f"classes={classes}",
        split=partial(fill, missing=missing) if missing else None,
        refuse=partial(refuse_read, names),
        note=note,
    )


def lie_in_splits(paths):
    """Whether images lie in train/SPECIES. In boat/1.jpg and train/1.jpg "train" is a species."""
    folders = [path.lower().split("/")[:-1] for path in paths]
    alone = all(parts[0] in SPLIT_NAMES for parts in folders if parts)
    return alone or any(parts[0] in SPLIT_NAMES for parts in folders if len(parts) > 1)


def find_species(root, stamps, in_splits, left_out):
    """{species: {split: paths}}. Files in no species folder go to ``left_out``.

    Raises DataError where two folders of one split have the same name but for spelling.
    """
    below = {}  # path: its split, and its parts below that
    for path in stamps:
        split = "train"
        parts = path.split("/")
        if in_splits:
            split = SPLIT_NAMES.get(parts.pop(0).lower())
        if split:
            below[path] = (split, parts)
        else:
            left_out.append(LeftOut(path, "is in none of train, valid and test", bad=False))
    while below and wrapped(below.values()):  # train/train/SPECIES, train/images/SPECIES
        below = {path: (split, parts[1:]) for path, (split, parts) in below.items()}

    found = defaultdict(lambda: defaultdict(list))
    folders = {}  # of each split and species
    for path, (split, parts) in below.items():
        if len(parts) < 2:
            left_out.append(LeftOut(path, "is in no species folder: move it into one"))
            continue
        name = species_name(parts[0])
        folder = path.removesuffix("/".join(parts[1:]))
        other = folders.setdefault((split, name), folder)
        if other != folder:
            raise DataError(
                f"{root}: the folders {other} and {folder} would be one species of {split}, "
                f"{name}: rename one of them, or move their images into one."
            )
        found[name][split].append(path)
    return found


def wrapped(paths):
    """Whether each split holds nothing but one folder, and that holds nothing but folders."""
    splits = {split for split, _ in paths}
    inside = {(split, *parts[:1]) for split, parts in paths}
    return len(inside) == len(splits) and all(len(parts) > 2 for _, parts in paths)


def species_name(folder):
    """In upper case and single spaces, typos mended: "Parakett  akulet" -> "PARAKETT AUKLET"."""
    name = " ".join(unicodedata.normalize("NFC", folder).upper().split())
    return TYPOS.get(name, name)


def fill(hashes, targets, splits, missing):
    """Take the ``missing`` splits from the training images of each species: (N,) splits."""
    splits = splits.copy()
    for number in np.unique(targets):
        rows = np.flatnonzero((targets == number) & (splits == "train"))
        drawn = split_photos(hashes[rows])
        given = np.isin(drawn, missing)
        if len(rows) - given.sum() > 1:  # two must be left for training
            splits[rows[given]] = drawn[given]
    return splits


def refuse_read(names, targets, splits):
    """{class number: why} of species that cannot be learnt or tested with what could be read."""
    found = {name: {split: [] for split in SPLITS} for name in names}
    for target, split in zip(targets, splits, strict=True):
        found[names[target]][split].append(target)
    reasons = {number: refuse(name, found) for number, name in enumerate(names)}
    return {number: reason for number, reason in reasons.items() if reason}


def refuse(name, found):
    """Why a species cannot be learnt or tested, or None."""
    present = [split for split in SPLITS if found[name][split]]
    if "train" not in present or len(present) == 1:
        hint = ""
        near = difflib.get_close_matches(name, found.keys() - {name}, n=1, cutoff=0.8)
        if near:
            hint = f" (is it {near[0]}? then rename the folder)"
        absent = " and ".join(split for split in SPLITS if split not in present)
        only = f"species {name} is in {' and '.join(present)} only{hint}"
        return f"{only}: add other images for {absent}"
    if len(found[name]["train"]) == 1:
        return f"species {name} has one training image: add some or remove the species"
    return None
