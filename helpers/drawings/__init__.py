"""Draws the embedded data sets in the real sets' folders and formats, so that the same code reads them."""

import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from helpers.drawings.birds import SPECIES, draw_bird
from helpers.drawings.landscapes import draw_landscape
from helpers.drawings.streets import draw_street
from helpers.engine.files import locked, made_beside
from helpers.engine.parallel import mapped

DRAWING_VERSION = 1  # raise it when a drawer changes: old drawings are then drawn anew
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
    place, plan = Path(root) / name, list(plan_pictures(name, seed))
    recipe = repr((DRAWING_VERSION, plan, BIRD_SIZE, STREET_SIZE))
    stamp, stamped = f"{DRAWING_VERSION} {zlib.crc32(recipe.encode()):08x}\n", place / ".drawn"
    with locked(place):
        if stamped.exists() and stamped.read_text() == stamp:
            return place
        shutil.rmtree(place, ignore_errors=True)
        with made_beside(place) as part:
            jobs = [(name, part, *job) for job in plan]
            drawn = mapped(draw_many, jobs)
            for _ in tqdm(drawn, total=len(jobs), desc=f"drawing {name}", unit="image", leave=False):
                pass
            (part / stamped.name).write_text(stamp)
    return place


def plan_pictures(name: str, seed: int) -> Iterator[tuple]:
    """The key of each picture's generator, its path, and what ``draw_many`` must know besides."""
    if name == "birds":
        for number, species in enumerate(SPECIES):
            for part, (split, count) in enumerate(BIRD_COUNTS.items()):
                for i in range(count):
                    yield (seed, part, number, i), f"{split}/{species.name}/{i + 1:03}.jpg", number
    elif name == "streets":
        for folder, offset in STREET_FOLDERS.items():
            for i in range(STREET_FRAMES):
                yield (seed, i), f"{folder}/{i // 100:02}_{i % 100:03}.png", offset
    else:
        rng = np.random.default_rng((seed, 1))
        for i in range(LANDSCAPES):
            sunrise, size = bool(rng.random() < SUNRISES), LANDSCAPE_SIZES[rng.integers(len(LANDSCAPE_SIZES))]
            yield (seed, 2, i), f"{'sunrise' if sunrise else 'landscape'}_{i:04}.jpg", (sunrise, *size)


def draw_many(jobs: list[tuple]) -> list[tuple]:
    for name, folder, key, path, detail in jobs:
        path, rng = folder / path, np.random.default_rng(key)
        if name == "birds":
            pictures = {path: draw_bird(SPECIES[detail], rng, BIRD_SIZE)}
        elif name == "streets":
            image, mask = draw_street(key, detail, *STREET_SIZE)
            sides = {"CameraRGB": image, "CameraSeg": mask[..., None] * np.uint8([1, 0, 0])}  # ids in red
            pictures = {path.parent / side / path.name: pixels for side, pixels in sides.items()}
        else:
            sunrise, *size = detail
            pictures = {path: draw_landscape(rng, *size, sunrise)}
        for path, pixels in pictures.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path, quality=92, subsampling=0)  # which PNG ignores
    return jobs
