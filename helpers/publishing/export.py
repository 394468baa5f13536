"""A trained network as an ONNX file, for programs without PyTorch."""

import json
import warnings
from pathlib import Path

import numpy as np
import torch
from torch.export import Dim

from helpers.engine.files import DataError, written_beside
from helpers.publishing.predicting import load_run
from helpers.tasks import MEAN, STD

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
    folder, network, task = load_run(task, run, model)
    path = Path(out or f"{folder.name}.onnx").expanduser().absolute()
    check_ours(path, onnx)

    channels = next(network.parameters()).shape[1]
    with warnings.catch_warnings(action="ignore"):  # of the exporter, about itself
        program = torch.onnx.export(
            network,
            (torch.rand(2, channels, *EXAMPLE),),
            dynamo=True,
            dynamic_shapes=[{0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC}],
            input_names=["images"],
            output_names=["logits"],
            verbose=False,
        )
    program.model.metadata_props.update(about(task, channels, folder))
    with written_beside(path) as beside:
        program.save(beside)
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
        "output": "logits; sigmoid gives R, G and B in 0 to 1",
    }
    if channels == 3:
        told["preprocessing"] = f"RGB in 0 to 1, minus {list(MEAN)}, divided by {list(STD)}"
        told["classes"] = json.dumps(task.classes, ensure_ascii=False)
        told["output"] = "logits of the classes; softmax over axis 1 gives probabilities"
    if task.name == "segmentation":
        told["ids"] = json.dumps(task.ids)
    if task.settings.loss == "softmax_cross_entropy":
        told["output"] = "logits; softmax over axis 1 gives R, G and B in 0 to 1"
    if task.settings.loss == "colour_classes":
        told["output"] = (
            f"logits of classes of colour, of which rare ones get {task.rarity} x log of their "
            f"weights more; softmax of logits / {task.temperature}, and then the mean of colours, "
            "gives a and b of CIE Lab; L is the image's"
        )
        told["colours"] = json.dumps(task.colours.centres.tolist())
    return told


@torch.no_grad()
def compare(network, session, channels, size):
    """Raise DataError where the file gives other outputs than the network."""
    for count, *sides in [*SIZES, (2, *size)]:
        images = torch.rand(count, channels, *sides)
        (found,) = session.run(None, {"images": images.numpy()})
        expected = network(images)
        apart = TOLERANCE * max(1, expected.abs().max())
        same = found.shape == expected.shape and np.allclose(found, expected, atol=apart)
        if not same:
            raise DataError(f"the file and PyTorch differ for {list(images.shape)}: it is not kept")
