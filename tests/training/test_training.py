from dataclasses import replace

import pytest
import torch

from helpers.augment import augment, draw_views, halved
from helpers.engine.checkpoint import CheckpointError
from helpers.engine.optimizer import learning_rate
from helpers.presets import PRESETS, Settings, preset
from helpers.tasks import TASKS, build
from helpers.training import evaluate, fit, predict
from tests.conftest import tiny_data
from tests.training.tiny import train

SETTINGS = Settings((32, 32), 4, 3, 8, 1e-2, "linear", augment=0.5)
KINDS = {"classification": "birds", "segmentation": "streets", "colorization": "landscapes"}
CASES = [
    ("classification", "resnet18"),
    ("classification", "plain18"),
    ("segmentation", "fcn"),
    ("segmentation", "unet_no_skips"),
    ("colorization", "unet"),
    ("colorization", "unet_without_1_2"),
]


def make(name, network, **changes):
    data = tiny_data(KINDS[name])
    changes = {"loss": "channel_cross_entropy"} | changes if name == "colorization" else changes
    task = TASKS[name](data, replace(SETTINGS, **changes))
    return build(task, network), task, data


def run(name, network, folder=None, stop=None, **changes):
    """Rows without timings, and weights, of a training that may be broken off after ``stop`` epochs."""
    model, task, data = make(name, network, **changes)
    rows = train(model, task, data, stop, folder=folder)
    return rows, {k: v.clone() for k, v in model.state_dict().items()}


def same(one, other):
    return one[0] == other[0] and all(torch.equal(v, other[1][k]) for k, v in one[1].items())


@pytest.mark.parametrize(("name", "network"), CASES)
def test_every_task_trains_and_its_loss_falls(name, network):
    rows, _ = run(name, network, epochs=6, augment=0.0)
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]


@pytest.mark.parametrize(("name", "network"), CASES)
def test_a_run_broken_off_and_resumed_is_bit_identical_to_an_undisturbed_one(name, network, tmp_path):
    whole = run(name, network)
    run(name, network, tmp_path, stop=1)
    run(name, network, tmp_path, stop=2)
    assert same(run(name, network, tmp_path), whole)


def test_the_seed_fixes_everything_and_another_seed_changes_everything():
    assert same(run("segmentation", "unet"), run("segmentation", "unet"))
    assert not same(run("segmentation", "unet"), run("segmentation", "unet", seed=1))


def test_a_finished_model_is_loaded_and_not_trained_again(tmp_path):
    whole = run("classification", "resnet18", tmp_path)
    stamps = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.*") if p.name != ".lock"}
    assert same(run("classification", "resnet18", tmp_path), whole)
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.*") if p.name != ".lock"} == stamps


def test_changed_settings_are_another_run(tmp_path):
    run("classification", "resnet18", tmp_path)
    run("classification", "resnet18", tmp_path, lr=1e-3)
    run("classification", "plain18", tmp_path)
    assert len(list(tmp_path.glob("*/last.pt"))) == 3


def test_a_checkpoint_of_another_run_is_refused_with_what_differs(tmp_path):
    run("classification", "resnet18", tmp_path / "a", stop=1)
    run("classification", "resnet18", tmp_path / "b", stop=1, lr=0.5)
    (ours,), (theirs,) = (tmp_path / x for x in "a"), (tmp_path / x for x in "b")
    (place,), (other,) = ours.glob("*/last.pt"), theirs.glob("*/last.pt")
    place.write_bytes(other.read_bytes())
    with pytest.raises(CheckpointError, match=r"another run \(lr: 0.5 there, 0.01 here\)"):
        run("classification", "resnet18", tmp_path / "a")


def test_evaluation_leaves_the_training_mode_and_ignores_the_batch_size():
    model, task, data = make("segmentation", "unet")
    first = evaluate(model.train(), task, data.valid)
    assert model.training
    other = evaluate(model, replace_batch(task, 5), data.valid)
    assert other["mean_iou"] == pytest.approx(first["mean_iou"], abs=1e-3)
    assert other["valid_loss"] == pytest.approx(first["valid_loss"], rel=1e-3)


def replace_batch(task, batch_size):
    task.settings = replace(task.settings, batch_size=batch_size)
    return task


def test_predictions_have_the_documented_shapes():
    shapes = {}
    for name, network in CASES[::2]:
        model, task, data = make(name, network)
        shapes[name] = tuple(predict(model, task, data.test).shape)
    assert shapes == {
        "classification": (12, 3),
        "segmentation": (12, 32, 32),
        "colorization": (12, 3, 32, 32),
    }


def test_every_colorization_loss_improves_a_picture_but_the_literal_softmax_reading_hardly():
    first, last = {}, {}
    for loss in ("channel_cross_entropy", "l1", "colour_classes", "softmax_cross_entropy"):
        rows, _ = run("colorization", "unet", loss=loss, epochs=8, augment=0.0)
        first[loss], last[loss] = rows[0]["psnr"], rows[-1]["psnr"]
    gain = {loss: last[loss] - first[loss] for loss in last}
    assert gain["softmax_cross_entropy"] < 0.5 * min(gain["channel_cross_entropy"], gain["l1"])
    assert gain["colour_classes"] > 0 and max(last, key=last.get) == "colour_classes"  # it has the lightness


def test_schedules_start_and_end_where_they_should():
    steps = 100
    for schedule, first, last in (("constant", 1, 1), ("linear", 1, 0.01), ("cosine", 1 / 11, 0)):
        rates = [learning_rate(replace(SETTINGS, lr=1.0, schedule=schedule), s, steps) for s in range(steps)]
        assert rates[0] == pytest.approx(first) and rates[-1] == pytest.approx(last, abs=1e-3)
        assert min(rates) >= 0 and max(rates) <= 1


