"""What the data path costs, as ratios measured in one run: ``python tests/benchmarks/data.py [--images 58400]``.

Draws its own files from the photos that scikit-image brings along, in a temporary folder.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image

PROJECT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PROJECT))
os.environ["PYTHONPATH"] = str(PROJECT)  # for the processes that decode

from helpers.data import birds, prepare  # noqa: E402
from helpers.data.decode import decode_all  # noqa: E402
from helpers.data.parallel import count_cores, mapped  # noqa: E402

DISTINCT = 600


def crops(width: int, height: int):
    """Endless different crops of real photos."""
    photos = [
        Image.fromarray(photo()) for photo in (skimage.data.astronaut, skimage.data.coffee, skimage.data.cat)
    ]
    rng = np.random.default_rng(0)
    while True:
        photo = photos[rng.integers(len(photos))]
        scale = rng.uniform(0.5, 1) * min(photo.width / width, photo.height / height)
        x, y = rng.uniform(0, photo.width - scale * width), rng.uniform(0, photo.height - scale * height)
        yield photo.resize(
            (width, height), Image.Resampling.BICUBIC, (x, y, x + scale * width, y + scale * height)
        )


def make_birds(root: Path, count: int) -> Path:
    """Hard links to a few hundred JPEGs of 224×224, spread over 400 species and three splits as BIRDS 400 is."""
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


def seconds(work, repeat: int = 3) -> float:
    best = np.inf
    for _ in range(repeat):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return best


def batches(dataset, size: int = 16):
    order = np.random.default_rng(0).permutation(len(dataset))
    for i in range(0, len(order), size):
        dataset.__getitems__(order[i : i + size])


def plain_pair(path: Path, size: tuple[int, int]):
    with Image.open(path) as image:
        image = np.asarray(image.convert("RGB").resize(size, Image.Resampling.BILINEAR))
    with Image.open(str(path).replace("CameraRGB", "CameraSeg")) as mask:
        return image, np.asarray(mask)[..., 0]


def plain_image(path: Path, size: tuple[int, int]):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB").resize(size, Image.Resampling.BILINEAR))


def row(what: str, value: str, wanted: str) -> None:
    print(f"| {what} | {value} | {wanted} |", flush=True)


def fresh_process(source: Path, root: Path) -> tuple[float, float, float]:
    """(seconds in prepare, MiB at the peak of this process, of its largest child) with an epoch of batches."""
    code = (
        "import resource, sys, time\n"
        "sys.path.insert(0, sys.argv[3])\n"
        "from data import batches, prepare\n"
        "if __name__ == '__main__':\n"
        "    start = time.perf_counter()\n"
        "    data = prepare('birds', sys.argv[1], size=96, root=sys.argv[2])\n"
        "    seconds = time.perf_counter() - start\n"
        "    batches(data.train, 64)\n"
        "    peaks = [resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]\n"
        "    print(seconds, *peaks)\n"
    )
    file = root.parent / "fresh.py"
    file.write_text(code)
    done = subprocess.run(
        [sys.executable, file, source, root, Path(__file__).parent],
        capture_output=True,
        text=True,
        check=True,
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
        decoding = seconds(lambda: [plain_pair(file, (160, 120)) for file in files], 1)
        row("batches from the cache ÷ decoding, 800×600 PNG pairs", f"{decoding / seconds(lambda: batches(data.train)):.0f}×", "≥ 100×")  # fmt: skip

        source = make_birds(root, 2000)
        data = prepare("birds", source, size=96, root=root / "data")
        files = [source / name for name in data.train.names]
        decoding = seconds(lambda: [plain_image(file, (96, 96)) for file in files])
        row("batches from the cache ÷ decoding, 224² JPEG", f"{decoding / seconds(lambda: batches(data.train, 64)):.0f}×", "≥ 10×")  # fmt: skip

        jobs = [(str(file), None, (96, 96), True, False) for file in files] * 4
        one = seconds(lambda: list(mapped(decode_all, jobs, cores=1)), 2)
        plain = seconds(lambda: [plain_image(file, (96, 96)) for file in files], 2) * 4
        if count_cores() > 1:
            both = seconds(lambda: list(mapped(decode_all, jobs, cores=2)), 2)
            row(f"decoding {len(jobs)} files on 2 cores ÷ on 1, start of the processes included", f"{one / both:.2f}×", "≥ 1.8×")  # fmt: skip
        row("decoding, hashing and checking on 1 core ÷ plain PIL loop", f"{plain / one:.2f}×", "> 1×")

        small = fresh_process(source, root / "small")
        source = make_birds(root, count)
        listing = seconds(lambda: birds.scan(source), 1)
        row(f"listing {count} small JPEGs", f"{listing:.1f} s", "< 20 s")
        large = fresh_process(source, root / "large")
        row(f"decoding {count} small JPEGs", f"{large[0]:.0f} s", "")
        row(f"peak memory, 2000 / {count} images, decoding and an epoch", f"{small[1]:.0f} / {large[1]:.0f} MiB", "within 100 MiB, < 1 GiB")  # fmt: skip
        row("and of the largest decoding process", f"{max(small[2], large[2]):.0f} MiB", "")
        row(f"second start, {count} images", f"{fresh_process(source, root / 'large')[0]:.2f} s", "< 2 s")


if __name__ == "__main__":
    main()
