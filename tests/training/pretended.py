"""Not a test: a GPU that is only pretended, whose tensors refuse what a real one's would refuse.

They lie in ordinary memory, and the CPU computes with them. So not what a real GPU computes is seen, but what
treats its tensors as the CPU's, and what crosses from one to the other.
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

from helpers import colour
from helpers.engine import run
from helpers.engine.device import accelerator

CUDA = torch.device("cuda", 0)
MAY_MIX = (Tensor.copy_, Tensor.__getitem__, Tensor.__setitem__)  # the CPU's and the GPU's in one call
WAITS = (Tensor.item, Tensor.tolist, Tensor.__float__, Tensor.__int__, Tensor.__bool__)


def there(x):
    return isinstance(x, Tensor) and "there" in x.__dict__


def put(x, on_gpu):
    if isinstance(x, Tensor):
        x.__dict__.pop("there", None)
        x.__dict__.update({"there": True} if on_gpu else {})
    return x


def is_cuda(device):
    return torch.device(device).type == "cuda"


class Pretended(TorchFunctionMode):
    """``crossings`` are the names of the calls that moved something there or back, or asked for a value."""

    def __init__(self):
        super().__init__()
        self.crossings = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs, name = dict(kwargs or {}), getattr(func, "__name__", "")
        me = args[0] if args and isinstance(args[0], Tensor) else None
        if func == Tensor.device.__get__ and there(me):
            return CUDA
        if func == Tensor.is_cuda.__get__:
            return there(me)
        if func in WAITS and there(me):
            self.crossings.append(name)
        if func in (Tensor.numpy, Tensor.__array__) and there(me):
            raise TypeError("can't convert cuda:0 device type tensor to numpy")
        if func == Tensor.data.__set__:
            func(*args)
            return put(me, there(args[1]))
        if name == "__deepcopy__":
            return put(func(*args, **kwargs), there(me))
        if func in (Tensor.to, Tensor.cpu):
            return self.moved(me, "cpu" if func == Tensor.cpu else None, *args[1:], **kwargs)
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        on_gpu = any(map(there, tensors))
        if kwargs.get("device") is not None:
            on_gpu = is_cuda(kwargs["device"])
            kwargs["device"] = "cpu"
            self.crossings += [name] if on_gpu and func in (torch.tensor, torch.as_tensor) else []
        elif func in MAY_MIX:
            if func == Tensor.__getitem__ and on_gpu and not there(me):
                raise RuntimeError("indices should be on the same device as the indexed tensor (cpu)")
            on_gpu = there(me)
        elif on_gpu and not name.startswith(("_has", "__get__", "__set__")):
            others = [tuple(x.shape) for x in tensors if x.ndim and not there(x)]
            if others:
                raise RuntimeError(f"{name}: all tensors should be on the same device, not {others}")
        return tree_map_only(Tensor, lambda x: put(x, on_gpu), func(*args, **kwargs))

    def moved(self, me, device, *given, **named):
        """``me`` there or here, and of another type or layout if asked for."""
        named.pop("non_blocking", None)
        device = named.pop("device", device)
        for value in given:
            if isinstance(value, (str, torch.device)):
                device = value
            elif isinstance(value, Tensor):
                device, named["dtype"] = CUDA if there(value) else "cpu", value.dtype
            elif isinstance(value, torch.dtype):
                named["dtype"] = value
        to_gpu = there(me) if device is None else is_cuda(device)
        self.crossings += ["to"] if to_gpu != there(me) else []
        named = {key: value for key, value in named.items() if value is not None}
        new = Tensor.to(me, **named) if named else me
        return put(new.clone() if new is me and to_gpu != there(me) else new, to_gpu)


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
        patch.object(run, "describe_device", lambda: "a GPU that is only pretended"),
        patch.object(Tensor, "pin_memory", lambda self: self),
        patch.object(Parameter, "__deepcopy__", as_the_original),
        Pretended() as gpu,
    ):
        try:
            yield gpu
        finally:
            colour._constant.cache_clear()  # what lies there would be taken for a real GPU's
