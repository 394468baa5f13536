"""What this machine computes with: chosen once, here, from what the hardware really has."""

import gc
import os
import platform
import sys
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import is_cuda_available, is_mps_available, parse_flag_from_env

_engine = None


def accelerator(precision=None):
    """The one ``Accelerator`` of this process, in the best ``precision`` unless the first call names one."""
    global _engine
    if _engine is None:
        torch.set_float32_matmul_precision("high")  # TF32 where a GPU has no half precision
        torch.backends.cudnn.benchmark = True
        _engine = Accelerator(mixed_precision=precision or best_precision())
        gc.freeze()  # what was imported is no garbage: to look through it took 0.2 s after each training
    if precision not in (None, _engine.mixed_precision):
        running = f"this process already computes in {_engine.mixed_precision!r}"
        raise ValueError(f"precision {precision!r} asked for, but {running}: restart Python to change it")
    return _engine


def best_precision():
    """The fastest honest precision here: "no" (fp32), "bf16" or "fp16"."""
    if not parse_flag_from_env("ACCELERATE_USE_CPU"):
        if is_mps_available():
            return "no"
        if is_cuda_available():  # from compute capability 8 on, GPUs multiply bf16 natively
            return "bf16" if torch.cuda.get_device_capability() >= (8, 0) else "fp16"
    # AMX at least doubles fp32's rate, and so does avx512_bf16 on AMD; on Intel the latter gains nothing.
    has = getattr(torch.cpu, "get_capabilities", dict)()
    amd = "amd" in f"{has.get('cpu_name', '')} {platform.processor()}".lower() or "AuthenticAMD" in _cpuinfo()
    return "bf16" if has.get("amx_bf16") or (has.get("avx512_bf16") and amd) else "no"


def _cpuinfo():
    path = Path("/proc/cpuinfo")
    return path.read_text() if path.exists() else ""


def layout(model):
    """The memory format that a network computes in: channels last, which GPUs and most CPUs like best.

    Not where a strided 1×1 convolution has few channels: in that format oneDNN, on CPUs of AVX2 alone, writes
    past its memory when it computes the gradients of the weights (uxlfoundation/oneDNN#6035).
    """
    convolutions = [module for module in model.modules() if isinstance(module, torch.nn.Conv2d)]
    strided = [c for c in convolutions if c.kernel_size == (1, 1) and c.stride != (1, 1)]
    few = any(c.in_channels < 8 for c in strided)
    return torch.contiguous_format if few else torch.channels_last


def describe_device():
    """The device, the number of processes and the precision, in one line."""
    engine = accelerator()
    kind, precision = engine.device.type, engine.mixed_precision.replace("no", "fp32")
    threads = f"CPU, {(count := torch.get_num_threads())} thread{'s' * (count > 1)}"
    name = torch.cuda.get_device_name() if kind == "cuda" else threads if kind == "cpu" else kind.upper()
    processes = f", {engine.num_processes} processes" if engine.num_processes > 1 else ""
    return f"{name}{processes}, {precision}"


def total(tensor):
    """The sum of ``tensor`` over all processes, on its device or, with several, on the engine's."""
    engine = accelerator()
    return engine.reduce(tensor.to(engine.device)) if engine.num_processes > 1 else tensor


def hidden():
    """tqdm's ``disable``: bars are for people, so none in log files, and one for all processes together."""
    if not accelerator().is_main_process or os.environ.get("COURSEWORK_HEADLESS"):
        return True
    return False if "ipykernel" in sys.modules else None  # None: only where a terminal shows it
