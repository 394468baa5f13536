"""What a skip carries and what is lost without it: experiments with networks that give numbers."""

from contextlib import ExitStack, contextmanager
from copy import deepcopy
from functools import partial
from itertools import count
from zlib import crc32

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter
from torch.optim.swa_utils import update_bn
from torch.signal.windows import hann

from helpers.colour import rgb_to_grey
from helpers.data.batches import ArrayDataset
from helpers.metrics import border_band, per_image_confusion
from helpers.models.resnet import BasicBlock
from helpers.models.unet import UNet

DISTANCES = (1, 2, 3, 5, 8, 13)  # pixels
CORRUPTIONS = ("noise", "blur", "fog", "contrast")


def lesions(measure, cuts):
    """What ``measure(model)`` gives with each of ``cuts`` made: (cuts, ...).

    A cut is a context: ``without_blocks(model, [3])`` or ``without_skips(model, [0], means)``.
    Nothing is trained, and the network is whole again afterwards.
    """
    found = []
    for cut in cuts:
        with cut as model:
            found.append(measure(model))
    return np.stack(found)


@contextmanager
def without_blocks(model, numbers):
    """A trained ResNet without the blocks of these numbers (0: first), as in Veit et al. (2016).

    A residual block leaves its shortcut, identity or projection. A plain block has no shortcut.
    Its input is passed on instead, with He et al.'s shortcut without parameters: every second
    pixel where the block halves the map, and zeros in the channels that it adds.
    Raises ValueError where there is no such block.
    """
    blocks = [module for module in model.modules() if isinstance(module, BasicBlock)]
    if not blocks:
        raise ValueError(
            f"no block in {type(model).__name__}: build it of helpers.models.resnet.BasicBlock, "
            "or of a class that inherits from it"
        )
    with ExitStack() as hooks:
        for number in numbers:
            if not 0 <= number < len(blocks):
                raise ValueError(f"no block {number}: this network has 0 … {len(blocks) - 1}")
            hooks.enter_context(blocks[number].register_forward_hook(_pass_on))
        yield model


def _pass_on(block, inputs, out):
    """What comes out in place of ``out`` where a block is taken out."""
    (x,) = inputs  # (N, in_channels, H, W)
    if block.downsample is not None:
        return F.relu(block.downsample(x))
    passed = torch.zeros_like(out)
    passed[:, : x.shape[1]] = F.max_pool2d(x, 1, block.conv1.stride)  # a pixel per stride
    return passed


@torch.no_grad()
def skip_means(model, batches):
    """What each skip of a U-Net carries on average: a (C,) tensor per level, shallowest first.

    The mean is over the images and pixels of ``batches``. Each batch is inputs (N, C, H, W) as
    the network sees them. Raises ValueError for a network that is no ``UNet``.
    """
    model = deepcopy(model).eval()
    if not isinstance(model, UNet):
        raise ValueError(
            f"{type(model).__name__} has no skips that can be switched off: let its class inherit "
            "from helpers.models.UNet, and keep contract, up and skip"
        )
    found = []
    for inputs in batches:
        _, skips = model.contract(inputs.to(model.head.weight))
        found.append([skip.mean((2, 3)) for skip in skips])  # (N, C) per level
    return [torch.cat(of_level).mean(0) for of_level in zip(*found, strict=True)]


@contextmanager
def without_skips(model, levels, means):
    """A trained U-Net whose skips of these levels (0: shallowest) carry only ``means[level]``.

    The contracting path goes on as trained. The mean keeps the statistics that the next layer was
    trained on. Zeros would shift them, and cost more than the information that the skip carried.
    Raises ValueError where a level has no skip.
    """
    there = np.flatnonzero(model.skip)
    with ExitStack() as hooks:
        for level in levels:
            if level not in there:
                raise ValueError(
                    f"no skip at level {level}: this U-Net's are {model.skip}, shallowest first"
                )
            silence = partial(_silence, means[level])
            hooks.enter_context(model.up[level].register_forward_pre_hook(silence))
        yield model


def _silence(mean, block, inputs):
    """The inputs of an expanding block with ``mean`` in place of its skip's C channels."""
    (joined,) = inputs  # (N, 2·C, H, W): the skip's channels, then the upsampled map's
    silent = joined.clone()
    silent[:, : len(mean)] = mean[:, None, None]
    return silent


@torch.no_grad()
def passes_bottleneck(model, images, level):
    """Share of a network's answers that notice detail of one level (0: shallowest) by its skip.

    No name of a layer matters. The level's map is the last one of 1 / 2^level of the images' size
    on the way to the smallest map, the bottleneck. In each 2×2 square of it all but the largest
    value are lowered, which max pooling does not notice. All later maps up to the bottleneck are
    held still. What still changes the answer has come by a skip that leaves before the pooling.
    Raises ValueError where there is no such map.
    """
    model = deepcopy(model).eval()
    maps = []  # of each layer and block, in the order in which they answer

    def note(module, inputs, out):
        if is_map(out):
            maps.append(out.clone())

    before = _watched(model, images, note)
    heights = [one.shape[2] for one in maps]
    bottleneck = max(i for i, height in enumerate(heights) if height == min(heights))
    height = images.shape[2] // 2**level
    of_level = [i for i in range(bottleneck) if heights[i] == height]
    if height == min(heights) or not of_level:
        raise ValueError(f"no map of {height} rows above the bottleneck, at level {level}")
    chosen = max(of_level)
    numbers = count()

    def disturb(module, inputs, out):
        if not is_map(out):
            return None
        number = next(numbers)
        if number == chosen:
            return _without_detail(out)
        if chosen < number <= bottleneck:
            return maps[number]
        return None

    after = _watched(model, images, disturb)
    return (after != before).any(1).float().mean().item()


