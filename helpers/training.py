"""One training loop for the three tasks: a generator of one history row per epoch."""

from functools import partial

import numpy as np
import torch

from helpers.augment import augment, draw_views, halved
from helpers.colour import to_float
from helpers.engine.batches import prefetch
from helpers.engine.device import accelerator, layout, total
from helpers.engine.memory import Parts
from helpers.engine.optimizer import learning_rate
from helpers.engine.run import Run


def fit(model, task, data, *, folder=None, mirror=None, log=print):
    """Train ``model`` on ``data.train`` and yield a dict per epoch, measured on ``data.valid``.

    With a ``folder``, every finished epoch is saved in ``folder/<network>-<digest of the run>/``. Calling it
    again yields the finished epochs at once and goes on after them; a finished model is loaded, not trained
    again; other settings, pictures or code of network, loss, augmentation or ``train_epoch`` are another run.
    On the same CPU, the same ``settings.seed`` gives the same bits, interrupted or not. Several processes
    share each batch: the loss stays the same but for rounding and, on CPUs, batch norm in shares.

    Args:
        model: trained in place, on the device that Accelerate finds.
        task: one of ``helpers.tasks``; ``task.settings`` says for how long and how.
        data: has ``train`` and ``valid``, see ``helpers.data``.
        folder: where runs keep their state; ``None`` keeps nothing. Several machines must all see it.
        mirror: a second folder, on Google Drive say, that gets a copy after each epoch; a fresh machine
            goes on from there. Default: as ``helpers.engine.drive`` was told.
        log: called with one plain line per epoch.

    Yields:
        epoch, train_loss, valid_loss, the metric, lr, images_per_s (training alone) and seconds.

    Raises:
        CheckpointError: the checkpoint found there is damaged, or of another run.
        FloatingPointError: the loss became nan or infinite; the model gets its last saved weights back.
        OSError: a checkpoint cannot be written; the one before it is intact.
        RuntimeError, ValueError: code was edited after it was imported; the output has a wrong shape.
    """
    settings = task.settings
    train = data.train.subset(settings.limit)  # the same pictures for every seed
    with Run(model, task, train, train_epoch, folder, mirror, log) as run:  # device, optimizer, last state
        yield from list(run.history)  # what an earlier call has finished
        for epoch in range(len(run.history), settings.epochs):
            train_loss = train_epoch(run, train, epoch)
            row = {"epoch": epoch + 1, "train_loss": train_loss} | evaluate(model, task, data.valid)
            yield run.save(row)


def train_epoch(run, train, epoch):
    """One pass over ``train``, in an order and with views that (seed, epoch) fix; its mean loss."""
    settings = run.task.settings
    seed = int(np.random.SeedSequence([settings.seed, epoch]).generate_state(1)[0])
    torch.manual_seed(seed)  # for networks with dropout
    draws = torch.Generator().manual_seed(seed)
    steps = -(-len(train) // settings.batch_size)
    strength = settings.strength(settings.epochs * steps)
    # Nearly equal batches: no short last one that batch norm or the mean loss would have to suffer from.
    batches = torch.randperm(len(train), generator=draws).tensor_split(steps)
    run.net.train()
    for number, (images, target) in enumerate(run.batches(batches)):  # uint8 (B, 3, H, W), class ids
        run.set_lr(learning_rate(settings, epoch * steps + number, settings.epochs * steps))
        size, views = len(batches[number]), run.share(draw_views(len(batches[number]), draws))
        images, target = augment(to_float(images), target, strength, views)
        if epoch < int(settings.coarse * settings.epochs):
            images, target = halved(images, target)
        run.losses.add(step(run, *run.task.inputs(images, target), size))
    return run.mean_loss()


def step(run, inputs, target, size):
    """One step of the optimizer, forward, backward, update, on this process's share of ``size`` pictures."""

    def gradients(x, y):
        with run.engine.autocast():
            logits = run.net(x)
        run.task.check_output(logits, x)
        loss = run.task.loss(logits.float(), y) * (len(x) / len(inputs))
        # Accelerate takes the mean over processes: weighing by shares makes it the mean over pictures.
        run.engine.backward(loss * (len(inputs) * run.processes / size))
        return loss.detach()

    loss = run.in_parts(gradients, inputs, target)  # one part while memory lasts
    run.optimizer.step()
    return loss


@torch.no_grad()
def evaluate(model, task, dataset):
    """Mean loss and ``task.metric`` over a data set: {"valid_loss": …, task.metric: …}."""
    scores, sums = task.scores(), [torch.zeros(2, device=accelerator().device)]
    for inputs, target, logits in forward(model, task, dataset):
        scores.update(task.predict(logits, inputs), target)
        count = torch.full((), len(target), device=logits.device)
        sums.append(torch.stack([task.loss(logits, target) * count, count]))
    loss, count = total(torch.stack(sums).cpu().double().sum(0)).tolist()
    scores.state = total(scores.state)
    return {"valid_loss": loss / count, task.metric: getattr(scores, task.metric)}


@torch.no_grad()
def predict(model, task, dataset):
    """The model's answer for every example of ``dataset``, as one CPU tensor; see ``task.predict``."""
    answers = forward(model, task, dataset, shared=False)
    return torch.cat([task.predict(logits, inputs).cpu() for inputs, _, logits in answers])


def forward(model, task, dataset, shared=True):
    """(inputs, target, logits) of each batch, in evaluation mode; every process takes its share."""
    engine, parts, was_training = accelerator(), Parts(lambda line: None), model.training
    mine = slice(engine.process_index, None, engine.num_processes) if shared else slice(None)
    indices = torch.arange(len(dataset))[mine]
    model.to(engine.device, memory_format=layout(model)).eval()

    def answer(inputs, count):
        with engine.autocast():
            return torch.cat([model(x) for x in inputs.tensor_split(count)]).float()

    try:
        batches = indices.split(task.settings.batch_size) if len(indices) else []
        for images, target in prefetch(dataset, batches, engine.device):
            inputs, target = task.inputs(to_float(images), target)
            inputs = inputs.contiguous(memory_format=layout(model))
            yield inputs, target, parts.run(partial(answer, inputs), len(inputs))
    finally:
        model.train(was_training)
