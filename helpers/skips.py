"""What a skip carries, and what is lost without it: each experiment takes networks and gives numbers."""

from contextlib import ExitStack, contextmanager
from copy import deepcopy
from zlib import crc32

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter

from helpers.colour import rgb_to_grey
from helpers.data.batches import ArrayDataset
from helpers.metrics import border_band, per_image_confusion
from helpers.models.resnet import BasicBlock

DISTANCES = (1, 2, 3, 5, 8, 13)  # pixels
CORRUPTIONS = ("noise", "blur", "fog", "contrast")


def lesions(measure, cuts):
    """What ``measure(net)`` gives with each of ``cuts`` made: (cuts, ...).

    A cut is a context, ``without_blocks(net, [3])`` or ``without_bridges(net, [0], means)``. Nothing is
    trained, and the network is whole again afterwards.
    """
    found = []
    for cut in cuts:
        with cut as net:
            found.append(np.asarray(measure(net)))
    return np.stack(found)


@contextmanager
def without_blocks(net, numbers):
    """A trained ResNet whose blocks of these numbers (0: first) are taken out (Veit et al., 2016).

    Of a residual block its shortcut is left, identity or projection. Of a plain one nothing would be: its
    input is passed on in its place, every second pixel where the block halves the map, and zeros in the
    channels that it adds (He et al.'s shortcut without parameters). ValueError where there is no such block.
    """
    blocks = [module for module in net.modules() if isinstance(module, BasicBlock)]
    if any(not 0 <= number < len(blocks) for number in numbers):
        raise ValueError(f"no blocks {tuple(numbers)}: this net has 0 … {len(blocks) - 1}")
    with ExitStack() as hooks:
        for number in numbers:
            hooks.enter_context(blocks[number].register_forward_hook(_passed_on))
        yield net


def _passed_on(block, inputs, out):
    (x,) = inputs
    if block.downsample is not None:
        return F.relu(block.downsample(x))
    stride = block.conv1.stride[0]
    return F.pad(x[..., ::stride, ::stride], (0, 0, 0, 0, 0, out.shape[1] - x.shape[1]))


@torch.no_grad()
def bridge_means(net, batches):
    """What each bridge of a U-Net carries on average: a (C,) tensor per level, shallowest first.

    The mean over pictures and pixels of ``batches``, each inputs (N, C, H, W) as the network sees them.
    """
    sums, count, was_training = dict.fromkeys(net.down, 0.0), 0, net.training

    def note(block, inputs, out):
        sums[block] = sums[block] + out.float().mean((2, 3)).sum(0)

    try:
        with ExitStack() as hooks:
            for block in net.down:
                hooks.enter_context(block.register_forward_hook(note))
            for inputs in batches:
                net.eval()(inputs.to(next(net.parameters()).device))
                count += len(inputs)
    finally:
        net.train(was_training)
    return [total / count for total in sums.values()]


@contextmanager
def without_bridges(net, levels, means):
    """A trained U-Net whose bridges of these levels (0: shallowest) carry ``means[level]`` at every pixel.

    The contracting path goes on as trained. With the mean the next layer gets the statistics it was trained
    on; zeros in its place would shift them, and more would be lost than what the map said. ValueError where
    a level has no bridge.
    """
    if missing := [level for level in levels if not (0 <= level < len(net.skip) and net.skip[level])]:
        raise ValueError(f"no bridges at levels {missing}: this U-Net's are {net.skip}, shallowest first")

    wanted = {net.up[level]: means[level] for level in levels}

    def replace(block, inputs):
        (joined,) = inputs  # (N, bridge's channels + upsampled ones, H, W)
        mean = wanted[block].to(joined)[None, :, None, None].expand(len(joined), -1, *joined.shape[2:])
        return torch.cat([mean, joined[:, mean.shape[1] :]], 1)

    with ExitStack() as hooks:
        for block in wanted:
            hooks.enter_context(block.register_forward_pre_hook(replace))
        yield net


def gradient_correlation(net, starts, ends, points=5):
    """How alike the input gradients of neighbouring inputs are (Balduzzi et al., 2017, 1702.08591).

    On the line from each of ``starts`` to its twin in ``ends``, both (L, C, H, W): the gradient of one random
    mixture of the outputs, and its cosine with the next point's; 1 is smooth, 0 white noise. Returns (L,),
    means of lines. For an untrained network: in a copy of it, batch norm takes the statistics of ``starts``.
    """
    net = deepcopy(net)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # the plain mean of what is seen
    with torch.no_grad():
        outputs = net.train()(starts)
    mixture = torch.randn(outputs.shape[1], generator=torch.Generator().manual_seed(0)).to(outputs)
    way = torch.linspace(0, 1, points).to(starts)[:, None, None, None]
    lines = (starts[:, None] + way * (ends - starts)[:, None]).flatten(0, 1).requires_grad_()
    (gradients,) = torch.autograd.grad((net.eval()(lines) @ mixture).sum(), lines)
    gradients = F.normalize(gradients.flatten(1)).unflatten(0, (-1, points))  # (L, points, C·H·W)
    return (gradients[:, 1:] * gradients[:, :-1]).sum(2).mean(1).numpy()


