"""One file -> one small uint8 array, read to the last byte."""

import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from .listing import Item, LeftOut, describe
from .similar import phash

MAX_PIXELS = 90_000_000  # a larger image takes more memory than a photo ever needs
MIN_SIDE = 16
ORIENTATION = 0x0112  # the EXIF tag; from 2 to 8 an image is mirrored or turned, from 5 sideways


class BadFile(ValueError):
    """A file that cannot be used; the message continues a sentence that begins with its name."""


def open_image(path):
    """Open an image, but read no pixels. Raise BadFile for a size that no photo has."""
    image = Image.open(path)
    width, height = image.size
    found = f"{width}×{height} pixels"
    if width * height > MAX_PIXELS:
        raise BadFile(f"has {found}, more than any photo (a decompression bomb?): remove it")
    if min(width, height) < MIN_SIDE:
        raise BadFile(f"has only {found}, too few (at least {MIN_SIDE} a side): replace it")
    return image


def to_rgb(image):
    """Any mode -> RGB. More than 8 bits are scaled down, and transparency is laid on white."""
    if image.mode == "RGB":
        return image
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image, dtype=np.float64)
        if values.max() > 255:
            values = values / 257
        return Image.fromarray(values.clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def read_image(path, size, crop):
    """Read an image upright, in RGB, at ``size`` (height, width).

    Returns:
        The image, its full size (width, height), and a list of what had to be converted.
    """
    height, width = size
    notes = []
    with open_image(path) as image:
        full = image.size
        suffix = Path(path).suffix.lower()
        if image.format not in (Image.registered_extensions().get(suffix), "MPO"):
            notes.append(f"{image.format} named {suffix}")

        image.draft(None, (max(size), max(size)))  # libjpeg halves while it decodes: faster
        image.load()
        orientation = image.getexif().get(ORIENTATION)
        if orientation in range(2, 9):
            notes.append("turned upright (EXIF)")
            image = ImageOps.exif_transpose(image)
            if orientation >= 5:
                full = full[::-1]
        if image.mode != "RGB":
            notes.append(f"{image.mode} to RGB")
        rgb = to_rgb(image)

    if not crop:
        return rgb.resize((width, height), Image.Resampling.BILINEAR), full, notes
    if rgb.width * height != rgb.height * width:
        notes.append("cropped to the centre")
    return ImageOps.fit(rgb, (width, height), Image.Resampling.BILINEAR), full, notes


def is_grey(image):
    """Whether a photo is grey, however it is stored: hardly a pixel's channels differ visibly."""
    channels = np.asarray(image).astype(np.int16)
    spread = np.ptp(channels, axis=-1)  # (H, W)
    return np.quantile(spread, 0.99) <= 6


def explain(path, error):
    """Why a file could not be decoded, and what to do."""
    if isinstance(error, BadFile):
        return str(error)
    if isinstance(error, UnidentifiedImageError):
        with open(path, "rb") as file:
            if file.read(256).lstrip().startswith(b"<"):
                return "is a web page saved as an image: download the image itself"
        return "is not an image: replace or remove it"
    if isinstance(error, Image.DecompressionBombError):
        return "has far more pixels than any photo (a decompression bomb?): remove it"
    if isinstance(error, OSError) and error.errno:
        return describe(error)
    return f"is damaged or cut off ({error}): copy or download it again"


class Record(NamedTuple):
    """What is kept of one file that was read, besides its arrays."""

    item: Item
    phash: int
    checksum: int
    notes: list  # what had to be converted


def decode(listing, size, item):
    """Decode an image, and its mask, at ``size`` (height, width).

    Returns:
        Its arrays, uint8 (H, W, 3) and of streets (H, W), and its Record. Of a file that cannot be
        used an empty list, and its LeftOut.
    """
    file = item.image
    try:
        image, full, notes = read_image(f"{listing.root}/{file}", size, not listing.read_mask)
        if listing.needs_colour and is_grey(image):
            return [], LeftOut(file, "is grey: no colour to learn from", bad=False)
        arrays = [np.asarray(image)]
        if listing.read_mask:
            file = item.target
            arrays.append(listing.read_mask(f"{listing.root}/{file}", size, full))
    except Exception as error:  # whatever a decoder raises, the file is bad
        return [], LeftOut(file, explain(f"{listing.root}/{file}", error))
    return arrays, Record(item, phash(image), zlib.crc32(b"".join(arrays)), notes)
