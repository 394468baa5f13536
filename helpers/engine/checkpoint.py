"""One training's states on disk, each a file that appears in one step, and their copies on a Drive."""

import contextlib
import hashlib
import json
import pickle
import shutil
import zipfile
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from filelock import FileLock

from helpers.engine.files import acquire, written_beside

CODE = "code of "


class CheckpointError(RuntimeError):
    """A checkpoint that is damaged, or that belongs to another training run."""


def read_checkpoint(path):
    """A dict of run, history, and the states of model, optimizer and scaler, on the CPU.

    Raises CheckpointError where the file is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:  # torch itself compares no checksums
            if part := archive.testzip():
                raise zipfile.BadZipFile(f"{part} does not fit its checksum")
        return torch.load(path, map_location="cpu", weights_only=True)
    except (zipfile.BadZipFile, pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise CheckpointError(
            f"{path}: this checkpoint is damaged ({error}); move it away to train from the start"
        ) from error


class Checkpoints:
    """``<folder>/<network>-<digest of the run>/`` with last.pt, best.pt, history.csv and run.json.

    ``run`` {what: value} says which run it is, its code by keys that begin with CODE; the best epoch has the
    highest ``metric``. ``mirror`` gets copies, and gives them to a machine whose own folder is empty; ``log``
    is told when a copy fails, which never stops a training.
    """

    def __init__(self, folder, mirror, network, run, metric, log):
        if mirror is not None and folder is None:
            raise ValueError("mirror copies what is saved in folder: give a folder on this machine too")
        if folder is not None and Path(folder).is_file():
            raise ValueError(f"{folder} is a file: give a folder to keep runs in")
        self.run, self.metric, self.log, name = run, metric, log, f"{network}-{digest(run)}"
        self.folder, self.mirror = folder and Path(folder) / name, mirror and Path(mirror) / name
        # One for the whole process: a cell that was interrupted may still hold it when it runs again.
        self.lock = FileLock(Path(folder or "", name, ".lock"), is_singleton=True, thread_local=False)

    def begin(self):
        """Wait for another process that trains this run, and keep others out until ``end``; remove what a
        killed one left half-written; fetch from the mirror what is not here."""
        if self.folder is not None:
            with contextlib.suppress(OSError):  # no lock, then: ``save`` says where nothing can be written
                self.folder.mkdir(parents=True, exist_ok=True)
                acquire(self.lock, f"trains {self.folder}", self.log)
            for torn in self.folder.glob("*.part"):
                torn.unlink()
            if self.mirror and not (self.folder / "last.pt").exists():
                self._fetch()

    def end(self):
        """Let other processes train this run; nothing in a process that has not begun it."""
        self.lock.release()

    def load(self, **parts):
        """Load the last state, if there is one, into model, optimizer and scaler; its history, or []."""
        if self.folder is None or not (last := self.folder / "last.pt").exists():
            return []
        state = read_checkpoint(last)
        if unlike := self.differing(there := state["run"]):
            differ = "; ".join(f"{key}: {there.get(key)} there, {self.run.get(key)} here" for key in unlike)
            raise CheckpointError(f"{last}: belongs to another run ({differ}); give another folder")
        for name, part in parts.items():
            if part is not None and state[name]:
                part.load_state_dict(state[name])
        return state["history"]

    def save(self, model, optimizer, scaler, history):
        """The state after an epoch, or before the first; ``last`` comes last, when all else is there."""
        if self.folder is None:
            return
        parts = {"model": model, "scaler": scaler, "optimizer": optimizer}
        state = {name: part and part.state_dict() for name, part in parts.items()}
        state |= {"run": self.run, "history": history}
        if not (self.folder / "run.json").exists():
            self._write("run.json", lambda file: file.write_text(json.dumps(self.run, indent=1)))
        if history:
            self._write_table(history)
        if best := history and not any(row[self.metric] > history[-1][self.metric] for row in history):
            self._write("best.pt", partial(torch.save, state | {"optimizer": None}))
        self._write("last.pt", partial(torch.save, state))
        self.copy(["best", "last"] if best else ["last"], len(history))

    def before_edit(self):
        """The run that was this one until its code was edited, and what was, as "name: parts", or ""."""
        files = self.folder.parent.glob("*/run.json") if self.folder else ()
        for file in sorted(files, key=lambda file: file.stat().st_mtime, reverse=True):
            edited = self.differing(json.loads(file.read_text()))
            if edited and all(key.startswith(CODE) for key in edited):
                return f"{file.parent.name}: {', '.join(key.removeprefix(CODE) for key in edited)}"
        return ""

    def differing(self, other):
        """The keys that this run and another do not share, or whose values differ."""
        return [key for key in self.run | other if other.get(key) != self.run.get(key)]

    def copy(self, stems, epoch):
        """To the mirror: each file under a new name; of the older copies, only the newest stays."""
        if self.mirror is None or not epoch:
            return
        try:
            self.mirror.mkdir(parents=True, exist_ok=True)
            for stem in stems:
                source, copy = self.folder / f"{stem}.pt", self.mirror / f"{stem}-{epoch:05}.pt"
                size = source.stat().st_size
                if not copy.exists() or copy.stat().st_size != size:
                    shutil.copyfile(source, copy)
                if copy.stat().st_size != size:
                    raise OSError(f"{copy.name} came out {copy.stat().st_size} bytes long")
                for older in sorted(self.mirror.glob(f"{stem}-*.pt"))[:-2]:
                    older.unlink()
        except OSError as error:
            self.log(f"{self.mirror}: no copy of epoch {epoch} ({error}); the training goes on")

    def _fetch(self):
        """Bring the newest whole copies from the mirror; last comes last, as in ``save``."""
        for stem in ("best", "last"):
            for copy in sorted(self.mirror.glob(f"{stem}-*.pt"), reverse=True):
                try:
                    self._write_table(read_checkpoint(copy)["history"])
                except CheckpointError as error:
                    self.log(f"{error}; trying the copy before it")
                    continue
                self._write(f"{stem}.pt", partial(shutil.copyfile, copy))
                break

    def _write_table(self, history):
        self._write("history.csv", partial(pd.DataFrame(history).to_csv, index=False, na_rep="nan"))

    def _write(self, name, write):
        with written_beside(self.folder / name) as beside:
            write(beside)


def digest(value):
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:8]
