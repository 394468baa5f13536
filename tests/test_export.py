"""ONNX files give the outputs of PyTorch, for any number of images of any size."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.data import DataError
from helpers.publishing import export
from helpers.publishing.export import about, export_run
from tests.training.tiny import make, train

NEEDED = "the group onnx is not installed: pip install -e .[onnx]"
NETWORKS = [
    ("classification", "plain10", {}),
    ("segmentation", "fcn8s", {}),
    ("segmentation", "unet", {}),
    ("colorization", "unet_without_1_2", {"loss": "colour_classes"}),
]


@pytest.mark.parametrize(("task", "model", "changes"), NETWORKS)
def test_an_exported_network_gives_the_outputs_of_the_trained_one(task, model, changes, tmp_path):
    onnx = pytest.importorskip("onnx", reason=NEEDED)
    runtime = pytest.importorskip("onnxruntime", reason=NEEDED)
    pytest.importorskip("onnxscript", reason=NEEDED)
    network, made, data = make(model, task, epochs=1, **changes)
    train(network, made, data, folder=tmp_path)
    path = export_run(task, model, tmp_path, tmp_path / "network.onnx")
    assert export_run(task, None, tmp_path, path) == path, "its own file is replaced"
    session = runtime.InferenceSession(path)
    network.eval().cpu()
    for shape in ((1, 32, 32), (5, 41, 29)):
        images = torch.rand(shape[0], 1 if task == "colorization" else 3, *shape[1:])
        (found,) = session.run(None, {"images": images.numpy()})
        with torch.no_grad():
            np.testing.assert_allclose(found, network(images).numpy(), atol=1e-4)
    told = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert told["task"] == task and told["size"].startswith("32 x 32")
    assert task == "colorization" or "class 2" in told["classes"]


def test_the_metadata_say_what_the_output_means():
    """As ``task.predict`` reads it."""

    def told(task, **changes):
        _, made, _ = make("unet", task, **changes)
        return about(made, 1 if task == "colorization" else 3, Path("run"))

    assert "sigmoid gives R" in told("colorization", loss="l1")["output"]
    assert "softmax over axis 1" in told("colorization", loss="softmax_cross_entropy")["output"]
    vivid = told("colorization", loss="colour_classes")
    assert (
        "softmax of logits / 0.38" in vivid["output"] and len(json.loads(vivid["colours"])) == 259
    )
    assert json.loads(told("segmentation")["ids"]) == [0, 1, 2]


def test_a_file_that_differs_or_is_somebody_elses_is_not_kept(tmp_path, monkeypatch):
    for package in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(package, reason=NEEDED)
    train(*make(epochs=1), folder=tmp_path)
    with pytest.raises(DataError, match="holds unet for segmentation: give another one"):
        export_run("segmentation", "fcn", next(tmp_path.iterdir()))
    path = tmp_path / "mine.onnx"
    path.write_bytes(b"somebody's")
    with pytest.raises(DataError, match="was not written by export"):
        export_run("segmentation", run=tmp_path, out=path)
    assert path.read_bytes() == b"somebody's"
    monkeypatch.setattr(export, "TOLERANCE", -1)
    with pytest.raises(DataError, match="the file and PyTorch differ"):
        export_run("segmentation", run=tmp_path, out=tmp_path / "new.onnx")
    assert not list(tmp_path.glob("new.onnx*"))


def test_without_the_packages_one_sentence_says_how_to_install_them(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(DataError, match=r"onnx is not installed: python -m pip install -e"):
        export_run("segmentation", run=tmp_path)
