"""Figures of images: functions take arrays and return a figure, or arrays that are images."""

import textwrap

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.patches import Patch

from helpers import VOID
from helpers.figures import WIDEST, styled

RED = (213, 40, 0)
PALE = (224, 224, 224)  # what counts nowhere


def to_image(image):
    """What matplotlib shows of an array or tensor: uint8 (H, W, 3), (H, W, 1) or (H, W).

    ``image`` is uint8, or float in [0, 1], and has its channels first, last or none.
    """
    image = np.asarray(image)
    if image.dtype.kind == "f":
        image = (255 * image.clip(0, 1)).round().astype(np.uint8)
    if image.ndim == 3 and image.shape[2] not in (1, 3):
        image = image.transpose(1, 2, 0)
    return image


@styled
def gallery(
    images,
    titles=(),
    *,
    columns=8,
    title=None,
    size=1.35,
    key=None,
):
    """Images in a grid, without ticks, and titles above the first so many of them.

    Each image is ``size`` inches wide, or less so that the figure is no wider than a page's text.
    Its title is wrapped to that width. Rows of images of other shapes keep their proportions.
    ``key`` is drawn below them: what a colour means, {name: (red, green, blue)}.
    """
    images = [to_image(image) for image in images]
    columns = min(columns, len(images))
    size = min(size, WIDEST / columns)
    heights = [size * image.shape[0] / image.shape[1] for image in images[::columns]]
    wrapped = []
    most = 0  # lines of a title
    for above in titles:
        lines = []
        for line in above.split("\n"):
            lines += textwrap.wrap(line, int(14 * size))
        wrapped.append("\n".join(lines))
        most = max(most, len(lines))
    room = 0.3 + 0.14 * most * len(wrapped[::columns])  # inches for all titles

    figure, _ = plt.subplots(
        len(heights),
        columns,
        figsize=(size * columns, sum(heights) + room),
        height_ratios=heights,
        subplot_kw={"xticks": [], "yticks": [], "frame_on": False},
    )
    figure.suptitle(title)
    for axis, image in zip(figure.axes, images, strict=False):
        axis.imshow(image, cmap="gray", vmin=0, vmax=255)
    for axis, above in zip(figure.axes, wrapped, strict=False):
        axis.set_title(above, pad=2)
    if key:
        width = size * columns
        longest = max(map(len, key))
        beside = max(1, int(width / (0.4 + 0.07 * longest)))  # names in a row of the legend
        figure.set_size_inches(width, sum(heights) + room + 0.25 + 0.15 * len(key) / beside)
        patches = [Patch(color=np.divide(key[name], 255), label=f" {name}") for name in key]
        figure.legend(handles=patches, loc="outside lower center", ncols=beside)
    return figure


def compare(
    columns,
    rows=None,
    *,
    only=None,
    labels=None,
    across=False,
    size=1.9,
    **options,
):
    """A table of images: one row per example, one titled column per kind (image, truth, …).

    Args:
        columns: {title: N images}. ``only`` names those to show.
        rows: which of the N, each with one of ``labels``. None: all.
        across: one column per example and one labelled row per kind instead.
        options: ``title`` and ``key``, see ``gallery``.
    """
    kinds = list(only or columns)
    if rows is None:
        rows = range(len(columns[kinds[0]]))
    images = [columns[kind][i] for i in rows for kind in kinds]
    titles = kinds
    width = len(kinds)
    if across:
        images = [columns[kind][i] for kind in kinds for i in rows]
        titles = ()
        width = len(rows)
        labels = kinds
    figure = gallery(images, titles, columns=width, size=size, **options)
    for axis, beside in zip(figure.axes[::width], labels or [], strict=False):
        axis.set_ylabel(beside)
    return figure


def close_ups(columns, spots, side):
    """Squares of ``side`` pixels, cut out of the images of ``columns`` as ``compare`` takes them.

    ``spots`` are (image, top, left), see ``busiest_spots``.
    """
    cut = {name: [] for name in columns}
    for name, images in columns.items():
        for i, top, left in spots:
            image = to_image(images[i])
            cut[name].append(image[top : top + side, left : left + side])
    return cut


def busiest_spots(where, side, count):
    """The ``count`` squares, one an image, where a map (N, H, W) is largest: (image, top, left)."""
    step = max(1, side // 4)
    density = F.avg_pool2d(torch.as_tensor(where).float(), side, step)  # (N, rows, columns)
    best = density.flatten(1).max(1)
    busiest = best.values.argsort(descending=True)[:count]
    spots = []
    for i in busiest.tolist():
        row, column = divmod(int(best.indices[i]), density.shape[2])
        spots.append((i, row * step, column * step))
    return spots


def paint(masks, palette):
    """Masks of class ids (..., H, W) in their data set's colours: (..., H, W, 3) uint8.

    VOID is a pale grey.
    """
    colours = np.array([*palette, PALE], dtype=np.uint8)
    return colours[np.minimum(np.asarray(masks), len(palette))]


def class_key(masks, classes, palette):
    """{name: colour} of the classes that occur in ``masks``, which may be several stacked."""
    names = [*classes, "void"]
    colours = [*palette, PALE]
    return {names[i]: colours[i] for i in np.unique(masks).clip(max=len(classes))}


def error_map(images, predictions, targets):
    """Images (..., H, W, 3) in faint grey, pixels of a wrong class in red: uint8, that shape.

    No answer is wrong where the target is VOID.
    """
    grey = 128 + np.asarray(images).mean(-1, keepdims=True) / 2
    truth = np.asarray(targets)
    wrong = (truth != VOID) & (truth != np.asarray(predictions))
    return np.where(wrong[..., None], RED, grey).astype(np.uint8)


@styled
def believed(
    image,
    probability,
    classes,
    palette,
    opacity,
    row,
    column,
    title=None,
):
    """Classes laid over an image, and what is believed of the pixel at the cross.

    Args:
        image: uint8 (3, H, W).
        probability: of each class at each pixel, (C, H, W).
        opacity: of the classes' colours, from 0 to 1.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.6, 3), width_ratios=(1.8, 1))
    figure.suptitle(title)
    ids = probability.argmax(0).numpy()
    mixed = (1 - opacity) * to_image(image) + opacity * paint(ids, palette)
    left.imshow(mixed / 255)
    left.plot(column, row, "w+", ms=16, mew=4)
    left.plot(column, row, "k+", ms=16, mew=1.5)
    left.set(xticks=[], yticks=[])
    left.set(xlabel=f"column {column}", ylabel=f"row {row}")

    colours = np.array(palette) / 255
    right.hlines(classes, 0, 1, colours, lw=6, alpha=0.3)  # each class's colour, however unlikely
    bars = right.barh(classes, probability[:, row, column].numpy(), color=colours)
    right.bar_label(bars, fmt="{:.0%}", padding=2)
    right.invert_yaxis()
    right.set_xlabel("probability at the cross")
    return figure
