"""BIRDS: train, valid and test folders with one folder for each species, or such folders alone."""

import difflib
import unicodedata
from collections import defaultdict
from functools import partial

import numpy as np

from .landscapes import split_photos
from .listing import SPLITS, SUFFIXES, DataError, Item, LeftOut, Listing, sum_up, visible, walk

WANTED = "train, valid and test folders with a folder of images for each species"
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "valid": "valid",
    "validation": "valid",
    "val": "valid",
    "dev": "valid",
    "test": "test",
    "testing": "test",
}
TYPOS = {"PARAKETT AKULET": "PARAKETT AUKLET", "PARAKEET AUKLET": "PARAKETT AUKLET"}
NOT_BIRDS = {"LOONEY BIRDS"}


def looks_right(folder):
    """Whether a folder holds train, valid or test, or folders of images by species."""
    below = [child for child in folder.glob("*") if child.is_dir()]
    if any(child.name.lower() in SPLIT_NAMES for child in below):
        return True
    if folder.name.lower() in SPLIT_NAMES:
        return False  # its parent is right
    names = [child.name for child in below if has_images(child)]
    return len(visible(names)) > 1 and not any(name.startswith("Camera") for name in names)


def has_images(folder):
    return any(file.suffix.lower() in SUFFIXES for file in folder.glob("*"))


def scan(root, classes=None):
    """List the images by split and species; ``classes``: the first so many species names.

    ``birds.csv`` is not read, because its ids disagree with the folders. Splits that are missing
    are taken from the training images.
    """
    stamps, left_out = walk(root)
    found = find_species(root, stamps, left_out)
    there = {split for splits in found.values() for split in splits}
    missing = [split for split in SPLITS if split not in there]
    named = {SPLIT_NAMES.get(folder.name.lower()) for folder in root.iterdir()}
    for split in missing:
        if split == "train" or split in named:
            raise DataError(
                f"{root}/{split} is missing or holds no images ({sum_up(left_out, root)}): "
                f"BIRDS has {WANTED}."
            )
    if missing:
        print(
            f"{root} has no {' and no '.join(missing)}: a tenth of each species' training images "
            "is taken for it, near-duplicates together."
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
        for split in SPLITS:
            for path in found[name][split]:
                left_out.append(LeftOut(path, reason, bad=name not in NOT_BIRDS))
    if len(names) == 1:
        raise DataError(
            f"{root} has one species, {names[0]}: give the folder above, or move its folders up."
        )
    if classes is not None and not 2 <= classes <= len(names):
        raise DataError(
            f"{root} has {len(names)} species: classes={classes} is not between 2 and that."
        )
    names = names[:classes]

    items = []
    for split in SPLITS:
        for number, name in enumerate(names):
            items += [Item(path, number, split) for path in found[name][split]]
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
    )


def find_species(root, stamps, left_out):
    """{species: {split: paths}}. Files in no species folder go to ``left_out``.

    Raises DataError where two folders of one split have the same name but for spelling.
    """
    parts_of = {path: path.split("/") for path in stamps}
    tops = {SPLIT_NAMES.get(parts[0].lower()) for parts in parts_of.values() if len(parts) > 1}
    splits = tops - {None}
    if not splits or (len(splits) == 1 and None in tops):  # "train" may be a species
        parts_of = {path: ["train", *parts] for path, parts in parts_of.items()}
    while wrapped(parts_of.values()):  # train/train/SPECIES, train/images/SPECIES
        parts_of = {path: [parts[0], *parts[2:]] for path, parts in parts_of.items()}

    found = defaultdict(lambda: defaultdict(list))
    folders = {}  # (split, species): how its folder is called
    for path, parts in parts_of.items():
        split = SPLIT_NAMES.get(parts[0].lower())
        if split is None:
            left_out.append(LeftOut(path, "is in none of train, valid and test", bad=False))
        elif len(parts) == 2:
            left_out.append(LeftOut(path, "is in no species folder: move it into one"))
        else:
            name = species_name(parts[1])
            called = folders.setdefault((split, name), parts[1])
            if called != parts[1]:
                raise DataError(
                    f"{root}: the folders {called} and {parts[1]} of {split} would be one species, "
                    f"{name}: rename one of them, or move their images into one."
                )
            found[name][split].append(path)
    return found


def wrapped(paths):
    """Whether each split holds nothing but one folder, and that holds nothing but folders."""
    inside = defaultdict(set)
    for parts in paths:
        if len(parts) < 4:
            return False
        inside[parts[0]].add(parts[1])
    return all(len(names) == 1 for names in inside.values())


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
        if (drawn == "train").sum() < 2:
            continue  # too few to give any away
        splits[rows] = np.where(np.isin(drawn, missing), drawn, "train")
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
    if not present:
        return f"species {name} has no image that could be read: repair or remove its folder"
    if "train" not in present or len(present) == 1:
        hint = ""
        near = difflib.get_close_matches(name, found.keys() - {name}, n=1, cutoff=0.8)
        if near:
            hint = f" (is it {near[0]}? then rename the folder)"
        absent = " and ".join(split for split in SPLITS if split not in present)
        return f"species {name} is in {' and '.join(present)} only{hint}: add it to {absent}"
    if len(found[name]["train"]) == 1:
        return f"species {name} has one training image: add some or remove the species"
    return None
