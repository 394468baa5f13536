"""Cross-entropies: for classes, with Dice beside it, and three readings of it for colour."""

import torch
import torch.nn.functional as F


def class_cross_entropy(logits, target, *, weight=None, label_smoothing=0.0):
    """Mean cross-entropy of class logits (N, C, ...) against integer targets (N, ...).

    With a ``weight`` (C,) of the classes it is not divided by the weights that a batch happens to hold.
    """
    if weight is None:
        return F.cross_entropy(logits, target.long(), label_smoothing=label_smoothing)
    each = F.cross_entropy(logits, target.long(), label_smoothing=label_smoothing, reduction="none")
    return (weight.to(logits.device)[target.long()] * each).mean()


def balance(counts, power):
    """Weights of classes by their ``counts`` (C,): 1 / share^power, of mean 1 over all that was counted.

    A ``power`` of 0 weighs each pixel alike, 1 each class; one that never occurs weighs nothing.
    """
    share = torch.as_tensor(counts, dtype=torch.float64) / sum(counts)
    weight = torch.where(share > 0, share.clamp(min=1e-12) ** -power, 0)
    return (weight / (weight * share).sum()).float()


def soft_dice(logits, target):
    """1 − the Dice overlap of softmax(logits) (N, C, H, W) with class ids (N, H, W), over a whole batch.

    The mean over the classes that occur there: each counts alike, however few its pixels (Milletari et al.,
    2016, arXiv:1606.04797, with sums instead of squares).
    """
    given, target = torch.softmax(logits, 1), target.long()
    hit, empty = given.gather(1, target[:, None]).flatten(), given.new_zeros(logits.shape[1])
    both, truth = (empty.index_add(0, target.flatten(), x) for x in (hit, torch.ones_like(hit)))
    overlap = (2 * both + 1) / (given.sum((0, 2, 3)) + truth + 1)
    return 1 - (overlap * (truth > 0)).sum() / (truth > 0).sum()


def soft_cross_entropy(logits, classes, shares):
    """Cross-entropy against targets spread over K classes each, as Zhang et al. (2016) train colours.

    ``logits`` (N, C, H, W); ``classes`` and their ``shares`` (N, H, W, K).
    """
    wanted = torch.log_softmax(logits, 1).gather(1, classes.movedim(-1, 1))
    return -(shares.movedim(-1, 1) * wanted).sum(1).mean()


def channel_cross_entropy(logits, rgb):
    """Binary cross-entropy of each colour channel; ``logits`` and ``rgb`` in [0, 1] are (N, 3, H, W).

    The reading of "cross-entropy with three RGB outputs" that yields a picture: each channel's
    brightness is the probability of a lit sub-pixel, and sigmoid(logits) is the picture.
    """
    return F.binary_cross_entropy_with_logits(logits, rgb)


def softmax_cross_entropy(logits, rgb):
    """The literal reading, kept to show that it fails: the channels as three competing classes.

    What ``nn.CrossEntropyLoss`` does with a float target. The loss has no optimum in brightness:
    softmax sums to one over the channels, so only r/(r+g+b) can be learnt.
    """
    return F.cross_entropy(logits, rgb)


def l1(logits, rgb):
    """Mean absolute error of sigmoid(logits) against ``rgb``, both (N, 3, H, W) in [0, 1]."""
    return (torch.sigmoid(logits) - rgb).abs().mean()
