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


def test_colour_classes_cover_srgb_and_decode_to_the_nearest_colour():
    colours = ColourClasses()
    truth = rgb()
    classes = colours.encode(truth)
    assert classes.min() >= 0 and classes.max() < len(colours.centres)
    distance = (colours.centres[classes].movedim(-1, 1) - rgb_to_lab(truth)[:, 1:]).norm(dim=1)
    assert (
        distance.max() <= colours.step / 2**0.5 + 1
    )  # half a cell's diagonal; a little more at the gamut's rim
    logits = 50 * torch.nn.functional.one_hot(classes, len(colours.centres)).movedim(-1, 1).float()
    error = rgb_to_lab(colours.decode(logits, rgb_to_grey(truth)))[:, 1:] - rgb_to_lab(truth)[:, 1:]
    assert error.norm(dim=1).mean() < 12


def test_rebalancing_weighs_rare_colours_up_and_the_average_pixel_one():
    x = rgb()
    x[:, :, :12] = torch.tensor([0.2, 0.4, 0.8]).view(1, 3, 1, 1)
    colours = ColourClasses().rebalance(x)
    share = torch.bincount(colours.encode(x).flatten(), minlength=len(colours.centres)) / x[:, 0].numel()
    assert float((share * colours.weights).sum()) == pytest.approx(1, abs=1e-4)
    assert colours.weights[share.argmax()] == colours.weights.min() < 0.5
