"""Images per second of training: python tests/benchmarks/training.py

- plain: files decoded by PIL for every batch, a contiguous network in fp32, Adam, and each batch's
  loss and score fetched by ``.item()``;
- ours: ``helpers.training.fit``, its own figure in the history;
- bare: forward, backward and update on one batch that is there already, with the same network,
  precision and optimizer as ours: nothing can train faster than this.

The three take turns and the best round of each counts. Nothing else should compute meanwhile.

On a CUDA GPU another table is made: one epoch of the presets ``report`` and ``best``, and what the
whole preset would take by that. The images are synthetic, enlarged, and as many as the real sets
have.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode

PROJECT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(PROJECT), str(Path(__file__).parent)]

from data import DISTINCT, make_birds, make_streets  # noqa: E402, tests/benchmarks/data.py
from helpers.colour import to_float  # noqa: E402
from helpers.data import prepare_or_draw  # noqa: E402
from helpers.data.batches import ArrayDataset  # noqa: E402
from helpers.engine.device import accelerator, describe_device  # noqa: E402
from helpers.models import FCN, ResNet18, UNet  # noqa: E402
from helpers.optimizer import make_optimizer  # noqa: E402
from helpers.presets import Settings, preset  # noqa: E402
from helpers.tasks import TASKS, Classification, Segmentation, build  # noqa: E402
from helpers.training import evaluate, fit  # noqa: E402


@dataclass(frozen=True)
class Case:
    """One row of the table: ``images`` are seen in each round."""

    name: str
    build: object
    kind: str
    size: tuple[int, int]
    batch: int
    images: int


SMALL = (
    Case("ResNet-18, 96²", lambda: ResNet18(20), "birds", (96, 96), 32, 128),
    Case("FCN, 128×96", lambda: FCN(13), "streets", (96, 128), 8, 96),
    Case("U-Net 16, 128×96", lambda: UNet(3, 13, width=16), "streets", (96, 128), 8, 96),
    Case("U-Net 64, 128×96", lambda: UNet(3, 13, width=64), "streets", (96, 128), 4, 16),
)
COUNTS = {
    "birds": (58_388, 2_000),
    "streets": (4_000, 500),
    "landscapes": (3_455, 432),
}  # train, valid
FULL = (
    ("classification", "resnet18"),
    ("segmentation", "fcn"),
    ("segmentation", "unet"),
    ("colorization", "unet"),
)


class Files(Dataset):
    """The plain way to read: each image opened, decoded and resized whenever it is asked for."""

    def __init__(self, files, case):
        self.files, self.case = files, case

    def __len__(self):
        return self.case.images

    def __getitem__(self, index):
        path, (height, width) = self.files[index % len(self.files)], self.case.size
        with Image.open(path) as image:
            image = image.convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
        image = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
        if self.case.kind == "birds":
            return image, index % 20
        with Image.open(str(path).replace("CameraRGB", "CameraSeg")) as mask:
            mask = np.array(mask.resize((width, height), Image.Resampling.NEAREST))[..., 0]
        return image, torch.from_numpy(mask).long()


def cached(case, folder):
    """As many random images in a memory map, the format of our cache."""
    rng = np.random.default_rng(0)
    height, width = case.size
    path = folder / f"{case.name}.u8"
    with open(path, "wb") as file:
        for _ in range(case.images):
            file.write(rng.integers(0, 256, height * width * 3, dtype=np.uint8))
    images = np.memmap(path, np.uint8, "r", shape=(case.images, height, width, 3))
    targets = rng.integers(0, 13, case.images)
    if case.kind == "streets":
        targets = rng.integers(0, 13, (case.images, height, width), dtype=np.uint8)
    names = [str(i) for i in range(case.images)]
    return SimpleNamespace(
        classes=[str(i) for i in range(20 if case.kind == "birds" else 13)],
        train=ArrayDataset(images, targets, names),
        valid=ArrayDataset(images[: case.batch], targets[: case.batch], names[: case.batch]),
    )


def plain_rounds(case, task, files, precision):
    device = accelerator(precision).device
    model = case.build().to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    loader = DataLoader(Files(files, case), case.batch, shuffle=True)
    while True:
        began = time.perf_counter()
        seen, losses, scores = 0, 0.0, 0.0
        for images, target in loader:
            inputs, target = task.inputs(images.to(device), target.to(device))
            logits = model(inputs)
            loss = task.loss(logits, target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses += loss.item()
            scores += (logits.argmax(1) == target).float().mean().item()
            seen += len(images)
        yield seen / (time.perf_counter() - began)


def our_rounds(case, task, data):
    for row in fit(case.build(), task, data, log=lambda line: None):
        yield row["images_per_s"]


def bare_rounds(case, task, data):
    engine = accelerator(task.settings.precision)
    model = case.build().to(engine.device, memory_format=torch.channels_last)
    optimizer = engine.prepare_optimizer(make_optimizer(model, task.settings))
    images, target = (x.to(engine.device) for x in data.train[: case.batch])
    inputs, target = task.inputs(to_float(images), target)
    inputs = inputs.contiguous(memory_format=torch.channels_last)

    def step():
        with engine.autocast():
            logits = model(inputs)
        loss = task.loss(logits.float(), target)
        optimizer.zero_grad()
        engine.backward(loss)
        optimizer.step()

    while True:
        wait()
        began = time.perf_counter()
        for _ in range(case.images // case.batch):
            step()
        wait()
        yield case.images / (time.perf_counter() - began)


def wait():
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def matmul_ceiling(dtype, device):
    """GFLOP/s of the best of many products of two square matrices."""
    side = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    best = 0
    for _ in range(8):
        wait()
        began = time.perf_counter()
        a @ b
        wait()
        best = max(best, 2 * side**3 / (time.perf_counter() - began) / 1e9)
    return best


def gflop(case, task, data):
    """GFLOP of a training step per image, counted operator by operator."""
    model = case.build()
    images, target = data.train[:2]
    inputs, target = task.inputs(to_float(images), target)
    with FlopCounterMode(display=False) as counter:
        task.loss(model(inputs), target).backward()
    return counter.get_total_flops() / 2 / 1e9


def measure(case, files, folder, rounds, ceiling, precision):
    data = cached(case, folder)
    settings = Settings(case.size, 64, rounds + 1, case.batch, 1e-4, precision=precision)
    kind = Classification if case.kind == "birds" else Segmentation
    task = kind(data, settings)
    ways = {
        "plain": plain_rounds(case, task, files, precision),
        "ours": our_rounds(case, task, data),
        "bare": bare_rounds(case, task, data),
    }
    best = dict.fromkeys(ways, 0.0)
    for number in range(rounds + 1):
        for name, way in ways.items():
            speed = next(way)
            if number:  # the first round warms up
                best[name] = max(best[name], speed)
    needs = gflop(case, task, data)
    cells = [case.name, *(f"{best[name]:.1f}" for name in ways)]
    cells += [
        f"{best['ours'] / best['plain']:.2f}×",
        f"{100 * (best['ours'] / best['bare'] - 1):+.1f} %",
        f"{needs:.2f}",
        f"{100 * best['ours'] * needs / ceiling:.0f} %",
    ]
    print("| " + " | ".join(cells) + " |", flush=True)


def enlarged(kind, size, counts, folder):
    """Synthetic images of a quarter of the size, enlarged and repeated to as many as real ones."""
    height, width = size
    drawn = prepare_or_draw(kind, source="synthetic", size=(height // 4, width // 4))
    classes = [f"species {i}" for i in range(400)] if kind == "birds" else drawn.classes
    images = np.asarray(drawn.train._images)
    masks = drawn.train._targets
    path = folder / f"{kind}.u8"
    with open(path, "wb") as file:
        for i in range(sum(counts)):
            file.write(images[i % len(images)].repeat(4, 0).repeat(4, 1))
    images = np.memmap(path, np.uint8, "r", shape=(sum(counts), height, width, 3))
    targets = np.arange(sum(counts)) % 400 if kind == "birds" else None
    if kind == "streets":
        targets = np.stack([mask.repeat(4, 0).repeat(4, 1) for mask in masks])
        targets = targets[np.arange(sum(counts)) % len(masks)]
    every = ArrayDataset(images, targets, [str(i) for i in range(sum(counts))])
    rows = np.split(np.arange(sum(counts)), counts[:1])
    train, valid = [
        ArrayDataset(every._images, every._targets, every._names, mine) for mine in rows
    ]
    return SimpleNamespace(classes=classes, train=train, valid=valid)


def full_size(options, ceiling):
    """A table of one epoch of each network."""
    columns = ["preset", "network", "images", "images/s", "bare", "whole preset"]
    columns += ["GiB", "GFLOP an image", "of the ceiling"]
    print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        found = {}
        for (name, model), which in product(FULL, ("report", "best")):
            if options.only not in f"{name}, {model}":
                continue
            chosen = replace(getattr(preset(which), name), precision=options.precision)
            kind = TASKS[name].data_set
            if kind not in found:
                counts = [min(count, options.images) for count in COUNTS[kind]]
                found[kind] = enlarged(kind, chosen.size, counts, Path(folder))
            data = found[kind]
            settings = replace(chosen, epochs=1)
            task = TASKS[name](data, settings)
            warm = copy(task)
            warm.settings = replace(settings, limit=2 * chosen.batch_size)
            list(fit(build(task, model), warm, data, log=lambda line: None))
            torch.cuda.reset_peak_memory_stats()
            (row,) = fit(build(task, model), task, data, log=lambda line: None)
            memory = torch.cuda.max_memory_allocated() / 2**30
            make = partial(build, task, model)
            case = Case("", make, kind, chosen.size, chosen.batch_size, 30 * chosen.batch_size)
            rounds, needs = bare_rounds(case, task, data), gflop(case, task, data)
            next(rounds)
            seconds = chosen.epochs * row["seconds"]
            cells = [
                which,
                f"{name}, {model}",
                f"{len(data.train)}",
                f"{row['images_per_s']:.0f}",
                f"{next(rounds):.0f}",
                f"{chosen.epochs} epochs, {seconds / 60:.1f} min",
                f"{memory:.1f}",
                f"{needs:.1f}",
            ]
            cells += [f"{100 * row['images_per_s'] * needs / ceiling:.0f} %"]
            print("| " + " | ".join(cells) + " |", flush=True)


def speeds(options):
    engine = accelerator(options.precision)
    ceilings = {"no": matmul_ceiling(torch.float32, engine.device)}
    ceilings["bf16"] = matmul_ceiling(torch.bfloat16, engine.device)
    print(describe_device(engine))
    print(
        f"matrix products: fp32 {ceilings['no']:.0f} GFLOP/s, bf16 {ceilings['bf16']:.0f} GFLOP/s"
    )
    ceiling = ceilings.get(engine.mixed_precision, ceilings["bf16"])
    if engine.device.type == "cuda":
        full_size(options, ceiling)
        return
    columns = ["network", "plain", "ours", "bare"]
    columns += ["ours ÷ plain", "ours against bare", "GFLOP an image", "of the ceiling"]
    print("no CUDA GPU here: the real sets' sizes stay unmeasured")
    print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        birds = sorted(make_birds(root, DISTINCT).glob("train/*/*.jpg"))
        streets = sorted((make_streets(root, 40) / "dataA" / "CameraRGB").glob("*.png"))
        for case in SMALL:
            if options.only in case.name:
                files = birds if case.kind == "birds" else streets
                measure(case, files, root, options.rounds, ceiling, options.precision)


def score(precision, seed):
    """Print the test scores of one small training in that precision, as JSON."""
    data = prepare_or_draw("streets", source="synthetic", size=(48, 64))
    settings = Settings(
        (48, 64), 8, 6, 8, 3e-3, "linear", limit=160, seed=seed, precision=precision
    )
    task = Segmentation(data, settings)
    model = build(task, "unet")
    list(fit(model, task, data, log=lambda line: None))
    print(json.dumps(evaluate(model, task, data.test)))


def agreement():
    """The same small training in fp32 and in bf16, three seeds each."""
    print("\nmean IoU of a small U-Net after six epochs, three seeds")
    found = {}
    for precision in ("no", "bf16"):
        found[precision] = []
        for seed in range(3):
            command = [sys.executable, __file__, "--score", precision, str(seed)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found[precision].append(json.loads(done.stdout.splitlines()[-1])["mean_iou"])
        values = np.array(found[precision])
        name = {"no": "fp32", "bf16": "bf16"}[precision]
        print(
            f"{name}: {', '.join(f'{v:.4f}' for v in values)}; mean {values.mean():.4f}", flush=True
        )
    gap = abs(np.mean(found["no"]) - np.mean(found["bf16"]))
    spread = max(np.ptp(values) for values in found.values())
    verdict = "within" if gap <= spread else "outside"
    print(f"difference of the means {gap:.4f}, {verdict} the spread between seeds, {spread:.4f}")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="after one to warm up")
    parser.add_argument(
        "--only", default="", metavar="TEXT", help="only networks with this in their name"
    )
    precisions = ("best", "no", "bf16", "fp16")
    parser.add_argument(
        "--precision", choices=precisions, default="best", help="best: the device's"
    )
    parser.add_argument(
        "--images", type=int, default=10**6, help="on a GPU, at most so many of each set"
    )
    parser.add_argument(
        "--agreement", action="store_true", help="only compare the scores of fp32 and bf16"
    )
    parser.add_argument("--score", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.score:
        score(options.score[0], int(options.score[1]))
        return
    if not options.agreement:
        speeds(options)
    if not options.only:
        agreement()


if __name__ == "__main__":
    main()
