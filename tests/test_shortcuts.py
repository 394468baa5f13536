"""Each experiment of helpers.shortcuts against an oracle that knows the answer without it."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from helpers import shortcuts, skips
from helpers.engine.identity import describe_run, digest
from helpers.models import ResNet
from helpers.models.resnet import BasicBlock
from helpers.presets import Settings
from helpers.tasks import Classification, build
from helpers.training import CODE
from tests.conftest import tiny_data
from tests.test_skips import trained


@torch.no_grad()
def test_a_residual_block_that_adds_nothing_can_be_taken_out_and_nothing_changes():
    model = trained(ResNet((1, 2, 1, 1), 5, width=4))
    images = torch.rand(2, 3, 50, 34)
    for number, block in enumerate([model.layer1[0], *model.layer2]):
        cuts = [shortcuts.without_blocks(model, gone) for gone in ([], [number], [number])]
        whole, cut, again = skips.lesions(lambda damaged: damaged(images), cuts)
        assert (whole != cut).any() and (cut == again).all()
        nn.init.zeros_(block.bn2.weight)
        nn.init.zeros_(block.bn2.bias)
        before = model(images)
        with shortcuts.without_blocks(model, [number]):
            torch.testing.assert_close(model(images), before)


@torch.no_grad()
def test_a_plain_block_taken_out_passes_every_second_pixel_on_and_zeros_beside():
    model = trained(ResNet((1, 1, 1, 1), 5, width=4, skip=False))
    x = torch.rand(2, 4, 9, 7)
    with shortcuts.without_blocks(model, [0, 1]):
        torch.testing.assert_close(model.layer1(x), x)
        out = model.layer2(x)
    assert torch.equal(out[:, :4], x[:, :, ::2, ::2]) and not out[:, 4:].any()
    assert model.layer2(x).shape == out.shape and not torch.equal(model.layer2(x), out)


@torch.no_grad()
def test_a_dosed_block_is_residual_at_1_and_plain_at_0_and_taken_out_it_leaves_its_dose():
    residual = trained(ResNet((1, 2, 1, 1), 5, width=4))
    plain = ResNet((1, 2, 1, 1), 5, width=4, skip=False).eval()
    missing, _ = plain.load_state_dict(residual.state_dict(), strict=False)
    assert not missing
    images = torch.rand(2, 3, 50, 34)
    for dose, twin in ((1, residual), (0, plain)):
        dosed = ResNet((1, 2, 1, 1), 5, width=4, block=partial(shortcuts.DosedBlock, dose=dose))
        dosed.load_state_dict(residual.state_dict())
        assert torch.equal(dosed.eval()(images), twin(images))

    model = trained(
        ResNet((1, 1, 1, 1), 5, width=4, block=partial(shortcuts.DosedBlock, dose=0.25))
    )
    x = torch.rand(2, 4, 9, 7)
    with shortcuts.without_blocks(model, [0, 1]):
        assert torch.equal(model.layer1(x), x / 4)
        projected = torch.relu(model.layer2[0].downsample(x) / 4)
        assert torch.equal(model.layer2(x), projected)


@torch.no_grad()
def test_a_dirac_start_passes_what_is_not_negative_on_but_for_the_epsilon_of_batch_norm():
    model = shortcuts.dirac_start(ResNet((2, 1, 1, 1), 5, width=4, skip=False)).eval()
    x = torch.rand(2, 4, 9, 7)
    shrunk = x / (1 + model.bn1.eps)  # two batch norms divide by √(1 + ε) each
    torch.testing.assert_close(model.layer1[0](x), shrunk)
    out = model.layer2(x)
    torch.testing.assert_close(out[:, :4], shrunk[:, :, ::2, ::2])
    assert (out[:, 4:] > 0).any((0, 2, 3)).all(), "the channels that it adds carry nothing"


def test_every_filter_of_a_dirac_start_learns():
    model = shortcuts.dirac_start(ResNet((1, 2, 1, 1), 5, width=4, skip=False))
    model(torch.rand(8, 3, 64, 64)).square().sum().backward()
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            assert layer.weight.grad.flatten(1).any(1).all()


def test_a_run_is_known_by_the_start_and_the_dose_of_its_network():
    data = tiny_data("birds")
    task = Classification(data, Settings((32, 32), 4, 1, 6, 1e-2))

    def dirac(task):
        return shortcuts.dirac_start(build(task, "plain10"))

    blocks = {"blocks": (1, 1, 1, 1)}
    models = [{**blocks, "block": partial(shortcuts.DosedBlock, dose=dose)} for dose in (0.5, 0.25)]
    models += ["plain10", "resnet10", dirac]
    runs = []
    for model in [*models, *models]:
        run = describe_run(build(task, model), task, data.train, data.valid, "no", CODE)
        runs.append(digest(run))
    assert runs[:5] == runs[5:] and len(set(runs)) == 5


@pytest.mark.parametrize(("signs", "expected"), [((1, 1), 1), ((-1, -1), -1), ((1, -1), 0)])
def test_a_block_that_moves_down_the_loss_has_the_alignment_1_and_up_it_minus_1(signs, expected):
    model = nn.Sequential(BasicBlock(3, 4, 2), BasicBlock(4, 4))
    last = model[1].bn2
    nn.init.zeros_(last.weight)
    nn.init.uniform_(last.bias)  # positive: x is not negative, and no ReLU changes x + bias
    wanted = last.bias.detach()[None, :, None, None] * torch.tensor(signs)[:, None, None, None]
    images = torch.rand(2, 3, 12, 10)

    def loss(out, wanted):
        return -(wanted * out).mean()  # falls along ``wanted``, at each out

    found = shortcuts.block_alignment(model, loss, images, wanted)
    assert found == {1: pytest.approx(expected, abs=1e-5)}, (
        "block 0 has no input of its output's shape"
    )
    assert last.num_batches_tracked == 0 and not images.requires_grad


class Waves(nn.Flatten):
    def forward(self, x):
        return super().forward(torch.sin(40 * x))


def test_gradients_of_a_linear_network_are_all_alike_and_those_of_sines_are_not():
    starts, ends = torch.randn(2, 4, 3, 8, 8)
    norm = nn.BatchNorm2d(2)
    linear = nn.Sequential(nn.Conv2d(3, 2, 3), norm, nn.Flatten(), nn.Linear(72, 5))
    assert shortcuts.gradient_correlation(linear, starts, ends) == pytest.approx(
        np.ones(4), abs=1e-5
    )
    assert norm.num_batches_tracked == 0, "a copy takes the statistics"
    assert np.abs(shortcuts.gradient_correlation(Waves(), starts, ends)).max() < 0.3


def test_a_landscape_has_the_trained_loss_in_its_middle_and_a_quadratic_one_is_symmetric():
    model = nn.Linear(6, 3)
    inputs = torch.eye(6)  # so that the loss is the squared way that the weights went
    before = model.weight.detach().clone()
    loss = nn.MSELoss(reduction="sum")
    surface = shortcuts.loss_landscape(
        model, loss, inputs, model(inputs).detach(), reach=0.5, steps=5
    )
    assert surface[2, 2] == surface.min() == 0
    np.testing.assert_allclose(surface, surface[::-1, ::-1], atol=1e-5)
    length = float(before.square().sum())  # filter by filter, directions are as long as the weights
    assert surface[[2, 4], [4, 2]] == pytest.approx(0.25 * length, rel=1e-4)
    assert torch.equal(model.weight, before)
