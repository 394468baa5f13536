import random
import sys
import threading
from functools import partial
from itertools import combinations, product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from sklearn.metrics import jaccard_score
from torch import nn

from helpers import checks, metrics
from helpers.checks import EXERCISES, check, hint
from helpers.colour import put_lightness_back, rgb_to_grey
from helpers.models.resnet import BasicBlock
from helpers.models.unet import UNet, match_size

SEEDS = (0, 1, 2)

# Right answers, three and more of each, written differently


class InPlace(BasicBlock):
    def forward(self, x):
        out = torch.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += x if self.downsample is None else self.downsample(x)
        return out.clamp_(min=0)


class Functional(nn.Module):
    def __init__(self, inplanes, planes, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(planes), nn.BatchNorm2d(planes)
        if stride > 1 or inplanes != planes:
            projection = nn.Conv2d(inplanes, planes, 1, stride, bias=False)
            self.downsample = nn.Sequential(projection, nn.BatchNorm2d(planes))

    def forward(self, x):
        residual = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        shortcut = self.downsample(x) if hasattr(self, "downsample") else x
        return torch.maximum(shortcut + residual, torch.zeros(())).numpy()


def theirs(in_channels, channels, stride=1):
    downsample = None
    if stride != 1 or in_channels != channels:
        projection = nn.Conv2d(in_channels, channels, 1, stride, bias=False)
        downsample = nn.Sequential(projection, nn.BatchNorm2d(channels))
    return torchvision.models.resnet.BasicBlock(in_channels, channels, stride, downsample)


def interval_in_a_loop(values, resamples, seed):
    rng = random.Random(seed)
    means = sorted(sum(rng.choices(list(values), k=len(values))) for _ in range(resamples))
    low, high = means[int(0.025 * resamples)], means[int(0.975 * resamples)]
    return [low / len(values), high / len(values)]


def interval_of_torch(values, resamples, seed):
    rng = torch.Generator().manual_seed(seed)
    chosen = torch.randint(len(values), (len(values), resamples), generator=rng)
    means = torch.as_tensor(values)[chosen].mean(0)
    return means.quantile(0.025), means.quantile(0.975)


def interval_of_counts(values, resamples, seed):
    rng = np.random.RandomState(seed)
    times = rng.multinomial(len(values), np.full(len(values), 1 / len(values)), resamples)
    return np.quantile(times @ values / len(values), [0.025, 0.975])


def interval_of_ours(values, resamples, seed):
    order = np.random.default_rng(seed).permutation(12)  # for bootstrap's own seed is fixed
    return metrics.bootstrap(values[None, order], groups=np.arange(12), resamples=resamples)[1:]


def joined(batches):
    return [
        np.concatenate([part.ravel() for part in parts]) for parts in zip(*batches, strict=True)
    ]


def iou_by_scikit_learn(batches, num_classes):
    prediction, target = joined(batches)
    return jaccard_score(target, prediction, average="macro")


def iou_in_loops(batches, num_classes):
    hit = [0] * num_classes
    union = [0] * num_classes
    for prediction, target in batches:
        for p, t in zip(prediction.flatten().tolist(), target.flatten().tolist(), strict=True):
            union[t] += 1
            if p == t:
                hit[t] += 1
            else:
                union[p] += 1
    scores = [h / u for h, u in zip(hit, union, strict=True) if u]
    return sum(scores) / len(scores)


def iou_of_torch(batches, num_classes):
    p, t = [F.one_hot(torch.from_numpy(pixels), num_classes) for pixels in joined(batches)]
    return ((p & t).sum(0) / (p | t).sum(0)).nanmean()


def iou_of_ours(batches, num_classes):
    matrix = metrics.ConfusionMatrix(num_classes)
    for prediction, target in batches:
        matrix.update(torch.from_numpy(prediction), torch.from_numpy(target))
    return matrix.mean_iou


def up_by_zip(unet, x, skips):
    levels = list(zip(unet.upsample, skips, unet.up, strict=True))
    for upsample, skip, convolve in levels[::-1]:
        x = convolve(torch.cat((skip, match_size(upsample(x), skip)), dim=1))
    return x


def up_by_hand(unet, x, skips):
    skips = list(skips)
    level = 3
    while skips:
        skip = skips.pop()
        x = unet.upsample[level](x)
        x = F.pad(x, (0, skip.shape[3] - x.shape[3], 0, skip.shape[2] - x.shape[2]), "replicate")
        joined = x.new_empty(len(x), 2 * x.shape[1], *x.shape[2:])
        joined[:, : x.shape[1]] = skip
        joined[:, x.shape[1] :] = x
        x = unet.up[level](joined)
        level -= 1
    return x.numpy()


def loss_by_hand(logits, rgb):
    p = 1 / (1 + torch.exp(-logits))
    return float(-(rgb * torch.log(p) + (1 - rgb) * torch.log(1 - p)).mean())


def loss_stable(logits, rgb):
    return (logits.clamp(min=0) - logits * rgb + (-logits.abs()).exp().log1p()).mean()


def loss_of_numpy(logits, rgb):
    p = torch.sigmoid(logits).numpy().astype(float)
    rgb = rgb.numpy()
    return np.mean(-np.log(p) * rgb - np.log1p(-p) * (1 - rgb))


def loss_of_means(logits, rgb):
    images = zip(torch.sigmoid(logits), rgb, strict=True)
    return sum(F.binary_cross_entropy(*image) for image in images) / len(rgb)


def floor_where(rgb):
    dark = 1 - rgb
    lit = torch.where(rgb > 0, rgb * rgb.log(), 0)
    return -(lit + torch.where(dark > 0, dark * dark.log(), 0)).mean()


def floor_clipped(rgb):
    p = rgb.numpy().clip(1e-6, 1 - 1e-6)
    return -np.mean(p * np.log(p) + (1 - p) * np.log(1 - p))


def floor_by_loss(rgb):
    return F.binary_cross_entropy(rgb, rgb).item()


def lightness_by_einsum(rgb, grey):
    luma = torch.einsum("c,nchw->nhw", torch.tensor([0.299, 0.587, 0.114]), rgb)
    return (rgb + (grey - luma[:, None])).clip(0, 1).numpy()


def lightness_in_a_loop(rgb, grey):
    out = []
    for image, g in zip(rgb, grey, strict=True):
        r, green, b = image
        luma = 0.299 * r + 0.587 * green + 0.114 * b
        out.append(torch.stack([channel + g[0] - luma for channel in image]))
    return torch.stack(out).clamp_(0, 1)


def lightness_in_place(rgb, grey):
    rgb += grey - rgb_to_grey(rgb)
    return torch.minimum(torch.maximum(rgb, torch.tensor(0.0)), torch.tensor(1.0))


RIGHT = {
    "block": [BasicBlock, theirs, InPlace, Functional],
    "interval": [interval_in_a_loop, interval_of_torch, interval_of_counts, interval_of_ours],
    "mean_iou": [iou_by_scikit_learn, iou_in_loops, iou_of_torch, iou_of_ours],
    "up": [UNet.expand, up_by_zip, up_by_hand],
    "cross_entropy": [
        F.binary_cross_entropy_with_logits,
        *(loss_by_hand, loss_stable, loss_of_numpy, loss_of_means),
    ],
    "floor": [floor_where, floor_clipped, floor_by_loss],
    "lightness": [
        *(put_lightness_back, lightness_by_einsum, lightness_in_a_loop),
    ],
}


@pytest.mark.parametrize("seed", [*SEEDS, 17])
@pytest.mark.parametrize(
    ("name", "right"), [(name, right) for name, rights in RIGHT.items() for right in rights]
)
def test_a_right_answer_is_right_however_it_is_written(name, right, seed):
    result = check(name, right, seed)
    assert result.right is True, result
    assert str(result) == repr(result) == "right"


# Wrong answers, as students write them, and words of the sentence that each must get


class Wrong(BasicBlock):
    def shortcut(self, x):
        return x if self.downsample is None else self.downsample(x)


class EarlyReLU(Wrong):
    def forward(self, x):
        out = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.relu(self.bn2(self.conv2(out))) + self.shortcut(x))


