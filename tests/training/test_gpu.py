"""Devices: a GPU that is only pretended, precision, layout; then what only a real GPU shows:

ACCELERATE_USE_CPU=false python -m pytest tests/training/test_gpu.py
"""

import os

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from helpers import shortcuts, skips, training, widgets
from helpers.colour import to_float
from helpers.engine import device
from helpers.engine.device import accelerator, best_precision
from helpers.presets import Settings
from helpers.tasks import Segmentation, build
from helpers.training import evaluate, fit, predict
from tests.conftest import tiny_data
from tests.training.pretended import CUDA, pretended_gpu, there
from tests.training.tiny import make, quiet, train


def everything(folder=None):
    """What notebooks compute and show: histories, scores, answers, experiments and images."""
    resnet, birds, flock = make("resnet18", "classification", label_smoothing=0.1)
    unet, streets, city = make(balance=0.5, dice=1.0)
    trained = [
        (resnet, birds, flock),
        (unet, streets, city),
        make("unet", "colorization"),
        make("unet", "colorization", loss="colour_classes"),
    ]
    for model, task, data in trained:
        yield train(model, task, data, folder=folder)
        yield evaluate(model, task, data.test)
        answers = predict(model, task, data.test)
        assert not there(answers)
        yield answers.numpy()
        assert {p.device for p in model.parameters()} == {accelerator().device}

    batch = birds.sample(flock.train, 6)
    means = skips.skip_means(unet, [streets.sample(city.train, 6)[0]])
    cut = shortcuts.without_blocks(resnet, [1])
    yield skips.lesions(lambda model: predict(model, birds, flock.test), [cut])
    cut = skips.without_skips(unet, [0, 2], means)
    yield skips.lesions(lambda model: predict(model, streets, city.test), [cut])
    yield shortcuts.loss_landscape(resnet, birds.loss, *batch, steps=3)
    yield shortcuts.gradient_correlation(build(birds, "resnet18"), batch[0], batch[0].flip(0))
    alignment = shortcuts.block_alignment(resnet, birds.loss, *batch)
    yield np.array(list(alignment.values()))

    figures = [
        widgets.block_switches({"residual": resnet}, birds, flock),
        widgets.skip_switches(unet, streets, city, np.eye(3) * 200),
        widgets.pixels({"U-Net": unet}, streets, city.test, np.eye(3) * 200),
    ]
    for model, task, data in trained[2:]:
        figures.append(widgets.before_after(model, task, data.test))
    for figure in figures:
        images = [image for axes in figure.axes for image in axes.images]
        assert images
        yield [np.asarray(image.get_array()) for image in images]


