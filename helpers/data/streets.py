"""Streets in the layout of the Lyft-Udacity challenge: dataA, … with CameraRGB and CameraSeg."""

import math
from collections import defaultdict
from pathlib import PurePosixPath

import numpy as np
from PIL import Image, ImageColor

from .decode import BadFile, open_image
from .listing import SPLITS, DataError, Item, LeftOut, Listing, folders, natural, sum_up, walk

WANTED = "folders such as dataA with CameraRGB and CameraSeg inside"
COLOURS = {
    "None": "#000000",
    "Buildings": "#464646",
    "Fences": "#be9999",
    "Other": "#48005a",
    "Pedestrians": "#dc143c",
    "Poles": "#999999",
    "RoadLines": "#9dea32",
    "Roads": "#804080",
    "Sidewalks": "#f423e8",
    "Vegetation": "#6b8e23",
    "Vehicles": "#0000ff",
    "Walls": "#66669c",
    "TrafficSigns": "#dcdc00",
}
CLASSES = list(COLOURS)
PALETTE = np.array([ImageColor.getrgb(colour) for colour in COLOURS.values()], dtype=np.uint8)
VEHICLES = CLASSES.index("Vehicles")
SECOND = 10  # frames: about a second, which shows nearly the same, is one piece of evidence
BLOCKS = 3  # blocks of frames in each split, so that the test set is not one end of the route


def looks_right(folder):
    """Whether ``folder`` holds dataA, dataB, …, or is the only such set where it lies."""
    top = folder
    if folder.parent.name == folder.name:  # dataA/dataA, as the Kaggle archive unpacks
        top = folder.parent
    if holds_pairs(top):
        return not any(holds_pairs(other) for other in folders(top.parent, 1) if other != top)
    return any(holds_pairs(child) for child in folders(folder, 1))


def holds_pairs(folder):
    return (folder / "CameraRGB").is_dir() or (folder / f"{folder.name}/CameraRGB").is_dir()


def scan(root, classes):
    """Pair images and masks by name, and split them by blocks of frame names."""
    stamps, left_out = walk(root)
    frames = find_frames(root, stamps, left_out)
    if len(frames) < 5:
        raise DataError(
            f"{root}: {len(frames)} usable frames are too few: train, valid, test and the gaps "
            f"between them need at least 5 ({sum_up(left_out, root)})."
        )

    unit = "blocks of frames"
    length = SECOND
    if (root / ".drawn").exists():  # a synthetic set, whose frames are unlike each other
        unit = "scenes"
        length = 1
    items = []
    splits = split_frames(len(frames))
    start = 0  # of the frames in one split without a gap
    for number, frame in enumerate(sorted(frames, key=natural)):
        split = splits[number]
        if split != splits[start]:
            start = number
        group = number - (number - start) % length  # the first frame of this one's second
        for image, mask in frames[frame]:
            if split:
                items.append(Item(image, mask, split, group))
            else:
                left_out.append(LeftOut(image, "lies in the gap between two splits", False))
    items.sort(key=lambda item: SPLITS.index(item.split))
    return Listing(
        "streets",
        root,
        CLASSES,
        items,
        stamps,
        left_out,
        read_mask=read_mask,
        measure=shares_of,
        unit=unit,
    )


def find_frames(root, stamps, left_out):
    """{frame: its (image, mask) in each folder}. Files without a partner go to ``left_out``."""
    images = {}  # (folder, frame) -> path
    masks = {}
    sides = {"CameraRGB": images, "CameraSeg": masks}
    for path in stamps:
        *above, side, file = PurePosixPath("/", path).parts
        if side in sides:
            key = ("/".join(dict.fromkeys(above)), PurePosixPath(file).stem)  # dataA/dataA is dataA
            twin = sides[side].setdefault(key, path)
            if twin != path:
                left_out.append(
                    LeftOut(path, f"shows the same frame as {twin}: remove one of them")
                )

    if images and not masks:
        raise DataError(
            f"{root} has images only: the masks must be in CameraSeg, with Lyft's ids 0–12 in red. "
            "CARLA 0.9 exports them as CameraMask or CameraSemSeg, with other ids: re-label those."
        )

    frames = defaultdict(list)
    for key in sorted(images.keys() | masks.keys()):
        image = images.get(key)
        mask = masks.get(key)
        if image and mask:
            frames[key[1]].append((image, mask))
        else:
            other = "mask in CameraSeg" if image else "image in CameraRGB"
            left_out.append(
                LeftOut(
                    image or mask, f"has no {other} of the same name: add it or remove this one"
                )
            )
    return frames


