"""Each experiment of helpers.skips against an oracle that knows the answer without it."""

import numpy as np
import pytest
import torch
from torch import nn

from helpers.architecture import passes_bottleneck
from helpers.data.batches import ArrayDataset
from helpers.metrics import mean_iou_of
from helpers.models import ResNet, UNet
from helpers.skips import (
    CORRUPTIONS,
    bridge_means,
    corrupted,
    crispness_by_distance,
    gradient_correlation,
    lesions,
    loss_landscape,
    spectrum,
    without_blocks,
    without_bridges,
)


def trained_statistics(net):
    """A network whose batch norms are not at their initial 0 and 1."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return net.eval()


@torch.no_grad()
def test_a_residual_block_that_adds_nothing_can_be_taken_out_and_nothing_changes():
    net, images = trained_statistics(ResNet((1, 2, 1, 1), 5, width=4)), torch.rand(2, 3, 50, 34)
    before = net(images)
    for number, block in enumerate([net.layer1[0], net.layer2[0], net.layer2[1]]):
        with without_blocks(net, [number]):
            assert not torch.equal(net(images), before)
        nn.init.zeros_(block.bn2.weight), nn.init.zeros_(block.bn2.bias)
        before = net(images)
        with without_blocks(net, [number]):
            torch.testing.assert_close(net(images), before)


@torch.no_grad()
def test_a_plain_block_taken_out_passes_every_second_pixel_on_and_zeros_beside():
    net = trained_statistics(ResNet((1, 1, 1, 1), 5, width=4, skip=False))
    x = torch.rand(2, 4, 9, 7)
    with without_blocks(net, [0, 1]):
        torch.testing.assert_close(net.layer1(x), x)
        out = net.layer2(x)
    assert out.shape == (2, 8, 5, 4)
    assert torch.equal(out[:, :4], x[:, :, ::2, ::2]) and not out[:, 4:].any()
    assert net.layer2(x).shape == out.shape and not torch.equal(net.layer2(x), out)


def test_lesions_leave_no_trace():
    net, images = ResNet((1, 1, 1, 1), 5, width=4).train(), torch.rand(2, 3, 33, 33)
    state = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(KeyboardInterrupt), without_blocks(net, range(4)):
        raise KeyboardInterrupt
    with pytest.raises(ValueError, match="this net has 0 … 3"), without_blocks(net, [1, 4]):
        pass
    assert net.training and all(torch.equal(net.state_dict()[name], state[name]) for name in state)
    assert not any(module._forward_hooks for module in net.modules())
    assert torch.isfinite(net(images)).all()


@torch.no_grad()
def test_bridges_of_one_flat_colour_carry_nothing_but_their_mean():
    net = trained_statistics(UNet(3, 5, width=4))
    for block in net.down:  # maps that do not depend on the place: 1×1 convolutions in all but name
        for module in block:
            if isinstance(module, nn.Conv2d):
                nn.init.zeros_(module.weight)
    images = torch.rand(5, 3, 32, 48)
    means = bridge_means(net, images.split(2))
    before = net(images)
    with without_bridges(net, range(4), means):
        torch.testing.assert_close(net(images), before)


@torch.no_grad()
def test_bridge_means_are_those_of_the_maps_whatever_the_batches():
    net, images = trained_statistics(UNet(3, 5, width=4)).train(), torch.rand(5, 3, 32, 48)
    means = bridge_means(net, images.split(2))
    assert net.training and not any(module._forward_hooks for module in net.modules())
    x = images
    for block, mean in zip(net.eval().down, means, strict=True):
        x = block(x)
        torch.testing.assert_close(mean, x.mean((0, 2, 3)))
        x = nn.functional.max_pool2d(x, 2)


@torch.no_grad()
def test_a_bridge_switched_off_carries_nothing_and_the_others_still_do():
    net, images = trained_statistics(UNet(3, 5, width=8)), torch.rand(2, 3, 32, 48)
    with without_bridges(net, [0, 2], bridge_means(net, [images])):
        assert [passes_bottleneck(net, images, level) > 0 for level in range(4)] == [False, True, False, True]
    assert all(passes_bottleneck(net, images, level) > 0 for level in range(4))
    partly = UNet(3, 5, width=4, skip=[True, True, False, True])
    with (
        pytest.raises(ValueError, match=r"no bridges at levels \[2, 4\]"),
        without_bridges(partly, [2, 4], []),
    ):
        pass


def test_every_cut_is_measured_and_the_network_is_whole_between_them():
    net, images = trained_statistics(ResNet((1, 1, 1, 1), 5, width=4)), torch.rand(2, 3, 33, 33)
    cuts = [without_blocks(net, gone) for gone in ([], [3], [], [3])]
    found = lesions(lambda damaged: damaged(images).detach(), cuts)
    assert found.shape == (4, 2, 5)
    assert (found[0] == found[2]).all() and (found[1] == found[3]).all() and (found[0] != found[1]).any()


def test_gradients_of_a_linear_net_are_all_alike_and_those_of_sines_are_not():
    class Waves(nn.Module):
        def forward(self, x):
            return torch.sin(40 * x).flatten(1)

    starts, ends = torch.randn(2, 4, 3, 8, 8)
    linear = nn.Sequential(nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(72, 5))
    before = {name: value.clone() for name, value in linear.state_dict().items()}
    assert gradient_correlation(linear, starts, ends) == pytest.approx(np.ones(4), abs=1e-5)
    assert all(torch.equal(linear.state_dict()[name], value) for name, value in before.items())
    assert np.abs(gradient_correlation(Waves(), starts, ends)).max() < 0.3


def test_a_landscape_has_the_trained_loss_in_its_middle_and_a_quadratic_one_is_symmetric():
    net, inputs = nn.Linear(6, 3), torch.eye(6)  # so that the loss is the squared way that the weights went
    before, target = net.weight.detach().clone(), net(inputs).detach()

    def loss(outputs, target):
        return 0.7 + (outputs - target).square().sum()

    surface = loss_landscape(net, loss, inputs, target, reach=0.5, steps=5)
    assert surface[2, 2] == pytest.approx(0.7) and surface.min() == surface[2, 2]
    np.testing.assert_allclose(surface, surface[::-1, ::-1], rtol=1e-5)
    length = float(before.square().sum())  # filter by filter, the directions are as long as the weights
    assert surface[[2, 4], [4, 2]] == pytest.approx(0.7 + 0.25 * length, rel=1e-4)
    assert torch.equal(net.weight, before)


def test_the_truth_is_crisp_at_every_distance_and_an_error_inside_is_seen_from_its_distance_on():
    truth = np.zeros((2, 40, 40), int)
    truth[:, :, 20:] = 1
    perfect = crispness_by_distance(truth, truth, 3)
    assert {d: float(mean_iou_of(m.sum(0))) for d, m in perfect.items()} == dict.fromkeys(perfect, 1.0)
    assert [int(m.sum()) for m in perfect.values()] == [2 * 40 * 2 * d for d in (1, 2, 3, 5, 8, 13)]
    wrong = truth.copy()
    wrong[0, 7, 20 + 4] = 2  # the fifth pixel from the border
    seen = [mean_iou_of(m.sum(0)) < 1 for m in crispness_by_distance(wrong, truth, 3).values()]
    assert seen == [False, False, False, True, True, True]


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_a_corruption_grows_from_nothing_and_leaves_the_truth_as_it_is(kind):
    images = np.random.default_rng(0).integers(0, 256, (3, 72, 96, 3), dtype=np.uint8)
    dataset = ArrayDataset(images, np.arange(3), list("abc"), groups=[4, 4, 5], unit="scenes")
    shifted = [corrupted(dataset, kind, strength) for strength in range(5)]
    away = [np.abs(one.images.astype(int) - images).mean() for one in shifted]
    assert away[0] == 0 and (np.diff(away) > 0).all()
    assert all((one.targets == dataset.targets).all() and one.unit == "scenes" for one in shifted)
    again = corrupted(dataset, kind, 4)
    assert (again.groups == dataset.groups).all() and (again.images == shifted[4].images).all()


def test_corruptions_are_as_strong_as_they_say():
    flat = np.full((2, 64, 64, 3), 128, np.uint8)
    images = flat.copy()
    images[:, :, 32:] = 192
    noisy = corrupted(ArrayDataset(flat, None, list("ab")), "noise", 2).images / 255
    assert noisy.std() == pytest.approx(0.1, rel=0.05)
    part = ArrayDataset(images, None, list("ab"))
    assert np.ptp(corrupted(part, "contrast", 4).images) == pytest.approx(64 / 5, abs=1)
    dark = ArrayDataset(np.zeros((16, 32, 48, 3), np.uint8), None, list("ab") * 8)
    veil = corrupted(dark, "fog", 4).images / 255 / 0.9
    assert veil.mean() == pytest.approx(0.7, abs=0.1) and veil.std() > 0.05
    with pytest.raises(ValueError, match="no corruption 'rain': choose one of noise, blur, fog, contrast"):
        corrupted(part, "rain", 1)


def test_white_noise_has_a_flat_spectrum_and_a_blurred_picture_its_kernels():
    random = torch.Generator().manual_seed(0)
    noise, other = torch.randn(2, 8, 1, 128, 192, generator=random).expand(-1, -1, 3, -1, -1)
    power, coherence = spectrum(noise, other)
    assert power.shape == coherence.shape == (8, 5)
    assert power.mean(0) == pytest.approx(np.ones(5), abs=0.3) and np.abs(coherence.mean(0)).max() < 0.2
    kernel = torch.tensor([0.25, 0.5, 0.25])
    blurred = nn.functional.conv2d(
        noise.flatten(0, 1)[:, None], torch.outer(kernel, kernel)[None, None], padding=1
    )
    power, coherence = spectrum(blurred.view_as(noise), noise)
    across, down = torch.meshgrid(torch.fft.fftfreq(192), torch.fft.fftfreq(128), indexing="xy")
    transfer, radius = (torch.cos(np.pi * across) * torch.cos(np.pi * down)) ** 4, across.hypot(down)
    for octave, found in zip(range(5, 0, -1), power.mean(0), strict=True):
        inside = (radius >= 0.5 ** (octave + 1)) & (radius < 0.5**octave)
        assert found == pytest.approx(float(transfer[inside].mean()), rel=0.05)
    assert coherence[:, :4].min() > 0.95  # the kernel moves nothing
    power, coherence = spectrum(noise, noise)
    assert power == pytest.approx(np.ones((8, 5))) and coherence == pytest.approx(np.ones((8, 5)))
