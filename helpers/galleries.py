"""Tables of pictures: functions take arrays and return a figure, or arrays that are pictures."""

import textwrap

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib import patheffects
from scipy.ndimage import distance_transform_edt

from helpers.figures import WIDEST, styled


def to_picture(image):
    """Anything that is a picture -> (H, W, 3) or (H, W) array that matplotlib shows as it is."""
    image = image.detach().cpu().numpy() if isinstance(image, torch.Tensor) else np.asarray(image)
    if image.ndim == 3 and image.shape[0] in (1, 3) and image.shape[2] not in (1, 3):
        image = image.transpose(1, 2, 0)
    return image.squeeze(-1) if image.ndim == 3 and image.shape[2] == 1 else image


def grid(table, inches, heights, title):
    """A figure of a table of pictures, without ticks; rows may differ in height, and end early."""
    shape = {"nrows": len(table), "ncols": len(table[0]), "height_ratios": heights, "squeeze": False}
    figure, axes = plt.subplots(**shape, figsize=inches)
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    for line, pictures in zip(axes, table, strict=True):
        for axis, picture in zip(line, pictures, strict=False):
            axis.imshow(picture, cmap="gray", vmin=0, vmax=1 if picture.dtype.kind == "f" else 255)
        for axis in line:
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
    return figure, axes


@styled
def gallery(images, titles=None, *, columns=8, title=None, size=1.35):
    """Pictures in a grid, each with its title, which is wrapped to the picture's width (inches)."""
    pictures, lines = [to_picture(image) for image in images], 0
    if titles is not None:
        titles = ["\n".join(textwrap.fill(x, int(15 * size)) for x in t.split("\n")) for t in titles]
        lines = max(t.count("\n") for t in titles) + 1
    table = [pictures[i : i + columns] for i in range(0, len(pictures), columns)]
    height = size * pictures[0].shape[0] / pictures[0].shape[1] + 0.14 * lines
    inches = size * len(table[0]), height * len(table) + 0.3 * bool(title)
    figure, axes = grid(table, inches, [1] * len(table), title)
    for axis, above in zip(axes.flat, titles or (), strict=False):
        axis.set_title(above, fontsize=7, loc="center", pad=2)
    return figure


@styled
def compare(columns, rows=None, *, only=None, labels=None, crop=None, across=False, title=None, size=1.9):
    """A table of pictures: one row per example, one titled column per kind (picture, truth, network …).

    Args:
        columns: {title: N pictures}; ``only`` names those to show.
        rows: which of the N, each with one of ``labels``; default: all.
        crop: side in pixels of the squares that are cut out and enlarged; rows are then (index, top, left).
        across: one column per example and one labelled row per kind instead.
    """
    columns = {name: columns[name] for name in only or columns}
    rows = range(len(next(iter(columns.values())))) if rows is None else rows
    spots, side = rows if crop else [(i, 0, 0) for i in rows], crop or None
    kinds = columns.values()
    table = [[to_picture(pictures[i])[y:, x:][:side, :side] for i, y, x in spots] for pictures in kinds]
    titles, labels = (labels, list(columns)) if across else (list(columns), labels)
    table = table if across else list(zip(*table, strict=True))
    size = min(size, WIDEST / len(table[0]))
    titles = [textwrap.fill(above, max(8, int(14 * size))) for above in titles or ()]
    above = 0.35 + 0.14 * max((name.count("\n") for name in titles), default=0)
    # One stretch of figure per row, so that rows of other shapes keep their proportions.
    heights = [line[0].shape[0] / line[0].shape[1] for line in table]
    figure, axes = grid(table, (size * len(table[0]), size * sum(heights) + above), heights, title)
    for axis, name in zip(axes[0], titles, strict=False):
        axis.set_title(name, fontsize=9, loc="center", pad=3)
    for axis, beside in zip(axes[:, 0], labels or (), strict=False):
        axis.set_ylabel(beside, fontsize=8)
    return figure


def paint(masks, palette):
    """Masks of class ids (..., H, W) in their data set's colours: (..., H, W, 3) uint8."""
    return np.asarray(palette, dtype=np.uint8)[np.asarray(masks).astype(np.int64)]