class EarlyReLUOnly(Wrong):
    def forward(self, x):
        out = self.relu(self.bn1(self.conv1(x)))
        return self.shortcut(x) + self.relu(self.bn2(self.conv2(out)))


class NoShortcut(Wrong):
    def forward(self, x):
        return self.relu(self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x))))))


class NoProjection(Wrong):
    def forward(self, x):
        return self.relu(self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x))))) + x)


class NoProjectionEither(Wrong):
    def forward(self, x):
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        if x.shape == out.shape:
            out = x + out
        return self.relu(out)


class NoFirstNorm(Wrong):
    def forward(self, x):
        return self.relu(self.bn2(self.conv2(self.relu(self.conv1(x)))) + self.shortcut(x))


class NoSecondNorm(Wrong):
    def forward(self, x):
        return self.relu(self.conv2(self.relu(self.bn1(self.conv1(x)))) + self.shortcut(x))


class NoNorms(Wrong):
    def forward(self, x):
        return self.relu(self.conv2(self.relu(self.conv1(x))) + self.shortcut(x))


class FirstNormTwice(Wrong):
    def forward(self, x):
        out = self.bn1(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(out + self.shortcut(x))


class SecondNormTwice(Wrong):
    def forward(self, x):
        out = self.bn2(self.conv2(self.relu(self.bn2(self.conv1(x)))))
        return self.relu(out + self.shortcut(x))


class NoLastReLU(Wrong):
    def forward(self, x):
        return self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x))))) + self.shortcut(x)


