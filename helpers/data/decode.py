"""One file -> one small uint8 array, read to the last byte. Knows no torch, so that workers start fast."""

import os
import warnings
import zlib
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from .listing import describe
from .similar import phash
from .streets import count_pixels

MAX_PIXELS = 90_000_000  # a larger picture takes more memory than a photo ever needs
MIN_SIDE = 16
NUM_CLASSES = 13


class BadFile(ValueError):
    """A file that cannot be used; the message continues a sentence that begins with its name."""


def open_image(path: str) -> Image.Image:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        image = Image.open(path)
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise BadFile(f"has {width}×{height} pixels, more than any photo (a decompression bomb?): remove it")
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
    """Decode, turn upright, make RGB, and resize to ``size`` (height, width).

    crop: shorter side and centre crop; otherwise straight to size, whatever the shape.
    Returns the image, its full size and what had to be converted.
    """
    height, width = size
    with open_image(path) as image:
        full, mode, notes = image.size, image.mode, []
        if min(full) < MIN_SIDE:
            raise BadFile(
                f"has only {full[0]}×{full[1]} pixels, too few (at least {MIN_SIDE} a side): replace it"
            )
        if image.format not in ("JPEG", "MPO") and path.lower().endswith((".jpg", ".jpeg")):
            notes.append(f"{image.format} named .jpg")
        elif image.format != "PNG" and path.lower().endswith(".png"):
            notes.append(f"{image.format} named .png")
        image.draft(None, (max(width, height),) * 2)  # libjpeg halves while it decodes: as good and faster
        image.load()
        upright = ImageOps.exif_transpose(image) if image.getexif().get(0x0112, 1) != 1 else image
        if upright is not image:
            notes.append("turned upright (EXIF)")
            full = full if upright.width * full[1] == upright.height * full[0] else full[::-1]
        if mode != "RGB":
            notes.append(f"{mode} to RGB")
        rgb = to_rgb(upright)
        if crop and rgb.width * height != rgb.height * width:
            notes.append("cropped to the centre")
        if crop:
            return ImageOps.fit(rgb, (width, height), Image.Resampling.BILINEAR), full, notes
        return rgb.resize((width, height), Image.Resampling.BILINEAR), full, notes


def read_mask(path: str, size: tuple[int, int], image_size: tuple[int, int]) -> np.ndarray:
    """Class ids 0–12, uint8 (H, W), resized as PIL's NEAREST does: no label that was not there."""
    with open_image(path) as mask:
        if mask.format == "JPEG":
            raise BadFile("is a JPEG, whose compression blurs class ids: save masks as PNG")
        if mask.size != image_size:
            raise BadFile(
                "is {}×{} but its image is {}×{}: export both at one size".format(*mask.size, *image_size)
            )
        if mask.mode == "RGBA":
            raise BadFile(
                "is an RGBA mask as CARLA 0.9 exports: Lyft has RGB with ids 0–12 in red; re-label it"
            )
        mask.load()
        if mask.mode == "RGB":
            red, green, blue = mask.split()
            only_red = green.getextrema() == blue.getextrema() == (0, 0)
            if not only_red and not red.tobytes() == green.tobytes() == blue.tobytes():
                raise BadFile("holds colours, not class ids: map each colour to its id in red")
            mask = red
        elif mask.mode not in ("L", "P"):
            raise BadFile(
                f"has mode {mask.mode}, no class ids: save it as an 8-bit PNG with ids in the red channel"
            )
        highest = int(np.asarray(mask).max())
        if highest >= NUM_CLASSES:
            raise BadFile(
                f"has class id {highest}, but Lyft has 0–12; is this a CARLA 0.9 export? Re-label it"
            )
        return np.asarray(mask.resize(size[::-1], Image.Resampling.NEAREST))


def has_colour(image: Image.Image) -> bool:
    """False for a grey photo, however it is stored: hardly a pixel whose channels differ visibly."""
    pixels = np.asarray(image).astype(np.int16)
    return bool(np.quantile(np.ptp(pixels, axis=-1), 0.99) > 6)


def explain(path: str, error: Exception) -> str:
    """Why a file could not be decoded, and what to do."""
    if isinstance(error, BadFile):
        return str(error)
    if isinstance(error, UnidentifiedImageError):
        with open(path, "rb") as file:
            start = file.read(256).lstrip().lower()
        if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<")):
            return "is a web page saved as an image: download the image itself"
        return "is not an image: replace or remove it"
    if isinstance(error, Image.DecompressionBombError):
        return "has far more pixels than any photo (a decompression bomb?): remove it"
    if isinstance(error, PermissionError | FileNotFoundError):
        return describe(error)
    return f"is damaged or cut off ({str(error).rstrip('.')}): copy or download it again"


class Decoded(NamedTuple):
    """What is told of one file; its pixels go straight into the arrays on disk."""

    phash: int = 0
    checksum: int = 0
    counts: np.ndarray | int = 0  # pixels of each class, of a mask
    notes: tuple[str, ...] = ()
    fault: tuple[str, str, bool] | None = None  # the file, the reason, whether the file is bad


def decode(image_path: str, mask_path: str | None, pixels, mask, crop: bool, needs_colour: bool) -> Decoded:
    """Decode an image (and its mask) into one row of the arrays, ``pixels`` (H, W, 3) and ``mask`` (H, W)."""
    reading = image_path
    try:
        image, full, notes = read_image(image_path, pixels.shape[:2], crop)
        if needs_colour and not has_colour(image):
            return Decoded(fault=(image_path, "is grey: no colour to learn from", False))
        if mask_path:
            reading = mask_path
            mask[:] = read_mask(mask_path, pixels.shape[:2], full)
    except Exception as error:  # whatever a decoder raises: the file is bad
        return Decoded(fault=(reading, explain(reading, error), True))
    pixels[:] = np.asarray(image)
    checksum = zlib.crc32(pixels)
    if not mask_path:
        return Decoded(phash(image), checksum, notes=notes)
    return Decoded(phash(image), zlib.crc32(mask, checksum), count_pixels(mask), notes)


def decode_into(folder: str, size: tuple, crop: bool, needs_colour: bool, jobs: list[tuple]) -> list[Decoded]:
    """Decode consecutive jobs (row, image path, mask path or None) into images.u8 and masks.u8 of ``folder``.

    Workers write the arrays themselves: sending them to the main process would take as long as resizing.
    Plain writes, not a writable map: so a full disk is an error and not a crash.
    """
    first, _, has_masks = jobs[0]
    pixels = np.zeros((len(jobs), *size, 3), np.uint8)
    masks = np.zeros((len(jobs), *size), np.uint8)
    told = [
        decode(image_path, mask_path, pixels[k], masks[k], crop, needs_colour)
        for k, (_, image_path, mask_path) in enumerate(jobs)
    ]
    for name, rows in (("images.u8", pixels), *([("masks.u8", masks)] if has_masks else [])):
        with open(os.path.join(folder, name), "r+b") as file:
            file.seek(first * rows[0].nbytes)
            file.write(rows)
    return told
