"""The losses: cross-entropy and Dice for classes, and four losses for colours."""

import torch
import torch.nn.functional as F

from helpers.metrics import is_counted


def class_cross_entropy(logits, target, *, weight=None, label_smoothing=0.0):
    """Mean cross-entropy of class logits (N, C, ...) against integer targets (N, ...).

    Targets of VOID count nowhere. Where all are VOID, it is 0.

    ``weight`` (C,) weighs the classes. The sum is then still divided by the number of targets.
    PyTorch divides by the sum of their weights instead, which differs from batch to batch.
    """
    counted = is_counted(target, logits.shape[1])
    target = target.long().masked_fill(~counted, -100)  # which PyTorch leaves out
    if weight is None:
        mean = F.cross_entropy(logits, target, label_smoothing=label_smoothing)
    else:
        each = F.cross_entropy(logits, target, label_smoothing=label_smoothing, reduction="none")
        each = weight.to(logits.device)[target.clip(0)] * each
        mean = each.sum() / counted.sum()
    return torch.where(counted.any(), mean, 0)


def balance(counts, power):
    """Weights of classes from their ``counts`` (C,): 1 / share^power, scaled to a mean of 1.

    The mean is over everything counted. With a ``power`` of 0 each pixel weighs the same, with 1
    each class does. A class that never occurs gets the weight 0.
    """
    share = torch.as_tensor(counts, dtype=float) / sum(counts)
    weight = torch.where(share > 0, share**-power, 0)
    return (weight / (weight @ share)).float()


def soft_dice(logits, target):
    """1 − Dice of the probabilities of logits (N, C, H, W) and class ids (N, H, W), in [0, 1].

    The overlap is computed over a whole batch, then averaged over the classes in ``target``. Each
    class counts alike, however few its pixels. Milletari et al. (2016, arXiv:1606.04797) square
    the terms of the denominator, we do not. Pixels of VOID count nowhere. Where all are, it is 0.
    """
    counted = is_counted(target, logits.shape[1])
    target = target.long().masked_fill(~counted, 0)
    probability = torch.softmax(logits, 1) * counted[:, None]  # 0 where a pixel is VOID
    hit = probability.gather(1, target[:, None]).flatten()  # (N·H·W,), of the true class
    classes = target.flatten()
    zeros = probability.new_zeros(logits.shape[1])

    # Sums of each class, (C,)
    both = zeros.index_add(0, classes, hit)
    truth = zeros.index_add(0, classes, counted.flatten().to(hit))
    given = probability.sum((0, 2, 3))

    overlap = (2 * both + 1) / (given + truth + 1)
    occurs = truth > 0
    return occurs.any().float() - (overlap * occurs).sum() / occurs.sum().clip(1)


def soft_cross_entropy(logits, classes, shares):
    """Cross-entropy against targets spread over K classes (Zhang et al., 2016, arXiv:1603.08511).

    ``logits`` (N, C, H, W). ``classes`` (N, H, W, K) are ids, ``shares`` their probabilities.
    """
    log_probability = torch.log_softmax(logits, 1)
    wanted = log_probability.gather(1, classes.movedim(-1, 1))  # (N, K, H, W)
    return -(shares.movedim(-1, 1) * wanted).sum(1).mean()


def channel_cross_entropy(logits, rgb):
    """Binary cross-entropy of each colour channel; ``logits`` and ``rgb`` are (N, 3, H, W).

    This reading of "cross-entropy with three RGB outputs" gives an image, sigmoid(logits). A
    channel's brightness in [0, 1] is the probability that a sub-pixel is lit.
    """
    return F.binary_cross_entropy_with_logits(logits, rgb)


def softmax_cross_entropy(logits, rgb):
    """The literal reading, kept to show that it fails: the channels compete as three classes.

    ``nn.CrossEntropyLoss`` does this with a float target. The softmax sums to one over the
    channels, so the loss cannot see brightness. Only r/(r+g+b) can be learnt.
    """
    return F.cross_entropy(logits, rgb)


def l1(logits, rgb):
    """Mean absolute error of sigmoid(logits) against ``rgb`` in [0, 1], both (N, 3, H, W)."""
    return F.l1_loss(torch.sigmoid(logits), rgb)