class NoMiddleReLU(Wrong):
    def forward(self, x):
        return self.relu(self.bn2(self.conv2(self.bn1(self.conv1(x)))) + self.shortcut(x))


def means(values, resamples, seed):
    return np.random.default_rng(seed + 1).choice(values, (resamples, len(values))).mean(1)


def without_replacement(values, resamples, seed):
    rng = np.random.default_rng(seed)
    drawn = [rng.choice(values, len(values), replace=False).mean() for _ in range(resamples)]
    return np.percentile(drawn, [2.5, 97.5])


def torn_apart(values, resamples, seed):
    rng = np.random.default_rng(seed)
    return np.percentile(rng.choice(values, (resamples, len(values))), [2.5, 97.5])


def of_the_values(values, resamples, seed):
    return np.percentile(values, 0), np.percentile(values, 100)


def deviations_of_means(values, resamples, seed, z=1.96):
    m = means(values, resamples, seed)
    return m.mean() - z * m.std(), m.mean() + z * m.std()


def standard_error(values, resamples, seed):
    error = 1.96 * values.std(ddof=1) / len(values) ** 0.5
    return values.mean() - error, values.mean() + error


def means_over_resamples(values, resamples, seed):
    chosen = np.random.default_rng(seed).choice(values, (resamples, len(values)))
    return np.percentile(chosen.mean(0), [2.5, 97.5])


def deviation_of_values(values, resamples, seed):
    return values.mean() - 1.96 * values.std(), values.mean() + 1.96 * values.std()


def in_fractions(values, resamples, seed):
    return np.percentile(means(values, resamples, seed), [0.025, 0.975])


def ninety_percent(values, resamples, seed):
    return np.percentile(means(values, resamples, seed), [5, 95])


def ious(prediction, target, num_classes, absent=np.nan):
    scores = []
    for c in range(num_classes):
        union = ((prediction == c) | (target == c)).sum()
        hit = ((prediction == c) & (target == c)).sum()
        scores.append(hit / union if union else absent)
    return scores


def images_of(batches):
    return [(p[None], t[None]) for batch in batches for p, t in zip(*batch, strict=True)]


def over_images(batches, num_classes):
    return np.mean([np.nanmean(ious(*image, num_classes)) for image in images_of(batches)])


def over_images_by_class(batches, num_classes):
    return np.nanmean(np.nanmean([ious(*i, num_classes) for i in images_of(batches)], axis=0))


def over_images_with_zeros(batches, num_classes):
    return np.mean([ious(*image, num_classes, 0) for image in images_of(batches)])


def over_batches(batches, num_classes):
    return np.mean([np.nanmean(ious(*batch, num_classes)) for batch in batches])


def over_batches_by_class(batches, num_classes):
    return np.nanmean(np.nanmean([ious(*b, num_classes) for b in batches], axis=0))


def over_batches_by_scikit_learn(batches, num_classes):
    scores = [jaccard_score(t.ravel(), p.ravel(), average="macro") for p, t in batches]
    return sum(scores) / len(scores)


