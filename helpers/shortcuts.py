"""What the shortcuts of a ResNet do: experiments with networks that give numbers."""

from contextlib import ExitStack, contextmanager
from copy import deepcopy
from zlib import crc32

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.swa_utils import update_bn

from helpers.models.resnet import BasicBlock


class DosedBlock(BasicBlock):
    """A residual block that adds only a share of its input: F(x) + dose·x (He et al., 2016).

    The ``dose`` of arXiv:1603.05027's "constant scaling", for identity and projection alike: 1 is
    the residual block, 0 the plain one. A ResNet of them: ``block=partial(DosedBlock, dose=0.5)``.
    """

    def __init__(self, in_channels, channels, stride=1, *, dose):
        super().__init__(in_channels, channels, stride)
        self.dose = dose

    def forward(self, x):
        shortcut = x
        if self.downsample is not None:
            shortcut = self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))  # (N, channels, H/stride, W/stride)
        out = self.bn2(self.conv2(out))
        return self.relu(out + self.dose * shortcut)


@torch.no_grad()
def dirac_start(model):
    """Begin the 3×3 convolutions of a new network's blocks as identities, and return the network.

    As in DiracNets (Zagoruyko and Komodakis, 2017, 1706.00388), but only the start: the identity
    replaces the random filters, is trained like them, and no shortcut stays. A convolution that
    adds channels has the identity in its first ones and random filters in the others: begun at
    zero, those would stay so, since a ReLU passes no gradient there. Saved runs know such a network
    by its ``start``. Raises ValueError where there are no blocks.
    """
    for block in blocks_of(model):
        for layer in (block.conv1, block.conv2):
            nn.init.dirac_(layer.weight[: layer.in_channels])
    model.start = "dirac"
    return model


def blocks_of(model):
    """The blocks of a ResNet, from the first on. Raises ValueError where there are none."""
    blocks = [module for module in model.modules() if isinstance(module, BasicBlock)]
    if not blocks:
        raise ValueError(
            f"no block in {type(model).__name__}: build it of helpers.models.resnet.BasicBlock, "
            "or of a class that inherits from it"
        )
    return blocks


@contextmanager
def without_blocks(model, numbers):
    """A trained ResNet without the blocks of these numbers (0: first), as in Veit et al. (2016).

    A residual block leaves its shortcut, identity or projection. A plain block has no shortcut.
    Its input is passed on instead, with He et al.'s shortcut without parameters: every second
    pixel where the block halves the map, and zeros in the channels that it adds.
    Raises ValueError where there is no such block.
    """
    blocks = blocks_of(model)
    with ExitStack() as hooks:
        for number in numbers:
            if not 0 <= number < len(blocks):
                raise ValueError(f"no block {number}: this network has 0 … {len(blocks) - 1}")
            block = blocks[number]
            if block.skip:
                hooks.enter_context(block.bn2.register_forward_hook(_nothing))
            else:
                hooks.enter_context(block.register_forward_hook(_pass_on))
        yield model


def _nothing(layer, inputs, out):
    """What the last layer before the addition gives in a residual block that is taken out."""
    return torch.zeros_like(out)


def _pass_on(block, inputs, out):
    """What comes out in place of ``out`` where a plain block is taken out."""
    (x,) = inputs  # (N, in_channels, H, W)
    passed = torch.zeros_like(out)
    passed[:, : x.shape[1]] = F.max_pool2d(x, 1, block.conv1.stride)  # a pixel per stride
    return passed


