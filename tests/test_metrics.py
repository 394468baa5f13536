import numpy as np
import pytest
import skimage.metrics
import sklearn.metrics
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from scipy.stats import t as student

from helpers import metrics
from helpers.metrics import ConfusionMatrix, bootstrap, iou_of, mean_iou_of, per_image_confusion

CLASSES = 5
ids = st.lists(st.integers(0, CLASSES - 1), min_size=1, max_size=60)


def pair(shape=(6, 9, 7), classes=CLASSES):
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(classes, shape, generator=generator) for _ in range(2)]


def confusion(prediction, target):
    return ConfusionMatrix(CLASSES).update(prediction, target).matrix


def interval(values, groups=None, **options):
    """``bootstrap`` of units that are images."""
    if groups is None:
        groups = np.arange(values.shape[1])
    return bootstrap(values, groups=groups, **options)


@given(ids, st.randoms(use_true_random=False))
def test_matrix_accuracy_and_iou_of_all_batches_agree_with_scikit_learn(target, random):
    prediction = [random.randrange(CLASSES) for _ in target]
    m = ConfusionMatrix(CLASSES)
    for batch in torch.tensor([prediction, target]).split(random.randint(1, 9), 1):
        m.update(*batch)
    theirs = sklearn.metrics.confusion_matrix(target, prediction, labels=range(CLASSES))
    np.testing.assert_array_equal(m.matrix, theirs)
    assert m.accuracy == pytest.approx(sklearn.metrics.accuracy_score(target, prediction))
    present = sorted({*target, *prediction})
    theirs = sklearn.metrics.jaccard_score(target, prediction, labels=present, average=None)
    iou = m.iou.numpy()
    np.testing.assert_allclose(iou[present], theirs)
    assert np.isnan(np.delete(iou, present)).all()
    assert m.mean_iou == pytest.approx(theirs.mean())


@pytest.mark.filterwarnings("ignore:invalid value")
def test_logits_count_as_their_largest_class_and_an_empty_update_changes_nothing():
    prediction, target = pair()
    logits = torch.nn.functional.one_hot(prediction, CLASSES).movedim(-1, 1).float()
    np.testing.assert_array_equal(confusion(logits, target), confusion(prediction, target))
    empty = ConfusionMatrix(CLASSES).update(prediction[:0], target[:0].byte())
    assert np.isnan([empty.accuracy, empty.mean_iou]).all()


@pytest.mark.parametrize("bad", [CLASSES, -1, 254])
def test_ids_out_of_range_are_an_error_and_never_a_wrong_count(bad):
    m = ConfusionMatrix(CLASSES).update(torch.tensor([1, 2]), torch.tensor([1, bad]))
    with pytest.raises(ValueError, match="1 predictions or targets lie outside 0 … 4"):
        _ = m.mean_iou


@pytest.mark.parametrize(
    "shape", [(2, CLASSES + 1, 4), (2, CLASSES, 5), (2, 4), (2, CLASSES, 4, 4)]
)
def test_shapes_that_do_not_fit_are_an_error(shape):
    with pytest.raises(ValueError) as caught:
        ConfusionMatrix(CLASSES).update(torch.rand(shape), torch.zeros(2, 4, dtype=int))
    assert f"{list(shape)} do not fit targets of shape [2, 4]: expected" in str(caught.value)


def test_update_never_copies_to_the_host():
    # The meta device holds no values: whatever has to look at one fails there.
    m = ConfusionMatrix(CLASSES)
    m.state = m.state.to("meta")
    target = torch.empty(2, 4, dtype=torch.uint8, device="meta")
    m.update(torch.empty(2, CLASSES, 4, device="meta"), target)
    assert m.state.device.type == "meta"


def test_confusions_of_images_add_up_to_the_whole_and_pixels_left_out_count_nowhere():
    prediction, target = pair()
    found = per_image_confusion(prediction.numpy(), target.numpy(), CLASSES)
    np.testing.assert_array_equal(found[5], confusion(prediction[5], target[5]))
    np.testing.assert_array_equal(found.sum(0), confusion(prediction, target))
    keep = torch.arange(9)[:, None].expand(target.shape) > 2
    found = per_image_confusion(prediction.numpy(), target.numpy(), CLASSES, keep=keep.numpy())
    np.testing.assert_array_equal(found.sum(0), confusion(prediction[keep], target[keep]))


def test_an_interval_of_each_class_is_that_of_the_class_alone():
    prediction, target = pair((30, 8, 8), CLASSES - 1)  # the last class never occurs
    matrices = per_image_confusion(prediction.numpy(), target.numpy(), CLASSES)[None]
    rows = interval(matrices, statistic=iou_of)
    assert rows.shape == (CLASSES, 3) and np.isnan(rows[-1]).all()
    np.testing.assert_array_equal(
        rows[2], interval(matrices, statistic=lambda m: iou_of(m)[..., 2])
    )
    whole = ConfusionMatrix(CLASSES).update(prediction, target)
    assert interval(matrices, statistic=mean_iou_of)[0] == pytest.approx(whole.mean_iou)


