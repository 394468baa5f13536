"""Draws the synthetic data sets in the folders and file formats of the real ones.

This package needs nothing of ``helpers``; ``helpers.data.synthetic`` loads it by its path.
Each image has random numbers of its own. So a seed fixes every byte, in whatever order the images
are drawn.
"""

import numpy as np
from PIL import Image

from .birds import SPECIES, draw_bird
from .landscapes import draw_landscape
from .streets import draw_street

VERSION = 1  # raise it when anything here changes the images: older sets are then replaced
BIRD_COUNTS = {"train": 50, "valid": 5, "test": 15}  # of each species
BIRD_SIZE = 112
STREET_FOLDERS = {"dataA": 0.0, "dataB": 0.3}  # seconds that each folder's camera is ahead
STREET_FRAMES = 320
STREET_SIZE = (240, 180)  # width, height
LANDSCAPES = 600
LANDSCAPE_SIZES = ((144, 108), (160, 107), (128, 128), (108, 144))
SUNRISES = 0.3  # share of the landscapes


def plan(name, seed=0):
    """A list of jobs, one for each image of a set: birds, streets or landscapes.

    A job is a plain tuple, so that other processes can take it: the file, the key of its random
    numbers, and what else its set's drawer needs.
    """
    if name == "birds":
        return plan_birds(seed)
    if name == "streets":
        return plan_streets(seed)
    return plan_landscapes(seed)


def plan_birds(seed):
    jobs = []
    for number, species in enumerate(SPECIES):
        for place, (split, count) in enumerate(BIRD_COUNTS.items()):
            for i in range(count):
                path = f"{split}/{species.name}/{i + 1:03}.jpg"
                jobs.append((path, (seed, place, number, i), number))
    return jobs


def plan_streets(seed):
    """Both folders show the same scenes; ``{}`` stands for CameraRGB or CameraSeg."""
    jobs = []
    for folder, offset in STREET_FOLDERS.items():
        for i in range(STREET_FRAMES):
            path = f"{folder}/{{}}/{i // 100:02}_{i % 100:03}.png"
            jobs.append((path, (seed, i), offset))
    return jobs


def plan_landscapes(seed):
    rng = np.random.default_rng((seed, 1))
    jobs = []
    for i in range(LANDSCAPES):
        sunrise = bool(rng.random() < SUNRISES)
        size = LANDSCAPE_SIZES[rng.integers(len(LANDSCAPE_SIZES))]
        kind = "sunrise" if sunrise else "landscape"
        jobs.append((f"{kind}_{i:04}.jpg", (seed, 2, i), (*size, sunrise)))
    return jobs


def stamp(name, seed=0):
    """What a finished set's file ``.drawn`` says. Other words would draw every set again."""
    return f"version {VERSION}, seed {seed}, {len(plan(name, seed))} pictures"


def draw_files(name, job, folder):
    """Draw one job of a set into ``folder``: an image, and of streets its mask."""
    path, key, how = job
    rng = np.random.default_rng(key)
    if name == "birds":
        files = {path: draw_bird(rng, SPECIES[how], BIRD_SIZE)}
    elif name == "landscapes":
        files = {path: draw_landscape(rng, *how)}
    else:
        image, mask = draw_street(rng, how, *STREET_SIZE)
        red = mask[..., None] * np.uint8([1, 0, 0])  # where Lyft keeps the ids
        files = {path.format("CameraRGB"): image, path.format("CameraSeg"): red}
    for file, pixels in files.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        # JPEG takes the first two options, PNG the last: six times as fast, and hardly larger
        Image.fromarray(pixels).save(folder / file, quality=92, subsampling=0, compress_level=1)
