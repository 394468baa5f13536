"""Streets in the layout of the Lyft-Udacity challenge: folders dataA… with CameraRGB and CameraSeg."""

import os
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from .decode import BadFile, open_image
from .listing import SPLITS, DataError, Item, LeftOut, Listing, folders, natural, sum_up, walk

WANTED = "folders such as dataA with CameraRGB and CameraSeg inside"
COLOURS = {
    "None": (0, 0, 0), "Buildings": (70, 70, 70), "Fences": (190, 153, 153), "Other": (72, 0, 90),
    "Pedestrians": (220, 20, 60), "Poles": (153, 153, 153), "RoadLines": (157, 234, 50),
    "Roads": (128, 64, 128), "Sidewalks": (244, 35, 232), "Vegetation": (107, 142, 35),
    "Vehicles": (0, 0, 255), "Walls": (102, 102, 156), "TrafficSigns": (220, 220, 0),
}  # fmt: skip
CLASSES, PALETTE = list(COLOURS), np.array(list(COLOURS.values()), dtype=np.uint8)
VEHICLES = CLASSES.index("Vehicles")
SECOND = 10  # frames of about a second show nearly the same: together they are one piece of evidence
BLOCKS = 3  # blocks of frames in each split, so that the test part is not one end of the route


def looks_right(folder: Path) -> bool:
    top = folder.parent if folder.parent.name == folder.name else folder
    if holds_pairs(top) or holds_pairs(folder):  # one set alone is fine, unless its brothers lie beside it
        beside = top.parent.iterdir() if os.access(top.parent, os.R_OK) else ()
        return not any(holds_pairs(brother) for brother in beside if brother != top)
    return any(map(holds_pairs, folder.iterdir()))


def holds_pairs(folder: Path) -> bool:
    return (folder / "CameraRGB").is_dir() or (folder / folder.name / "CameraRGB").is_dir()


def scan(root: Path, classes: None = None) -> Listing:
    """Pair images and masks by name, and split by blocks of frame names."""
    stamps, left_out = walk(root)
    sides = {"CameraRGB": {}, "CameraSeg": {}}  # of each: (folder, frame) -> path
    for path in stamps:
        *folders_above, side, file = PurePosixPath("/", path).parts
        if side in sides:  # dataA/dataA, as the Kaggle archive unpacks, is dataA
            key = "/".join(dict.fromkeys(folders_above)), PurePosixPath(file).stem
            if (twin := sides[side].setdefault(key, path)) != path:
                left_out.append(LeftOut(path, f"shows the same frame as {twin}: remove one of them"))
    images, masks = sides.values()
    if images and not masks:
        carla = next((f for f in folders(root, 3) if f.name in ("CameraMask", "CameraSemSeg")), None)
        found = f"has {carla.name} instead, as CARLA 0.9 exports do" if carla else "has none"
        raise DataError(f"{root} {found}: the masks must be in CameraSeg, with Lyft's ids 0–12 in red.")
    for key in sorted(images.keys() ^ masks.keys()):
        other = "mask in CameraSeg" if key in images else "image in CameraRGB"
        reason = f"has no {other} of the same name: add it or remove this one"
        left_out.append(LeftOut(images.get(key) or masks[key], reason))

    pairs = sorted(images.keys() & masks.keys(), key=lambda key: (natural(key[1]), key[0]))
    frames = list(dict.fromkeys(frame for _, frame in pairs))
    if len(frames) < 5:
        needed, why = "train, valid, test and the gaps between them need at least 5", sum_up(left_out, root)
        raise DataError(f"{root}: {len(frames)} usable frames are too few: {needed} ({why}).")
    unit, length = ("scenes", 1) if (root / ".drawn").exists() else ("blocks of frames", SECOND)
    blocks = {}  # of each frame: its split, and the first frame of its block
    for split, stretch in groupby(enumerate(split_frames(len(frames))), key=lambda frame: frame[1]):
        for k, (i, _) in enumerate(stretch):
            blocks[frames[i]] = split, i - k % length
    items = [Item(images[key], masks[key], *blocks[key[1]]) for key in pairs]
    gap = "lies in the gap between two splits"
    left_out += [LeftOut(item.image, gap, False) for item in items if not item.split]
    items = [item for split in SPLITS for item in items if item.split == split]
    rules = {"crop": False, "read_mask": read_mask, "measure": shares_of, "unit": unit}
    return Listing("streets", root, CLASSES, items, stamps, left_out, **rules)


