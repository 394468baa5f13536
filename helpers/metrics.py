"""Scores of predictions, and how sure a mean over a test set is."""

import warnings

import numpy as np
import torch
from scipy.ndimage import maximum_filter, minimum_filter
from scipy.special import stdtrit
from scipy.stats import sem
from skimage.color import deltaE_ciede2000, rgb2lab
from skimage.metrics import structural_similarity

from helpers import VOID
from helpers.colour import rgb_to_grey

Z = 1.96  # 95 % of a normal distribution lie within so many standard deviations of its mean


def is_counted(target, num_classes):
    """Which targets are not VOID: an array or tensor of bool. Of over 255 classes, 255 is one."""
    return (target != VOID) | (num_classes > VOID)


class ConfusionMatrix:
    """Counts of (true class, predicted class) pairs over a whole data set.

    Every score is a ratio of these counts. It does not depend on the batch size or on the order
    of the batches. ``update`` computes on the device of its arguments and never waits for it.
    """

    def __init__(self, num_classes):
        self.num_classes = num_classes  # ids are 0 … num_classes − 1
        # The matrix, in a frame that counts ids out of range. Processes add up their states.
        self.state = torch.zeros(num_classes + 2, num_classes + 2, dtype=int)

    def update(self, prediction, target):
        """Add class ids of one shape, or logits (N, C, ...) with class ids (N, ...).

        Where the target is VOID, nothing is counted.

        Raises ValueError for other shapes.
        """
        expected = list(target.shape)
        is_logits = prediction.is_floating_point()
        if is_logits:
            expected.insert(1, self.num_classes)
        if list(prediction.shape) != expected:
            raise ValueError(
                f"predictions of shape {list(prediction.shape)} do not fit targets of shape "
                f"{list(target.shape)}: expected class ids of one shape, or logits (N, C, ...)"
            )
        if is_logits:
            prediction = prediction.argmax(1)
        pair = torch.stack([target, prediction]).long()  # (2, N, ...)
        row, column = pair.clamp(-1, self.num_classes) + 1
        cell = (len(self.state) * row + column).flatten()
        self.state = self.state.to(cell.device)
        # scatter_add_, because bincount has to ask the GPU for its largest value.
        counted = is_counted(target, self.num_classes)
        self.state.view(-1).scatter_add_(0, cell, counted.flatten().to(cell))
        return self

    @property
    def matrix(self):
        """(C, C) int64: a row per true class, a column per predicted class."""
        framed = self.state.cpu().numpy()
        matrix = framed[1:-1, 1:-1]
        outside = framed.sum() - matrix.sum()
        if outside:
            raise ValueError(
                f"{outside} predictions or targets lie outside 0 … {self.num_classes - 1}: "
                f"is num_classes right, and are pixels without a label {VOID}?"
            )
        return matrix

    @property
    def accuracy(self):
        """Share of images or pixels whose class is right; nan before the first one."""
        return float(self.matrix.trace() / self.matrix.sum())

    @property
    def iou(self):
        """(C,) float64: TP / (TP + FP + FN) of each class; nan where it occurs nowhere."""
        return torch.from_numpy(iou_of(self.matrix))

    @property
    def mean_iou(self):
        """Mean of ``iou`` over the classes that occur in the truth or the prediction."""
        return float(self.iou.nanmean())


def iou_of(matrix):
    """IoU of each class from confusion matrices: (..., C, C) -> (..., C)."""
    hit = np.einsum("...cc->...c", matrix)  # the diagonal
    union = matrix.sum(-1) + matrix.sum(-2) - hit
    with np.errstate(invalid="ignore"):  # 0 / 0: a class that occurs nowhere is nan
        return hit / union


def mean_iou_of(matrix):
    """Mean IoU over the classes that occur, from confusion matrices: (..., C, C) -> (...)."""
    return np.nanmean(iou_of(matrix), -1)


