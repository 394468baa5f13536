"""The gaps of the lessons: right answers, inputs to try them on, mistakes that are known, hints.

``helpers.checks`` compares them with what a student built.
"""

import math
from functools import partial
from itertools import product

import numpy as np
import torch
import torch.nn.functional as F

from helpers.colour import rgb_to_grey
from helpers.metrics import iou_of, per_image_confusion
from helpers.models.resnet import BasicBlock
from helpers.models.unet import UNet, match_size


def unchanged(x, *others):
    return x


class Exercise:
    """What every exercise has. Its functions belong to the class; there are no instances.

    Attributes:
        inputs: yields inputs of the function to write, each a label and the arguments.
        answer: the right function. Its options make mistakes.
        apply: runs what a student wrote.
        mistakes: {an option, and its values that make this mistake: what a student is told}.
        hints: three, and the third says nearly everything.
    """

    def apply(function, *arguments):
        return function(*arguments)

    def remark(function):
        """What may be said of a right solution."""
        return ""


class Block(Exercise):
    def inputs():
        for channels, stride, training in product((4, 6), (1, 2), (False, True)):
            block = BasicBlock(4, channels, stride)
            block(9 * torch.rand(2, 4, 7, 7))  # each batch norm gets statistics of its own
            label = f"BasicBlock(4, {channels}, {stride}), training={training}"
            yield label, (block.train(training), torch.randn(2, 4, 7, 7))

    def apply(block_class, block, x):
        theirs = block_class(4, block.conv1.out_channels, block.conv1.stride[0])
        others = theirs.load_state_dict(block.state_dict(), strict=False).missing_keys
        if others:
            raise AttributeError(f"{others} are not among torchvision's names: conv1, bn1, …")
        return theirs.train(block.training)(x)

    def projected(x, block):
        return (block.downsample or unchanged)(x)

    def answer(
        block,
        x,
        norm1="bn1",
        middle=F.relu,
        norm2="bn2",
        early=unchanged,
        shortcut=projected,
        last=F.relu,
    ):
        out = getattr(block, norm1, unchanged)(block.conv1(x))
        out = getattr(block, norm2, unchanged)(block.conv2(middle(out)))
        return last(early(out) + shortcut(x, block))

    mistakes = {
        ("early", F.relu): "The ReLU comes before the addition, so the block can only add to x.",
        ("shortcut", lambda x, block: 0): "The shortcut is missing, as in a plain network.",
        ("shortcut", unchanged, lambda x, block: 0 if block.downsample else x): (
            "`downsample` is ignored: x must pass it where the block has one."
        ),
        ("norm1", "none"): "The first batch norm is forgotten, so the scale of conv1 stays.",
        ("norm2", "none"): "The second batch norm is forgotten, so the scale of conv2 stays.",
        ("norm2", "bn1"): "The first batch norm is used twice, but its statistics fit one map.",
        ("norm1", "bn2"): "The second batch norm is used twice, but its statistics fit one map.",
        ("last", unchanged): "No ReLU follows the addition, so the output can be negative.",
        (
            "middle",
            unchanged,
        ): "No ReLU follows the first convolution, so the added part is linear.",
    }
    hints = (
        "A block gives F(x) + x. Which layers are F, and what comes after the sum?",
        "F is conv1, bn1, ReLU, conv2, bn2. Where downsample is None, the shortcut is x itself.",
        "out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x))))). Add x, or downsample(x) "
        "where there is one. The block gives the ReLU of the sum.",
    )


class Interval(Exercise):
    def inputs():
        values = 2.0 ** torch.arange(12) * (torch.rand(12) + 1)  # skewed, as errors often are
        values = values / values.std() / 400  # so small that the noise of resampling is allowed
        yield "12 values, 20,000 resamples", (values.numpy(), 20_000, 1)

    def answer(values, resamples, seed, size=12, percentiles=(2.5, 97.5), deviations=None):
        resampled = np.random.default_rng(seed).choice(values, (resamples, size))
        means = resampled.mean(1)
        if deviations is None:
            return np.percentile(means, percentiles)
        return means.mean() + deviations * means.std() * np.array([-1, 1])

    def remark(function):
        one, same, other = [list(function(np.arange(12.0), 20, seed)) for seed in (2, 2, 3)]
        if one == same and one != other:
            return ""
        return ", but the seed is not used: the same one must give the same interval, always"

    mistakes = {
        ("deviations", 0): (
            "The interval has hardly any width. Draw with replacement, len(values) for each mean, "
            "and take one mean for each resample."
        ),
        ("size", 1): "Single values are torn out of their resamples, but means vary less.",
        ("deviations", 1, 1.96): (
            "The ends come from the standard deviation, but the means are skewed: take percentiles."
        ),
        ("percentiles", (0.025, 0.975)): "np.percentile wants per cent: 2.5, not 0.025.",
        ("percentiles", (5, 95)): "This is a 90 % interval: 5 % of the means lie on either side.",
    }
    hints = (
        "Other images would give another mean. Make other test sets from the values that you have.",
        "A resample has as many values as the test set, drawn with replacement. The interval "
        "holds the middle 95 % of the means of all resamples.",
        "rng = np.random.default_rng(seed), and rng.choice(values, (resamples, len(values))) has "
        "a resample in each row. Take the percentiles 2.5 and 97.5 of the rows' means.",
    )