def absent_as_zero(batches, num_classes):
    p, t = joined(batches)
    return jaccard_score(t, p, labels=range(num_classes), average="macro", zero_division=0)


def absent_as_nan(batches, num_classes):
    return np.mean(ious(*joined(batches), num_classes))


def recall(batches, num_classes):
    p, t = joined(batches)
    return np.mean([(p[t == c] == c).mean() for c in range(num_classes) if (t == c).any()])


def precision(batches, num_classes):
    p, t = joined(batches)
    return np.mean([(t[p == c] == c).mean() for c in range(num_classes) if (p == c).any()])


def classes_of_the_target(batches, num_classes):
    p, t = joined(batches)
    return jaccard_score(t, p, labels=np.unique(t), average="macro")


def up_with(join, match=match_size, source=(0, 1, 2, 3)):
    def up(unet, x, skips):
        for level in reversed(range(4)):
            skip = skips[source[level]]
            x = unet.up[level](join(skip, match(unet.upsample[level](x), skip)))
        return x

    return up


def join(skip, x):
    return torch.cat([skip, x], 1)


def after_pooling(unet, x, skips):
    pooled = [F.max_pool2d(skip, 2) for skip in skips]
    return UNet.expand(
        unet, x, [F.interpolate(p, s.shape[2:]) for p, s in zip(pooled, skips, strict=True)]
    )


def after_pooling_smoothly(unet, x, skips):
    for level in (3, 2, 1, 0):
        skip = F.max_pool2d(skips[level], 2)
        skip = F.interpolate(skip, skips[level].shape[2:], mode="bilinear", align_corners=False)
        x = match_size(unet.upsample[level](x), skip)
        x = unet.up[level](torch.cat([skip, x], dim=1))
    return x


def odd_sizes(unet, x, skips):
    for level in reversed(range(4)):
        x = unet.up[level](torch.cat([skips[level], unet.upsample[level](x)], 1))
    return x


def softmax_of_torch(logits, rgb):
    return nn.CrossEntropyLoss()(logits, rgb)


def softmax_by_hand(logits, rgb):
    p = logits.exp() / logits.exp().sum(1, keepdim=True)
    return -(rgb * p.log() + (1 - rgb) * (1 - p).log()).mean()


def each(logits, rgb):
    return F.binary_cross_entropy_with_logits(logits, rgb, reduction="none")


def no_sigmoid(logits, rgb):
    return -(rgb * logits.log() + (1 - rgb) * (1 - logits).log()).mean()


def entropy(rgb):
    return torch.special.entr(rgb) + torch.special.entr(1 - rgb)


def in_bits(rgb):
    p = rgb.clamp(1e-7, 1 - 1e-7)
    return -(p * p.log2() + (1 - p) * (1 - p).log2()).mean()


def scaled(rgb, grey):
    return rgb * grey / rgb_to_grey(rgb).clamp(min=1e-6)


def from_the_top(unet, x, skips):
    for level in range(4):
        x = match_size(unet.upsample[level](x), skips[level])
        x = unet.up[level](torch.cat([skips[level], x], 1))
    return x


