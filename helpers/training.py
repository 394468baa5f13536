"""The training loop of all three tasks, to be read from top to bottom."""

import math
import time
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from accelerate.utils import broadcast, gather_object
from accelerate.utils.memory import should_reduce_batch_size
from tqdm.auto import tqdm

from helpers import plural
from helpers.augment import augment, draw_views
from helpers.colour import to_float
from helpers.engine.checkpoint import Checkpoint, read_checkpoint
from helpers.engine.device import accelerator, describe_device, hide_bars, layout, total
from helpers.engine.identity import describe_run, read_code
from helpers.optimizer import learning_rate, make_optimizer
from helpers.tasks import build, restore

# A training starts anew when this code is edited, or that of its model.
RECIPE = ("training", "tasks", "losses", "augment", "colour", "optimizer")
CODE = read_code(*[f"helpers.{name}" for name in RECIPE])
read_code(*[f"helpers.models.{name}" for name in ("resnet", "fcn", "unet")])


class Interrupted(KeyboardInterrupt):
    """A training that was interrupted. A notebook shows its sentence without a traceback."""

    def _render_traceback_(self):
        return [str(self)]


def fit(model, task, data, *, folder=None, mirror=None, start=None, log=print):
    """Train ``model`` on ``data.train`` and yield a dict per epoch, measured on ``data.valid``.

    With a ``folder``, every finished epoch is saved below it, in
    ``<task>-<model>-<digest of the run>/``. The same call then yields the finished epochs at once
    and goes on after them. If a setting, the data, the precision or the code changes, it is another
    run and starts anew; see ``helpers.engine.identity.describe_run``. More epochs go on after
    those of a shorter run where each epoch is the same; see ``Settings.open_ended``.

    The same ``task.settings.seed`` gives the same bits on the same CPU, interrupted or not.
    Several processes share each batch; the loss stays the same but for rounding.

    Args:
        model: trained in place, on the device that Accelerate finds.
        task: one of ``helpers.tasks``; ``task.settings`` says for how long and how.
        data: has ``train`` and ``valid``, see ``helpers.data``.
        folder: keeps runs. None keeps nothing. All processes must see the same folder.
        mirror: a second folder, such as one on Google Drive, that gets a copy after each epoch. A
            fresh machine goes on from there.
        start: the folder of a run whose weights this one begins with.
        log: called with one line per epoch.

    Yields:
        epoch, train_loss, valid_loss, the metric, lr, images_per_s (training alone) and seconds.

    Raises:
        CheckpointError: the checkpoint of this run is damaged, or that of ``start`` is missing.
        FloatingPointError: the loss became nan or infinite. The model has its last saved weights.
        Interrupted: by the user.
        MemoryError: the device's memory does not hold a batch.
        OSError: a checkpoint cannot be written. The one before it is intact.
        ValueError: the model cannot be trained for this task, see ``check_answers``; the
            batch does not suit the processes.
    """
    settings = task.settings
    engine = accelerator(settings.precision)
    if not engine.is_main_process:
        log = lambda line: None  # noqa: E731
    train = data.train.subset(settings.limit)  # the same images for every seed
    compiled = model
    model = getattr(model, "_orig_mod", model)  # what torch.compile was given
    check_weights(model)
    first = None
    if start is not None:
        first = read_checkpoint(Path(start, "last.pt"))
        load_weights(model, first, start)
    run = describe_run(model, task, train, data.valid, engine.mixed_precision, CODE, first)
    name = getattr(model, "_name", None)  # from ``build``
    about = {"model": name, "task": task.saved(), "data": getattr(data, "label", "")}
    name = f"{task.name}-{name or type(model).__name__}"
    checkpoint = Checkpoint(folder, mirror, name, run, about, log)
    history = []
    try:
        check_answers(model, task, train)
        # Prepare: the device, the optimizer, and what an earlier call has saved.
        anew = ""
        if engine.is_main_process:
            anew = checkpoint.begin(settings.open_ended)
        engine.wait_for_everyone()
        model.to(engine.device, memory_format=layout(model))
        if engine.num_processes > 1 and engine.device.type == "cuda":
            model = torch.nn.SyncBatchNorm.convert_sync_batchnorm(model)
        optimizer = make_optimizer(model, settings, engine.mixed_precision)
        state = {"model": model, "optimizer": optimizer, "scaler": engine.scaler}
        history = checkpoint.load(**state)
        reached = gather_object([len(history)])
        if len(set(reached)) > 1:
            raise RuntimeError(f"processes found {reached} epochs: all must see the same folder")
        finished = f"{len(history)} of {settings.epochs} epochs were finished before"
        log(f"{describe_device(engine)}; {anew or finished}")
        optimizer = engine.prepare_optimizer(optimizer)
        network = compiled
        if engine.num_processes > 1:
            network = engine.prepare_model(model)
        if engine.is_main_process:
            if not history:
                checkpoint.save(history, **state)  # so that the first epoch can be repeated
            checkpoint.copy(len(history))  # in case it was stopped before the last copy
        engine.wait_for_everyone()
        yield from list(history)

        for epoch in range(len(history), settings.epochs):
            began = time.perf_counter()
            train_loss = train_epoch(engine, network, optimizer, task, train, epoch)
            trained = time.perf_counter()
            row = {
                "epoch": epoch + 1,
                "train_loss": train_loss,
                **evaluate(model, task, data.valid),
                "lr": optimizer.param_groups[0]["lr"],
                "images_per_s": len(train) / (trained - began),
                "seconds": time.perf_counter() - began,
            }
            history.append(row)
            if engine.is_main_process:
                checkpoint.save(history, **state)
            engine.wait_for_everyone()
            log(_one_line(row, task.metric, settings.epochs))
            yield row
    except KeyboardInterrupt:
        kept = "They are lost without a folder"
        if folder is not None:
            kept = "Run this again to go on after them"
        raise Interrupted(
            f"interrupted; {len(history)} of {settings.epochs} epochs are finished. {kept}"
        ) from None
    except FloatingPointError as error:
        checkpoint.load(model=model)
        told = "Build the model anew"
        if folder is not None:
            told = "The model has the weights of the last finished epoch again"
        raise FloatingPointError(
            f"{error}. {told}. A smaller learning rate usually helps. If it happens in the very "
            "first batches, look for broken images or labels."
        ) from None
    except RuntimeError as error:
        if not should_reduce_batch_size(error):
            raise
        remedy = "a smaller --size"
        if settings.batch_size > 1:
            remedy = f"--batch-size {settings.batch_size // 2} or {remedy}"
        raise MemoryError(
            f"out of memory with {plural(settings.batch_size, 'image')} of {settings.size[0]}×"
            f"{settings.size[1]} on {describe_device(engine)}: give {remedy}; the run's folder "
            "is kept"
        ) from error
    finally:
        engine.free_memory()
        checkpoint.end()


