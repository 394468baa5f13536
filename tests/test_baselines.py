import numpy as np
import pytest
import torch

from helpers import baselines
from helpers.colour import rgb_to_grey
from helpers.data.batches import ArrayDataset
from helpers.metrics import iou_of, mean_iou_of, per_image_confusion
from tests.conftest import tiny_data


def with_targets(dataset, targets):
    return ArrayDataset(dataset.images, targets, dataset.names)


def test_species_are_told_by_thumbnail_and_by_colour():
    data = tiny_data("birds", 60)
    for describe in (baselines.thumbnails, baselines.histograms):
        ids = baselines.species_by(describe, data.train, data.test)
        assert (ids == data.test.targets).all()
    shuffled = with_targets(data.train, np.random.default_rng(0).permutation(data.train.targets))
    wrong = baselines.species_by(baselines.histograms, shuffled, data.test)
    assert (wrong == data.test.targets).mean() < 0.8


def test_histograms_count_each_colour_once():
    image = torch.zeros(1, 3, 4, 4)
    image[0, :, :2] = torch.tensor([1.0, 0.5, 0.3]).view(3, 1, 1)  # quarters 3, 1 and 1
    shares = baselines.histograms(image)[0]
    assert shares[0] == 0.5 == shares[3 * 16 + 1 * 4 + 1] and shares.sum() == 1


def test_the_majority_class_is_each_pixels_own():
    masks = np.uint8([[[0, 1], [2, 2]], [[0, 1], [1, 2]], [[1, 1], [1, 0]]])
    train = ArrayDataset(np.zeros((3, 2, 2, 3), np.uint8), masks, "abc")
    answer = baselines.majority_class(train, train.subset(2))
    assert answer.tolist() == [[[0, 1], [1, 2]]] * 2


def test_the_nearest_picture_gives_its_mask():
    data = tiny_data("streets")
    again = baselines.nearest_picture(data.train, data.train)
    np.testing.assert_array_equal(again, data.train.targets)


@pytest.mark.parametrize("kind", ["birds", "streets", "landscapes"])
def test_no_baseline_but_a_ceiling_sees_the_truth_of_its_pictures(kind):
    data = tiny_data(kind)
    if kind == "birds":
        other = with_targets(data.test, 1 - data.test.targets)
        answers = [
            [
                baselines.species_by(how, data.train, test)
                for how in (baselines.thumbnails, baselines.histograms)
            ]
            for test in (data.test, other)
        ]
    elif kind == "streets":
        other = with_targets(data.test, 2 - data.test.targets)
        answers = [
            [how(data.train, test) for how in (baselines.majority_class, baselines.nearest_picture)]
            for test in (data.test, other)
        ]
    else:
        grey = rgb_to_grey(torch.from_numpy(data.test.images.copy()).permute(0, 3, 1, 2).float()).round()
        other = ArrayDataset(
            grey.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).byte().numpy(), None, data.test.names
        )
        blue = ArrayDataset(data.train.images + np.uint8([0, 0, 90]), None, data.train.names)
        answers = [[baselines.mean_colour(blue, test, levels=2)] for test in (data.test, other)]
        assert answers[0][0].std(1).mean() > 0.01, "has no colour"
    for one, twin in zip(*answers, strict=True):
        np.testing.assert_allclose(np.asarray(one, float), np.asarray(twin, float), atol=0.01)


def test_mean_colours_are_those_of_the_training_pictures_in_each_band_and_grey_level():
    sky, ground = (40, 90, 200), (60, 110, 30)
    image = np.zeros((1, 16, 8, 3), np.uint8)
    image[:, :8], image[:, 8:] = sky, ground
    data = ArrayDataset(image, None, ["a"])
    found = baselines.mean_colour(data, data)[0]
    np.testing.assert_allclose(found.movedim(0, -1).numpy(), image[0] / 255, atol=1e-3)


def test_a_ceiling_is_exact_where_the_map_is_fine_enough_and_falls_with_its_stride():
    truth = np.random.default_rng(0).integers(0, 4, (3, 6, 8)).repeat(8, 1).repeat(8, 2)  # cells of 8 pixels
    scores = [
        mean_iou_of(per_image_confusion(baselines.ceiling(truth, stride), truth, 4).sum(0))
        for stride in (1, 8, 16, 32)
    ]
    assert scores[0] == 1 and scores == sorted(scores, reverse=True) and 0.6 < scores[1] < 1
    uniform = np.full((2, 40, 50), 3)
    assert iou_of(per_image_confusion(baselines.ceiling(uniform, 32), uniform, 4).sum(0))[3] == 1
