"""What became of every file: read, converted, left out and why."""

from collections import Counter
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np

from .decode import Decoded
from .listing import SPLITS, DataError, LeftOut, Listing, by_reason, sum_up
from .similar import across, families

MOST_BAD = 0.01  # a larger share of bad files is an error unless it is asked to skip them


@dataclass
class Inventory:
    read: dict[str, int]  # images per split
    converted: dict[str, int]
    left_out: list[LeftOut]
    near_duplicates: dict[str, int]  # "train – test": pairs that look alike
    near_examples: dict[str, str]
    shares: dict[str, float]  # streets: of the pixels of each class, the own bonnet apart

    def __post_init__(self):
        self.left_out = [LeftOut(*entry) for entry in self.left_out]  # JSON makes lists of them

    @property
    def bad(self) -> list[LeftOut]:
        return [entry for entry in self.left_out if entry.bad]

    def check(self, root: Path, skip_bad: bool) -> None:
        """Raise DataError when more than 1 % of the files are bad, or a split is left empty."""
        read, bad = sum(self.read.values()), self.bad
        if not skip_bad and len(bad) > MOST_BAD * (read + len(bad)):
            raise DataError(
                f"{root}: {len(bad)} of {read + len(bad)} files are bad, more than 1 %: {sum_up(bad, root)}. "
                "Repair them, or leave them out, once for each preset: prepare --skip-bad (skip_bad=True)."
            )
        if empty := ", ".join(split for split, count in self.read.items() if not count):
            why = f"({read} in all; {sum_up(bad or self.left_out, root)})"
            raise DataError(f"{root}: no usable image is left for {empty} {why}: add some.")

    def table(self):
        """A pandas DataFrame: what happened, to how many files, and one example."""
        import pandas as pd

        rows = [("read", split, count, "") for split, count in self.read.items()]
        rows += [("converted", note, count, "") for note, count in self.converted.items()]
        rows += [("left out", why, len(files), files[0]) for why, files in by_reason(self.left_out).items()]
        for pair, count in self.near_duplicates.items():
            rows.append(("near-duplicates", pair, count, self.near_examples[pair]))
        return pd.DataFrame(rows, columns=["what", "detail", "files", "example"])

    def notes(self) -> list[str]:
        """What the table leaves open, a sentence each."""
        notes = ["Near-duplicates: pairs of pictures in two parts that look alike, and make a test too easy."]
        if self.shares:
            shares = ", ".join(f"{name} {share:.2%}" for name, share in self.shares.items())
            notes += [f"Share of the pixels: {shares}. None is all that has no class of its own, as the sky."]
        if never := ", ".join(n for n, share in self.shares.items() if not share and ":" not in n):
            notes += [f"Never there: {never}. A class without pixels has no IoU (nan); means leave it out."]
        return notes

    def _repr_html_(self) -> str:
        return self.table().to_html(index=False) + "".join(f"<p>{escape(note)}</p>" for note in self.notes())

    def __str__(self) -> str:
        return "\n".join([self.table().to_string(index=False, max_colwidth=90), *self.notes()])


def take_stock(listing: Listing, told: list[Decoded], masks=()) -> tuple[Inventory, dict[str, list]]:
    """The inventory of decoded files, and a table of those read: item, checksum, split and group of each."""
    read = [number for number, one in enumerate(told) if not one.fault]
    items = [listing.items[number] for number in read]
    hashes = np.array([told[number].phash for number in read], dtype=np.uint64)
    given = np.array([item.split for item in items], dtype=str)
    splits = listing.split(hashes) if listing.split else given
    inventory = Inventory(
        {split: int((splits == split).sum()) for split in SPLITS},
        dict(Counter(note for one in told for note in one.notes).most_common()),
        listing.left_out + [one.fault for one in told if one.fault],
        *across(hashes, splits, [item.image for item in items]),
        listing.measure(masks) if listing.measure else {},
    )
    groups = np.array([row if item.group is None else item.group for row, item in enumerate(items)])
    for split in SPLITS[1:] if listing.unit is None else ():  # nobody asks how sure a training part is
        mine = np.flatnonzero(splits == split)
        groups[mine] = mine[families(hashes[mine])]
    sums = [told[number].checksum for number in read]
    return inventory, {"item": read, "checksum": sums, "split": splits.tolist(), "group": groups.tolist()}
