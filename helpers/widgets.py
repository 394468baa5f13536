"""What only a notebook can show: source code, curves that grow while a network trains, controls to move."""

import inspect
import os
import textwrap

import ipywidgets
import torch
from IPython import get_ipython
from IPython.core.pylabtools import print_figure
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
        self._shown = display(learning_curves({**self.beside, name: []}, metric), display_id=True)
        print(f"{name}:")  # the lines of its training stand below

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
    """A slider over 0 … count − 1 that shows the figure ``draw(index)``."""
    what = f"a slider over all {count}: drag it, or press ← and →."
    return hands_on(lambda index: draw(index), what, index=slider(description, count // 2, 0, count - 1))


def slider(description, value, low, high, step=1):
    """A slider of whole numbers or, by its ``step``, of floats, which tells its value when it is let go."""
    kind = ipywidgets.FloatSlider if isinstance(step, float) else ipywidgets.IntSlider
    how = {"continuous_update": False} | labelled(description)
    return kind(value=value, min=low, max=high, step=step, **how)


def labelled(description):
    """How ipywidgets shows all words of a slider's description, and leaves it room to slide."""
    wide = {"width": f"{17 + 0.5 * len(description):.0f}em"}
    return {"description": description, "style": {"description_width": "initial"}, "layout": wide}


def choice(description, options):
    """A slider over names: JupyterLab takes ↓ for itself, with which one would choose from a list."""
    kind = ipywidgets.SelectionSlider if len(options) > 1 else ipywidgets.Dropdown
    return kind(options=list(options), **labelled(description))


def switch(description):
    """A box to tick, ticked, no wider than its words."""
    return ipywidgets.Checkbox(True, description=description, indent=False, layout={"width": "auto"})


def hands_on(draw, what, **controls):
    """Controls above the figure ``draw(**their values)``, which is drawn anew when one of them is moved.

    ``draw`` may give a sentence instead of a figure. Where no one can move anything, in notebooks that
    ``python -m helpers run`` executes, the first figure stands still, and ``what`` says what one could do.
    """
    still = draw(**{name: control.value for name, control in controls.items()})
    wrapped = textwrap.fill(f"In a running notebook: {what}", max(40, int(16 * still.get_figwidth())))
    still.text(0.005, -0.01, wrapped, ha="left", va="top", fontsize=7, color="#555555")
    return still if os.environ.get(HEADLESS) else Live(draw, controls, still, wrapped)


class Live(ipywidgets.VBox):
    """Controls above what ``draw`` shows. Readers without a kernel, on GitHub or in HTML, get ``still``."""

    opened = {}  # cell: (its last run, what that has opened)

    def __init__(self, draw, controls, still, what):
        def show_anew(**values):
            drawn = draw(**values)
            print(drawn) if isinstance(drawn, str) else display(drawn)

        self.controls, self.still, self.what = controls, still, what
        self.shown = ipywidgets.interactive_output(show_anew, controls)
        row = ipywidgets.Box(list(controls.values()), layout={"flex_flow": "row wrap"})
        super().__init__([row, self.shown])
        cell, run = running_cell()
        if cell in self.opened and self.opened[cell][0] != run:
            for old in self.opened.pop(cell)[1]:
                old.close()
        self.opened.setdefault(cell, (run, []))[1].append(self)

    def close(self):
        """Forget the controls and what they draw: the kernel would keep each for ever, with its networks."""
        for control in self.controls.values():
            control.unobserve_all()
            control.style.close()
        for part in (*self.controls.values(), *self.children):
            part.layout.close()
            part.close()
        self.layout.close()
        super().close()

    def _ipython_display_(self, **kwargs):
        view = {"version_major": 2, "version_minor": 0, "model_id": self.model_id}
        picture = print_figure(self.still, bbox_inches="tight", base64=True)
        bundle = {"application/vnd.jupyter.widget-view+json": view, "image/png": picture}
        display(bundle | {"text/plain": self.what}, raw=True)


def running_cell():
    """Which cell runs, by the id that JupyterLab gives it or else by its text; and the id of this run."""
    shell = get_ipython()
    asked = getattr(shell, "parent_header", None) or {}
    text = shell.user_ns["In"][-1] if shell else ""
    return asked.get("metadata", {}).get("cellId", text), asked.get("header", {}).get("msg_id")