def split_frames(count):
    """The split of each of ``count`` consecutive frames, None in the gaps.

    Neighbouring frames are near-copies, and so are frames of one name in different folders, so
    both must stay in one split. The route is cut into stretches, and each of these into train,
    gap, valid, gap, test, gap. Without the gaps that is 80 %, 10 % and 10 % of the frames.
    """
    stretches = BLOCKS if count >= 60 else 1
    gap = math.ceil(count / 100)
    usable = count - gap * (3 * stretches - 1)
    ends = np.arange(stretches + 1)
    tenths = np.diff(np.rint(usable * ends / stretches / 10))
    few = tenths.clip(1).astype(int)  # (stretches,) frames of valid, and as many of test
    many = np.diff((usable - 2 * few.sum()) * ends // stretches)  # frames of train
    split = []
    for train, rest in zip(many, few, strict=True):
        for name, length in zip(SPLITS, (train, rest, rest), strict=True):
            split += [name] * length + [None] * gap
    return split[:count]


def read_mask(path, size, full):
    """Read class ids 0–12, uint8 (H, W), resized as PIL's NEAREST does: no label is invented.

    Args:
        size: (height, width) wanted.
        full: (width, height) of the image, which its mask must share.
    """
    with open_image(path) as mask:
        if mask.format == "JPEG":
            raise BadFile("is a JPEG, whose compression blurs class ids: save masks as PNG")
        if mask.size != full:
            raise BadFile(
                f"is {mask.width}×{mask.height} but its image is {full[0]}×{full[1]}: "
                "export both at one size"
            )
        if mask.mode == "RGBA":
            raise BadFile(
                "is an RGBA mask as CARLA 0.9 exports: re-label it, with Lyft's ids 0–12 in red"
            )
        if mask.mode not in ("RGB", "L", "P"):
            raise BadFile(
                f"has mode {mask.mode}, no class ids: save an 8-bit PNG with the ids in red"
            )
        ids = np.asarray(mask)

    if ids.ndim == 3:
        red = ids[..., 0]
        others = ids[..., 1:]
        if others.any() and (others != red[..., None]).any():
            raise BadFile("holds colours, not class ids: map each colour to its id in red")
        ids = red
    if ids.max() >= len(CLASSES):
        raise BadFile(
            f"has class id {ids.max()}, but Lyft has 0–12; is it of CARLA 0.9? Re-label it"
        )
    return np.asarray(Image.fromarray(ids).resize(size[::-1], Image.Resampling.NEAREST))


def bonnet_mask(masks):
    """Where (…, H, W) class ids show the bonnet of the camera's own car: bool, the same shape.

    Lyft labels it as Vehicles. It is the unbroken run of them in each column from the bottom row
    up, within the lowest fifth. In the full-size frames it starts between rows 498 and 521 of 600.
    """
    vehicles = np.asarray(masks) == VEHICLES
    vehicles[..., : int(0.8 * vehicles.shape[-2]), :] = False
    upwards = vehicles[..., ::-1, :]
    return np.logical_and.accumulate(upwards, axis=-2)[..., ::-1, :]


def shares_of(masks):
    """{class: share of all pixels} of (H, W) class ids, the bonnet apart from other vehicles."""
    counts = np.zeros(len(CLASSES))
    bonnet = 0
    for mask in masks:
        counts += np.bincount(mask.ravel(), minlength=len(CLASSES))
        bonnet += bonnet_mask(mask).sum()
    pixels = counts.sum()
    shares = dict(zip(CLASSES, counts / pixels, strict=True))
    shares["Vehicles: own bonnet"] = bonnet / pixels
    shares["Vehicles"] -= shares["Vehicles: own bonnet"]
    return shares
