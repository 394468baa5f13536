"""What is measured of the answers for a test set: values per seed and image, task by task.

``Results.measure`` takes these. A pair is (values, the statistic of their mean).
"""

import numpy as np
import torch

from helpers.colour import to_float
from helpers.data import streets
from helpers.metrics import border_band, colour_scores, iou_of, per_image_confusion


def scores_of(task, answers, dataset):
    """Every score of answers for ``dataset``: (seeds, N, ...), see the function of each task."""
    if task.name == "classification":
        return species_scores(answers, dataset)
    if task.name == "segmentation":
        return street_scores(answers, dataset, task.classes)
    return landscape_scores(answers, dataset)


def species_scores(probability, dataset):
    """Accuracy, top-5 accuracy and loss of probabilities (S, N, C): (S, N) each.

    Top-5 accuracy is left out where five guesses are a tenth of the classes or more.
    """
    truth = torch.as_tensor(dataset.targets)
    of_truth = probability[:, torch.arange(len(truth)), truth]  # (S, N)
    scores = {
        "accuracy": probability.argmax(2) == truth,
        "loss": -of_truth.clamp(min=1e-12).log(),
    }
    if probability.shape[2] > 50:
        five = probability.topk(5).indices  # (S, N, 5)
        scores["top5_accuracy"] = (five == truth[:, None]).any(2)
    return scores


def street_scores(masks, dataset, classes):
    """Scores of class maps (S, N, H, W), from one confusion matrix per seed and image.

    *border*: of the pixels near a border of classes alone. *inside*: of all others. Lyft's classes
    also have the IoU of vehicles, with and without the bonnet of the camera's own car.
    """
    truth = np.asarray(dataset.targets)
    band = border_band(truth)

    def counted(keep=None):
        each = [per_image_confusion(np.asarray(m), truth, len(classes), keep) for m in masks]
        return np.stack(each)  # (S, N, C, C)

    whole = counted()
    border = counted(band)
    inside = counted(~band)
    scores = {
        "mean_iou": whole,
        "border_mean_iou": border,
        "inside_mean_iou": inside,
        "pixel_accuracy": (whole, pixel_accuracy),
        "border_accuracy": (border, pixel_accuracy),
        "inside_accuracy": (inside, pixel_accuracy),
    }
    if classes == streets.CLASSES:
        others = counted(~streets.bonnet_mask(truth))
        scores["vehicles_iou"] = (whole, vehicles_iou)
        scores["vehicles_iou_without_bonnet"] = (others, vehicles_iou)
    return scores


def vehicles_iou(matrix):
    """The IoU of Lyft's vehicles: (..., C, C) -> (...)."""
    return iou_of(matrix)[..., streets.VEHICLES]


def pixel_accuracy(matrix):
    """The share of right pixels: (..., C, C) -> (...)."""
    return np.trace(matrix, axis1=-2, axis2=-1) / matrix.sum((-2, -1))


def landscape_scores(images, dataset):
    """Every score of ``colour_scores`` of images (S, N, 3, H, W): (S, N) each."""
    truth = to_float(dataset[:][0])
    each = [colour_scores(answer, truth) for answer in images]
    return {score: np.stack([one[score] for one in each]) for score in each[0]}
