"""Masks: what their ids and colours mean, and how they are read."""

import csv
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageColor

from helpers import VOID, plural

from .decode import BadFile, open_image
from .listing import DataError

NUMBERS = ("id", "red", "green", "blue")  # columns of classes.csv, beside the name
NOWHERE = ("void", "unlabeled", "unlabelled", "ignore")  # names of what counts nowhere
LOSSY = ("JPEG", "MPO", "WEBP", "AVIF", "DDS", "BLP")
# For classes without a colour: Okabe and Ito's, which colour-blind readers tell apart, and more.
SPARE = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#f0e442"]
SPARE += [f"hsl({137 * i % 360}, 70%, {25 + 37 * i % 50}%)" for i in range(VOID)]


class Table(NamedTuple):
    """The class that each id and each colour in masks stands for: its name, or "void"."""

    ids: dict
    colours: dict
    stranger: str = "which has no class: name all ids in classes.csv"  # is said of other ids
    own: bool = True  # the user's; False: Lyft's

    @property
    def classes(self):
        return [name for name in self.ids.values() if name != "void"]

    @property
    def own_ids(self):
        return [key for key, name in self.ids.items() if name != "void"]

    @property
    def palette(self):
        """(C, 3) uint8: the red, green and blue of each class in masks, or a spare colour."""
        own = {name: colour for colour, name in self.colours.items()}
        spare = map(ImageColor.getrgb, SPARE)
        return np.array([own.get(name, next(spare)) for name in self.classes], np.uint8)


def read_table(file):
    """The Table in classes.csv: columns id, name and, for masks in colours, red, green and blue.

    Void are the id 255 and the names in NOWHERE. Raises DataError.
    """
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not in UTF-8: save it as CSV UTF-8.") from error
    rows = csv.DictReader(lines, delimiter=max(",;\t", key="".join(lines[:1]).count))
    rows.fieldnames = [column.strip().lower() for column in rows.fieldnames or []]
    table = Table({}, {})
    for row in filter(lambda row: any(row.values()), rows):
        name = (row.get("name") or "").strip()
        try:
            numbers = bytes(int(row[column]) for column in NUMBERS if row.get(column))
        except ValueError:  # no number, or not from 0 to 255
            numbers = b""
        key, *colour = numbers or [None]
        colour = tuple(colour)
        if key == VOID or name.lower() in NOWHERE:
            name = "void"
        known = key in table.ids or name in table.classes or colour in table.colours
        if not name or len(numbers) not in (1, 4) or known:
            raise DataError(
                f"{file}, line {rows.line_num}, must hold an id and a name, and red, green and "
                "blue or none of them, in columns with these titles: numbers from 0 to 255, and "
                "no id, name or colour twice."
            )
        table.ids[key] = name
        if colour:
            table.colours[colour] = name
    if len(table.classes) < 2:
        raise DataError(f"{file} names no two classes beside void, which 255 is: give each a line.")
    return table


def read_mask(path, size, full, table):
    """Read class numbers and VOID, uint8 (H, W), resized as PIL's NEAREST does: none is invented.

    Args:
        size: (height, width) wanted.
        full: (width, height) of the image, which its mask must share.
    """
    with open_image(path) as mask:
        mode = mask.mode
        rgb = to_plain_rgb(mask)
    if rgb.size != full:
        raise BadFile(
            f"is {rgb.width}×{rgb.height} but its image is {full[0]}×{full[1]}: "
            "export both at one size"
        )
    meaning = look_up(rgb, table)
    if mode == "RGBA" and ids_of(meaning) and not table.own:
        raise BadFile(
            "is an RGBA mask as CARLA 0.9 exports, whose ids have other meanings: re-label it, or "
            "name all ids in classes.csv"
        )
    pixels = np.asarray(rgb.resize(size[::-1], Image.Resampling.NEAREST))
    found = np.full(size, VOID, np.uint8)
    for colour, name in meaning.items():
        if name != "void":
            found[(pixels == colour).all(-1)] = table.classes.index(name)
    return found


def to_plain_rgb(mask):
    """An opened mask in RGB: colours, or ids in red or grey. A palette's indexes mean nothing.

    Raises BadFile where labels may have been lost.
    """
    kind = f"{mask.format} {mask.info.get('compression', '')}".strip().upper()
    if any(name in kind for name in LOSSY):
        raise BadFile(f"is a {kind}, whose compression blurs class ids: save masks as PNG")
    if mask.mode.startswith("I") and mask.getextrema()[1] <= VOID:
        mask = Image.fromarray(np.asarray(mask).astype(np.uint8))  # -1 becomes VOID
    solid = mask.mode.endswith("A") and mask.getextrema()[-1] == (255, 255)
    if not solid and mask.mode not in ("1", "L", "P", "RGB"):
        raise BadFile(
            f"has mode {mask.mode} with transparent pixels or other ids than 0 to 255: save an "
            "8-bit PNG with the ids in red"
        )
    rgb = mask.convert("RGB")
    if mask.mode == "P" and len(mask.getcolors()) > len(rgb.getcolors()):
        raise BadFile("has one colour for several indexes: save the ids as an 8-bit grey PNG")
    return rgb


def look_up(rgb, table):
    """{colour: class} of all colours in a mask, by the colours of ``table`` or else by its ids.

    Raises BadFile.
    """
    counts = rgb.getcolors(rgb.width * rgb.height)  # (pixels, colour) of each colour
    colours = [colour for _, colour in counts]
    ids = ids_of(colours)
    names = [table.colours.get(colour) for colour in colours]
    if None in names and ids:
        meaning = {VOID: "void"} | table.ids
        names = [meaning.get(key) for key in ids]
    if None not in names:
        return dict(zip(colours, names, strict=True))
    unknown = [pair for pair, name in zip(counts, names, strict=True) if name is None]
    pixels, colour = max(unknown)
    if ids:
        raise BadFile(f"has class id {colour[0]}, {table.stranger}")
    raise BadFile(
        f"has the colour {colour} in {plural(pixels, 'pixel')}, which no class has: give each "
        "class its colour in classes.csv, and don't smooth masks"
    )


def ids_of(colours):
    """The ids that stand in red, or in grey. Nothing where there is any other colour."""
    plain = all(green == blue and green in (0, red) for red, green, blue in colours)
    return [red for red, _, _ in colours if plain]
