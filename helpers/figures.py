"""Every chart of the notebooks. Functions take numbers and return a figure; none trains, shows or saves."""

import textwrap
from functools import wraps
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib import rc_params_from_file

STYLE = Path(__file__).with_name("style.mplstyle")
WIDEST = 6.9  # inches: the text of an A4 page, where no letter of a figure is set smaller than 7 pt
COLOURS = rc_params_from_file(STYLE, use_default_template=False)["axes.prop_cycle"].by_key()["color"] * 4


def styled(draw):
    """Draw with the style sheet, and hand the figure over without pyplot showing it a second time."""

    @wraps(draw)
    def drawing(*args, **kwargs):
        with plt.style.context(STYLE):
            figure = draw(*args, **kwargs)
            plt.close(figure)
            captioned(figure)
            return figure

    return drawing


def captioned(figure, name="Pictures"):
    """What a figure says above itself, or else ``name`` and its columns' titles; notebooks then give it to
    those who cannot see the picture."""
    left, centre = ([axis.get_title(loc=loc) for axis in figure.axes] for loc in ("left", "center"))
    own = dict.fromkeys(filter(None, [figure.get_suptitle()] if figure.get_suptitle() else left))
    columns = ", ".join(dict.fromkeys(filter(None, centre)))
    caption = " ".join(("; ".join(own) or ": ".join(filter(None, [name, columns]))).split())
    caption = textwrap.shorten(caption, 250, placeholder=" …")
    figure._repr_mimebundle_ = lambda **kwargs: ({}, {"image/png": {"alt": caption}})
    return caption


@styled
def palette_legend(classes, palette, shares):
    """Pixel share of each class on a log scale, its bar in the data set's own colour."""
    figure, axis = plt.subplots(figsize=(6.2, 2.9))
    order = np.argsort(shares)
    colours = [np.array(palette[i]) / 255 for i in order]
    axis.barh(range(len(order)), 100 * np.asarray(shares)[order], color=colours, edgecolor="#555555", lw=0.5)
    axis.set_yticks(range(len(order)), [f"{classes[i]} ({i})" for i in order])
    axis.set(xscale="log", xlabel="share of the training pixels (%)")
    axis.grid(axis="y", visible=False)
    most, rest = order[-1], np.asarray(shares)[order[:5]].sum()
    axis.set_title(f"{classes[most]} alone: {shares[most]:.0%}; the five rarest classes together: {rest:.1%}")
    return figure


@styled
def class_counts(counts):
    """How many training images each class has, ``counts`` (C,)."""
    figure, axis = plt.subplots(figsize=(6.2, 2))
    axis.bar(range(len(counts)), sorted(counts, reverse=True), width=0.9)
    axis.set(xlabel=f"{len(counts)} classes, largest first", ylabel="training images")
    axis.xaxis.get_major_locator().set_params(integer=True)
    spread = f"{min(counts)}" if min(counts) == max(counts) else f"Between {min(counts)} and {max(counts)}"
    axis.set_title(f"{spread} images a class, {sum(counts)} in all")
    return figure


@styled
def learning_curves(histories, metric):
    """Losses and metric against epochs: ``histories`` maps a network's name to its rows."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.2, 2.7))
    for i, (name, rows) in enumerate(histories.items()):
        epochs = [row["epoch"] for row in rows]
        left.plot(epochs, [row["train_loss"] for row in rows], ":", color=COLOURS[i])
        left.plot(epochs, [row["valid_loss"] for row in rows], "o-", color=COLOURS[i], label=name)
        right.plot(epochs, [row[metric] for row in rows], "o-", color=COLOURS[i], label=name)
    left.set(xlabel="epoch", ylabel="loss", title="Loss: training dotted, validation solid")
    right.set(xlabel="epoch", ylabel=spoken(metric), title=f"Validation {spoken(metric)}")
    for axis in (left, right):
        axis.xaxis.get_major_locator().set_params(integer=True)
    named(figure, right)
    return figure


def named(figure, axis):
    """The names of an axis's curves, in one row below the figure, where no curve runs through them."""
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize=7)


def spoken(score):
    """What a score is called where people read it: "mean_iou" -> "mean IoU"."""
    names = {"psnr": "PSNR (dB)", "ssim": "SSIM", "ciede2000": "CIEDE2000"}
    names |= {"colourfulness": "colourfulness / truth", "gradient_energy": "gradient energy / truth"}
    return names.get(score, score.replace("_", " ").replace("iou", "IoU"))