def error_map(images, predictions, targets):
    """Pictures (..., H, W, 3) in faint grey, pixels of a wrong class in red: uint8, the same shape."""
    grey = 128 + np.asarray(images).mean(-1, keepdims=True) / 2
    wrong = (np.asarray(predictions) != np.asarray(targets))[..., None]
    return np.where(wrong, np.array([213, 40, 0]), grey).astype(np.uint8)


@styled
def believed(image, probability, classes, palette, opacity, row, column, title=None):
    """Classes laid over a picture, named where widest, and what is believed of the pixel at the cross.

    ``image`` uint8 (3, H, W), ``probability`` (C, H, W); ``opacity`` of the classes' colours from 0 to 1.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.6, 3), width_ratios=(1.8, 1))
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    ids, outlined = probability.argmax(0).numpy(), [patheffects.withStroke(linewidth=2, foreground="white")]
    left.imshow(((1 - opacity) * to_picture(image) + opacity * paint(ids, palette)) / 255)
    for c in np.unique(ids):
        depth = distance_transform_edt(np.pad(ids == c, 1))[1:-1, 1:-1]
        y, x = np.unravel_index(depth.argmax(), depth.shape)
        if depth.max() > len(ids) / 24:  # a smaller spot has no room for its name
            side = ("left", "center", "right")[int(6 * x / ids.shape[1] + 1) // 3]
            left.text(x, y, classes[c], fontsize=7, ha=side, va="center", path_effects=outlined)
    for width, colour in ((4, "white"), (1.5, "black")):
        left.plot(column, row, "+", ms=16, mew=width, color=colour, clip_on=False)
    left.set(xlabel=f"column {column}", ylabel=f"row {row}", xticks=[], yticks=[])
    shares, places = probability[:, row, column].numpy(), np.arange(len(classes))
    edges = {"color": np.array(palette)[: len(classes)] / 255, "edgecolor": "#555555", "linewidth": 0.5}
    bars = right.barh(places, shares, **edges)
    right.bar_label(bars, [f"{s:.0%}" if s >= 0.005 else "" for s in shares], padding=2, fontsize=7)
    right.scatter(0 * places - 0.05, places, 36, marker="s", clip_on=False, **edges)  # where a bar is empty
    right.set_yticks(places, classes)
    right.tick_params(axis="y", length=0, pad=12)
    right.set(xlim=(0, 1.12), xlabel="probability at the cross", ylim=(len(places) - 0.4, -0.6))
    right.grid(axis="y", visible=False)
    return figure


@styled
def strip(columns, title=None, size=1.9, line=None):
    """Pictures of one shape side by side, ``columns`` by title: one frame, so quicker than ``compare``.

    ``line``: a vertical line at this share of the width.
    """
    table = [to_picture(picture) for picture in columns.values()]
    table = [x if x.dtype == np.uint8 else (255 * x.clip(0, 1)).round().astype(np.uint8) for x in table]
    table = [x if x.ndim == 3 else x[..., None].repeat(3, 2) for x in table]
    (height, width, _), count, gap = table[0].shape, len(table), len(table[0]) // 24
    apart = np.hstack([np.pad(x, ((0, 0), (0, gap), (0, 0)), constant_values=255) for x in table])
    inches = size * count, size * height / width + 0.35
    figure, ((axis,),) = grid([[apart[:, :-gap]]], inches, [1], title)
    for place, name in enumerate(columns):
        middle = place * (width + gap) + width / 2
        axis.text(middle, -1 - height / 36, name, ha="center", va="bottom", fontsize=9)
    for wide, colour in ((4, "white"), (1.5, "black")) if line is not None else ():
        axis.axvline(line * width - 0.5, lw=wide, color=colour)
    return figure


def busiest_spots(where, side, count):
    """The ``count`` squares, one a picture, where a map (N, H, W) is largest: [(picture, top, left), …]."""
    step = max(1, side // 4)
    density = torch.nn.functional.avg_pool2d(torch.as_tensor(where).float(), side, step)
    best = density.flatten(1).max(1)
    places = [divmod(int(index), density.shape[2]) for index in best.indices]
    order = best.values.argsort(descending=True)[:count].tolist()
    return [(i, places[i][0] * step, places[i][1] * step) for i in order]
