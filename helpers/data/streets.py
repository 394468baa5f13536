"""Streets in the layout of the Lyft-Udacity challenge: folders dataA… with CameraRGB and CameraSeg."""

import itertools
import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from .decode import BadFile, open_image
from .listing import SPLITS, DataError, Item, LeftOut, Listing, check_root, folders, natural, sum_up, walk

WANTED = "folders such as dataA with CameraRGB and CameraSeg inside"
CLASSES = [
    "None", "Buildings", "Fences", "Other", "Pedestrians", "Poles", "RoadLines", "Roads", "Sidewalks",
    "Vegetation", "Vehicles", "Walls", "TrafficSigns",
]  # fmt: skip
PALETTE = np.array(
    [(0, 0, 0), (70, 70, 70), (190, 153, 153), (72, 0, 90), (220, 20, 60), (153, 153, 153), (157, 234, 50),
     (128, 64, 128), (244, 35, 232), (107, 142, 35), (0, 0, 255), (102, 102, 156), (220, 220, 0)],
    dtype=np.uint8,
)  # fmt: skip
VEHICLES = CLASSES.index("Vehicles")
BLOCKS = 3  # blocks of frames in each split, so that the test part is not one end of the route


def looks_right(folder: Path) -> bool:
    top = folder.parent if folder.parent.name == folder.name else folder
    if holds_pairs(top) or holds_pairs(folder):  # one set alone is fine, unless its brothers lie beside it
        beside = top.parent.iterdir() if os.access(top.parent, os.R_OK) else ()
        return not any(holds_pairs(brother) for brother in beside if brother != top)
    return any(holds_pairs(child) for child in folder.iterdir())


def holds_pairs(folder: Path) -> bool:
    return (folder / "CameraRGB").is_dir() or (folder / folder.name / "CameraRGB").is_dir()


def unnest(folder: PurePosixPath | Path) -> str:
    """``dataA/dataA`` (as the Kaggle archive unpacks) -> ``dataA``."""
    return "/".join(dict.fromkeys(folder.parts))


def scan(root: Path, classes: None = None) -> Listing:
    """Pair images and masks by name, and split by blocks of frame names."""
    check_root(root, looks_right, WANTED)
    stamps, left_out = walk(root)
    images, masks = {}, {}  # (folder, frame) -> path
    for path in map(PurePosixPath, stamps):
        if path.parent.name in ("CameraRGB", "CameraSeg"):
            side = images if path.parent.name == "CameraRGB" else masks
            twin = side.setdefault((unnest(path.parent.parent), path.stem), str(path))
            if twin != str(path):
                left_out.append(LeftOut(str(path), f"shows the same frame as {twin}: remove one of them"))
    if images and not masks:
        carla = next((f for f in folders(root, 3) if f.name in ("CameraMask", "CameraSemSeg")), None)
        found = f"has {carla.name} instead, as CARLA 0.9 exports do" if carla else "has none"
        raise DataError(f"{root} {found}: the masks must be in CameraSeg, with Lyft's ids 0–12 in red.")
    for key in sorted(images.keys() ^ masks.keys()):
        lone = images.get(key) or masks[key]
        other = "mask in CameraSeg" if key in images else "image in CameraRGB"
        left_out.append(LeftOut(lone, f"has no {other} of the same name: add it or remove this one"))

    pairs = sorted(images.keys() & masks.keys(), key=lambda key: (natural(key[1]), key[0]))
    frames = list(dict.fromkeys(frame for _, frame in pairs))
    if len(frames) < 5:
        raise DataError(
            f"{root}: {len(frames)} usable frames are too few: train, valid, test and the gaps between them "
            f"need at least 5 ({sum_up(left_out, root)})."
        )
    split, items = dict(zip(frames, split_frames(len(frames)), strict=True)), []
    for key in pairs:
        if side := split[key[1]]:
            items.append(Item(images[key], masks[key], side))
        else:
            left_out.append(LeftOut(images[key], "lies in the gap between two splits", False))
    items.sort(key=lambda item: SPLITS.index(item.split))
    return Listing(
        "streets", root, CLASSES, items, stamps, left_out, crop=False, read_mask=read_mask, measure=shares_of
    )


def split_frames(n: int) -> list[str | None]:
    """The split of each of ``n`` consecutive frames, None in the gaps: 80/10/10 in contiguous blocks.

    Neighbouring frames are near-copies, and so are frames of one name in different folders: both must stay
    on one side. The route is cut into stretches, each into train, gap, valid, gap, test, gap.
    """
    stretches = BLOCKS if n >= 60 else 1
    gap = -(-n // 100)
    usable = n - gap * (3 * stretches - 1)
    bounds = [usable * k / stretches for k in range(stretches + 1)]
    small = [max(1, round(b / 10) - round(a / 10)) for a, b in itertools.pairwise(bounds)]
    train = usable - 2 * sum(small)
    split = []
    for k, few in enumerate(small):
        many = train * (k + 1) // stretches - train * k // stretches
        for name, count in (("train", many), ("valid", few), ("test", few)):
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
        if mask.mode == "RGB":
            red, green, blue = mask.split()
            only_red = green.getextrema() == blue.getextrema() == (0, 0)
            if not only_red and not red.tobytes() == green.tobytes() == blue.tobytes():
                raise BadFile("holds colours, not class ids: map each colour to its id in red")
            mask = red
        elif mask.mode not in ("L", "P"):
            raise BadFile(f"has mode {mask.mode}, no class ids: save an 8-bit PNG with the ids in red")
        highest = int(np.asarray(mask).max())
        if highest >= len(CLASSES):
            raise BadFile(f"has class id {highest}, but Lyft has 0–12; is it of CARLA 0.9? Re-label it")
        return np.asarray(mask.resize(size[::-1], Image.Resampling.NEAREST))


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
