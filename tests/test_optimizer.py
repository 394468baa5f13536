"""Muon: its steps are those of PyTorch's own, on matrices, and hidden filters get them."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from helpers.models import FCN, ResNet, UNet
from helpers.optimizer import Muon, make_optimizer, orthogonal
from helpers.presets import preset

SETTINGS = replace(preset("smoke").segmentation, optimizer="muon", weight_decay=0.1)


def filters(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("shape", [(32, 16, 3, 3), (8, 64, 3, 3), (64, 32, 2, 2), (20, 30), (5, 5)])
def test_a_step_has_the_directions_of_the_gradient_and_one_length_in_all_of_them(shape):
    weight = filters(*shape)
    step = orthogonal(weight, iterations=5)
    matrix = step.movedim(1, -1).flatten(1)
    length = 0.2 * max(matrix.shape) ** 0.5
    singular = torch.linalg.svdvals(matrix) / length
    assert singular.min() > 0.6 and singular.max() < 1.3  # as the method's authors say

    left, _, right = torch.linalg.svd(weight.movedim(1, -1).flatten(1), full_matrices=False)
    likeness = ((left @ right) * matrix).sum() / ((left @ right).norm() * matrix.norm())
    assert likeness > 0.95


def test_in_bf16_a_step_is_nearly_that_of_fp32():
    weight = torch.randn(64, 32, 3, 3, generator=torch.Generator().manual_seed(0))
    exact = orthogonal(weight)
    step = orthogonal(weight, dtype=torch.bfloat16)
    assert step.dtype == torch.float32
    assert float((step - exact).norm() / exact.norm()) < 0.03


def test_on_matrices_it_is_pytorchs_own_muon():
    ours = nn.Parameter(filters(20, 30))
    theirs = nn.Parameter(filters(20, 30))
    optimizer = Muon([{"params": [ours], "muon": True}], lr=0.01, weight_decay=0.1)
    settings = {"lr": 0.01, "weight_decay": 0.1, "ns_steps": 3, "adjust_lr_fn": "match_rms_adamw"}
    oracle = torch.optim.Muon([theirs], **settings)
    for seed in range(6):
        gradient = torch.randn(20, 30, generator=torch.Generator().manual_seed(seed))
        ours.grad = gradient.clone()
        theirs.grad = gradient.clone()
        optimizer.step()
        oracle.step()
    moved = (theirs - filters(20, 30)).abs().max()
    assert (ours - theirs).abs().max() < 0.02 * moved  # PyTorch iterates in bf16


def test_a_step_is_the_same_in_channels_last():
    weight = filters(32, 16, 3, 3)
    step = orthogonal(weight)
    last = orthogonal(weight.to(memory_format=torch.channels_last))
    torch.testing.assert_close(last, step)


@pytest.mark.parametrize("model", [
    UNet(3, 13, width=4),
    UNet(1, 313, width=4, stride=4),
    FCN(13, width=4),
    ResNet((1, 1, 1, 1), 5, width=4),
    nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1)),
])  # fmt: skip
def test_first_layer_head_biases_and_batch_norm_are_left_to_adamw(model):
    optimizer = make_optimizer(model, SETTINGS)
    matrices, vectors, hidden = (group["params"] for group in optimizer.param_groups)
    weights = [p for p in model.parameters() if p.ndim > 1]
    assert [p is q for p, q in zip(matrices, (weights[0], weights[-1]), strict=True)] == [True] * 2
    assert all(p.ndim == 4 for p in hidden) and len(hidden) == len(weights) - 2
    assert all(p.ndim == 1 for p in vectors)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0, 0.1]
    assert len(matrices + vectors + hidden) == len(list(model.parameters()))


def test_what_adamw_has_moves_as_by_adamw_alone_and_decay_is_decoupled():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 2, 1))
    other = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 2, 1))
    other.load_state_dict(model.state_dict())
    before = model[1].weight.detach().clone()
    for network, name in ((model, "muon"), (other, "adamw")):
        optimizer = make_optimizer(network, replace(SETTINGS, optimizer=name))
        for index, weight in enumerate(network.parameters()):
            weight.grad = torch.full_like(weight, index - 2.0)
        if name == "muon":
            model[1].weight.grad = torch.zeros_like(before)
        optimizer.step()
    torch.testing.assert_close(model[0].state_dict(), other[0].state_dict())
    torch.testing.assert_close(model[2].state_dict(), other[2].state_dict())
    torch.testing.assert_close(model[1].weight, before * (1 - SETTINGS.lr * 0.1))
    torch.testing.assert_close(model[1].bias, other[1].bias)


def test_a_weight_without_a_gradient_stays():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 2, 1))
    optimizer = make_optimizer(model, SETTINGS)
    before = model[1].weight.detach().clone()
    model[0].weight.grad = torch.ones_like(model[0].weight)
    optimizer.step()
    torch.testing.assert_close(model[1].weight, before, rtol=0, atol=0)
