"""One training's state on disk: what the run is, its last epoch, and copies on a second disk."""

import ast
import contextlib
import functools
import hashlib
import inspect
import json
import pickle
import shutil
import textwrap
import zipfile
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

import pandas as pd
import torch
from filelock import FileLock

from helpers.engine.files import acquire, written_beside


class CheckpointError(RuntimeError):
    """A checkpoint that is damaged."""


class Checkpoint:
    """A run's folder, ``<folder>/<name>-<digest of run>/``, with last.pt and history.csv.

    Between ``begin`` and ``end`` no other process trains this run.

    Args:
        folder: holds the folders of all runs. None: nothing is kept.
        mirror: a second folder that gets copies and gives them to a machine without its own.
        name: what the run's folder is called, before its digest.
        run: {what: value} of all that makes it this run, see ``helpers.training.fit``.
        about: what ``helpers.training.load`` needs; saved beside the weights.
        log: told when a copy fails, which never stops a training.
    """

    def __init__(self, folder, mirror, name, run, about, log):
        if mirror is not None and folder is None:
            raise ValueError("mirror copies what is saved in folder: give a folder too")
        self.run = run
        self.about = about
        self.log = log
        self.mirror = mirror
        self.folder = None
        if folder is not None:
            self.folder = Path(folder, f"{name}-{digest(run)}")
            for same in Path(folder).glob(f"*-{digest(run)}"):  # trained under another name
                self.folder = same
        self.last = Path(self.folder or "", "last.pt")
        # One lock for the whole process: an interrupted cell may still hold it when it runs again.
        place = self.last.with_name(".lock")
        self.lock = FileLock(place, is_singleton=True, thread_local=False)

    def begin(self, open_ended):
        """Wait for another process that trains this run; remove what a killed one left torn.

        A run without a state takes that of the mirror, or that of the same run with fewer epochs,
        if it is ``open_ended``. Returns why it starts anew, although there are runs of this name,
        or "".
        """
        if self.folder is None:
            return ""
        with contextlib.suppress(OSError):  # no lock, then: ``save`` says what cannot be written
            self.folder.mkdir(parents=True, exist_ok=True)
            acquire(self.lock, f"trains {self.folder}", self.log)
        for torn in self.folder.glob("*.part"):
            torn.unlink()
        if self.mirror is not None and not self.last.exists():
            self._fetch()

        name = self.folder.name.rpartition("-")[0]
        others = list(self.folder.parent.glob(f"{name}-????????/last.pt"))
        if self.last.exists() or not others:
            return ""
        shorter = self._shorter(others)
        if shorter is None:
            return "starts anew: its settings, data, network or code are new, and older runs stay"
        if not open_ended:
            return (
                f"starts anew, and keeps {shorter.parent.name}, whose schedule ended with its last "
                "epoch: to go on from there, it would need a constant rate and constant views"
            )
        self._take(shorter)
        return ""

    def end(self):
        """Let other processes train this run."""
        self.lock.release()

    def _shorter(self, others):
        """Which of other states is of the same run with fewer epochs, the longest, or None."""
        by_digest = {state.parent.name[-8:]: state for state in others}
        settings = self.run["settings"]
        for epochs in range(settings["epochs"] - 1, 0, -1):
            run = self.run | {"settings": settings | {"epochs": epochs}}
            if digest(run) in by_digest:
                return by_digest[digest(run)]
        return None

    def load(self, **parts):
        """Load the last state into model, optimizer and scaler; returns its history, or []."""
        if self.folder is None or not self.last.exists():
            return []
        state = read_checkpoint(self.last)
        for name, part in parts.items():
            if part is not None:
                part.load_state_dict(state[name])
        return state["history"]

    def save(self, history, **parts):
        """The state after an epoch, or before the first one."""
        if self.folder is None:
            return
        state = {"run": self.run, "about": self.about, "history": history}
        for name, part in parts.items():
            state[name] = None if part is None else part.state_dict()
        if history:
            self._write_table(history)
        with written_beside(self.last) as beside:
            torch.save(state, beside)
        self.copy(len(history))

    def copy(self, epoch):
        """Copy the last state to the mirror under a new name; the two newest copies stay."""
        if self.mirror is None or epoch == 0:
            return
        copies = Path(self.mirror, self.folder.name)
        copy = copies / f"last-{epoch:05}.pt"
        size = self.last.stat().st_size
        try:
            copies.mkdir(parents=True, exist_ok=True)
            if not copy.exists() or copy.stat().st_size != size:
                shutil.copyfile(self.last, copy)
            if copy.stat().st_size != size:
                raise OSError(f"{copy.name} came out {copy.stat().st_size} bytes long")
            for older in sorted(copies.glob("last-*.pt"))[:-2]:
                older.unlink()
        except OSError as error:
            self.log(f"{copies}: no copy of epoch {epoch} ({error}); the training goes on")

    def _fetch(self):
        """Bring the newest whole copy from the mirror, whatever its folder there is called."""
        found = Path(self.mirror).glob(f"*-{digest(self.run)}/last-*.pt")
        for copy in sorted(found, key=lambda path: path.name, reverse=True):
            try:
                self._take(copy)
            except CheckpointError as error:
                self.log(f"{error}; trying the copy before it")
                continue
            return

    def _take(self, checkpoint):
        """Begin with a copy of another checkpoint. Raises CheckpointError where it is damaged."""
        self._write_table(read_checkpoint(checkpoint)["history"])
        with written_beside(self.last) as beside:
            shutil.copyfile(checkpoint, beside)

    def _write_table(self, history):
        with written_beside(self.last.with_name("history.csv")) as beside:
            pd.DataFrame(history).to_csv(beside, index=False, na_rep="nan")


