"""What became of every file: read, converted, left out and why."""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from .listing import SPLITS, DataError, LeftOut, by_reason, sum_up
from .similar import across, families

MOST_BAD = 0.01  # a larger share of bad files is an error, unless it is asked to skip them


@dataclass
class Inventory:
    read: dict  # images per split
    converted: dict  # files per conversion
    left_out: list
    near_duplicates: dict  # {"train – test": (how many pairs look alike, the first of them)}
    shares: dict  # streets: of all pixels, for each class, the camera's own bonnet apart
    classes: list  # those that are left
    note: str = ""

    def __post_init__(self):
        self.left_out = [LeftOut(*entry) for entry in self.left_out]  # JSON makes lists of them

    @property
    def bad(self):
        return [entry for entry in self.left_out if entry.bad]

    def check(self, root, skip_bad):
        """Raise DataError when more than 1 % of the files are bad, or a split is left empty."""
        read = sum(self.read.values())
        bad = self.bad
        files = read + len(bad)
        if len(bad) > MOST_BAD * files and not skip_bad:
            raise DataError(
                f"{root}: {len(bad)} of {files} files are bad, more than 1 %: {sum_up(bad, root)}. "
                "Repair or leave them out, for each preset: prepare --skip-bad (skip_bad=True)."
            )
        if len(self.classes) == 1:
            raise DataError(
                f"{root}: one class is left, {self.classes[0]}, and at least two are needed "
                f"({sum_up(bad or self.left_out, root)})."
            )
        empty = [split for split in SPLITS if not self.read[split]]
        if empty:
            raise DataError(
                f"{root}: no usable image is left for {', '.join(empty)} "
                f"({read} in all; {sum_up(bad or self.left_out, root)}): add some."
            )

    def table(self):
        """A pandas DataFrame: what happened, to how many files, and one example."""
        import pandas as pd

        rows = [("read", split, count, "") for split, count in self.read.items()]
        rows += [("converted", note, count, "") for note, count in self.converted.items()]
        for reason, files in by_reason(self.left_out).items():
            rows.append(("left out", reason, len(files), files[0]))
        rows += [("near-duplicates", pair, *found) for pair, found in self.near_duplicates.items()]
        return pd.DataFrame(rows, columns=["what", "detail", "files", "example"])

    def notes(self):
        """What the table does not explain, a sentence each."""
        notes = [
            "Near-duplicates are pairs of images in two of the sets that look alike. They make a "
            "test too easy."
        ]
        if self.note:
            notes.append(self.note)
        if self.shares:
            shares = ", ".join(f"{name} {share:.2%}" for name, share in self.shares.items())
            note = f"Share of the pixels: {shares}."
            if "None" in self.shares:
                note += " None is all that has no class of its own, such as the sky."
            notes.append(note)
        never = [name for name, share in self.shares.items() if not share and ":" not in name]
        if never:
            notes.append(
                f"Never there: {', '.join(never)}. "
                "A class without pixels has no IoU (nan), and means leave it out. "
                "If your ids mean other classes, name them in classes.csv: see data/README.md."
            )
        return notes

    def _repr_html_(self):
        notes = "".join(f"<p>{note}</p>" for note in self.notes())
        return self.table().to_html(index=False) + notes

    def __str__(self):
        return "\n".join([self.table().to_string(index=False, max_colwidth=90), *self.notes()])


def take_stock(listing, records, faults, shares):
    """The inventory of all files, and a table of those read.

    Args:
        records: a Record of each file that was read.
        faults: a LeftOut of each other one.
        shares: of the classes in all masks, or nothing.

    Returns:
        The Inventory, and {column: a list, one entry for each record}.
    """
    items = [record.item for record in records]
    names = [item.image for item in items]
    hashes = np.array([record.phash for record in records], dtype=np.uint64)
    targets = np.array([item.target for item in items])
    splits = np.array([item.split for item in items], dtype=str)
    if listing.split:
        splits = listing.split(hashes, targets, splits)
    classes = listing.classes
    left_out = listing.left_out + faults
    if listing.refuse:
        reasons = listing.refuse(targets, splits)
        kept = [number for number in range(len(classes)) if number not in reasons]
        for row in np.flatnonzero(np.isin(targets, list(reasons))):
            left_out.append(LeftOut(names[row], reasons[targets[row]]))
            splits[row] = ""  # it is in no set
        targets = np.searchsorted(kept, targets)
        classes = [classes[number] for number in kept]

    groups = np.array([item.group for item in items])
    if listing.unit == "images":
        groups = np.arange(len(items))
        for split in ("valid", "test"):  # nobody asks how sure a training set is
            rows = np.flatnonzero(splits == split)
            groups[rows] = rows[families(hashes[rows])]

    notes = Counter(note for record in records for note in record.notes)
    inventory = Inventory(
        {split: int((splits == split).sum()) for split in SPLITS},
        dict(notes.most_common()),
        left_out,
        across(hashes, splits, names),
        shares,
        classes,
        listing.note,
    )
    table = {
        "name": names,
        "target": targets.tolist(),
        "split": splits.tolist(),
        "group": groups.tolist(),
        "checksum": [record.checksum for record in records],
    }
    return inventory, table
