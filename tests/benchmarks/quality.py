"""What a recipe reaches in a given time, on photographs: python tests/benchmarks/quality.py DIR

The plain loop below is what students write for this homework: files opened by PIL in every epoch,
fp32, Adam at 1e-3, no augmentation. It trains its epochs, or ``--seconds``. Then our ``best``
trains for as many seconds as that took, and for two fifths of them. Decoding counts, too.
Both are measured on the same test images, which decide nothing.

DIR holds ``camvid``, ``birds``, ``scenes``, ``landscapes`` in the layouts that data/README.md
describes. For camvid, dataA is the training set and dataB the test set.

``--count`` only finds out how many epochs these are, in a few minutes on quiet cores. ``--epochs``
then trains as many, all seeds at once, on any machine: in fp32 an epoch on a GPU teaches the same.
"""

import argparse
import multiprocessing
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

PROJECT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PROJECT))

from helpers import plural  # noqa: E402
from helpers.colour import rgb_to_grey, to_float  # noqa: E402
from helpers.data import prepare, streets  # noqa: E402
from helpers.data.batches import ArrayDataset  # noqa: E402
from helpers.engine.device import accelerator, describe_device  # noqa: E402
from helpers.metrics import bootstrap, colour_scores, mean_iou_of, per_image_confusion  # noqa: E402
from helpers.models import FCN  # noqa: E402
from helpers.presets import preset  # noqa: E402
from helpers.tasks import TASKS, build  # noqa: E402
from helpers.training import fit, predict  # noqa: E402

# --- the plain loop ---


class Photos(Dataset):
    """Images and their class, mask or, in grey, themselves; read whenever they are asked for."""

    def __init__(self, paths, targets, size):
        self.paths, self.targets, self.size = paths, targets, size

    def __len__(self):
        return len(self.paths)

    def read(self, path, mode, how=Image.Resampling.BILINEAR):
        return np.asarray(Image.open(path).convert(mode).resize(self.size[::-1], how))

    def __getitem__(self, i):
        path, target = self.paths[i], self.targets[i]
        image = self.read(path, "RGB").transpose(2, 0, 1).astype(np.float32) / 255
        if target is None:
            return self.read(path, "L")[None].astype(np.float32) / 255, image
        if isinstance(target, Path):
            return image, self.read(target, "RGB", Image.Resampling.NEAREST)[..., 0].astype(
                np.int64
            )
        return image, int(target)


