"""What only a real GPU shows; elsewhere these are skipped."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from helpers.colour import to_float
from helpers.engine.device import accelerator
from helpers.engine.run import Run
from helpers.presets import Settings
from helpers.tasks import Segmentation, build
from helpers.training import evaluate, fit, predict, step, train_epoch
from tests.conftest import tiny_data
from tests.training.tiny import make, quiet, rows_of, without_batch_norm

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here")


def test_a_training_is_on_the_gpu_learns_and_leaves_its_weights_in_a_file_for_any_machine(tmp_path):
    model, task, data = make(epochs=8)
    rows = list(fit(model, task, data, folder=tmp_path, log=quiet))
    assert {p.device.type for p in model.parameters()} == {"cuda"}
    assert rows[-1]["train_loss"] < 0.7 * rows[0]["train_loss"]
    for path in tmp_path.glob("*/*.pt"):
        torch.load(path, map_location="cpu", weights_only=True)
    other, *_ = make(epochs=8)
    assert list(fit(other, task, data, folder=tmp_path, log=quiet)) == rows
    assert evaluate(other, task, data.test) == pytest.approx(evaluate(model, task, data.test), rel=1e-3)
    assert predict(other, task, data.test).device.type == "cpu"


def test_a_training_given_up_goes_on_to_nearly_the_same_end(tmp_path):
    """Nearly: sums on a GPU are made in an order that varies."""
    whole = rows_of(None, group_norm=True)
    rows_of(tmp_path, group_norm=True, stop=2)
    lines = []
    for row, other in zip(rows_of(tmp_path, group_norm=True, log=lines.append), whole, strict=True):
        assert row == pytest.approx(other, rel=0.03, abs=0.03)
    assert any("2 of 4 epochs were finished before" in line for line in lines)


def test_a_batch_that_the_memory_does_not_hold_goes_through_in_parts():
    """The gradients are those of the whole batch, within what bf16 keeps of them."""
    data = tiny_data("streets", count=48, size=(256, 256))
    task = Segmentation(data, Settings((256, 256), 16, 1, 48, 1e-9))
    images, target = (x.to(accelerator().device) for x in data.train[np.arange(48)])
    found, lines = [], []
    for gib in (None, 1.5):
        torch.cuda.empty_cache()
        memory = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(1.0 if gib is None else gib * 2**30 / memory)
        try:
            model = build(task, "unet")
            with torch.random.fork_rng():
                without_batch_norm(model)
            with Run(model, task, data.train, train_epoch, None, None, lines.append) as run:
                loss = step(run, *task.inputs(to_float(images), target.long()), 48)
            found.append((float(loss), torch.cat([p.grad.flatten() for p in model.parameters()])))
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
        assert ("out of memory with 48 pictures at once" in "".join(lines)) == (gib is not None)
    (loss, whole), (loss_in_parts, parts) = found
    assert loss_in_parts == pytest.approx(loss, rel=1e-3)
    assert torch.cosine_similarity(parts, whole, dim=0) > 0.999
    assert parts.norm() == pytest.approx(float(whole.norm()), rel=0.01)


@pytest.mark.parametrize("name", ["unet", "unet_no_skips", "fcn", "fcn8s"])
def test_an_answer_is_that_of_the_cpu_within_bf16(name):
    data = tiny_data("streets", count=16, size=(48, 80))
    task = Segmentation(data, replace(Settings((48, 80), 8, 3, 8, 1e-2)))
    model = build(task, name)
    list(fit(model, task, data, log=quiet))
    inputs, _ = task.inputs(to_float(data.test[np.arange(8)][0]), None)
    model.eval()
    with torch.no_grad():
        on_gpu = predict(model, task, data.test)
        on_cpu = task.predict(model.cpu().float()(inputs), inputs)
    assert (on_gpu == on_cpu).float().mean() > 0.97
