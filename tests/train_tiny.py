"""Not a test: trains tiny networks in processes of their own, for tests that kill, launch and fork them.

Run by name with a folder: ``python -m tests.train_tiny kills FOLDER``, or under ``accelerate launch``.
"""

import json
import os
import random
import signal
import socket
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

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


def rows_of(folder, stop=None, **changes):
    """History without timings of a training in ``folder``, given up after ``stop`` epochs."""
    rows, (model, task, data) = [], make(**changes)
    for row in fit(model, task, data, folder=folder, log=lambda line: None):
        rows.append({k: v for k, v in row.items() if k not in TIMINGS})
        if len(rows) == stop:
            break
    return rows


def kills(folder):
    """Kill a training at 20 random moments and at three chosen ones, then let it finish."""
    undisturbed = Path(folder) / "undisturbed"
    rows_of(None, epochs=1)  # what the first use of torch costs, the children inherit
    began = time.monotonic()
    rows_in_child(undisturbed)
    epoch = (time.monotonic() - began) / 16
    chance, landed, reached = random.Random(0), 0, set()
    disturbed = Path(folder) / "disturbed"
    for target in ("best", "history", "last"):
        child = start(disturbed, target)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        assert list(disturbed.glob(f"*/{target}.*.part")), f"the kill in {target} left nothing half-written"
    while landed < 20:
        child = start(disturbed)
        time.sleep(chance.uniform(0, 2.5 * epoch))
        os.kill(child, signal.SIGKILL)
        killed = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        landed += killed
        reached.add(epochs_in(disturbed))
        if not killed:  # it was faster: keep it for the comparison, and go on with another one
            disturbed = Path(folder) / f"disturbed{landed}"
    rows_in_child(disturbed)
    print(json.dumps({"epoch": epoch, "kills": landed, "reached": sorted(reached)}))


def epochs_in(folder):
    histories = list(folder.glob("*/history.csv"))
    return len(histories[0].read_text().splitlines()) - 1 if histories else 0


def start(folder, die_in=None):
    """A forked child that trains; with ``die_in`` it kills itself when that file is half written."""
    child = os.fork()
    if child:
        return child
    torch.set_num_threads(1)
    if die_in:
        real = os.replace

        def die(source, target):
            if Path(target).stem == die_in:
                os.truncate(source, os.path.getsize(source) // 2)
                os.kill(os.getpid(), signal.SIGKILL)
            real(source, target)

        os.replace = die
    rows_of(folder, epochs=16)
    os._exit(0)


def rows_in_child(folder):
    assert os.waitpid(start(folder), 0)[1] == 0


def launched(folder):
    """Under ``accelerate launch``: everything that a test wants to know of two processes, in one start."""
    folder, rank = Path(folder), int(os.environ["RANK"])
    found = {"rank": rank, "pid": os.getpid(), "touched": []}

    def watch(event, arguments):
        opened = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
        if opened or event in ("os.rename", "os.remove", "os.mkdir"):
            found["touched"].append(str(arguments[0]))

    sys.addaudithook(watch)
    model, task, data = make(group_norm=True)
    seen, real = [], data.train.__getitems__
    data.train.__getitems__ = lambda indices: (seen.extend(indices.tolist()), real(indices))[1]
    rows = []
    for row in fit(model, task, data, folder=folder / "two", log=lambda line: None):
        rows.append({k: v for k, v in row.items() if k not in TIMINGS})
    found |= {"rows": rows, "seen": seen, "scores": evaluate(model, task, data.test)}
    found["touched"] = [path for path in found["touched"] if str(folder) in path]
    found["resumed"] = rows_of(folder / "one then two", group_norm=True)
    rows_of(folder / "two then one", stop=2, group_norm=True)
    found["batch norm"] = rows_of(None)
    (folder / f"rank{rank}.json").write_text(json.dumps(found))


def killed_worker(folder):
    """Under ``accelerate launch``: the second process is killed in its second epoch."""
    folder, rank = Path(folder), int(os.environ["RANK"])
    (folder / f"pid{rank}").write_text(str(os.getpid()))
    model, task, data = make(group_norm=True)
    for _ in fit(model, task, data, folder=folder):
        if rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)


def from_a_notebook(folder):
    """What a notebook's cells do: look at the machine, launch, and then load what was trained."""
    from accelerate import notebook_launcher

    from helpers.device import hardware

    print(hardware())
    model, task, data = make(group_norm=True)

    def train():
        for _ in fit(model, task, data, folder=folder):
            pass

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        free = one.getsockname()[1]
    notebook_launcher(train, num_processes=2, use_port=str(free))
    print(json.dumps(rows_of(folder, group_norm=True)))


if __name__ == "__main__":
    globals()[sys.argv[1]](sys.argv[2])
