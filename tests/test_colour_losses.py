import numpy as np
import pytest
import skimage.color
import torch
import torch.nn.functional as F
from PIL import Image
from sklearn.metrics import f1_score

from helpers import losses
from helpers.colour import ColourClasses, lab_to_rgb, put_lightness_back, rgb_to_grey, rgb_to_lab
from helpers.metrics import colourfulness


def rgb(seed=0, n=2):
    return torch.rand(n, 3, 16, 12, generator=torch.Generator().manual_seed(seed))


def test_lab_agrees_with_scikit_image_and_comes_back_and_grey_is_pils():
    x = torch.cat([rgb(), torch.zeros(1, 3, 16, 12), torch.ones(1, 3, 16, 12), 0.03 * rgb(1, 1)])
    theirs = skimage.color.rgb2lab(x.double().numpy(), channel_axis=1)
    np.testing.assert_allclose(rgb_to_lab(x), theirs, atol=2e-3)
    torch.testing.assert_close(lab_to_rgb(rgb_to_lab(x)), x, atol=2e-4, rtol=0)
    pil = Image.fromarray((255 * x[0]).byte().permute(1, 2, 0).numpy()).convert("L")
    assert (255 * rgb_to_grey(x)[0, 0] - torch.tensor(np.array(pil))).abs().max() <= 1.5


def test_lightness_put_back_gives_the_inputs_grey_and_keeps_the_colour_differences():
    prediction = 0.4 + 0.2 * rgb()
    grey = 0.4 + 0.2 * rgb(1)[:, :1]
    out = put_lightness_back(prediction, grey)
    torch.testing.assert_close(rgb_to_grey(out), grey, atol=1e-6, rtol=0)
    torch.testing.assert_close(out.diff(dim=1), prediction.diff(dim=1), atol=1e-6, rtol=0)


def test_per_channel_cross_entropy_is_smallest_at_the_image_and_softmax_cannot_see_brightness():
    truth = rgb().clamp(0.05, 0.95)
    logits = torch.logit(truth).requires_grad_()
    losses.channel_cross_entropy(logits, truth).backward()
    assert logits.grad.abs().max() < 1e-6
    brighter = losses.softmax_cross_entropy(logits + 5, truth)
    torch.testing.assert_close(brighter, losses.softmax_cross_entropy(logits, truth))


def test_a_colour_is_spread_over_its_five_nearest_cells_as_zhang_et_al_do():
    colours = ColourClasses(stride=1)
    assert len(colours.centres) == 259
    # Colours are looked up on a grid of whole a and b, so these are on it.
    ab = rgb_to_lab(rgb())[:, 1:].round().movedim(1, -1)  # (N, H, W, 2)
    far = torch.cdist(ab.reshape(-1, 2), colours.centres).view(*ab.shape[:-1], -1)
    nearest = far.topk(5, largest=False)
    gauss = torch.exp(-(nearest.values**2) / (2 * 5**2))
    gauss = gauss / gauss.sum(-1, keepdim=True)
    classes, shares = colours.encode(rgb())
    expected = torch.zeros_like(far).scatter_(-1, nearest.indices, gauss)
    found = torch.zeros_like(far).scatter_(-1, classes, shares)
    assert (found - expected).abs().sum(-1).median() < 1e-3  # two cells may be equally far
    torch.testing.assert_close(far.gather(-1, classes), nearest.values, atol=1e-2, rtol=0)


def test_colour_classes_decode_to_the_nearest_colour_and_colder_ones_are_more_vivid():
    colours = ColourClasses(stride=1)
    grey = rgb_to_grey(rgb())
    classes = colours.encode(rgb())[0][..., 0]
    logits = 50 * F.one_hot(classes, len(colours.centres)).movedim(-1, 1).float()
    error = rgb_to_lab(colours.decode(logits, grey, 0.38, 0))[:, 1:] - rgb_to_lab(rgb())[:, 1:]
    assert error.norm(dim=1).mean() < 12
    logits = torch.randn(logits.shape)
    vivid = [colourfulness(colours.decode(logits, grey, t, 0)).mean() for t in (1, 0.38, 0.1)]
    assert vivid == sorted(vivid)


