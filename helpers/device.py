"""What this machine computes with: chosen once, here, from what the hardware really has."""

from dataclasses import dataclass
from functools import cache

import torch
from accelerate import Accelerator


@dataclass(frozen=True)
class Hardware:
    """The device, the precision of its matrix products, and why that one."""

    device: str
    precision: str  # "no" (fp32), "bf16" or "fp16", Accelerate's words
    why: str

    def __str__(self):
        precision = {"no": "fp32"}.get(self.precision, self.precision)
        return f"{self.device}, {precision} ({self.why}), channels_last"


def _cpu_has_bf16():
    # Without these instructions bf16 is emulated, and slower than fp32.
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, check, bool)() for check in checks)


def hardware():
    """The fastest honest choice for the device that Accelerate will take."""
    kind = accelerator_device().type
    if kind == "cuda":
        name = torch.cuda.get_device_name()
        if torch.cuda.get_device_capability() >= (8, 0):
            return Hardware(name, "bf16", "compute capability 8 or later multiplies bf16 natively")
        return Hardware(name, "fp16", "no native bf16, so fp16 with loss scaling")
    if kind == "cpu" and _cpu_has_bf16():
        return Hardware(f"CPU, {torch.get_num_threads()} threads", "bf16", "this CPU has bf16 instructions")
    device = f"CPU, {torch.get_num_threads()} threads" if kind == "cpu" else kind.upper()
    return Hardware(device, "no", "no fast half precision here")


def accelerator_device():
    """The device Accelerate settles on: a GPU where there is one, unless ACCELERATE_USE_CPU says no."""
    from accelerate.state import PartialState

    return PartialState().device


@cache
def accelerator(precision=None):
    """The one ``Accelerator`` of this process, in ``hardware()``'s precision unless told otherwise."""
    torch.set_float32_matmul_precision("high")  # TF32 where there is no half precision
    torch.backends.cudnn.benchmark = True
    return Accelerator(mixed_precision=precision or hardware().precision)
