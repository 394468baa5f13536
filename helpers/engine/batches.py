"""Batches on their device before they are asked for, and losses that nobody waits for."""

import math
from collections import deque
from concurrent.futures import ThreadPoolExecutor

import torch


def prefetch(dataset, batches, device):
    """Each batch of ``dataset`` on ``device``; a thread gathers and copies the next one meanwhile.

    ``batches`` are index tensors. Yields images uint8 (B, 3, H, W) and targets.
    """
    cuda = device.type == "cuda"
    beside = torch.cuda.Stream(device) if cuda else None

    def fetch(indices):
        tensors = dataset[indices.numpy()]
        if not cuda:
            return [tensor.to(device) for tensor in tensors], None
        with torch.cuda.stream(beside):  # not in the queue of the computation, which is long
            copies = [tensor.pin_memory().to(device, non_blocking=True) for tensor in tensors]
            return copies, beside.record_event()

    with ThreadPoolExecutor(1) as pool:
        coming = (pool.submit(fetch, indices) for indices in batches)
        ahead = next(coming, None)
        while ready := ahead:
            ahead = next(coming, None)
            tensors, copied = ready.result()
            if cuda:  # the GPU waits for its copy, the program does not
                now = torch.cuda.current_stream(device)
                now.wait_event(copied)
                for tensor in tensors:
                    tensor.record_stream(now)
            yield tensors


class Losses:
    """The losses of one epoch, looked at as they arrive on the CPU, which never waits for them.

    ``where`` is what the error calls the epoch; each loss is the mean of as many pictures as ``counts`` says.
    """

    def __init__(self, where, counts):
        self.where, self.counts, self.values, self.last = where, counts, [], math.nan
        self._travelling = deque()

    def add(self, loss):
        """Note a scalar tensor. FloatingPointError when it, or on a GPU one just before it, is not finite."""
        self.values.append(loss)
        copy = loss.to("cpu", non_blocking=loss.is_cuda)  # into pinned memory
        arrival = torch.cuda.current_stream(loss.device).record_event() if loss.is_cuda else None
        self._travelling.append((copy, arrival))
        self._look()

    def _look(self, wait=False):
        while self._travelling and (wait or self._travelling[0][1] is None or self._travelling[0][1].query()):
            copy, arrival = self._travelling.popleft()
            if arrival is not None:
                arrival.synchronize()
            self.last = copy.item()
            if not math.isfinite(self.last):
                batch = len(self.values) - len(self._travelling)
                raise FloatingPointError(f"the loss became {self.last} in {self.where}, batch {batch}")

    def sum(self):
        """(2,) on their device: the sum over all pictures, and their number. Waits for all."""
        self._look(wait=True)
        counts = torch.tensor(self.counts, device=self.values[0].device, dtype=torch.float32)
        return torch.stack([(torch.stack(self.values) * counts).sum(), counts.sum()])
