"""Not a test: trains tiny networks in processes of their own, for tests that kill, launch and fork them.

Run by name with a folder: ``python -m tests.training.tiny kills FOLDER``, or under ``accelerate launch``.
"""

import json
import os
import signal
import socket
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import nn

from helpers.data.batches import ArrayDataset
from helpers.engine.checkpoint import read_checkpoint
from helpers.engine.device import accelerator
from helpers.engine.run import Run
from helpers.presets import Settings
from helpers.tasks import TASKS, build
from helpers.training import evaluate, fit
from tests.conftest import tiny_data

SETTINGS = Settings((32, 32), 4, 4, 6, 1e-2, "linear", augment=0.5)
TIMINGS = {"seconds", "images_per_s"}


def make(network="unet", group_norm=False, **changes):
    """(model, task, data) for 23 training and 11 other pictures: no number of processes divides either."""
    data = tiny_data("streets", count=23)
    task = TASKS["segmentation"](data, replace(SETTINGS, **changes))
    model = build(task, network)
    if group_norm:
        with torch.random.fork_rng():
            without_batch_norm(model)
    return model, task, data


def without_batch_norm(module):
    """Group norm instead, which looks at each picture alone: no step then depends on how it is shared."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, nn.GroupNorm(1, child.num_features))
        without_batch_norm(child)


def quiet(line):
    pass


def rows_of(folder, stop=None, mirror=None, log=quiet, **changes):
    """History without timings of a training in ``folder``, given up after ``stop`` epochs."""
    return train(*make(**changes), stop, folder=folder, mirror=mirror, log=log)


def train(model, task, data, stop=None, log=quiet, **places):
    """History without timings of a training that is given up after ``stop`` epochs."""
    rows = []
    for row in fit(model, task, data, log=log, **places):
        rows.append({k: v for k, v in row.items() if k not in TIMINGS})
        if len(rows) == stop:
            break
    return rows


def second(folder):
    """Trains what another process may be training."""
    print(json.dumps(rows_of(folder, log=partial(print, flush=True))))


STEPS = (1, 2, 7, 4, 11, 5, 3, 9)  # after which of its own steps each killed training dies; 4 make an epoch


def kills(folder):
    """Kill a training inside each kind of write and after chosen steps, then let it finish."""
    rows_of(None, epochs=1)  # what the first use of torch costs, the children inherit
    undisturbed, disturbed, reached = Path(folder) / "undisturbed", Path(folder) / "disturbed", []
    assert os.waitpid(start(undisturbed), 0)[1] == 0
    for target in ("best", "history", "last"):
        die(start(disturbed, write=target))
        assert list(disturbed.glob(f"*/{target}.*.part")), f"the kill in {target} left nothing half-written"
    for steps in STEPS:
        die(start(disturbed, steps=steps))
        (last,) = disturbed.glob("*/last.pt")
        reached.append(len(read_checkpoint(last)["history"]))
    assert os.waitpid(start(disturbed), 0)[1] == 0
    print(json.dumps(reached))


def die(child):
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def start(folder, write=None, steps=None):
    """A forked child that trains, until a file named ``write`` is half written, or for so many steps."""
    child = os.fork()
    if child:
        return child
    torch.set_num_threads(1)
    real_replace, real_step, done = os.replace, Run.in_parts, []

    def replace_or_die(source, target):
        if Path(target).stem == write and len(done) == 4:
            os.truncate(source, os.path.getsize(source) // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        real_replace(source, target)

    def step_or_die(self, *arguments):
        if len(done) == steps:
            os.kill(os.getpid(), signal.SIGKILL)
        done.append(real_step(self, *arguments))
        return done[-1]

    os.replace, Run.in_parts = replace_or_die, step_or_die
    rows_of(folder, epochs=16)
    os._exit(0)


class Watched(ArrayDataset):
    """Notes which pictures are asked for."""

    seen = ()

    def __getitem__(self, indices):
        self.seen = [*self.seen, *indices.tolist()]
        return super().__getitem__(indices)


def in_bf16(folder):
    """Rows of a training in that precision, and of another that was given up and goes on in ``folder``."""
    accelerator("bf16")
    undisturbed = rows_of(None)
    rows_of(folder, stop=2)
    print(json.dumps([undisturbed, rows_of(folder)]))


def launched(folder):
    """Under ``accelerate launch``: everything that a test wants to know of two processes, in one start,
    and at last the second is killed."""
    folder, rank = Path(folder), int(os.environ["RANK"])
    found = {"rank": rank, "pid": os.getpid(), "touched": []}

    def watch(event, arguments):
        opened = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
        if opened or event in ("os.rename", "os.remove", "os.mkdir"):
            found["touched"].append(str(arguments[0]))

    sys.addaudithook(watch)
    model, task, data = make(group_norm=True)
    data.train = Watched(data.train.images, data.train.targets, data.train.names)
    rows = train(model, task, data, folder=folder / "two")
    found |= {"rows": rows, "seen": data.train.seen, "scores": evaluate(model, task, data.test)}
    found["touched"] = [path for path in found["touched"] if str(folder) in path]
    found["resumed"] = rows_of(folder / "one then two", group_norm=True)
    rows_of(folder / "two then one", stop=2, group_norm=True)
    found["batch norm"] = rows_of(None)
    (folder / f"rank{rank}.json").write_text(json.dumps(found))
    model, task, data = make(group_norm=True)
    for _ in fit(model, task, data, folder=folder / "killed"):
        if rank == 1:  # as soon as it has its first row
            os.kill(os.getpid(), signal.SIGKILL)


def from_a_notebook(folder):
    """What a notebook's cells do: build, launch, and then load what was trained."""
    from accelerate import notebook_launcher

    model, task, data = make(group_norm=True)

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        free = one.getsockname()[1]
    launched = lambda: list(fit(model, task, data, folder=folder))  # noqa: E731, as the README has it
    notebook_launcher(launched, num_processes=2, use_port=str(free))
    print(json.dumps(rows_of(folder, group_norm=True)))


if __name__ == "__main__":
    globals()[sys.argv[1]](sys.argv[2])
