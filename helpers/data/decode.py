"""One file -> one small uint8 array, read to the last byte."""

import io
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from .listing import DataError, Item, LeftOut, describe, starts_as_image
from .similar import phash

MAX_PIXELS = 90_000_000  # to be decoded: more take more memory than a photo ever needs
# Pillow refuses twice as many. A phone makes 200 million, which ``draft`` halves and halves again.
Image.MAX_IMAGE_PIXELS = 210_000_000
MIN_SIDE = 16
BITS = 258  # a TIFF's tags: bits of each value
MEANING = 262  # 0: the value 0 is white
PLANES = 284  # 2: red, green and blue lie apart
ORIENTATION = 0x0112  # the EXIF tag, and how each of its values is turned upright
TURNS = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}  # by the numbers in Image.Transpose
PNG = b"\x89PNG\r\n\x1a\n"
PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")  # chunks of a PNG; others only tell of it


class BadFile(ValueError):
    """A file that cannot be used; the message continues a sentence that begins with its name."""


def open_image(path, least=None):
    """Read an image to its last pixel, upright. Its metadata may be damaged, its pixels not.

    Its ``info`` says "turned" where EXIF asked for it.

    Args:
        least: libjpeg may shrink a JPEG while it decodes, to sides of at least so many pixels.

    Raises:
        BadFile: a size that no photo has, or damage that Pillow overlooks.
    """
    with open(path, "rb") as file:
        bare = bare_png(file)
        file.seek(0)
        try:
            return load(file, least)
        except Exception:  # perhaps the metadata's
            if bare is None:
                raise
        return load(io.BytesIO(bare), least)


def bare_png(file):
    """The bytes of a PNG without its metadata; None for another format.

    Raises BadFile for a wrong checksum. Pillow doesn't compare those of pixels.
    """
    if file.read(len(PNG)) != PNG:
        return None
    bare = bytearray(PNG)
    while head := file.read(8):
        kind = head[4:]
        rest = file.read(int.from_bytes(head[:4]) + 4)
        if kind in PIXELS:
            bare += head + rest
            if zlib.crc32(kind + rest[:-4]) != int.from_bytes(rest[-4:]):
                raise BadFile("is damaged or cut off (checksum): copy or download it again")
    return bare


def load(file, least):
    """As ``open_image``, but takes an open file."""
    image = Image.open(file)
    found = f"{image.width}×{image.height} pixels"
    if min(image.size) < MIN_SIDE:
        raise BadFile(f"has only {found}, too few (at least {MIN_SIDE} a side): replace it")
    if least:
        image.draft(None, (least, least))
    if image.width * image.height > MAX_PIXELS:
        raise BadFile(
            f"has {found}, more than any photo (a decompression bomb?): remove it or shrink it"
        )

    tags = getattr(image, "tag_v2", {})  # of a TIFF
    if max(tags.get(BITS, (8,))) > 8 and (tags.get(MEANING) == 0 or tags.get(PLANES) == 2):
        raise BadFile("is a 16-bit TIFF of a rare kind (planes, or 0 is white): save 8-bit PNG")
    upper_bytes = ";16" in str(image.tile)  # are what Pillow keeps of colours of 16 bits
    turned = orientation_of(image) in TURNS  # a TIFF is turned while it is loaded
    image.load()
    if upper_bytes and not is_deep(image):
        check_range(image.convert("RGB"), 255)
    orientation = orientation_of(image)
    if orientation in TURNS:
        kind = image.format
        image = image.transpose(TURNS[orientation])
        image.format = kind
        turned = True
    if turned:
        image.info["turned"] = True
    return image


def orientation_of(image):
    try:
        return image.getexif().get(ORIENTATION)
    except Exception:  # whatever a parser raises, the pixels are whole
        return None


def is_deep(image):
    """Whether an image is grey of more than 8 bits, or of fractions."""
    return image.mode[0] in "IF"


def check_range(image, white):
    """Raise BadFile where ``white`` can't be white. What is can't be told from one file."""
    values = np.asarray(image)
    if not (values.min() >= 0 and white / 4 <= values.max() <= 1.001 * white):  # nor nan
        raise BadFile(
            f"has values outside of 0 to {white}, or none above a quarter of that (12 bits?): "
            "scale all files alike, and save them as 8-bit PNG"
        )


def to_rgb(image):
    """Any mode -> RGB. More than 8 bits are scaled down, and transparency is laid on white.

    Of whole numbers 65535 is white, of fractions 1. Raises BadFile where that can't be.
    """
    if is_deep(image):
        white = 1 if image.mode == "F" else 65535
        check_range(image, white)
        values = np.asarray(image, np.float32) * (255 / white)
        return Image.fromarray(values.round().astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def read_image(path, size, crop):
    """Read an image upright, in RGB, at ``size`` (height, width).

    Returns:
        The image, its full size (width, height) unless it is cropped, and a list of what had to be
        converted.
    """
    height, width = size
    notes = []
    # A mask must have the full size of its image.
    with open_image(path, max(size) if crop else None) as image:
        suffix = Path(path).suffix.lower()
        if image.format not in (Image.registered_extensions().get(suffix), "MPO"):
            notes.append(f"{image.format} named {suffix or 'without suffix'}")
        if "turned" in image.info:
            notes.append("turned upright (EXIF)")
            if not crop:
                raise BadFile("is turned by EXIF, which no mask is: save both upright")
        if image.mode != "RGB":
            notes.append(f"{image.mode} to RGB")
        rgb = to_rgb(image)

    if not crop:
        return rgb.resize((width, height), Image.Resampling.BILINEAR), rgb.size, notes
    if rgb.width * height != rgb.height * width:
        notes.append("cropped to the centre")
    return ImageOps.fit(rgb, (width, height), Image.Resampling.BILINEAR), rgb.size, notes


def is_grey(image):
    """Whether a photo is grey, however it is stored: hardly a pixel's channels differ visibly."""
    channels = np.asarray(image).astype(np.int16)
    spread = np.ptp(channels, axis=-1)  # (H, W)
    return np.quantile(spread, 0.99) <= 6


def explain(path, error):
    """Why a file could not be decoded, and what to do. DataError: the system cannot read it."""
    if isinstance(error, BadFile):
        return str(error)
    if isinstance(error, UnidentifiedImageError):
        with open(path, "rb") as file:
            if file.read(256).lstrip().startswith(b"<"):
                return "is a web page saved as an image: download the image itself"
        if starts_as_image(path):
            return "is damaged, or of a kind that is not read: save it as 8-bit PNG or JPEG"
        return "is not an image: replace or remove it"
    if isinstance(error, Image.DecompressionBombError):
        return "has far more pixels than any photo (a decompression bomb?): remove it"
    if isinstance(error, OSError) and error.errno:
        # No cache may remember it: this can change while the file stays as it is.
        raise DataError(f"{path} {describe(error)}.") from error
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

    Raises:
        DataError: the system cannot read a file.
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
