"""One training state in one file: safetensors for the numbers, JSON in its header for the rest.

A single file that is written beside its place and then moved there: a reader finds the old state or
the new one, whatever happens in between, and nothing in it can execute when it is loaded.
"""

import json
import os
import zlib
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file


class CheckpointError(RuntimeError):
    """A checkpoint that is damaged, or that belongs to another training run."""


@contextmanager
def written_beside(path):
    """A path beside ``path`` to write to, which takes its place in one step once the block has ended well.

    Raises:
        OSError: the disk is full or forbids it; what stood at ``path`` before is untouched.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        yield beside
        with open(beside, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(beside, path)
    except (OSError, SafetensorError) as error:
        raise OSError(
            f"{path}: cannot be written ({error}); what was saved before is intact. Make room there, or give "
            "another folder, and run again."
        ) from error
    finally:
        beside.unlink(missing_ok=True)


def save_checkpoint(path, model, optimizer=None, **state):
    """Write weights, the optimizer's moments and ``state`` (anything JSON can hold) to ``path``."""
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    if optimizer is not None:
        for index, moments in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": value for name, value in moments.items()}
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    with written_beside(path) as beside:
        save_file(tensors, beside, metadata={"state": json.dumps(state), "crc32": _checksum(tensors)})


def read_state(path):
    """The JSON part of a checkpoint; ``CheckpointError`` where the file is damaged."""
    try:
        with safe_open(path, "pt") as file:
            return json.loads(file.metadata()["state"])
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise _damaged(path, error) from error


def read_tensors(path):
    """The tensors of a checkpoint, {"model.…" or "optimizer.…": value}, compared with their checksum."""
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, not a dict
            expected = file.metadata()["crc32"]
    except (SafetensorError, KeyError, TypeError) as error:
        raise _damaged(path, error) from error
    if _checksum(tensors) != expected:
        raise _damaged(path, "its numbers do not fit their checksum")
    return tensors


def load_checkpoint(path, model, optimizer=None):
    """Put a checkpoint's tensors into ``model`` and ``optimizer``, and return its ``state``."""
    state, tensors = read_state(path), read_tensors(path)
    weights = {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(f"{path}: holds the weights of another network: {error}") from error
    if optimizer is not None:
        _load_moments(optimizer, {k: v for k, v in tensors.items() if k.startswith("optimizer.")})
    return state


def _load_moments(optimizer, tensors):
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for key, value in tensors.items():
        _, index, name = key.split(".", 2)
        parameter = parameters[int(index)]
        if value.shape == parameter.shape:
            # In the parameter's own memory layout: the fused kernels walk both side by side.
            value = torch.empty_like(parameter).copy_(value)
        elif getattr(optimizer, "defaults", {}).get("fused"):
            value = value.to(parameter.device)
        optimizer.state[parameter][name] = value


def _checksum(tensors):
    checksum = 0
    for name in sorted(tensors):
        checksum = zlib.crc32(tensors[name].reshape(-1).view(torch.uint8).numpy(), checksum)
    return f"{checksum:08x}"


def _damaged(path, error):
    return CheckpointError(
        f"{path}: this checkpoint is damaged ({error}); move it away to train from the start"
    )
