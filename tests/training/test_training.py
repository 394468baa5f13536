"""What every task, network and setting does when it is trained, and what it answers."""

import re
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch import nn

from helpers.engine.checkpoint import CheckpointError
from helpers.optimizer import learning_rate
from helpers.presets import PRESETS, preset
from helpers.tasks import build
from helpers.training import check_answers, evaluate, load, predict
from tests.training.tiny import SETTINGS, Watched, make, train

NETWORKS = {"classification": "resnet18", "segmentation": "unet", "colorization": "unet"}


@pytest.mark.parametrize(("name", "task", "optimizer", "shape"), [
    ("resnet18", "classification", "adam", (11, 3)),
    ("plain18", "classification", "muon", (11, 3)),
    ("fcn", "segmentation", "adamw", (11, 32, 32)),
    ("unet_no_skips", "segmentation", "muon", (11, 32, 32)),
    ("unet_without_1_2", "colorization", "adam", (11, 3, 32, 32)),
])  # fmt: skip
def test_a_training_learns_and_broken_off_and_resumed_it_comes_to_the_same_bits(
    name, task, optimizer, shape, tmp_path
):
    whole, kind, data = make(name, task, optimizer=optimizer)
    rows = train(whole, kind, data)
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]
    assert predict(whole, kind, data.test).shape == shape
    written = set()
    for stop in (1, 2, None, None):
        model, *_ = make(name, task, optimizer=optimizer)
        again = train(model, kind, data, stop, folder=tmp_path)
        assert again == rows[:stop]
        (last,) = tmp_path.glob("*/last.pt")
        if stop is None:
            torch.testing.assert_close(model.state_dict(), whole.state_dict(), rtol=0, atol=0)
            written.add(last.stat().st_mtime_ns)
    assert len(written) == 1, "a finished run was written again"
    other, kind, data = make(name, task, optimizer=optimizer, seed=1)
    assert train(other, kind, data) != rows


@pytest.mark.parametrize(("count", "sizes"), [(23, [8, 8, 8]), (16, [8, 8]), (5, [5]), (1, [1])])
def test_batches_have_one_size_and_every_image_comes_at_least_once(count, sizes):
    model, task, data = make(epochs=1, batch_size=8)
    data.train = Watched(data.train.subset(count))
    for norm in [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]:
        norm.eval()
    found = sizes_of_inputs(model)
    train(model, task, data)
    seen = data.train.seen[min(2, count) :]  # after those that try the model
    assert [size[0] for size in found] == sizes and set(seen) == set(range(count))
    assert seen[count:] == seen[: sum(sizes) - count], "not the epoch's first"


def sizes_of_inputs(model):
    """A list that grows by the shape of each batch that the model is trained with."""
    found = []
    model.register_forward_pre_hook(
        lambda _, x: found.append(x[0].shape) if torch.is_grad_enabled() else None
    )
    return found


def test_evaluation_leaves_the_training_mode_and_ignores_the_batch_size():
    model, task, data = make()
    first = evaluate(model.train(), task, data.valid)
    assert model.training
    task.settings = replace(task.settings, batch_size=5)
    assert evaluate(model, task, data.valid) == pytest.approx(first, rel=1e-3)


def test_every_colorization_loss_improves_an_image_but_the_literal_softmax_reading_hardly():
    last = {}
    gain = {}
    for loss in ("channel_cross_entropy", "l1", "colour_classes", "softmax_cross_entropy"):
        rows = train(*make("unet", "colorization", loss=loss, epochs=8, augment=0.0))
        last[loss] = rows[-1]["psnr"]
        gain[loss] = last[loss] - rows[0]["psnr"]
    assert gain["softmax_cross_entropy"] < 0.5 * min(gain["channel_cross_entropy"], gain["l1"])
    assert gain["colour_classes"] > 0
    assert max(last, key=last.get) == "colour_classes"  # it is given the lightness


def test_schedules_start_and_end_where_they_should():
    for schedule, first, last in (("constant", 1, 1), ("linear", 1, 0.01), ("cosine", 1 / 11, 0)):
        settings = replace(SETTINGS, lr=1.0, schedule=schedule)
        rates = [learning_rate(settings, step, 100) for step in range(100)]
        assert [rates[0], rates[-1]] == pytest.approx([first, last], abs=1e-3)
        assert min(rates) >= 0 and max(rates) <= 1


def test_the_report_preset_is_the_reports_settings_to_the_letter():
    report = preset("report")
    expected = {
        "classification": (20, 1e-3, "linear", "cross_entropy"),
        "segmentation": (10, 1e-4, "constant", "cross_entropy"),
        "colorization": (5, 1e-4, "constant", "channel_cross_entropy"),
    }
    for task, values in expected.items():
        s = getattr(report, task)
        assert (s.epochs, s.lr, s.schedule, s.loss) == values
        assert (s.optimizer, s.width, s.weight_decay, s.augment) == ("adam", 64, 0, 0)


def test_unknown_names_are_answered_with_the_known_ones():
    with pytest.raises(ValueError, match=f"choose one of {', '.join(PRESETS)}"):
        preset("fast")
    with pytest.raises(ValueError, match="choose one of resnet18, plain18"):
        make("resnet50", "classification")
    with pytest.raises(ValueError, match="for colorization: choose one of channel_cross_entropy"):
        make("unet", "colorization", loss="cross_entropy")


class TupleInEvaluation(nn.Conv2d):
    def forward(self, x):
        answer = super().forward(x)
        return answer if self.training else (answer, x)