class MeanIoU(Exercise):
    def inputs():
        batches = []
        for count in (3, 1, 2):
            target = torch.randint(0, 1 + count, (count, 8, 8))
            other = torch.randint(0, 5, target.shape)
            prediction = torch.where(torch.rand(target.shape) < 0.6, target, other)
            batches.append((prediction.numpy(), target.numpy()))
        yield "batches of 3, 1 and 2 images, no pixel of class 5", (batches, 6)

    def answer(batches, num_classes, split=((0,), 1), score=iou_of, absent=np.nan, mean=np.nanmean):
        images = np.concatenate([per_image_confusion(*batch, num_classes) for batch in batches])
        starts, axis = split
        counts = np.add.reduceat(images, starts)  # a sum over images from each start to the next
        scores = np.nan_to_num(score(counts), nan=absent)  # (starts, C)
        return mean(mean(scores, axis))

    mistakes = {
        ("split", (range(6), 0), (range(6), 1)): (
            "The scores of images are averaged, so a class counts too much where it is small."
        ),
        ("split", ((0, 3, 4), 0), ((0, 3, 4), 1)): (
            "The scores of batches are averaged, so the result depends on the batch size."
        ),
        ("absent", 0): "A class that occurs nowhere counts as 0, which lowers the mean.",
        ("mean", np.mean): "A class that occurs nowhere gives 0 / 0, so the mean is nan.",
        ("score", lambda counts: np.einsum("pcc->pc", counts) / counts.sum(2)): (
            "This is TP / (TP + FN), the recall: pixels wrongly given to a class cost nothing."
        ),
        ("score", lambda counts: np.einsum("pcc->pc", counts) / counts.sum(1)): (
            "This is TP / (TP + FP), the precision: pixels of a class that are missed cost nothing."
        ),
        ("score", lambda counts: np.where(counts.sum(2) > 0, iou_of(counts), np.nan)): (
            "A class that is only predicted is left out, but its IoU is 0."
        ),
    }
    hints = (
        "IoU is a ratio of two counts of pixels. Count over all batches first, and divide once.",
        "The intersection of a class has the pixels where prediction and target both name it, "
        "its union those where at least one does. Which classes have a union of 0?",
        "For each batch and class c: hit[c] += ((prediction == c) & (target == c)).sum(), and "
        "union[c] the same with |. The answer is the mean of hit / union where union > 0.",
    )


class Up(Exercise):
    def inputs():
        for height, width in ((32, 48), (35, 45)):
            *skips, x = [
                torch.randn(2, 2 << level, height >> level, width >> level) for level in range(5)
            ]
            yield f"images of {height}×{width}", (UNet(1, 3, width=2), x, skips)

    def after_pooling(skip, **how):
        return F.interpolate(F.max_pool2d(skip, 2), skip.shape[2:], **how)

    def answer(
        unet,
        x,
        skips,
        match=match_size,
        joined=("skip", "x"),
        source=(0, 1, 2, 3),
        taken=unchanged,
        order=(3, 2, 1, 0),
    ):
        for level in order:
            skip = taken(skips[source[level]])
            maps = {"skip": skip, "x": match(unet.upsample[level](x), skip)}
            x = unet.up[level](torch.cat([maps[name] for name in joined], 1))
        return x

    mistakes = {
        ("joined", ("x",)): (
            "`up` gets half of its channels: the skip is added or left out, not concatenated."
        ),
        ("joined", ("x", "x")): "The skip is left out, so its details do not reach the output.",
        ("joined", ("x", "skip")): (
            "The channels are in the wrong order: the weights expect those of the skip first."
        ),
        ("source", (3, 2, 1, 0), (-1, 0, 1, 2)): (
            "A level gets the skip of another level: skips[0] is the shallowest, the largest map."
        ),
        ("taken", after_pooling, partial(after_pooling, mode="bilinear")): (
            "The skip is taken after pooling, so the fine detail that it should bring is lost."
        ),
        ("order", (0, 1, 2, 3)): "The way up begins at the deepest level, which is 3.",
        ("match", unchanged): (
            "Odd sizes fail: pooling rounded down, so the upsampled map is smaller than the skip."
        ),
    }
    hints = (
        "The way up undoes the way down, deepest level first. What happens to x at each level?",
        "Upsample x, give it the size of the level's skip with match_size, concatenate both along "
        "the channels, the skip first, and apply the level's up.",
        "for level in (3, 2, 1, 0): x = match_size(self.upsample[level](x), skips[level]). Then "
        "self.up[level] takes torch.cat([skips[level], x], 1).",
    )


def cross_entropy(p, rgb, xlogy=torch.xlogy, dark=1, factor=-1, axes=(0, 1, 2, 3)):
    """Of probabilities p; x · log 0 is 0 where x is 0. The options are mistakes."""
    each = xlogy(rgb, p) + dark * xlogy(1 - rgb, 1 - p)
    return factor * each.mean(axes)