def split_frames(n: int) -> list[str | None]:
    """The split of each of ``n`` consecutive frames, None in the gaps: 80/10/10 in contiguous blocks.

    Neighbouring frames are near-copies, and so are frames of one name in different folders: both must stay
    on one side. The route is cut into stretches, each into train, gap, valid, gap, test, gap.
    """
    stretches, gap = BLOCKS if n >= 60 else 1, -(-n // 100)
    usable, ends = n - gap * (3 * stretches - 1), np.arange(stretches + 1)
    few = np.diff(np.rint(usable * ends / stretches / 10)).clip(1).astype(int)  # of valid, and of test
    many = np.diff((usable - 2 * few.sum()) * ends // stretches)
    split = []
    for counts in zip(many, few, few, strict=True):
        for name, count in zip(SPLITS, counts, strict=True):
            split += [name] * count + [None] * gap
    return split[:n]


def read_mask(path: str, size: tuple[int, int], full: tuple[int, int]) -> np.ndarray:
    """Class ids 0–12, uint8 (H, W), resized as PIL's NEAREST does: no label that was not there."""
    with open_image(path) as mask:
        if mask.format == "JPEG":
            raise BadFile("is a JPEG, whose compression blurs class ids: save masks as PNG")
        if mask.size != full:
            (w, h), (W, H) = mask.size, full
            raise BadFile(f"is {w}×{h} but its image is {W}×{H}: export both at one size")
        if mask.mode == "RGBA":
            raise BadFile("is an RGBA mask as CARLA 0.9 exports: re-label it, with Lyft's ids 0–12 in red")
        if mask.mode not in ("RGB", "L", "P"):
            raise BadFile(f"has mode {mask.mode}, no class ids: save an 8-bit PNG with the ids in red")
        ids = np.asarray(mask)
        if mask.mode == "RGB":
            rest = ids[..., 1:]
            if rest.any() and (rest != ids[..., :1]).any():
                raise BadFile("holds colours, not class ids: map each colour to its id in red")
            ids = ids[..., 0]
        if ids.max() >= len(CLASSES):
            raise BadFile(f"has class id {ids.max()}, but Lyft has 0–12; is it of CARLA 0.9? Re-label it")
        return np.asarray(Image.fromarray(ids).resize(size[::-1], Image.Resampling.NEAREST))


def bonnet_mask(masks: np.ndarray) -> np.ndarray:
    """Where (…, H, W) class ids show the bonnet of the camera's own car, bool of the same shape.

    Lyft labels it as Vehicles: in each column, the unbroken run of them from the bottom row up, within the
    lowest fifth (in the full-size frames it starts between rows 498 and 521 of 600).
    """
    vehicles = np.asarray(masks) == VEHICLES
    vehicles[..., : int(vehicles.shape[-2] * 0.8), :] = False
    return np.logical_and.accumulate(vehicles[..., ::-1, :], axis=-2)[..., ::-1, :]


def shares_of(masks: Iterable[np.ndarray]) -> dict[str, float]:
    """Shares of all pixels of (H, W) class ids, the bonnet apart from other vehicles."""
    counts = np.zeros(len(CLASSES) + 1)
    for mask in masks:
        counts += [*np.bincount(mask.ravel(), minlength=len(CLASSES)), bonnet_mask(mask).sum()]
    shares = dict(zip([*CLASSES, "Vehicles: own bonnet"], counts / max(counts[:-1].sum(), 1), strict=True))
    shares["Vehicles"] -= shares["Vehicles: own bonnet"]
    return shares
