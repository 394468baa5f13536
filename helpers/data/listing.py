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

from PIL import Image

from helpers.engine.files import DataError

SPLITS = ("train", "valid", "test")
REMEDIES = {
    "save it as JPEG or PNG": ".heic .heif .jxl .svg .psd .xcf .dng .cr2 .cr3 .nef .arw .orf .raf"
    " .rw2 .exr .hdr .dcm .nii .pcd .pdf .eps .ps .wmf .emf .bufr .grib",
    "export its frames as JPEG or PNG": ".mp4 .mov .m4v .avi .mkv .webm .mpg .mpeg .wmv .3gp",
    "export its images as PNG": ".npy .npz .mat .h5 .hdf .hdf5 .parquet .tfrecord .pkl",
    "unpack it": ".zip .tar .gz .tgz .bz2 .xz .rar .7z",
}
# Not read, but counted: suffix -> what to do.
UNREAD = {suffix: told for told, known in REMEDIES.items() for suffix in known.split()}
SUFFIXES = set(Image.registered_extensions()) - UNREAD.keys()
STARTS = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF8", b"II*\0", b"MM\0*", b"\0\0\0\x0cjP  ")
THUMBNAILS = {"@eadir", "__macosx", ".thumbnails", "thumbs", "thumbnails", "$recycle.bin"}
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
    table: object = None  # streets: what ids and colours in masks mean
    read_mask: Callable = None  # path, (height, width), image's full size -> class ids
    measure: Callable = None  # all masks -> {class: share of the pixels}
    split: Callable = None  # perceptual hashes, targets, splits so far -> splits
    refuse: Callable = None  # targets and splits of what was read -> {class number: why not}
    unit: str = "images"  # what a group is called; of "images", near-duplicates make a group
    note: str = ""  # what else is to be told of this set

    def shapes(self, size):
        """{file: shape of one item's array}, all uint8."""
        shapes = {"images.u8": (*size, 3)}
        if self.read_mask:
            shapes["masks.u8"] = size
        return shapes

    @property
    def key(self):
        """A text that changes with any name, size, date, target or split."""
        content = (self.classes, self.table, self.items, self.stamps, self.left_out)
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

    def leave(path, reason, bad=True):
        left_out.append(LeftOut(Path(path).relative_to(root).as_posix(), reason, bad))

    def leave_unreadable(error):
        leave(error.filename, describe(error))

    for folder, below, files in os.walk(root, onerror=leave_unreadable, followlinks=True):
        here = Path(folder)
        real = os.path.realpath(folder)
        if real in seen:
            leave(here, "is a link to a folder already read (a loop?): remove the link")
            below.clear()
            continue
        seen.add(real)
        for name in below:
            if name.lower() in THUMBNAILS:
                leave(here / name, "is a folder of thumbnails or trash", bad=False)
        below[:] = visible(below)  # os.walk goes on into these

        twins = {}
        for name in visible(files):
            file = here / name
            try:
                status = os.stat(file)
                reason = why_no_image(file)
            except OSError as error:  # even of other files: a broken link may stand for a folder
                leave_unreadable(error)
                continue
            if reason:
                leave(file, reason, bad=False)
                continue
            twin = twins.setdefault(name.casefold(), name)
            if twin != name:
                reason = f"differs from {twin} only in letter case (same on Windows): rename one"
                leave(file, reason)
            elif not os.access(file, os.R_OK):
                leave(file, DENIED)
            elif status.st_size == 0:
                leave(file, "is an empty file: copy or download it again")
            else:
                stamps[file.relative_to(root).as_posix()] = (status.st_size, status.st_mtime_ns)

    if not stamps:
        raise DataError(f"{root} holds no image that can be read ({sum_up(left_out, root)}).")
    return stamps, left_out


def visible(names):
    return sorted(
        name for name in names if not name.startswith(".") and name.lower() not in THUMBNAILS
    )


def why_no_image(file):
    """Why a file is not taken for an image, by its suffix or (photo.jpg.1) its first bytes."""
    suffix = file.suffix.lower()
    if suffix in UNREAD:
        return f"is a {suffix} file, which is not read: {UNREAD[suffix]}"
    if not file.is_file():
        return "is a pipe or a device"
    if suffix in SUFFIXES or starts_as_image(file):
        return None
    return "is not an image"


def starts_as_image(file):
    with open(file, "rb") as opened:
        start = opened.read(12)
    return start.startswith(STARTS) or start.endswith(b"WEBP")


def by_reason(left_out):
    """{reason: its files}, in the order of the first files."""
    files = defaultdict(list)
    for entry in left_out:
        files[entry.reason].append(entry.file)
    return files


def sum_up(left_out, root):
    """The first file of each of five reasons, and how many files share it."""
    told = []
    for reason, files in by_reason(sorted(left_out, key=lambda entry: not entry.bad)).items():
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