def check_weights(model):
    """Raise ValueError unless a model has weights that can be trained."""
    weights = list(model.parameters())
    if any(map(torch.nn.parameter.is_lazy, weights)):
        raise ValueError("your network has lazy layers: let it answer one batch before fit")
    if not any(weight.requires_grad for weight in weights):
        raise ValueError("your network has no weight to train: give it one that requires_grad")


def check_answers(model, task, dataset):
    """Raise ValueError unless a model's answers have the task's shape, before an epoch is lost.

    It answers two images, or a smaller batch, in training mode and in evaluation mode. Afterwards
    it is as it was.
    """
    before = deepcopy(model.state_dict())
    inputs, _ = task.sample(dataset, min(2, len(dataset), task.settings.batch_size))
    inputs = inputs.to(next(model.parameters()))
    try:
        with torch.no_grad():
            for mode in ("training", "evaluation"):
                output = model.train(mode == "training")(inputs)
                task.check_output(output, inputs, mode)
    except ValueError as error:
        if "more than 1 value per channel" in str(error):
            raise ValueError(
                "batches of one image leave batch norm a single value of each channel: give "
                "--batch-size 2 or more, or a larger --size"
            ) from None
        raise
    model.load_state_dict(before)  # batch norm has counted them


def load(folder, model=None):
    """(model, task) of a run: the network as it was after its last epoch, ready to predict.

    Args:
        folder: of the run. It holds last.pt.
        model: a new network, where the run's was one of your own. Those in ``task.models`` are
            built here.

    Raises:
        CheckpointError: the checkpoint is damaged or missing.
        ValueError: the network must be given, or has other weights.
    """
    state = read_checkpoint(Path(folder, "last.pt"))
    about = state["about"]
    task = restore(about["task"])
    if task.settings.precision == "fp16" and not torch.cuda.is_available():
        task.settings = replace(task.settings, precision="best")  # it was trained on a GPU
    if model is None and about["model"] not in task.models:
        raise ValueError(f"{folder} holds a network of your own: give it too, load(folder, model)")
    if model is None:
        model = build(task, about["model"])
    load_weights(model, state, folder)
    return model.eval(), task


def load_weights(model, state, folder):
    """Give a model the weights of a run's ``state``. Raise ValueError where they do not fit."""
    try:
        model.load_state_dict(state["model"])
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise ValueError(f"{folder} holds another network ({reason}): give its run") from None


