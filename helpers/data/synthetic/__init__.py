"""Draws the embedded data sets in the real sets' folders and formats, so that the same code reads them."""

import csv
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from ..parallel import mapped
from ..places import locked, made_beside
from .birds import SPECIES, draw_bird
from .landscapes import draw_landscape
from .streets import draw_street

DRAWING_VERSION = 1  # raise it when a drawer changes: old drawings are then drawn anew
BIRD_COUNTS = {"train": 50, "valid": 5, "test": 15}  # of each species
BIRD_SIZE = 112
STREET_FOLDERS = {"dataA": 0.0, "dataB": 0.3}  # seconds that each folder's camera is ahead
STREET_FRAMES = 320
STREET_SIZE = (240, 180)
LANDSCAPES = 600
LANDSCAPE_SIZES = ((144, 108), (160, 107), (128, 128), (108, 144))
SUNRISES = 0.18


def draw(name: str, root: str | Path, seed: int = 0) -> Path:
    """The folder ``root/name`` with the drawn data set, drawn now unless it is there in this version.

    Byte-identical for a seed: every picture has a generator of its own, whichever process draws it.
    """
    place = Path(root) / name
    plan = list(PLANS[name](seed))
    recipe = repr((DRAWING_VERSION, plan, BIRD_SIZE, STREET_SIZE))
    stamp = f"{DRAWING_VERSION} {zlib.crc32(recipe.encode()):08x}\n"
    with locked(place):
        made_from = place / ".drawn"
        if not (made_from.exists() and made_from.read_text() == stamp):
            shutil.rmtree(place, ignore_errors=True)
            with made_beside(place) as part:
                for path in {part / job[1] for job in plan}:
                    for folder in FOLDERS[name]:
                        (path.parent / folder).mkdir(parents=True, exist_ok=True)
                jobs = [(name, str(part), job) for job in plan]
                drawn = mapped(draw_many, jobs, heavy=True)
                for _ in tqdm(drawn, total=len(jobs), desc=f"drawing {name}", unit="image", leave=False):
                    pass
                if name == "birds":
                    write_birds_csv(part)
                (part / made_from.name).write_text(stamp)
    return place


def plan_birds(seed: int) -> Iterator[tuple]:
    for number, species in enumerate(SPECIES):
        for part, (split, count) in enumerate(BIRD_COUNTS.items()):
            for i in range(count):
                yield (seed, part, number, i), f"{split}/{species.name}/{i + 1:03}.jpg", number


def plan_streets(seed: int) -> Iterator[tuple]:
    for folder, offset in STREET_FOLDERS.items():
        for i in range(STREET_FRAMES):
            yield (seed, i), f"{folder}/{i // 100:02}_{i % 100:03}.png", offset


def plan_landscapes(seed: int) -> Iterator[tuple]:
    rng = np.random.default_rng((seed, 1))
    for i in range(LANDSCAPES):
        sunrise, size = bool(rng.random() < SUNRISES), LANDSCAPE_SIZES[rng.integers(len(LANDSCAPE_SIZES))]
        yield (seed, 2, i), f"{'sunrise' if sunrise else 'landscape'}_{i:04}.jpg", (sunrise, *size)


PLANS = {"birds": plan_birds, "streets": plan_streets, "landscapes": plan_landscapes}
FOLDERS = {"birds": ["."], "streets": ["CameraRGB", "CameraSeg"], "landscapes": ["."]}


def draw_many(jobs: list[tuple]) -> list[None]:
    return [draw_one(*job) for job in jobs]


def draw_one(name: str, folder: str, job: tuple) -> None:
    key, path, detail = job
    path, jpeg = Path(folder, path), {"quality": 92, "subsampling": 0}
    if name == "birds":
        Image.fromarray(draw_bird(SPECIES[detail], np.random.default_rng(key), BIRD_SIZE)).save(path, **jpeg)
    elif name == "landscapes":
        sunrise, width, height = detail
        Image.fromarray(draw_landscape(np.random.default_rng(key), width, height, sunrise)).save(path, **jpeg)
    else:
        image, mask = draw_street(key, detail, *STREET_SIZE)
        Image.fromarray(image).save(path.parent / "CameraRGB" / path.name)
        red = np.zeros((*mask.shape, 3), dtype=np.uint8)
        red[..., 0] = mask
        Image.fromarray(red).save(path.parent / "CameraSeg" / path.name)


def write_birds_csv(folder: Path) -> None:
    with open(folder / "birds.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["class id", "filepaths", "labels", "data set", "scientific name"])
        names = [species.name for species in SPECIES]
        for path in sorted(folder.glob("*/*/*.jpg")):
            split, name = path.parts[-3:-1]
            number, file = float(names.index(name)), path.relative_to(folder).as_posix()
            writer.writerow([number, file, name, split, f"AVIS {name}"])
