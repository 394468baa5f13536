import numpy as np
import pytest
import skimage.metrics
import sklearn.metrics
import torch
import torchmetrics.classification
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from scipy.stats import t as student

from helpers import metrics
from helpers.metrics import ConfusionMatrix

CLASSES = 5
ids = st.lists(st.integers(0, CLASSES - 1), min_size=1, max_size=60)


def pair(seed=0, shape=(6, 9, 7), classes=CLASSES):
    generator = torch.Generator().manual_seed(seed)
    return (torch.randint(classes, shape, generator=generator) for _ in range(2))


@given(ids, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_matrix_accuracy_and_iou_agree_with_scikit_learn(target, random):
    prediction = [random.randrange(CLASSES) for _ in target]
    m = ConfusionMatrix(CLASSES).update(torch.tensor(prediction), torch.tensor(target))
    np.testing.assert_array_equal(
        m.matrix, sklearn.metrics.confusion_matrix(target, prediction, labels=range(CLASSES))
    )
    assert m.accuracy == pytest.approx(sklearn.metrics.accuracy_score(target, prediction))
    present = sorted({*target, *prediction})
    theirs = sklearn.metrics.jaccard_score(target, prediction, labels=present, average=None)
    np.testing.assert_allclose(m.iou[present], theirs)
    assert m.iou[[c for c in range(CLASSES) if c not in present]].isnan().all()
    assert m.mean_iou == pytest.approx(theirs.mean())


def test_mean_iou_agrees_with_torchmetrics():
    prediction, target = pair()
    theirs = torchmetrics.classification.MulticlassJaccardIndex(CLASSES, average="macro")
    assert ConfusionMatrix(CLASSES).update(prediction, target).mean_iou == pytest.approx(
        float(theirs(prediction, target))
    )


@given(st.permutations(range(6)), st.integers(1, 6))
@settings(deadline=None, max_examples=20)
def test_scores_do_not_depend_on_batch_size_or_order(order, batch):
    prediction, target = pair()
    whole, parts = ConfusionMatrix(CLASSES).update(prediction, target), ConfusionMatrix(CLASSES)
    for indices in torch.tensor(order).split(batch):
        parts.update(prediction[indices], target[indices])
    assert torch.equal(whole.matrix, parts.matrix)


def test_logits_count_as_their_largest_class():
    prediction, target = pair()
    logits = torch.nn.functional.one_hot(prediction, CLASSES).movedim(-1, 1).float()
    assert torch.equal(
        ConfusionMatrix(CLASSES).update(logits, target).matrix,
        ConfusionMatrix(CLASSES).update(prediction, target).matrix,
    )


def test_pixels_left_out_count_nowhere():
    prediction, target = pair()
    keep = torch.ones_like(target, dtype=bool)
    keep[:, :3] = False
    found = metrics.per_image_confusion(prediction, target, CLASSES, keep=keep).sum(0)
    whole = ConfusionMatrix(CLASSES).update(prediction[keep], target[keep])
    np.testing.assert_array_equal(found, whole.matrix)


def test_an_interval_of_each_class_is_that_of_the_class_alone():
    prediction, target = pair(shape=(30, 8, 8), classes=CLASSES - 1)  # the last class never occurs
    matrices = metrics.per_image_confusion(prediction, target, CLASSES)
    rows = metrics.bootstrap(matrices[None], metrics.iou_of)
    assert rows.shape == (CLASSES, 3) and np.isnan(rows[-1]).all()
    for c in range(CLASSES - 1):
        assert tuple(rows[c]) == metrics.bootstrap(matrices[None], lambda m, c=c: metrics.iou_of(m)[..., c])


def test_empty_updates_change_nothing_and_give_nan():
    m = ConfusionMatrix(CLASSES).update(torch.zeros(0, 4, dtype=int), torch.zeros(0, 4, dtype=int))
    assert np.isnan([m.accuracy, m.mean_iou]).all() and m.iou.isnan().all()


@pytest.mark.parametrize("bad", [CLASSES, -1, 255])
def test_ids_out_of_range_are_an_error_and_never_a_wrong_count(bad):
    m = ConfusionMatrix(CLASSES).update(torch.tensor([1, 2]), torch.tensor([1, bad]))
    with pytest.raises(ValueError, match="1 predictions or targets lie outside 0 … 4"):
        _ = m.mean_iou


@pytest.mark.parametrize("shape", [(2, CLASSES + 1, 4), (2, 4), (2, CLASSES, 4, 4)])
def test_shapes_that_do_not_fit_are_an_error(shape):
    with pytest.raises(ValueError, match=r"expected|differ"):
        ConfusionMatrix(CLASSES).update(torch.rand(shape), torch.zeros(2, 4, dtype=int))


def test_update_never_copies_to_the_host():
    # The meta device holds no values: whatever would have to look at one fails there.
    m = ConfusionMatrix(CLASSES)
    m.state = m.state.to("meta")
    m.update(torch.empty(2, CLASSES, 4, device="meta"), torch.empty(2, 4, dtype=torch.uint8, device="meta"))
    assert m.state.device.type == "meta"


def test_per_image_confusions_add_up_to_the_whole():
    prediction, target = pair()
    found = metrics.per_image_confusion(prediction, target, CLASSES)
    assert len(found) == len(target)
    np.testing.assert_array_equal(found.sum(0), ConfusionMatrix(CLASSES).update(prediction, target).matrix)


def test_bootstrap_interval_is_that_of_a_mean():
    values = np.random.default_rng(0).normal(3, 2, 400)
    value, low, high = metrics.bootstrap(values[None])
    assert value == pytest.approx(values.mean())
    np.testing.assert_allclose(
        [low, high], values.mean() + np.array([-1.96, 1.96]) * values.std() / 20, atol=0.03
    )


def test_bootstrap_of_mean_iou_is_exact_on_the_test_set_itself():
    prediction, target = pair(shape=(30, 8, 8))
    matrices = metrics.per_image_confusion(prediction, target, CLASSES)
    value, low, high = metrics.bootstrap(matrices[None], metrics.mean_iou_of)
    assert value == pytest.approx(ConfusionMatrix(CLASSES).update(prediction, target).mean_iou)
    assert low < value < high


@pytest.mark.parametrize("seeds", [1, 3, 5])
def test_an_interval_over_seeds_and_units_covers_the_true_mean_as_often_as_it_says(seeds):
    random, covered, repetitions = np.random.default_rng(seeds), 0, 400
    for spread in (0.1, 1.0):  # of the seeds, beside that of the units
        for repetition in range(repetitions // 2):
            seed_effects = random.normal(0, spread * (seeds > 1), (seeds, 1))
            values = seed_effects + random.normal(0, 1, (1, 40)) + random.normal(0, 0.5, (seeds, 40))
            _, low, high = metrics.bootstrap(values, resamples=400, seed=repetition)
            covered += low <= 0 <= high
    assert 0.92 <= covered / repetitions <= 0.985  # 0.95 give or take three standard errors


def test_an_interval_over_seeds_alone_is_students_and_one_of_shares_stays_between_0_and_1():
    values = np.repeat([[1.0], [2.0], [4.0]], 50, 1)
    expected = student.interval(0.95, 2, values[:, 0].mean(), values[:, 0].std(ddof=1) / 3**0.5)
    assert metrics.bootstrap(values)[1:] == pytest.approx(expected, abs=0.06)
    right = np.arange(100) < np.array([[95], [99], [100]])
    assert metrics.bootstrap(right)[2] == 1


def test_groups_of_twins_give_the_interval_of_half_as_many_units():
    values = np.random.default_rng(0).normal(size=(1, 50))
    alone, twins = metrics.bootstrap(values), np.repeat(values, 2, 1)
    assert metrics.bootstrap(twins, groups=np.repeat(np.arange(50), 2)) == pytest.approx(alone)
    too_sure = metrics.bootstrap(twins)
    assert too_sure[2] - too_sure[1] < 0.8 * (alone[2] - alone[1])


@pytest.mark.parametrize("right", [True, False])
def test_a_share_of_all_or_none_gets_wilsons_bound(right):
    answers = np.full((1, 300), right)
    low, high = binomtest(300 * right, 300).proportion_ci(method="wilson")
    assert metrics.bootstrap(answers)[1:] == pytest.approx((low, high), abs=1e-3)
    wider = metrics.bootstrap(answers, groups=np.arange(300) // 2)
    assert wider[2] - wider[1] > 1.9 * (high - low)
    exact = metrics.bootstrap(answers.astype(float))  # a score that is reached exactly, no share
    assert exact[1:] == pytest.approx((float(right), float(right)))


def test_border_band_is_where_another_class_is_near_and_grows_with_the_picture():
    target = torch.zeros(1, 9, 9, dtype=torch.uint8)
    target[:, :, 5:] = 3
    near = metrics.border_band(target, 2 / (9 * 2**0.5))
    assert near[0].any(0).tolist() == [False] * 3 + [True] * 4 + [False] * 2
    large = target.repeat_interleave(20, 1).repeat_interleave(20, 2)
    assert metrics.border_band(large).mean() == pytest.approx(2 * 0.015 * 2**0.5, rel=0.1)


def pictures(seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.random((3, 3, 20, 24), dtype=np.float32)
    noisy = np.clip(truth + rng.normal(0, 0.1, truth.shape).astype(np.float32), 0, 1)
    return torch.from_numpy(noisy), torch.from_numpy(truth)


def test_psnr_and_ssim_agree_with_scikit_image_picture_by_picture():
    found = metrics.colour_scores(*pictures())
    for i, (one, other) in enumerate(zip(*(x.permute(0, 2, 3, 1).numpy() for x in pictures()), strict=True)):
        assert found["psnr"][i] == pytest.approx(
            skimage.metrics.peak_signal_noise_ratio(other, one, data_range=1), rel=1e-5
        )
        ssim = skimage.metrics.structural_similarity(
            other,
            one,
            channel_axis=2,
            data_range=1,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        assert found["ssim"][i] == pytest.approx(ssim)


def test_perfect_pictures_have_perfect_scores():
    _, truth = pictures()
    scores = {name: values.mean() for name, values in metrics.colour_scores(truth, truth).items()}
    assert scores == pytest.approx(
        {"psnr": 100, "gradient_energy": 1, "colourfulness": 1, "ssim": 1, "ciede2000": 0, "ab_error": 0}
    )


def test_grey_has_no_colourfulness_and_its_value_is_hasler_and_suesstrunks():
    _, truth = pictures()
    assert metrics.colourfulness(truth[:, :1].expand(-1, 3, -1, -1)).abs().max() < 1e-4
    red, green, blue = (255 * truth[0].double().numpy()).reshape(3, -1)
    rg, yb = red - green, (red + green) / 2 - blue
    expected = np.hypot(rg.std(), yb.std()) + 0.3 * np.hypot(rg.mean(), yb.mean())
    assert float(metrics.colourfulness(truth)[0]) == pytest.approx(expected, rel=1e-4)


def test_blur_lowers_the_gradient_energy_and_noise_raises_it_and_lightness_alone_moves_no_ab_error():
    _, truth = pictures()
    blurred = torch.nn.functional.avg_pool2d(truth, 3, 1, 1)
    assert metrics.gradient_energy(blurred, truth).max() < 0.5
    noise = torch.rand(truth.shape, generator=torch.Generator().manual_seed(0))
    assert metrics.gradient_energy(blurred + noise, blurred).min() > 1
    scores = metrics.colour_scores(truth.mean(1, keepdim=True).expand_as(truth) * 0.5, truth * 0 + 0.5)
    assert scores["ab_error"].max() < 0.1 < scores["ciede2000"].min()