def block_alignment(model, loss, inputs, target):
    """Whether each block moves its input down the loss (Jastrzębski et al., 2018, 1710.04773).

    Compared are block(x) − x and −∂loss/∂x at the block's input x: their cosine in [−1, 1], the
    mean over the images. The change is that after the block's last ReLU, and the gradient that of
    the whole network behind x, shortcut included. In a copy, batch norm takes the statistics of
    ``inputs``, as in training, so that new and trained networks compare.
    Give a ``loss`` without label smoothing: that pulls back what is right, and hides most of it.

    Returns {number of the block, 0 is the first: cosine}. Blocks whose input has another shape than
    their output are left out. Raises ValueError where there are no blocks.
    """
    model = deepcopy(model).eval()
    device = next(model.parameters()).device
    update_bn([inputs], model, device)
    passed = []  # what goes into each block and comes out, in the order in which they answer

    def note(block, block_inputs, out):
        passed.append((*block_inputs, out))

    for block in blocks_of(model):
        block.register_forward_hook(note)
    value = loss(model(inputs.to(device)), target.to(device))

    alignment = {}
    for number, (x, out) in enumerate(passed):
        if x.shape == out.shape:
            (gradient,) = torch.autograd.grad(value, x, retain_graph=True)
            cosines = F.cosine_similarity((out - x).flatten(1), -gradient.flatten(1))  # (N,)
            alignment[number] = cosines.mean().item()
    return alignment


def gradient_correlation(model, starts, ends):
    """How alike the input gradients of neighbouring inputs are (Balduzzi et al., 2017, 1702.08591).

    Each line leads from one of ``starts`` to its twin in ``ends``, both (L, C, H, W). At each of
    five points we take the gradient of one random mixture of the outputs, and its cosine with
    the gradient at the next point. 1 is smooth, 0 is white noise. For an untrained network: in a
    copy of it, batch norm takes the statistics of ``starts``. Returns (L,), the lines' means.
    """
    model = deepcopy(model).eval()
    update_bn([starts], model)
    steps = [starts.lerp(ends, share) for share in np.linspace(0, 1, 5)]
    inputs = torch.cat(steps).requires_grad_()  # (5·L, C, H, W)
    outputs = model(inputs)  # (5·L, outputs)

    draws = torch.Generator().manual_seed(0)
    mixture = torch.randn(outputs.shape[1], generator=draws).to(outputs)
    mixed = outputs @ mixture  # (5·L,)
    (gradients,) = torch.autograd.grad(mixed.sum(), inputs)
    gradients = gradients.reshape(5, len(starts), -1)  # (5, L, C·H·W)
    cosines = F.cosine_similarity(gradients[:-1], gradients[1:], dim=2)  # (4, L)
    return cosines.mean(0).numpy()


@torch.no_grad()
def loss_landscape(model, loss, inputs, target, reach=0.5, steps=11):
    """The loss on a random plane through a trained network's weights (Li et al., 2018, 1712.09913).

    Each filter of a direction is as long as the network's own, so that networks of different scale
    compare. Biases and batch norm stay as trained. Weights of one name and shape get the same
    random numbers in every network.

    Returns ``loss(model(inputs), target)`` up to ``reach`` lengths of the weights away,
    (steps, steps). Where ``steps`` is odd, the middle is the trained network.
    """
    moved = deepcopy(model).eval()
    device = next(model.parameters()).device
    inputs = inputs.to(device)
    target = target.to(device)
    plane = []
    for name, weight in model.named_parameters():
        if weight.ndim > 1:
            right = _direction(weight, f"0 0 {name}")
            up = _direction(weight, f"0 1 {name}")
            plane.append((moved.get_parameter(name), weight, right, up))

    way = np.linspace(-reach, reach, steps)
    surface = np.empty((steps, steps))
    for row, column in np.ndindex(steps, steps):
        for moving, weight, right, up in plane:
            moving.copy_(weight + way[row] * up + way[column] * right)
        surface[row, column] = loss(moved(inputs), target)
    return surface


def _direction(weight, text):
    """A random direction, filter by filter as long as ``weight``. ``text`` seeds it."""
    generator = torch.Generator().manual_seed(crc32(text.encode()))
    filters = weight.flatten(1)  # a row per filter
    drawn = torch.randn(filters.shape, generator=generator).to(filters)
    drawn = F.normalize(drawn) * filters.norm(dim=1, keepdim=True)
    return drawn.view_as(weight)
