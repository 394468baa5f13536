"""What must not cost a training: kills, interrupts, full disks and memories, nan, a machine that is gone."""

import json
import os
import resource
import subprocess
import sys
import zipfile

import pytest
import torch
from filelock import FileLock
from torch import nn

from helpers.colour import to_float
from helpers.engine.batches import Losses
from helpers.engine.checkpoint import CheckpointError, read_checkpoint
from helpers.engine.device import accelerator
from helpers.engine.memory import Parts
from helpers.engine.run import Run
from helpers.training import fit, step, train_epoch
from tests.training.tiny import STEPS, TIMINGS, make, quiet, rows_of, train


def tiny(job, folder):
    """What ``tests.training.tiny`` prints at last when it does that job in a process of its own."""
    command = [sys.executable, "-m", "tests.training.tiny", job, folder]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def result(folder):
    """What a finished run left: history without timings, weights, and the names of its files."""
    (run,) = folder.iterdir()
    lines = [line.split(",") for line in (run / "history.csv").read_text().splitlines()]
    keep = [i for i, name in enumerate(lines[0]) if name not in TIMINGS]
    states = {name: read_checkpoint(run / f"{name}.pt")["model"] for name in ("best", "last")}
    return [[line[i] for i in keep] for line in lines], states, sorted(p.name for p in run.glob("[!.]*"))


def assert_same(folder, other):
    (history, states, names), (history2, states2, names2) = result(folder), result(other)
    assert history == history2 and names == names2
    for kind, weights in states.items():
        assert weights.keys() == states2[kind].keys()
        assert all(torch.equal(value, states2[kind][name]) for name, value in weights.items())