@pytest.mark.parametrize(("task", "wrong", "message"), [
    ("classification", nn.Conv2d(3, 3, 1), r"[2, 3]; in training mode it returned [2, 3, 32, 32]"),
    ("segmentation", nn.Conv2d(3, 3, 3), "[2, 3, 32, 32]; in training mode it returned [2, 3, 30"),
    ("colorization", nn.Conv2d(1, 2, 1), "[2, 3, 32, 32]; in training mode it returned [2, 2, 32"),
    ("segmentation", TupleInEvaluation(3, 3, 1), "in evaluation mode it returned a tuple"),
    ("segmentation", nn.LazyConv2d(3, 1), "lazy layers: let it answer one batch before fit"),
    ("segmentation", nn.ReLU(), "no weight to train"),
    ("segmentation", nn.Conv2d(3, 3, 1).requires_grad_(False), "no weight to train"),
])  # fmt: skip
def test_a_network_of_ones_own_that_cannot_be_trained_is_told_before_the_first_epoch(
    task, wrong, message, tmp_path
):
    _, task, data = make(NETWORKS[task], task)
    with pytest.raises(ValueError, match=re.escape(message)):
        train(wrong, task, data, folder=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_batches_of_one_image_too_small_for_batch_norm_are_refused_with_a_remedy():
    model, task, data = make("resnet10", "classification", batch_size=1)
    with pytest.raises(ValueError, match="give --batch-size 2 or more, or a larger --size"):
        train(model, task, data)
    assert len(train(*make("resnet10", "classification", batch_size=2, epochs=1))) == 1


def test_the_trial_before_a_training_leaves_the_model_as_it_was():
    model, task, data = make()
    before = deepcopy(model.state_dict())
    check_answers(model, task, data.train)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_compiled_network_trains_as_the_same_one_not_compiled_and_is_resumed(tmp_path):
    model, task, data = make()
    rows = train(torch.compile(model, backend="eager"), task, data, folder=tmp_path)
    assert rows == train(*make())
    lines = []
    train(*make(), folder=tmp_path, log=lines.append)
    assert "4 of 4 epochs were finished before" in lines[0]


def test_a_model_can_be_named_described_or_made():
    named, task, _ = make("unet_no_skips")
    described = build(task, {"skip": False})
    assert all(map(torch.equal, named.parameters(), described.parameters()))
    assert build(task, {"skip": False, "width": 2}).down[0][0].out_channels == 2
    made = build(task, lambda task: nn.Conv2d(3, task.outputs, 1))
    assert isinstance(made, nn.Conv2d)


def test_rare_colours_are_raised_in_a_copy_of_the_task():
    model, task, data = make("unet", "colorization", loss="colour_classes")
    vivid = task.with_rarity(1.0)
    assert (task.rarity, vivid.rarity) == (0.0, 1.0)
    assert not torch.equal(predict(model, task, data.test), predict(model, vivid, data.test))


@pytest.mark.parametrize(("name", "changes"), [
    ("classification", {}),
    ("segmentation", {"balance": 0.5}),
    ("colorization", {"loss": "colour_classes"}),
])  # fmt: skip
def test_a_run_is_loaded_with_all_that_its_predictions_need(name, changes, tmp_path):
    model, task, data = make(NETWORKS[name], name, epochs=1, **changes)
    train(model, task, data, folder=tmp_path)
    (folder,) = tmp_path.iterdir()
    assert folder.name.startswith(f"{name}-{NETWORKS[name]}-")
    loaded, restored = load(folder)
    assert (restored.classes, restored.settings) == (task.classes, task.settings)
    if name == "colorization":
        task = task.with_rarity(0.5)
        restored = restored.with_rarity(0.5)
    assert torch.equal(predict(loaded, restored, data.test), predict(model, task, data.test))


def test_a_network_of_ones_own_is_loaded_into_a_new_one_that_fits(tmp_path):
    _, task, data = make(epochs=1)
    own = nn.Conv2d(3, 3, 1)
    train(own, task, data, folder=tmp_path)
    (folder,) = tmp_path.iterdir()
    with pytest.raises(ValueError, match="a network of your own: give it too"):
        load(folder)
    with pytest.raises(ValueError, match="holds another network"):
        load(folder, nn.Conv2d(3, 4, 1))
    loaded, _ = load(folder, nn.Conv2d(3, 3, 1))
    assert torch.equal(loaded.weight, own.weight)


def test_a_run_of_fp16_predicts_without_a_gpu_and_one_of_an_older_version_says_so(tmp_path):
    train(*make(epochs=1), folder=tmp_path)
    (last,) = tmp_path.glob("*/last.pt")
    state = torch.load(last)
    state["about"]["task"]["settings"]["precision"] = "fp16"
    torch.save(state, last)
    model, task = load(last.parent)
    assert predict(model, task, make()[2].test).shape == (11, 32, 32)
    state["about"]["task"]["settings"]["coarse"] = 0.5  # a setting that is gone
    torch.save(state, last)
    with pytest.raises(ValueError, match="a run of an older version, with coarse: train it again"):
        load(last.parent)
    torch.save({"model": state["model"], "history": []}, last)
    with pytest.raises(CheckpointError, match="an older version has written it"):
        load(last.parent)
    with pytest.raises(CheckpointError, match=r"nowhere holds no last\.pt: give the folder"):
        load(tmp_path / "nowhere")
