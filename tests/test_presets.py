"""Settings are checked where they are made, and so by every way in: code and command line."""

import math
from dataclasses import fields, replace

import pytest

from helpers.models import UNet
from helpers.optimizer import OPTIMIZERS, learning_rate, make_optimizer
from helpers.presets import LOSSES, PRESETS, Settings, preset
from helpers.publishing.commands import main
from helpers.tasks import TASKS

GOOD = preset("smoke").segmentation
BAD = {
    "epochs": (0, "epochs=0: give a whole number of at least 1"),
    "batch_size": (0, "batch_size=0: give a whole number of at least 1"),
    "width": (-3, "width=-3: give a whole number of at least 1"),
    "limit": (0, "limit=0: give a whole number of at least 1"),
    "seed": (-5, "seed=-5: give a whole number of at least 0"),
    "lr": (0.0, "lr=0.0: give a number above 0"),
    "weight_decay": (-0.1, "weight_decay=-0.1: give a finite number of at least 0"),
    "augment": (math.inf, "augment=inf: give a finite number of at least 0"),
    "label_smoothing": (math.nan, "label_smoothing=nan: give a finite number of at least 0"),
    "whitening": (-1.0, "whitening=-1.0: give a finite number of at least 0"),
    "balance": (-1.0, "balance=-1.0: give a finite number of at least 0"),
    "dice": (math.inf, "dice=inf: give a finite number of at least 0"),
    "size": ((8, 96), "size=(8, 96): give (height, width) in pixels, at least 16 each"),
    "loss": (
        "mse",
        "no loss 'mse': choose one of cross_entropy, channel_cross_entropy, softmax_cross_entropy",
    ),
    "optimizer": ("sgd", "no optimizer 'sgd': choose one of adam, adamw, muon"),
    "precision": ("fp8", "no precision 'fp8': choose one of best, no, bf16, fp16"),
    "schedule": ("step", "no schedule 'step': choose one of constant, linear, cosine"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_setting_that_nothing_can_be_trained_with_is_refused_in_one_sentence(name):
    value, message = BAD[name]
    with pytest.raises(ValueError) as caught:
        replace(GOOD, **{name: value})
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [("size", 96, "height, width"), ("lr", None, "finite number"), ("dice", "1", "finite number")],
)
def test_a_value_of_the_wrong_kind_is_refused_like_a_wrong_value(name, value, wanted):
    with pytest.raises(ValueError, match=f"{name}={value}: give .*{wanted}"):
        replace(GOOD, **{name: value})


@pytest.mark.parametrize("name", BAD)
def test_the_command_line_says_the_same_and_writes_nothing(name, tmp_path, capsys):
    value, message = BAD[name]
    text = "x".join(map(str, value)) if name == "size" else str(value)
    out = tmp_path / "out"
    option = f"--{name.replace('_', '-')}={text}"
    task = "classification" if name == "whitening" else "segmentation"
    with pytest.raises(SystemExit) as stop:
        main(["train", task, "--preset", "smoke", "--out", str(out), option])
    shown = capsys.readouterr()
    if name in ("schedule", "optimizer", "loss", "precision"):
        message = f"invalid choice: {value!r} (choose from"
    assert stop.value.code == 2 and message in shown.err and "Traceback" not in shown.err
    assert shown.out == "" and not out.exists()


def test_augmentation_grows_with_the_steps_a_training_has_unless_it_is_given():
    by_steps = replace(GOOD, augment=None)
    found = [by_steps.strength(steps) for steps in (25, 100, 400, 2500, 10_000, 99_999)]
    assert found == pytest.approx([0.05, 0.1, 0.2, 0.5, 1, 1])
    assert replace(GOOD, augment=0.5).strength(99_999) == 0.5


def test_every_setting_has_a_bad_example_and_an_option():
    assert set(BAD) == {field.name for field in fields(Settings)}


@pytest.mark.parametrize(
    ("value", "message"), [(2.5, "epochs=2.5"), ("3", "epochs=3"), (None, "epochs=None")]
)
def test_epochs_that_are_no_whole_number_are_refused(value, message):
    with pytest.raises(ValueError, match=f"{message}: give a whole number"):
        replace(GOOD, epochs=value)


def test_known_names_are_those_that_work():
    known = {field.name: field.metadata["known"] for field in fields(Settings)}
    assert set(known["optimizer"]) == set(OPTIMIZERS)
    for optimizer in OPTIMIZERS:
        make_optimizer(UNet(3, 2, width=1), replace(GOOD, optimizer=optimizer))
    rates = {s: learning_rate(replace(GOOD, schedule=s), 50, 100) for s in known["schedule"]}
    assert len(set(rates.values())) == 3
    assert {loss for task in TASKS.values() for loss in task.known_losses} == set(LOSSES)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_names_losses_that_its_tasks_have(name):
    for task in TASKS.values():
        task.check(getattr(preset(name), task.name))
