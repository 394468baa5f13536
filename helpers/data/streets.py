"""Streets in the layout of the Lyft-Udacity challenge: dataA, … with CameraRGB and CameraSeg."""

import contextlib
import math
from collections import defaultdict
from functools import partial
from pathlib import PurePosixPath

import numpy as np
from PIL import ImageColor

from helpers import VOID

from .decode import open_image
from .listing import SPLITS, DataError, Item, LeftOut, Listing, folders, natural, sum_up, walk
from .masks import Table, ids_of, read_mask, read_table, to_plain_rgb

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
LYFT = Table(
    dict(enumerate(CLASSES)),
    {ImageColor.getrgb(colour): name for name, colour in COLOURS.items()},
    "but Lyft has 0–12; is it of CARLA 0.9? Re-label it, or name all ids in classes.csv",
    own=False,
)
SIDES = {"CameraRGB", "CameraSeg"}
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

    tables = [entry for entry in left_out if PurePosixPath(entry.file).name == "classes.csv"]
    if tables:
        table = read_table(root / tables[0].file)
        left_out = [entry for entry in left_out if entry not in tables]
    else:
        table = find_table(root, [mask for pairs in frames.values() for _, mask in pairs])

    unit = "blocks of frames"
    length = SECOND
    if (root / ".drawn").exists():  # a synthetic set, whose frames are unlike each other
        unit = "scenes"
        length = 1
    items = []
    splits = split_frames(len(frames))
    stretch = None  # a clip and a split, of frames without a gap
    for number, frame in enumerate(sorted(frames, key=natural)):
        split = splits[number]
        clip, _, _ = frame.rpartition("/")
        if (clip, split) != stretch:
            stretch = (clip, split)
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
        table.classes,
        items,
        stamps,
        left_out,
        table=table,
        read_mask=partial(read_mask, table=table),
        measure=partial(shares_of, table=table, root=root),
        unit=unit,
    )


def find_frames(root, stamps, left_out):
    """{frame: its (image, mask) in each folder}. Files without a partner go to ``left_out``.

    A frame is called as its file or, in a folder of CameraRGB, "clip1/000".
    """
    pairs = defaultdict(dict)  # (folder, frame) -> {side: path}
    for path in stamps:
        parts = PurePosixPath("/", path).with_suffix("").parts
        for side in SIDES.intersection(parts[:-1]):
            at = parts.index(side)
            folder = "/".join(dict.fromkeys(parts[:at]))  # dataA/dataA is dataA
            twin = pairs[folder, "/".join(parts[at + 1 :])].setdefault(side, path)
            if twin != path:
                left_out.append(
                    LeftOut(path, f"shows the same frame as {twin}: remove one of them")
                )

    if pairs and not any("CameraSeg" in pair for pair in pairs.values()):
        raise DataError(
            f"{root} has images only: the masks must be in CameraSeg, as PNG, with Lyft's ids 0–12 "
            "in red or a classes.csv. CARLA 0.9 exports them as CameraMask or CameraSemSeg, with "
            f"other ids: re-label those ({sum_up(left_out, root)})."
        )

    frames = defaultdict(list)
    for (_, frame), pair in sorted(pairs.items()):
        if len(pair) == 2:
            frames[frame].append((pair["CameraRGB"], pair["CameraSeg"]))
            continue
        ((side, path),) = pair.items()
        (other,) = SIDES - {side}
        reason = f"has no image in {other} of the same name, such as a PNG: add it or remove this"
        left_out.append(LeftOut(path, reason))
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


def find_table(root, masks):
    """What ids mean without a classes.csv, from up to 300 masks: those of Lyft, or others.

    Ids 0–12 are Lyft's classes. Where all masks hold 0 and 255 alone, or more than a quarter hold
    ids that Lyft has not, each id found is a class of its own, "class 17". A few such masks are
    errors, and so are RGBA ones: those are CARLA 0.9's, whose ids have other meanings.
    """
    for most in (20, 300):
        seen = []  # the ids of each mask
        for path in masks[:: math.ceil(len(masks) / most)]:
            # What cannot be read is told of when it is decoded.
            with contextlib.suppress(Exception), open_image(f"{root}/{path}") as mask:
                if mask.mode != "RGBA":
                    counts = to_plain_rgb(mask).getcolors(64) or []  # more are no ids
                    seen.append(set(ids_of([colour for _, colour in counts])))
        found = set().union(*seen)
        strange = [ids for ids in seen if ids - {*LYFT.ids, VOID}]
        if found != {0, VOID} and 4 * len(strange) <= len(seen):
            return LYFT
    if found != {0, VOID}:
        found.discard(VOID)
    ids = {key: f"class {key}" for key in sorted(found)}
    lines = f"id,name and one like {max(ids)},car for each"
    if VOID in ids:
        lines = "id,name,red,green,blue and 0,ground,0,0,0 and 1,car,255,255,255"
    print(
        f"{root}: the masks hold other ids than Lyft's 0–12, so the classes are "
        f"{', '.join(ids.values())}. To name them, write {root}/classes.csv with lines {lines}."
    )
    return Table(ids, {})


def bonnet_mask(masks):
    """Where (…, H, W) class ids show the bonnet of the camera's own car: bool, the same shape.

    Lyft labels it as Vehicles. It is the unbroken run of them in each column from the bottom row
    up, within the lowest fifth. In the full-size frames it starts between rows 498 and 521 of 600.
    """
    vehicles = np.asarray(masks) == VEHICLES
    vehicles[..., : int(0.8 * vehicles.shape[-2]), :] = False
    upwards = vehicles[..., ::-1, :]
    return np.logical_and.accumulate(upwards, axis=-2)[..., ::-1, :]


def shares_of(masks, table, root):
    """{class: share of all pixels} of (H, W) class ids, a bonnet of Lyft apart from other vehicles.

    Raises DataError where no two classes occur.
    """
    counts = sum(np.bincount(mask.ravel(), minlength=VOID + 1) for mask in masks)
    if np.count_nonzero(counts[:VOID]) < 2:
        raise DataError(
            f"{root}: the masks show no two classes: are their ids right? 255 is void, unless "
            "classes.csv gives a class the colour white."
        )
    counts = counts / counts.sum()
    shares = dict(zip(table.classes, counts, strict=False))
    if counts[VOID]:
        shares["void: counts nowhere"] = counts[VOID]
    if table.classes == CLASSES:
        bonnet = np.mean([bonnet_mask(mask).mean() for mask in masks])
        shares["Vehicles: own bonnet"] = bonnet
        shares["Vehicles"] -= bonnet
    return shares
