"""A trained network as an ONNX file, for programs without PyTorch."""

import json
import warnings
from pathlib import Path

import torch
from torch.export import Dim

from helpers.engine.files import DataError, written_beside
from helpers.publishing.predicting import find_run
from helpers.tasks import MEAN, STD
from helpers.training import load

MADE = "python -m helpers export"
INSTALL = 'python -m pip install -e ".[onnx]"'
# Odd, and odd again after each halving: so the file also holds how U-Net treats odd sizes.
EXAMPLE = (63, 95)
SIZES = ((1, 64, 96), (3, 50, 33), (2, 47, 80))  # batches and sizes to compare
TOLERANCE = 1e-3  # between logits


def export_run(task, model=None, run=None, out=None):
    """Write the newest run of a task as an ONNX file; returns its path.

    Any number of images of any size may go in. The file's metadata say how they are prepared and
    what the output means. It is kept only if onnxruntime computes what PyTorch does.

    Args:
        task, run: as for ``predict``.
        model: the name of the network. None: any.
        out: the file. None: the run's name, in the current folder.

    Raises:
        DataError: there is no such run, the packages are not installed, the file is somebody's, or
            the outputs differ.
    """
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401, which torch needs
    except ImportError as error:
        raise DataError(f"{error.name} is not installed: {INSTALL}") from None
    folder = find_run(task, run, model or "*")
    network, task = load(folder)
    path = Path(out or f"{folder.name}.onnx").expanduser().absolute()
    check_ours(path, onnx)

    channels = next(network.parameters()).shape[1]
    sizes = {0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC}
    with written_beside(path) as beside:
        with warnings.catch_warnings(action="ignore"):  # of the exporter, about itself
            torch.onnx.export(
                network,
                (torch.rand(2, channels, *EXAMPLE),),
                beside,
                dynamo=True,
                dynamic_shapes=(sizes,),
                input_names=["images"],
                output_names=["logits"],
                external_data=False,
                verbose=False,
            )
        written = onnx.load(beside)
        onnx.helper.set_model_props(written, about(task, channels, folder))
        onnx.save(written, beside)
        compare(network, onnxruntime.InferenceSession(beside), channels, task.settings.size)
    print(f"{folder.name} as {path}: {path.stat().st_size / 1e6:.1f} MB")
    return path


def check_ours(path, onnx):
    """Raise DataError where a file is there that ``export`` has not written."""
    if not path.exists():
        return
    try:
        made = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    except Exception:  # whatever the parser says: it is no ONNX file
        made = {}
    if made.get("made by") != MADE:
        raise DataError(f"{path} was not written by export: give another file with --out")


def about(task, channels, folder):
    """What a program must know to use the network: texts."""
    height, width = task.settings.size
    resized = {
        "classification": f"shorter side, then the centre of {height} x {width}",
        "segmentation": f"to {height} x {width}, whatever the proportions",
        "colorization": f"so that it covers {height} x {width}",
    }
    told = {
        "made by": MADE,
        "run": folder.name,
        "task": task.name,
        "size": f"{height} x {width} (height x width)",
        "resize": f"bilinear, {resized[task.name]}",
        "input": f"float32 (N, {channels}, H, W)",
        "preprocessing": "grey = 0.299 R + 0.587 G + 0.114 B in 0 to 1, then 2 grey - 1",
        "output": f"{task.settings.loss} logits",
    }
    if channels == 3:
        told["preprocessing"] = f"RGB in 0 to 1, minus {list(MEAN)}, divided by {list(STD)}"
    if task.classes:
        told["classes"] = json.dumps(task.classes, ensure_ascii=False)
        told["output"] = "logits of the classes; softmax over axis 1 gives probabilities"
    elif task.colours is None:
        told["output"] = "sigmoid gives R, G and B in 0 to 1"
    else:
        told["output"] = "logits of classes of colour; softmax, then the mean of their a and b"
        told["colours"] = json.dumps(task.colours.centres.tolist())
    return told


@torch.no_grad()
def compare(network, session, channels, size):
    """Raise DataError where the file gives other outputs than the network."""
    for count, *sides in [*SIZES, (2, *size)]:
        images = torch.rand(count, channels, *sides)
        (found,) = session.run(None, {"images": images.numpy()})
        expected = network(images)
        if found.shape != tuple(expected.shape):
            raise DataError(f"the file gives shape {found.shape}, PyTorch {expected.shape}")
        apart = (torch.from_numpy(found) - expected).abs().max()
        if apart > TOLERANCE * max(1, expected.abs().max()):
            raise DataError(f"the file's outputs differ from PyTorch's by {apart:.2g}: not kept")
