"""The folder of one training: what it belongs to, how far it has come, and its copies on a Drive."""

import hashlib
import json
import shutil
from dataclasses import asdict
from pathlib import Path

from helpers.checkpoint import (
    CheckpointError,
    load_checkpoint,
    read_state,
    read_tensors,
    save_checkpoint,
    written_beside,
)


class Run:
    """Saves a training after each epoch and finds it again: ``<folder>/<Network>-<digest of the run>/``.

    Args:
        folder: holds the folders of all runs; ``None`` keeps nothing.
        mirror: a second such folder, on Google Drive say, that gets copies and gives them to a machine
            whose own folder is empty.
        log: called with a line when a copy fails: that never stops a training.
    """

    def __init__(self, folder, mirror, model, task, train, log=print):
        if mirror is not None and folder is None:
            raise ValueError("mirror copies what is saved in folder: give a folder on this machine too")
        self.description, self.metric, self.log = describe(model, task, train), task.metric, log
        name = f"{type(model).__name__}-{_digest(self.description)}"
        self.folder = folder and Path(folder) / name
        self.mirror = mirror and Path(mirror) / name

    def resume(self, model, optimizer=None, scaler=None, *, writes=True):
        """Load the last checkpoint, if there is one; its history, or [] where the training is new.

        ``writes`` is false in all processes but one: that one clears up and fetches from the mirror.
        """
        if self.folder is None:
            return []
        last = self.folder / "last.safetensors"
        if writes:
            for torn in self.folder.glob("*.part"):  # of a process that was killed while it wrote
                torn.unlink()
            if self.mirror and not last.exists():
                self._fetch()
        if not last.exists():
            return []
        saved, here = read_state(last)["run"], self.description
        different = [
            f"{k}: {saved.get(k)} there, {here.get(k)} here"
            for k in here | saved
            if saved.get(k) != here.get(k)
        ]
        if different:
            raise CheckpointError(
                f"{last}: belongs to another run ({'; '.join(different)}); give another folder"
            )
        state = load_checkpoint(last, model, optimizer)
        if scaler is not None and state["scaler"]:
            scaler.load_state_dict(state["scaler"])
        if writes:
            self._copy(("best", "last"), len(state["history"]))  # in case it was stopped before the last copy
        return state["history"]

    def save(self, model, optimizer, scaler, history, *, finished=False):
        """The state after an epoch, or before the first; ``last`` comes last, when all else is there."""
        if self.folder is None:
            return
        state = {"run": self.description, "history": history, "scaler": scaler and scaler.state_dict()}
        new = ["last"]
        if history:
            scores = [row[self.metric] for row in history]
            if not any(score > scores[-1] for score in scores):
                save_checkpoint(self.folder / "best.safetensors", model, **state)
                new.insert(0, "best")
            write_history(self.folder / "history.csv", history)
        # A finished run needs its optimizer no more.
        save_checkpoint(self.folder / "last.safetensors", model, None if finished else optimizer, **state)
        self._copy(new, len(history))

    def _copy(self, stems, epoch):
        """To the mirror: each file under a new name; of the older copies, only the newest stays."""
        if self.mirror is None or not epoch:
            return
        try:
            self.mirror.mkdir(parents=True, exist_ok=True)
            for stem in stems:
                source, copy = (
                    self.folder / f"{stem}.safetensors",
                    self.mirror / f"{stem}-{epoch:05}.safetensors",
                )
                if not copy.exists() or copy.stat().st_size != source.stat().st_size:
                    shutil.copyfile(source, copy)
                if copy.stat().st_size != source.stat().st_size:
                    raise OSError(f"{copy.name} came out {copy.stat().st_size} bytes long")
                for older in self._copies(stem)[2:]:
                    older.unlink()
        except OSError as error:
            self.log(f"{self.mirror}: no copy of epoch {epoch} ({error}); the training goes on")

    def _copies(self, stem):
        return sorted(self.mirror.glob(f"{stem}-*.safetensors"), reverse=True)

    def _fetch(self):
        """Bring the newest whole copies from the mirror; last comes last, as in ``save``."""
        for stem in ("best", "last"):
            for copy in self._copies(stem):
                try:
                    state, _ = read_state(copy), read_tensors(copy)
                except CheckpointError as error:
                    self.log(f"{error}; trying the copy before it")
                    continue
                with written_beside(self.folder / f"{stem}.safetensors") as beside:
                    shutil.copyfile(copy, beside)
                write_history(self.folder / "history.csv", state["history"])
                break


def describe(model, task, train):
    """What a checkpoint must agree in with the run that wants to go on from it."""
    shapes = [(name, list(value.shape)) for name, value in model.state_dict().items()]
    count = sum(p.numel() for p in model.parameters())
    return {
        "network": f"{type(model).__name__}, {count} parameters, {_digest(shapes)}",
        "task": task.name,
        "classes": f"{len(task.classes)}, {_digest(list(task.classes))}",
        "training pictures": f"{len(train)}, {_digest(list(train.names))}",
        "format": 2,
        **json.loads(json.dumps(asdict(task.settings))),
    }


def _digest(value):
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:8]


def write_history(path, history):
    """``history.csv``: one line an epoch."""
    lines = [",".join(history[0])] + [",".join(str(value) for value in row.values()) for row in history]
    with written_beside(path) as beside:
        beside.write_text("\n".join(lines) + "\n", encoding="utf-8")


def describe_row(row, task, epochs):
    """One epoch in one plain line, for log files and stored notebooks."""
    return (
        f"epoch {row['epoch']:>3}/{epochs}  train loss {row['train_loss']:.4f}"
        f"  valid loss {row['valid_loss']:.4f}  {task.metric} {row[task.metric]:.4f}"
        f"  lr {row['lr']:.1e}  {row['images_per_s']:.0f} images/s"
        f"  {row['seconds']:.1f} s"
    )
