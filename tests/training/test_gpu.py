"""On a GPU that is only pretended; then what only a real one shows, where there is one and it is asked for:

ACCELERATE_USE_CPU=false python -m pytest tests/training/test_gpu.py
"""

import os
from dataclasses import replace

import numpy as np
import pytest
import torch

from helpers import live, skips, widgets
from helpers.colour import to_float
from helpers.engine.device import accelerator
from helpers.engine.run import Run
from helpers.presets import Settings
from helpers.tasks import TASKS, Segmentation, build
from helpers.training import evaluate, fit, predict, step, train_epoch
from tests.conftest import tiny_data
from tests.training.pretended import CUDA, pretended_gpu, there
from tests.training.tiny import SETTINGS, make, quiet, rows_of, train, without_batch_norm

MINE = {
    "birds": ("classification", "resnet18", {"label_smoothing": 0.1}),
    "streets": ("segmentation", "unet", {"balance": 0.5, "dice": 1.0, "coarse": 0.5}),
    "landscapes": ("colorization", "unet", {"loss": "channel_cross_entropy"}),
}


def trained(kind, folder=None, **other):
    """A history without timings, the scores and answers of one small training, and what it was."""
    name, network, changes = MINE[kind]
    data = tiny_data(kind)
    task = TASKS[name](data, replace(SETTINGS, **changes | other))
    model = build(task, network)
    rows = train(model, task, data, folder=folder)
    return rows, evaluate(model, task, data.test), predict(model, task, data.test), (model, task, data)


@pytest.mark.parametrize(
    ("kind", "other"), [*((kind, {}) for kind in MINE), ("landscapes", {"loss": "colour_classes"})]
)
def test_a_training_on_a_pretended_gpu_is_that_of_the_cpu(kind, other, tmp_path):
    rows, scores, answers, _ = trained(kind, **other)
    with pretended_gpu():
        for _ in range(2):  # the second time it is loaded
            there_rows, there_scores, there_answers, (model, *_) = trained(kind, tmp_path, **other)
            assert {p.device for p in model.parameters()} == {CUDA} and not there(there_answers)
            assert (there_rows, there_scores) == (rows, scores) and torch.equal(there_answers, answers)


def test_the_study_is_the_same_on_a_pretended_gpu():
    def study():
        (net, birds, flock), (unet, task, data) = (trained(kind)[3] for kind in ("birds", "streets"))
        batch, means = birds.sample(flock.train, 6), skips.bridge_means(unet, [task.sample(data.train, 6)[0]])
        cuts = skips.without_blocks(net, [1]), skips.without_bridges(unet, [0, 2], means)
        asked = (lambda net: predict(net, birds, flock.test)), (lambda net: predict(net, task, data.test))
        yield from (skips.lesions(ask, [cut]) for ask, cut in zip(asked, cuts, strict=True))
        yield skips.loss_landscape(net, birds.loss, *batch, steps=3)
        yield skips.gradient_correlation(build(birds, "resnet18"), batch[0], batch[0].flip(0))

    expected = list(study())
    with pretended_gpu():
        for found, wanted in zip(study(), expected, strict=True):
            np.testing.assert_array_equal(found, wanted)


def test_controls_answer_the_same_on_a_pretended_gpu(monkeypatch):
    monkeypatch.setenv(widgets.HEADLESS, "1")

    def pictures():
        nets = {kind: trained(kind)[3] for kind in MINE}
        (bird, birds, flock), (net, task, data), (grey, colours, land) = nets.values()
        for figure in (
            live.block_switches({"residual": bird}, birds, flock),
            live.skip_switches(net, task, data, np.eye(3) * 200),
            live.pixels({"U-Net": net}, task, data.test, np.eye(3) * 200),
            live.before_after(grey, colours, land.test),
        ):
            yield [np.asarray(image.get_array()) for axes in figure.axes for image in axes.images]

    expected = list(pictures())
    with pretended_gpu():
        for found, wanted in zip(pictures(), expected, strict=True):
            assert found and all(map(np.array_equal, found, wanted))


def test_a_pretended_gpu_refuses_what_a_real_one_would():
    net = torch.nn.Linear(2, 2)
    with pretended_gpu():
        net.to(CUDA)
        with pytest.raises(RuntimeError, match="same device"):
            net(torch.ones(1, 2))
        with pytest.raises(TypeError, match="numpy"):
            net(torch.ones(1, 2, device=CUDA)).detach().numpy()
        with pytest.raises(RuntimeError, match="same device"):
            torch.ones(3)[torch.zeros(1, dtype=torch.int64).to(CUDA)]


# --- what only a real GPU shows -----------------------------------------------------------------------------

REAL = torch.cuda.is_available() and os.environ["ACCELERATE_USE_CPU"] == "false"
real = pytest.mark.skipif(not REAL, reason="needs a CUDA GPU, and ACCELERATE_USE_CPU=false")


@real
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


@real
def test_a_training_given_up_goes_on_to_nearly_the_same_end(tmp_path):
    """Nearly: sums on a GPU are made in an order that varies."""
    whole = rows_of(None, group_norm=True)
    rows_of(tmp_path, group_norm=True, stop=2)
    lines = []
    for row, other in zip(rows_of(tmp_path, group_norm=True, log=lines.append), whole, strict=True):
        assert row == pytest.approx(other, rel=0.03, abs=0.03)
    assert any("2 of 4 epochs were finished before" in line for line in lines)


@real
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


@real
@pytest.mark.parametrize("name", ["unet", "unet_no_skips", "fcn", "fcn8s"])
def test_an_answer_is_that_of_the_cpu_within_bf16(name):
    data = tiny_data("streets", count=16, size=(48, 80))
    task = Segmentation(data, Settings((48, 80), 8, 3, 8, 1e-2))
    model = build(task, name)
    list(fit(model, task, data, log=quiet))
    inputs, _ = task.inputs(to_float(data.test[np.arange(8)][0]), None)
    model.eval()
    with torch.no_grad():
        on_gpu = predict(model, task, data.test)
        on_cpu = task.predict(model.cpu().float()(inputs), inputs)
    assert (on_gpu == on_cpu).float().mean() > 0.97