def test_a_second_process_waits_for_the_first_and_loads_what_it_has_trained(tmp_path):
    model, task, data = make()
    first = fit(model, task, data, folder=tmp_path, log=quiet)
    rows = [next(first)]
    command = [sys.executable, "-m", "tests.training.tiny", "second", tmp_path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert "Waiting for another process that trains" in other.stdout.readline()
        rows += first
        *said, last = other.stdout.read().splitlines()
    assert any("4 of 4 epochs were finished before" in line for line in said)
    assert json.loads(last) == [{k: v for k, v in row.items() if k not in TIMINGS} for row in rows]


def test_a_run_given_up_or_refused_lets_others_go_on(tmp_path):
    rows_of(tmp_path, stop=1)
    (last,) = tmp_path.glob("*/last.pt")
    whole = last.read_bytes()
    last.write_bytes(whole[:100])
    with pytest.raises(CheckpointError) as kept:  # as a notebook keeps the last error, with all it refers to
        rows_of(tmp_path)
    with FileLock(last.with_name(".lock"), timeout=0):  # of its own, as another process's is
        assert "damaged" in str(kept.value)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")
def test_kills_at_any_step_and_inside_each_write_leave_history_and_weights_bit_identical(tmp_path):
    reached = tiny("kills", tmp_path)
    expected = [sum(steps // 4 for steps in STEPS[: i + 1]) for i in range(len(STEPS))]
    assert reached == expected, "finished epochs after each kill"
    assert_same(tmp_path / "disturbed", tmp_path / "undisturbed")
    assert result(tmp_path / "disturbed")[2] == ["best.pt", "history.csv", "last.pt", "run.json"]


def test_in_bf16_a_training_goes_on_to_the_same_bits_and_learns_what_fp32_does(tmp_path):
    undisturbed, resumed = tiny("in_bf16", tmp_path)
    assert resumed == undisturbed
    for row, in_fp32 in zip(undisturbed, rows_of(None), strict=True):
        assert row["train_loss"] != in_fp32["train_loss"]
        assert row["train_loss"] == pytest.approx(in_fp32["train_loss"], rel=0.05)
    (last,) = tmp_path.glob("*/last.pt")
    weights = read_checkpoint(last)["model"].values()
    assert {value.dtype for value in weights} == {torch.float32, torch.int64}


def test_an_interrupted_cell_keeps_its_epochs_and_weights_says_so_and_goes_on(tmp_path, monkeypatch):
    whole = rows_of(tmp_path / "whole")
    model, task, data = make()
    lines, rows, real, calls = [], [], Run.in_parts, []

    def interrupted(self, *arguments):
        calls.append(1)
        if len(calls) == 10:  # the second step of the third epoch
            raise KeyboardInterrupt
        return real(self, *arguments)

    monkeypatch.setattr(Run, "in_parts", interrupted)
    with pytest.raises(KeyboardInterrupt):
        for row in fit(model, task, data, folder=tmp_path / "cut", log=lines.append):
            rows.append(row)
    assert [row["epoch"] for row in rows] == [1, 2]
    assert "interrupted; 2 of 4 epochs are finished" in lines[-1] and "running this again" in lines[-1]
    (last,) = (tmp_path / "cut").glob("*/last.pt")
    saved = read_checkpoint(last)["model"]["head.weight"]
    assert not torch.equal(model.head.weight, saved), "the weights went back to the last epoch's"
    assert rows_of(tmp_path / "cut") == whole
    assert_same(tmp_path / "cut", tmp_path / "whole")


def test_an_interrupt_in_the_first_epoch_can_be_repeated_with_the_very_same_network_object(
    tmp_path, monkeypatch
):
    whole = rows_of(tmp_path / "whole")
    model, task, data = make()
    real = Run.in_parts

    def interrupted(self, *arguments):
        real(self, *arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Run, "in_parts", interrupted)
        list(fit(model, task, data, folder=tmp_path / "cut", log=quiet))
    assert train(model, task, data, folder=tmp_path / "cut") == whole


@pytest.fixture
def small_disk():
    """A function that lets no file grow beyond so many bytes, until the test ends."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_stops_with_the_checkpoint_before_it_intact_and_room_lets_it_go_on(tmp_path, small_disk):
    model, task, data = make()
    epochs = fit(model, task, data, folder=tmp_path / "full", log=quiet)
    next(epochs)
    (last,) = (tmp_path / "full").glob("*/last.pt")
    before = last.read_bytes()
    small_disk(len(before) // 2)
    with pytest.raises(OSError, match=r"pt: cannot be written .*intact. Make room there"):
        next(epochs)
    small_disk(resource.RLIM_INFINITY)
    assert last.read_bytes() == before
    assert not list(last.parent.glob("*.part"))
    rows_of(tmp_path / "whole")
    rows_of(tmp_path / "full")
    assert_same(tmp_path / "full", tmp_path / "whole")


def test_nan_gives_the_network_its_last_good_weights_back(tmp_path):
    model, task, data = make()
    with pytest.raises(FloatingPointError, match=r"nan in epoch 2, batch 1\. The network has.*smaller"):
        for _ in fit(model, task, data, folder=tmp_path, log=quiet):
            good = {k: v.clone() for k, v in model.state_dict().items()}
            with torch.no_grad():
                model.head.weight.fill_(float("nan"))
    assert all(torch.equal(value, good[name]) for name, value in model.state_dict().items())
    assert train(model, task, data, folder=tmp_path) == rows_of(None)


def test_without_a_folder_nan_says_that_the_network_is_lost():
    model, task, data = make()
    with pytest.raises(FloatingPointError, match=r"inf in epoch 1, batch 1\. Build it anew"):
        model.head.bias.data.fill_(float("inf"))
        task.loss = lambda logits, target: logits.mean()
        list(fit(model, task, data, log=quiet))


def test_a_single_flipped_byte_in_the_weights_is_refused_and_so_is_a_torn_file(tmp_path):
    rows_of(tmp_path, stop=2)
    (last,) = tmp_path.glob("*/last.pt")
    with zipfile.ZipFile(last) as archive:
        weights = max(archive.infolist(), key=lambda record: record.file_size)
    content = bytearray(last.read_bytes())
    content[weights.header_offset + weights.file_size] ^= 1  # near the record's end, after its header
    last.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"last\.pt: this checkpoint is damaged \(.* does not fit"):
        rows_of(tmp_path)
    last.write_bytes(content[:1000])
    with pytest.raises(CheckpointError, match=r"last\.pt: this checkpoint is damaged"):
        rows_of(tmp_path)


class Hungry(nn.Module):
    """A network that fails, as a GPU does, when it sees more than ``limit`` pictures at once."""

    def __init__(self, inner, limit):
        super().__init__()
        self.inner, self.limit, self.seen = inner, limit, []

    def forward(self, x):
        self.seen.append(len(x))
        if len(x) > self.limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return self.inner(x)


def gradients(limit, size):
    """The gradients of one step on ``size`` pictures where only ``limit`` fit, and what was said."""
    model, task, data = make(group_norm=True, lr=1e-9)
    images, target = data.train[list(range(size))]
    lines = []
    with Run(model, task, data.train, train_epoch, None, None, lines.append) as run:
        run.net, said = Hungry(model, limit), len(lines)
        loss = step(run, *task.inputs(to_float(images), target), size)
        return float(loss), [p.grad.clone() for p in model.parameters()], lines[said:], run.net.seen


@pytest.mark.parametrize("size", [8, 7, 5])
def test_out_of_memory_halves_the_batch_and_the_step_stays_the_same(size):
    loss, whole, said, _ = gradients(100, size)
    assert said == []
    loss_in_parts, parts, said, seen = gradients(2, size)
    assert loss_in_parts == pytest.approx(loss, rel=1e-5)
    for gradient, other in zip(parts, whole, strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-3, atol=1e-5)
    assert len(said) == 1
    assert (
        f"with {size} pictures at once: from here on 2 at once; a step still learns from all {size}"
        in said[0]
    )
    assert seen[-4:] == [len(part) for part in torch.arange(size).tensor_split(4)]


def test_out_of_memory_is_said_once_in_a_training_and_changes_its_curve_by_rounding_only(monkeypatch):
    """23 pictures in batches of 6, 6, 6 and 5: the last window is a short one."""
    usual, real, lines = rows_of(None, group_norm=True), Run.__enter__, []

    def hungry(self):
        real(self)
        self.net = Hungry(self.net, 2)
        return self

    monkeypatch.setattr(Run, "__enter__", hungry)
    rows = rows_of(None, group_norm=True, log=lines.append)
    assert sum("out of memory" in line for line in lines) == 1
    for row, other in zip(rows, usual, strict=True):
        assert row == pytest.approx(other, rel=2e-3, abs=2e-3)


def test_what_does_not_fit_alone_stays_an_error_and_so_does_any_other_one():
    with pytest.raises(torch.OutOfMemoryError):
        gradients(0, 4)
    with pytest.raises(RuntimeError, match="shapes differ"):
        Parts(quiet).run(lambda parts: (_ for _ in ()).throw(RuntimeError("shapes differ")), 8)


def test_mps_and_cpu_say_out_of_memory_in_their_own_words():
    for words in ("MPS backend out of memory (…)", "DefaultCPUAllocator: can't allocate memory: 8 bytes"):

        def work(parts, words=words):
            if parts < 4:
                raise RuntimeError(words)
            return parts

        assert Parts(quiet).run(work, 8) == 4


def test_a_fresh_machine_goes_on_from_the_mirror(tmp_path):
    whole = rows_of(tmp_path / "whole")
    rows_of(tmp_path / "first", mirror=tmp_path / "drive", stop=3)
    copies = sorted(p.name for p in (tmp_path / "drive").glob("*/*"))
    assert [name for name in copies if name.startswith("last")] == [
        "last-00002.pt",
        "last-00003.pt",
    ]
    trained = []
    rows = rows_of(tmp_path / "second", mirror=tmp_path / "drive", log=trained.append)
    assert rows == whole
    assert sum(line.startswith("epoch ") for line in trained) == 1, "only the fourth was still to train"
    assert_same(tmp_path / "second", tmp_path / "whole")


def test_a_torn_copy_in_the_mirror_is_passed_over_for_the_one_before_it(tmp_path):
    whole = rows_of(tmp_path / "whole")
    rows_of(tmp_path / "first", mirror=tmp_path / "drive", stop=3)
    (newest,) = (tmp_path / "drive").glob("*/last-00003.pt")
    newest.write_bytes(newest.read_bytes()[:-1000])
    lines = []
    assert rows_of(tmp_path / "second", mirror=tmp_path / "drive", log=lines.append) == whole
    assert "last-00003.pt: this checkpoint is damaged" in lines[0]
    assert_same(tmp_path / "second", tmp_path / "whole")


def test_a_mirror_that_fails_is_told_and_costs_nothing(tmp_path):
    (tmp_path / "drive").write_text("a file where a folder should be")
    lines = []
    assert rows_of(tmp_path / "runs", mirror=tmp_path / "drive", log=lines.append) == rows_of(None)
    assert sum("no copy of epoch" in line and "goes on" in line for line in lines) == 4


def test_a_finished_run_whose_last_copy_is_missing_catches_up(tmp_path):
    rows_of(tmp_path / "runs")
    rows_of(tmp_path / "runs", mirror=tmp_path / "drive")
    assert sorted(p.name for p in (tmp_path / "drive").glob("*/last-*")) == ["last-00004.pt"]


def test_loss_scaling_goes_on_where_it_was(tmp_path, monkeypatch):
    """fp16's scaler on a CPU: growing every three steps, its state differs between epochs."""

    def run(folder, stop=None):
        scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=3)
        monkeypatch.setattr(accelerator(), "scaler", scaler)
        return rows_of(folder, stop), scaler.get_scale()

    whole, scale = run(tmp_path / "whole")
    run(tmp_path / "cut", stop=2)
    assert run(tmp_path / "cut") == (whole, scale) and scale > 8
    assert_same(tmp_path / "cut", tmp_path / "whole")


def test_a_loss_is_watched_without_waiting_and_named_by_its_batch():
    losses = Losses("epoch 3", [1, 1])
    losses.add(torch.tensor(1.0))
    with pytest.raises(FloatingPointError, match="inf in epoch 3, batch 2"):
        losses.add(torch.tensor(float("inf")))
