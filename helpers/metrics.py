"""Numbers from predictions: accuracy and IoU, picture quality, and how sure a mean over a test set is."""

import math
import warnings

import numpy as np
import torch
from scipy.ndimage import maximum_filter, minimum_filter
from scipy.special import stdtrit
from skimage.color import deltaE_ciede2000, rgb2lab
from skimage.metrics import structural_similarity

from helpers.colour import rgb_to_grey

Z = 1.96  # the normal distribution's 95 %


class ConfusionMatrix:
    """Counts of (true class, predicted class) pairs over a whole data set.

    Every score is a ratio of these counts, so none depends on the batch size or on the order of the
    batches. ``update`` stays on the device of its arguments and never waits for it.
    """

    def __init__(self, num_classes):
        self.num_classes = num_classes  # ids are 0 … num_classes − 1
        # The matrix, flat, then the pairs out of range. States of several processes add up.
        self.state = torch.zeros(num_classes**2 + 1, dtype=torch.int64)

    def update(self, prediction, target):
        """Add integer class maps of one shape, or logits (N, C, ...) with a target (N, ...)."""
        shapes, classes = f"{tuple(prediction.shape)} and {tuple(target.shape)}", self.num_classes
        if prediction.is_floating_point() and prediction.shape[1:2] == (classes,):
            prediction = prediction.argmax(1)
        if prediction.is_floating_point() or prediction.shape != target.shape:
            raise ValueError(
                f"prediction and target of shapes {shapes} do not fit: expected class ids of one shape, or "
                f"logits (N, {classes}, ...) and ids (N, ...)"
            )
        target, prediction = target.long(), prediction.long()
        inside = (target >= 0) & (target < classes) & (prediction >= 0) & (prediction < classes)
        cell = torch.where(inside, target * classes + prediction, classes**2).flatten()
        # scatter_add_, not bincount: bincount has to ask the GPU for its largest value.
        self.state = self.state.to(cell.device).scatter_add_(0, cell, torch.ones_like(cell))
        return self

    @property
    def matrix(self):
        """(C, C) int64 on the CPU: row = true class, column = predicted class."""
        counts = self.state.cpu()
        if counts[-1]:
            outside = f"{int(counts[-1])} predictions or targets lie outside 0 … {self.num_classes - 1}"
            raise ValueError(f"{outside}: is num_classes right, and have all pixels a label?")
        return counts[:-1].view(self.num_classes, self.num_classes)

    @property
    def accuracy(self):
        """Share of examples (or pixels) whose class is right; nan before the first one."""
        return float(self.matrix.double().trace() / self.matrix.sum())

    @property
    def iou(self):
        """(C,) float64: TP / (TP + FP + FN) of each class; nan where it is absent from both."""
        return torch.from_numpy(iou_of(self.matrix.numpy()))

    @property
    def mean_iou(self):
        """Mean of ``iou`` over the classes that occur in truth or prediction, counts summed first."""
        return float(self.iou.nanmean())


def iou_of(matrix):
    """IoU of each class of confusion matrices (..., C, C) -> (..., C)."""
    hit = np.diagonal(matrix, axis1=-2, axis2=-1)
    with np.errstate(invalid="ignore"):
        return hit / (matrix.sum(-1) + matrix.sum(-2) - hit)


def per_image_confusion(predictions, targets, num_classes, keep=None):
    """One confusion matrix per image: two (N, H, W) maps of class ids -> (N, C, C) int64.

    ``keep`` (N, H, W) bool says which pixels count; default: all.
    """
    cells = np.asarray(targets).astype(np.int64) * num_classes + np.asarray(predictions)
    keep = np.ones(cells.shape, bool) if keep is None else np.asarray(keep)
    counts = [np.bincount(c[k], minlength=num_classes**2) for c, k in zip(cells, keep, strict=True)]
    return np.stack(counts).reshape(-1, num_classes, num_classes)


def border_band(target, share=0.015, distance=None):
    """Pixels near another class, where crispness shows: (N, H, W) ids -> (N, H, W) bool.

    Near is within ``share`` of the picture's diagonal (at least 1 pixel), so that the band means the same
    at every size: the habit of Boundary IoU (Cheng et al., 2021). Or within ``distance`` pixels.
    """
    ids = np.asarray(target)
    distance = distance or max(1, round(share * math.hypot(*ids.shape[1:])))
    window = (1, 2 * distance + 1, 2 * distance + 1)
    return maximum_filter(ids, window) != minimum_filter(ids, window)


