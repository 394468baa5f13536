"""Draws the embedded data sets in the real sets' folders and formats, so that the same code reads them."""

import shutil
from collections.abc import Iterator
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from helpers.drawings.birds import SPECIES, draw_bird
from helpers.drawings.landscapes import draw_landscape
from helpers.drawings.streets import draw_street
from helpers.engine.files import locked, made_beside
from helpers.engine.parallel import mapped

DRAWING_VERSION = 1  # raise it when drawers, sizes or shares change: old drawings are then drawn anew
BIRD_COUNTS = {"train": 50, "valid": 5, "test": 15}  # of each species
BIRD_SIZE = 112
STREET_FOLDERS = {"dataA": 0.0, "dataB": 0.3}  # seconds that each folder's camera is ahead
STREET_FRAMES = 320
STREET_SIZE = (240, 180)
LANDSCAPES = 600
LANDSCAPE_SIZES = ((144, 108), (160, 107), (128, 128), (108, 144))
SUNRISES = 0.3


def draw(name: str, root: str | Path, seed: int = 0) -> Path:
    """The folder ``root/name`` with the drawn data set, drawn now unless it is there in this version.

    Byte-identical for a seed: every picture has a generator of its own, whichever process draws it.
    """
    place, jobs = Path(root) / name, list(plan_pictures(name, seed))
    stamp = f"version {DRAWING_VERSION}, seed {seed}, {len(jobs)} pictures"
    with locked(place):
        if (place / ".drawn").exists() and (place / ".drawn").read_text() == stamp:
            return place
        shutil.rmtree(place, ignore_errors=True)
        with made_beside(place) as part:
            drawn = mapped(partial(draw_many, part), jobs)
            list(tqdm(drawn, f"drawing {name}", len(jobs), leave=False, unit="image"))
            (part / ".drawn").write_text(stamp)
    return place


def plan_pictures(name: str, seed: int) -> Iterator[tuple]:
    """Of each picture the path, its generator's key, its drawer and what that needs besides."""
    if name == "birds":
        for (number, species), (part, split) in product(enumerate(SPECIES), enumerate(BIRD_COUNTS)):
            for i in range(BIRD_COUNTS[split]):
                path = f"{split}/{species.name}/{i + 1:03}.jpg"
                yield path, (seed, part, number, i), draw_bird, species, BIRD_SIZE
    elif name == "streets":
        for folder, i in product(STREET_FOLDERS, range(STREET_FRAMES)):
            path = f"{folder}/{{}}/{i // 100:02}_{i % 100:03}.png"
            yield path, (seed, i), draw_street, STREET_FOLDERS[folder], *STREET_SIZE
    else:
        rng = np.random.default_rng((seed, 1))
        for i in range(LANDSCAPES):
            sunrise, size = bool(rng.random() < SUNRISES), LANDSCAPE_SIZES[rng.integers(len(LANDSCAPE_SIZES))]
            path = f"{'sunrise' if sunrise else 'landscape'}_{i:04}.jpg"
            yield path, (seed, 2, i), draw_landscape, *size, sunrise


def draw_many(folder: Path, jobs: list[tuple]) -> list[tuple]:
    for path, key, drawer, *how in jobs:
        drawn = drawer(np.random.default_rng(key), *how)
        pictures = {path: drawn}
        if drawer is draw_street:
            red = drawn[1][..., None] * np.uint8([1, 0, 0])  # where Lyft keeps the ids
            pictures = {path.format("CameraRGB"): drawn[0], path.format("CameraSeg"): red}
        for name, pixels in pictures.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            # JPEG takes the first two, PNG the last: six times as fast, and hardly larger
            Image.fromarray(pixels).save(folder / name, quality=92, subsampling=0, compress_level=1)
    return jobs
