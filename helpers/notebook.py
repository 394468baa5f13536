"""What a notebook calls: source code on the page, trainings with live curves, a sanity check."""

import inspect
from pathlib import Path

import torch
from IPython.display import Markdown, display

from helpers.figures import learning_curves, spoken
from helpers.tasks import build
from helpers.training import fit


def show(*objects):
    """Print the source of classes or functions as it was imported, highlighted."""
    for thing in objects:
        display(Markdown(f"```python\n{inspect.getsource(thing)}```"))


class LiveCurves:
    """Learning curves, redrawn in place after each epoch. They are an image and need no widgets.

    Args:
        metric: the task's.
        name: what the curve is called.
        beside: {name: rows} of other networks, whose curves are shown, too.
    """

    def __init__(self, metric, name, beside=None):
        self.metric = metric
        self.rows = []
        self.histories = {**(beside or {}), name: self.rows}
        self.shown = display(learning_curves(self.histories, metric), display_id=True)
        print(f"{name}:")  # the lines of its training stand below

    def update(self, row):
        """Add the row of one epoch, as ``helpers.training.fit`` yields it."""
        self.rows.append(row)
        self.shown.update(learning_curves(self.histories, self.metric))


def train(task, model, data, *, name, beside=None, seeds=1, **runs):
    """Train a model once for each of ``seeds`` seeds, the first one with live curves.

    Args:
        task, model, data: as for ``helpers.tasks.build`` and ``helpers.training.fit``.
        name: what the network is called on the page.
        beside: {name: rows} of networks that were trained before.
        runs: ``folder`` and ``mirror``, where runs are kept, see ``fit``.

    Returns:
        The list of networks, and the first one's rows.
    """
    curves = LiveCurves(task.metric, name, beside)
    first = build(task, model)
    for row in fit(first, task, data, **runs):
        curves.update(row)
    others = repeats(task, model, data, name=name, seeds=range(1, seeds), **runs)
    return [first, *others], curves.rows


def repeats(task, model, data, *, name, seeds, **runs):
    """Train a model with each of ``seeds``, see ``task.seeded``, and print one line for each.

    The other arguments are those of ``train``. Returns the list of networks.
    """
    models = []
    for seeded in map(task.seeded, seeds):
        trained = build(seeded, model)
        *_, last = fit(trained, seeded, data, log=lambda line: None, **runs)
        models.append(trained)
        print(
            f"{name}, seed {seeded.settings.seed}: {last['epoch']} epochs, "
            f"validation {spoken(task.metric)} {last[task.metric]:.3f}"
        )
    return models


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