def test_trainings_experiments_and_controls_are_the_same_on_a_pretended_gpu(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSEWORK_HEADLESS", "1")
    expected = list(everything())
    with pretended_gpu():
        assert accelerator().device == CUDA
        for _ in range(2):  # the second time the trainings are loaded
            for found, wanted in zip(everything(tmp_path), expected, strict=True):
                np.testing.assert_equal(found, wanted)


def test_a_pretended_gpu_refuses_what_a_real_one_would():
    model = torch.nn.Linear(2, 2)
    with pretended_gpu():
        model.to(CUDA)
        with pytest.raises(RuntimeError, match="same device"):
            model(torch.ones(1, 2))
        with pytest.raises(TypeError, match="numpy"):
            model(torch.ones(1, 2, device=CUDA)).detach().numpy()
        with pytest.raises(RuntimeError, match="same device"):
            torch.ones(3)[torch.zeros(1, dtype=torch.int64).to(CUDA)]


class Reads(TorchDispatchMode):
    """Counts how often a value is asked for."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function is torch.ops.aten._local_scalar_dense.default
        return function(*args, **(kwargs or {}))


def test_a_training_waits_for_values_once_an_epoch_and_not_at_every_step(monkeypatch):
    scores = {"valid_loss": 0, "mean_iou": 0}
    monkeypatch.setattr(training, "evaluate", lambda *arguments: scores)

    def reads(batch_size):  # on a GPU, such a question waits for all that was asked before it
        with Reads() as found:
            train(*make(epochs=1, batch_size=batch_size))
        return found.count

    assert reads(2) == reads(12) > 0


@pytest.mark.parametrize(("task", "model", "loss"), [
    ("classification", "resnet18", "cross_entropy"),
    ("segmentation", "unet", "cross_entropy"),
    ("colorization", "unet", "channel_cross_entropy"),
    ("colorization", "unet", "colour_classes"),
])  # fmt: skip
def test_after_its_first_batch_a_task_moves_nothing_between_cpu_and_gpu(task, model, loss):
    model, task, data = make(model, task, loss=loss)
    with pretended_gpu() as gpu:
        model.to(CUDA)
        images, target = (tensor.to(CUDA) for tensor in data.train[[0, 1, 2, 3]])
        for batch in range(2):
            before = len(gpu.crossings)
            inputs, truth = task.inputs(to_float(images), target)
            loss = task.loss(model(inputs), truth)
            loss.backward()
            assert batch == 0 or gpu.crossings[before:] == []
        assert loss.item() and gpu.crossings[-1] == "item", "the instrument is blind"


@pytest.mark.parametrize(("gpu", "cpu", "vendor", "precision"), [
    ((7, 5), {}, "", "fp16"),
    ((8, 0), {}, "", "bf16"),
    ((9, 0), {}, "", "bf16"),
    (None, {"avx512_bf16": True}, "GenuineIntel", "no"),
    (None, {"avx512_bf16": True}, "AuthenticAMD", "bf16"),
    (None, {"avx512_bf16": True, "amx_bf16": True}, "GenuineIntel", "bf16"),
    (None, {}, "AuthenticAMD", "no"),
])  # fmt: skip
def test_the_best_precision_is_the_one_in_which_the_hardware_is_really_faster(
    monkeypatch, gpu, cpu, vendor, precision
):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "false" if gpu else "true")
    monkeypatch.setattr(device, "is_cuda_available", lambda: True)
    monkeypatch.setattr(device, "is_mps_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: gpu)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: cpu, raising=False)
    monkeypatch.setattr(device, "_cpuinfo", lambda: f"vendor_id : {vendor}")
    monkeypatch.setattr(device.platform, "processor", lambda: "")
    assert best_precision() == precision


def test_the_precision_is_that_of_the_settings_and_one_that_a_cpu_does_not_compute_is_refused():
    rows = {}
    for precision in ("no", "bf16", "no"):
        (row,) = train(*make(epochs=1, precision=precision))
        assert accelerator(precision).mixed_precision == precision
        assert rows.setdefault(precision, row) == row, "who trained before counts"
    assert rows["no"]["train_loss"] != rows["bf16"]["train_loss"]
    for _ in range(2):
        with pytest.raises(ValueError, match="'fp16' needs a GPU: on a CPU give 'no'"):
            train(*make(precision="fp16"))
    assert accelerator().mixed_precision == "no"


@pytest.mark.parametrize(("width", "layout"), [
    (4, torch.contiguous_format),
    (8, torch.channels_last),
])  # fmt: skip
def test_narrow_models_with_strided_projections_never_compute_in_channels_last(width, layout):
    model, task, data = make("resnet18", "classification", width=width)
    seen = []
    projection = model.layer2[0].downsample[0]
    projection.register_forward_hook(lambda module, x, out: seen.extend([*x, module.weight]))
    train(model, task, data)
    predict(model, task, data.test)
    trained = seen[4:]  # after the trial in both modes, which computes no gradients
    assert trained and all(one.is_contiguous(memory_format=layout) for one in trained)


# What only a real GPU shows

REAL = torch.cuda.is_available() and os.environ["ACCELERATE_USE_CPU"] == "false"
real = pytest.mark.skipif(not REAL, reason="needs a CUDA GPU, and ACCELERATE_USE_CPU=false")


@real
def test_a_batch_that_the_memory_does_not_hold_is_told_in_one_sentence(tmp_path):
    data = tiny_data("streets", count=48, size=(256, 256))
    task = Segmentation(data, Settings((256, 256), 16, 1, 48, 1e-3))
    torch.cuda.empty_cache()
    memory = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(1.5 * 2**30 / memory)
    try:
        with pytest.raises(MemoryError, match=r"with 48 images of 256×256 .* give --batch-size 24"):
            list(fit(build(task, "unet"), task, data, folder=tmp_path, log=quiet))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


@real
@pytest.mark.parametrize("name", ["unet", "unet_no_skips", "fcn", "fcn8s"])
def test_a_training_learns_there_leaves_weights_for_any_machine_and_answers_as_the_cpu(
    name, tmp_path
):
    data = tiny_data("streets", count=16, size=(48, 80))
    task = Segmentation(data, Settings((48, 80), 8, 4, 8, 1e-2))
    model = build(task, name)
    rows = train(model, task, data, folder=tmp_path)
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]
    assert {parameter.device.type for parameter in model.parameters()} == {"cuda"}
    (last,) = tmp_path.glob("*/last.pt")
    torch.load(last, map_location="cpu", weights_only=True)
    other = build(task, name)
    assert train(other, task, data, folder=tmp_path) == rows
    on_gpu = predict(model, task, data.test)
    assert (on_gpu == predict(other, task, data.test)).float().mean() > 0.97
    inputs, _ = task.sample(data.test, 8)
    with torch.no_grad():
        on_cpu = task.predict(model.cpu().eval()(inputs), inputs)
    assert (on_gpu == on_cpu).float().mean() > 0.97
