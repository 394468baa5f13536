"""Each experiment of helpers.skips against an oracle that knows the answer without it."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from helpers import VOID, shortcuts, skips
from helpers.data.batches import ArrayDataset
from helpers.engine.identity import describe_run, digest
from helpers.metrics import mean_iou_of
from helpers.models import ResNet, UNet
from helpers.presets import Settings
from helpers.tasks import Segmentation, build
from helpers.training import CODE, evaluate, fit, predict
from tests.conftest import tiny_data

SETTINGS = Settings((32, 32), 4, 2, 6, 1e-2, augment=0.5, balance=0.5)


def trained(model):
    """The network, in evaluation mode, its batch norms not at their initial 0 and 1."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return model.eval()


silenced = partial(skips.without_skips, means=[torch.ones(c) for c in (4, 8, 16, 32)])


def doubled(model, levels):
    return skips.scaled_skips(model, dict.fromkeys(levels, 2))


@pytest.mark.parametrize(("model", "without", "count"), [
    (ResNet((1, 2, 1, 1), 5, width=4), shortcuts.without_blocks, 5),
    (UNet(3, 5, width=4), silenced, 4),
    (UNet(3, 5, width=4, skip=[True, True, True, False]), silenced, 3),
    (UNet(3, 5, width=4, skip=[True, True, True, False]), doubled, 3),
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


@torch.no_grad()
def test_a_scaled_skip_does_what_scaled_weights_of_its_channels_do():
    model = trained(UNet(3, 5, width=4, skip=[True, True, False, True]))
    images = torch.rand(2, 3, 32, 48)
    before = model(images)
    with skips.scaled_skips(model, {0: 1, 1: 1, 3: 1}):
        assert torch.equal(model(images), before)
    zeros = [torch.zeros(c) for c in (4, 8, 16, 32)]
    with skips.scaled_skips(model, {0: 0, 3: 0}), skips.without_skips(model, [1], zeros):
        silent = model(images)
    with skips.without_skips(model, [0, 1, 3], zeros):
        assert torch.equal(model(images), silent)
    with skips.scaled_skips(model, {0: 0.25, 1: 1.5, 3: 0}):
        scaled = model(images)
    for level, factor in ((0, 0.25), (1, 1.5), (3, 0)):
        model.up[level][0].weight[:, : 4 * 2**level] *= factor
    torch.testing.assert_close(model(images), scaled)


class Wire(nn.Conv2d):
    """From the input to the output, through nothing."""

    def __init__(self, channels):
        super().__init__(channels, channels, 1, bias=False)
        nn.init.dirac_(self.weight)


def test_a_wire_passes_the_copy_test_and_void_is_no_class():
    data = tiny_data("streets")
    data.test.targets[:, 8:16] = VOID
    task = skips.CopyTest(data, SETTINGS)
    assert evaluate(Wire(3), task, data.test)["mean_iou"] == 1
    seen, truth = task.sample(data.test, 4)
    assert torch.equal(seen.sum(1), (truth != VOID).float())
    assert torch.equal(
        predict(Wire(3), task, data.test)[:, :8], torch.tensor(data.test.targets[:, :8])
    )


def test_the_copy_test_trains_networks_that_segmentation_makes_as_runs_of_their_own():
    data = tiny_data("streets")
    runs = set()
    for kind in (skips.CopyTest, Segmentation):
        task = kind(data, SETTINGS)
        model = build(task, {"skip": (False, True, True, True)})
        run = describe_run(model, task, data.train, data.valid, "no", CODE)
        runs.add(digest(run))
        rows = list(fit(model, task, data, log=lambda line: None))
        assert len(rows) == SETTINGS.epochs
    assert len(runs) == 2


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
    images = torch.rand(1, 3, 16, 16)
    for experiment in (
        lambda: skips.lesions(len, [shortcuts.without_blocks(other, [0])]),
        lambda: shortcuts.dirac_start(other),
        lambda: shortcuts.block_alignment(other, nn.MSELoss(), images, images),
    ):
        with pytest.raises(ValueError, match=r"build it of helpers\.models\.resnet\.BasicBlock"):
            experiment()
    for experiment in (
        lambda: skips.skip_means(other, [images]),
        lambda: skips.lesions(len, [skips.without_skips(other, [0], [0])]),
        lambda: skips.lesions(len, [skips.scaled_skips(other, {0: 1})]),
    ):
        with pytest.raises(ValueError, match=r"inherit from helpers\.models\.UNet"):
            experiment()


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