@torch.no_grad()
def loss_landscape(net, loss, inputs, target, reach=0.5, steps=11, seed=0):
    """The loss on a random plane through a trained network's weights (Li et al., 2018, 1712.09913).

    Each filter of a direction is as long as the network's own, so that nets of different scale compare;
    biases and batch norm stay as trained. Weights of one name and shape get the same draws in every network.
    Returns ``loss(net(inputs), target)`` up to ``reach`` lengths of the weights away, (steps, steps); in the
    middle, where ``steps`` is odd, that of the trained network.
    """
    moved, way = deepcopy(net).eval(), np.linspace(-reach, reach, steps)
    inputs, target = (tensor.to(next(net.parameters()).device) for tensor in (inputs, target))
    weights = {name: p for name, p in net.named_parameters() if p.ndim > 1}

    def direction(axis, name):
        draws = torch.Generator().manual_seed(crc32(f"{seed} {axis} {name}".encode()))
        p = weights[name].flatten(1)  # a row per filter
        d = F.normalize(torch.randn(p.shape, generator=draws).to(p)) * p.norm(dim=1, keepdim=True)
        return d.view_as(weights[name])

    right, up = ({name: direction(axis, name) for name in weights} for axis in range(2))
    surface = np.empty((steps, steps))
    for row, column in np.ndindex(steps, steps):
        for name, weight in weights.items():
            moved.get_parameter(name).copy_(weight + way[row] * up[name] + way[column] * right[name])
        surface[row, column] = loss(moved(inputs), target)
    return surface


def crispness_by_distance(predictions, truth, num_classes, distances=DISTANCES):
    """Confusion matrices near true borders only: two (N, H, W) of class ids -> {distance: (N, C, C)}.

    The habit of trimaps (Kohli et al., 2009): a pixel counts where one of another true class lies within
    ``distance`` pixels, across, down or on the diagonal.
    """
    bands = {d: border_band(truth, distance=d) for d in distances}
    return {d: per_image_confusion(predictions, truth, num_classes, band) for d, band in bands.items()}


def corrupted(dataset, kind, strength, seed=0):
    """A data set's pictures as another camera or weather might have taken them: an ``ArrayDataset``.

    Of Hendrycks and Dietterich's (2019, 1903.12261) kinds the four of ``CORRUPTIONS``. ``strength`` goes from
    0, the same pictures, to 4: noise of standard deviation 0.2 in [0, 1], blur of 1.6 % of the diagonal,
    cloudy fog that leaves 30 % on average, or a fifth of the contrast.
    """
    random, pictures = np.random.default_rng(seed), dataset.images / np.float32(255)  # (N, H, W, 3)
    count, height, width, _ = pictures.shape
    if kind == "noise":
        pictures = pictures + 0.05 * strength * random.standard_normal(pictures.shape, np.float32)
    elif kind == "blur":
        sigma = 0.004 * strength * np.hypot(height, width)
        pictures = gaussian_filter(pictures, (0, sigma, sigma, 0))
    elif kind == "fog":
        clouds = random.normal(size=(count, height, width, 1))
        clouds = gaussian_filter(clouds, (0, height / 8, height / 8, 0))
        veil = strength * (0.175 + 0.03 * clouds / clouds.std())
        pictures = pictures + np.clip(veil, 0, 1) * (0.9 - pictures)
    elif kind == "contrast":
        mean = pictures.mean((1, 2, 3), keepdims=True)
        pictures = mean + (1 - 0.2 * strength) * (pictures - mean)
    else:
        raise ValueError(f"no corruption {kind!r}: choose one of {', '.join(CORRUPTIONS)}")
    pictures = (255 * pictures.clip(0, 1)).round().astype(np.uint8)
    return ArrayDataset(pictures, dataset.targets, dataset.names, None, dataset.groups, dataset.unit)


def spectrum(answers, truth, octaves=5):
    """Power and coherence of pictures' lightness, octave by octave: two (N, 3, H, W) -> two (N, octaves).

    Octaves of radial frequency, coarse first; the last is 1/4 to 1/2 cycles a pixel. ``power`` is relative to
    the truth's: below 1 detail is missing, above it was invented. ``coherence``, at most 1, says whether it
    is at the right places: the correlation of both pictures in that octave. Under a Hann window.
    """
    height, width = truth.shape[-2:]
    window = torch.outer(torch.hann_window(height, periodic=False), torch.hann_window(width, periodic=False))
    luma = (rgb_to_grey(pictures.cpu())[:, 0] for pictures in (answers, truth))
    a, t = (torch.fft.fft2((x - x.mean((1, 2), keepdim=True)) * window) for x in luma)  # (N, H, W)
    radius = torch.fft.fftfreq(height)[:, None].hypot(torch.fft.fftfreq(width))
    rows = []
    for octave in range(octaves, 0, -1):
        inside = (radius >= 0.5**octave / 2) & (radius < 0.5**octave)
        own, true = (x[:, inside].abs().square().sum(1).clamp(min=1e-12) for x in (a, t))
        shared = (a[:, inside] * t[:, inside].conj()).real.sum(1)
        rows.append(torch.stack([own / true, shared / (own * true).sqrt()]))
    power, coherence = torch.stack(rows, -1).numpy()
    return power, coherence
