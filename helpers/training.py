"""One training loop for the three tasks: a generator of one history row per epoch."""

import hashlib
import json
import math
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from helpers.augment import augment
from helpers.checkpoint import CheckpointError, load_checkpoint, read_state, save_checkpoint
from helpers.device import accelerator


def fit(model, task, data, *, folder=None, log=print):
    """Train ``model`` on ``data.train`` and yield a dict per epoch, measured on ``data.valid``.

    With a ``folder``, every finished epoch is saved in ``folder/<network>-<digest of the run>/``, as
    ``last.safetensors``, ``best.safetensors`` (by ``task.metric``) and ``history.csv``. Calling it again
    yields the finished epochs at once and goes on after them; a finished model is loaded, not trained
    again; changed settings, networks or data are another run, in a folder of its own.

    Args:
        model: trained in place, on the device that Accelerate finds.
        task: one of ``helpers.tasks``; ``task.settings`` says for how long and how.
        data: has ``train`` and ``valid``, see ``helpers.data``.
        folder: where runs keep their state; ``None`` keeps nothing.
        log: called with one plain line per epoch.

    Yields:
        epoch, train_loss, valid_loss, the metric, lr, images_per_s (training alone) and seconds.

    Raises:
        CheckpointError: the checkpoint found there is damaged, or of another run.
        FloatingPointError: the loss became nan or infinite; the last epoch's checkpoint is kept.
    """
    settings, engine = task.settings, accelerator()
    train = data.train if settings.limit is None else data.train.subset(settings.limit, settings.seed)
    model.to(engine.device, memory_format=torch.channels_last)
    optimizer = make_optimizer(model, settings)
    run = describe(model, task, train)
    history = []
    if folder is not None:
        folder = Path(folder) / f"{type(model).__name__}-{_digest(run)}"
        history = resume(folder, model, optimizer, run)
    for row in history:
        yield row
    if history:
        log(f"{folder}: {len(history)} of {settings.epochs} epochs were finished before")

    net = engine.prepare_model(model) if engine.num_processes > 1 else model
    optimizer = engine.prepare_optimizer(optimizer)
    try:
        for epoch in range(len(history), settings.epochs):
            began = time.perf_counter()
            train_loss = train_epoch(net, task, train, optimizer, epoch)
            seconds = time.perf_counter() - began
            row = {"epoch": epoch + 1, "train_loss": train_loss} | evaluate(model, task, data.valid)
            row |= {
                "lr": optimizer.param_groups[0]["lr"],
                "images_per_s": len(train) / seconds,
                "seconds": time.perf_counter() - began,
            }
            history = [*history, row]
            if folder is not None and engine.is_main_process:
                save_run(folder, model, optimizer, run, history, finished=epoch + 1 == settings.epochs)
            log(describe_row(row, task, settings.epochs))
            yield row
    finally:
        engine.free_memory()


def train_epoch(net, task, train, optimizer, epoch):
    """One pass over ``train``, in an order and with augmentation that (seed, epoch) fix; its mean loss."""
    settings, engine = task.settings, accelerator()
    seed = int(np.random.SeedSequence([settings.seed, epoch]).generate_state(1)[0])
    torch.manual_seed(seed)
    draws = torch.Generator().manual_seed(seed)
    steps = math.ceil(len(train) / settings.batch_size)
    # Nearly equal batches: no short last one that batch norm or the mean loss would have to suffer from.
    batches = torch.randperm(len(train), generator=draws).tensor_split(steps)
    mine = [batch[engine.process_index :: engine.num_processes] for batch in batches]
    losses, checked = [], 0
    net.train()
    bar = tqdm(total=len(train), desc=f"epoch {epoch + 1}/{settings.epochs}", unit="img", leave=False)
    with bar:
        for step, (images, target) in enumerate(stream(train, mine, engine.device)):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(settings, epoch * steps + step, settings.epochs * steps)
            images, target = augment(images.float() / 255, target, settings.augment, draws)
            inputs, target = task.inputs(images, target)
            with engine.autocast():
                logits = net(inputs.contiguous(memory_format=torch.channels_last))
            loss = task.loss(logits.float(), target)
            optimizer.zero_grad()
            engine.backward(loss)
            optimizer.step()
            losses.append(loss.detach())
            bar.update(len(batches[step]))
            # Reading a loss waits for the GPU: look at once on a CPU, every fifty steps elsewhere.
            if engine.device.type == "cpu" or step % 50 == 49 or step + 1 == steps:
                check_finite(losses, checked, epoch)
                checked = len(losses)
                bar.set_postfix(loss=f"{loss.item():.4f}", refresh=False)
    weights = torch.tensor([len(batch) for batch in mine], device=engine.device, dtype=torch.float32)
    sums = torch.stack([(torch.stack(losses) * weights).sum(), weights.sum()])
    total, count = engine.reduce(sums).tolist()
    return total / count


@torch.inference_mode()
def evaluate(model, task, dataset):
    """Mean loss and ``task.metric`` over a data set: {"valid_loss": …, task.metric: …}."""
    engine, scores = accelerator(), task.scores()
    total = torch.zeros(2, dtype=torch.float64)
    for inputs, target, logits in forward(model, task, dataset):
        scores.update(logits, target) if task.classes else scores.update(logits, target, inputs)
        total += torch.stack(
            [task.loss(logits, target).double().cpu() * len(target), torch.tensor(len(target))]
        )
    if engine.num_processes > 1:
        total = engine.reduce(total)
        scores.state = engine.reduce(scores.state.to(engine.device))
    loss, count = total.tolist()
    return {"valid_loss": loss / count, task.metric: getattr(scores, task.metric)}


