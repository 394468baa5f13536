"""What this machine computes with: chosen once, here, from what the hardware really has."""

import platform
from dataclasses import dataclass
from functools import cache
from pathlib import Path

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


def _cpu_multiplies_bf16_fast():
    """AMX at least doubles fp32's rate, and so does avx512_bf16 on AMD; on Intel the latter gains nothing."""
    has = getattr(torch.cpu, "get_capabilities", dict)()
    amd = "amd" in f"{has.get('cpu_name', '')} {platform.processor()}".lower() or "AuthenticAMD" in _cpuinfo()
    return bool(has.get("amx_bf16") or (has.get("avx512_bf16") and amd))


def _cpuinfo():
    path = Path("/proc/cpuinfo")
    return path.read_text() if path.exists() else ""


def hardware():
    """The fastest honest choice for the device that Accelerate will take."""
    kind = accelerator_device().type
    if kind == "cuda":
        name = torch.cuda.get_device_name()
        if torch.cuda.get_device_capability() >= (8, 0):
            return Hardware(name, "bf16", "compute capability 8 or later multiplies bf16 natively")
        return Hardware(name, "fp16", "no native bf16, so fp16 with loss scaling")
    if kind == "cpu" and _cpu_multiplies_bf16_fast():
        return Hardware(f"CPU, {torch.get_num_threads()} threads", "bf16", "this CPU multiplies bf16 fastest")
    device = f"CPU, {torch.get_num_threads()} threads" if kind == "cpu" else kind.upper()
    return Hardware(device, "no", "no faster half precision here")


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
