"""One training loop for the three tasks: a generator of one history row per epoch.

``accelerate launch`` runs this very loop on several processes. Each batch is then shared out between
them, so ``batch_size`` stays the number of pictures that one step learns from, and the loss curve stays
the same up to rounding. Batch norm alone can tell: on GPUs it sees the whole batch (SyncBatchNorm); on
CPUs, where torch has none, each process normalises by its own share, and the first one's statistics count.
"""

import math
import time
from functools import partial

import numpy as np
import torch
from accelerate.utils import broadcast, gather_object
from tqdm.auto import tqdm

from helpers.augment import augment, draw_views
from helpers.device import accelerator
from helpers.optimizer import learning_rate, make_optimizer
from helpers.runs import Run, describe_row
from helpers.stepping import Losses, Parts, hidden, stream


def fit(model, task, data, *, folder=None, mirror=None, compile=False, log=print):
    """Train ``model`` on ``data.train`` and yield a dict per epoch, measured on ``data.valid``.

    With a ``folder``, every finished epoch is saved in ``folder/<network>-<digest of the run>/``, as
    ``last.safetensors``, ``best.safetensors`` (by ``task.metric``) and ``history.csv``. Calling it again
    yields the finished epochs at once and goes on after them; a finished model is loaded, not trained
    again; changed settings, networks or data are another run, in a folder of its own.

    ``task.settings.seed`` fixes the order of the pictures and their augmentation, ``helpers.tasks.build``
    the initial weights: on the same CPU, two runs give the same bits, interrupted or not.

    Args:
        model: trained in place, on the device that Accelerate finds.
        task: one of ``helpers.tasks``; ``task.settings`` says for how long and how.
        data: has ``train`` and ``valid``, see ``helpers.data``.
        folder: where runs keep their state; ``None`` keeps nothing. Several machines must all see it.
        mirror: a second folder, on Google Drive say, that gets a copy after each epoch; a fresh machine
            whose ``folder`` is empty goes on from there.
        compile: translate the network with ``torch.compile`` first.
        log: called with one plain line per epoch.

    Yields:
        epoch, train_loss, valid_loss, the metric, lr, images_per_s (training alone) and seconds.

    Raises:
        CheckpointError: the checkpoint found there is damaged, or of another run.
        FloatingPointError: the loss became nan or infinite; the model gets its last saved weights back.
        OSError: a checkpoint cannot be written; the one before it is intact.
    """
    settings, engine = task.settings, accelerator()
    main, several = engine.is_main_process, engine.num_processes > 1
    log = log if main else lambda line: None
    train = data.train if settings.limit is None else data.train.subset(settings.limit, settings.seed)
    model.to(engine.device, memory_format=torch.channels_last)
    if several and engine.device.type == "cuda":
        model = torch.nn.SyncBatchNorm.convert_sync_batchnorm(model)
    optimizer = make_optimizer(model, settings)
    run = Run(folder, mirror, model, task, train, log)
    if main:
        history = run.resume(model, optimizer, engine.scaler)
    engine.wait_for_everyone()
    if not main:
        history = run.resume(model, optimizer, engine.scaler, writes=False)
    reached = gather_object([len(history)])
    if len(set(reached)) > 1:
        raise RuntimeError(f"processes found {reached} finished epochs: all must see the same {folder}")
    yield from history
    if history:
        log(f"{run.folder}: {len(history)} of {settings.epochs} epochs were finished before")
    elif main:  # the initial weights too, so that an interrupted first epoch can be repeated
        run.save(model, optimizer, engine.scaler, history)

    net = engine.prepare_model(model) if several else model
    net = torch.compile(net) if compile else net
    step = Step(net, task, engine.prepare_optimizer(optimizer), log)
    try:
        for epoch in range(len(history), settings.epochs):
            began = time.perf_counter()
            scores = {task.metric: f"{history[-1][task.metric]:.4f}"} if history else {}
            train_loss = train_epoch(step, train, epoch, scores)
            seconds = time.perf_counter() - began
            if several:
                share_statistics(model)
            row = {"epoch": epoch + 1, "train_loss": train_loss} | evaluate(model, task, data.valid)
            row |= {
                "lr": optimizer.param_groups[0]["lr"],
                "images_per_s": len(train) / seconds,
                "seconds": time.perf_counter() - began,
            }
            history = [*history, row]
            if main:
                finished = epoch + 1 == settings.epochs
                run.save(model, optimizer, engine.scaler, history, finished=finished)
            log(describe_row(row, task, settings.epochs))
            yield row
    except KeyboardInterrupt:
        saved = f"saved in {run.folder}; running this again goes on after them" if folder else "unsaved"
        log(f"interrupted; {len(history)} of {settings.epochs} epochs are finished: {saved}")
        raise
    except FloatingPointError as error:
        run.resume(model, writes=False)
        kept = "The network has the weights of the last finished epoch again" if folder else "Build it anew"
        raise FloatingPointError(
            f"{error}. {kept}. A smaller learning rate usually helps; if it happens in the very first "
            "batches, look for broken pictures or labels."
        ) from None
    finally:
        engine.free_memory()


