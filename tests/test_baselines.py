import numpy as np
import pytest
import torch

from helpers import baselines
from helpers.colour import rgb_to_grey
from helpers.data.batches import ArrayDataset
from helpers.metrics import iou_of, mean_iou_of, per_image_confusion
from tests.conftest import tiny_data

BY_TASK = {
    "birds": (baselines.species_by_thumbnail, baselines.species_by_histogram),
    "streets": (baselines.majority_class, baselines.nearest_image),
    "landscapes": (baselines.mean_colour,),
}


def test_species_are_told_by_thumbnail_and_by_colour():
    data = tiny_data("birds", 60)
    for baseline in BY_TASK["birds"]:
        assert (baseline(data.train, data.test) == data.test.targets).all()
    shuffled = np.random.default_rng(0).permutation(data.train.targets)
    train = ArrayDataset(data.train.images, shuffled, data.train.names)
    assert (baselines.species_by_histogram(train, data.test) == data.test.targets).mean() < 0.8


def test_histograms_count_each_colour_once():
    image = torch.zeros(1, 3, 4, 4)
    image[:, :, :2] = torch.tensor([1, 0.5, 0.3]).view(3, 1, 1)  # quarters 3, 1 and 1
    (shares,) = baselines.histograms(image)
    assert shares.nonzero().flatten().tolist() == [0, 3 * 16 + 1 * 4 + 1]
    assert set(shares[shares > 0].tolist()) == {0.5}


def test_the_majority_class_is_each_pixels_own_and_the_nearest_image_gives_its_mask():
    masks = np.uint8([[[0, 1], [2, 2]], [[0, 1], [1, 2]], [[1, 1], [1, 0]]])
    train = ArrayDataset(np.zeros((3, 2, 2, 3), np.uint8), masks, "abc")
    assert baselines.majority_class(train, train.subset(2)).tolist() == [[[0, 1], [1, 2]]] * 2
    train = tiny_data("streets").train
    np.testing.assert_array_equal(baselines.nearest_image(train, train), train.targets)


@pytest.mark.parametrize("kind", BY_TASK)
def test_no_baseline_but_a_ceiling_sees_the_truth_of_its_images(kind):
    data = tiny_data(kind)
    images = data.test.images
    targets = None
    if kind == "landscapes":  # the image is its own truth: take its colour
        rgb = torch.from_numpy(images.copy()).permute(0, 3, 1, 2).float()
        images = rgb_to_grey(rgb).round().byte().expand(-1, 3, -1, -1).permute(0, 2, 3, 1).numpy()
    else:
        targets = data.test.targets.max() - data.test.targets
    other = ArrayDataset(images, targets, data.test.names)
    for baseline in BY_TASK[kind]:
        one, twin = (np.asarray(baseline(data.train, test), float) for test in (data.test, other))
        same = np.abs(one - twin) < 0.01
        assert same.mean() > (0.9 if kind == "landscapes" else 0.999)  # greys are rounded


def test_mean_colours_are_those_of_the_training_images_in_each_band_and_grey_level():
    image = np.zeros((1, 16, 8, 3), np.uint8)
    image[:, :8] = (40, 90, 200)
    image[:, 8:] = (60, 110, 30)
    data = ArrayDataset(image, None, ["a"])
    found = baselines.mean_colour(data, data)[0]
    np.testing.assert_allclose(found.movedim(0, -1).numpy(), image[0] / 255, atol=1e-3)


def test_a_ceiling_is_exact_where_the_map_is_fine_enough_and_falls_with_its_stride():
    cells = np.random.default_rng(0).integers(0, 4, (3, 6, 8))
    uniform = np.full((2, 40, 50), 3)

    def matrix(truth, stride):
        return per_image_confusion(baselines.ceiling(truth, stride), truth, 4).sum(0)

    scores = [mean_iou_of(matrix(cells.repeat(8, 1).repeat(8, 2), s)) for s in (1, 8, 16, 32)]
    assert scores[0] == 1 and scores == sorted(scores, reverse=True) and 0.6 < scores[1] < 1
    assert iou_of(matrix(uniform, 32))[3] == 1
