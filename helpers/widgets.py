"""What only a notebook can show: source code, curves that grow while a network trains, a slider."""

import inspect
import os

import ipywidgets
import torch
from IPython.display import Markdown, display

from helpers.figures import learning_curves, spoken
from helpers.tasks import build
from helpers.training import fit

HEADLESS = "COURSEWORK_HEADLESS"  # an environment variable that helpers.publishing sets for its kernels


def show(*objects):
    """Print the imported source of classes or functions, highlighted: the code that really runs."""
    for thing in objects:
        display(Markdown(f"```python\n{inspect.getsource(thing)}```"))


class LiveCurves:
    """Learning curves redrawn in place after each epoch; a plain picture, so it shows without widgets too.

    ``metric`` is the task's, ``name`` the curve's, ``beside`` maps names of other networks to their rows.
    """

    def __init__(self, metric, name, beside=None):
        self.metric, self.name, self.beside, self.rows = metric, name, beside or {}, []
        figure = learning_curves({**self.beside, self.name: []}, self.metric)
        self._shown = display(figure, display_id=True)  # at once, so that it stands above the lines

    def update(self, row):
        self.rows.append(row)
        self._shown.update(learning_curves({**self.beside, self.name: self.rows}, self.metric))


def train(task, network, data, folder, *, name, beside=None, seeds=1):
    """Train a network once for each of ``seeds`` seeds, the first as in notebook 1, with live curves.

    ``network`` is one of ``task.networks`` or a function like those; ``beside`` maps the names of networks
    trained before to their rows. Returns the networks (``folder`` keeps their epochs), and the first's rows.
    """
    curves, net = LiveCurves(task.metric, name, beside), build(task, network)
    for row in fit(net, task, data, folder=folder):
        curves.update(row)
    return [net, *repeats(task, network, data, folder, name=name, seeds=range(1, seeds))], curves.rows


def repeats(task, network, data, folder, *, name, seeds):
    """Networks trained from each of ``seeds``, see ``task.seeded``, told in a line each."""
    nets = []
    for its in map(task.seeded, seeds):
        nets.append(build(its, network))
        *_, last = fit(nets[-1], its, data, folder=folder, log=lambda line: None)
        told = f"{last['epoch']} epochs, validation {spoken(task.metric)} {last[task.metric]:.3f}"
        print(f"{name}, seed {its.settings.seed}: {told}")
    return nets


def overfit(net, task, inputs, target, *, steps=31, lr=5e-3):
    """Learn one batch by heart, on the CPU, and print the loss as it falls: any sound network can."""
    optimizer = torch.optim.Adam(net.parameters(), lr=lr)
    for step in range(steps):
        loss = task.loss(net(inputs), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 10 == 0:
            print(f"step {step:>2}: loss on one batch of {len(inputs)} {loss.item():.3f}")


def browse(draw, count, description="picture"):
    """A slider over 0 … count − 1 that shows the figure ``draw(index)``.

    Where no one can move it, in notebooks that ``python -m helpers run`` executes, the middle one is shown.
    """
    if os.environ.get(HEADLESS):
        return draw(count // 2)
    slider = ipywidgets.IntSlider(0, 0, count - 1, description=description, continuous_update=False)
    return ipywidgets.interactive(lambda index: display(draw(index)), index=slider)
