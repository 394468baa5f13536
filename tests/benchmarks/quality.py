"""What a recipe reaches in a given time, on photographs: python tests/benchmarks/quality.py DIR

The plain loop below is what students write for this homework: files opened by PIL in every epoch, fp32, Adam
at 1e-3, no augmentation. It trains its epochs, or ``--seconds``; then our ``best`` trains for as many seconds
as that took, and for two fifths of them, with decoding and everything else counted. Both are measured on
the same test pictures, which decide nothing. DIR holds ``camvid``, ``birds``, ``scenes``, ``landscapes`` in
the layouts that data/README.md describes (of camvid dataA is trained on, dataB measured).

``--count`` only finds out how many epochs these are, in a few minutes on quiet cores; ``--epochs`` then
trains as many, all seeds at once, wherever it is called: in fp32 an epoch on a GPU teaches the same.
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

from helpers.colour import rgb_to_grey, to_float  # noqa: E402
from helpers.data import prepare, streets  # noqa: E402
from helpers.data.batches import ArrayDataset  # noqa: E402
from helpers.engine.device import accelerator, describe_device  # noqa: E402
from helpers.metrics import bootstrap, colour_scores, mean_iou_of, per_image_confusion  # noqa: E402
from helpers.models import FCN  # noqa: E402
from helpers.presets import preset  # noqa: E402
from helpers.tasks import TASKS, build  # noqa: E402
from helpers.training import fit, predict  # noqa: E402

# --- the plain loop ---------------------------------------------------------------------------------------


class Photos(Dataset):
    """Pictures and their class, their mask or, in grey, themselves; read whenever they are asked for."""

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
            return image, self.read(target, "RGB", Image.Resampling.NEAREST)[..., 0].astype(np.int64)
        return image, int(target)


def plain_loop(net, photos, loss_of, epochs, batch, seconds):
    """Train for ``epochs`` or, if given, until one more would end after ``seconds``; how many it were."""
    device = accelerator().device
    net.to(device).train()
    loader, optimizer = DataLoader(photos, batch, shuffle=True), torch.optim.Adam(net.parameters(), lr=1e-3)
    began, done = time.perf_counter(), 0
    while done < epochs:
        total = 0
        for images, target in loader:
            optimizer.zero_grad()
            loss = loss_of(net(images.to(device)), target.to(device))
            loss.backward()
            optimizer.step()
            total += loss.item()
        done += 1
        spent = time.perf_counter() - began
        print(f"plain loop, epoch {done}: loss {total / len(loader):.4f}, {spent:.0f} s", file=sys.stderr)
        if seconds:
            epochs = int(seconds / (spent / done))
    return done


@torch.no_grad()
def plain_answers(net, task, test):
    images = to_float(test[np.arange(len(test))][0])
    inputs = rgb_to_grey(images) if task.name == "colorization" else images
    net.eval()
    batches = inputs.to(accelerator().device).split(16)
    return torch.cat([task.predict(net(x), x).cpu() for x in batches])


# --- the works --------------------------------------------------------------------------------------------


def camvid(folder, size, cache):
    """dataA to train on, dataB to measure on; ten consecutive frames are one piece of evidence."""

    def read(name):
        names, images, masks = [], [], []
        for path in sorted((folder / name / "CameraRGB").iterdir()):
            with Image.open(path) as image:
                images.append(np.asarray(image.convert("RGB").resize(size[::-1], Image.Resampling.BILINEAR)))
            masks.append(streets.read_mask(mask_of(path), size, image.size))
            names.append(str(path.relative_to(folder)))
        blocks = np.arange(len(names)) // streets.SECOND
        return ArrayDataset(np.stack(images), np.stack(masks), names, groups=blocks, unit="blocks of frames")

    train = read("dataA")
    # A history measures something after each epoch; here nothing is decided by it.
    return SimpleNamespace(train=train, valid=train.subset(8), test=read("dataB"), classes=streets.CLASSES)


def mask_of(path):
    return path.parents[1] / "CameraSeg" / path.name


def species(folder, size, cache):
    data = prepare("birds", folder, size=size, root=cache)
    if len(data.test) < 100:  # too few to say anything; what is measured here decides nothing
        rows = np.concatenate([data.valid._rows, data.test._rows])
        data.test = ArrayDataset(*data.test._all, rows, data.test._groups, data.test.unit)
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
    measure: object  # (answers, test part) -> {score: one value per picture}
    networks: tuple[str, ...]  # ours; the first is the plain loop's


CE, RESNETS, UNETS = F.cross_entropy, ("resnet18", "plain18"), ("unet", "unet_no_skips", "fcn")
WORKS = {
    "streets": Work("segmentation", camvid, "camvid", (120, 160), 16, 15, 8, CE, confusion, UNETS),
    "birds": Work("classification", species, "birds", (96, 96), 64, 8, 16, CE, right, RESNETS),
    "scenes": Work("classification", species, "scenes", (64, 64), 32, 8, 16, CE, right, RESNETS),
    "landscapes": Work("colorization", photos, "landscapes", (96, 96), 16, 15, 8, l1, colour, UNETS[:1]),
}


def contest(work, folder, seconds, count, planned, seed):
    """(contestant, epochs, seconds, scores of the test pictures, test part) of each, for one seed.

    ``planned`` has the epochs of each, or is empty; with ``count`` there are no scores.
    """
    folder, kind, planned = folder / work.folder, TASKS[work.task], iter(planned)
    with tempfile.TemporaryDirectory() as cache:
        began = time.perf_counter()
        data = work.read(folder, work.size, cache)
        decoding = time.perf_counter() - began
        best = getattr(preset("best"), work.task)
        best = replace(best, size=work.size, width=work.width, batch_size=work.batch, seed=seed)

        usual = kind(
            data, replace(best, loss="l1" if work.loss is l1 else "cross_entropy", balance=0.0, dice=0.0)
        )
        paths = [folder / name for name in data.train.names]
        targets = list(map(mask_of, paths)) if work.task == "segmentation" else data.train.targets
        pictures = Photos(paths, [None] * len(paths) if targets is None else targets, work.size)
        net, began = build(usual, work.networks[0]), time.perf_counter()
        torch.manual_seed(seed)
        wanted = next(planned, work.epochs)
        epochs = plain_loop(
            net, pictures, work.loss, min(wanted, 2) if count else wanted, work.batch, seconds
        )
        budget = time.perf_counter() - began
        if count and not seconds:
            epochs, budget = wanted, budget * wanted / epochs
        scores = {} if count else work.measure(plain_answers(net, usual, data.test), data.test)
        yield f"plain loop, {work.networks[0]}", epochs, budget, scores, data.test

        for network, share in [*((name, 1.0) for name in work.networks), (work.networks[0], 0.4)]:
            epochs = next(planned, None)
            if epochs is None:
                trial = replace(best, epochs=4, coarse=best.coarse and 0.5)
                rows = trained(kind(data, trial), network, data)[1]
                _, small, *full = [row["seconds"] for row in rows]  # the first epoch is slower
                each = best.coarse * small + (1 - best.coarse) * min(full)
                epochs = max(1, int((share * budget - decoding) / each))
            name = f"`best`, {network}, {share:.0%} of that time"
            if count:
                yield name, epochs, decoding + epochs * each, {}, data.test
                continue
            task, began = kind(data, replace(best, epochs=epochs)), time.perf_counter() - decoding
            net, _ = trained(task, network, data)
            spent = time.perf_counter() - began
            for reading, task.rarity in (READINGS if work.loss is l1 else {"": 0.0}).items():
                answers = predict(net, task, data.test)
                yield name + reading, epochs, spent, work.measure(answers, data.test), data.test


READINGS = {", faithful": 0.0, ", vivid": 0.6}  # how much rare colours are raised


WIDER = {"fcn": lambda task: FCN(len(task.classes), width=2 * task.settings.width)}  # about a U-Net's size


def trained(task, network, data):
    net = build(task, WIDER.get(network, network))
    rows = list(fit(net, task, data, log=lambda line: print(f"{network}: {line}", file=sys.stderr)))
    return net, rows


def interval(values, test):
    """Mean over seeds, its interval over seeds and units of the test part, and the range of the seeds."""
    values = np.stack(values)
    of = mean_iou_of if values.ndim == 4 else None
    mean, low, high = bootstrap(values, of, groups=test.groups)
    each = [bootstrap(v[None], of, groups=test.groups, resamples=1)[0] for v in values]
    return f"{mean:.3f} [{low:.3f}, {high:.3f}]", f"{min(each):.3f} … {max(each):.3f}"


def table(name, work, seeds, planned, contests):
    found = {}
    # Epochs that are given need no quiet machine: then all seeds train at once.
    pool = ProcessPoolExecutor(seeds, multiprocessing.get_context("spawn")) if planned else nullcontext()
    with pool:
        for seed, contestants in enumerate((pool.map if planned else map)(contests, range(seeds))):
            for contestant, epochs, spent, scores, part in contestants:
                test = part
                one = found.setdefault(contestant, {"epochs": [], "seconds": [], "scores": {}})
                one["epochs"].append(epochs)
                one["seconds"].append(spent)
                for score, values in scores.items():
                    one["scores"].setdefault(score, []).append(values)
                of = mean_iou_of if work.measure is confusion else np.asarray
                told = {kind: round(float(of(values.mean(0))), 3) for kind, values in scores.items()}
                said = f"{contestant}, {epochs} epochs, {spent:.0f} s, {told or ''}"
                print(f"{name}, seed {seed}: {said}", file=sys.stderr)
    units = len(np.unique(test.groups))
    print(f"\n{name}: {len(test)} test pictures in {units} {test.unit}, {seeds} seed{'s' * (seeds > 1)}\n")
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
            pair, statistic = np.stack([one, two], 2), lambda mean, of=of: -np.diff(of(mean))[..., 0]
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
    parser.add_argument("--only", nargs="+", choices=WORKS, default=list(WORKS), help="default: all")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--seconds", type=float, help="wall time of every contestant; default: the plain loop's"
    )
    parser.add_argument("--count", action="store_true", help="only say how many epochs everyone gets")
    parser.add_argument("--epochs", type=int, nargs="+", metavar="N", help="of each, in the table's order")
    chosen = parser.parse_args()
    rows = [len(WORKS[name].networks) + 2 for name in chosen.only]  # one network twice, and the plain loop
    if chosen.epochs and [len(chosen.epochs)] != rows:
        parser.error("--epochs: give --only one work, and one number for each of its trainings")
    accelerator("no" if chosen.epochs else None)
    print(f"{time.strftime('%Y-%m-%d')}, {describe_device()}")
    for name in chosen.only:
        settings = chosen.folder, chosen.seconds, chosen.count, chosen.epochs or ()
        contests = partial(in_fp32 if chosen.epochs else contest, WORKS[name], *settings)
        table(name, WORKS[name], 1 if chosen.count else chosen.seeds, chosen.epochs, contests)


if __name__ == "__main__":
    main()
