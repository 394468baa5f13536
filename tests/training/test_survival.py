"""What must not cost a training: kills, interrupts, full disks, nan, a machine that is gone."""

import json
import os
import resource
import subprocess
import sys
import zipfile

import pandas as pd
import pytest
import torch
from filelock import FileLock
from IPython.core.interactiveshell import InteractiveShell
from torch import nn

from helpers import training
from helpers.engine.checkpoint import CheckpointError, read_checkpoint
from helpers.engine.device import accelerator
from helpers.training import fit
from tests.training.tiny import STEPS, TIMINGS, in_a_process, make, quiet, rows_of, train


def only(folder):
    """The one last.pt in a folder of runs."""
    (last,) = folder.glob("*/last.pt")
    return last


def assert_same(*folders):
    """Both hold one finished run, with the same history and weights, and nothing else."""
    tables = []
    weights = []
    for last in map(only, folders):
        assert {path.name for path in last.parent.glob("[!.]*")} == {"history.csv", "last.pt"}
        table = pd.read_csv(last.with_name("history.csv"), dtype=str)
        tables.append(table.drop(columns=TIMINGS))
        weights.append(read_checkpoint(last)["model"])
    pd.testing.assert_frame_equal(*tables)
    torch.testing.assert_close(*weights, rtol=0, atol=0)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of an undisturbed training."""
    folder = tmp_path_factory.mktemp("whole")
    rows_of(folder)
    return folder


def test_a_second_process_waits_for_the_first_and_loads_what_it_has_trained(tmp_path):
    first = fit(*make(), folder=tmp_path, log=quiet)
    rows = [next(first)]
    command = [sys.executable, "-m", "tests.training.tiny", "second", tmp_path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert "Waiting for another process that trains" in other.stdout.readline()
        rows += first
        *said, last = other.stdout.read().splitlines()
    assert any("4 of 4 epochs were finished before" in line for line in said)
    assert json.loads(last) == [{k: v for k, v in row.items() if k not in TIMINGS} for row in rows]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")
def test_kills_at_any_step_and_inside_each_write_leave_history_and_weights_bit_identical(tmp_path):
    done = in_a_process("kills", tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    finished = json.loads(done.stdout.splitlines()[-1])  # epochs after each kill
    assert finished == [sum(steps // 4 for steps in STEPS[: i + 1]) for i in range(len(STEPS))]
    assert_same(tmp_path / "disturbed", tmp_path / "undisturbed")


@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_in_bf16_a_training_goes_on_to_the_same_bits_and_learns_what_fp32_does(optimizer, tmp_path):
    changes = {"precision": "bf16", "optimizer": optimizer}
    undisturbed = rows_of(None, **changes)
    rows_of(tmp_path, stop=2, **changes)
    assert rows_of(tmp_path, **changes) == undisturbed
    for row, in_fp32 in zip(undisturbed, rows_of(None, optimizer=optimizer), strict=True):
        assert row["train_loss"] != in_fp32["train_loss"]
        assert row["train_loss"] == pytest.approx(in_fp32["train_loss"], rel=0.05)
    weights = read_checkpoint(only(tmp_path))["model"].values()
    assert {value.dtype for value in weights} == {torch.float32, torch.int64}


def test_loss_scaling_goes_on_where_it_was(tmp_path, monkeypatch):
    """fp16's scaler on a CPU: growing every three steps, its state differs between epochs."""

    def run(folder, stop=None):
        scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=3)
        monkeypatch.setattr(accelerator(), "scaler", scaler)
        return rows_of(folder, stop), scaler.get_scale()

    rows, scale = run(None)
    run(tmp_path, stop=2)
    assert run(tmp_path) == (rows, scale) and scale > 8


def test_an_interrupted_cell_keeps_its_epochs_and_weights_says_so_and_goes_on(
    tmp_path, monkeypatch, whole, capsys
):
    real = training.augment
    calls = []

    def augment(*arguments):
        calls.append(1)
        if len(calls) == 10:  # the second step of the third epoch
            raise KeyboardInterrupt
        return real(*arguments)

    model, task, data = make()
    rows = []

    def cell():
        for row in fit(model, task, data, folder=tmp_path, log=quiet):
            rows.append(row)

    with monkeypatch.context() as patched:
        patched.setattr(training, "augment", augment)
        shell = InteractiveShell()
        shell.user_ns["cell"] = cell
        shell.run_cell("cell()")
    assert [row["epoch"] for row in rows] == [1, 2]
    said = "interrupted; 2 of 4 epochs are finished. Run this again to go on after them"
    assert capsys.readouterr().out.strip().startswith(said), "no traceback above it"
    saved = read_checkpoint(only(tmp_path))["model"]["head.weight"]
    assert not torch.equal(model.head.weight, saved), "the weights went back to the last epoch's"
    rows_of(tmp_path)
    assert_same(tmp_path, whole)


