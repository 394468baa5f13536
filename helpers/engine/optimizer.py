"""The optimizer and the learning rate of each of its steps."""

import math

import torch


def make_optimizer(model, settings):
    """Adam or AdamW; weight decay spares biases and batch norm."""
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[settings.optimizer]
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return kind(groups, lr=settings.lr, fused=True)


def learning_rate(settings, step, steps):
    """The learning rate of one step of ``steps``: constant, linear to zero, or warm-up and cosine."""
    progress = step / steps
    if settings.schedule == "constant":
        return settings.lr
    if settings.schedule == "linear":
        return settings.lr * (1 - progress)
    if progress < 0.1:
        return settings.lr * (step + 1) / (0.1 * steps + 1)
    return settings.lr * (1 + math.cos(math.pi * (progress - 0.1) / 0.9)) / 2
