"""One training from its first epoch to its last: the device, the processes, and what was saved before."""

import json
import os
import time
from dataclasses import asdict

import torch
from accelerate.utils import broadcast, gather_object
from tqdm.auto import tqdm

from helpers.engine.batches import Losses, prefetch
from helpers.engine.checkpoint import CODE, Checkpoints, digest
from helpers.engine.device import accelerator, describe_device, hidden, layout, total
from helpers.engine.drive import MIRROR
from helpers.engine.memory import Parts
from helpers.engine.optimizer import learning_rate, make_optimizer
from helpers.engine.source import Code


class Run:
    """A network in training, in a ``with`` block that starts it where it was left and ends it well.

    Its arguments are those of ``helpers.training.fit``, and ``recipe``, the function that makes an epoch: its
    code is part of what the run is. ``net`` is the model as it is trained, shared between processes.
    """

    def __init__(self, model, task, train, recipe, folder, mirror, log):
        self.engine, self.model, self.task, self.train = accelerator(), model, task, train
        self.processes, self.epochs = self.engine.num_processes, task.settings.epochs
        self.log = log if self.engine.is_main_process else lambda line: None
        self.parts = Parts(self.log)
        steps = {"recipe": recipe, "optimizer": (make_optimizer, learning_rate)}
        self.code = Code(model, inputs=task.inputs, loss=task.loss, **steps)
        run = describe(model, task, train) | {CODE + part: was for part, was in self.code.parts.items()}
        mirror = mirror or (folder and os.environ.get(MIRROR))
        self.saved = Checkpoints(folder, mirror, type(model).__name__, run, task.metric, self.log)
        self.folder = self.saved.folder

    def __enter__(self):
        try:
            return self._start()
        except BaseException:
            self.saved.end()
            raise

    def _start(self):
        engine, model, task = self.engine, self.model, self.task
        self.layout = layout(model)
        model.to(engine.device, memory_format=self.layout)
        if self.processes > 1 and engine.device.type == "cuda":
            model = torch.nn.SyncBatchNorm.convert_sync_batchnorm(model)
        optimizer = make_optimizer(model, task.settings)
        if engine.is_main_process:
            self.saved.begin()
        engine.wait_for_everyone()
        self.history = self.saved.load(model=model, optimizer=optimizer, scaler=engine.scaler)
        reached = gather_object([len(self.history)])
        if len(set(reached)) > 1:
            raise RuntimeError(f"processes found {reached} finished epochs: all must see the same folder")
        self._say_what_was_found()
        self.optimizer = engine.prepare_optimizer(optimizer)
        self.net = engine.prepare_model(model) if self.processes > 1 else model
        if not self.history:  # the initial weights too, so that an interrupted first epoch can be repeated
            self._save()
        elif engine.is_main_process:  # in case it was stopped before the last copy
            self.saved.copy(("best", "last"), len(self.history))
        return self

    def _say_what_was_found(self):
        if len(self.history) < self.epochs:
            self.log(describe_device())
        if self.history:
            self.log(f"{self.folder}: {len(self.history)} of {self.epochs} epochs were finished before")
            if unknown := ", ".join(self.code.unknown):
                why = "no source found; if so, give another folder"
                self.log(f"could not check whether {unknown} changed since: {why}")
        elif self.engine.is_main_process and (edited := self.saved.before_edit()):
            self.log(f"starts anew, since the code is not that of {edited}")

    def __exit__(self, kind, error, traceback):
        self.engine.free_memory()
        self.saved.end()
        if kind is KeyboardInterrupt:
            again = f"saved in {self.folder}; running this again goes on after them"
            kept = again if self.folder else "unsaved"
            self.log(f"interrupted; {len(self.history)} of {self.epochs} epochs are finished: {kept}")
        if kind is FloatingPointError:
            self.saved.load(model=self.model)
            again = "The network has the weights of the last finished epoch again"
            kept = again if self.folder else "Build it anew"
            raise FloatingPointError(
                f"{error}. {kept}. A smaller learning rate usually helps; "
                "if it happens in the very first batches, look for broken pictures or labels."
            ) from None

    def save(self, row):
        """Finish an epoch: wholly or not at all, and in all processes before any of them goes on."""
        row |= {
            "lr": self.optimizer.param_groups[0]["lr"],
            "images_per_s": len(self.train) / (self.trained - self.began),
            "seconds": time.perf_counter() - self.began,
        }
        self.history = [*self.history, row]
        self._save()
        self.log(
            f"epoch {row['epoch']:>3}/{self.epochs}  train loss {row['train_loss']:.4f}"
            f"  valid loss {row['valid_loss']:.4f}  {self.task.metric} {row[self.task.metric]:.4f}"
            f"  lr {row['lr']:.1e}  {row['images_per_s']:.0f} images/s  {row['seconds']:.1f} s"
        )
        return row

    def _save(self):
        if self.engine.is_main_process:
            # A finished run needs its optimizer no more.
            optimizer = self.optimizer if len(self.history) < self.epochs else None
            self.saved.save(self.model, optimizer, self.engine.scaler, self.history)
        self.engine.wait_for_everyone()

    def batches(self, indices):
        """This process's share of each batch of the training part, on the device, under a progress bar."""
        if len(indices[-1]) < self.processes:
            raise ValueError(
                f"batches of {len(indices[-1])} pictures cannot be shared between {self.processes} "
                "processes: raise batch_size, or start fewer"
            )
        epoch, metric = f"epoch {len(self.history) + 1}", self.task.metric
        scores = {metric: f"{self.history[-1][metric]:.4f}"} if self.history else {}
        shares = [self.share(batch) for batch in indices]
        self.began, self.losses = time.perf_counter(), Losses(epoch, list(map(len, shares)))
        shown = {"total": len(self.train), "unit": "img", "leave": False, "disable": hidden()}
        with tqdm(desc=f"{epoch}/{self.epochs}", **shown) as bar:
            for batch, tensors in zip(indices, prefetch(self.train, shares, self.engine.device), strict=True):
                yield tensors
                bar.set_postfix(loss=f"{self.losses.last:.4f}", **scores, refresh=False)
                bar.update(len(batch))
        if self.processes > 1:  # batch norm measures with the first one's running statistics
            for buffer in self.model.buffers():
                broadcast(buffer)

    def share(self, batch):
        """What this process learns from, of a whole batch along its last dimension."""
        return batch[..., self.engine.process_index :: self.processes]

    def set_lr(self, lr):
        for group in self.optimizer.param_groups:
            group["lr"] = lr

    def in_parts(self, gradients, inputs, target):
        """The sum of ``gradients(x, y)`` over a batch: in one part while memory lasts, or in several.

        Their gradients add up to those of the whole batch; only batch norm then sees the parts. Losses
        that weigh classes are means over each part.
        """

        def work(parts):
            self.optimizer.zero_grad()
            pairs = zip(inputs.tensor_split(parts), target.tensor_split(parts), strict=True)
            return sum(gradients(x.contiguous(memory_format=self.layout), y) for x, y in pairs)

        # One process alone must not change how often all of them meet in ``backward``.
        return work(1) if self.processes > 1 else self.parts.run(work, len(inputs))

    def mean_loss(self):
        """The mean over all pictures of the epoch, of all processes; waits for the device."""
        loss, count = total(self.losses.sum()).tolist()
        self.trained = time.perf_counter()
        return loss / count


def describe(model, task, train):
    """What a checkpoint must agree in with the run that wants to go on from it."""
    shapes = [(name, list(value.shape)) for name, value in model.state_dict().items()]
    count = sum(p.numel() for p in model.parameters())
    return {
        "network": f"{type(model).__name__}, {count} parameters, {digest(shapes)}",
        "task": task.name,
        "classes": f"{len(task.classes)}, {digest(list(task.classes))}",
        "training pictures": f"{len(train)}, {digest(list(train.names))}",
        **json.loads(json.dumps(asdict(task.settings))),
    }
