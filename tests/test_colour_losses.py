import numpy as np
import pytest
import skimage.color
import torch
from PIL import Image
from sklearn.metrics import f1_score

from helpers import losses
from helpers.colour import ColourClasses, lab_to_rgb, put_lightness_back, rgb_to_grey, rgb_to_lab
from helpers.metrics import colourfulness


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
    colours, truth = ColourClasses(stride=1), rgb()
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
    colours, truth = ColourClasses(stride=1), rgb()
    classes = colours.encode(truth)[0][..., 0]
    logits = 50 * torch.nn.functional.one_hot(classes, len(colours.centres)).movedim(-1, 1).float()
    error = rgb_to_lab(colours.decode(logits, rgb_to_grey(truth)))[:, 1:] - rgb_to_lab(truth)[:, 1:]
    assert error.norm(dim=1).mean() < 12


def test_colours_of_squares_are_those_of_their_mean_and_come_back_at_full_size():
    squares = rgb()[:, :, ::4, ::4].repeat_interleave(4, -2).repeat_interleave(4, -1)
    coarse, fine = ColourClasses(stride=4), ColourClasses(stride=1)
    for one, other in zip(coarse.encode(squares), fine.encode(squares), strict=True):
        assert torch.equal(one, other[:, ::4, ::4])
    odd = squares[:, :, :13, :11]
    classes = coarse.encode(odd)[0]
    assert classes.shape == (2, 4, 3, 5)
    logits = torch.zeros(2, len(coarse.centres), 4, 3)
    assert coarse.decode(logits, rgb_to_grey(odd)).shape == odd.shape


def test_a_lower_temperature_is_more_vivid():
    colours, truth = ColourClasses(), rgb()
    logits = torch.randn(2, len(colours.centres), 4, 3, generator=torch.Generator().manual_seed(0))
    vivid = [colourfulness(colours.decode(logits, rgb_to_grey(truth), t)).mean() for t in (1, 0.38, 0.1)]
    assert vivid == sorted(vivid)


def test_balanced_classes_weigh_one_on_average_and_rare_ones_more():
    counts = [900, 90, 10, 0]
    assert losses.balance(counts, 0).tolist() == [1, 1, 1, 0]
    even = losses.balance(counts, 1)
    torch.testing.assert_close(even * torch.tensor([0.9, 0.09, 0.01, 0]), torch.tensor([1, 1, 1, 0]) / 3)
    root = losses.balance(counts, 0.5)
    assert float(root[1] / root[0]) == pytest.approx(10**0.5, rel=1e-5) and root[3] == 0


def test_weighed_cross_entropy_is_torchs_sum_over_the_number_of_pixels():
    logits, target = torch.randn(2, 4, 5, 6), torch.randint(0, 4, (2, 5, 6))
    weight = torch.rand(4)
    how = {"weight": weight, "label_smoothing": 0.1}
    theirs = torch.nn.functional.cross_entropy(logits, target, reduction="none", label_smoothing=0.1)
    ours = losses.class_cross_entropy(logits, target.byte(), **how)
    torch.testing.assert_close(ours, (theirs * weight[target]).mean())


def test_dice_of_sure_answers_is_one_minus_scikit_learns_f1_over_the_classes_that_occur():
    random = np.random.default_rng(0)
    target, answer = random.integers(0, 4, (2, 3, 80, 90))  # class 4 of 5 occurs nowhere
    logits = 50 * torch.nn.functional.one_hot(torch.from_numpy(answer), 5).movedim(-1, 1).float()
    expected = 1 - f1_score(target.ravel(), answer.ravel(), average="macro")
    assert float(losses.soft_dice(logits, torch.from_numpy(target))) == pytest.approx(expected, abs=1e-3)


def test_soft_cross_entropy_is_torchs():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 7, 3, 4, generator=generator)
    classes = torch.rand(2, 3, 4, 7, generator=generator).argsort(-1)[..., :5]
    shares = torch.softmax(torch.randn(2, 3, 4, 5, generator=generator), -1)
    dense = torch.zeros(2, 3, 4, 7).scatter_(-1, classes, shares).movedim(-1, 1)
    expected = torch.nn.functional.cross_entropy(logits, dense, reduction="none").mean()
    torch.testing.assert_close(losses.soft_cross_entropy(logits, classes, shares), expected)


def test_raising_rare_colours_is_the_posterior_under_another_prior():
    colours, grey = ColourClasses(stride=1).rebalance([rgb()]), torch.full((1, 1, 2, 3), 0.6)
    prior = 1 / colours.weights  # as if the network had learnt this prior and a picture that tells nothing
    logits = (prior / prior.sum()).log()[None, :, None, None].expand(-1, -1, 2, 3)
    found = colours.decode(logits, grey, temperature=1.0, rarity=1.0)
    torch.testing.assert_close(found, colours.decode(torch.zeros_like(logits), grey, temperature=1.0))


def test_rebalancing_weighs_rare_colours_up_and_the_average_pixel_one():
    x = rgb()
    x[:, :, :12] = torch.tensor([0.2, 0.4, 0.8]).view(1, 3, 1, 1)
    colours = ColourClasses(stride=1).rebalance([x[:1], x[1:]])
    nearest = colours.encode(x)[0][..., 0].flatten()
    share = torch.bincount(nearest, minlength=len(colours.centres)).double() / len(nearest)
    kernel = torch.exp(-(torch.cdist(colours.centres, colours.centres).double() ** 2) / (2 * 5**2))
    smooth = (kernel / kernel.sum(0)) @ share
    assert float((smooth * colours.weights).sum()) == pytest.approx(1, abs=1e-4)
    expected = 1 / (0.5 * smooth + 0.5 / len(share))
    torch.testing.assert_close(colours.weights / colours.weights.max(), (expected / expected.max()).float())
    assert colours.weights[share.argmax()] == colours.weights.min() < 0.8
