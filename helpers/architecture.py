"""Figures of the networks, drawn from the modules themselves: what is not there is not shown."""

from copy import deepcopy

import matplotlib.pyplot as plt
import torch
from matplotlib.patches import Rectangle
from torch import nn

from helpers.figures import GREY, styled
from helpers.models.resnet import BasicBlock
from helpers.models.unet import UNet

ORANGE = "#D55E00"
COLOURS = {  # of steps with this in their name; the others are pink
    "input": "#dddddd",
    "layer": "#56B4E9",
    "down": "#56B4E9",
    "up": "#009E73",
    "conv": "#E69F00",
    "pool": "#E69F00",
}


@torch.no_grad()
def shapes(model, images):
    """Run ``images`` through and list each step's output: [(name, module, (N, C, H, W)), …].

    A step is a direct child, or a member of a child that is a sequence of blocks. An answer of
    another size than the last step's follows as "enlarged".
    """
    model = deepcopy(model).eval()
    names = dict(_steps(model))
    seen = []

    def note(module, inputs, out):
        seen.append((names[module], module, tuple(out.shape)))

    for module in names:
        module.register_forward_hook(note)
    answer = tuple(model(images).shape)
    _, _, last = seen[-1]
    if answer[2:] != last[2:]:
        seen.append(("enlarged", model, answer))
    return seen


def _steps(module, above=""):
    """Each step's module and name."""
    for name, child in module.named_children():
        if isinstance(child, nn.ModuleList) or name.startswith("layer") or name == "backbone":
            yield from _steps(child, f"{above}{name}.")
        else:
            yield child, above + name


@styled
def architecture(model, images, title=None):
    """The module's blocks to scale (height: pixels, width: channels), its skips as arrows."""
    skips = model.skip if isinstance(model, UNet) else ()
    depth = len(skips)
    steps = shapes(model, images)
    note = ""  # of another network nobody knows where its skips are
    if any(isinstance(module, BasicBlock) for module in model.modules()):
        note = ";  no shortcuts"
    levels = {"bottleneck": depth}  # all others are at 0
    if skips:
        steps.insert(0, ("input", None, images.shape))
        note = f";  {sum(skips)} of {depth} skips (orange): concatenated with the upsampled map"
    for level in range(depth):
        levels[f"down.{level}"] = level
        levels[f"up.{level}"] = level

    figure, axis = plt.subplots(figsize=(7.2, 2 + 0.5 * depth))
    axis.axis("off")
    figure.suptitle(title)
    blocks = {}
    before = None
    x = 0.0
    for name, module, shape in steps:
        if isinstance(module, nn.BatchNorm2d | nn.ReLU | nn.ConvTranspose2d):
            continue  # part of the convolution before, or of the block after
        block = _block(axis, x, -1.45 * levels.get(name, 0), shape, name)
        if before:
            _arrow(axis, before, block, color=GREY)
        if isinstance(module, BasicBlock) and module.skip:
            note = ";  shortcuts (orange): identity, or 1×1 projection (dashed)"
            dashes = "-" if module.downsample is None else "--"
            _arrow(
                axis,
                before,
                block,
                x=1,
                y=1,
                color=ORANGE,
                lw=1.2,
                ls=dashes,
                connectionstyle="arc3,rad=-0.5",
            )
        blocks[name] = block
        before = block
        x += block.get_width() + 0.5

    for level in range(depth):
        if skips[level]:
            _arrow(axis, blocks[f"down.{level}"], blocks[f"up.{level}"], color=ORANGE, lw=1.6)
    axis.set(xlim=(-0.3, x), ylim=(-1.45 * depth - 1.4, 1.6))
    figure.supxlabel(f"below each block: name, channels, height × width{note}")
    return figure


def _block(axis, x, y, shape, name):
    """One block, as wide as its channels and as high as its map. Returns its rectangle."""
    channels, *size = shape[1:]
    width = 0.1 * max(channels, 2) ** 0.4
    height = 0.16 * max(size, default=1) ** 0.5
    colour = "#CC79A7"
    for part in COLOURS:
        if part in name:
            colour = COLOURS[part]
    bottom = y - height / 2
    block = axis.add_patch(Rectangle((x, bottom), width, height, fc=colour))
    measured = "×".join(map(str, size))
    text = f"{name.removeprefix('backbone.')}\n{channels}\n{measured}"
    axis.text(x + width / 2, bottom - 0.05, text, ha="center", va="top")
    return block


def _arrow(axis, start, end, x=0, y=0.5, **style):
    """An arrow from a block's right edge to another's left edge, or its right one (``x=1``).

    ``y`` is where on both edges: 0 is the lower end, 1 the upper.
    """
    style = {"arrowstyle": "-|>", "mutation_scale": 7, **style}
    axis.annotate("", (x, y), (1, y), xycoords=end, textcoords=start, arrowprops=style)