@pytest.fixture
def small_disk():
    """A function that lets no file grow beyond so many bytes, until the test ends."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_stops_with_the_checkpoint_before_it_intact_and_room_lets_it_go_on(
    tmp_path, small_disk, whole
):
    epochs = fit(*make(), folder=tmp_path, log=quiet)
    next(epochs)
    last = only(tmp_path)
    before = last.read_bytes()
    small_disk(len(before) // 2)
    with pytest.raises(OSError, match=r"pt: cannot be written .*intact. Make room there"):
        next(epochs)
    small_disk(resource.RLIM_INFINITY)
    assert last.read_bytes() == before
    assert not list(last.parent.glob("*.part"))
    rows_of(tmp_path)
    assert_same(tmp_path, whole)


def test_nan_gives_the_model_its_last_good_weights_back_and_says_what_to_do(tmp_path, whole):
    model, task, data = make()
    message = r"nan in epoch 2, batch 1\. The model has the weights of.*smaller"
    with pytest.raises(FloatingPointError, match=message):
        for _ in fit(model, task, data, folder=tmp_path, log=quiet):
            good = {name: value.clone() for name, value in model.state_dict().items()}
            nn.init.constant_(model.head.weight, float("nan"))
    torch.testing.assert_close(dict(model.state_dict()), good, rtol=0, atol=0)
    train(model, task, data, folder=tmp_path)
    assert_same(tmp_path, whole)
    nn.init.constant_(model.head.weight, float("nan"))
    with pytest.raises(FloatingPointError, match="Build the model anew"):
        train(model, task, data)


@pytest.mark.parametrize("torn", [False, True])
def test_a_damaged_checkpoint_is_refused_and_lets_other_processes_go_on(tmp_path, torn):
    rows_of(tmp_path, stop=2)
    last = only(tmp_path)
    content = bytearray(last.read_bytes())
    with zipfile.ZipFile(last) as archive:
        weights = max(archive.infolist(), key=lambda record: record.file_size)
    content[weights.header_offset + weights.file_size] ^= 1  # near the record's end
    last.write_bytes(content[:1000] if torn else content)
    with pytest.raises(CheckpointError, match=r"last\.pt: this checkpoint is damaged") as kept:
        rows_of(tmp_path)
    with FileLock(last.with_name(".lock"), timeout=0):  # of its own, as another process's is
        assert kept, "a notebook keeps its last error, and what that holds"


class Hungry(nn.Module):
    """Fails as a device does whose memory is too small."""

    def __init__(self, words):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.words = words

    def forward(self, x):
        raise RuntimeError(self.words)


@pytest.mark.parametrize("words", [
    "CUDA out of memory. Tried to allocate 2.00 GiB.",
    "MPS backend out of memory (…)",
    "DefaultCPUAllocator: can't allocate memory: 8 bytes",
])  # fmt: skip
def test_out_of_memory_is_one_sentence_that_says_what_to_give(words, tmp_path):
    _, task, data = make()
    message = r"with 6 images of 32×32 on CPU.*: give --batch-size 3 or a smaller --size.*kept"
    with pytest.raises(MemoryError, match=message):
        train(Hungry(words), task, data, folder=tmp_path)
    _, task, data = make(batch_size=1)
    with pytest.raises(MemoryError, match=r"with 1 image of 32×32 on CPU.*: give a smaller --size"):
        train(Hungry(words), task, data)


@pytest.mark.parametrize("torn", [False, True])
def test_a_fresh_machine_goes_on_from_the_newest_whole_copy_in_the_mirror(tmp_path, torn, whole):
    drive = tmp_path / "drive"
    rows_of(tmp_path / "first", mirror=drive, stop=3)
    copies = sorted(drive.glob("*/*"))
    assert [copy.name for copy in copies] == ["last-00002.pt", "last-00003.pt"]
    if torn:
        copies[-1].write_bytes(copies[-1].read_bytes()[:-1000])
    lines = []
    rows_of(tmp_path / "second", mirror=drive, log=lines.append)
    assert_same(tmp_path / "second", whole)
    assert ("last-00003.pt: this checkpoint is damaged" in lines[0]) is torn
    trained = [line for line in lines if line.startswith("epoch ")]
    assert len(trained) == (2 if torn else 1), "only the rest was still to train"


def test_a_mirror_that_fails_is_told_and_costs_nothing(tmp_path, whole):
    drive = tmp_path / "drive"
    drive.write_text("a file where a folder should be")
    lines = []
    rows_of(tmp_path / "runs", mirror=drive, log=lines.append)
    assert sum("no copy of epoch" in line and "goes on" in line for line in lines) == 4
    assert_same(tmp_path / "runs", whole)
