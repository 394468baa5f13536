"""The command line: what it offers, what it refuses, and what it says when something goes wrong."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from helpers.data import DataError
from helpers.engine.checkpoint import CheckpointError
from helpers.presets import preset
from helpers.publishing import commands
from helpers.publishing.commands import main
from helpers.publishing.notebooks import NotebookFailed
from helpers.tasks import TASKS
from tests.data.making import make_birds

TRAIN = ["train", "segmentation", "--preset", "smoke"]


def said(capsys, *arguments):
    """What a command prints that ends well, or with ``--help``."""
    try:
        main(list(map(str, arguments)))
    except SystemExit as stop:
        assert stop.code in (0, None)
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("run 4", "no notebook '4': choose 1, 2, 3 or study"),
        ("run --preset fast", "invalid choice: 'fast'"),
        ("run --seeds 0", "--seeds 0: give a whole number of at least 1"),
        ("run --seed -1", "seed=-1: give a whole number of at least 0"),
        ("run --see 1", "unrecognized arguments: --see"),
        (f"run --out {__file__}", "test_commands.py is a file: give a folder to write to"),
        ("run --out=", "an empty name: give a folder to write to"),
        (f"train segmentation --out {__file__}/below", "test_commands.py is a file"),
        (f"train segmentation --mirror {__file__}", "test_commands.py is a file"),
        ("train classification --model vgg", "(choose from 'resnet18', 'plain18'"),
        ("train classification --loss l1", "(choose from 'cross_entropy')"),
        ("train classification --dice 1", "unrecognized arguments: --dice"),
        ("train colorization --label-smoothing 1", "unrecognized arguments: --label-smoothing"),
        ("train classification --size large", "argument --size: invalid pixels value: 'large'"),
        ("prepare birds --from no-such-folder", "no-such-folder is not there"),
        ("train segmentation --continue no-such-run", "no-such-run"),
    ],
)
def test_wrong_arguments_end_with_one_clear_line_before_anything_is_done(
    arguments, message, capsys
):
    with pytest.raises(SystemExit) as stop:
        main(arguments.split())
    shown = capsys.readouterr()
    assert stop.value.code == 2 and message in shown.err and not shown.out
    assert "Traceback" not in shown.err


@pytest.mark.parametrize(
    ("task", "setting"), [("classification", "dice"), ("colorization", "label_smoothing")]
)
def test_a_setting_that_changes_nothing_in_a_task_is_refused_in_python_too(task, setting):

    settings = replace(getattr(preset("smoke"), task), **{setting: 0.5})
    with pytest.raises(ValueError, match=f"{setting}=0.5 changes nothing in {task}"):
        TASKS[task].check(settings)


def test_every_help_fits_a_screen_and_commands_share_the_names_of_data_and_folders(capsys):
    shown = {}
    trains = [f"train {task}" for task in TASKS]
    for command in ["run", "prepare", "predict", "export", "colab", "handout", "handin", *trains]:
        shown[command] = said(capsys, *command.split(), "--help")
        lines = shown[command].splitlines()
        assert len(lines) <= 40 and max(map(len, lines)) <= 100
    for option in ("--preset NAME", "--root DIR", "DIR", "default"):
        assert all(option in shown[command] for command in ("run", "prepare", *trains))
    assert all("--data DIR" in shown[command] for command in ("prepare", *trains))
    assert all("--out DIR" in shown[command] for command in ("run", "predict", "colab", *trains))


def test_the_help_of_train_names_every_network_of_the_task_and_how_to_go_on(capsys):
    for task in TASKS.values():
        shown = " ".join(said(capsys, "train", task.name, "--help").split())
        for name in (*task.models, *task.known_losses):
            assert name in shown
        assert "--epochs" in shown and "run again, goes on where it was stopped" in shown
        assert "accelerate launch" in shown


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (CheckpointError, "train: what to do"),
        (FloatingPointError, "train: what to do"),
        (MemoryError, "train: what to do"),
        (NotebookFailed, "train: what to do"),
        (OSError, "train: what to do"),
        (DataError, 2),
        (ValueError, 2),
    ],
)
def test_what_can_go_wrong_in_a_training_is_told_in_one_line(monkeypatch, capsys, kind, status):
    def fail(options):
        raise kind("what to do")

    monkeypatch.setattr(commands, "train_network", fail)
    with pytest.raises(SystemExit) as stop:
        main(["train", "segmentation"])
    assert stop.value.code == status
    assert status != 2 or capsys.readouterr().err == "train: what to do\n"


def test_text_arrives_where_the_terminal_or_a_file_has_fewer_letters(tmp_path):
    root = make_birds(tmp_path / "birds")
    twin = (root / "train/OVENBIRD/1.jpg").read_bytes()
    (root / "test/OVENBIRD/9.jpg").write_bytes(twin)  # ≈ and – stand in the inventory
    command = [sys.executable, "-m", "helpers", "prepare", "birds", "--data", root]
    command += ["--preset", "smoke", "--root", tmp_path / "root"]
    environment = {**os.environ, "PYTHONUTF8": "0", "PYTHONIOENCODING": "cp1252"}
    done = subprocess.run(command, env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert b"test/OVENBIRD/9.jpg" in done.stdout
    assert (tmp_path / "root/cache").is_dir()


class Broken(torch.nn.Conv2d):
    def forward(self, x):
        return super().forward(x[:, :2])


def test_what_torch_says_of_ones_own_network_comes_with_its_place(tmp_path, monkeypatch):
    monkeypatch.setitem(TASKS["segmentation"].models, "broken", lambda task: Broken(3, 13, 1))
    with pytest.raises(RuntimeError, match="channels") as error:
        main([*TRAIN, "--model", "broken", "--out", str(tmp_path)])
    assert Path(__file__) in [frame.path for frame in error.traceback[1:]]


def test_one_network_is_trained_headless_and_once_and_then_for_longer(tmp_path, capsys):
    command = [*TRAIN, "--model", "fcn", "--out", tmp_path]
    first = said(capsys, *command)
    second = said(capsys, *command)
    assert first.count("epoch ") == 2 and "epoch   1/" not in second
    assert first.splitlines()[-1] == second.splitlines()[-1] and "mean_iou" in second
    (run,) = tmp_path.iterdir()
    assert run.name.startswith("segmentation-fcn-")
    longer = said(capsys, *command, "--epochs", 3)  # its rate is constant
    assert "2 of 3 epochs were finished before" in longer
    other = said(capsys, *command, "--continue", run, "--lr", 1e-3)
    assert other.count("epoch ") == 2 and len(list(tmp_path.iterdir())) == 3


def test_train_and_run_keep_their_runs_in_one_place(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("helpers.results.REPORTS", tmp_path)
    with pytest.raises(SystemExit):
        main(["train", "classification", "--preset", "smoke", "--data", str(tmp_path / "mine")])
    folder = commands.report_folder("smoke", birds=tmp_path / "mine")
    assert str(folder / "runs") in capsys.readouterr().out