@torch.inference_mode()
def predict(model, task, dataset):
    """The model's answer for every example of ``dataset``, as one CPU tensor; see ``task.predict``."""
    return torch.cat(
        [task.predict(logits, x).cpu() for x, _, logits in forward(model, task, dataset, shard=False)]
    )


def forward(model, task, dataset, shard=True):
    """(input, target, logits) of each batch, in evaluation mode; every process takes its share."""
    engine = accelerator()
    was_training = model.training
    model.to(engine.device, memory_format=torch.channels_last).eval()
    indices = torch.arange(len(dataset))
    if shard:
        indices = indices[engine.process_index :: engine.num_processes]
    try:
        for images, target in stream(dataset, indices.split(task.settings.batch_size), engine.device):
            inputs, target = task.inputs(images.float() / 255, target)
            with engine.autocast():
                logits = model(inputs.contiguous(memory_format=torch.channels_last))
            yield inputs, target, logits.float()
    finally:
        model.train(was_training)


def stream(dataset, batches, device):
    """Each batch on ``device``; a thread gathers and copies the next one meanwhile."""

    def fetch(indices):
        tensors = dataset.__getitems__(indices.numpy())
        if device.type == "cuda":
            tensors = [tensor.pin_memory() for tensor in tensors]
        return [tensor.to(device, non_blocking=True) for tensor in tensors]

    with ThreadPoolExecutor(1) as pool:
        ahead = None
        for indices in batches:
            ahead, ready = pool.submit(fetch, indices), ahead
            if ready is not None:
                yield ready.result()
        if ahead is not None:
            yield ahead.result()


def make_optimizer(model, settings):
    """Adam or AdamW; weight decay spares biases and batch norm."""
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    if settings.optimizer not in kinds:
        raise ValueError(f"no optimizer {settings.optimizer!r}: choose one of {', '.join(kinds)}")
    matrices = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": settings.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return kinds[settings.optimizer](groups, lr=settings.lr, fused=True)


def learning_rate(settings, step, steps):
    """The learning rate of one step of ``steps``: constant, linear to zero, or warm-up and cosine."""
    progress = step / steps
    if settings.schedule == "constant":
        return settings.lr
    if settings.schedule == "linear":
        return settings.lr * (1 - progress)
    if settings.schedule == "cosine":
        if progress < 0.1:
            return settings.lr * (step + 1) / (0.1 * steps + 1)
        return settings.lr * (1 + math.cos(math.pi * (progress - 0.1) / 0.9)) / 2
    raise ValueError(f"no schedule {settings.schedule!r}: choose constant, linear or cosine")


def check_finite(losses, checked, epoch):
    """Raise at the first loss from index ``checked`` on that is nan or infinite."""
    bad = torch.stack(losses[checked:]).isfinite().logical_not().nonzero()
    if len(bad):
        batch = checked + int(bad[0]) + 1
        raise FloatingPointError(
            f"the loss became {float(losses[batch - 1])} in epoch {epoch + 1}, batch {batch}; the weights of "
            "the last finished epoch are kept. A smaller learning rate usually helps."
        )


def describe(model, task, train):
    """What a checkpoint must agree in with the run that wants to go on from it."""
    shapes = [(name, list(value.shape)) for name, value in model.state_dict().items()]
    count = sum(p.numel() for p in model.parameters())
    return {
        "network": f"{type(model).__name__}, {count} parameters, {_digest(shapes)}",
        "task": task.name,
        "classes": f"{len(task.classes)}, {_digest(list(task.classes))}",
        "training pictures": f"{len(train)}, {_digest(list(train.names))}",
        **json.loads(json.dumps(asdict(task.settings))),
    }


def _digest(value):
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:8]


def resume(folder, model, optimizer, run):
    """Load ``folder``'s last checkpoint, if there is one, and return the history up to it."""
    last = folder / "last.safetensors"
    if not last.exists():
        return []
    saved = read_state(last)["run"]
    different = [
        f"{k}: {saved.get(k)} there, {run.get(k)} here" for k in run | saved if saved.get(k) != run.get(k)
    ]
    if different:
        raise CheckpointError(f"{last}: belongs to another run ({'; '.join(different)}); give another folder")
    return load_checkpoint(last, model, optimizer)["history"]


def save_run(folder, model, optimizer, run, history, *, finished):
    """The checkpoint after an epoch; a finished run needs its optimizer no more."""
    state = {"run": run, "history": history}
    metric = list(history[-1])[3]
    if history[-1][metric] >= max(row[metric] for row in history):
        save_checkpoint(folder / "best.safetensors", model, **state)
    save_checkpoint(folder / "last.safetensors", model, None if finished else optimizer.optimizer, **state)
    lines = [",".join(history[0])] + [",".join(str(value) for value in row.values()) for row in history]
    (folder / "history.csv").write_text("\n".join(lines) + "\n")


def describe_row(row, task, epochs):
    """One epoch in one plain line, for log files and stored notebooks."""
    return (
        f"epoch {row['epoch']:>3}/{epochs}  train loss {row['train_loss']:.4f}"
        f"  valid loss {row['valid_loss']:.4f}  {task.metric} {row[task.metric]:.4f}"
        f"  lr {row['lr']:.1e}  {row['images_per_s']:.0f} images/s"
        f"  {row['seconds']:.1f} s"
    )