LOSS_MISTAKES = {
    ("axes", 0, 1, (0, 1), (2, 3), (1, 2, 3), (0, 2, 3)): (
        "The mean is over the wrong axes: it is over images, channels and pixels at once."
    ),
    ("factor", -3, -60, -120): "Values are summed, so the loss depends on how many there are.",
    ("factor", 1): "The sign is wrong, so the best prediction has the highest loss.",
    ("dark", 0): "The second term, (1 − b) · ln(1 − p), is missing.",
}


class CrossEntropy(Exercise):
    def inputs():
        for batch in ("first batch", "second batch"):
            yield batch, (2 * torch.randn(2, 3, 5, 4), torch.rand(2, 3, 5, 4))

    def of_sigmoid(logits, rgb, **options):
        return cross_entropy(logits.sigmoid(), rgb, **options)

    def of_softmax(logits, rgb, **options):
        return cross_entropy(logits.softmax(1), rgb, **options)

    def answer(logits, rgb, loss=of_sigmoid, **options):
        return loss(logits, rgb, **options)

    mistakes = LOSS_MISTAKES | {
        ("loss", F.cross_entropy, of_softmax): (
            "The softmax makes the channels compete, so the loss cannot see brightness."
        ),
        ("loss", cross_entropy, F.binary_cross_entropy): (
            "The sigmoid is forgotten: logits are no probabilities, and some have no logarithm."
        ),
        ("loss", lambda logits, rgb: cross_entropy(logits.sigmoid().sigmoid(), rgb)): (
            "The sigmoid is applied twice, so no prediction is below 0.5."
        ),
    }
    hints = (
        "Each channel of each pixel has a target of its own, between 0 and 1. What is p?",
        "p = sigmoid(logits). A target of 1 costs −log p, a target of 0 costs −log(1 − p), and rgb "
        "says how much of each there is.",
        "The mean of −(rgb · log p + (1 − rgb) · log(1 − p)) over everything. PyTorch has it as "
        "F.binary_cross_entropy_with_logits.",
    )


class Floor(Exercise):
    def inputs():
        rgb = 2 * torch.rand(2, 3, 5, 4) - 0.5
        yield "an image with values of 0 and 1", [rgb.clamp(0, 1)]

    def answer(rgb, p=unchanged, **options):
        return cross_entropy(p(rgb), rgb, **options)

    mistakes = LOSS_MISTAKES | {
        ("p", torch.sigmoid): "rgb is taken for logits, but the best prediction p is rgb itself.",
        ("factor", 0): "The floor is not 0: values between 0 and 1 cost even the best prediction.",
        ("factor", -1 / math.log(2)): "The floor is in bits, but the loss is in nats.",
        ("xlogy", lambda x, p: x * p.log()): (
            "0 · log 0 gives nan, but a value of 0 or 1 can be predicted at no cost."
        ),
    }
    hints = (
        "Which prediction costs least where rgb is 0.5, and how much does it cost there?",
        "The best prediction p is rgb itself. What is left of the loss is the entropy of rgb. "
        "What should x · log x be where x is 0?",
        "The mean of −rgb · log rgb − (1 − rgb) · log(1 − rgb). torch.special.entr(x) is "
        "−x · log x, with 0 at 0.",
    )


class Lightness(Exercise):
    def inputs():
        yield "rgb and grey in [0, 1]", (torch.rand(2, 3, 5, 4), torch.rand(2, 1, 5, 4))

    def shifted(rgb, grey, luma):
        return rgb + grey - luma

    def answer(rgb, grey, luma=rgb_to_grey, put=shifted, clip=torch.clamp):
        return clip(put(rgb, grey, luma(rgb)), 0, 1)

    mistakes = {
        ("put", lambda rgb, grey, luma: rgb * grey / luma): (
            "The channels are scaled, which changes the differences between them, too."
        ),
        ("put", lambda rgb, grey, luma: rgb - grey + luma): (
            "The sign is wrong: what is missing of grey must be added."
        ),
        ("clip", unchanged): "Clipped before the addition or not at all: values leave [0, 1].",
        ("put", lambda rgb, grey, luma: rgb + (grey - luma).clamp(0, 1)): (
            "The change is clipped before the addition, so no pixel can become darker."
        ),
        ("luma", lambda rgb: rgb.mean(1, keepdim=True)): (
            "The mean of the channels is not the grey value: green is brighter than blue."
        ),
        (
            "luma",
            lambda rgb: 0,
        ): "The prediction's own grey value stays in: the result is too bright.",
    }
    hints = (
        "Add the same number to R, G and B. What becomes of the grey value, and of R − G?",
        "Which number turns the prediction's grey value, rgb_to_grey(rgb), into grey? Can a sum "
        "leave the range from 0 to 1?",
        "rgb + (grey − rgb_to_grey(rgb)), and after that clamp(0, 1).",
    )


EXERCISES = {
    "block": Block,
    "interval": Interval,
    "mean_iou": MeanIoU,
    "up": Up,
    "cross_entropy": CrossEntropy,
    "floor": Floor,
    "lightness": Lightness,
}
