"""What the data path costs, as ratios measured in one run: ``python tests/benchmarks/data.py``.

Draws its own files from the photos that scikit-image brings along, in a temporary folder.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import skimage.data
from joblib import Parallel, cpu_count, delayed
from PIL import Image

PROJECT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PROJECT))
os.environ["PYTHONPATH"] = str(PROJECT)  # for the processes that decode

from helpers.data import birds, prepare  # noqa: E402
from helpers.data.decode import decode  # noqa: E402
from helpers.data.listing import Item, Listing  # noqa: E402

DISTINCT = 600


def crops(width: int, height: int):
    """Endless different crops of real photos."""
    photos = [
        Image.fromarray(photo())
        for photo in (skimage.data.astronaut, skimage.data.coffee, skimage.data.cat)
    ]
    rng = np.random.default_rng(0)
    while True:
        photo = photos[rng.integers(len(photos))]
        scale = rng.uniform(0.5, 1) * min(photo.width / width, photo.height / height)
        x, y = (
            rng.uniform(0, photo.width - scale * width),
            rng.uniform(0, photo.height - scale * height),
        )
        yield photo.resize(
            (width, height), Image.Resampling.BICUBIC, (x, y, x + scale * width, y + scale * height)
        )


def make_birds(root: Path, count: int) -> Path:
    """Hard links to a few hundred 224×224 JPEGs, in 400 species and three splits like BIRDS 400."""
    store = root / "store"
    if not store.exists():
        store.mkdir()
        for i, image in zip(range(DISTINCT), crops(224, 224), strict=False):
            image.save(store / f"{i}.jpg", quality=90)
    place, species = root / f"birds{count}", min(400, count // 20)
    for i in range(count):
        split = "valid" if i < 2 * species else "test" if i < 4 * species else "train"
        folder = place / split / f"SPECIES {i % species:03}"
        folder.mkdir(parents=True, exist_ok=True)
        os.link(store / f"{i % DISTINCT}.jpg", folder / f"{i}.jpg")
    return place


def make_streets(root: Path, count: int) -> Path:
    for side in ("CameraRGB", "CameraSeg"):
        (root / "streets" / "dataA" / side).mkdir(parents=True)
    for i, image in zip(range(count), crops(800, 600), strict=False):
        image.save(root / "streets" / "dataA" / "CameraRGB" / f"{i:04}.png")
        ids = np.asarray(image.convert("L").resize((80, 60))) // 20
        mask = np.zeros((600, 800, 3), np.uint8)
        mask[..., 0] = np.kron(ids, np.ones((10, 10), np.uint8))
        Image.fromarray(mask).save(root / "streets" / "dataA" / "CameraSeg" / f"{i:04}.png")
    return root / "streets"


def seconds(work, repeat: int = 3, clock=time.perf_counter) -> float:
    best = np.inf
    for _ in range(repeat):
        start = clock()
        work()
        best = min(best, clock() - start)
    return best


def batches(dataset, size: int = 16):
    order = np.random.default_rng(0).permutation(len(dataset))
    for i in range(0, len(order), size):
        dataset[order[i : i + size]]


def plain(path: Path, size: tuple[int, int]):
    """What a plain Dataset does for each image in each epoch."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB").resize(size, Image.Resampling.BILINEAR))


def plain_pair(path: Path, size: tuple[int, int]):
    with Image.open(str(path).replace("CameraRGB", "CameraSeg")) as mask:
        return plain(path, size), np.asarray(
            mask.getchannel(0).resize(size, Image.Resampling.NEAREST)
        )


def line(what: str, value: str, wanted: str) -> None:
    print(f"| {what} | {value} | {wanted} |", flush=True)


FRESH = """
import re, sys, time
from pathlib import Path
from helpers.data import prepare
start = time.perf_counter()
data = prepare("birds", sys.argv[1], size=96, root=sys.argv[2])
print(time.perf_counter() - start)
for i in range(0, len(data.train), 64):
    data.train[i : i + 64]
print(int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024)
"""


def fresh_process(source: Path, root: Path) -> tuple[float, float]:
    """Seconds in prepare(), and MiB of its own after an epoch of batches, of a new process.

    Mapped images don't count: the system keeps them only while it has room.
    """
    file = root.parent / "fresh.py"
    file.write_text(FRESH)
    done = subprocess.run(
        [sys.executable, file, source, root], stdout=subprocess.PIPE, text=True, check=True
    )
    return tuple(map(float, done.stdout.split()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=58_400, help="size of the large set of birds")
    count = parser.parse_args().images
    print("| what | measured | wanted |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        source = make_streets(root, 40)
        data = prepare("streets", source, size=(120, 160), root=root / "data")
        files = [source / name for name in data.train.names]
        ratio = seconds(lambda: [plain_pair(file, (160, 120)) for file in files]) / seconds(
            lambda: batches(data.train)
        )
        line(
            "batches from the cache ÷ decoding, 800×600 PNG pairs to 160×120",
            f"{ratio:.0f}×",
            "≥ 100×",
        )

        source = make_birds(root, 2000)
        data = prepare("birds", source, size=96, root=root / "data")
        files = [source / name for name in data.train.names]
        ratio = seconds(lambda: [plain(file, (96, 96)) for file in files]) / seconds(
            lambda: batches(data.train, 64)
        )
        line("batches from the cache ÷ decoding, 224² JPEG to 96²", f"{ratio:.0f}×", "≥ 10×")

        work = partial(decode, Listing("birds", source, [], [], {}, []), (96, 96))
        items = [Item(name, None, None) for name in data.train.names]
        one, other = (
            lambda: list(map(work, items)),
            lambda: [plain(file, (96, 96)) for file in files],
        )
        ratio = seconds(other, clock=time.process_time) / seconds(one, clock=time.process_time)
        line(
            "plain PIL loop ÷ decoding, hashing and checking, processor time",
            f"{ratio:.2f}×",
            "> 1×",
        )
        if cpu_count() > 1:
            jobs = [delayed(work)(item) for item in items * 20]
            one = seconds(lambda: Parallel(1, prefer="threads")(jobs), 1)
            both = seconds(lambda: Parallel(2, prefer="threads")(jobs), 1)
            line(f"decoding {len(jobs)} files with 1 thread ÷ with 2", f"{one / both:.2f}×", "")

        small = fresh_process(source, root / "small")
        source = make_birds(root, count)
        line(
            f"listing {count} small JPEGs",
            f"{seconds(lambda: birds.scan(source), 1):.1f} s",
            "< 20 s",
        )
        large = fresh_process(source, root / "large")
        line(f"decoding {count} small JPEGs on {cpu_count()} cores", f"{large[0]:.0f} s", "")
        line(
            f"second start with {count} images",
            f"{fresh_process(source, root / 'large')[0]:.2f} s",
            "< 2 s",
        )
        memory = f"{small[1]:.0f} and {large[1]:.0f} MiB"
        line(
            f"own memory with 2000 and {count} images, torch included",
            memory,
            "within 100 MiB, < 1 GiB",
        )


if __name__ == "__main__":
    main()
