"""The study's experiments on photographs, three seeds: python tests/benchmarks/study.py DIR

DIR holds ``scenes`` and ``camvid`` as for quality.py. Each network has that of three learning
rates that suits the images kept aside, with the first seed. They are kept aside from the training
images: a tenth of the photos, or every fifth block of frames. Then it is trained with three seeds.
The test images are measured once, at the end, and decide nothing.

The rows go to notebooks/photographs.json, and take the place of those measured before. The epochs
are such that everything takes about 35 minutes of one core (AMD EPYC, Zen 4, in bf16). A second
call goes on where the first was interrupted.
"""

import argparse
import json
import math
import re
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
from quality import PROJECT, camvid, species

from helpers.data.batches import ArrayDataset
from helpers.engine.device import accelerator, describe_device
from helpers.engine.files import written_beside
from helpers.models import ResNet
from helpers.notebook import Lesson
from helpers.presets import BETTER, Settings, preset
from helpers.results import Results
from helpers.scores import scores_of
from helpers.shortcuts import DosedBlock, dirac_start
from helpers.skips import CORRUPTIONS, corrupted
from helpers.tasks import TASKS

SEEDS = 3
ROWS = PROJECT / "notebooks/photographs.json"
SCORES = {
    "classification": ("accuracy",),
    "segmentation": ("mean_iou", "border_accuracy", "inside_accuracy"),
}
DEEP = (3, 4, 6, 3)  # the blocks of 34 layers


class Experiment(NamedTuple):
    """Networks that are trained alike, and what is compared."""

    task: str
    settings: Settings
    rates: dict  # of each optimizer
    networks: dict  # name: its optimizer, and a model for ``helpers.tasks.build``
    pairs: list  # of names
    shifted: tuple = ()  # names, also measured on corrupted test images
    study: bool = True  # else the rows stand in the summary of the lessons


def begun_as_identity(task):
    return dirac_start(ResNet(DEEP, task.outputs, width=task.settings.width, skip=False))


def scenes():
    networks = {}
    for layers in (10, 18, 34):
        networks[f"residual {layers}"] = "adamw", f"resnet{layers}"
        networks[f"plain {layers}"] = "adamw", f"plain{layers}"
    networks["Dirac start"] = "adamw", begun_as_identity
    for dose in (0.1, 0.25, 0.5):
        block = partial(DosedBlock, dose=dose)
        networks[f"dose {dose}"] = "adamw", {"blocks": DEEP, "block": block}
    for layers in (18, 34):
        networks[f"residual {layers}, Muon"] = "muon", f"resnet{layers}"
        networks[f"plain {layers}, Muon"] = "muon", f"plain{layers}"

    pairs = [("Dirac start", "plain 34"), ("residual 34", "Dirac start")]
    pairs += [(name, name.replace("residual", "plain")) for name in networks if "resid" in name]
    settings = Settings((64, 64), 16, 6, 32, **BETTER["classification"])
    rates = {"adamw": (0.7e-3, 2e-3, 6e-3), "muon": (1.3e-3, 4e-3, 12e-3)}
    return Experiment("classification", settings, rates, networks, pairs)


def streets():
    networks = {
        "all": ("muon", {}),
        "without 1": ("muon", {"skip": (False, True, True, True)}),
        "without 1, 2": ("muon", {"skip": (False, False, True, True)}),
        "without 1–3": ("muon", {"skip": (False, False, False, True)}),
        "none": ("muon", {"skip": False}),
        "skips, adamw": ("adamw", {}),
        "no skips, adamw": ("adamw", {"skip": False}),
        "skips, muon": ("muon", {}),  # the kept runs of "all", and of "none": not trained again
        "no skips, muon": ("muon", {"skip": False}),
    }
    pairs = [("all", name) for name in list(networks)[1:5]]
    pairs += [(f"skips, {name}", f"no skips, {name}") for name in ("adamw", "muon")]
    settings = Settings((72, 96), 8, 12, 8, **BETTER["segmentation"])
    rates = {"adamw": (1.3e-3, 4e-3, 12e-3), "muon": (4e-3, 12e-3, 36e-3)}
    shifted = ("all", "without 1", "none")
    return Experiment("segmentation", settings, rates, networks, pairs, shifted)


