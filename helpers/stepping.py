"""What a loop over batches needs so that nothing waits and nothing is lost."""

import math
import os
import sys
from collections import deque
from concurrent.futures import ThreadPoolExecutor

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size


def stream(dataset, batches, device):
    """Each batch of ``dataset`` on ``device``; a thread gathers and copies the next one meanwhile.

    Args:
        batches: a list of index tensors.

    Yields:
        [images uint8 (B, 3, H, W), targets], see ``helpers.data``.
    """
    cuda = device.type == "cuda"
    beside = torch.cuda.Stream(device) if cuda else None

    def fetch(indices):
        tensors = dataset.__getitems__(indices.numpy())
        if not cuda:
            return [tensor.to(device) for tensor in tensors], None
        with torch.cuda.stream(beside):  # not in the queue of the computation, which is long
            copies = [tensor.pin_memory().to(device, non_blocking=True) for tensor in tensors]
            return copies, beside.record_event()

    with ThreadPoolExecutor(1) as pool:
        ahead = None
        for indices in [*batches, None]:
            ready, ahead = ahead, None if indices is None else pool.submit(fetch, indices)
            if ready is not None:
                tensors, copied = ready.result()
                if cuda:  # the GPU waits for its copy, the program does not
                    now = torch.cuda.current_stream(device)
                    now.wait_event(copied)
                    for tensor in tensors:
                        tensor.record_stream(now)
                yield tensors


class Parts:
    """In how many parts a batch goes through the network: one, until the memory doesn't hold it.

    Args:
        say: called with one sentence once a smaller part has worked.
    """

    def __init__(self, say):
        self.count, self.say = 1, say

    def run(self, work, size):
        """``work(parts)`` for a batch of ``size``, again with twice as many parts while memory runs out."""
        before = self.count
        while True:
            try:
                result = work(min(self.count, size))
                break
            except RuntimeError as error:
                full = isinstance(error, torch.OutOfMemoryError) or should_reduce_batch_size(error)
                if not full or self.count >= size:
                    raise
            # Not in the except clause: its traceback holds the very tensors that have to go.
            clear_device_cache(garbage_collection=True)
            self.count *= 2
        if self.count != before:
            self.say(
                f"out of memory with {-(-size // before)} pictures at once: from here on "
                f"{-(-size // self.count)} at once; a step still learns from all {size}"
            )
        return result


class Losses:
    """The losses of one epoch, looked at as they arrive on the CPU, which never waits for them.

    Args:
        where: what the error calls the epoch.
    """

    def __init__(self, where):
        self.where, self.values, self.last = where, [], math.nan
        self._travelling, self._arrived = deque(), 0

    def add(self, loss):
        """Note a scalar tensor.

        Raises:
            FloatingPointError: this loss, or on a GPU one of the last few before it, is nan or infinite.
        """
        self.values.append(loss)
        if loss.is_cuda:
            copy = torch.empty_like(loss, device="cpu", pin_memory=True)
            copy.copy_(loss, non_blocking=True)
            self._travelling.append((copy, torch.cuda.current_stream(loss.device).record_event()))
        else:
            self._travelling.append((loss, None))
        self._look()

    def _look(self, wait=False):
        while self._travelling and (wait or self._travelling[0][1] is None or self._travelling[0][1].query()):
            copy, arrival = self._travelling.popleft()
            if arrival is not None:
                arrival.synchronize()
            self.last, self._arrived = copy.item(), self._arrived + 1
            if not math.isfinite(self.last):
                raise FloatingPointError(
                    f"the loss became {self.last} in {self.where}, batch {self._arrived}"
                )

    def sum(self, weights):
        """(2,) on their device: sum of weight · loss, and of the weights. Waits for all."""
        self._look(wait=True)
        weights = torch.tensor(weights, device=self.values[0].device, dtype=torch.float32)
        return torch.stack([(torch.stack(self.values) * weights).sum(), weights.sum()])


def hidden(engine):
    """For tqdm: bars are for people, so none in log files, and one for all processes together."""
    if not engine.is_main_process or os.environ.get("COURSEWORK_HEADLESS"):
        return {"disable": True}
    return {} if "ipykernel" in sys.modules else {"disable": None}  # None: only where a terminal shows it
