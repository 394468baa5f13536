"""Every chart of the notebooks. Functions take numbers and return a figure; none saves it."""

import warnings
from functools import cache, wraps
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython import get_ipython
from matplotlib.font_manager import fontManager, get_font
from matplotlib.text import Text

if hasattr(get_ipython(), "kernel"):  # with MPLBACKEND=Agg a notebook would show no figure
    get_ipython().enable_matplotlib("inline")
warnings.filterwarnings("ignore", "Glyph .* missing from")  # said once by ``fonts_with``

STYLE = Path(__file__).with_name("style.mplstyle")
WIDEST = 6.9  # inches: the text of an A4 page, where no letter is smaller than 7 pt
GREY = "#555555"
SPOKEN = {
    "psnr": "PSNR (dB)",
    "ssim": "SSIM",
    "ciede2000": "CIEDE2000",
    "colourfulness": "colourfulness / truth",
    "gradient_energy": "gradient energy / truth",
}


def spoken(score):
    """What a score is called where people read it: "mean_iou" -> "mean IoU"."""
    return SPOKEN.get(score, score.replace("_", " ").replace("iou", "IoU"))


def styled(draw):
    """Draw with the style sheet, and return the figure without pyplot showing it a second time."""

    @wraps(draw)
    def drawing(*args, **kwargs):
        with plt.style.context(STYLE):
            figure = draw(*args, **kwargs)
            plt.close(figure)
            _keep_names(figure)
            return figure

    return drawing


def _keep_names(figure):
    """Show names as they are: no mathematics between dollars, and fonts that have their letters."""
    for axis in figure.axes:
        axis.get_xticklabels()  # makes the texts of names along an axis
        axis.get_yticklabels()
    texts = figure.findobj(Text)
    letters = frozenset("".join(text.get_text() for text in texts))
    for text in texts:
        text.set_fontfamily(fonts_with(letters))
        is_power_of_ten = text.get_text().startswith(r"$\mathdefault")  # along an axis
        text.set_parse_math(is_power_of_ten)


@cache
def fonts_with(letters):
    """Families of fonts of this machine that together have ``letters``, DejaVu Sans first."""
    families = []
    missing = {ord(letter) for letter in letters if letter.isprintable()}
    for font in sorted(fontManager.ttflist, key=lambda font: font.name != "DejaVu Sans"):
        found = missing.intersection(get_font(font.fname).get_charmap())
        if found and "LastResort" not in font.fname:  # which has a box for each letter
            families.append(font.name)
            missing -= found
        if not missing:
            return families
    _note_missing()
    return families


@cache
def _note_missing():
    print(
        "This machine has no font for some letters of the names, which are boxes in the figures: "
        "install one that has them, such as Noto Sans, and restart."
    )


def _with_errors(rows):
    """Rows of (value, low, high) -> the values (N,), and how far their error bars reach (2, N)."""
    value, low, high = np.transpose(list(rows))
    return value, np.maximum([value - low, high - value], 0)


@styled
def palette_legend(classes, palette, shares):
    """Pixel share of each class on a log scale, its bar in the data set's own colour."""
    order = np.argsort(shares)
    names = [f"{classes[i]} ({i})" for i in order]
    percent = 100 * np.asarray(shares)[order]

    figure, axis = plt.subplots(figsize=(6.2, max(2.9, 0.2 * len(names))))
    axis.barh(names, percent, color=np.asarray(palette)[order] / 255)
    axis.set(xscale="log", xlabel="share of the training pixels (%)")
    figure.suptitle(f"{names[-1]} alone: {percent[-1]:.0f} %")
    return figure


