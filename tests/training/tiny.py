"""Not a test: tiny trainings, and jobs for processes of their own, which tests kill and launch.

Run by name with a folder: ``python -m tests.training.tiny kills FOLDER``.
"""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest.mock import patch

import torch
from torch import nn

from helpers import training
from helpers.data.batches import ArrayDataset
from helpers.engine.checkpoint import read_checkpoint
from helpers.presets import Settings
from helpers.tasks import TASKS, build
from helpers.training import evaluate, fit
from tests.conftest import tiny_data

SETTINGS = Settings((32, 32), 4, 4, 6, 1e-2, "linear", augment=0.5)
TIMINGS = ["seconds", "images_per_s"]
STEPS = [2, 7, 4, 5]  # after which of its own steps each training dies; 4 an epoch


def make(model="unet", task="segmentation", group_norm=False, **changes):
    """(model, task, data) for 23 training images, which no process count divides, and 11 others."""
    if task == "colorization":
        changes.setdefault("loss", "channel_cross_entropy")
    data = tiny_data(TASKS[task].data_set, count=23)
    made = TASKS[task](data, replace(SETTINGS, **changes))
    norm = nn.BatchNorm2d
    if group_norm:  # which looks at each image alone: no step depends on how it is shared
        norm = partial(nn.GroupNorm, 1)
    with patch.object(nn, "BatchNorm2d", norm):
        return build(made, model), made, data


def quiet(line):
    pass


def train(model, task, data, stop=None, log=quiet, **places):
    """History without timings of a training that is given up after ``stop`` epochs."""
    rows = []
    for row in fit(model, task, data, log=log, **places):
        rows.append({name: value for name, value in row.items() if name not in TIMINGS})
        if len(rows) == stop:
            break
    return rows


def rows_of(folder, stop=None, mirror=None, log=quiet, **changes):
    """History without timings of the model, task and data that ``make`` makes."""
    return train(*make(**changes), stop, folder=folder, mirror=mirror, log=log)


class Watched(ArrayDataset):
    """The same images as another data set; notes which are asked for."""

    def __init__(self, other):
        super().__init__(other.images, other.targets, other.names)
        self.seen = []

    def __getitem__(self, indices):
        self.seen += indices.tolist()
        return super().__getitem__(indices)


def in_a_process(job, folder, *launcher):
    """How a process of its own ended that did one of the jobs below."""
    return subprocess.run(
        [sys.executable, *launcher, "-m", "tests.training.tiny", job, folder],
        env={**os.environ, "ACCELERATE_USE_CPU": "true", "GLOO_SOCKET_IFNAME": "lo"},
        capture_output=True,
        text=True,
        timeout=600,
    )


def second(folder):
    """Trains what another process may be training."""
    print(json.dumps(rows_of(folder, log=partial(print, flush=True))))


def kills(folder):
    """Kill a training inside each kind of write and after chosen steps, then let it finish."""
    rows_of(None, epochs=1)  # what the first use of torch costs, the children inherit
    disturbed = folder / "disturbed"
    assert os.waitpid(forked(folder / "undisturbed"), 0)[1] == 0
    for target in ("history", "last"):
        die(forked(disturbed, write=target))
        assert list(disturbed.glob(f"*/{target}.*.part")), f"the kill in {target} left nothing torn"
    reached = []
    for steps in STEPS:
        die(forked(disturbed, steps=steps))
        (last,) = disturbed.glob("*/last.pt")
        reached.append(len(read_checkpoint(last)["history"]))
    assert os.waitpid(forked(disturbed), 0)[1] == 0
    print(json.dumps(reached))


def die(child):
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def forked(folder, write=None, steps=None):
    """A child that trains, for so many steps or until a file ``write`` is half written."""
    child = os.fork()
    if child:
        return child
    torch.set_num_threads(1)
    real_replace = os.replace
    real_augment = training.augment
    done = []

    def replace_or_die(source, target):
        if Path(target).stem == write and len(done) == 4:
            os.truncate(source, os.path.getsize(source) // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        real_replace(source, target)

    def augment_or_die(*arguments):  # once a step
        if len(done) == steps:
            os.kill(os.getpid(), signal.SIGKILL)
        done.append(1)
        return real_augment(*arguments)

    os.replace = replace_or_die
    training.augment = augment_or_die
    rows_of(folder, epochs=16)
    os._exit(0)


def launched(folder):
    """Under ``accelerate launch``: what tests want to know of two processes, in one start.

    At last the second process is killed.
    """
    rank = int(os.environ["RANK"])
    touched = []

    def watch(event, arguments):
        if event == "open" and not set(str(arguments[1])) & set("wax+"):
            return
        if event in ("open", "os.rename", "os.remove", "os.mkdir"):
            touched.append(str(arguments[0]))

    sys.addaudithook(watch)
    model, task, data = make(group_norm=True)
    data.train = Watched(data.train)
    found = {
        "pid": os.getpid(),
        "rows": train(model, task, data, folder=folder / "two"),
        "seen": data.train.seen[2:],  # after the two that try the model
        "scores": evaluate(model, task, data.test),
        "touched": [path for path in touched if str(folder) in path],
        "resumed": rows_of(folder / "one then two", group_norm=True),
        "batch norm": rows_of(None, optimizer="muon"),
    }
    rows_of(folder / "two then one", stop=2, group_norm=True)
    (folder / f"rank{rank}.json").write_text(json.dumps(found))
    for _ in fit(*make(group_norm=True), folder=folder / "killed"):
        if rank == 1:  # as soon as it has its first row
            os.kill(os.getpid(), signal.SIGKILL)


def from_a_notebook(folder):
    """What a notebook's cells do: build, launch, and then load what was trained."""
    from accelerate import notebook_launcher

    model, task, data = make(group_norm=True)
    together = lambda: list(fit(model, task, data, folder=folder))  # noqa: E731, as helpers/README.md
    free = {"rdzv_backend": "c10d", "rdzv_endpoint": "localhost:0"}  # a port that nobody else has
    notebook_launcher(together, num_processes=2, **free)
    print(json.dumps(rows_of(folder, group_norm=True)))


if __name__ == "__main__":
    globals()[sys.argv[1]](Path(sys.argv[2]))