def test_augmentation_moves_mask_and_picture_alike_and_invents_no_class():
    mask = torch.randint(0, 3, (4, 8, 10)).repeat_interleave(8, 1).repeat_interleave(8, 2).byte() * 5
    images = (mask[:, None].float() / 10).expand(-1, 3, -1, -1)
    generator = torch.Generator().manual_seed(0)
    moved, target = augment(images, mask, 1.0, draw_views(4, generator))
    assert set(target.unique().tolist()) <= {0, 5, 10} and not torch.equal(target, mask)
    still = augment(images, mask, 1.0, draw_views(4, torch.Generator().manual_seed(0)))
    assert torch.equal(still[0], moved) and torch.equal(still[1], target)
    # Light changes are affine in each picture, so within one class the moved picture stays nearly flat.
    for picture, ids in zip(moved[:, 0], target, strict=True):
        levels = torch.stack([picture[ids == c].median() for c in ids.unique()])
        assert (picture[..., None] - levels).abs().min(-1).values.mean() < 0.02


@pytest.mark.parametrize("name", KINDS)
def test_coarse_epochs_come_first_and_see_pictures_of_half_the_size(name):
    sizes = []
    model, task, data = make(name, "resnet18" if name == "classification" else "unet", epochs=3, coarse=0.6)
    first = next(module for module in model.modules() if isinstance(module, torch.nn.Conv2d))
    first.register_forward_hook(
        lambda _, x, out: sizes.append(tuple(x[0].shape[2:])) if model.training else None
    )
    train(model, task, data)
    epoch = len(sizes) // 3
    assert sizes == [(16, 16)] * epoch + [(32, 32)] * 2 * epoch


def test_half_the_size_is_the_mean_of_four_pixels_and_one_of_their_classes():
    images, mask = torch.rand(2, 3, 5, 8), torch.randint(0, 9, (2, 5, 8))
    small, target = halved(images, mask)
    assert small.shape == (2, 3, 3, 4) and target.shape == (2, 3, 4)
    torch.testing.assert_close(small[0, 1, 1, 2], images[0, 1, 2:4, 4:6].mean())
    torch.testing.assert_close(small[1, 0, 2, 0], images[1, 0, 4, :2].mean())  # a row less at the odd edge
    assert torch.equal(target, mask[:, ::2, ::2])
    labels = torch.tensor([3, 1])
    assert halved(images, labels)[1] is labels


def test_no_augmentation_changes_nothing():
    images, target = torch.rand(2, 3, 8, 8), torch.tensor([0, 1])
    assert augment(images, target, 0.0, None) == (images, target)


def test_the_report_preset_is_the_reports_settings_to_the_letter():
    p = preset("report")
    assert (p.classification.epochs, p.classification.lr, p.classification.schedule) == (20, 1e-3, "linear")
    assert (p.segmentation.epochs, p.segmentation.lr, p.segmentation.loss) == (10, 1e-4, "cross_entropy")
    assert (p.colorization.epochs, p.colorization.lr, p.colorization.loss) == (
        5,
        1e-4,
        "channel_cross_entropy",
    )
    for settings in (p.classification, p.segmentation, p.colorization):
        assert (settings.optimizer, settings.width, settings.weight_decay, settings.augment) == (
            "adam",
            64,
            0,
            0,
        )


def test_unknown_names_are_answered_with_the_known_ones():
    with pytest.raises(ValueError, match=f"choose one of {', '.join(PRESETS)}"):
        preset("fast")
    with pytest.raises(ValueError, match="choose one of resnet18, plain18"):
        make("classification", "resnet50")
    with pytest.raises(ValueError, match="for colorization: choose one of channel_cross_entropy"):
        make("colorization", "unet", loss="cross_entropy")


@pytest.mark.parametrize(
    ("name", "wrong", "message"),
    [
        ("classification", torch.nn.Conv2d(3, 3, 1), r"\(N, 3\), it returned \(8, 3, 32, 32\) for N = 8"),
        ("segmentation", torch.nn.Conv2d(3, 3, 3), r"\(N, 3, 32, 32\), it returned \(8, 3, 30, 30\)"),
        ("colorization", torch.nn.Conv2d(1, 2, 1), r"\(N, 3, 32, 32\), it returned \(8, 2, 32, 32\)"),
    ],
)
def test_a_network_of_ones_own_with_a_wrong_output_is_told_at_the_first_batch(name, wrong, message):
    _, task, data = make(name, "unet" if name != "classification" else "resnet18")
    with pytest.raises(ValueError, match=f"your network must return {message}"):
        list(fit(wrong, task, data, log=lambda line: None))


def test_a_network_that_returns_no_tensor_is_told_what_it_returned():
    _, task, _ = make("segmentation", "unet")
    with pytest.raises(ValueError, match=r"must return \(N, 3, 4, 5\), it returned a dict"):
        task.check_output({"out": torch.rand(2, 3, 4, 5)}, torch.rand(2, 3, 4, 5))


@pytest.mark.parametrize(("width", "format"), [(4, torch.contiguous_format), (8, torch.channels_last)])
def test_narrow_nets_with_strided_projections_never_compute_in_channels_last(width, format):
    task, data = make("classification", "resnet18", width=width)[1:]
    net, seen = build(task, "resnet18"), []
    projection = net.layer2[0].downsample[0]
    projection.register_forward_hook(lambda module, inputs, out: seen.extend([*inputs, module.weight]))
    train(net, task, data)
    predict(net, task, data.test)
    assert seen and all(tensor.is_contiguous(memory_format=format) for tensor in seen)
