"""Not a test: a GPU that is only pretended. Its tensors refuse what a real one's would refuse.

They lie in ordinary memory, and the CPU computes with them. This shows what treats them as the
CPU's, and what crosses from one to the other, but not what a real GPU computes.
"""

import os
from contextlib import contextmanager
from unittest.mock import patch

import torch
from accelerate.state import AcceleratorState, PartialState
from torch import Tensor
from torch.nn import Parameter
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map_only

from helpers import colour, training
from helpers.engine.device import accelerator

CUDA = torch.device("cuda", 0)
MAY_MIX = (Tensor.copy_, Tensor.__getitem__, Tensor.__setitem__)  # the CPU's and the GPU's
WAITS = (Tensor.item, Tensor.tolist, Tensor.__float__, Tensor.__int__, Tensor.__bool__)
MADE = (torch.tensor, torch.as_tensor)  # from the CPU's values


def there(x):
    return getattr(x, "there", False)


def put(x, on_gpu):
    x.there = on_gpu
    return x


class Pretended(TorchFunctionMode):
    """``crossings`` names the calls that moved something there or back, or asked for a value."""

    def __init__(self):
        super().__init__()
        self.crossings = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        me = args[0] if args else None
        if func == Tensor.device.__get__ and there(me):
            return CUDA
        if func == Tensor.is_cuda.__get__:
            return there(me)
        if func in (Tensor.numpy, Tensor.__array__) and there(me):
            raise TypeError("can't convert cuda:0 device type tensor to numpy")
        if func == Tensor.data.__set__:
            func(*args)
            return put(me, there(args[1]))
        if func == Tensor.cpu:
            return self.moved(me, "cpu")
        if func == Tensor.to or (func in MADE and isinstance(me, Tensor)):
            return self.moved(*args, **kwargs)
        if func in WAITS and there(me):
            self.crossings.append(name)

        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        on_gpu = any(map(there, tensors))
        if kwargs.get("device") is not None:
            on_gpu = torch.device(kwargs.pop("device")).type == "cuda"
            if on_gpu and func in MADE:
                self.crossings.append(name)
        elif func in MAY_MIX:
            if func == Tensor.__getitem__ and on_gpu and not there(me):
                raise RuntimeError("indices should be on the same device as the tensor (cpu)")
            on_gpu = there(me)
        elif on_gpu and not name.startswith(("_has", "__get__", "__set__")):
            others = [tuple(x.shape) for x in tensors if x.ndim and not there(x)]
            if others:
                raise RuntimeError(f"{name}: {others} should be on the same device as the others")
        return tree_map_only(Tensor, lambda x: put(x, on_gpu), func(*args, **kwargs))

    def moved(self, me, *given, device=None, non_blocking=False, **options):
        """``me`` there or here, and of another type or layout if asked for."""
        for value in given:
            if isinstance(value, (str, torch.device)):
                device = value
            elif isinstance(value, Tensor):
                device = CUDA if there(value) else "cpu"
                options["dtype"] = value.dtype
            elif isinstance(value, torch.dtype):
                options["dtype"] = value
        to_gpu = there(me) if device is None else torch.device(device).type == "cuda"
        crosses = to_gpu != there(me)
        if crosses:
            self.crossings.append("to")
        return put(me.to("cpu", copy=crosses, **options), to_gpu)


@contextmanager
def pretended_gpu():
    """Within it, Accelerate has found a GPU."""
    accelerator()
    copy = Parameter.__deepcopy__
    as_the_original = lambda self, memo: put(copy(self, memo), there(self))  # noqa: E731
    with (
        patch.dict(os.environ, ACCELERATE_USE_CPU="false"),
        patch.dict(PartialState._shared_state, device=CUDA),
        patch.dict(AcceleratorState._shared_state, device=CUDA),
        patch.object(training, "describe_device", lambda engine: "a GPU that is only pretended"),
        patch.object(Tensor, "pin_memory", lambda self: self),
        patch.object(Parameter, "__deepcopy__", as_the_original),
        Pretended() as gpu,
    ):
        try:
            yield gpu
        finally:
            colour.constant.cache_clear()  # what lies there would be taken for a real GPU's