WRONG = {
    "block": [
        (EarlyReLU, "ReLU comes before the addition"),
        (EarlyReLUOnly, "ReLU comes before the addition"),
        (NoShortcut, "shortcut is missing"),
        (partial(BasicBlock, skip=False), "shortcut is missing"),
        (NoProjection, "downsample` is ignored"),
        (NoProjectionEither, "downsample` is ignored"),
        (NoFirstNorm, "first batch norm is forgotten"),
        (NoSecondNorm, "second batch norm is forgotten"),
        (NoNorms, "second batch norm is forgotten"),
        (FirstNormTwice, "first batch norm is used twice"),
        (SecondNormTwice, "second batch norm is used twice"),
        (NoLastReLU, "No ReLU follows the addition"),
        (NoMiddleReLU, "No ReLU follows the first convolution"),
    ],
    "interval": [
        (without_replacement, "hardly any width"),
        (means_over_resamples, "one mean for each resample"),
        (torn_apart, "torn out"),
        (of_the_values, "torn out"),
        (deviations_of_means, "standard deviation"),
        (partial(deviations_of_means, z=1), "standard deviation"),
        (standard_error, "standard deviation"),
        (deviation_of_values, "standard deviation"),
        (ninety_percent, "90 %"),
        (in_fractions, "per cent"),
    ],
    "mean_iou": [
        (over_images, "scores of images"),
        (over_images_by_class, "scores of images"),
        (over_images_with_zeros, "scores of images"),
        (over_batches, "scores of batches"),
        (over_batches_by_class, "scores of batches"),
        (over_batches_by_scikit_learn, "scores of batches"),
        (absent_as_zero, "counts as 0"),
        (absent_as_nan, "nan"),
        (recall, "TP / (TP + FN)"),
        (precision, "TP / (TP + FP)"),
        (classes_of_the_target, "only predicted"),
    ],
    "up": [
        (up_with(lambda skip, x: x + skip), "half of its channels"),
        (up_with(lambda skip, x: x), "half of its channels"),
        (up_with(lambda skip, x: torch.cat([x, x], 1)), "The skip is left out"),
        (up_with(lambda skip, x: torch.cat([x, skip], 1)), "wrong order"),
        (up_with(join, source=(3, 2, 1, 0)), "another level"),
        (up_with(join, source=(-1, 0, 1, 2)), "another level"),
        (up_with(join, lambda x, skip: x, (3, 2, 1, 0)), "another level"),
        (after_pooling, "after pooling"),
        (after_pooling_smoothly, "after pooling"),
        (odd_sizes, "Odd sizes"),
        (from_the_top, "begins at the deepest level"),
    ],
    "cross_entropy": [
        (softmax_of_torch, "softmax"),
        (softmax_by_hand, "softmax"),
        (lambda logits, rgb: -(rgb * logits.log_softmax(1)).mean(), "softmax"),
        (lambda logits, rgb: each(logits, rgb).mean(1), "wrong axes"),
        (lambda logits, rgb: each(logits, rgb).mean((1, 2, 3)), "wrong axes"),
        (lambda logits, rgb: each(logits, rgb).mean((0, 2, 3)), "wrong axes"),
        (lambda logits, rgb: each(logits, rgb).sum(), "summed"),
        (lambda logits, rgb: each(logits, rgb).sum(1).mean(), "summed"),
        (lambda logits, rgb: each(logits, rgb).sum((1, 2, 3)).mean(), "summed"),
        (no_sigmoid, "sigmoid is forgotten"),
        (F.binary_cross_entropy, "sigmoid is forgotten"),
        (lambda logits, rgb: each(torch.sigmoid(logits), rgb).mean(), "sigmoid is applied twice"),
        (lambda logits, rgb: -(rgb * F.logsigmoid(logits)).mean(), "second term"),
        (lambda logits, rgb: -each(logits, rgb).mean(), "sign"),
    ],
    "floor": [
        (lambda rgb: 0, "not 0"),
        (lambda rgb: torch.tensor(0.0), "not 0"),
        (in_bits, "bits"),
        (lambda rgb: -(rgb * rgb.log() + (1 - rgb) * (1 - rgb).log()).mean(), "nan"),
        (lambda rgb: F.binary_cross_entropy_with_logits(rgb, rgb), "taken for logits"),
        (lambda rgb: entropy(rgb).sum(), "summed"),
        (lambda rgb: entropy(rgb).mean((1, 2, 3)), "wrong axes"),
        (lambda rgb: torch.special.entr(rgb).mean(), "second term"),
        (lambda rgb: -entropy(rgb).mean(), "sign"),
    ],
    "lightness": [
        (scaled, "scaled"),
        (lambda rgb, grey: scaled(rgb, grey).clamp(0, 1), "scaled"),
        (lambda rgb, grey: (rgb + rgb_to_grey(rgb) - grey).clamp(0, 1), "sign"),
        (lambda rgb, grey: rgb.clamp(0, 1) + grey - rgb_to_grey(rgb), "Clipped before"),
        (lambda rgb, grey: (rgb + (grey - rgb_to_grey(rgb)).clamp(0, 1)).clamp(0, 1), "darker"),
        (lambda rgb, grey: (rgb + grey - rgb.mean(1, keepdim=True)).clamp(0, 1), "green"),
        (lambda rgb, grey: (rgb + grey).clamp(0, 1), "too bright"),
    ],
}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("name", "wrong", "words"), [(name, *row) for name, rows in WRONG.items() for row in rows]
)
def test_a_known_mistake_is_told_in_one_sentence(name, wrong, words, seed):
    result = check(name, wrong, seed)
    assert result.right is False
    first = next(text for text in EXERCISES[name].mistakes.values() if words in text)
    assert str(result).startswith("wrong. ") and first in str(result), result
    assert "\n" not in str(result)


