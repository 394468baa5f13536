"""Batches on their device before they are asked for, and losses that are seldom waited for."""

import math

import torch

from helpers.engine.parallel import ahead

LOOK = 20  # batches between two looks at the losses on a GPU, which has to finish its queue for one


def prefetch(dataset, batches, device):
    """Each batch of ``dataset`` on ``device``; a thread gathers the next one meanwhile.

    ``batches`` are index tensors. Yields images uint8 (B, 3, H, W) and targets.
    """

    def gather(indices):
        tensors = dataset[indices.numpy()]
        return [tensor.pin_memory() for tensor in tensors] if device.type == "cuda" else tensors

    for tensors in ahead(gather, batches):
        yield [tensor.to(device, non_blocking=device.type == "cuda") for tensor in tensors]


class Losses:
    """The losses of one epoch: each at once on a CPU; on a GPU, which should not be waited for, now and then.

    ``where`` is what the error calls the epoch; each loss is the mean of as many pictures as ``counts`` says.
    """

    def __init__(self, where, counts):
        self.where, self.counts, self.values, self.looked, self.last = where, counts, [], 0, math.nan

    def add(self, loss):
        """Note a scalar tensor. FloatingPointError when it, or one since the last look, is not finite."""
        self.values.append(loss)
        if loss.device.type == "cpu" or len(self.values) % LOOK == 1:
            self.look()

    def look(self):
        for value in [loss.item() for loss in self.values[self.looked :]]:
            self.looked, self.last = self.looked + 1, value
            if not math.isfinite(value):
                raise FloatingPointError(f"the loss became {value} in {self.where}, batch {self.looked}")

    def sum(self):
        """(2,) on their device: the sum over all pictures, and their number. Waits for all."""
        self.look()
        counts = torch.tensor(self.counts, device=self.values[0].device, dtype=torch.float32)
        return torch.stack([(torch.stack(self.values) * counts).sum(), counts.sum()])