def plain_loop(model, photos, loss_of, epochs, batch, seconds, device):
    """Train for ``epochs``, or until one more would end after ``seconds``; returns how many."""
    model.to(device).train()
    loader = DataLoader(photos, batch, shuffle=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    began = time.perf_counter()
    done = 0
    while done < epochs:
        total = 0
        for images, target in loader:
            optimizer.zero_grad()
            loss = loss_of(model(images.to(device)), target.to(device))
            loss.backward()
            optimizer.step()
            total += loss.item()
        done += 1
        spent = time.perf_counter() - began
        print(
            f"plain loop, epoch {done}: loss {total / len(loader):.4f}, {spent:.0f} s",
            file=sys.stderr,
        )
        if seconds:
            epochs = int(seconds / (spent / done))
    return done


@torch.no_grad()
def plain_answers(model, task, test, device):
    images = to_float(test[np.arange(len(test))][0])
    inputs = rgb_to_grey(images) if task.name == "colorization" else images
    model.eval()
    batches = inputs.to(device).split(16)
    return torch.cat([task.predict(model(x), x).cpu() for x in batches])


# --- the works ---


def camvid(folder, size, cache):
    """dataA to train on, dataB to measure on; ten consecutive frames are one piece of evidence."""

    def read(name):
        names, images, masks = [], [], []
        for path in sorted((folder / name / "CameraRGB").iterdir()):
            with Image.open(path) as image:
                images.append(
                    np.asarray(image.convert("RGB").resize(size[::-1], Image.Resampling.BILINEAR))
                )
            masks.append(streets.read_mask(mask_of(path), size, image.size, streets.LYFT))
            names.append(str(path.relative_to(folder)))
        blocks = np.arange(len(names)) // streets.SECOND
        return ArrayDataset(
            np.stack(images), np.stack(masks), names, groups=blocks, unit="blocks of frames"
        )

    train = read("dataA")
    # A history measures something after each epoch; here nothing is decided by it.
    return SimpleNamespace(
        train=train, valid=train.subset(8), test=read("dataB"), classes=streets.CLASSES
    )


def mask_of(path):
    return path.parents[1] / "CameraSeg" / path.name


def species(folder, size, cache):
    data = prepare("birds", folder, size=size, root=cache)
    if len(data.test) < 100:  # too few to say anything; what is measured here decides nothing
        test = data.test
        rows = np.concatenate([data.valid._rows, test._rows])
        data.test = ArrayDataset(
            test._images, test._targets, test._names, rows, test._groups, test.unit
        )
    return data


def photos(folder, size, cache):
    return prepare("landscapes", folder, size=size, root=cache)


def right(answers, test):
    return {"accuracy": answers.argmax(1).numpy() == test.targets}


def confusion(answers, test):
    return {"mean IoU": per_image_confusion(answers.numpy(), test.targets, len(streets.CLASSES))}


def colour(answers, test):
    scores = colour_scores(answers, to_float(test[np.arange(len(test))][0]))
    return {name: scores[name] for name in ("ciede2000", "ssim", "colourfulness")}


def l1(logits, rgb):
    return (logits.sigmoid() - rgb).abs().mean()


class Work(NamedTuple):
    """What is learnt from what, and how the plain loop does it."""

    task: str
    read: object  # (folder, size, cache) -> what has train, valid, test and classes
    folder: str
    size: tuple[int, int]
    width: int
    epochs: int  # the plain loop's
    batch: int
    loss: object
    measure: object  # (answers, test set) -> {score: one value per image}
    models: tuple[str, ...]  # ours; the first is the plain loop's


CE = F.cross_entropy
RESNETS = ("resnet18", "plain18")
UNETS = ("unet", "unet_no_skips", "fcn")
WORKS = {
    "streets": Work("segmentation", camvid, "camvid", (120, 160), 16, 15, 8, CE, confusion, UNETS),
    "birds": Work("classification", species, "birds", (96, 96), 64, 8, 16, CE, right, RESNETS),
    "scenes": Work("classification", species, "scenes", (64, 64), 32, 8, 16, CE, right, RESNETS),
    "landscapes": Work(
        "colorization", photos, "landscapes", (96, 96), 16, 15, 8, l1, colour, UNETS[:1]
    ),
}


def contest(work, folder, seconds, count, planned, seed):
    """(contestant, epochs, seconds, scores of the test images, test set) of each, for one seed.

    ``planned`` has the epochs of each, or is empty; with ``count`` there are no scores.
    """
    place = folder / work.folder
    kind = TASKS[work.task]
    plans = iter(planned)
    precision = "no" if planned else "best"
    device = accelerator(precision).device
    with tempfile.TemporaryDirectory() as cache:
        began = time.perf_counter()
        data = work.read(place, work.size, cache)
        decoding = time.perf_counter() - began
        best = getattr(preset("best"), work.task)
        best = replace(best, size=work.size, width=work.width, batch_size=work.batch)
        best = replace(best, seed=seed, precision=precision)

        loss = "l1" if work.loss is l1 else "cross_entropy"
        usual = kind(data, replace(best, loss=loss, balance=0.0, dice=0.0, whitening=0.0))
        paths = [place / name for name in data.train.names]
        targets = data.train.targets
        if work.task == "segmentation":
            targets = [mask_of(path) for path in paths]
        if targets is None:
            targets = [None] * len(paths)
        photos = Photos(paths, targets, work.size)
        model = build(usual, work.models[0])
        began = time.perf_counter()
        torch.manual_seed(seed)
        wanted = next(plans, work.epochs)
        trial = min(wanted, 2) if count else wanted
        epochs = plain_loop(model, photos, work.loss, trial, work.batch, seconds, device)
        budget = time.perf_counter() - began
        if count and not seconds:
            budget *= wanted / epochs
            epochs = wanted
        scores = {}
        if not count:
            scores = work.measure(plain_answers(model, usual, data.test, device), data.test)
        yield f"plain loop, {work.models[0]}", epochs, budget, scores, data.test

        for name, share in [*((name, 1.0) for name in work.models), (work.models[0], 0.4)]:
            epochs = next(plans, None)
            if epochs is None:
                rows = trained(kind(data, replace(best, epochs=3)), name, data)[1]
                each = min(row["seconds"] for row in rows)  # the first epoch is slower
                epochs = max(1, int((share * budget - decoding) / each))
            contestant = f"`best`, {name}, {share:.0%} of that time"
            if count:
                yield contestant, epochs, decoding + epochs * each, {}, data.test
                continue
            began = time.perf_counter() - decoding
            task = kind(data, replace(best, epochs=epochs))
            model, _ = trained(task, name, data)
            spent = time.perf_counter() - began
            readers = {"": task}
            if work.loss is l1:  # rare colours are raised, or not
                readers = {", faithful": task, ", vivid": task.with_rarity(0.5)}
            for reading, reader in readers.items():
                answers = predict(model, reader, data.test)
                yield (
                    contestant + reading,
                    epochs,
                    spent,
                    work.measure(answers, data.test),
                    data.test,
                )


WIDER = {
    "fcn": lambda task: FCN(len(task.classes), width=2 * task.settings.width)
}  # about a U-Net's size


def trained(task, name, data):
    model = build(task, WIDER.get(name, name))
    rows = list(fit(model, task, data, log=lambda line: print(f"{name}: {line}", file=sys.stderr)))
    return model, rows


def interval(values, test):
    """Mean over seeds, its interval over seeds and test units, and the range of the seeds."""
    values = np.stack(values)
    of = mean_iou_of if values.ndim == 4 else None
    mean, low, high = bootstrap(values, of, groups=test.groups)
    each = [bootstrap(v[None], of, groups=test.groups, resamples=1)[0] for v in values]
    return f"{mean:.3f} [{low:.3f}, {high:.3f}]", f"{min(each):.3f} … {max(each):.3f}"


def table(name, work, seeds, planned, contests):
    found = {}
    # Epochs that are given need no quiet machine: then all seeds train at once.
    pool = (
        ProcessPoolExecutor(seeds, multiprocessing.get_context("spawn"))
        if planned
        else nullcontext()
    )
    with pool:
        for seed, contestants in enumerate((pool.map if planned else map)(contests, range(seeds))):
            for contestant, epochs, spent, scores, test_set in contestants:
                test = test_set
                one = found.setdefault(contestant, {"epochs": [], "seconds": [], "scores": {}})
                one["epochs"].append(epochs)
                one["seconds"].append(spent)
                for score, values in scores.items():
                    one["scores"].setdefault(score, []).append(values)
                of = mean_iou_of if work.measure is confusion else np.asarray
                told = {
                    kind: round(float(of(values.mean(0))), 3) for kind, values in scores.items()
                }
                said = f"{contestant}, {epochs} epochs, {spent:.0f} s, {told or ''}"
                print(f"{name}, seed {seed}: {said}", file=sys.stderr)
    units = len(np.unique(test.groups))
    print(f"\n{name}: {len(test)} test images in {units} {test.unit}, {plural(seeds, 'seed')}\n")
    kinds = list(scores)
    print("| who | epochs | wall s |", *(f"{kind} | range of seeds |" for kind in kinds))
    print("|---|---|---|" + "---|---|" * len(kinds))
    for contestant, one in found.items():
        cells = [f"{np.mean(one['epochs']):.0f}", f"{np.mean(one['seconds']):.0f}"]
        cells += [cell for values in one["scores"].values() for cell in interval(values, test)]
        print("|", " | ".join([contestant, *cells]), "|", flush=True)
    print()
    first, *others = list(found)[1:-1]  # all of ours in the whole time
    for other in others:
        for kind in kinds:
            one, two = (np.stack(found[who]["scores"][kind]) for who in (first, other))
            of = mean_iou_of if one.ndim == 4 else np.asarray
            pair, statistic = (
                np.stack([one, two], 2),
                lambda mean, of=of: -np.diff(of(mean))[..., 0],
            )
            gain, low, high = bootstrap(pair, statistic, groups=test.groups)
            print(f"{kind}, {first} − {other}: {gain:+.3f} [{low:+.3f}, {high:+.3f}]")


def in_fp32(*arguments):
    """A contest in full, wherever it is, as precise as on a CPU."""
    accelerator("no")
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    return list(contest(*arguments))


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument(
        "--only", nargs="+", choices=WORKS, default=list(WORKS), help="default: all"
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--seconds", type=float, help="wall time of every contestant; default: the plain loop's"
    )
    parser.add_argument(
        "--count", action="store_true", help="only say how many epochs everyone gets"
    )
    parser.add_argument(
        "--epochs", type=int, nargs="+", metavar="N", help="of each, in the table's order"
    )
    chosen = parser.parse_args()
    rows = [
        len(WORKS[name].models) + 2 for name in chosen.only
    ]  # one model twice, and the plain loop
    if chosen.epochs and [len(chosen.epochs)] != rows:
        parser.error("--epochs: give --only one work, and one number for each of its trainings")
    engine = accelerator("no" if chosen.epochs else "best")
    print(f"{time.strftime('%Y-%m-%d')}, {describe_device(engine)}")
    for name in chosen.only:
        settings = chosen.folder, chosen.seconds, chosen.count, chosen.epochs or ()
        contests = partial(in_fp32 if chosen.epochs else contest, WORKS[name], *settings)
        table(name, WORKS[name], 1 if chosen.count else chosen.seeds, chosen.epochs, contests)


if __name__ == "__main__":
    main()