@pytest.mark.parametrize("seeds", [1, 3, 5])
def test_an_interval_covers_the_true_mean_as_often_as_it_says(seeds):
    random = np.random.default_rng(seeds)
    covered = []
    for repetition in range(400):
        spread = 0 if seeds == 1 else (0.1, 1.0)[repetition % 2]  # of the seeds, beside the units
        values = random.normal(0, spread, (seeds, 1)) + random.normal(0, 1, (1, 40))
        values = values + random.normal(0, 0.5, (seeds, 40))
        _, low, high = interval(values, resamples=400)
        covered.append(low <= 0 <= high)
    assert 0.92 <= np.mean(covered) <= 0.985  # 0.95 give or take three standard errors


def test_an_interval_over_seeds_alone_is_students_and_one_of_shares_stays_between_0_and_1():
    seeds = np.array([1.0, 2.0, 4.0])
    expected = student.interval(0.95, 2, seeds.mean(), seeds.std(ddof=1) / 3**0.5)
    assert interval(np.repeat(seeds[:, None], 50, 1))[1:] == pytest.approx(expected, abs=0.06)
    right = np.arange(100) < np.array([[95], [99], [100]])
    assert interval(right)[2] == 1


def test_groups_of_twins_give_the_interval_of_half_as_many_units():
    values = np.random.default_rng(0).normal(size=(1, 50))
    alone = interval(values)
    twins = np.repeat(values, 2, 1)
    assert interval(twins, np.repeat(np.arange(50), 2)) == pytest.approx(alone)
    assert np.diff(interval(twins)[1:]) < 0.8 * np.diff(alone[1:]), "too sure"


@pytest.mark.parametrize("right", [True, False])
def test_a_share_of_all_or_none_gets_wilsons_bound(right):
    answers = np.full((1, 300), right)
    expected = binomtest(300 * right, 300).proportion_ci(method="wilson")
    assert interval(answers)[1:] == pytest.approx(tuple(expected), abs=1e-3)
    assert np.diff(interval(answers, np.arange(300) // 2)[1:]) > 1.9 * np.diff(expected)
    exact = interval(answers.astype(float))  # a score that is reached exactly, no share
    assert exact[1:] == pytest.approx([float(right)] * 2)


def test_border_band_is_where_another_class_is_near_and_grows_with_the_image():
    target = np.zeros((1, 9, 9), np.uint8)
    target[:, :, 5:] = 3
    near = metrics.border_band(target, 2 / (9 * 2**0.5))
    assert near[0].any(0).tolist() == [False] * 3 + [True] * 4 + [False] * 2
    large = target.repeat(20, 1).repeat(20, 2)
    assert metrics.border_band(large).mean() == pytest.approx(2 * 0.015 * 2**0.5, rel=0.1)


def images():
    rng = np.random.default_rng(0)
    truth = rng.random((3, 3, 20, 24), dtype=np.float32)
    noise = rng.normal(0, 0.1, truth.shape).astype(np.float32)
    return torch.from_numpy(np.clip(truth + noise, 0, 1)), torch.from_numpy(truth)


def test_psnr_and_ssim_agree_with_scikit_image_image_by_image():
    found = metrics.colour_scores(*images())
    wang = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    for i, (one, other) in enumerate(zip(*images(), strict=True)):
        one, other = one.numpy(), other.numpy()
        ratio = skimage.metrics.peak_signal_noise_ratio(other, one, data_range=1)
        assert found["psnr"][i] == pytest.approx(ratio, rel=1e-5)
        ssim = skimage.metrics.structural_similarity
        theirs = ssim(other, one, channel_axis=0, data_range=1, **wang)
        assert found["ssim"][i] == pytest.approx(theirs)
    mean = metrics.MeanPSNR().update(*images())
    assert mean.psnr == pytest.approx(found["psnr"].mean()) and np.isnan(metrics.MeanPSNR().psnr)


def test_grey_has_no_colourfulness_and_its_value_is_hasler_and_suesstrunks():
    _, truth = images()
    assert metrics.colourfulness(truth[:, :1].expand(-1, 3, -1, -1)).abs().max() < 1e-4
    red, green, blue = (255 * truth[0].double().numpy()).reshape(3, -1)
    rg, yb = red - green, (red + green) / 2 - blue
    expected = np.hypot(rg.std(), yb.std()) + 0.3 * np.hypot(rg.mean(), yb.mean())
    assert float(metrics.colourfulness(truth)[0]) == pytest.approx(expected, rel=1e-4)


def test_gradient_energy_falls_with_blur_and_rises_with_noise_and_ab_error_ignores_lightness():
    _, truth = images()
    blurred = torch.nn.functional.avg_pool2d(truth, 3, 1, 1)
    assert metrics.gradient_energy(blurred, truth).max() < 0.5
    noise = torch.rand(truth.shape, generator=torch.Generator().manual_seed(0))
    assert metrics.gradient_energy(blurred + noise, blurred).min() > 1
    grey = truth.mean(1, keepdim=True).expand_as(truth) * 0.5
    scores = metrics.colour_scores(grey, torch.full_like(truth, 0.5))
    assert scores["ab_error"].max() < 0.1 < scores["ciede2000"].min()
