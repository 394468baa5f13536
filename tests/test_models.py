from dataclasses import replace

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from torch import nn

from helpers.models import FCN, ResNet, ResNet18, UNet
from helpers.models.resnet import whitening_filters
from helpers.presets import Settings
from helpers.tasks import Classification, build
from tests.conftest import tiny_data
from tests.test_skips import trained

MODELS = {
    "resnet": lambda: ResNet18(5, width=4),
    "plain": lambda: ResNet18(5, width=4, skip=False),
    "fcn": lambda: FCN(5, width=4),
    "fcn16s": lambda: FCN(5, width=4, skip="16s"),
    "fcn8s": lambda: FCN(5, width=4, skip=True),
    "unet": lambda: UNet(3, 5, width=4),
}


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("depth", [18, 34])
@torch.no_grad()
def test_resnets_load_torchvision_weights_and_give_its_logits(depth, train):
    theirs = trained(getattr(torchvision.models, f"resnet{depth}")(num_classes=7))
    ours = ResNet18(7) if depth == 18 else ResNet((3, 4, 6, 3), 7)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    images = torch.randn(3, 3, 97, 75)
    expected = theirs.train(train)(images)
    torch.testing.assert_close(ours.train(train)(images), expected, atol=1e-5, rtol=1e-5)


def test_the_plain_network_has_no_shortcut_and_no_parameters_of_one():
    models = [MODELS["resnet"](), MODELS["plain"]()]
    extra = set(models[0].state_dict()) - set(models[1].state_dict())
    assert extra and all("downsample" in name for name in extra)
    for model, survives in zip(models, [True, False], strict=True):
        block = model.layer1[0].eval()
        nn.init.zeros_(block.bn2.weight)
        assert bool(block(torch.rand(1, 4, 8, 8)).any()) is survives


@torch.no_grad()
def test_a_unet_of_a_stride_gives_the_mean_of_the_full_answers():
    fine = MODELS["unet"]().eval()
    coarse = UNet(3, 5, width=4, stride=4).eval()
    coarse.load_state_dict(fine.state_dict())
    images = torch.randn(2, 3, 24, 20)
    expected = nn.functional.avg_pool2d(fine(images), 4)
    torch.testing.assert_close(coarse(images), expected, atol=1e-5, rtol=1e-5)
    assert coarse(images[:, :, :19, :17]).shape == (2, 5, 5, 5)


def test_unet_has_as_many_weights_as_the_papers():
    unet = UNet(1, 2)
    assert [block[3].out_channels for block in unet.down] == [64, 128, 256, 512]
    # The paper's network has 31 030 658 weights; ours has batch norm's scale for each 3×3's bias.
    norms = sum(m.num_features for m in unet.modules() if isinstance(m, nn.BatchNorm2d))
    assert sum(p.numel() for p in unet.parameters()) - norms == 31_030_658


@pytest.mark.parametrize("name", ["fcn", "fcn8s", "unet"])
@example(size=(600, 799))
@given(size=st.tuples(st.integers(16, 70), st.integers(16, 70)))
@settings(max_examples=15)
@torch.no_grad()
def test_images_of_any_size_come_back_at_their_own_size(name, size):
    assert MODELS[name]().eval()(torch.rand(1, 3, *size)).shape == (1, 5, *size)


@pytest.mark.parametrize(("skip", "finer"), [(False, []), ("16s", [1]), (True, [1, 0])])
@torch.no_grad()
def test_an_fcn_begins_as_the_32s_and_learns_to_add_scores_of_finer_maps(skip, finer):
    model = FCN(5, width=4, skip=skip).eval()
    torch.manual_seed(0)  # again, as before the line above
    plain = FCN(5, width=4).eval()
    weights = model.state_dict()
    assert all(torch.equal(weights[name], w) for name, w in plain.state_dict().items())
    assert not any(p.any() for p in model.score.parameters())

    images = torch.rand(2, 3, 100, 70)
    maps = plain.backbone.maps(images)
    expected = plain.head(maps[-1])  # 4×3
    for score, i in zip(model.score, finer, strict=True):
        nn.init.normal_(score.weight)
        expected = nn.functional.interpolate(expected, maps[i].shape[2:], mode="bilinear")
        expected += score(maps[i])
    expected = nn.functional.interpolate(expected, images.shape[2:], mode="bilinear")
    torch.testing.assert_close(model(images), expected)


@pytest.mark.parametrize(("make", "message"), [
    (lambda: ResNet((2, 2, 2), 5), r"blocks=\(2, 2, 2\): .*each of four stages"),
    (lambda: ResNet((1, 0, 1, 1), 5), r"blocks=\(1, 0, 1, 1\): .*each of four stages"),
    (lambda: UNet(3, 5, skip=[True, False, True]), "skip has 3 values"),
    (lambda: FCN(5, skip="8s"), r"skip='8s': give False \(32s\)"),
    (lambda: MODELS["unet"]()(torch.rand(1, 3, 15, 40)), "15×40: U-Net needs at least 16×16"),
])  # fmt: skip
def test_wrong_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_gets_a_gradient(name):
    model = MODELS[name]()
    model(torch.rand(2, 3, 64, 64)).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_whitening_filters_see_no_correlation_and_equal_variance():
    """Patches of smooth noise, whose neighbouring pixels are alike."""
    images = gaussian_filter(
        np.random.default_rng(0).normal(size=(40, 3, 64, 64)), (0, 0, 1.5, 1.5)
    )
    images = torch.as_tensor(images / images.std(), dtype=torch.float32)
    filters = whitening_filters(images, 1e-4)
    assert filters.shape == (147, 3, 7, 7)
    patches = images.unfold(2, 7, 8).unfold(3, 7, 8).movedim(1, 3).flatten(3).flatten(0, 2)
    seen = (patches @ filters.flatten(1).T).T.cov()[:16, :16]
    torch.testing.assert_close(seen, torch.eye(16), atol=0.02, rtol=0)
    # An oracle: the components of NumPy's singular value decomposition, up to their signs.
    centred = (patches - patches.mean(0)).double().numpy()
    components = np.linalg.svd(centred, full_matrices=False)[2][:4]
    ours = filters[:4].flatten(1).double().numpy()
    cosines = np.abs((components * ours).sum(1)) / np.linalg.norm(ours, axis=1)
    np.testing.assert_allclose(cosines, 1, atol=1e-3)


@pytest.mark.parametrize("width", [8, 5, 300])
def test_a_whitened_network_begins_with_filters_of_both_signs(width):
    data = tiny_data("birds")
    chosen = Settings((32, 32), width, 1, 8, 1e-3, whitening=1e-2)
    task = Classification(data, chosen)
    model = build(task, "resnet18")
    half = min((width + 1) // 2, len(task.filters))
    first = model.conv1.weight.detach()
    torch.testing.assert_close(first[:half], task.filters[:half])
    negative = first[half : 2 * half]
    torch.testing.assert_close(negative, -task.filters[: len(negative)])
    plain = build(Classification(data, replace(chosen, whitening=0.0)), "resnet18")
    for (name, one), other in zip(
        model.state_dict().items(), plain.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other) == (name != "conv1.weight"), name
