"""Several processes train what one trains: on CPUs, over gloo, by the engine that GPUs get."""

import json
import os
import sys
from types import SimpleNamespace

import pytest

from helpers.engine.checkpoint import read_checkpoint
from helpers.training import evaluate, train_epoch
from tests.training.tiny import in_a_process, make, rows_of, train

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="gloo over the loopback device"),
    pytest.mark.xdist_group("processes"),  # they share what one start of two processes found
]
LAUNCH = ["-m", "accelerate.commands.launch", "--multi_gpu"]
LAUNCH += ["--num_processes=2", "--main_process_port=0"]


def close(rows, others):
    """The same history up to the rounding of sums in another order."""
    for row, other in zip(rows, others, strict=True):
        assert row == pytest.approx(other, rel=2e-3, abs=2e-3)


@pytest.fixture(scope="module")
def alone():
    """The rows of the same training in this one process."""
    return rows_of(None, group_norm=True)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """How ``tiny.launched`` ended, its folder, and what its two processes found before that."""
    folder = tmp_path_factory.mktemp("two")
    rows_of(folder / "one then two", stop=2, group_norm=True)
    done = in_a_process("launched", folder, *LAUNCH)
    files = [folder / f"rank{rank}.json" for rank in (0, 1)]
    assert all(file.exists() for file in files), done.stderr[-3000:]
    one, other = (json.loads(file.read_text()) for file in files)
    alive = [process["pid"] for process in (one, other) if is_alive(process["pid"])]
    return SimpleNamespace(done=done, folder=folder, one=one, other=other, alive=alive)


def is_alive(pid):
    """Asked at once: later, another process may have the number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_two_processes_see_every_image_once_an_epoch_and_one_of_them_twice(two):
    for epoch in range(4):  # 23 images in four batches of 6, shared out as 3 + 3
        mine = slice(12 * epoch, 12 * epoch + 12)
        seen = two.one["seen"][mine] + two.other["seen"][mine]
        assert len(seen) == 24 and set(seen) == set(range(23))


def test_a_batch_that_processes_cannot_share_equally_is_refused():
    model, task, data = make(batch_size=5)
    engine = SimpleNamespace(num_processes=2, process_index=0)
    with pytest.raises(ValueError, match="5 images cannot be shared equally by 2 processes: give"):
        train_epoch(engine, model, None, task, data.train, 0)


def test_two_processes_have_the_loss_curve_of_one_and_learn_with_batch_norm_and_muon_too(
    two, alone
):
    close(two.one["rows"], alone)
    for name in ("rows", "batch norm"):
        rows = two.one[name]
        assert rows == two.other[name]
        assert rows[-1]["train_loss"] < 0.9 * rows[0]["train_loss"]


def test_two_processes_measure_exactly_what_one_measures_on_an_odd_number_of_images(two):
    model, task, data = make(group_norm=True)
    train(model, task, data, folder=two.folder / "two")  # loads their weights
    here = evaluate(model, task, data.test)
    assert two.one["scores"]["mean_iou"] == two.other["scores"]["mean_iou"] == here["mean_iou"]
    assert two.one["scores"]["valid_loss"] == pytest.approx(here["valid_loss"], rel=1e-6)


def test_only_the_first_process_writes(two):
    assert any("last.pt" in path for path in two.one["touched"])
    assert two.other["touched"] == []


def test_a_training_goes_on_with_another_number_of_processes(two, alone):
    close(two.one["resumed"], alone)
    close(rows_of(two.folder / "two then one", group_norm=True), alone)


def test_a_killed_worker_ends_all_with_a_clear_message_and_the_training_goes_on(two, alone):
    assert two.done.returncode != 0
    assert "SIGKILL" in two.done.stderr and "rank      : 1" in two.done.stderr
    assert two.alive == []
    (last,) = two.folder.glob("killed/*/last.pt")
    assert len(read_checkpoint(last)["history"]) >= 1, "it had its row before the row was saved"
    close(rows_of(two.folder / "killed", group_norm=True), alone)


def test_a_notebook_launches_two_processes_and_loads_what_they_trained(tmp_path, alone):
    done = in_a_process("from_a_notebook", tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = done.stdout.splitlines()
    assert any("Launching training on 2" in line for line in lines)
    assert sum(line.startswith("epoch   1/4") for line in lines) == 1
    close(json.loads(lines[-1]), alone)
