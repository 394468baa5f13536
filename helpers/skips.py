"""What a skip carries and what is lost without it: experiments with networks that give numbers.

Those with the shortcuts of a ResNet are in ``shortcuts.py``.
"""

from contextlib import ExitStack, contextmanager
from copy import deepcopy
from functools import partial
from itertools import count

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter
from torch.signal.windows import hann

from helpers.colour import rgb_to_grey
from helpers.data.batches import ArrayDataset
from helpers.metrics import border_band, per_image_confusion
from helpers.models.unet import UNet
from helpers.tasks import Segmentation

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


@torch.no_grad()
def skip_means(model, batches):
    """What each skip of a U-Net carries on average: a (C,) tensor per level, shallowest first.

    The mean is over the images and pixels of ``batches``. Each batch is inputs (N, C, H, W) as
    the network sees them. Raises ValueError for a network that is no ``UNet``.
    """
    model = deepcopy(model).eval()
    levels_of(model)
    found = []
    for inputs in batches:
        _, skips = model.contract(inputs.to(model.head.weight))
        found.append([skip.mean((2, 3)) for skip in skips])  # (N, C) per level
    return [torch.cat(of_level).mean(0) for of_level in zip(*found, strict=True)]


def levels_of(model):
    """Which levels of a U-Net have a skip. Raises ValueError for a network that is no ``UNet``."""
    if not isinstance(model, UNet):
        raise ValueError(
            f"{type(model).__name__} has no skips that can be changed: let its class inherit "
            "from helpers.models.UNet, and keep contract, up and skip"
        )
    return np.flatnonzero(model.skip)


def without_skips(model, levels, means):
    """A trained U-Net whose skips of these levels (0: shallowest) carry only ``means[level]``.

    The contracting path goes on as trained. The mean keeps the statistics that the next layer was
    trained on. Zeros would shift them, and cost more than the information that the skip carried.
    Raises ValueError where a level has no skip.
    """

    def silence(level, skip):
        return means[level].to(skip)[:, None, None].expand_as(skip)

    return _changed_skips(model, levels, silence)


def scaled_skips(model, factors):
    """A trained U-Net whose skips are multiplied: {level: factor} (FreeU, 2023, 2309.11497).

    0 leaves zeros, 1 changes nothing. Raises ValueError where a level has no skip.
    """

    def scale(level, skip):
        return factors[level] * skip

    return _changed_skips(model, factors, scale)


@contextmanager
def _changed_skips(model, levels, change):
    """A U-Net with ``change(level, skip)`` in place of the map (N, C, H, W) of each skip."""
    with ExitStack() as hooks:
        for level in levels:
            if level not in levels_of(model):
                raise ValueError(
                    f"no skip at level {level}: this U-Net's are {model.skip}, shallowest first"
                )
            join = partial(_join, change, level)
            hooks.enter_context(model.up[level].register_forward_pre_hook(join))
        yield model


def _join(change, level, block, inputs):
    """The inputs of an expanding block, its skip changed."""
    (joined,) = inputs  # (N, 2·C, H, W): the skip's channels, then the upsampled map's
    skip, upsampled = joined.chunk(2, 1)
    return torch.cat([change(level, skip), upsampled], 1)


class CopyTest(Segmentation):
    """Segmentation with the true classes as input: nothing to recognise, only to be passed on.

    A network sees them one-hot, (N, classes, H, W), and zeros where they are void. What its answers
    lack is lost on the way.
    """

    def make(self, **options):
        return UNet(self.outputs, self.outputs, **options)

    def inputs(self, images, target):
        classes = torch.arange(self.outputs, device=target.device)
        one_hot = target[:, None] == classes[:, None, None]
        return one_hot.float(), target


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
