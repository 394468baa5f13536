"""Pixels of VOID count nowhere: each number is that of the other pixels alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from helpers import VOID, baselines, image_figures, losses, metrics
from helpers.augment import augment, draw_views
from helpers.data.batches import ArrayDataset
from helpers.presets import preset
from helpers.skips import crispness_by_distance
from helpers.tasks import TASKS, build
from helpers.training import evaluate, fit, predict
from tests.conftest import tiny_data

CLASSES = 5


def ids(shape=(3, 12, 16), seed=0):
    return np.random.default_rng(seed).integers(0, CLASSES, shape, dtype=np.uint8)


def with_void(truth):
    """A third of the pixels, and the whole of the last image, are VOID."""
    void = np.random.default_rng(1).random(truth.shape) < 1 / 3
    void[-1] = True
    return np.where(void, VOID, truth).astype(np.uint8)


LOSSES = {
    "plain": losses.class_cross_entropy,
    "weighed": lambda x, t: losses.class_cross_entropy(x, t, weight=torch.arange(1, 6.0)),
    "smooth": lambda x, t: losses.class_cross_entropy(x, t, label_smoothing=0.1),
    "dice": losses.soft_dice,
}


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_that_of_the_pixels_that_count_and_0_where_none_does(name):
    loss = LOSSES[name]
    truth = torch.from_numpy(with_void(ids()))
    logits = torch.randn(3, CLASSES, 12, 16, requires_grad=True)
    counted = truth != VOID
    alone = logits.movedim(1, -1)[counted].T[None, :, None]  # (1, C, 1, pixels)
    found = loss(logits, truth)
    torch.testing.assert_close(found, loss(alone, truth[counted][None, None]))
    (gradient,) = torch.autograd.grad(found, logits)
    assert not gradient[2].any() and gradient.movedim(1, -1)[counted].all()

    nothing = loss(logits, torch.full_like(truth, VOID))
    (gradient,) = torch.autograd.grad(nothing, logits)
    assert nothing == 0 and not gradient.any()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_without_void_a_loss_has_the_bits_of_torchs(smoothing):
    weight = torch.rand(CLASSES)
    for shape in [(64, CLASSES), (3, CLASSES, 48, 64)]:
        logits = torch.randn(shape)
        target = torch.randint(CLASSES, (shape[0], *shape[2:]))
        expected = F.cross_entropy(logits, target, label_smoothing=smoothing)
        assert losses.class_cross_entropy(logits, target, label_smoothing=smoothing) == expected
        each = F.cross_entropy(logits, target, label_smoothing=smoothing, reduction="none")
        found = losses.class_cross_entropy(
            logits, target.byte(), weight=weight, label_smoothing=smoothing
        )
        assert found == (weight[target] * each).mean()


def test_of_more_than_255_classes_255_is_one():
    logits = torch.randn(4, 400)
    target = torch.tensor([255, 255, 255, 3])
    assert losses.class_cross_entropy(logits, target) == F.cross_entropy(logits, target)
    assert metrics.ConfusionMatrix(400).update(logits, target).matrix[255].sum() == 3
    assert metrics.ConfusionMatrix(255).update(logits[:, :255], target).matrix.sum() == 1


def test_matrices_leave_void_out_but_refuse_it_as_an_answer():
    truth = with_void(ids())
    answer = ids(seed=2)
    answer[2] = VOID  # where nothing counts, any answer will do
    counted = truth != VOID
    expected = metrics.ConfusionMatrix(CLASSES)
    expected.update(torch.from_numpy(answer[counted]), torch.from_numpy(truth[counted]))
    whole = metrics.ConfusionMatrix(CLASSES)
    whole.update(torch.from_numpy(answer), torch.from_numpy(truth))
    found = metrics.per_image_confusion(answer, truth, CLASSES)
    np.testing.assert_array_equal(whole.matrix, expected.matrix)
    np.testing.assert_array_equal(found.sum(0), expected.matrix)
    assert not found[2].any()
    keep = np.arange(16) < 9
    found = metrics.per_image_confusion(answer, truth, CLASSES, keep)
    assert found.sum() == counted[..., :9].sum()

    answer[counted] = VOID
    with pytest.raises(ValueError, match="outside 0 … 4"):
        _ = whole.update(torch.from_numpy(answer), torch.from_numpy(truth)).matrix
    with pytest.raises(ValueError, match="invalid entry"):
        metrics.per_image_confusion(answer, truth, CLASSES)


@pytest.mark.parametrize("distance", [1, 3])
def test_a_border_to_void_is_none(distance):
    truth = with_void(ids((4, 24, 32)).clip(3))  # classes 3 and 4, so that 0 is not among them
    truth[:2, :14] = 3
    truth[:2, 14:18] = VOID
    near = metrics.border_band(truth, distance=distance)
    assert not near[3].any() and not near[truth == VOID].any()
    for image, y, x in np.argwhere(truth != VOID)[::7]:
        around = truth[
            image,
            max(0, y - distance) : y + distance + 1,
            max(0, x - distance) : x + distance + 1,
        ]
        assert near[image, y, x] == (len(np.unique(around[around != VOID])) > 1)
    answer = np.where(truth == VOID, 0, truth)
    for matrices in crispness_by_distance(answer, truth, CLASSES).values():
        assert metrics.mean_iou_of(matrices.sum(0)) == 1


def voided():
    """A small set in whose images a frame is VOID, and some masks have more of it."""
    data = tiny_data("streets", 24)
    for one in (data.train, data.valid, data.test):
        one.targets[:, :, :4] = VOID
        one.targets[0] = VOID
        one.targets[1::3, :16] = VOID
    return data


def test_baselines_never_answer_void():
    data = voided()
    assert set(np.unique(baselines.majority_class(data.train, data.test))) == {0, 1, 2}
    nearest = baselines.nearest_image(data.train, data.train)
    counted = data.train.targets != VOID
    assert set(np.unique(nearest)) == {0, 1, 2}
    np.testing.assert_array_equal(nearest[counted], data.train.targets[counted])
    ceiling = baselines.ceiling(data.test.targets, 1)
    assert (
        metrics.mean_iou_of(metrics.per_image_confusion(ceiling, data.test.targets, 3).sum(0)) == 1
    )
    assert set(np.unique(ceiling)) == {0, 1, 2}


def test_a_training_with_void_learns_from_the_rest_and_weighs_classes_by_it():
    data = voided()
    settings = preset("smoke").segmentation
    settings = replace(settings, size=(32, 32), balance=0.5, dice=1.0, augment=0.5, epochs=2)
    task = TASKS["segmentation"](data, settings)
    counts = [(data.train.targets == c).sum() for c in range(3)]
    torch.testing.assert_close(task.weight, losses.balance(counts, 0.5))
    void = np.full_like(data.test.targets, VOID)
    other = ArrayDataset(data.test.images, void, data.test.names)
    model = build(task, "unet")
    for row in fit(model, task, data):
        assert np.isfinite(row["train_loss"]) and 0 < row["mean_iou"] <= 1
    assert predict(model, task, data.test).max() < 3
    assert evaluate(model, task, other)["valid_loss"] == 0


def test_figures_show_void_pale_and_never_wrong_and_name_what_occurs():
    truth = with_void(ids().clip(max=2))
    palette = np.uint8([[9, 9, 9], [8, 0, 0], [0, 8, 0], [0, 0, 8]])
    shown = image_figures.paint(truth, palette)
    assert (shown[truth == VOID] == image_figures.PALE).all()
    np.testing.assert_array_equal(shown[truth == 1], [palette[1]] * (truth == 1).sum())
    key = image_figures.class_key(truth, ["a", "b", "c", "d"], palette)
    assert [*key] == ["a", "b", "c", "void"] and (key["c"] == palette[2]).all()
    figure = image_figures.compare({"truth": shown}, key=key)
    (legend,) = figure.legends
    assert [text.get_text().strip() for text in legend.texts] == [*key]
    assert [patch.get_facecolor()[:3] for patch in legend.get_patches()] == [
        tuple(np.divide(colour, 255)) for colour in key.values()
    ]
    grey = np.zeros((*truth.shape, 3))
    wrong = image_figures.error_map(grey, ids(seed=3), truth)
    assert not (wrong == image_figures.RED).all(-1)[truth == VOID].any()
    assert (wrong == image_figures.RED).all(-1)[truth != VOID].any()


def test_views_move_void_like_any_class_and_mix_it_with_none():
    truth = torch.from_numpy(with_void(ids((3, 24, 32))))
    images = torch.rand(3, 3, 24, 32)
    views = draw_views(3, torch.Generator().manual_seed(0))
    _, moved = augment(images, truth, 1.0, views)
    assert set(moved.unique().tolist()) <= {*range(CLASSES), VOID} and (moved[2] == VOID).all()


def test_the_validation_loss_does_not_depend_on_how_void_falls_into_batches():
    data = tiny_data("streets", size=(32, 32))
    masks = data.valid.targets.copy()
    masks[: len(masks) // 2, 4:] = VOID  # most of half of the images
    masks[0] = VOID
    valid = ArrayDataset(data.valid.images, masks, data.valid.names)
    settings = replace(preset("smoke").segmentation, size=(32, 32))
    found = []
    for batch_size in (1, 5, len(valid)):
        task = TASKS["segmentation"](data, replace(settings, batch_size=batch_size))
        found.append(evaluate(build(task, "unet"), task, valid)["valid_loss"])
    assert found == pytest.approx([found[0]] * 3, rel=1e-5)
    nothing = ArrayDataset(valid.images[:1], masks[:1], ["void"])
    assert evaluate(build(task, "unet"), task, nothing)["valid_loss"] == 0
