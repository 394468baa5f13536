"""Each experiment of helpers.skips against an oracle that knows the answer without it."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from helpers import skips
from helpers.data.batches import ArrayDataset
from helpers.metrics import mean_iou_of
from helpers.models import ResNet, UNet


def trained(model):
    """The network, in evaluation mode, its batch norms not at their initial 0 and 1."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return model.eval()


@torch.no_grad()
def test_a_residual_block_that_adds_nothing_can_be_taken_out_and_nothing_changes():
    model = trained(ResNet((1, 2, 1, 1), 5, width=4))
    images = torch.rand(2, 3, 50, 34)
    for number, block in enumerate([model.layer1[0], *model.layer2]):
        cuts = [skips.without_blocks(model, gone) for gone in ([], [number], [number])]
        whole, cut, again = skips.lesions(lambda damaged: damaged(images), cuts)
        assert (whole != cut).any() and (cut == again).all()
        nn.init.zeros_(block.bn2.weight)
        nn.init.zeros_(block.bn2.bias)
        before = model(images)
        with skips.without_blocks(model, [number]):
            torch.testing.assert_close(model(images), before)


@torch.no_grad()
def test_a_plain_block_taken_out_passes_every_second_pixel_on_and_zeros_beside():
    model = trained(ResNet((1, 1, 1, 1), 5, width=4, skip=False))
    x = torch.rand(2, 4, 9, 7)
    with skips.without_blocks(model, [0, 1]):
        torch.testing.assert_close(model.layer1(x), x)
        out = model.layer2(x)
    assert torch.equal(out[:, :4], x[:, :, ::2, ::2]) and not out[:, 4:].any()
    assert model.layer2(x).shape == out.shape and not torch.equal(model.layer2(x), out)


silenced = partial(skips.without_skips, means=[torch.ones(c) for c in (4, 8, 16, 32)])


@pytest.mark.parametrize(("model", "without", "count"), [
    (ResNet((1, 2, 1, 1), 5, width=4), skips.without_blocks, 5),
    (UNet(3, 5, width=4), silenced, 4),
    (UNet(3, 5, width=4, skip=[True, True, True, False]), silenced, 3),
])  # fmt: skip
def test_cuts_leave_no_trace_and_those_of_what_is_not_there_are_refused(model, without, count):
    state = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(KeyboardInterrupt), without(model, range(count)):
        raise KeyboardInterrupt
    for number in (-1, count):
        message = f"no (block|skip at level) {number}: this "
        with pytest.raises(ValueError, match=message), without(model, [0, number]):
            pass
    assert model.training
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@torch.no_grad()
def test_skip_means_are_those_of_the_maps_and_all_that_skips_of_one_flat_colour_carry():
    model = trained(UNet(3, 5, width=4)).train()
    x = images = torch.rand(5, 3, 32, 48)
    means = skips.skip_means(model, images.split(2))  # whatever the batches
    for block, mean in zip(model.eval().down, means, strict=True):
        x = block(x)
        torch.testing.assert_close(mean, x.mean((0, 2, 3)))
        x = nn.functional.max_pool2d(x, 2)
    for module in model.down.modules():  # maps that do not depend on the place
        if isinstance(module, nn.Conv2d):
            nn.init.zeros_(module.weight)
    before = model(images)
    with skips.without_skips(model, range(4), skips.skip_means(model, images.split(2))):
        torch.testing.assert_close(model(images), before)


@pytest.mark.parametrize("skip", [True, False, *torch.eye(4).bool().tolist()])
@torch.no_grad()
def test_a_skip_carries_its_own_level_past_the_bottleneck_unless_it_is_switched_off(skip):
    model = trained(UNet(3, 5, width=8, skip=skip))
    images = torch.rand(1, 3, 48, 64)

    def heard():
        return [skips.passes_bottleneck(model, images, level) > 0 for level in range(4)]

    assert heard() == list(model.skip)
    off = np.flatnonzero(model.skip)[::2]
    with skips.without_skips(model, off, skips.skip_means(model, [images])):
        assert heard() == [on and level not in off for level, on in enumerate(model.skip)]


class AnotherUNet(nn.Module):
    """A U-Net of one level with names of its own, its skip taken before or after the pooling."""

    def __init__(self, before):
        super().__init__()
        self.before = before
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.middle = nn.Conv2d(4, 4, 3, padding=1)
        self.enlarge = nn.ConvTranspose2d(4, 4, 2, stride=2)
        self.last = nn.Conv2d(8, 5, 3, padding=1)

    def forward(self, x):
        wide = torch.relu(self.first(x))
        small = nn.functional.max_pool2d(wide, 2)
        beside = wide
        if not self.before:
            beside = nn.functional.interpolate(small, scale_factor=2)
        return self.last(torch.cat([self.enlarge(self.middle(small)), beside], 1))


def test_a_skip_that_leaves_after_the_pooling_is_told_from_one_that_leaves_before_it():
    images = torch.rand(2, 3, 16, 16)
    assert skips.passes_bottleneck(AnotherUNet(before=True), images, 0) > 0.9
    assert skips.passes_bottleneck(AnotherUNet(before=False), images, 0) == 0
    with pytest.raises(ValueError, match="no map of 8 rows above the bottleneck, at level 1"):
        skips.passes_bottleneck(AnotherUNet(before=True), images, 1)


