"""Pictures of the networks, drawn from the modules themselves: what is not in the module is not drawn."""

import matplotlib.pyplot as plt
import torch
from matplotlib.patches import FancyArrowPatch, Rectangle

from helpers.figures import styled


def shapes(model, images):
    """Run ``images`` through and list each step's output: [(name, module, (N, C, H, W)), ...].

    A step is a direct child, or a member of a child that is a sequence of blocks.
    """
    steps, seen, hooks = [], [], []
    for name, child in model.named_children():
        blocks = isinstance(child, torch.nn.ModuleList) or name.startswith("layer") or name == "backbone"
        steps += [(f"{name}.{n}", m) for n, m in child.named_children()] if blocks else [(name, child)]
    for name, module in steps:
        hooks.append(
            module.register_forward_hook(
                lambda m, _, out, name=name: seen.append((name, m, tuple(out.shape)))
            )
        )
    was_training = model.training
    try:
        with torch.inference_mode():
            model.eval()(images)
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    return seen


@styled
def architecture(model, images, title=None):
    """The module's blocks to scale (height: pixels, width: channels), with its skip connections as arrows."""
    steps = shapes(model, images)
    return (
        _draw_unet(model, steps, images, title) if hasattr(model, "bottleneck") else _draw_row(steps, title)
    )


def _box(axis, x, y, shape, label, colour):
    """One block, as wide as log channels and as high as its picture; returns its right edge."""
    channels, size = shape[1], shape[-2:] if len(shape) == 4 else (1, 1)
    width, height = 0.1 * max(channels, 2) ** 0.4, 0.16 * max(size) ** 0.5
    axis.add_patch(
        Rectangle((x, y - height / 2), width, height, facecolor=colour, edgecolor="#333333", lw=0.8)
    )
    text = f"{channels}" if size == (1, 1) else f"{channels}\n{size[0]}×{size[1]}"
    axis.text(x + width / 2, y - height / 2 - 0.05, text, ha="center", va="top", fontsize=6)
    axis.text(x + width / 2, y + height / 2 + 0.04, label, ha="center", va="bottom", fontsize=6, rotation=0)
    return x + width


def _arrow(axis, start, end, **style):
    axis.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=7, **style))


def _draw_row(steps, title):
    figure, axis = plt.subplots(figsize=(7.2, 1.9))
    x, shortcuts = 0.0, False
    for name, module, shape in steps:
        if isinstance(module, torch.nn.BatchNorm2d | torch.nn.ReLU):
            continue  # drawn with the convolution before them
        block = hasattr(module, "conv2")
        colour = "#56B4E9" if block else "#E69F00" if "conv" in name or "pool" in name else "#CC79A7"
        right = _box(axis, x, 0, shape, name.replace("backbone.", ""), colour)
        if block and module.skip:
            shortcuts = True
            line = "-" if module.downsample is None else "--"
            axis.plot([x - 0.13, x - 0.13, right + 0.13], [0, 1.25, 1.25], color="#D55E00", lw=1.2, ls=line)
            _arrow(
                axis, (right + 0.13, 1.25), (right + 0.13, 0), color="#D55E00", lw=1.2, shrinkA=0, shrinkB=0
            )
        x = right + 0.4
    axis.set(xlim=(-0.3, x), ylim=(-1.5, 1.4))
    note = "shortcuts (orange): identity, or 1×1 projection (dashed)" if shortcuts else "no shortcuts"
    return _finish(figure, axis, title, note)


def _draw_unet(model, steps, images, title):
    figure, axis = plt.subplots(figsize=(7.2, 4))
    depth, edges, gap = len(model.skip), {}, 0.75
    shape_of = {name: shape for name, _, shape in steps}
    names = (
        [f"down.{i}" for i in range(depth)]
        + ["bottleneck"]
        + [f"up.{i}" for i in reversed(range(depth))]
        + ["head"]
    )
    x, previous = _box(axis, 0, 0, tuple(images.shape), "input", "#dddddd") + 0.3, None
    for name in names:
        level = depth if name == "bottleneck" else 0 if name == "head" else int(name[-1])
        y = -1.45 * level
        colour = {"down": "#56B4E9", "bott": "#CC79A7", "up.0": "#009E73"}.get(name[:4], "#009E73")
        right = _box(axis, x, y, shape_of[name], name, "#dddddd" if name == "head" else colour)
        if previous is not None:
            _arrow(axis, previous, (x - 0.03, y), color="#555555", lw=0.8)
        edges[name], previous = (x, right, y), (right + 0.03, y)
        x = right + gap * (0.45 if name == f"down.{depth - 1}" else 0.6)
    for level, joined in enumerate(model.skip):
        if joined:
            (_, left, y), (right, _, _) = edges[f"down.{level}"], edges[f"up.{level}"]
            _arrow(axis, (left + 0.05, y + 0.15), (right - 0.05, y + 0.15), color="#D55E00", lw=1.6)
    axis.set(xlim=(-0.3, x), ylim=(-1.45 * depth - 1, 2))
    joined = sum(model.skip)
    return _finish(
        figure, axis, title, f"{joined} of {depth} skips (orange): concatenated with the upsampled map"
    )


def _finish(figure, axis, title, note):
    axis.axis("off")
    axis.text(
        0.01,
        0.0,
        f"below each block: channels, height × width;  {note}",
        transform=axis.transAxes,
        fontsize=7,
    )
    axis.set_title(title)
    return figure
