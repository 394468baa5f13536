"""Pictures of the networks, drawn from the modules themselves: what is not in the module is not drawn."""

import matplotlib.pyplot as plt
import torch
from matplotlib.patches import FancyArrowPatch, Rectangle

from helpers.figures import styled

ORANGE = "#D55E00"


@torch.no_grad()
def shapes(model, images):
    """Run ``images`` through and list each step's output: [(name, module, (N, C, H, W)), ...].

    A step is a direct child, or a member of a child that is a sequence of blocks. An answer of another size
    than the last step's follows as "enlarged".
    """
    seen = []
    hooks = [
        module.register_forward_hook(lambda m, _, out, name=name: seen.append((name, m, tuple(out.shape))))
        for name, module in _steps(model)
    ]
    was_training = model.training
    try:
        size = tuple(model.eval()(images).shape)
        if size[2:] != seen[-1][2][2:]:
            seen.append(("enlarged", model, size))
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    return seen


def _steps(module, above=""):
    for name, child in module.named_children():
        if isinstance(child, torch.nn.ModuleList) or name.startswith("layer") or name == "backbone":
            yield from _steps(child, f"{above}{name}.")
        else:
            yield above + name, child


@torch.no_grad()
def passes_bottleneck(net, images, level):
    """Share of output pixels that notice a change of one contracting level's map (0: shallowest) of a U-Net.

    The bottleneck and all deeper maps are held still, so that only this level's skip can carry it.
    """
    held, shift = {}, 0.0
    below = (*net.down[level + 1 :], net.bottleneck)
    hooks = [m.register_forward_hook(lambda m, _, out: held.setdefault(m, out)) for m in below]
    hooks.append(net.down[level].register_forward_hook(lambda m, _, out: out + shift))
    try:
        before, shift = net.eval()(images), 1.0
        return (net(images) != before).any(1).float().mean().item()
    finally:
        for hook in hooks:
            hook.remove()


@styled
def architecture(model, images, title=None):
    """The module's blocks to scale (height: pixels, width: channels), with its skip connections as arrows."""
    steps = shapes(model, images)
    is_unet = hasattr(model, "bottleneck")
    figure, axis = plt.subplots(figsize=(7.2, 4 if is_unet else 1.9))
    axis.axis("off")
    note = _draw_unet(axis, model, steps, images) if is_unet else _draw_row(axis, steps)
    note = f"below each block: channels, height × width;  {note}"
    axis.text(0.01, 0.0, note, transform=axis.transAxes, fontsize=7)
    axis.set_title(title)
    return figure


def _box(axis, x, y, shape, label, colour):
    """One block, as wide as log channels and as high as its picture; returns its right edge."""
    channels, size = shape[1], shape[-2:] if len(shape) == 4 else (1, 1)
    width, height = 0.1 * max(channels, 2) ** 0.4, 0.16 * max(size) ** 0.5
    axis.add_patch(Rectangle((x, y - height / 2), width, height, fc=colour, ec="#333333", lw=0.8))
    text = f"{channels}" if size == (1, 1) else f"{channels}\n{size[0]}×{size[1]}"
    axis.text(x + width / 2, y - height / 2 - 0.05, text, ha="center", va="top", fontsize=7)
    behind = {"facecolor": "white", "edgecolor": "none", "pad": 0.4}  # a shortcut may pass there
    axis.text(x + width / 2, y + height / 2 + 0.06, label, ha="center", va="bottom", fontsize=7, bbox=behind)
    return x + width


def _arrow(axis, start, end, **style):
    axis.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=7, **style))


def _draw_row(axis, steps):
    x, shortcuts = 0.0, False
    for name, module, shape in steps:
        if isinstance(module, torch.nn.BatchNorm2d | torch.nn.ReLU):
            continue  # drawn with the convolution before them
        block = hasattr(module, "conv2")
        colour = "#56B4E9" if block else "#E69F00" if "conv" in name or "pool" in name else "#CC79A7"
        right = _box(axis, x, 0, shape, name.replace("backbone.", ""), colour)
        if block and module.skip:
            shortcuts, end = True, right + 0.2
            line = {"color": ORANGE, "lw": 1.2, "ls": "-" if module.downsample is None else "--"}
            axis.plot([x - 0.2, x - 0.2, end], [0, 1.25, 1.25], **line)
            _arrow(axis, (end, 1.25), (end, 0), color=ORANGE, lw=1.2, shrinkA=0, shrinkB=0)
        x = right + 0.52
    axis.set(xlim=(-0.3, x), ylim=(-1.5, 1.4))
    return "shortcuts (orange): identity, or 1×1 projection (dashed)" if shortcuts else "no shortcuts"


def _draw_unet(axis, model, steps, images):
    depth, edges = len(model.skip), {}
    shape_of = {name: shape for name, _, shape in steps}
    down, up = ([f"{way}.{i}" for i in range(depth)] for way in ("down", "up"))
    x, previous = _box(axis, 0, 0, tuple(images.shape), "input", "#dddddd") + 0.4, None
    for name in [*down, "bottleneck", *reversed(up), "head"]:
        level = depth if name == "bottleneck" else 0 if name == "head" else int(name[-1])
        y = -1.45 * level
        colours = {"down": "#56B4E9", "bott": "#CC79A7", "head": "#dddddd"}
        right = _box(axis, x, y, shape_of[name], name, colours.get(name[:4], "#009E73"))
        if previous is not None:
            _arrow(axis, previous, (x - 0.03, y), color="#555555", lw=0.8)
        edges[name], previous = (x, right, y), (right + 0.03, y)
        x = right + (0.34 if name == down[-1] else 0.45)
    for one, other, joined in zip(down, up, model.skip, strict=True):
        if joined:
            (_, left, y), (right, _, _) = edges[one], edges[other]
            _arrow(axis, (left + 0.05, y + 0.15), (right - 0.05, y + 0.15), color=ORANGE, lw=1.6)
    axis.set(xlim=(-0.3, x), ylim=(-1.45 * depth - 1.3, 2))
    return f"{sum(model.skip)} of {depth} skips (orange): concatenated with the upsampled map"