@pytest.mark.filterwarnings("ignore:Mean of empty slice")
@pytest.mark.parametrize("name", EXERCISES)
def test_no_mistake_is_right_and_no_two_are_alike(name):
    exercise = EXERCISES[name]
    for seed in SEEDS:
        with torch.no_grad(), np.errstate(invalid="ignore"):
            found = [("right", checks.outcomes(exercise, seed, exercise.answer))]
            for (option, *values), sentence in exercise.mistakes.items():
                for value in values:
                    mistaken = partial(exercise.answer, **{option: value})
                    found.append((sentence, checks.outcomes(exercise, seed, mistaken)))
        for (one, outcome), (other, outcomes) in combinations(found, 2):
            assert one == other or checks.difference(outcome, outcomes) is not None, (one, other)


def test_every_mistake_is_made_here():
    for name, exercise in EXERCISES.items():
        for sentence in exercise.mistakes.values():
            assert [words for _, words in WRONG[name] if words in sentence], sentence


@pytest.mark.parametrize("level", range(4))
def test_every_skip_reaches_the_output(level):
    def up(unet, x, skips):
        return unet.expand(x, [skip * (k != level) for k, skip in enumerate(skips)])

    assert check("up", up).right is False


def gap(*arguments):
    # YOUR CODE HERE
    raise NotImplementedError()


class BlockWithGap(BasicBlock):
    def forward(self, x):
        raise NotImplementedError()


class BlockWithoutForward(BasicBlock):
    forward = nn.Module.forward


GAPS = [("block", BlockWithGap), ("block", BlockWithoutForward)]


@pytest.mark.parametrize(("name", "thing"), [*product(EXERCISES, (gap, None)), *GAPS])
def test_an_open_gap_is_not_wrong(name, thing):
    result = check(name, thing)
    assert result.right is None
    assert str(result) == f"not attempted. For help: hint('{name}')"


def unseeded(values, resamples, seed):
    chosen = np.random.default_rng().choice(values, (resamples, len(values)))
    return np.percentile(chosen.mean(1), [2.5, 97.5])


def fixed(values, resamples, seed):
    return interval_in_a_loop(values, resamples, 7)


@pytest.mark.parametrize("interval", [unseeded, fixed])
def test_an_interval_that_ignores_its_seed_is_right_with_a_remark(interval):
    result = check("interval", interval)
    assert result.right and "right, but the seed is not used" in str(result)


def test_two_mistakes_at_once_are_both_told():
    told = str(check("block", NoNorms))
    assert "first batch norm is forgotten" in told and "second batch norm is forgotten" in told
    told = str(check("interval", deviation_of_values))
    assert "torn out" in told and "standard deviation" in told


def test_an_unknown_mistake_gets_its_shape_or_the_largest_difference_and_where():
    def spoilt(rgb, grey):
        out = put_lightness_back(rgb, grey)
        out[1, 2, 3, 0] += 7
        return out

    result = check("lightness", spoilt)
    assert result.right is False and "the largest difference is 7, at [1, 2, 3, 0]: " in str(result)
    told = str(check("lightness", lambda rgb, grey: rgb[:, :1]))
    assert "the shape is (2, 1, 5, 4), expected (2, 3, 5, 4)" in told
    assert "the shape is (3,), expected (2,)" in str(check("interval", lambda *_: [1, 2, 3]))
    assert "the largest difference is 4.7" in str(check("floor", lambda rgb: 5))
    assert " at " not in str(check("floor", lambda rgb: 5))
    told = str(check("lightness", lambda rgb, grey: rgb.log().log()))
    assert "the largest difference is nan, at [0, 0, 0, 0]: nan, expected " in told


def cell(source):
    """What a notebook's cell defines, as ``f``."""
    names = {"__name__": "__main__", "torch": torch, "BasicBlock": BasicBlock}
    exec(compile(source, "<cell>", "exec"), names)
    return names["f"]


