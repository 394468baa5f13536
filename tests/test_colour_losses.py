import numpy as np
import pytest
import skimage.color
import torch
from PIL import Image

from helpers import losses
from helpers.colour import ColourClasses, lab_to_rgb, put_lightness_back, rgb_to_grey, rgb_to_lab


def rgb(seed=0, n=2):
    return torch.rand(n, 3, 16, 12, generator=torch.Generator().manual_seed(seed))


def test_lab_agrees_with_scikit_image_and_comes_back():
    x = torch.cat([rgb(), torch.zeros(1, 3, 16, 12), torch.ones(1, 3, 16, 12), 0.03 * rgb(1, 1)])
    theirs = skimage.color.rgb2lab(x.permute(0, 2, 3, 1).double().numpy())
    np.testing.assert_allclose(rgb_to_lab(x).permute(0, 2, 3, 1), theirs, atol=2e-3)
    torch.testing.assert_close(lab_to_rgb(rgb_to_lab(x)), x, atol=2e-4, rtol=0)


def test_grey_is_pils():
    x = torch.randint(0, 256, (1, 3, 16, 12), dtype=torch.uint8)
    theirs = np.asarray(Image.fromarray(x[0].permute(1, 2, 0).numpy()).convert("L"), dtype=float)
    assert np.abs(rgb_to_grey(x.float())[0, 0].numpy() - theirs).max() <= 1


def test_lightness_put_back_gives_the_inputs_grey_and_keeps_the_colour_differences():
    prediction, grey = 0.4 + 0.2 * rgb(), 0.4 + 0.2 * rgb(1)[:, :1]
    out = put_lightness_back(prediction, grey)
    torch.testing.assert_close(rgb_to_grey(out), grey, atol=1e-6, rtol=0)
    torch.testing.assert_close(
        out - out.mean(1, keepdim=True), prediction - prediction.mean(1, keepdim=True), atol=1e-6, rtol=0
    )


def test_per_channel_cross_entropy_is_smallest_at_the_picture():
    truth = rgb().clamp(0.05, 0.95)
    logits = torch.logit(truth).requires_grad_()
    losses.channel_cross_entropy(logits, truth).backward()
    assert logits.grad.abs().max() < 1e-6


def test_literal_softmax_reading_cannot_see_brightness():
    truth, logits = rgb(), torch.randn(2, 3, 16, 12)
    brighter = losses.softmax_cross_entropy(logits + 5, truth)
    torch.testing.assert_close(brighter, losses.softmax_cross_entropy(logits, truth))


def test_a_colour_is_spread_over_its_five_nearest_cells_as_zhang_et_al_do():
    colours, truth = ColourClasses(), rgb()
    classes, shares = colours.encode(truth)
    ab = rgb_to_lab(truth)[:, 1:].movedim(1, -1)  # (N, H, W, 2)
    far = torch.cdist(ab.reshape(-1, 2), colours.centres).view(*ab.shape[:-1], -1)
    nearest = far.topk(5, largest=False)
    gauss = torch.exp(-(nearest.values**2) / (2 * 5**2))
    expected = torch.zeros_like(far).scatter_(-1, nearest.indices, gauss / gauss.sum(-1, keepdim=True))
    found = torch.zeros_like(far).scatter_(-1, classes, shares)
    assert (found - expected).abs().sum(-1).mean() < 0.1  # the table is one of whole numbers
    torch.testing.assert_close(shares.sum(-1), torch.ones_like(shares[..., 0]))
    assert (far.gather(-1, classes[..., :1]).squeeze(-1) - far.amin(-1)).max() < 1.5


def test_colour_classes_decode_to_the_nearest_colour():
    colours, truth = ColourClasses(), rgb()
    classes = colours.encode(truth)[0][..., 0]
    logits = 50 * torch.nn.functional.one_hot(classes, len(colours.centres)).movedim(-1, 1).float()
    error = rgb_to_lab(colours.decode(logits, rgb_to_grey(truth)))[:, 1:] - rgb_to_lab(truth)[:, 1:]
    assert error.norm(dim=1).mean() < 12


def test_soft_cross_entropy_is_torchs_and_weighs_by_the_nearest_class_alone():
    generator = torch.Generator().manual_seed(0)
    logits, weight = torch.randn(2, 7, 3, 4, generator=generator), torch.rand(7, generator=generator)
    classes = torch.rand(2, 3, 4, 7, generator=generator).argsort(-1)[..., :5]
    shares = torch.softmax(torch.randn(2, 3, 4, 5, generator=generator), -1)
    dense = torch.zeros(2, 3, 4, 7).scatter_(-1, classes, shares).movedim(-1, 1)
    each = torch.nn.functional.cross_entropy(logits, dense, reduction="none")
    expected = (each * weight[classes[..., 0]]).mean()
    torch.testing.assert_close(losses.soft_cross_entropy(logits, classes, shares, weight), expected)


def test_rebalancing_weighs_rare_colours_up_and_the_average_pixel_one():
    x = rgb()
    x[:, :, :12] = torch.tensor([0.2, 0.4, 0.8]).view(1, 3, 1, 1)
    colours = ColourClasses().rebalance([x[:1], x[1:]])
    nearest = colours.encode(x)[0][..., 0].flatten()
    share = torch.bincount(nearest, minlength=len(colours.centres)).double() / len(nearest)
    kernel = torch.exp(-(torch.cdist(colours.centres, colours.centres).double() ** 2) / (2 * 5**2))
    smooth = (kernel / kernel.sum(0)) @ share
    assert float((smooth * colours.weights).sum()) == pytest.approx(1, abs=1e-4)
    expected = 1 / (0.5 * smooth + 0.5 / len(share))
    torch.testing.assert_close(colours.weights / colours.weights.max(), (expected / expected.max()).float())
    assert colours.weights[share.argmax()] == colours.weights.min() < 0.8
