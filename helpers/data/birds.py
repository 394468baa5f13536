"""BIRDS: train, valid and test folders with one folder for each species."""

import difflib
from collections import defaultdict

from .listing import SPLITS, DataError, Item, LeftOut, Listing, sum_up, walk

WANTED = "train, valid and test folders with a folder of images for each species"
SPLIT_NAMES = {
    "train": "train",
    "valid": "valid",
    "validation": "valid",
    "val": "valid",
    "test": "test",
}
TYPOS = {"PARAKETT AKULET": "PARAKETT AUKLET", "PARAKEET AUKLET": "PARAKETT AUKLET"}
NOT_BIRDS = {"LOONEY BIRDS"}


def looks_right(folder):
    return any((folder / split).is_dir() for split in SPLIT_NAMES)


def scan(root, classes=None):
    """List the images by split and species; ``classes``: the first so many species names.

    ``birds.csv`` is not read, because its ids disagree with the folders.
    """
    stamps, left_out = walk(root)
    found = defaultdict(lambda: defaultdict(list))  # species -> split -> paths
    for path in stamps:
        parts = list(dict.fromkeys(path.split("/")))  # train/train is train
        split = SPLIT_NAMES.get(parts[0].lower())
        if split and len(parts) == 2:
            left_out.append(LeftOut(path, "is in no species folder: move it into one"))
        elif split:
            found[species_name(parts[1])][split].append(path)

    for split in SPLITS:
        if not any(split in splits for splits in found.values()):
            raise DataError(
                f"{root}/{split} is missing or holds no images ({sum_up(left_out, root)}): "
                f"BIRDS has {WANTED}."
            )

    names = []
    for name in sorted(found):
        reason = refuse(name, found)
        if reason is None:
            names.append(name)
            continue
        for split in SPLITS:
            for path in found[name][split]:
                left_out.append(LeftOut(path, reason, bad=name not in NOT_BIRDS))
    if classes is not None and not 2 <= classes <= len(names):
        raise DataError(
            f"{root} has {len(names)} species: classes={classes} is not between 2 and that."
        )
    names = names[:classes]

    items = []
    for split in SPLITS:
        for number, name in enumerate(names):
            items += [Item(path, number, split) for path in found[name][split]]
    return Listing("birds", root, names, items, stamps, left_out, variant=f"classes={classes}")


def species_name(folder):
    """In upper case and single spaces, typos mended: "Parakett  akulet" -> "PARAKETT AUKLET"."""
    name = " ".join(folder.upper().split())
    return TYPOS.get(name, name)


def refuse(name, found):
    """Why a species cannot be learnt or tested, or None."""
    if name in NOT_BIRDS:
        return "is not a bird"
    present = [split for split in SPLITS if found[name][split]]
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