def test_colours_of_squares_are_those_of_their_mean_and_come_back_at_full_size():
    squares = rgb()[:, :, ::4, ::4].repeat_interleave(4, -2).repeat_interleave(4, -1)
    coarse = ColourClasses(stride=4)
    for one, other in zip(coarse.encode(squares), ColourClasses(1).encode(squares), strict=True):
        assert torch.equal(one, other[:, ::4, ::4])
    odd = squares[:, :, :13, :11]
    assert coarse.encode(odd)[0].shape == (2, 4, 3, 5)
    logits = torch.zeros(2, len(coarse.centres), 4, 3)
    assert coarse.decode(logits, rgb_to_grey(odd), 0.38, 0).shape == odd.shape


def test_raising_rare_colours_is_the_posterior_under_another_prior():
    colours = ColourClasses(stride=1).rebalance([rgb()])
    grey = torch.full((1, 1, 2, 3), 0.6)
    prior = 1 / colours.weights  # as if the network had learnt this, and the image tells nothing
    logits = (prior / prior.sum()).log()[None, :, None, None].expand(-1, -1, 2, 3)
    expected = colours.decode(torch.zeros_like(logits), grey, 1.0, 0.0)
    torch.testing.assert_close(colours.decode(logits, grey, 1.0, 1.0), expected)


def test_rebalancing_weighs_rare_colours_up_and_the_average_pixel_one():
    x = rgb()
    x[:, :, :12] = torch.tensor([0.2, 0.4, 0.8]).view(3, 1, 1)
    colours = ColourClasses(stride=1).rebalance([x[:1], x[1:]])
    nearest = colours.encode(x)[0][..., 0].flatten()
    share = torch.bincount(nearest, minlength=len(colours.centres)).double() / len(nearest)
    kernel = torch.exp(-(torch.cdist(colours.centres, colours.centres).double() ** 2) / 50)
    smooth = (kernel / kernel.sum(0)) @ share
    expected = 1 / (0.5 * smooth + 0.5 / len(share))
    expected = expected / (smooth * expected).sum()
    torch.testing.assert_close(colours.weights, expected.float(), rtol=1e-4, atol=0)
    assert colours.weights[share.argmax()] == colours.weights.min() < 0.8


def test_balanced_classes_weigh_one_on_average_and_rare_ones_more():
    counts = [900, 90, 10, 0]
    assert losses.balance(counts, 0).tolist() == [1, 1, 1, 0]
    even = losses.balance(counts, 1) * torch.tensor([0.9, 0.09, 0.01, 0])
    torch.testing.assert_close(even, torch.tensor([1, 1, 1, 0]) / 3)
    root = losses.balance(counts, 0.5)
    assert float(root[1] / root[0]) == pytest.approx(10**0.5, rel=1e-5) and root[3] == 0


def test_cross_entropy_with_soft_targets_is_torchs():
    logits = torch.randn(2, 7, 3, 4)
    classes = torch.rand(2, 3, 4, 7).argsort(-1)[..., :5]
    shares = torch.softmax(torch.randn(2, 3, 4, 5), -1)
    dense = torch.zeros(2, 3, 4, 7).scatter_(-1, classes, shares).movedim(-1, 1)
    expected = F.cross_entropy(logits, dense, reduction="none").mean()
    torch.testing.assert_close(losses.soft_cross_entropy(logits, classes, shares), expected)


def test_dice_of_sure_answers_is_one_minus_scikit_learns_f1_over_the_classes_that_occur():
    random = np.random.default_rng(0)
    target, answer = random.integers(0, 4, (2, 3, 80, 90))  # class 4 of 5 occurs nowhere
    logits = 50 * F.one_hot(torch.from_numpy(answer), 5).movedim(-1, 1).float()
    expected = 1 - f1_score(target.ravel(), answer.ravel(), average="macro")
    found = losses.soft_dice(logits, torch.from_numpy(target))
    assert float(found) == pytest.approx(expected, abs=1e-3)
