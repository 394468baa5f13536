"""What every data set becomes first: a list of its files, with their targets and their split."""

import errno
import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from helpers.engine.files import DataError

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp"}
SPLITS = ("train", "valid", "test")
STILLS = (".heic", ".heif", ".avif", ".svg", ".psd", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".raf")
VIDEOS = (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm")
UNREAD = dict.fromkeys(STILLS, "save it") | dict.fromkeys(VIDEOS, "export its frames")  # but counted
DENIED = "may not be read: give yourself the permission (chmod -R +r)"
FAULTS = {
    errno.EACCES: DENIED,
    errno.EPERM: DENIED,
    errno.ENOENT: "is not there, or a link to nothing: correct the path or remove the link",
    errno.ELOOP: "is a link that leads to itself: remove it",
}


class LeftOut(NamedTuple):
    file: str
    reason: str
    bad: bool = True  # False: left out by a rule of ours, no fault of the file


class Item(NamedTuple):
    image: str  # path relative to the listing's root
    target: int | str | None  # class number, path of the mask, or nothing
    split: str | None  # None: decided after decoding, by Listing.split
    group: int | None = None  # of pictures that are one piece of evidence; None: of near-duplicates


@dataclass
class Listing:
    """One data set as found on disk, and what only this set knows about its pictures."""

    name: str
    root: Path
    classes: list[str]
    items: list[Item]
    stamps: dict[str, tuple[int, int]]  # relative path of every image below root -> (bytes, mtime_ns)
    left_out: list[LeftOut] = field(default_factory=list)
    variant: str = ""  # what was asked of this source; caches of its other variants are left alone
    crop: bool = True  # shorter side and centre crop; False scales straight to size
    unfit: Callable | None = None  # decoded image -> why it is left out, no fault of the file, or None
    read_mask: Callable | None = None  # (path, (height, width), full size of the image) -> class ids
    measure: Callable | None = None  # all masks -> shares of the pixels
    split: Callable | None = None  # perceptual hashes -> the split of each, where items have none
    unit: str | None = None  # what a group of pictures is, in the plural

    def shapes(self, size: tuple) -> dict[str, tuple]:
        """Of the uint8 arrays that one item becomes, by the files that hold those of all."""
        return {"images.u8": (*size, 3), **({"masks.u8": size} if self.read_mask else {})}

    @property
    def key(self) -> str:
        """Changes with any name, size, date, target or split."""
        content = (self.name, self.classes, self.items, self.stamps, self.left_out)
        return hashlib.sha256(repr(content).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def natural(text: str) -> list:
    """Sorting key that puts F61-2 before F61-10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", text)]


def walk(root: Path) -> tuple[dict[str, tuple[int, int]], list[LeftOut]]:
    """Every image below ``root`` with its size and date, sorted, and what cannot be read.

    Links are followed, each folder once, so that a loop of links ends.
    """
    stamps, left_out, seen = {}, [], set()

    def unreadable(error: OSError) -> None:
        left_out.append(LeftOut(Path(error.filename).relative_to(root).as_posix(), describe(error)))

    for folder, below, files in os.walk(root, onerror=unreadable, followlinks=True):
        here, real, twins = Path(folder).relative_to(root).as_posix(), os.path.realpath(folder), {}
        if real in seen:
            left_out.append(LeftOut(here, "is a link to a folder already read (a loop?): remove the link"))
            below.clear()
            continue
        seen.add(real)
        below[:] = sorted(name for name in below if not name.startswith("."))
        for name in sorted(name for name in files if not name.startswith(".")):
            path, kind = f"{here}/{name}".removeprefix("./"), os.path.splitext(name)[1].lower()
            try:
                status = os.stat(os.path.join(folder, name))
            except OSError as error:  # of a link, which may have stood for a folder
                left_out.append(LeftOut(path, describe(error)))
                continue
            if kind in UNREAD:
                reason = f"is a {kind} file, which is not read: {UNREAD[kind]} as JPEG or PNG"
                left_out.append(LeftOut(path, reason, False))
            elif kind not in SUFFIXES:
                continue
            elif (twin := twins.setdefault(name.casefold(), name)) != name:
                reason = "only in upper and lower case, one file to other systems: rename one"
                left_out.append(LeftOut(path, f"differs from {twin} {reason}"))
            elif not status.st_size:
                left_out.append(LeftOut(path, "is an empty file: copy or download it again"))
            else:
                stamps[path] = (status.st_size, status.st_mtime_ns)
    if not stamps:
        raise DataError(f"{root} holds no image that can be read ({sum_up(left_out, root)}).")
    return dict(sorted(stamps.items(), key=lambda stamp: stamp[0].split("/"))), left_out


def by_reason(left_out: list[LeftOut]) -> dict[str, list[str]]:
    """Reasons, in the order of their first files -> the files."""
    files = defaultdict(list)
    for entry in left_out:
        files[entry.reason].append(entry.file)
    return files


def sum_up(left_out: list[LeftOut], root: Path) -> str:
    """The first file of each of five reasons, and how many share it."""
    told = []
    for reason, files in by_reason(left_out).items():
        told.append(f"{root}/{files[0]} {reason}" + f" ({len(files)} such files)" * (len(files) > 1))
    told[5:] = [f"and {len(told) - 5} other reasons"] * (len(told) > 5)
    return "; ".join(told) or "nothing was left out"


def describe(error: OSError) -> str:
    """An operating system's error as finding and remedy."""
    return FAULTS.get(error.errno, f"cannot be read ({error.strerror or error}): copy or download it again")


def folders(root: Path, depth: int) -> Iterator[Path]:
    """``root`` and the folders below it, nearest first."""
    level = [root]
    for _ in range(depth + 1):
        yield from level
        below = [child for folder in level for child in sorted(folder.iterdir()) if child.is_dir()]
        level = [child for child in below if os.access(child, os.R_OK | os.X_OK)][:500]


def locate(root: Path, looks_right: Callable[[Path], bool]) -> Path | None:
    """The nearest folder at or below ``root`` that looks right."""
    return next(filter(looks_right, folders(root, 3)), None)


def check_root(root: Path, looks_right: Callable[[Path], bool], wanted: str) -> None:
    """Refuse a wrong folder, naming the right one where it is a parent or a child of this."""
    if not root.is_dir():
        raise DataError(f"{root} is not there: give the folder that holds {wanted}, or an archive of it.")
    try:
        if not any(root.iterdir()):
            raise DataError(f"{root} is empty: give the folder that holds {wanted}.")
        near = locate(root, looks_right) or next(filter(looks_right, root.parents[:3]), None)
    except OSError as error:
        raise DataError(f"{root}: {describe(error)}.") from error
    if near != root:
        side = "its parent" if near in root.parents else "a folder inside it"
        hint = f"{side}, {near}, looks right: give that" if near else "give the folder that does"
        raise DataError(f"{root} does not hold {wanted}; {hint}.")