def bootstrap(values, statistic=None, *, groups=None, resamples=1000, seed=0):
    """95 % interval of a statistic over test images and, of several trainings, over their seeds.

    What is drawn anew with replacement are *units*: pictures, or groups of pictures that are no independent
    evidence, such as two views of one scene. Two or three seeds drawn anew would tell too little about the
    next one: their mean gets an error of Student's t with S − 1 degrees of freedom instead. A share of 0 or 1
    of ``values`` that are bool, where nothing can be drawn that differs, gets Wilson's bound.

    Args:
        values: (S, N, ...) for S seeds one value, or one confusion matrix, per test image.
        statistic: from *means* over drawn test sets (R, S, ...) to (R, S) or (R, S, C); default: the mean.
        groups: (N,) the unit of each image; default: every image is one.

    Returns:
        (value, the mean over seeds; lower bound; upper bound), floats or, of (R, S, C), an array (C, 3).
    """
    share = np.asarray(values).dtype == bool  # of right answers
    values, statistic = np.asarray(values, dtype=np.float64), statistic or (lambda mean: mean)
    seeds, n = values.shape[:2]
    _, unit = np.unique(np.arange(n) if groups is None else groups, return_inverse=True)
    units, random = unit.max() + 1, np.random.default_rng(seed)
    drawn = random.multinomial(units, np.full(units, 1 / units), size=resamples)[:, unit]  # (R, N)
    means = np.tensordot(drawn / drawn.sum(1, keepdims=True), values, (1, 1))  # (R, S, ...)
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # a class that never occurs: nan
        each, spread = statistic(values.mean(1)[None])[0], 0.0  # (S,) or (S, C)
        if seeds > 1:
            error = random.permutation(stdtrit(seeds - 1, (np.arange(resamples) + 0.5) / resamples))
            spread = np.multiply.outer(error, each.std(0, ddof=1) / math.sqrt(seeds))
        low, high = np.nanpercentile(statistic(means).mean(1) + spread, [2.5, 97.5], axis=0)
    value = each.mean(0)
    if np.ndim(value):
        return np.stack([value, low, high], -1)
    if share and values.ndim == 2:
        beyond = Z**2 / (units + Z**2) * (value in (0, 1))
        low, high = max(0, min(low, value - beyond)), min(1, max(high, value + beyond))
    return float(value), float(low), float(high)


def mean_iou_of(matrices):
    """Mean IoU over the classes that occur in truth or prediction, of matrices (..., C, C) -> (...)."""
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # no class at all: nan
        return np.nanmean(iou_of(matrices), -1)


def psnr(prediction, truth):
    """Peak signal-to-noise ratio of each picture, in dB: two (N, 3, H, W) in [0, 1] -> (N,)."""
    return -10 * ((prediction - truth) ** 2).flatten(1).mean(1).clamp(min=1e-10).log10()


class MeanPSNR:
    """Mean over pictures of ``psnr``."""

    def __init__(self):
        self.state = torch.zeros(2)  # sum, count: states of several processes add up

    def update(self, prediction, truth):
        """Add RGB pictures, both (N, 3, H, W) in [0, 1]."""
        values = psnr(prediction, truth)
        new = torch.stack([values.sum(), values.new_full((), len(values))])
        self.state = self.state.to(values.device) + new
        return self

    @property
    def psnr(self):
        total, count = self.state.tolist()
        return total / count if count else float("nan")


def colourfulness(rgb):
    """Hasler and Süsstrunk (2003), equation for M̂³, on the 0–255 scale: (N, 3, H, W) in [0, 1] -> (N,)."""
    red, green, blue = (255 * rgb).flatten(2).unbind(1)
    opponents = torch.stack([red - green, (red + green) / 2 - blue])  # (2, N, H·W)
    spread = opponents.std(-1, correction=0).norm(dim=0)
    return spread + 0.3 * opponents.mean(-1).norm(dim=0)


def gradient_energy(prediction, truth):
    """Mean squared difference of neighbouring pixels' luma / the truth's: (N, 3, H, W) in [0, 1] -> (N,).

    Below 1 is blurred; above 1 may be sharper, or noise.
    """
    grey = [rgb_to_grey(x) for x in (prediction, truth)]
    across, down = ([x.diff(dim=d).square().flatten(1).mean(1) for x in grey] for d in (-1, -2))
    return (across[0] + down[0]) / (across[1] + down[1]).clamp(min=1e-10)


def colour_scores(prediction, truth):
    """Every score of coloured pictures: two (N, 3, H, W) in [0, 1] -> dict of (N,) arrays.

    ``psnr`` in dB; ``ssim`` with its paper's window, but as the mean over R, G and B; ``ciede2000`` and
    ``ab_error`` (colour alone, Lab units) as means over pixels; ``colourfulness`` and ``gradient_energy`` (of
    luma) relative to the truth.
    """
    relative = colourfulness(prediction) / colourfulness(truth).clamp(min=1e-6)
    scores = {"psnr": psnr(prediction, truth), "gradient_energy": gradient_energy(prediction, truth)}
    scores = {name: values.cpu().numpy() for name, values in (scores | {"colourfulness": relative}).items()}
    wang = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}  # SSIM's own paper, 2004
    rows = []
    for one, other in zip(*(x.permute(0, 2, 3, 1).cpu().numpy() for x in (prediction, truth)), strict=True):
        lab, true_lab = rgb2lab(one), rgb2lab(other)
        ssim = structural_similarity(one, other, channel_axis=-1, data_range=1, **wang)
        ab_error = np.linalg.norm(lab[..., 1:] - true_lab[..., 1:], axis=-1).mean()
        rows.append((ssim, deltaE_ciede2000(lab, true_lab).mean(), ab_error))
    columns = np.array(rows).reshape(-1, 3).T
    return scores | dict(zip(("ssim", "ciede2000", "ab_error"), columns, strict=True))
