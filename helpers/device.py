"""What this machine computes with: chosen once, here, from what the hardware really has."""

import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import is_cuda_available, is_mps_available, parse_flag_from_env


@dataclass(frozen=True)
class Hardware:
    """The device, the precision of its matrix products, and why that one."""

    device: str
    precision: str  # "no" (fp32), "bf16" or "fp16", Accelerate's words
    why: str
    more: str = "fused optimizer"

    def __str__(self):
        precision = {"no": "fp32"}.get(self.precision, self.precision)
        return f"{self.device}, {precision} ({self.why}), channels_last, {self.more}"


def hardware():
    """The fastest honest choice for the device that Accelerate will take.

    It only asks: neither CUDA nor Accelerate is started, so ``notebook_launcher`` still works after it.
    """
    if not parse_flag_from_env("ACCELERATE_USE_CPU"):
        if is_mps_available():
            return Hardware("MPS", "no", "no faster half precision here")
        if is_cuda_available():
            name, capability = _card()
            more = "fused optimizer, TF32, cuDNN autotuning, pinned copies beside the computation"
            if capability >= (8, 0):
                why = "compute capability 8 or later multiplies bf16 natively"
                return Hardware(name, "bf16", why, more)
            return Hardware(name, "fp16", "no native bf16, so fp16 with loss scaling", more)
    device = f"CPU, {torch.get_num_threads()} threads"
    if _cpu_multiplies_bf16_fast():
        return Hardware(device, "bf16", "this CPU multiplies bf16 fastest")
    return Hardware(device, "no", "no faster half precision here")


def _card():
    """(name, compute capability) of the GPU; torch would start CUDA to say it, nvidia-smi does not."""
    if not torch.cuda.is_initialized():
        ask = ["nvidia-smi", "--query-gpu=name,compute_cap", "--format=csv,noheader"]
        try:
            answer = subprocess.run(ask, capture_output=True, text=True, check=True).stdout
            cards = {tuple(line.rsplit(", ", 1)) for line in answer.strip().splitlines()}
            if len(cards) == 1:  # of several kinds, only torch knows which one this process gets
                name, capability = cards.pop()
                return name, tuple(int(part) for part in capability.split("."))
        except (OSError, subprocess.CalledProcessError, ValueError):
            pass  # an old driver: torch will tell
    return torch.cuda.get_device_name(), torch.cuda.get_device_capability()


def _cpu_multiplies_bf16_fast():
    """AMX at least doubles fp32's rate, and so does avx512_bf16 on AMD; on Intel the latter gains nothing."""
    has = getattr(torch.cpu, "get_capabilities", dict)()
    amd = "amd" in f"{has.get('cpu_name', '')} {platform.processor()}".lower() or "AuthenticAMD" in _cpuinfo()
    return bool(has.get("amx_bf16") or (has.get("avx512_bf16") and amd))


def _cpuinfo():
    path = Path("/proc/cpuinfo")
    return path.read_text() if path.exists() else ""


_engine = None


def accelerator(precision=None):
    """The one ``Accelerator`` of this process, in ``hardware()``'s precision unless the first call names one.

    Raises:
        ValueError: another ``precision`` than this process already computes in.
    """
    global _engine
    if _engine is None:
        torch.set_float32_matmul_precision("high")  # TF32 where a GPU has no half precision
        torch.backends.cudnn.benchmark = True
        _engine = Accelerator(mixed_precision=precision or hardware().precision)
    if precision not in (None, _engine.mixed_precision):
        raise ValueError(
            f"precision {precision!r} asked for, but this process already computes in "
            f"{_engine.mixed_precision!r}: restart Python to change it"
        )
    return _engine
