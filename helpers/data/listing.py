"""What every data set becomes first: a list of its files, with their targets and their split."""

import errno
import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from helpers.engine.files import DataError

SPLITS = ("train", "valid", "test")
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp"}
STILLS = ".heic .heif .avif .svg .psd .dng .cr2 .cr3 .nef .arw .orf .raf"
VIDEOS = ".mp4 .mov .m4v .avi .mkv .webm"
UNREAD = dict.fromkeys(STILLS.split(), "save it")  # not read, but counted
UNREAD |= dict.fromkeys(VIDEOS.split(), "export its frames")
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
    bad: bool = True  # False: one of our rules leaves it out, though the file is sound


class Item(NamedTuple):
    image: str  # path relative to the listing's root
    target: object  # class number, path of the mask, or None
    split: str  # None: decided after decoding, by Listing.split
    group: int = None  # images of one number are one piece of evidence; None: decided later


@dataclass
class Listing:
    """One data set as found on disk, and the rules that only this set needs."""

    name: str
    root: Path
    classes: list
    items: list
    stamps: dict  # relative path of every image below root -> (bytes, mtime_ns)
    left_out: list
    variant: str = ""  # what was asked of this source: each variant has a cache of its own
    needs_colour: bool = False  # leave grey images out
    read_mask: Callable = None  # path, (height, width), image's full size -> class ids
    measure: Callable = None  # all masks -> {class: share of the pixels}
    split: Callable = None  # perceptual hashes -> splits, where items have none
    unit: str = "images"  # what a group is called; of "images", near-duplicates make a group

    def shapes(self, size):
        """{file: shape of one item's array}, all uint8."""
        shapes = {"images.u8": (*size, 3)}
        if self.read_mask:
            shapes["masks.u8"] = size
        return shapes

    @property
    def key(self):
        """A text that changes with any name, size, date, target or split."""
        content = (self.classes, self.items, self.stamps, self.left_out)
        return hashlib.sha256(repr(content).encode()).hexdigest()[:16]


def natural(text):
    """A sorting key that puts F61-2 before F61-10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", text)]


def walk(root):
    """Find every image below ``root``, and what cannot be read.

    Links are followed, but each folder is read once, so that a loop of links ends.

    Returns:
        {relative path: (bytes, mtime_ns)} in a fixed order, and a list of LeftOut.
    """
    stamps = {}
    left_out = []
    seen = set()

    def note_unreadable(error):
        path = Path(error.filename).relative_to(root).as_posix()
        left_out.append(LeftOut(path, describe(error)))

    for folder, below, files in os.walk(root, onerror=note_unreadable, followlinks=True):
        here = Path(folder).relative_to(root)
        real = os.path.realpath(folder)
        if real in seen:
            left_out.append(
                LeftOut(
                    here.as_posix(),
                    "is a link to a folder already read (a loop?): remove the link",
                )
            )
            below.clear()
            continue
        seen.add(real)
        below[:] = visible(below)  # os.walk goes on into these

        twins = {}
        for name in visible(files):
            file = here / name
            path = file.as_posix()
            suffix = file.suffix.lower()
            try:
                status = os.stat(root / file)
            except OSError as error:  # even of other files: a broken link may stand for a folder
                note_unreadable(error)
                continue
            if suffix in UNREAD:
                left_out.append(
                    LeftOut(
                        path,
                        f"is a {suffix} file, which is not read: {UNREAD[suffix]} as JPEG or PNG",
                        bad=False,
                    )
                )
            if suffix not in SUFFIXES:
                continue
            twin = twins.setdefault(name.casefold(), name)
            if twin != name:
                left_out.append(
                    LeftOut(
                        path,
                        f"differs from {twin} only in letter case (same on Windows): rename one",
                    )
                )
            elif status.st_size == 0:
                left_out.append(LeftOut(path, "is an empty file: copy or download it again"))
            else:
                stamps[path] = (status.st_size, status.st_mtime_ns)

    if not stamps:
        raise DataError(f"{root} holds no image that can be read ({sum_up(left_out, root)}).")
    return stamps, left_out


def visible(names):
    return sorted(name for name in names if not name.startswith("."))


def by_reason(left_out):
    """{reason: its files}, in the order of the first files."""
    files = defaultdict(list)
    for entry in left_out:
        files[entry.reason].append(entry.file)
    return files


def sum_up(left_out, root):
    """The first file of each of five reasons, and how many files share it."""
    told = []
    for reason, files in by_reason(left_out).items():
        line = f"{root}/{files[0]} {reason}"
        if len(files) > 1:
            line += f" ({len(files)} such files)"
        told.append(line)
    if not told:
        return "nothing was left out"
    if len(told) > 5:
        told = [*told[:5], f"and {len(told) - 5} other reasons"]
    return "; ".join(told)


def describe(error):
    """An operating system's error as finding and remedy."""
    if error.errno in FAULTS:
        return FAULTS[error.errno]
    return f"cannot be read ({error.strerror or error}): copy or download it again"


def folders(root, depth):
    """Yield ``root`` and the readable folders below it, nearest first, 500 of a level at most."""
    yield root
    for level in range(1, depth + 1):
        below = sorted(root.glob("*/" * level))
        yield from [folder for folder in below if os.access(folder, os.R_OK | os.X_OK)][:500]


def locate(root, looks_right):
    """The nearest folder at or below ``root`` that looks right, or None."""
    return next(filter(looks_right, folders(root, depth=3)), None)


def check_root(root, looks_right, wanted):
    """Raise DataError for a wrong folder, and name the right one where it is near."""
    if not root.is_dir():
        raise DataError(
            f"{root} is not there: give the folder that holds {wanted}, or an archive of it."
        )
    try:
        if not any(root.iterdir()):
            raise DataError(f"{root} is empty: give the folder that holds {wanted}.")
        right = locate(root, looks_right)
        for parent in root.parents[:3]:
            if right is None and looks_right(parent):
                right = parent
    except OSError as error:
        raise DataError(f"{root}: {describe(error)}.") from error
    if right == root:
        return
    hint = "give the folder that does"
    if right in root.parents:
        hint = f"its parent, {right}, looks right: give that"
    elif right:
        hint = f"a folder inside it, {right}, looks right: give that"
    raise DataError(f"{root} does not hold {wanted}; {hint}.")