def is_map(out):
    return isinstance(out, torch.Tensor) and out.ndim == 4


def _watched(model, images, hook):
    """The model's answer, with a hook on each module inside it."""
    with ExitStack() as hooks:
        for module in model.modules():
            if module is not model:
                hooks.enter_context(module.register_forward_hook(hook))
        return model(images)


def _without_detail(x):
    """A map (N, C, H, W) whose values are lowered by 1, but for the largest of each 2×2 square."""
    largest = F.max_pool2d(x, 2, ceil_mode=True)
    largest = largest.repeat_interleave(2, 2).repeat_interleave(2, 3)
    return torch.where(x == largest[..., : x.shape[2], : x.shape[3]], x, x - 1)


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


def crispness_by_distance(predictions, truth, num_classes):
    """Confusion matrices near true borders only: two (N, H, W) of ids -> {distance: (N, C, C)}.

    As with trimaps (Kohli et al., 2009), a pixel counts where one of another true class lies
    within the distance, across, down or on the diagonal. The distances are ``DISTANCES``.
    """
    matrices = {}
    for distance in DISTANCES:
        near = border_band(truth, distance=distance)
        matrices[distance] = per_image_confusion(predictions, truth, num_classes, near)
    return matrices


def corrupted(dataset, kind, strength):
    """A data set's images as another camera or weather might have taken them: an ``ArrayDataset``.

    The four ``CORRUPTIONS`` are among those of Hendrycks and Dietterich (2019, 1903.12261).
    Strength 0 changes nothing. Strength 4 is noise of standard deviation 0.2 in [0, 1], blur of
    1.6 % of the diagonal, cloudy fog that leaves 30 % on average, or a fifth of the contrast.
    """
    random = np.random.default_rng(0)
    images = dataset.images / np.float32(255)  # (N, H, W, 3)
    if kind == "noise":
        noise = random.standard_normal(images.shape, np.float32)
        images += 0.05 * strength * noise
    elif kind == "blur":
        sigma = 0.004 * strength * np.hypot(*images.shape[1:3])
        images = gaussian_filter(images, sigma, axes=(1, 2))
    elif kind == "fog":
        clouds = random.normal(size=(*images.shape[:3], 1))
        clouds = gaussian_filter(clouds, images.shape[1] / 8, axes=(1, 2))
        veil = strength * (0.175 + 0.03 * clouds / clouds.std())
        images = images + veil.clip(0, 1) * (0.9 - images)
    elif kind == "contrast":
        mean = images.mean((1, 2, 3), keepdims=True)
        images += 0.2 * strength * (mean - images)
    else:
        raise ValueError(f"no corruption {kind!r}: choose one of {', '.join(CORRUPTIONS)}")
    stored = (255 * images.clip(0, 1)).round().astype(np.uint8)
    return ArrayDataset(
        stored,
        dataset.targets,
        dataset.names,
        groups=dataset.groups,
        unit=dataset.unit,
    )


def spectrum(answers, truth):
    """Power and coherence of images' lightness by octave: two (N, 3, H, W) -> two (N, 5).

    The octaves are of radial frequency, coarse first. The last is 1/4 to 1/2 cycles a pixel.
    ``power`` is relative to the truth's: below 1 detail is missing, above 1 it was invented.
    ``coherence``, at most 1, is the correlation of both images in that octave. It says whether
    detail is in the right places. Under a Hann window.
    """
    power = []
    coherence = []
    for own, true in zip(_by_octave(answers), _by_octave(truth), strict=True):
        length = true.norm(dim=1).clamp(min=1e-6)  # (N,)
        power.append((own.norm(dim=1) / length) ** 2)
        coherence.append(F.cosine_similarity(own, true, eps=1e-6))
    return np.stack(power, 1), np.stack(coherence, 1)


def _by_octave(rgb):
    """Fourier coefficients of the lightness, real and imaginary: 5 × (N, 2·frequencies)."""
    grey = rgb_to_grey(rgb.cpu())[:, 0]
    height, width = grey.shape[1:]
    window = torch.outer(hann(height), hann(width))
    mean = grey.mean((1, 2), keepdim=True)
    coefficients = torch.fft.fft2((grey - mean) * window)

    down = torch.fft.fftfreq(height)[:, None]
    across = torch.fft.fftfreq(width)
    exponents = down.hypot(across).log2().floor()  # of the radial frequency, in cycles a pixel
    octaves = []
    for exponent in range(-6, -1):
        inside = coefficients[:, exponents == exponent]
        octaves.append(torch.view_as_real(inside).flatten(1))
    return octaves
