"""Every figure of the notebooks. Functions take arrays and return a figure; none trains, shows or saves."""

from functools import wraps
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

STYLE = Path(__file__).with_name("style.mplstyle")


def styled(draw):
    """Draw with the style sheet, and hand the figure over without pyplot showing it a second time."""

    @wraps(draw)
    def drawing(*args, **kwargs):
        with plt.style.context(STYLE):
            figure = draw(*args, **kwargs)
            plt.close(figure)
            return figure

    return drawing


def to_picture(image):
    """Anything that is a picture -> (H, W, 3) or (H, W) array that matplotlib shows as it is."""
    if isinstance(image, torch.Tensor):
        image = image.detach().cpu().float().numpy() if image.is_floating_point() else image.cpu().numpy()
    image = np.asarray(image)
    if image.ndim == 3 and image.shape[0] in (1, 3) and image.shape[2] not in (1, 3):
        image = image.transpose(1, 2, 0)
    return image.squeeze(-1) if image.ndim == 3 and image.shape[2] == 1 else image


@styled
def gallery(images, titles=None, *, columns=8, title=None, size=1.35):
    """Pictures in a grid, each with its title."""
    rows = -(-len(images) // columns)
    height, width = to_picture(images[0]).shape[:2]
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(columns * size, rows * (size * height / width + 0.2 * bool(titles))),
        squeeze=False,
    )
    for axis in axes.flat:
        axis.axis("off")
    for i, (axis, image) in enumerate(zip(axes.flat, images, strict=False)):
        axis.imshow(
            to_picture(image), cmap="gray", vmin=0, vmax=1 if to_picture(image).dtype.kind == "f" else 255
        )
        if titles is not None:
            axis.set_title(titles[i], fontsize=7, loc="center", pad=2)
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    return figure


@styled
def panels(rows, columns, *, labels=None, title=None, size=1.9):
    """A table of pictures: one row per example, one titled column per kind (image, truth, network …)."""
    height, width = to_picture(rows[0][0]).shape[:2]
    # One stretch of figure per row, so that rows of other shapes keep their proportions.
    heights = [to_picture(row[0]).shape[0] / to_picture(row[0]).shape[1] for row in rows]
    figure, axes = plt.subplots(
        len(rows),
        len(columns),
        figsize=(size * len(columns), size * sum(heights) + 0.35),
        height_ratios=heights,
        squeeze=False,
    )
    for i, (line, row) in enumerate(zip(axes, rows, strict=True)):
        for axis, image, name in zip(line, row, columns, strict=True):
            picture = to_picture(image)
            axis.imshow(picture, cmap="gray", vmin=0, vmax=1 if picture.dtype.kind == "f" else 255)
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
            if i == 0:
                axis.set_title(name, fontsize=9, loc="center", pad=3)
        if labels is not None:
            line[0].set_ylabel(labels[i], fontsize=8)
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    return figure


def paint(mask, palette):
    """A mask of class ids (H, W) in its data set's colours: (H, W, 3) uint8."""
    return np.asarray(palette, dtype=np.uint8)[np.asarray(mask, dtype=np.int64)]


def error_map(image, prediction, target):
    """The picture in faint grey, wrong pixels in red: (H, W, 3) uint8."""
    grey = 128 + to_picture(image).mean(-1, keepdims=True) / 2
    wrong = (np.asarray(prediction) != np.asarray(target))[..., None]
    return np.where(wrong, np.array([213, 40, 0]), grey).astype(np.uint8)


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
    largest, rest = order[-1], np.asarray(shares)[order[:5]].sum()
    axis.set_title(
        f"{classes[largest]} alone: {shares[largest]:.0%}; the five rarest classes together: {rest:.1%}"
    )
    return figure


@styled
def class_counts(counts):
    """How many training images each class has: ``counts`` is a sequence of numbers, one per class."""
    figure, axis = plt.subplots(figsize=(6.2, 2))
    axis.bar(range(len(counts)), sorted(counts, reverse=True), width=0.9)
    axis.set(xlabel=f"{len(counts)} classes, largest first", ylabel="training images")
    axis.xaxis.get_major_locator().set_params(integer=True)
    spread = f"{min(counts)}" if min(counts) == max(counts) else f"Between {min(counts)} and {max(counts)}"
    axis.set_title(f"{spread} images a class, {sum(counts)} in all")
    return figure