def train_epoch(step, train, epoch, scores):
    """One pass over ``train``, in an order and with augmentation that (seed, epoch) fix; its mean loss.

    Args:
        scores: what the progress bar shows beside the loss.
    """
    settings, engine = step.task.settings, accelerator()
    seed = int(np.random.SeedSequence([settings.seed, epoch]).generate_state(1)[0])
    torch.manual_seed(seed)
    draws = torch.Generator().manual_seed(seed)
    steps = math.ceil(len(train) / settings.batch_size)
    # Nearly equal batches: no short last one that batch norm or the mean loss would have to suffer from.
    batches = torch.randperm(len(train), generator=draws).tensor_split(steps)
    share = slice(engine.process_index, None, engine.num_processes)
    if len(batches[-1]) < engine.num_processes:
        raise ValueError(
            f"batches of {len(batches[-1])} pictures cannot be shared between {engine.num_processes} "
            "processes: raise batch_size, or start fewer"
        )
    losses = Losses(f"epoch {epoch + 1}")
    step.net.train()
    mine = [batch[share] for batch in batches]
    title = f"epoch {epoch + 1}/{settings.epochs}"
    with tqdm(total=len(train), desc=title, unit="img", leave=False, **hidden(engine)) as bar:
        for number, (images, target) in enumerate(stream(train, mine, engine.device)):
            size = len(batches[number])
            step.set_lr(learning_rate(settings, epoch * steps + number, settings.epochs * steps))
            views = draw_views(size, draws)[:, share]
            images, target = augment(images.float() / 255, target, settings.augment, views)
            losses.add(step(*step.task.inputs(images, target), size))
            bar.update(size)
            bar.set_postfix(loss=f"{losses.last:.4f}", **scores, refresh=False)
        sums = losses.sum([len(batch) for batch in mine])
    total, count = engine.reduce(sums).tolist()
    return total / count


class Step:
    """One step of the optimizer: forward, backward, update.

    A batch that memory does not hold goes through in parts, whose gradients add up to those of the whole
    batch; only batch norm then sees the parts. Losses that weigh classes (``colour_classes``) are means
    over each part.
    """

    def __init__(self, net, task, optimizer, log):
        self.net, self.task, self.optimizer, self.parts = net, task, optimizer, Parts(log)

    def set_lr(self, lr):
        for group in self.optimizer.param_groups:
            group["lr"] = lr

    def __call__(self, inputs, target, size):
        """Learn from this process's share of a batch of ``size``; the share's mean loss."""
        engine = accelerator()
        # Accelerate takes the mean over processes: weighing by shares makes it the mean over pictures.
        weight = len(inputs) * engine.num_processes / size

        def gradients(parts):
            self.optimizer.zero_grad()
            losses = 0
            for x, y in zip(inputs.tensor_split(parts), target.tensor_split(parts), strict=True):
                with engine.autocast():
                    logits = self.net(x.contiguous(memory_format=torch.channels_last))
                loss = self.task.loss(logits.float(), y) * (len(x) / len(inputs))
                engine.backward(loss * weight)
                losses += loss.detach()
            return losses

        # One process alone must not change how often all of them meet in ``backward``.
        loss = gradients(1) if engine.num_processes > 1 else self.parts.run(gradients, len(inputs))
        self.optimizer.step()
        return loss


def share_statistics(model):
    """Give all processes the first one's running statistics, which batch norm measures with."""
    for buffer in model.buffers():
        broadcast(buffer)


@torch.inference_mode()
def evaluate(model, task, dataset):
    """Mean loss and ``task.metric`` over a data set: {"valid_loss": …, task.metric: …}."""
    engine, scores = accelerator(), task.scores()
    sums = [torch.zeros(2, device=engine.device)]  # of loss and count, a pair a batch
    for inputs, target, logits in forward(model, task, dataset):
        scores.update(logits, target) if task.classes else scores.update(logits, target, inputs)
        count = torch.full((), len(target), device=engine.device)
        sums.append(torch.stack([task.loss(logits, target) * count, count]))
    total = torch.stack(sums).cpu().double().sum(0)
    if engine.num_processes > 1:
        total = engine.reduce(total.to(engine.device))
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
    engine, parts = accelerator(), Parts(lambda line: None)
    was_training = model.training
    with torch.inference_mode(False):  # tensors that were made in that mode cannot be trained again
        model.to(engine.device, memory_format=torch.channels_last).eval()
    indices = torch.arange(len(dataset))
    if shard:
        indices = indices[engine.process_index :: engine.num_processes]
    batches = indices.split(task.settings.batch_size) if len(indices) else []

    def answer(inputs, count):
        with engine.autocast():
            return torch.cat([model(x) for x in inputs.tensor_split(count)]).float()

    try:
        for images, target in stream(dataset, batches, engine.device):
            inputs, target = task.inputs(images.float() / 255, target)
            inputs = inputs.contiguous(memory_format=torch.channels_last)
            yield inputs, target, parts.run(partial(answer, inputs), len(inputs))
    finally:
        model.train(was_training)