@styled
def intervals(scores, xlabel, title=None):
    """One dot and its 95 % interval per network: ``scores`` maps a name to (value, low, high)."""
    figure, axis = plt.subplots(figsize=(6.2, 0.6 + 0.33 * len(scores)))
    for i, (value, low, high) in enumerate(scores.values()):
        axis.errorbar(value, -i, xerr=[[value - low], [high - value]], fmt="o", capsize=3, color=COLOURS[0])
        axis.text(value, -i + 0.12, f"{value:.3f}", ha="center", va="bottom", fontsize=7)
    axis.set_yticks(-np.arange(len(scores)), list(scores))
    axis.set(xlabel=f"{xlabel}, with 95 % intervals", ylim=(0.7 - len(scores), 0.7))
    axis.grid(axis="y", visible=False)
    axis.set_title(title)
    return figure


@styled
def curves(panels, xlabel, *, title=None, ylabel=None, baseline=None, joined=True):
    """Scores over an ordered x, a curve with its 95 % band per network, side by side.

    Args:
        panels: {title: (xs, {network: rows of (value, low, high), one for each of xs})}; xs may be texts.
        ylabel: what all panels measure, on one scale; without it each panel's title says it.
        baseline: {label: y}, dashed: what must be beaten, or what was there before.
        joined: False draws dots with their intervals, for xs that are not steps of one way.
    """
    size = 7.2, 2.9 if len(panels) < 4 else 2.5
    figure, axes = plt.subplots(1, len(panels), figsize=size, sharey=bool(ylabel), squeeze=False)
    for axis, (above, (xs, networks)) in zip(axes[0], panels.items(), strict=True):
        for i, (name, rows) in enumerate(networks.items()):
            value, low, high = np.asarray(rows, dtype=float).T
            x = np.arange(len(xs)) + (0 if joined else 0.12 * (i - (len(networks) - 1) / 2))
            style = {"color": COLOURS[i], "marker": "os^Dv"[i % 5], "label": name}
            if joined:
                axis.plot(x, value, **style)
                axis.fill_between(x, low, high, color=COLOURS[i], alpha=0.15, lw=0)
            else:
                errors = np.maximum([value - low, high - value], 0)
                axis.errorbar(x, value, errors, ls="", capsize=2, lw=1.2, **style)
        for label, y in (baseline or {}).items():
            axis.axhline(y, color="#555555", lw=1, ls="--")
            if axis is axes[0, -1]:
                axis.text(1.01, y, label, transform=axis.get_yaxis_transform(), va="center", fontsize=7)
        axis.set_xticks(range(len(xs)), xs)
        axis.set(xlabel=xlabel, **({"title": above} if ylabel else {"ylabel": textwrap.fill(above, 22)}))
    if ylabel:
        axes[0, 0].set_ylabel(ylabel)
    named(figure, axes[0, 0])
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    return figure


@styled
def landscapes(surfaces, reach, title=None):
    """Loss surfaces as contours of one scale: ``surfaces`` maps a network's name to (steps, steps) losses."""
    figure, axes = plt.subplots(1, len(surfaces), figsize=(7.2, 2.3), sharey=True, squeeze=False)
    everything = np.concatenate([surface.ravel() for surface in surfaces.values()]).clip(1e-3)
    levels = np.geomspace(everything.min(), np.quantile(everything, 0.9) + 1e-3, 13)
    for axis, (name, surface) in zip(axes[0], surfaces.items(), strict=True):
        way = np.linspace(-reach, reach, len(surface))
        style = {"norm": "log", "cmap": "cividis", "extend": "max"}
        drawn = axis.contourf(way, way, surface.clip(levels[0]), levels, **style)
        axis.contour(way, way, surface, levels, colors="white", linewidths=0.4)
        axis.plot(0, 0, "+", color="white", ms=7)
        axis.set(aspect="equal", title=name)
    figure.colorbar(drawn, ax=axes, label="loss", ticks=levels[::3], format="%.2g", pad=0.01)
    figure.supxlabel("step along two random directions, in lengths of the weights; +: as trained", fontsize=8)
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    return figure