@styled
def learning_curves(histories, metric, title=None):
    """Losses and metric against epochs: ``histories`` maps a network's name to its rows."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.2, 2.5))
    for i, (name, rows) in enumerate(histories.items()):
        epochs = [row["epoch"] for row in rows]
        left.plot(epochs, [row["train_loss"] for row in rows], ":", color=f"C{i}")
        left.plot(epochs, [row["valid_loss"] for row in rows], "o-", color=f"C{i}", label=name)
        right.plot(epochs, [row[metric] for row in rows], "o-", color=f"C{i}", label=name)
    left.set(xlabel="epoch", ylabel="loss", title="Loss: training dotted, validation solid")
    right.set(
        xlabel="epoch", ylabel=METRICS.get(metric, metric), title=f"Validation {METRICS.get(metric, metric)}"
    )
    for axis in (left, right):
        axis.xaxis.get_major_locator().set_params(integer=True)
    right.legend()
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    return figure


METRICS = {
    "accuracy": "accuracy",
    "mean_iou": "mean IoU",
    "psnr": "PSNR (dB)",
    "ssim": "SSIM",
    "ciede2000": "CIEDE2000",
    "ab_error": "ab error",
    "colourfulness": "colourfulness / truth",
    "sharpness": "sharpness / truth",
}


@styled
def intervals(scores, xlabel, title=None, baseline=None):
    """One dot and its 95 % interval per network: ``scores`` maps a name to (value, low, high)."""
    figure, axis = plt.subplots(figsize=(6.2, 0.6 + 0.33 * len(scores)))
    for i, (value, low, high) in enumerate(scores.values()):
        axis.errorbar(value, -i, xerr=[[value - low], [high - value]], fmt="o", capsize=3, color=f"C{i % 7}")
        axis.annotate(
            f"{value:.3g}", (value, -i), xytext=(0, 5), textcoords="offset points", ha="center", fontsize=7
        )
    if baseline is not None:
        axis.axvline(baseline, color="#555555", lw=1, ls="--")
    axis.set_yticks(-np.arange(len(scores)), list(scores))
    axis.set(xlabel=f"{xlabel}, with 95 % intervals", ylim=(0.7 - len(scores), 0.7))
    axis.grid(axis="y", visible=False)
    axis.set_title(title)
    return figure


@styled
def class_iou(ious, classes, title=None):
    """Per-class IoU of several networks: ``ious`` maps a name to (C, 3) value, low, high."""
    figure, axis = plt.subplots(figsize=(7.2, 2.8))
    first = np.asarray(next(iter(ious.values())))[:, 0]
    order = np.argsort(-np.nan_to_num(first, nan=-1))
    width = 0.8 / len(ious)
    for i, (name, table) in enumerate(ious.items()):
        value, low, high = np.nan_to_num(np.asarray(table, dtype=float)[order]).T
        place = np.arange(len(order)) + (i - (len(ious) - 1) / 2) * width
        errors = [np.maximum(value - low, 0), np.maximum(high - value, 0)]
        axis.bar(place, value, width, yerr=errors, label=name, error_kw={"lw": 0.8})
    axis.set_xticks(
        range(len(order)), [classes[i] for i in order], rotation=40, ha="right", rotation_mode="anchor"
    )
    axis.set(ylabel="IoU", ylim=(0, 1.02))
    axis.grid(axis="x", visible=False)
    axis.legend(ncols=len(ious), loc="upper right", bbox_to_anchor=(1, 1.1))
    axis.set_title(title)
    return figure


@styled
def confused_pairs(matrix, classes, count=8):
    """The most frequent mistakes of a confusion matrix (C, C): true class → what it was taken for."""
    mistakes = np.asarray(matrix).copy()
    np.fill_diagonal(mistakes, 0)
    worst = [k for k in np.argsort(-mistakes, axis=None, kind="stable")[:count] if mistakes.flat[k]]
    pairs = [divmod(int(k), len(mistakes)) for k in worst]
    figure, axis = plt.subplots(figsize=(6.2, 0.7 + 0.22 * max(len(pairs), 1)))
    axis.barh(range(len(pairs)), [mistakes[pair] for pair in pairs], color="C1")
    axis.set_yticks(
        range(len(pairs)), [f"{classes[a].title()} → {classes[b].title()}" for a, b in pairs], fontsize=7
    )
    axis.invert_yaxis()
    axis.set(xlabel="test images")
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.grid(axis="y", visible=False)
    axis.set_title(f"{mistakes.sum()} of {np.asarray(matrix).sum()} test images are taken for another class")
    return figure


@styled
def sharpness_and_colour(points, title=None):
    """Where each variant stands: ``points`` maps a name to (sharpness / truth, ab error)."""
    figure, axis = plt.subplots(figsize=(6.2, 2.8))
    for i, (name, (x, y)) in enumerate(points.items()):
        axis.plot(x, y, "os^D"[i // 7 % 4], color=f"C{i % 7}", ms=7, ls="", label=name, alpha=0.85)
    axis.set(xlabel="sharpness / truth (1 is as sharp)", ylabel="ab error (0 is the right colour)")
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
    first = [values[0] for values in gradients.values()]
    axis.set_title(
        f"Before training, the first convolution's gradients: {' and '.join(f'{v:.2g}' for v in first)}"
    )
    return figure


def busiest_spots(band, side, count):
    """Where borders are densest: ``count`` squares (image, top, left), one an image; band (N, H, W)."""
    step = max(1, side // 4)
    density = torch.nn.functional.avg_pool2d(torch.as_tensor(band).float(), side, step)
    best = density.flatten(1).max(1)
    spots = []
    for i in best.values.argsort(descending=True)[:count].tolist():
        y, x = divmod(int(best.indices[i]), density.shape[2])
        spots.append((i, y * step, x * step))
    return spots
