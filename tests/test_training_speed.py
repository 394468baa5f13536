"""Choices that make training fast, and what they may not change."""

import itertools
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from helpers import colour, device, tasks
from helpers.device import accelerator, hardware
from helpers.losses import class_cross_entropy
from helpers.memory import training_memory
from helpers.models import UNet
from helpers.optimizer import make_optimizer
from helpers.presets import preset, table
from helpers.stepping import hidden, stream
from helpers.tasks import TASKS
from helpers.training import Step, fit
from tests.conftest import tiny_data
from tests.train_tiny import SETTINGS, make


class Reads(TorchDispatchMode):
    """Counts how often a value is asked for."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function is torch.ops.aten._local_scalar_dense.default
        return function(*args, **(kwargs or {}))


def test_a_training_step_never_waits_for_a_value():
    model, task, data = make()  # on a GPU, such a question waits for all that was asked before it
    step = Step(model, task, accelerator().prepare_optimizer(make_optimizer(model, task.settings)), print)
    images, target = data.train.__getitems__([0, 1, 2, 3])
    with Reads() as reads:
        step(*task.inputs(images.float() / 255, target), 4)
        assert reads.count == 0
        step.optimizer.param_groups[0]["params"][0].sum().item()
        assert reads.count == 1, "the instrument is blind"


class Crossings(TorchDispatchMode):
    """Lists what goes from the CPU to a GPU or back."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        before, after = (
            {leaf.device.type for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)}
            for tree in ((args, kwargs), result)
        )
        if (before and after and before != after) or function is torch.ops.aten._local_scalar_dense.default:
            self.found.append(str(function))
        return result


@pytest.mark.skipif(not torch.backends.cuda.is_built(), reason="this torch knows no cuda device")
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
    """On a GPU that is only pretended: tensors without content, which know where they would be."""
    kind = {"classification": "birds", "segmentation": "streets", "colorization": "landscapes"}[name]
    task = TASKS[name](tiny_data(kind), replace(SETTINGS, loss=loss))
    try:
        with FakeTensorMode(allow_non_fake_inputs=True), torch.device("cuda"):
            model = task.networks[network]()
            images = torch.zeros(4, 3, 32, 32)
            target = torch.zeros((4,) if name == "classification" else (4, 32, 32), dtype=torch.int64)
            for batch in range(2):
                with Crossings() as crossings:
                    inputs, truth = task.inputs(images, target)
                    task.loss(model(inputs), truth)
                assert batch == 0 or crossings.found == []
            assert images.device.type == "cuda"
    finally:
        colour._constant.cache_clear()
        tasks._channels.cache_clear()


def test_batches_arrive_in_order_whole_and_one_ahead():
    _, _, data = make()
    batches = [torch.tensor([3, 1]), torch.tensor([0]), torch.tensor([5, 4, 2])]
    asked, real = [], data.train.__getitems__
    data.train.__getitems__ = lambda indices: (asked.append(indices.tolist()), real(indices))[1]
    for number, (images, target) in enumerate(stream(data.train, batches, torch.device("cpu"))):
        expected = real(batches[number].numpy())
        assert torch.equal(images, expected[0]) and torch.equal(target, expected[1])
    assert asked == [batch.tolist() for batch in batches]
    assert list(stream(data.train, [], torch.device("cpu"))) == []