def per_image_confusion(predictions, targets, num_classes, keep=None):
    """One confusion matrix per image: two (N, H, W) arrays of class ids -> (N, C, C) int64.

    ``keep`` (N, H, W) bool says which pixels count. By default all do whose target is not VOID.
    """
    counted = is_counted(targets, num_classes)
    if keep is not None:
        counted = counted & keep
    shape = (len(targets), num_classes, num_classes)
    image = np.arange(len(targets)).repeat(counted.sum((1, 2)))  # of each pixel that counts
    cells = np.ravel_multi_index((image, targets[counted], predictions[counted]), shape)
    return np.bincount(cells, minlength=np.prod(shape)).reshape(shape)


def border_band(target, share=0.015, distance=None):
    """Which pixels lie near another class: (N, H, W) class ids -> (N, H, W) bool. VOID is none.

    Near is within ``distance`` pixels. The default is ``share`` of the image's diagonal, at
    least 1 pixel, so that the band means the same at every size (Cheng et al., 2021).
    """
    if distance is None:
        distance = max(1, round(share * np.hypot(*target.shape[1:])))
    square = (1, 2 * distance + 1, 2 * distance + 1)
    counted = target != VOID
    largest = maximum_filter(np.where(counted, target, 0), square)
    smallest = minimum_filter(target, square)  # which is VOID only where nothing else is near
    return counted & (largest > smallest)


def bootstrap(values, statistic=None, *, groups, resamples=1000):
    """95 % interval of a statistic over test images and, with several trainings, over seeds.

    A test set is a sample: other images would give another score. To see how much scores differ,
    we resample the test set with replacement many times. The interval holds the middle 95 % of
    the scores. What is resampled are *units*: images, or groups of images that are no
    independent evidence, such as two views of one scene.

    Seeds are a sample, too, but two or three are too few to resample. The error of their mean
    follows Student's t distribution with S − 1 degrees of freedom instead.

    If all answers are right, or all are wrong, every resample gives the same share. Such shares
    get the bound of Wilson's interval, where ``values`` are bool.

    Args:
        values: (S, N, ...), for S seeds one value or one confusion matrix per test image.
        statistic: maps means over test sets (R, S, ...) to (R, S) or (R, S, C). The default is
            the mean itself.
        groups: (N,) the unit of each image.

    Returns:
        An array of value, low and high. The value is the mean over the seeds. The shape is (3,)
        or, with a statistic to (R, S, C), (C, 3).
    """
    is_share = values.dtype == bool and values.ndim == 2
    values = values.astype(float)
    seeds = len(values)
    statistic = statistic or np.asarray
    random = np.random.default_rng(0)

    # 1. How often each resampled test set holds each unit, and so each of its images.
    names, unit = np.unique(groups, return_inverse=True)  # unit: (N,) numbers from 0
    units = len(names)
    times = random.multinomial(units, np.full(units, 1 / units), resamples)  # (R, units)
    times = times[:, unit]  # (R, N)

    # 2. The mean of each resampled test set, then its statistic.
    weights = times / times.sum(1, keepdims=True)
    means = np.tensordot(weights, values, (1, 1))  # (R, S, ...)
    with warnings.catch_warnings(action="ignore"):  # the score of an absent class is nan
        scores = statistic(means).mean(1)  # (R,) or (R, C)
        measured = statistic(values.mean(1)[None])[0]  # (S,) or (S, C), on the test set itself

        # 3. The seeds: each resample gets one quantile of Student's t, in random order.
        if seeds > 1:
            quantiles = stdtrit(seeds - 1, (np.arange(resamples) + 0.5) / resamples)
            scores = scores + np.multiply.outer(random.permutation(quantiles), sem(measured))

        low, high = np.nanpercentile(scores, [2.5, 97.5], axis=0)

    # 4. Shares stay between 0 and 1. At 0 and 1 the resamples are all alike.
    value = measured.mean(0)
    if is_share:
        if value in (0, 1):
            reach = Z**2 / (units + Z**2)
            low = value - reach
            high = value + reach
        low = max(0, low)
        high = min(1, high)
    return np.stack([value, low, high], -1)


