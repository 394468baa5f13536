"""How much memory a training step needs: computed from its own operations, without having that memory."""

import weakref

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from helpers.losses import class_cross_entropy


class Peak(TorchDispatchMode):
    """Follows every tensor from its operation to its end; ``peak``: the most bytes alive at once."""

    def __init__(self):
        super().__init__()
        self.alive = self.peak = 0
        self._known = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self._follow(tensor.untyped_storage())
        return result

    def _follow(self, storage):
        key, size = storage._cdata, storage.nbytes()
        if key not in self._known:
            self._known.add(key)
            self.alive += size
            self.peak = max(self.peak, self.alive)
            weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key, size):
        self._known.discard(key)
        self.alive -= size


def training_memory(build, shape, *, precision="bf16", loss=class_cross_entropy):
    """Peak bytes of a step of Adam: weights, gradients, both moments, and all that the backward pass keeps.

    What a library adds is not in it: workspaces of the convolutions, fragmentation, and on a GPU about
    half a GiB for CUDA itself.

    Args:
        build: makes the network.
        shape: (N, C, H, W) of its input.
        precision: "bf16" (or "fp16", the same) or "no", as in ``helpers.device``.
        loss: of logits and a target of class ids, one a pixel or one a picture.
    """
    with FakeTensorMode(), Peak() as memory:
        network = build()
        moments = [[torch.empty_like(p) for p in network.parameters()] for _ in range(2)]
        images = torch.empty(shape)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision != "no"):
            logits = network(images)
        target = torch.empty(len(logits), *logits.shape[2:], dtype=torch.uint8)
        loss(logits.float(), target).backward()
        del moments
        return memory.peak