def test_compiled_and_plain_training_agree_and_save_the_same_names():
    curves = []
    for compiled in (False, True):
        _, task, data = make(epochs=2)
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.Conv2d(4, 3, 1))
        rows = list(fit(model, task, data, compile=compiled, log=lambda line: None))
        curves.append([row["train_loss"] for row in rows])
        assert list(model.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    assert curves[0] == pytest.approx(curves[1], rel=1e-3)


@pytest.mark.parametrize(
    ("name", "capability", "precision"),
    [("Tesla T4", (7, 5), "fp16"), ("NVIDIA A100", (8, 0), "bf16"), ("NVIDIA H200", (9, 0), "bf16")],
)
def test_a_gpu_gets_the_half_precision_that_it_really_has(monkeypatch, name, capability, precision):
    monkeypatch.delenv("ACCELERATE_USE_CPU", raising=False)
    monkeypatch.setattr(device, "is_cuda_available", lambda: True)
    monkeypatch.setattr(device, "is_mps_available", lambda: False)
    answer = f"{name}, {capability[0]}.{capability[1]}\n" * 2  # two cards of a kind
    monkeypatch.setattr(
        device.subprocess, "run", lambda *a, **k: subprocess.CompletedProcess(a, 0, stdout=answer)
    )
    chosen = hardware()
    assert (chosen.device, chosen.precision) == (name, precision)
    assert "TF32, cuDNN autotuning, pinned copies" in str(chosen)


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
    assert hardware().precision == precision


def test_another_precision_than_the_running_one_is_refused():
    running = accelerator().mixed_precision
    assert accelerator(running) is accelerator()
    with pytest.raises(ValueError, match="restart Python"):
        accelerator("fp16" if running != "fp16" else "no")


def test_looking_at_the_machine_starts_nothing():
    code = (
        "from accelerate.state import PartialState; from helpers.device import hardware; hardware(); "
        "import torch; assert not PartialState._shared_state and not torch.cuda.is_initialized()"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_bars_are_shown_to_people_and_not_to_log_files(monkeypatch):
    monkeypatch.delenv("COURSEWORK_HEADLESS", raising=False)
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    assert hidden(accelerator()) == {"disable": None}  # tqdm's word for: only in a terminal
    monkeypatch.setitem(sys.modules, "ipykernel", sys)
    assert hidden(accelerator()) == {}
    monkeypatch.setenv("COURSEWORK_HEADLESS", "1")
    assert hidden(accelerator()) == {"disable": True}


def test_computed_memory_is_what_the_allocator_hands_out_in_a_real_step():
    with torch.profiler.profile(profile_memory=True) as profiler:
        network = UNet(3, 13, width=16)
        moments = [[torch.empty_like(p) for p in network.parameters()] for _ in range(2)]
        target = torch.zeros(2, 96, 128, dtype=torch.uint8)
        class_cross_entropy(network(torch.rand(2, 3, 96, 128)), target).backward()
        del moments
    events = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    changes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    peak = max(itertools.accumulate(changes))
    computed = training_memory(lambda: UNet(3, 13, width=16), (2, 3, 96, 128), precision="no")
    assert computed == pytest.approx(peak, rel=0.1)


def test_memory_grows_by_the_same_amount_with_every_picture_and_less_in_bf16():
    def needs(count, precision):
        return training_memory(lambda: UNet(3, 13, width=8), (count, 3, 48, 64), precision=precision)

    assert needs(3, "no") - needs(2, "no") == pytest.approx(needs(5, "no") - needs(4, "no"), rel=0.02)
    assert needs(8, "bf16") < 0.8 * needs(8, "no")


def test_the_preset_table_has_every_setting_and_the_memory_of_each_batch_size():
    frame = table("smoke", batches=(1, 4))
    assert frame.loc["GiB at batch 1", "classification"] == "cannot be trained"
    assert frame.loc["lr", "segmentation"] == str(preset("smoke").segmentation.lr)
    assert list(frame.index[-2:]) == ["GiB at batch 1", "GiB at batch 4"]
    assert list(frame.columns) == ["classification", "segmentation", "colorization"]


def test_the_help_of_train_names_every_network_and_how_to_go_on(capsys):
    from helpers.__main__ import parse

    with pytest.raises(SystemExit):
        parse(["train", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    for task in TASKS.values():
        settings = getattr(preset("smoke"), task.name)
        for name in task(tiny_data("birds"), settings).networks:
            assert name in shown
    assert "run again, goes on where it was stopped" in shown and "accelerate launch" in shown
