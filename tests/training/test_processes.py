"""Several processes train what one trains. On CPUs, over gloo; the engine is the one that GPUs get."""

import json
import os
import subprocess
import sys

import pytest

from helpers.engine.checkpoint import read_checkpoint
from helpers.training import evaluate, fit
from tests.training.tiny import make, rows_of

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="gloo over the loopback device"),
    pytest.mark.xdist_group("processes"),  # they share what one start of two processes found
]


def start(job, folder, launcher=()):
    return subprocess.run(
        [sys.executable, *launcher, "-m", "tests.training.tiny", job, folder],
        env={**os.environ, "ACCELERATE_USE_CPU": "true", "GLOO_SOCKET_IFNAME": "lo"},
        capture_output=True,
        text=True,
        timeout=600,
    )


LAUNCH = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes=2", "--main_process_port=0"]


def close(rows, others):
    """The same history up to the rounding of sums in another order."""
    assert len(rows) == len(others)
    for row, other in zip(rows, others, strict=True):
        assert row == pytest.approx(other, rel=2e-3, abs=2e-3)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The same training in this one process: its rows."""
    folder = tmp_path_factory.mktemp("alone")
    return rows_of(folder, group_norm=True)


@pytest.fixture(scope="module")
def launch(tmp_path_factory):
    """How the start of ``tiny.launched`` ended, and its folder."""
    folder = tmp_path_factory.mktemp("two")
    rows_of(folder / "one then two", stop=2, group_norm=True)
    return start("launched", folder, LAUNCH), folder


@pytest.fixture(scope="module")
def two(launch):
    """What the two processes of ``tiny.launched`` found before one was killed, and their folder."""
    done, folder = launch
    files = [folder / f"rank{rank}.json" for rank in (0, 1)]
    assert all(file.exists() for file in files), done.stderr[-3000:]
    return [json.loads(file.read_text()) for file in files], folder


def test_two_processes_see_every_picture_once_an_epoch_in_total(two):
    (one, other), _ = two
    for epoch in range(4):
        # 23 pictures in batches of 6, 6, 6 and 5, shared out as 3 + 3 and at last 3 + 2
        seen = one["seen"][12 * epoch : 12 * epoch + 12] + other["seen"][11 * epoch : 11 * epoch + 11]
        assert sorted(seen) == list(range(23))


def test_two_processes_have_the_loss_curve_of_one_up_to_rounding(two, alone):
    (one, other), _ = two
    assert one["rows"] == other["rows"]
    close(one["rows"], alone)
    assert one["rows"][-1]["train_loss"] < 0.9 * one["rows"][0]["train_loss"]


def test_two_processes_measure_exactly_what_one_measures_on_an_odd_number_of_pictures(two):
    (one, other), folder = two
    model, task, data = make(group_norm=True)
    list(fit(model, task, data, folder=folder / "two", log=lambda line: None))  # loads the weights of the two
    here = evaluate(model, task, data.test)
    assert one["scores"]["mean_iou"] == other["scores"]["mean_iou"] == here["mean_iou"]
    assert one["scores"]["valid_loss"] == pytest.approx(here["valid_loss"], rel=1e-6)


def test_only_the_first_process_writes(two):
    (one, other), _ = two
    assert any("last.pt" in path for path in one["touched"])
    assert other["touched"] == []


def test_a_training_goes_on_with_another_number_of_processes(two, alone):
    (one, _), folder = two
    close(one["resumed"], alone)
    close(rows_of(folder / "two then one", group_norm=True), alone)


def test_batch_norm_in_shares_still_learns(two):
    (one, other), _ = two
    assert one["batch norm"] == other["batch norm"]
    assert one["batch norm"][-1]["train_loss"] < 0.9 * one["batch norm"][0]["train_loss"]


def test_a_killed_worker_ends_all_with_a_clear_message_and_the_training_goes_on(launch, two, alone):
    (done, folder), (found, _) = launch, two
    assert done.returncode != 0
    assert "SIGKILL" in done.stderr and "rank      : 1" in done.stderr
    for process in found:
        with pytest.raises(ProcessLookupError):
            os.kill(process["pid"], 0)
    (last,) = (folder / "killed").glob("*/last.pt")
    assert len(read_checkpoint(last)["history"]) >= 1, "it had its row before the row was saved"
    close(rows_of(folder / "killed", group_norm=True), alone)


def test_a_notebook_launches_two_processes_and_loads_what_they_trained(tmp_path, alone):
    done = start("from_a_notebook", tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = done.stdout.splitlines()
    assert any("Launching training on 2" in line for line in lines)
    assert sum(line.startswith("epoch   1/4") for line in lines) == 1
    close(json.loads(lines[-1]), alone)