def psnr(prediction, truth):
    """Peak signal-to-noise ratio of each image in dB: two (N, 3, H, W) in [0, 1] -> (N,)."""
    error = ((prediction - truth) ** 2).flatten(1).mean(1)
    return -10 * error.clamp(min=1e-10).log10()


class MeanPSNR:
    """The mean of ``psnr`` over images."""

    def __init__(self):
        self.state = torch.zeros(2)  # sum and count. Processes add up their states.

    def update(self, prediction, truth):
        """Add RGB images, both (N, 3, H, W) in [0, 1]."""
        values = psnr(prediction, truth)
        self.state = self.state.to(values.device)
        self.state[0] += values.sum()
        self.state[1] += len(values)
        return self

    @property
    def psnr(self):
        """In dB; nan before the first image."""
        total, count = self.state.cpu().double()
        return float(total / count)


def colourfulness(rgb):
    """How colourful each image is: (N, 3, H, W) in [0, 1] -> (N,), from 0 (grey) to about 200.

    Hasler and Süsstrunk (2003), the equation for M̂³, on the 0–255 scale.
    """
    red, green, blue = (255 * rgb).flatten(2).unbind(1)  # (N, H·W) each
    opponents = torch.stack([red - green, (red + green) / 2 - blue])  # (2, N, H·W)
    spread = opponents.std(-1, correction=0).norm(dim=0)
    distance = opponents.mean(-1).norm(dim=0)
    return spread + 0.3 * distance


def gradient_energy(prediction, truth):
    """Gradient energy of luma relative to the truth's: two (N, 3, H, W) in [0, 1] -> (N,).

    Below 1 the prediction is blurred. Above 1 it may be sharper, or noisy.
    """
    return _gradient_energy(prediction) / _gradient_energy(truth).clamp(min=1e-10)


def _gradient_energy(rgb):
    """Mean squared difference of neighbouring pixels' luma, across and down: (N,)."""
    grey = rgb_to_grey(rgb)
    across = grey.diff().square().flatten(1).mean(1)
    down = grey.diff(dim=-2).square().flatten(1).mean(1)
    return across + down


def colour_scores(prediction, truth):
    """Every score of coloured images: two (N, 3, H, W) in [0, 1], on the CPU -> {name: (N,) array}.

    ``psnr`` is in dB. ``gradient_energy`` (of luma) and ``colourfulness`` are relative to the
    truth's. ``ssim`` is the mean over R, G and B, with the window of Wang et al. (2004).
    ``ciede2000`` and ``ab_error``, which ignores lightness, are means over pixels in Lab units.
    """
    rows = []
    for image, true in zip(prediction.numpy(), truth.numpy(), strict=True):  # (3, H, W) each
        similarity = structural_similarity(
            image,
            true,
            channel_axis=0,
            data_range=1,
            gaussian_weights=True,
            use_sample_covariance=False,
        )
        lab = rgb2lab(image, channel_axis=0)
        true_lab = rgb2lab(true, channel_axis=0)
        difference = deltaE_ciede2000(lab, true_lab, channel_axis=0).mean()
        ab_error = np.linalg.norm((lab - true_lab)[1:], axis=0).mean()
        rows.append((similarity, difference, ab_error))
    ssim, ciede2000, ab_error = np.array(rows).T
    relative = colourfulness(prediction) / colourfulness(truth).clamp(min=1e-6)
    return {
        "psnr": psnr(prediction, truth).numpy(),
        "gradient_energy": gradient_energy(prediction, truth).numpy(),
        "colourfulness": relative.numpy(),
        "ssim": ssim,
        "ciede2000": ciede2000,
        "ab_error": ab_error,
    }