def summary():
    """The pair of quality.py, at one rate."""
    networks = {"residual": ("adamw", "resnet18"), "plain": ("adamw", "plain18")}
    best = preset("best").classification
    settings = replace(best, size=(64, 64), width=32, epochs=11, batch_size=16)
    rates = {"adamw": (settings.lr,)}
    pairs = [("residual", "plain")]
    return Experiment("classification", settings, rates, networks, pairs, study=False)


EXPERIMENTS = {"scenes": scenes, "streets": streets, "summary": summary}


def read(task, folder, size, cache):
    """The photographs of a task. What is kept aside is the validation set."""
    if task == "classification":
        data = species(folder / "scenes", size, cache)
        aside = np.arange(len(data.train)) % 10 == 0
        label = "scenes: {:,} photos, {}x{}"
    else:
        data = camvid(folder / "camvid", size, cache)
        aside = data.train.groups % 5 == 2
        label = "CamVid: {:,} frames, {}x{}"
    return SimpleNamespace(
        train=chosen_rows(data.train, ~aside),
        valid=chosen_rows(data.train, aside),
        test=data.test,
        classes=data.classes,
        label=label.format(np.sum(~aside), *size),
        synthetic=False,
    )


def chosen_rows(dataset, chosen):
    names = np.array(dataset.names)[chosen]
    return ArrayDataset(dataset.images[chosen], dataset.targets[chosen], names)


def measured(experiment, folder, runs):
    """Train, measure and compare; the ``Results``."""
    settings = experiment.settings
    data = read(experiment.task, folder, settings.size, runs / "cache")
    print(f"{data.label}; {len(data.valid)} kept aside, {len(data.test)} test images; {settings}")
    task = TASKS[experiment.task](data, settings)
    about = runs, task.name, data, replace(preset("best"), name="photographs")
    results = Results(*about, SEEDS, experiment.study)
    lesson = Lesson(task, data, results)
    tuning = Lesson(task, data, Results(*about, seeds=1))  # its runs are the first seed's

    def measure(name, suffix="", scores=SCORES[task.name], dataset=None):
        found = scores_of(task, lesson.answers(name, dataset), data.test)
        found = {score: found[score] for score in scores}
        results.measure(name + suffix, how=lesson.tasks[name].settings, **found)

    for name, (optimizer, model) in experiment.networks.items():
        tuning.networks[name] = model
        lesson.networks[name] = model
        tried = type(task)(data, replace(settings, optimizer=optimizer))
        tuning.tune(name, tried, experiment.rates[optimizer])
        best = tuning.tasks[name]
        lesson.train(name, best, curves=False)
        scores = np.array([[row[task.metric] for row in rows] for rows in lesson.rows[name]])
        last = scores[:, -1]
        before = scores[:, -1 - math.ceil(settings.epochs / 4)]
        print(
            f"{name}: rate {best.settings.lr}, kept aside {last.mean():.3f}, of which "
            f"{(last - before).mean():+.3f} in the last quarter of the epochs"
        )
        measure(name)
    for pair in experiment.pairs:
        results.difference(*pair, *SCORES[task.name])
    for kind in CORRUPTIONS:
        for name in experiment.shifted:
            measure(name, f", {kind} 4", ("mean_iou",), corrupted(data.test, kind, 4))
    return results


def keep(results):
    """Put these rows into photographs.json, in place of the same task's and notebook's."""
    rows = list(results.rows.values())
    for row in json.loads(ROWS.read_text(encoding="utf-8")):
        if (row["task"], row["notebook"]) != (results.task, results.notebook):
            rows.append(row)
    rows.sort(key=lambda row: (row["task"], row["notebook"]))
    with written_beside(ROWS) as beside:
        text = json.dumps(rows, indent=1, ensure_ascii=False, allow_nan=False)
        beside.write_text(text + "\n", encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, metavar="DIR")
    names = list(EXPERIMENTS)
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="default: all")
    parser.add_argument("--runs", type=Path, default=PROJECT / "reports/photographs")
    chosen = parser.parse_args()
    cpu = re.search("model name.*: (.*)", Path("/proc/cpuinfo").read_text())[1]
    print(f"{time.strftime('%Y-%m-%d')}, {cpu}, {describe_device(accelerator())}")
    for name in chosen.only:
        began = time.process_time()
        results = measured(EXPERIMENTS[name](), chosen.folder, chosen.runs.absolute())
        keep(results)
        spent = time.process_time() - began
        print(f"{name}: {spent:.0f} s of CPU\n{results.table().to_string()}\n", flush=True)


if __name__ == "__main__":
    main()
