"""One training's state on disk: its last epoch, and copies on a second disk."""

import contextlib
import pickle
import shutil
import zipfile
from pathlib import Path

import pandas as pd
import torch
from filelock import FileLock

from helpers.engine.files import acquire, written_beside
from helpers.engine.identity import digest


class CheckpointError(RuntimeError):
    """A checkpoint that is damaged or missing."""


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

    Raises CheckpointError where the file is damaged or missing.
    """
    if not path.exists():
        raise CheckpointError(f"{path.parent} holds no {path.name}: give the folder of a run")
    remedy = "move it away to train from the start"
    try:
        with zipfile.ZipFile(path) as archive:  # torch itself compares no checksums
            damaged = archive.testzip()
            if damaged:
                raise zipfile.BadZipFile(f"{damaged} does not fit its checksum")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (
        zipfile.BadZipFile,
        pickle.UnpicklingError,
        RuntimeError,
        EOFError,
        ValueError,
    ) as error:
        raise CheckpointError(f"{path}: this checkpoint is damaged ({error}); {remedy}") from error
    if "about" not in state:
        raise CheckpointError(f"{path}: an older version has written it; {remedy}")
    return state