def read_checkpoint(path):
    """A dict of run, history, and the states of model, optimizer and scaler, on the CPU.

    Raises CheckpointError where the file is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:  # torch itself compares no checksums
            damaged = archive.testzip()
            if damaged:
                raise zipfile.BadZipFile(f"{damaged} does not fit its checksum")
        state = torch.load(path, map_location="cpu", weights_only=True)
        if "about" not in state:
            raise ValueError("an older version has written it")
        return state
    except (
        zipfile.BadZipFile,
        pickle.UnpicklingError,
        RuntimeError,
        EOFError,
        ValueError,
    ) as error:
        remedy = "move it away to train from the start"
        raise CheckpointError(f"{path}: this checkpoint is damaged ({error}); {remedy}") from error


def digest(value):
    """Eight letters that change with anything in ``value``, which JSON can hold."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:8]


def describe_run(model, task, train, valid, precision, code, start=None):
    """What makes a run this one; when any of it changes, a training starts anew.

    ``train`` and ``valid`` count with the contents of their images and targets. Code counts without
    comments, docstrings and layout: that of the classes of the task and of the model's modules,
    that of a loss that was put into the task, and ``code``, from ``read_code``. What a class of
    one's own calls outside itself is not followed. ``start`` is the state of the run whose weights
    it begins with.
    """
    parts = [task, *model.modules()]
    for value in vars(task).values():
        if isinstance(value, torch.nn.Module):  # a loss, for example
            parts += value.modules()
    code = dict(code)
    for part in parts:
        for kind in type(part).__mro__:
            code |= code_of(kind)
    if start is not None:
        code["start"] = f"{digest(start['run'])}, {len(start['history'])} epochs"
    return {
        "parts": [[type(part).__name__, contents(part)] for part in parts],
        "weights": [list(weight.shape) for weight in model.parameters()],
        "training set": train.digest(),
        "validation set": valid.digest(),
        "settings": asdict(task.settings) | {"precision": precision},
        "code": {name: digest(text) for name, text in code.items()},
    }


_read = {}  # the name of each module that was read: its code


def read_code(*names):
    """{name: code} of modules, read while they are imported, since files may be edited later."""
    for name in names:
        source = Path(import_module(name).__file__).read_text(encoding="utf-8")
        _read[name] = without_comments(source)
    return {name: _read[name] for name in names}


def code_of(kind):
    """{name: code} of a class: its whole file if that was read, else what it holds."""
    name = kind.__module__
    if name in _read:
        return {name: _read[name]}
    if name.split(".")[0] in ("builtins", "torch"):
        return {}
    return {f"{name}.{kind.__qualname__}": contents(kind)}


def contents(thing):
    """{name: text} of the numbers, texts and functions that a class or an object holds."""
    found = {}
    for name, value in vars(thing).items():
        if isinstance(value, functools.partial):
            found[f"arguments of {name}"] = repr([value.args, value.keywords])
        for inside in ("func", "__func__", "fget"):  # of a partial, a method, a property
            value = getattr(value, inside, value)
        if inspect.isfunction(value):
            try:
                found[name] = without_comments(inspect.getsource(value))
            except (OSError, SyntaxError):  # no file, or a lambda in the middle of a line
                code = value.__code__
                found[name] = repr([code.co_code, code.co_names, code.co_consts])
        elif not name.startswith("_") and name != "training":
            values = value if isinstance(value, tuple | list) else [value]
            if all(isinstance(one, bool | int | float | str | None) for one in values):
                found[name] = repr(value)
    return found


def without_comments(source):
    """Python source without comments, docstrings and layout."""
    tree = ast.parse(textwrap.dedent(source))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            if ast.get_docstring(node) is not None:
                node.body[0] = ast.Pass()
    return ast.unparse(tree)
