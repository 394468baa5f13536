"""Streets in the layout of the Lyft-Udacity challenge: folders dataA… with CameraRGB and CameraSeg."""

import os
from pathlib import Path, PurePosixPath

import numpy as np

from .listing import DataError, Item, LeftOut, Listing, check_root, folders, natural, walk

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
        look_alike = next(
            (folder for folder in folders(root, 3) if folder.name in ("CameraMask", "CameraSemSeg")), None
        )
        found = f"has {look_alike.name} instead, as CARLA 0.9 exports do" if look_alike else "has none"
        raise DataError(
            f"{root} {found}: the masks must be in CameraSeg, with Lyft's ids 0–12 in the red channel."
        )
    for key in sorted(images.keys() ^ masks.keys()):
        lone, other = (
            (images[key], "mask in CameraSeg") if key in images else (masks[key], "image in CameraRGB")
        )
        left_out.append(LeftOut(lone, f"has no {other} of the same name: add it or remove this one"))

    pairs = sorted(images.keys() & masks.keys(), key=lambda key: (natural(key[1]), key[0]))
    frames = list(dict.fromkeys(frame for _, frame in pairs))
    split = dict(zip(frames, split_frames(len(frames)), strict=True))
    gap = [
        LeftOut(images[key], "lies in the gap between two splits", False)
        for key in pairs
        if not split[key[1]]
    ]
    items = [Item(images[key], masks[key], split[key[1]]) for key in pairs if split[key[1]]]
    items.sort(key=lambda item: ("train", "valid", "test").index(item.split))
    return Listing("streets", root, CLASSES, items, stamps, left_out + gap, crop=False)


def split_frames(n: int) -> list[str | None]:
    """The split of each of ``n`` consecutive frames, None in the gaps: 80/10/10 in contiguous blocks.

    Neighbouring frames are near-copies, and so are frames of one name in different folders: both must stay
    on one side. The route is cut into stretches, each into train, gap, valid, gap, test, gap.
    """
    if n < 5:
        raise DataError(
            f"{n} usable frames are too few: train, valid, test and the gaps between them need at least 5."
        )
    stretches = BLOCKS if n >= 60 else 1
    gap = -(-n // 100)
    usable = n - gap * (3 * stretches - 1)
    small = [
        max(1, round(usable / 10 * (k + 1) / stretches) - round(usable / 10 * k / stretches))
        for k in range(stretches)
    ]
    train = usable - 2 * sum(small)
    split = []
    for k, few in enumerate(small):
        many = train * (k + 1) // stretches - train * k // stretches
        for name, count in (("train", many), ("valid", few), ("test", few)):
            split += [name] * count + [None] * gap
    return split[:n]


def bonnet_mask(masks: np.ndarray) -> np.ndarray:
    """Where (…, H, W) class ids show the bonnet of the camera's own car, bool of the same shape.

    Lyft labels it as Vehicles: in each column, the unbroken run of them from the bottom row up, within the
    lowest fifth (in the full-size frames it starts between rows 498 and 521 of 600).
    """
    vehicles = np.asarray(masks) == VEHICLES
    vehicles[..., : int(vehicles.shape[-2] * 0.8), :] = False
    return np.logical_and.accumulate(vehicles[..., ::-1, :], axis=-2)[..., ::-1, :]


def pixel_shares(counts: np.ndarray) -> dict[str, float]:
    """Pixel counts of the 13 classes and of the bonnet -> shares, the bonnet apart from other vehicles."""
    shares = dict(
        zip([*CLASSES, "Vehicles: own bonnet"], (counts / max(counts[:13].sum(), 1)).tolist(), strict=True)
    )
    shares["Vehicles"] -= shares["Vehicles: own bonnet"]
    return shares


def count_pixels(mask: np.ndarray) -> np.ndarray:
    """Pixels of each class in one mask, and of the bonnet last: int64 (14,)."""
    return np.append(np.bincount(mask.ravel(), minlength=13), bonnet_mask(mask).sum())
