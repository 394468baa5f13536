"""What became of every file: read, converted, left out and why."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from .listing import DataError, LeftOut
from .similar import near_pairs
from .streets import pixel_shares

MOST_BAD = 0.01  # a larger share of bad files is an error unless it is asked to skip them


@dataclass
class Report:
    name: str
    read: dict[str, int] = field(default_factory=dict)  # images per split
    converted: Counter = field(default_factory=Counter)
    left_out: list[LeftOut] = field(default_factory=list)
    near_duplicates: dict[str, int] = field(default_factory=dict)  # "train – test": pairs that look alike
    near_examples: dict[str, list] = field(default_factory=dict)
    pixels: list[int] | None = None  # streets: of each class, and of the own bonnet

    def __post_init__(self):
        self.converted = Counter(self.converted)
        self.left_out = [LeftOut(*entry) for entry in self.left_out]

    @property
    def bad(self) -> list[LeftOut]:
        return [entry for entry in self.left_out if entry.bad]

    @property
    def shares(self) -> dict[str, float]:
        """Share of the pixels of each class, the own bonnet apart (streets only)."""
        return pixel_shares(np.array(self.pixels)) if self.pixels else {}

    def give_up(self, root, skip_bad: bool, n: int) -> None:
        """Raise early, while decoding ``n`` files, when so many are bad that the rest cannot help."""
        if not skip_bad and len(self.bad) > max(100, 0.1 * n):
            self.read = {"so far": 0}
            self.check(root, skip_bad)

    def check(self, root, skip_bad: bool) -> None:
        """Raise DataError when more than 1 % of the files are bad, or a split is left empty."""
        read, bad = sum(self.read.values()), self.bad
        if bad and not skip_bad and len(bad) > MOST_BAD * (read + len(bad)):
            kinds = Counter(entry.reason for entry in bad)
            listed = "; ".join(f"{root}/{entry.file} {entry.reason}" for entry in first_of_each(bad)[:5])
            more = f" (and {len(kinds) - 5} other reasons)" if len(kinds) > 5 else ""
            raise DataError(
                f"{root}: {len(bad)} of {read + len(bad)} files are bad, more than 1 %: {listed}{more}. "
                "Repair them, or leave them out with --skip-bad (skip_bad=True)."
            )
        empty = [split for split, count in self.read.items() if not count]
        if empty:
            listed = "; ".join(f"{entry.file} {entry.reason}" for entry in first_of_each(self.left_out)[:5])
            raise DataError(f"{root}: no usable image is left for {', '.join(empty)} ({listed}): add some.")

    def count_near(self, hashes: np.ndarray, splits: np.ndarray, names: list[str]) -> None:
        """Count the pairs across splits that a perceptual hash takes for the same picture."""
        for a, b in (("train", "valid"), ("train", "test"), ("valid", "test")):
            rows, columns = np.flatnonzero(splits == a), np.flatnonzero(splits == b)
            count, examples = 0, []
            for i, j in near_pairs(hashes[rows], hashes[columns]):
                count += len(i)
                first = zip(i[: 20 - len(examples)], j, strict=False)
                examples += [[names[rows[x]], names[columns[y]]] for x, y in first]
            self.near_duplicates[f"{a} – {b}"] = count
            self.near_examples[f"{a} – {b}"] = examples

    def table(self):
        """A pandas DataFrame: what happened, to how many files, and one example."""
        import pandas as pd

        rows = [("read", split, count, "") for split, count in self.read.items()]
        rows += [("converted", note, count, "") for note, count in self.converted.most_common()]
        kinds = Counter(entry.reason for entry in self.left_out)
        rows += [("left out", e.reason, kinds[e.reason], e.file) for e in first_of_each(self.left_out)]
        for pair, count in self.near_duplicates.items():
            example = next(iter(self.near_examples[pair]), ())
            rows.append(("near-duplicates", pair, count, " = ".join(example)))
        return pd.DataFrame(rows, columns=["what", "detail", "files", "example"])

    def _repr_html_(self) -> str:
        return self.table().to_html(index=False)

    def __str__(self) -> str:
        table = self.table().to_string(index=False, max_colwidth=90)
        shares = ", ".join(f"{name} {share:.2%}" for name, share in self.shares.items())
        return f"{table}\nshare of the pixels: {shares}" if shares else table


def first_of_each(entries: list[LeftOut]) -> list[LeftOut]:
    """One entry per reason."""
    return list({entry.reason: entry for entry in reversed(entries)}.values())[::-1]
