"""BIRDS: train, valid and test folders with one folder per species."""

import difflib
from collections import defaultdict
from pathlib import Path

from .listing import SPLITS, DataError, Item, LeftOut, Listing, sum_up, walk

WANTED = "train, valid and test folders with a folder of images for each species"
SPLIT_NAMES = {"train": "train", "valid": "valid", "validation": "valid", "val": "valid", "test": "test"}
TYPOS = {"PARAKETT AKULET": "PARAKETT AUKLET", "PARAKEET AUKLET": "PARAKETT AUKLET"}
NOT_BIRDS = {"LOONEY BIRDS"}


def looks_right(folder: Path) -> bool:
    return any((folder / split).is_dir() for split in SPLIT_NAMES)


def scan(root: Path, classes: int | None = None) -> Listing:
    """List the images by split and species. ``birds.csv`` is not read: its ids disagree with the folders."""
    stamps, left_out = walk(root)
    found = defaultdict(lambda: defaultdict(list))  # species -> split -> paths
    for path in stamps:
        split, *species = list(dict.fromkeys(path.split("/")[:-1])) or [""]  # train/train is train
        split = SPLIT_NAMES.get(split.lower())
        if split and species:
            name = " ".join(species[0].upper().split())  # "Parakett  akulet" -> "PARAKETT AKULET"
            found[TYPOS.get(name, name)][split].append(path)
        elif split:
            left_out.append(LeftOut(path, "is in no species folder: move it into one"))
    for split in SPLITS:
        if not any(split in splits for splits in found.values()):
            why = f" ({sum_up(left_out, root)})" if left_out else ""
            raise DataError(f"{root}/{split} is missing or holds no images{why}: BIRDS has {WANTED}.")
    refused = {name: reason for name in sorted(found) if (reason := refuse(name, found))}
    for name, reason in refused.items():
        paths = [path for split in SPLITS for path in found[name][split]]
        left_out += [LeftOut(path, reason, name not in NOT_BIRDS) for path in paths]
    names = sorted(found.keys() - refused)
    if classes is not None and not 2 <= classes <= len(names):
        raise DataError(f"{root} has {len(names)} species: classes={classes} is not between 2 and that.")
    numbers = list(enumerate(names[:classes]))
    items = [Item(path, n, split) for split in SPLITS for n, name in numbers for path in found[name][split]]
    return Listing("birds", root, names[:classes], items, stamps, left_out, variant=f"classes={classes}")


def refuse(name: str, found: dict) -> str | None:
    """Why a species cannot be learnt or tested, or None."""
    if name in NOT_BIRDS:
        return "is not a bird"
    splits = [split for split in SPLITS if found[name][split]]
    if "train" not in splits or len(splits) == 1:
        near = difflib.get_close_matches(name, found.keys() - {name}, n=1, cutoff=0.8)
        hint = f" (is it {near[0]}? then rename the folder)" if near else ""
        missing = " and ".join(split for split in SPLITS if split not in splits)
        return f"species {name} is in {' and '.join(splits)} only{hint}: add it to {missing}"
    if len(found[name]["train"]) == 1:
        return f"species {name} has one training image, too few to learn from: add some or remove the species"
    return None