def train_epoch(engine, network, optimizer, task, train, epoch):
    """One pass over the training set; returns the mean loss of its batches.

    The order of the images and their random views depend on (seed, epoch) alone, so that a
    training can go on in another process. ``network`` is the model, as shared between processes.
    """
    settings = task.settings
    seed = int(np.random.SeedSequence([settings.seed, epoch]).generate_state(1)[0])
    torch.manual_seed(seed)  # for models with dropout
    generator = torch.Generator().manual_seed(seed)

    # All batches have one size. The last one is filled up with the first images of the epoch.
    size = min(settings.batch_size, len(train))
    if size % engine.num_processes:
        raise ValueError(
            f"a batch of {size} images cannot be shared equally by {engine.num_processes} "
            "processes: give a batch size that they divide"
        )
    mine = slice(engine.process_index, None, engine.num_processes)  # this process's images
    steps = math.ceil(len(train) / size)
    order = torch.randperm(len(train), generator=generator)
    order = order.repeat(2)[: steps * size]

    strength = settings.strength(settings.epochs * steps)
    memory_format = layout(network)
    network.train()
    batch_losses = []
    batches = tqdm(
        order.split(size),
        f"epoch {epoch + 1}/{settings.epochs}",
        leave=False,
        disable=hide_bars(engine),
    )
    for number, rows in enumerate(batches):
        rate = learning_rate(settings, epoch * steps + number, settings.epochs * steps)
        for group in optimizer.param_groups:
            group["lr"] = rate

        views = draw_views(size, generator)[:, mine]
        images, target = _to_device(train[rows[mine].numpy()], engine.device)  # uint8 (B, 3, H, W)
        images, target = augment(to_float(images), target, strength, views)
        inputs, target = task.inputs(images, target)
        inputs = inputs.contiguous(memory_format=memory_format)

        with engine.autocast():
            logits = network(inputs)
        loss = task.loss(logits.float(), target)
        optimizer.zero_grad()
        engine.backward(loss)
        optimizer.step()
        batch_losses.append(loss.detach())  # its value would make a GPU finish its queue

    batch_losses = total(engine, torch.stack(batch_losses)) / engine.num_processes
    for number, loss in enumerate(batch_losses.tolist()):
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"the loss became {loss} in epoch {epoch + 1}, batch {number + 1}"
            )
    if engine.num_processes > 1:  # batch norm measures with the first one's running statistics
        for buffer in network.buffers():
            broadcast(buffer)
    return batch_losses.sum().item() / steps


@torch.no_grad()
def evaluate(model, task, dataset):
    """Mean loss and ``task.metric`` over a data set: {"valid_loss": …, task.metric: …}."""
    engine = accelerator(task.settings.precision)
    scores = task.scores()
    sums = [torch.zeros(2, device=engine.device)]
    for inputs, target, logits in forward(model, task, dataset):
        scores.update(task.predict(logits, inputs), target)
        count = task.counted(target).to(logits.device)
        sums.append(torch.stack([task.loss(logits, target) * count, count]))
    sums = torch.stack(sums).cpu().double().sum(0)
    loss, count = total(engine, sums).tolist()
    scores.state = total(engine, scores.state)
    return {"valid_loss": loss / max(count, 1e-9), task.metric: getattr(scores, task.metric)}


@torch.no_grad()
def predict(model, task, dataset):
    """The model's answer for every image, as one CPU tensor; see ``task.predict``."""
    answers = []
    for inputs, _, logits in forward(model, task, dataset, shared=False):
        answers.append(task.predict(logits, inputs).cpu())
    return torch.cat(answers)


def forward(model, task, dataset, shared=True):
    """(inputs, target, logits) of each batch, in evaluation mode.

    ``shared``: each of several processes takes its own images; else each takes all.
    """
    engine = accelerator(task.settings.precision)
    was_training = model.training
    memory_format = layout(model)
    model.to(engine.device, memory_format=memory_format).eval()
    rows = torch.arange(len(dataset))
    if shared:
        rows = rows[engine.process_index :: engine.num_processes]
    batches = rows.split(task.settings.batch_size) if len(rows) else []
    try:
        for batch in batches:
            images, target = _to_device(dataset[batch.numpy()], engine.device)
            inputs, target = task.inputs(to_float(images), target)
            inputs = inputs.contiguous(memory_format=memory_format)
            with engine.autocast():
                logits = model(inputs).float()
            yield inputs, target, logits
    finally:
        model.train(was_training)


def _to_device(tensors, device):
    """Tensors on ``device``. To a GPU they are copied while it still computes."""
    if device.type != "cuda":
        return [tensor.to(device) for tensor in tensors]
    return [tensor.pin_memory().to(device, non_blocking=True) for tensor in tensors]


def _one_line(row, metric, epochs):
    return (
        f"epoch {row['epoch']:>3}/{epochs}  train loss {row['train_loss']:.4f}"
        f"  valid loss {row['valid_loss']:.4f}  {metric} {row[metric]:.4f}"
        f"  lr {row['lr']:.1e}  {row['images_per_s']:.0f} images/s  {row['seconds']:.1f} s"
    )
