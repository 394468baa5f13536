"""One file -> one small uint8 array, read to the last byte."""

import os
import warnings
import zlib
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from .listing import FAULTS, Item, LeftOut, Listing, describe
from .similar import phash

MAX_PIXELS = 90_000_000  # a larger picture takes more memory than a photo ever needs
MIN_SIDE = 16
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # refused here, with a reason


class BadFile(ValueError):
    """A file that cannot be used; the message continues a sentence that begins with its name."""


def open_image(path: str) -> Image.Image:
    image = Image.open(path)
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise BadFile(f"has {width}×{height} pixels, more than any photo (a decompression bomb?): remove it")
    if min(width, height) < MIN_SIDE:
        raise BadFile(f"has only {width}×{height} pixels, too few (at least {MIN_SIDE} a side): replace it")
    return image


def to_rgb(image: Image.Image) -> Image.Image:
    """Any mode -> RGB; 16 bits are scaled down, transparency is laid on white."""
    if image.mode == "RGB":
        return image
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image, dtype=np.float64)
        scale = 257 if image.mode != "F" and values.max(initial=0) > 255 else 1
        return Image.fromarray((values / scale).clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def read_image(path: str, size: tuple[int, int], crop: bool) -> tuple[Image.Image, tuple, list[str]]:
    """An upright RGB image of ``size`` (height, width), its full size, and what had to be converted."""
    width, height = new = size[::-1]
    with open_image(path) as image:
        full, mode, suffix, notes = image.size, image.mode, os.path.splitext(path)[1].lower(), []
        if image.format not in (Image.registered_extensions().get(suffix), "MPO"):
            notes.append(f"{image.format} named {suffix}")
        image.draft(None, (max(size), max(size)))  # libjpeg halves while it decodes: as good and faster
        image.load()
        if (orientation := image.getexif().get(0x0112)) in range(2, 9):
            notes.append("turned upright (EXIF)")
            image = ImageOps.exif_transpose(image)
            full = full[::-1] if orientation > 4 else full
        if mode != "RGB":
            notes.append(f"{mode} to RGB")
        rgb = to_rgb(image)
    if not crop:
        return rgb.resize(new, Image.Resampling.BILINEAR), full, notes
    if rgb.width * height != rgb.height * width:
        notes.append("cropped to the centre")
    return ImageOps.fit(rgb, new, Image.Resampling.BILINEAR), full, notes


def explain(path: str, error: Exception) -> str:
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
    if getattr(error, "errno", None) in FAULTS:
        return describe(error)
    return f"is damaged or cut off ({str(error).rstrip('.')}): copy or download it again"


class Decoded(NamedTuple):
    """What became of one file."""

    arrays: tuple[np.ndarray, ...] = ()  # uint8 (H, W, 3) and, of streets, (H, W)
    phash: int = 0
    notes: tuple[str, ...] = ()  # what had to be converted
    fault: LeftOut | None = None
    checksum: int = 0


def decode(listing: Listing, size: tuple[int, int], item: Item) -> Decoded:
    """Decode an image, and its mask, at ``size`` (height, width)."""
    reading = item.image
    try:
        image, full, notes = read_image(f"{listing.root}/{reading}", size, listing.crop)
        if listing.unfit and (reason := listing.unfit(image)):
            return Decoded(fault=LeftOut(reading, reason, False))
        arrays = [np.asarray(image)]
        if listing.read_mask:
            reading = item.target
            arrays.append(listing.read_mask(f"{listing.root}/{reading}", size, full))
    except Exception as error:  # whatever a decoder raises: the file is bad
        return Decoded(fault=LeftOut(reading, explain(f"{listing.root}/{reading}", error)))
    return Decoded(arrays, phash(image), notes, checksum=zlib.crc32(b"".join(arrays)))