@styled
def gains(panels, title=None):
    """Differences with their 95 % intervals, filled where clear of zero: ``panels`` maps what is gained to
    {between which: (value, low, high)}."""
    heights = [len(rows) + 0.9 for rows in panels.values()]
    size = 7.2, 0.4 + 0.3 * sum(heights)
    figure, axes = plt.subplots(len(panels), figsize=size, height_ratios=heights, squeeze=False)
    for axis, (gained, rows) in zip(axes[:, 0], panels.items(), strict=True):
        for i, (value, low, high) in enumerate(rows.values()):
            errors = np.maximum([[value - low], [high - value]], 0)
            inside = COLOURS[0] if low > 0 or high < 0 else "white"
            axis.errorbar(value, -i, xerr=errors, fmt="o", capsize=3, color=COLOURS[0], mfc=inside)
            axis.text(value, -i + 0.15, f"{value:+.2f}".replace("-", "−"), ha="center", va="bottom", size=7)
        axis.axvline(0, color="#555555", lw=1)
        axis.set_yticks(-np.arange(len(rows)), list(rows))
        axis.set(xlabel=gained, ylim=(0.7 - len(rows), 0.8))
        axis.grid(axis="y", visible=False)
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    return figure


@styled
def class_iou(ious, classes, title=None):
    """Per-class IoU of several networks: ``ious`` maps a name to (C, 3): value, low, high."""
    figure, axis = plt.subplots(figsize=(7.2, 2.8))
    first, width = np.asarray(next(iter(ious.values())))[:, 0], 0.8 / len(ious)
    order = np.argsort(-np.nan_to_num(first, nan=-1))
    for i, (name, table) in enumerate(ious.items()):
        value, low, high = np.nan_to_num(np.asarray(table, dtype=float)[order]).T
        place = np.arange(len(order)) + (i - (len(ious) - 1) / 2) * width
        errors = [np.maximum(value - low, 0), np.maximum(high - value, 0)]
        axis.bar(place, value, width, yerr=errors, label=name, error_kw={"lw": 0.8})
    turned = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"}
    axis.set_xticks(range(len(order)), [classes[i] for i in order], **turned)
    axis.set(ylabel="IoU", ylim=(0, 1.02))
    axis.grid(axis="x", visible=False)
    axis.legend(ncols=len(ious), loc="lower right", bbox_to_anchor=(1, 1))
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    return figure


@styled
def confused_pairs(matrix, classes, count=8):
    """The most frequent mistakes of a confusion matrix (C, C): true class → what it was taken for."""
    mistakes = np.asarray(matrix).copy()
    np.fill_diagonal(mistakes, 0)
    worst = np.argsort(-mistakes, axis=None, kind="stable")[:count]
    pairs = [divmod(int(k), len(mistakes)) for k in worst if mistakes.flat[k]]
    names = [f"{classes[a].title()} → {classes[b].title()}" for a, b in pairs]
    figure, axis = plt.subplots(figsize=(6.2, 0.7 + 0.22 * max(len(pairs), 1)))
    axis.barh(range(len(pairs)), [mistakes[pair] for pair in pairs], color=COLOURS[1])
    axis.set_yticks(range(len(pairs)), names, fontsize=7)
    axis.invert_yaxis()
    axis.set(xlabel="test images")
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.grid(axis="y", visible=False)
    axis.set_title(f"{mistakes.sum()} of {np.asarray(matrix).sum()} test images are taken for another class")
    return figure


@styled
def sharpness_and_colour(points, title=None):
    """Where each variant stands: ``points`` maps a name to (gradient energy / truth, ab error)."""
    figure, axis = plt.subplots(figsize=(6.2, max(2.8, 0.5 + 0.22 * len(points))))
    for i, (name, (x, y)) in enumerate(points.items()):
        axis.plot(x, y, "os^D"[i // 7 % 4], color=COLOURS[i], ms=7, ls="", label=name, alpha=0.85)
    axis.set(xlabel="gradient energy / truth (1 is as sharp)", ylabel="ab error (0 is the right colour)")
    axis.margins(0.1)
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    axis.set_title(title)
    return figure


@styled
def gradient_flow(gradients):
    """Relative gradient of each convolution, from the input's side: ``gradients`` maps a name to numbers."""
    figure, axis = plt.subplots(figsize=(6.2, 2.2))
    for name, values in gradients.items():
        axis.plot(range(1, len(values) + 1), values, "o-", label=name)
    axis.set(yscale="log", xlabel="convolution, from the input on", ylabel="|gradient| / |weight|")
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.legend()
    first = " and ".join(f"{values[0]:.2g}" for values in gradients.values())
    axis.set_title(f"Before training, the first convolution's gradients: {first}")
    return figure
