"""What a notebook calls: a lesson with its networks, source code on the page, a sanity check."""

import inspect
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from IPython.display import Markdown, display

from helpers import ROOT
from helpers.data import prepare_or_draw
from helpers.figures import learning_curves, spoken
from helpers.presets import preset as preset_named
from helpers.publishing.report import write_report
from helpers.results import Results, report_folder
from helpers.scores import scores_of
from helpers.tasks import TASKS, build
from helpers.training import fit, predict


def start(
    task,
    source="",
    *,
    preset,
    student="",
    seeds=1,
    seed=0,
    out="",
    drive=False,
    classes=None,
    study=False,
):
    """Begin a notebook: prepare the data of one task, and show the settings. Returns a ``Lesson``.

    Args:
        task: classification, segmentation or colorization.
        source: folder of the images. By default the preset says it: synthetic, or the real set.
        student: a name, which has synthetic images and a folder of its own.
        preset, seed: see ``helpers.presets.preset``.
        seeds: how often each network is trained.
        out: folder of the run. Default: see ``helpers.results.report_folder``.
        drive: in Google Colab, keep each run on Google Drive, too.
        classes: birds only: use the first so many species.
        study: whether the notebook belongs to the study. Its scores stand beside the lesson's.
    """
    chosen = preset_named(preset, seed)
    kind = TASKS[task]
    settings = getattr(chosen, task)
    folder = ROOT / Path(out).expanduser()
    if not out:
        folder = report_folder(preset, seeds, seed, student, **{kind.data_set: source})
    data = prepare_or_draw(
        kind.data_set,
        source=source or chosen.source,
        size=settings.size,
        classes=classes,
        student=student,
    )
    print(f"{data.label}: {len(data.train)} train, {len(data.valid)} valid, {len(data.test)} test")
    print(settings)
    results = Results(folder, task, data, chosen, seeds, study)
    return Lesson(kind(data, settings), data, results, drive_folder(drive))


class Lesson:
    """One task of a notebook: its data, its networks, and what they answer.

    ``networks`` maps what a network is called on the page to a model for ``helpers.tasks.build``.
    What is trained stands in ``models``, {name: one network per seed}, and its epochs in ``rows``,
    {name: the rows of each seed}. ``histories``, {name: rows}, are those that were shown as curves.
    """

    def __init__(self, task, data, results, mirror=None):
        self.task = task
        self.settings = task.settings
        self.data = data
        self.results = results
        self.figure = results.figure
        self.runs = {"folder": results.folder / "runs", "mirror": mirror}  # see ``fit``
        self.networks = {}
        self.models = {}
        self.rows = {}
        self.histories = {}
        self.tasks = {}  # {name: the task that it was trained for}
        self._answers = {}

    def train(self, names, task=None, *, curves=True):
        """Train these ``networks`` once per seed, or load them where they were trained before.

        Args:
            names: of one network, or a list.
            task: one with other settings than the lesson's.
            curves: show the first seed's learning curves while it trains, all in one figure.
        """
        task = task or self.task
        live = LiveCurves(task.metric, self.histories)
        if isinstance(names, str):
            names = [names]
        for name in names:
            if name not in self.networks:
                raise ValueError(f"{name!r} is not in lesson.networks: add it there first")
            models = []
            histories = []
            for seed in range(self.results.seeds):
                seeded = task.seeded(seed)
                model = build(seeded, self.networks[name])
                if seed == 0 and curves:
                    rows = live.follow(name, fit(model, seeded, self.data, **self.runs))
                else:
                    rows = list(fit(model, seeded, self.data, log=lambda line: None, **self.runs))
                    last = rows[-1]
                    print(
                        f"{name}, seed {seeded.settings.seed}: {last['epoch']} epochs, "
                        f"validation {spoken(task.metric)} {last[task.metric]:.3f}"
                    )
                models.append(model)
                histories.append(rows)
            self.tasks[name] = task
            self.models[name] = models
            self.rows[name] = histories
            self._answers.pop(name, None)

    def tune(self, name, task, rates):
        """Train as ``train`` does, with that of some learning rates that suits the validation set.

        So networks that are compared are tuned alike: each has its best rate of the same list. Of
        two rates that score alike, it is the later one.
        """
        best = -np.inf
        for rate in rates:
            tried = type(task)(self.data, replace(task.settings, lr=rate))
            self.train(name, tried, curves=False)
            score = np.mean([rows[-1][task.metric] for rows in self.rows[name]])
            if score >= best:
                best = score
                kept = (tried, self.models[name], self.rows[name])
        self.tasks[name], self.models[name], self.rows[name] = kept
        print(f"{name}: of {len(rates)} rates, {self.tasks[name].settings.lr:.1e} is best")

    def answers(self, name, dataset=None):
        """What the networks of that name answer for the test set, (seeds, N, ...).

        See ``predict`` of the task. ``dataset`` takes the place of the test set.
        """
        if name not in self.models:
            raise ValueError(f"{name!r} has no answers yet: lesson.train({name!r}) comes first")
        if dataset is None and name in self._answers:
            return self._answers[name]
        images = self.data.test if dataset is None else dataset
        task = self.tasks[name]
        answers = torch.stack([predict(model, task, images) for model in self.models[name]])
        if dataset is None:
            self._answers[name] = answers
        return answers

    def measure(self, *names):
        """Add the scores of these networks to the results, see ``helpers.scores``."""
        for name in names:
            scores = scores_of(self.task, self.answers(name), self.data.test)
            self.results.measure(name, how=self.tasks[name].settings, **scores)

    def finish(self):
        """Save the scores, write the run's page and article; returns the report's scores beside."""
        self.results.save()
        write_report(self.results.folder, self.results.chosen.name)
        return self.results.beside_report()


def show(*objects):
    """Print the source of classes or functions as it was imported, highlighted."""
    for thing in objects:
        display(Markdown(f"```python\n{inspect.getsource(thing)}```"))


class LiveCurves:
    """Learning curves, redrawn in place after each epoch. They are an image and need no widgets.

    ``histories`` is {name: rows} of networks whose curves are shown, too.
    """

    def __init__(self, metric, histories):
        self.metric = metric
        self.histories = histories
        self.shown = None

    def follow(self, name, epochs):
        """Show each row that ``epochs`` yields, as ``fit`` does; returns them all."""
        rows = []
        self.histories[name] = rows
        if self.shown is None:
            self.shown = display(learning_curves(self.histories, self.metric), display_id=True)
        print(f"{name}:")  # the lines of its training stand below
        for row in epochs:
            rows.append(row)
            self.shown.update(learning_curves(self.histories, self.metric))
        return rows


def overfit(model, task, inputs, target, *, steps, lr=5e-3):
    """Learn one batch by heart, on the CPU, and print its falling loss. Any sound network can."""
    optimizer = torch.optim.Adam(model.parameters(), lr)
    for step in range(steps):
        loss = task.loss(model(inputs), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 10 == 0:
            print(f"step {step:>2}: loss on one batch of {len(inputs)} {loss.item():.3f}")


def drive_folder(wanted):
    """The folder of Google Drive that outlives a machine of Google Colab; None if not ``wanted``.

    Mounts Drive, which asks for permission. Raises RuntimeError outside Colab.
    """
    if not wanted:
        return None
    try:
        from google.colab import drive
    except ImportError:
        raise RuntimeError(
            "DRIVE = True works in Google Colab alone: set DRIVE = False here"
        ) from None
    drive.mount("/content/drive")
    return Path("/content/drive/MyDrive/coursework")
