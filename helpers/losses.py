"""Cross-entropies: for classes, and three readings of it for colour."""

import torch
import torch.nn.functional as F


def class_cross_entropy(logits, target, *, weight=None, label_smoothing=0.0):
    """Mean cross-entropy of class logits (N, C, ...) against integer targets (N, ...)."""
    return F.cross_entropy(logits, target.long(), weight=weight, label_smoothing=label_smoothing)


def soft_cross_entropy(logits, classes, shares, weight):
    """Cross-entropy against targets spread over K classes each, as Zhang et al. (2016) train colours.

    ``logits`` (N, C, H, W); ``classes`` and their ``shares``, nearest first, (N, H, W, K); ``weight`` (C,) of
    the nearest class. The mean over pixels is not divided by the weights of a batch.
    """
    wanted = torch.log_softmax(logits, 1).gather(1, classes.movedim(-1, 1))
    return -(weight[classes[..., 0]] * (shares.movedim(-1, 1) * wanted).sum(1)).mean()


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
