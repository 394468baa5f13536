"""What every data set becomes first: a list of its files, with their targets and their split."""

import errno
import hashlib
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp"}
SPLITS = ("train", "valid", "test")


class DataError(ValueError):
    """Data that cannot be used; the message says what was found, where, and what to do."""


class LeftOut(NamedTuple):
    file: str
    reason: str
    bad: bool = True  # False: left out by a rule of ours, no fault of the file


class Item(NamedTuple):
    image: str  # path relative to the listing's root
    target: int | str | None  # class number, path of the mask, or nothing
    split: str | None  # None: decided after decoding, by Listing.split


@dataclass
class Listing:
    """One data set as found on disk.

    Args:
        stamps: ``{relative path: (bytes, mtime_ns)}`` of every image below ``root``.
        crop: shorter side and centre crop; False scales straight to size.
        split: perceptual hashes of the decoded images -> the split of each.
    """

    name: str
    root: Path
    classes: list[str]
    items: list[Item]
    stamps: dict[str, tuple[int, int]]
    left_out: list[LeftOut] = field(default_factory=list)
    crop: bool = True
    needs_colour: bool = False
    split: Callable | None = None
    variant: str = ""  # what was asked of this source; caches of other variants of it are left alone

    @property
    def key(self) -> str:
        """Changes with any name, size, date, target or split."""
        content = (self.name, self.classes, self.items, self.stamps, self.left_out)
        return hashlib.sha256(repr(content).encode("utf-8", "surrogateescape")).hexdigest()[:16]

    def thin(self, limit: int | None) -> None:
        """Keep at most ``limit`` items of each split, spread evenly over it."""
        kept = []
        for split in dict.fromkeys(item.split for item in self.items):
            items = [item for item in self.items if item.split == split]
            room = len(items) if limit is None else limit if split else round(limit / 0.8)
            step = max(1.0, len(items) / max(room, 1))
            kept += [items[int(i * step)] for i in range(min(room, len(items)))]
        self.items = kept


def natural(text: str) -> list:
    """Sorting key that puts F61-2 before F61-10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", text)]


def walk(root: Path) -> tuple[dict[str, tuple[int, int]], list[LeftOut]]:
    """Every image below ``root`` with its size and date, sorted, and what cannot be read.

    Links are followed, each folder once, so that a loop of links ends.
    """
    stamps, left_out, seen = {}, [], set()

    def enter(folder: str, prefix: str) -> None:
        real = os.path.realpath(folder)
        if real in seen:
            left_out.append(LeftOut(prefix, "a link to a folder already read (a loop?): remove the link"))
            return
        seen.add(real)
        names = {}
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                path = prefix + entry.name
                if entry.name.startswith("."):
                    continue
                try:
                    if entry.is_dir():
                        enter(entry.path, path + "/")
                        continue
                    if os.path.splitext(entry.name)[1].lower() not in SUFFIXES:
                        continue
                    stat = entry.stat()
                except OSError as error:
                    left_out.append(LeftOut(path, describe(error)))
                    continue
                twin = names.setdefault(entry.name.casefold(), entry.name)
                if twin != entry.name:
                    reason = (
                        f"differs from {twin} only in upper and lower case, which other systems take for one"
                    )
                    left_out.append(LeftOut(path, reason + " file: rename one"))
                elif stat.st_size == 0:
                    left_out.append(LeftOut(path, "is an empty file: copy or download it again"))
                else:
                    stamps[path] = (stat.st_size, stat.st_mtime_ns)

    try:
        enter(str(root), "")
    except OSError as error:
        raise DataError(f"{root}: {describe(error)}.") from error
    return stamps, left_out


def describe(error: OSError) -> str:
    """An operating system's error as finding and remedy."""
    if isinstance(error, PermissionError):
        return "may not be read: give yourself the permission (chmod -R +r)"
    if error.errno == errno.ELOOP:
        return "is a link that leads to itself: remove it"
    if isinstance(error, FileNotFoundError):
        return "is not there, or a link to nothing: correct the path or remove the link"
    return f"cannot be read ({error.strerror or error}): copy or download it again"


def folders(root: Path, depth: int) -> Iterator[Path]:
    """``root`` and the folders below it, nearest first."""
    level = [root]
    for _ in range(depth + 1):
        yield from level
        level = [
            child
            for folder in level
            for child in sorted(folder.iterdir())
            if child.is_dir() and os.access(child, os.R_OK | os.X_OK)
        ][:500]


def locate(root: Path, looks_right: Callable[[Path], bool]) -> Path | None:
    """The nearest folder at or below ``root`` that looks right."""
    return next((folder for folder in folders(root, 3) if looks_right(folder)), None)


def check_root(root: Path, looks_right: Callable[[Path], bool], wanted: str) -> None:
    """Refuse a wrong folder, naming the right one where it is a parent or a child of this."""
    if not root.is_dir():
        raise DataError(f"{root} is not there: give the folder that holds {wanted}, or an archive of it.")
    try:
        if looks_right(root):
            return
        if not any(root.iterdir()):
            raise DataError(f"{root} is empty: give the folder that holds {wanted}.")
        near = locate(root, looks_right) or next((up for up in root.parents[:3] if looks_right(up)), None)
    except OSError as error:
        raise DataError(f"{root}: {describe(error)}.") from error
    side = "" if near is None else "its parent" if near in root.parents else "a folder inside it"
    hint = f"{side}, {near}, looks right: give that" if near else "give the folder that does"
    raise DataError(f"{root} does not hold {wanted}; {hint}.")
