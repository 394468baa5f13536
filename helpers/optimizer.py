"""The optimizer, and the learning rate of each of its steps."""

import math

import torch

OPTIMIZERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


def make_optimizer(model, settings):
    """Adam or AdamW (Loshchilov and Hutter, 2019, arXiv:1711.05101) over a model's parameters.

    Weight decay applies to weights alone, not to biases and batch norm.
    """
    parameters = list(model.parameters())
    groups = [
        {
            "params": [p for p in parameters if p.ndim > 1],
            "weight_decay": settings.weight_decay,
        },
        {
            "params": [p for p in parameters if p.ndim <= 1],
            "weight_decay": 0.0,
        },
    ]
    return OPTIMIZERS[settings.optimizer](groups, lr=settings.lr, fused=True)


def learning_rate(settings, step, steps):
    """The learning rate of step number ``step`` of ``steps``, by ``settings.schedule``.

    "constant" stays at ``settings.lr``. "linear" falls to zero. "cosine" rises in the first tenth,
    then falls to zero along a cosine.
    """
    progress = step / steps
    if settings.schedule == "constant":
        return settings.lr
    if settings.schedule == "linear":
        return settings.lr * (1 - progress)
    if progress < 0.1:
        return settings.lr * (step + 1) / (0.1 * steps + 1)
    return settings.lr * (1 + math.cos(math.pi * (progress - 0.1) / 0.9)) / 2