def test_what_needs_our_networks_says_so_of_others():
    other = AnotherUNet(before=True)
    with pytest.raises(ValueError, match=r"build it of helpers\.models\.resnet\.BasicBlock"):
        skips.lesions(len, [skips.without_blocks(other, [0])])
    with pytest.raises(ValueError, match=r"inherit from helpers\.models\.UNet"):
        skips.skip_means(other, [torch.rand(1, 3, 16, 16)])


class Waves(nn.Flatten):
    def forward(self, x):
        return super().forward(torch.sin(40 * x))


def test_gradients_of_a_linear_network_are_all_alike_and_those_of_sines_are_not():
    starts, ends = torch.randn(2, 4, 3, 8, 8)
    norm = nn.BatchNorm2d(2)
    linear = nn.Sequential(nn.Conv2d(3, 2, 3), norm, nn.Flatten(), nn.Linear(72, 5))
    assert skips.gradient_correlation(linear, starts, ends) == pytest.approx(np.ones(4), abs=1e-5)
    assert norm.num_batches_tracked == 0, "a copy takes the statistics"
    assert np.abs(skips.gradient_correlation(Waves(), starts, ends)).max() < 0.3


def test_a_landscape_has_the_trained_loss_in_its_middle_and_a_quadratic_one_is_symmetric():
    model = nn.Linear(6, 3)
    inputs = torch.eye(6)  # so that the loss is the squared way that the weights went
    before = model.weight.detach().clone()
    loss = nn.MSELoss(reduction="sum")
    surface = skips.loss_landscape(model, loss, inputs, model(inputs).detach(), reach=0.5, steps=5)
    assert surface[2, 2] == surface.min() == 0
    np.testing.assert_allclose(surface, surface[::-1, ::-1], atol=1e-5)
    length = float(before.square().sum())  # filter by filter, directions are as long as the weights
    assert surface[[2, 4], [4, 2]] == pytest.approx(0.25 * length, rel=1e-4)
    assert torch.equal(model.weight, before)


def test_the_truth_is_crisp_at_every_distance_and_an_error_is_seen_from_its_distance_on():
    truth = np.zeros((2, 40, 40), int)
    truth[:, :, 20:] = 1
    wrong = truth.copy()
    wrong[0, 7, 20 + 4] = 2  # the fifth pixel from the border
    seen = skips.crispness_by_distance(wrong, truth, 3)
    for d, matrices in skips.crispness_by_distance(truth, truth, 3).items():
        assert matrices.sum() == 2 * 40 * 2 * d and mean_iou_of(matrices.sum(0)) == 1
        assert (mean_iou_of(seen[d].sum(0)) < 1) == (d >= 5)


@pytest.mark.parametrize("kind", skips.CORRUPTIONS)
def test_a_corruption_grows_from_nothing_and_leaves_the_truth_as_it_is(kind):
    images = np.random.default_rng(0).integers(0, 256, (3, 72, 96, 3), dtype=np.uint8)
    dataset = ArrayDataset(images, np.arange(3), list("abc"), groups=[4, 4, 5], unit="scenes")
    shifted = [skips.corrupted(dataset, kind, strength) for strength in (0, 1, 2, 3, 4, 4)]
    away = [np.abs(one.images.astype(int) - images).mean() for one in shifted]
    assert away[0] == 0 and (np.diff(away[:5]) > 0).all() and away[4] == away[5]
    for name in ("targets", "names", "groups", "unit"):
        assert np.array_equal(getattr(shifted[4], name), getattr(dataset, name))


def test_corruptions_are_as_strong_as_they_say():
    def corrupted(grey, kind, strength):
        images = np.full((16, 64, 64, 3), grey, np.uint8)
        images[:, 32:] += 64
        return skips.corrupted(ArrayDataset(images, None, list("ab") * 8), kind, strength).images

    assert corrupted(128, "noise", 2)[:, :32].std() == pytest.approx(25.5, rel=0.05)
    assert np.ptp(corrupted(128, "contrast", 4)) == pytest.approx(64 / 5, abs=1)
    veil = corrupted(0, "fog", 4)[:, :32] / 255 / 0.9
    assert veil.mean() == pytest.approx(0.7, abs=0.1) and veil.std() > 0.05
    with pytest.raises(ValueError, match="no corruption 'rain': choose one of noise, blur, fog, "):
        corrupted(0, "rain", 1)


def test_white_noise_has_a_flat_spectrum_and_a_blurred_image_its_kernels():
    random = torch.Generator().manual_seed(0)
    noise, other = torch.randn(2, 8, 1, 128, 192, generator=random).expand(-1, -1, 3, -1, -1)
    kernels = torch.tensor([[1, 2, 1], [2, 4, 2], [1, 2, 1]]).div(16).expand(3, 1, 3, 3)
    blurred = nn.functional.conv2d(noise, kernels, padding=1, groups=3)

    assert np.stack(skips.spectrum(noise, noise)) == pytest.approx(np.ones((2, 8, 5)), abs=1e-5)
    power, coherence = skips.spectrum(other, noise)
    assert power.mean(0) == pytest.approx(np.ones(5), abs=0.3)
    assert np.abs(coherence.mean(0)).max() < 0.2

    power, coherence = skips.spectrum(blurred, noise)
    down, across = torch.fft.fftfreq(128)[:, None], torch.fft.fftfreq(192)
    transfer = (torch.cos(np.pi * across) * torch.cos(np.pi * down)) ** 4
    octave = -torch.log2(across.hypot(down)).ceil()
    expected = [float(transfer[octave == number].mean()) for number in (5, 4, 3, 2, 1)]
    assert power.mean(0) == pytest.approx(expected, rel=0.05)
    assert coherence[:, :4].min() > 0.95  # the kernel moves nothing
