"""Choices that make training fast, and what they may not change."""

import sys
from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from helpers.colour import to_float
from helpers.engine import device
from helpers.engine.batches import prefetch
from helpers.engine.device import accelerator, best_precision, hidden
from helpers.engine.run import Run
from helpers.tasks import TASKS
from helpers.training import step, train_epoch
from tests.conftest import tiny_data
from tests.training.pretended import CUDA, pretended_gpu
from tests.training.tiny import SETTINGS, Watched, make, quiet


class Reads(TorchDispatchMode):
    """Counts how often a value is asked for."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function is torch.ops.aten._local_scalar_dense.default
        return function(*args, **(kwargs or {}))


def test_a_training_step_never_waits_for_a_value():
    model, task, data = make()  # on a GPU, such a question waits for all that was asked before it
    images, target = data.train[[0, 1, 2, 3]]
    with Run(model, task, data.train, train_epoch, None, None, quiet) as run, Reads() as reads:
        step(run, *task.inputs(to_float(images), target), 4)
        assert reads.count == 0
        next(model.parameters()).sum().item()
        assert reads.count == 1, "the instrument is blind"


@pytest.mark.parametrize(
    ("name", "network", "loss"),
    [
        ("classification", "resnet18", "cross_entropy"),
        ("segmentation", "unet", "cross_entropy"),
        ("colorization", "unet", "channel_cross_entropy"),
        ("colorization", "unet", "colour_classes"),
    ],
)
def test_after_its_first_batch_a_task_moves_nothing_between_cpu_and_gpu(name, network, loss):
    kind = {"classification": "birds", "segmentation": "streets", "colorization": "landscapes"}[name]
    data = tiny_data(kind)
    task = TASKS[name](data, replace(SETTINGS, loss=loss))
    with pretended_gpu() as gpu:
        model = task.networks[network](task).to(CUDA)
        images, target = (tensor.to(CUDA) for tensor in data.train[[0, 1, 2, 3]])
        for batch in range(2):
            before = len(gpu.crossings)
            inputs, truth = task.inputs(to_float(images), target)
            loss = task.loss(model(inputs), truth)
            loss.backward()
            assert batch == 0 or gpu.crossings[before:] == []
        assert loss.item() and gpu.crossings[-1] == "item", "the instrument is blind"


def test_batches_arrive_in_order_whole_and_one_ahead():
    _, _, data = make()
    batches = [torch.tensor([3, 1]), torch.tensor([0]), torch.tensor([5, 4, 2])]
    watched = Watched(data.train.images, data.train.targets, data.train.names)
    for number, (images, target) in enumerate(prefetch(watched, batches, torch.device("cpu"))):
        expected = data.train[batches[number].numpy()]
        assert torch.equal(images, expected[0]) and torch.equal(target, expected[1])
    assert watched.seen == [3, 1, 0, 5, 4, 2]
    assert list(prefetch(watched, [], torch.device("cpu"))) == []


@pytest.mark.parametrize(("capability", "precision"), [((7, 5), "fp16"), ((8, 0), "bf16"), ((9, 0), "bf16")])
def test_a_gpu_gets_the_half_precision_that_it_really_has(monkeypatch, capability, precision):
    monkeypatch.delenv("ACCELERATE_USE_CPU", raising=False)
    monkeypatch.setattr(device, "is_cuda_available", lambda: True)
    monkeypatch.setattr(device, "is_mps_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    assert best_precision() == precision


@pytest.mark.parametrize(
    ("abilities", "vendor", "precision"),
    [
        ({"avx512_bf16": True}, "GenuineIntel", "no"),
        ({"avx512_bf16": True}, "AuthenticAMD", "bf16"),
        ({"avx512_bf16": True, "amx_bf16": True}, "GenuineIntel", "bf16"),
        ({}, "AuthenticAMD", "no"),
    ],
)
def test_a_cpu_gets_bf16_only_where_it_is_faster(monkeypatch, abilities, vendor, precision):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: abilities, raising=False)
    monkeypatch.setattr(device, "_cpuinfo", lambda: f"vendor_id : {vendor}")
    monkeypatch.setattr(device.platform, "processor", lambda: "")
    assert best_precision() == precision


def test_another_precision_than_the_running_one_is_refused():
    running = accelerator().mixed_precision
    assert accelerator(running) is accelerator()
    with pytest.raises(ValueError, match="restart Python"):
        accelerator("fp16" if running != "fp16" else "no")


def test_bars_are_shown_to_people_and_not_to_log_files(monkeypatch):
    monkeypatch.delenv("COURSEWORK_HEADLESS", raising=False)
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    assert hidden() is None  # tqdm's word for: only in a terminal
    monkeypatch.setitem(sys.modules, "ipykernel", sys)
    assert hidden() is False
    monkeypatch.setenv("COURSEWORK_HEADLESS", "1")
    assert hidden() is True
