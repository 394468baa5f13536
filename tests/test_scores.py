"""What is measured of answers, against scikit-learn and against the metrics' own functions."""

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, jaccard_score, log_loss, top_k_accuracy_score

from helpers.colour import to_float
from helpers.data import streets
from helpers.data.batches import ArrayDataset
from helpers.metrics import colour_scores, mean_iou_of
from helpers.presets import preset
from helpers.results import Results
from helpers.scores import landscape_scores, species_scores, street_scores
from tests.conftest import tiny_data


@pytest.fixture
def draws():
    return np.random.default_rng(0)


def images(draws, count, targets):
    pixels = draws.integers(0, 256, (count, 24, 32, 3), dtype=np.uint8)
    return ArrayDataset(pixels, targets, [str(i) for i in range(count)])


def test_species_have_the_accuracy_the_loss_and_the_top_five_of_scikit_learn(draws):
    targets = draws.integers(0, 60, 40)
    probability = torch.softmax(torch.randn(2, 40, 60), 2)
    scores = species_scores(probability, images(draws, 40, targets))
    for seed, p in enumerate(probability.numpy()):
        found = {name: float(values[seed].float().mean()) for name, values in scores.items()}
        labels = range(60)
        assert np.isclose(found["accuracy"], accuracy_score(targets, p.argmax(1)))
        assert np.isclose(found["loss"], log_loss(targets, p, labels=labels), rtol=1e-4)
        top = top_k_accuracy_score(targets, p, k=5, labels=labels)
        assert np.isclose(found["top5_accuracy"], top)
    few = species_scores(probability[:, :, :20], images(draws, 40, targets % 20))
    assert "top5_accuracy" not in few, "a quarter of all classes says nothing"


def test_streets_have_the_mean_iou_of_scikit_learn_and_every_pixel_is_near_a_border_or_inside(
    draws,
):
    truth = draws.integers(0, 13, (3, 6, 8)).repeat(4, 1).repeat(4, 2).astype(np.uint8)
    truth[:, -4:] = streets.VEHICLES  # the bonnet
    answer = np.where(draws.random(truth.shape) < 0.5, truth, draws.integers(0, 13, truth.shape))
    scores = street_scores(answer[None], images(draws, 3, truth), streets.CLASSES)
    whole = scores["mean_iou"].sum(1)[0]
    known = jaccard_score(truth.ravel(), answer.ravel(), average="macro")
    assert np.isclose(mean_iou_of(whole), known)
    parts = scores["border_mean_iou"] + scores["inside_mean_iou"]
    assert np.array_equal(parts, scores["mean_iou"])
    matrix, accuracy = scores["pixel_accuracy"]
    assert np.isclose(accuracy(matrix.sum(1)[0]), (answer == truth).mean())
    ious = {}
    for name in ("vehicles_iou", "vehicles_iou_without_bonnet"):
        matrix, statistic = scores[name]
        ious[name] = statistic(matrix.sum(1)[0])
    own = (truth == streets.VEHICLES).ravel()
    assert np.isclose(ious["vehicles_iou"], jaccard_score(own, answer.ravel() == streets.VEHICLES))
    assert ious["vehicles_iou"] != ious["vehicles_iou_without_bonnet"]
    assert "vehicles_iou" not in street_scores(answer[None], images(draws, 3, truth), ["a"] * 13)


def test_landscapes_have_the_colour_scores_of_each_seed(draws):
    dataset = images(draws, 3, None)
    answers = torch.rand(2, 3, 3, 24, 32)
    scores = landscape_scores(answers, dataset)
    truth = to_float(dataset[:][0])
    for name, values in colour_scores(answers[1], truth).items():
        assert scores[name].shape == (2, 3) and np.array_equal(scores[name][1], values)


def test_results_take_them_as_they_are(tmp_path):
    data = tiny_data("streets", classes=13)
    data.label, data.synthetic = "tiny streets", True
    results = Results(tmp_path, "segmentation", data, preset("smoke"))
    truth = np.asarray(data.test.targets)
    results.measure("perfect", **street_scores(truth[None], data.test, streets.CLASSES))
    for score in ("mean_iou", "pixel_accuracy"):
        assert np.isclose(results["perfect", score][0], 1)
