"""What this machine computes with, chosen from what the hardware really has."""

import gc
import platform
import sys
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import is_cuda_available, is_mps_available, parse_flag_from_env

from helpers import headless, plural

_engine = None


def accelerator(precision="best"):
    """The ``Accelerator`` of this process, in that precision.

    Args:
        precision: "no" (fp32), "bf16", "fp16", or "best", the fastest honest one of this machine.

    Raises ValueError where the device does not compute in that precision.
    """
    global _engine
    if precision == "best":
        precision = best_precision()
    if _engine is None:
        torch.set_float32_matmul_precision("high")  # TF32 where a GPU has no half precision
        torch.backends.cudnn.benchmark = True
        gc.freeze()  # what was imported is no garbage: looking through it takes 0.2 s
    if _engine is None or _engine.mixed_precision != precision:
        AcceleratorState._reset_state()
        _engine = Accelerator(mixed_precision=precision)
        if precision == "fp16" and _engine.device.type == "cpu":
            _engine = None
            raise ValueError("precision 'fp16' needs a GPU: on a CPU give 'no' (fp32) or 'bf16'")
    return _engine


def best_precision():
    """The fastest honest precision here: "no" (fp32), "bf16" or "fp16"."""
    if not parse_flag_from_env("ACCELERATE_USE_CPU"):
        if is_mps_available():
            return "no"
        if is_cuda_available():
            native = torch.cuda.get_device_capability() >= (8, 0)  # older ones emulate bf16
            return "bf16" if native else "fp16"
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    if capabilities.get("amx_bf16"):
        return "bf16"
    if capabilities.get("avx512_bf16") and _is_amd(capabilities):  # on Intel it gains nothing
        return "bf16"
    return "no"


def _is_amd(capabilities):
    name = f"{capabilities.get('cpu_name', '')} {platform.processor()}"
    return "amd" in name.lower() or "AuthenticAMD" in _cpuinfo()


def _cpuinfo():
    path = Path("/proc/cpuinfo")
    return path.read_text() if path.exists() else ""


def layout(model):
    """The memory format that a model computes in: channels last, which most devices like best.

    Contiguous where a strided 1×1 convolution has few channels. On CPUs with AVX2 alone, oneDNN
    writes past its memory there when it computes the gradients of weights in channels last
    (uxlfoundation/oneDNN#6035).
    """
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d) and module.in_channels < 8:
            if module.kernel_size == (1, 1) and module.stride != (1, 1):
                return torch.contiguous_format
    return torch.channels_last


def describe_device(engine):
    """The device, the number of processes and the precision, in one line."""
    name = engine.device.type.upper()
    if name == "CUDA":
        name = torch.cuda.get_device_name()
    if name == "CPU":
        name = f"CPU, {plural(torch.get_num_threads(), 'thread')}"
    if engine.num_processes > 1:
        name += f", {engine.num_processes} processes"
    return f"{name}, {engine.mixed_precision.replace('no', 'fp32')}"


def total(engine, tensor):
    """The sum of a tensor over all processes."""
    if engine.num_processes == 1:
        return tensor
    return engine.reduce(tensor.to(engine.device))


def hide_bars(engine):
    """tqdm's ``disable``. Bars are for people: none in log files, one for all processes."""
    if headless() or not engine.is_main_process:
        return True
    if "ipykernel" in sys.modules:
        return False
    return None  # tqdm's word for: only in a terminal
