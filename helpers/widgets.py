"""What only a notebook can show: source code, curves that grow while a network trains, a slider."""

import inspect
import os

import ipywidgets
from IPython.display import Markdown, display

from helpers.figures import learning_curves

HEADLESS = "COURSEWORK_HEADLESS"  # an environment variable that helpers.notebooks sets for its kernels


def show(*objects):
    """Print the imported source of classes or functions, highlighted: the code that really runs."""
    for thing in objects:
        display(Markdown(f"```python\n{inspect.getsource(thing)}```"))


class LiveCurves:
    """Learning curves redrawn in place after each epoch; a plain picture, so it shows without widgets too.

    Args:
        metric: the task's, e.g. "accuracy".
        name: what the curve is called.
        others: histories of finished runs to draw beside it, {name: rows}.
    """

    def __init__(self, metric, name, others=None):
        self.metric, self.name, self.others = metric, name, others or {}
        self.rows, self._shown = [], None

    def update(self, row):
        self.rows.append(row)
        figure = learning_curves({**self.others, self.name: self.rows}, self.metric)
        if self._shown is None:
            self._shown = display(figure, display_id=True)
        else:
            self._shown.update(figure)


def browse(draw, count, description="picture"):
    """A slider over 0 … count − 1 that shows the figure ``draw(index)``.

    Where no one can move it, in notebooks that ``python -m helpers run`` executes, the middle one is shown.
    """
    if os.environ.get(HEADLESS):
        return draw(count // 2)
    slider = ipywidgets.IntSlider(0, 0, count - 1, description=description, continuous_update=False)
    return ipywidgets.interactive(lambda index: display(draw(index)), index=slider)