def test_code_that_raises_gets_its_own_last_line():
    told = str(check("floor", cell("def f(rgb):\n    x = 1\n    raise ValueError('no\\n way')")))
    assert told.endswith("ValueError: no way, in line 3 of your code")
    told = str(check("floor", cell("def f(rgb):\n    return torch.cat(rgb.shape)")))
    assert "TypeError: " in told and told.endswith(", in line 2 of your code")
    source = "class f(BasicBlock):\n    def forward(self, x):\n        return self.conv3(x)"
    told = str(check("block", cell(source)))
    assert "has no attribute 'conv3'" in told and told.endswith(", in line 3 of your code")
    assert "TypeError: " in str(check("floor", 3))
    assert "TypeError: " in str(check("floor", lambda: 3))
    assert "is a return missing?" in str(check("mean_iou", lambda batches, num_classes: None))
    assert "ValueError: " in str(check("floor", lambda rgb: "0.3 nats"))


def test_other_names_than_torchvisions_are_told():
    class Renamed(BasicBlock):
        def __init__(self, *sizes):
            super().__init__(*sizes)
            self.second = self.conv2

    told = str(check("block", Renamed))
    assert "['second.weight'] are not among torchvision's names" in told


ENDLESS = [
    "def f(rgb):\n    while True: pass",
    "def f(rgb):\n    while True:\n        rgb = rgb + 1",
    "def f(rgb):\n    return sum(iter(lambda: 1, 2))",
    "def f(rgb):\n    def forever():\n        while True: yield 1\n    return sum(forever())",
]


@pytest.mark.parametrize("source", ENDLESS)
def test_a_loop_without_end_is_stopped(source, monkeypatch):
    monkeypatch.setattr(checks, "SECONDS", 0.3)
    results = []
    results.append(check("floor", cell(source)))
    thread = threading.Thread(target=lambda: results.append(check("floor", cell(source))))
    thread.start()
    thread.join(20)
    for result in results:
        assert result.right is False and "TimeoutError: stopped after 0.3 seconds" in str(result)
        assert "of your code" in str(result)
    assert len(results) == 2


def test_a_block_without_end_is_stopped(monkeypatch):
    monkeypatch.setattr(checks, "SECONDS", 0.3)
    source = "class f(BasicBlock):\n    def forward(self, x):\n        while True: pass"
    assert "in line 3 of your code" in str(check("block", cell(source)))


def test_a_check_leaves_nothing_behind(capsys):
    def state():
        return torch.get_rng_state().tolist(), str(np.random.get_state()), random.getstate()  # noqa: NPY002

    def trace(frame, event, argument):
        return None

    before = state()
    debugger = sys.gettrace()
    sys.settrace(trace)
    try:
        for name in EXERCISES:
            for thing in (RIGHT[name][0], WRONG[name][0][0], 3, None):
                check(name, thing)
                assert sys.gettrace() is trace
            hint(name)
    finally:
        sys.settrace(debugger)
    assert state() == before
    assert torch.is_grad_enabled()
    assert capsys.readouterr() == ("", "")


def test_the_same_seed_gives_the_same_inputs_and_another_one_others():
    seen = []

    def watching(rgb):
        seen.append(rgb)
        return 0

    for seed in (0, 0, 1):
        check("floor", watching, seed)
    assert torch.equal(seen[0], seen[1]) and not torch.equal(seen[0], seen[2])


@pytest.mark.parametrize("name", EXERCISES)
def test_hints_come_in_three_steps_and_say_how_to_get_the_next(name):
    assert repr(hint(name)) == str(hint(name, 1)) != str(hint(name, 2))
    assert str(hint(name)).endswith(f" More: hint('{name}', 2)")
    assert str(hint(name, 2)).endswith(f" More: hint('{name}', 3)")
    assert "More: " not in str(hint(name, 3))
    for step in (1, 2):
        assert not any(code in str(hint(name, step)) for code in ("rng.", "torch.", " self."))


def test_code_that_changes_its_input_and_a_name_without_a_gap_are_told():
    told = check("lightness", lightness_in_place)
    assert told.right is False and "your code changes its input" in str(told)
    for ask in (lambda: check("blok", BasicBlock), lambda: hint("blok")):
        with pytest.raises(ValueError, match="no gap 'blok': choose one of block, interval, "):
            ask()