@styled
def learning_curves(histories, metric):
    """Losses and metric against epochs: ``histories`` maps a network's name to its rows."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.2, 2.7))
    for name, rows in histories.items():
        table = pd.DataFrame(rows, columns=["epoch", "train_loss", "valid_loss", metric])
        (line,) = left.plot(table.epoch, table.train_loss, ":")
        left.plot(table.epoch, table.valid_loss, "o-", color=line.get_color())
        right.plot(table.epoch, table[metric], "o-", label=name)
    left.set_title("Loss: training dotted, validation solid")
    right.set_title(f"Validation {spoken(metric)}")
    for axis in figure.axes:
        axis.set_xlabel("epoch")
        axis.locator_params("x", integer=True)
    figure.legend(loc="outside lower center", ncols=5)
    return figure


@styled
def intervals(panels, title=None, *, gains=False):
    """A dot and its 95 % interval for each network or difference, one panel below the other.

    Args:
        panels: {what is measured: {network: (value, low, high)}}.
        gains: the values are differences, which get a sign and a line at zero.
    """
    digits = ".3f"
    if gains:
        digits = "+.2f"
    heights = [len(rows) + 0.9 for rows in panels.values()]
    size = (7.2, 0.4 + 0.3 * sum(heights))
    figure, _ = plt.subplots(len(panels), figsize=size, height_ratios=heights)
    figure.suptitle(title)
    for axis, (measured, rows) in zip(figure.axes, panels.items(), strict=True):
        value, errors = _with_errors(rows.values())
        axis.errorbar(value, list(rows), xerr=errors, fmt="o")
        for y, x in enumerate(value):
            number = f"{x:{digits}}".replace("-", "−")
            axis.text(x, y - 0.15, number, ha="center", va="bottom")
        if gains:
            axis.axvline(0, color=GREY, lw=1)
        axis.set_ylim(len(rows) - 0.7, -0.8)  # the first network on top
        axis.set_xlabel(f"{measured}, with 95 % intervals")
    return figure


@styled
def curves(panels, xlabel, *, title=None, ylabel=None, baseline=None, joined=True):
    """Scores over an ordered x, a curve with its 95 % band per network, side by side.

    Args:
        panels: {title: (xs, {network: one (value, low, high) for each of xs})}. xs may be texts.
        ylabel: what all panels measure, on one scale. Without it each panel's title says it.
        baseline: {label: y}, dashed: what must be beaten, or what was there before.
        joined: False draws dots with their intervals, for xs that are not steps of one way.
    """
    figure, _ = plt.subplots(1, len(panels), figsize=(7.2, 2.9), sharey=bool(ylabel))
    figure.suptitle(title)
    for axis, (above, (xs, networks)) in zip(figure.axes, panels.items(), strict=True):
        places = np.arange(len(xs))
        for i, (name, rows) in enumerate(networks.items()):
            value, errors = _with_errors(rows)
            if joined:
                axis.plot(places, value, label=name)
                axis.fill_between(places, value - errors[0], value + errors[1], alpha=0.15, lw=0)
            else:
                beside = 0.15 * (i - (len(networks) - 1) / 2)  # the other networks
                axis.errorbar(places + beside, value, errors, ls="", label=name)
        for label, y in (baseline or {}).items():
            axis.axhline(y, color=GREY, lw=1, ls="--")
            axis.text(1.01, y, label, va="center", transform=axis.get_yaxis_transform())
        axis.set_xticks(places, xs)
        axis.set(title=above, xlabel=xlabel)
    figure.axes[0].set_ylabel(ylabel)
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=5)
    return figure


@styled
def landscapes(surfaces, reach, title=None):
    """Loss surfaces as contours of one scale: ``surfaces`` maps a name to (steps, steps) losses."""
    figure, _ = plt.subplots(1, len(surfaces), figsize=(7.2, 2.3), sharey=True)
    figure.suptitle(title)
    losses = np.stack(list(surfaces.values())).clip(1e-3)  # (networks, steps, steps)
    levels = np.geomspace(losses.min(), np.quantile(losses, 0.9) + 1e-3, 13)
    way = np.linspace(-reach, reach, losses.shape[1])
    for axis, name, surface in zip(figure.axes, surfaces, losses, strict=True):
        filled = axis.contourf(way, way, surface, levels, norm="log", extend="max")
        axis.contour(way, way, surface, levels, colors="white", linewidths=0.4)
        axis.plot(0, 0, "w+", ms=7)
        axis.set(aspect="equal", title=name)
    figure.colorbar(filled, ax=figure.axes, label="loss", ticks=levels[::3], format="%.2g")
    figure.supxlabel("step along two random directions, in lengths of the weights; +: as trained")
    return figure


def class_iou(ious, classes, title=None):
    """Per-class IoU of several networks: ``ious`` maps a name to (C, 3): value, low, high.

    The first network's best class stands first. Classes that are absent, nan, have no dots.
    """
    first, *_ = ious.values()
    order = np.argsort(-first[:, 0])
    names = [classes[i] for i in order]
    rows = {name: table[order] for name, table in ious.items()}
    figure = curves({"": (names, rows)}, "", title=title, ylabel="IoU", joined=False)
    figure.axes[0].tick_params("x", rotation=40)
    return figure


@styled
def confused_pairs(matrix, classes):
    """The eight most frequent mistakes of a confusion matrix (C, C): true class → mistaken for."""
    mistakes = np.array(matrix)
    total = mistakes.sum()
    np.fill_diagonal(mistakes, 0)
    names = [name.title() for name in classes]
    counts = pd.DataFrame(mistakes, names, names).stack()  # of (true, mistaken for)
    pairs = counts.replace(0, np.nan).dropna().nlargest(8)

    figure, axis = plt.subplots(figsize=(6.2, 2.46))
    axis.barh([f"{true} → {guess}" for true, guess in pairs.index], pairs)
    axis.invert_yaxis()
    axis.set_xlabel("test images")
    axis.locator_params("x", integer=True)
    figure.suptitle(f"{mistakes.sum()} of {total} test images are taken for another class")
    return figure


@styled
def gradient_flow(gradients):
    """Relative gradient of each convolution, from the input's side: a name -> its numbers."""
    figure, axis = plt.subplots(figsize=(6.2, 2.2))
    for name, values in gradients.items():
        axis.plot(range(1, len(values) + 1), values, label=name)
    axis.set(yscale="log", xlabel="convolution, from the input on", ylabel="|gradient| / |weight|")
    axis.legend()
    axis.locator_params("x", integer=True)
    first = " and ".join(f"{values[0]:.2g}" for values in gradients.values())
    figure.suptitle(f"Before training, the first convolution's gradients: {first}")
    return figure
