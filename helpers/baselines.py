"""Scores without a network. Only ``ceiling`` sees the truth of the images that it answers.

``train`` and ``test`` are data sets, see ``helpers.data.batches.ArrayDataset``.
"""

import numpy as np
import torch
import torch.nn.functional as F
from sklearn import linear_model, metrics, neighbors, pipeline, preprocessing

from helpers import VOID
from helpers.colour import rgb_to_grey, to_float
from helpers.losses import class_cross_entropy


def described(dataset, describe):
    """``describe`` of all images, which it gets in batches (B, 3, H, W) in [0, 1]."""
    batches = np.array_split(range(len(dataset)), -(-len(dataset) // 64))  # rounded up
    return torch.cat([describe(to_float(dataset[batch][0])) for batch in batches])


def thumbnails(images):
    """Means of 8×8 fields: (B, 192)."""
    return F.adaptive_avg_pool2d(images, 8).flatten(1)


def histograms(images):
    """Shares of 4×4×4 colours: (B, 64)."""
    red, green, blue = (images * 3.999).long().unbind(1)  # 0 … 3
    colour = 16 * red + 4 * green + blue  # (B, H, W)
    return F.one_hot(colour.flatten(1), 64).float().mean(1)


def species_by_thumbnail(train, test):
    """Class ids (N,): a vote of the 5 training images with the most similar thumbnails, or of all.

    It is of all where there are fewer.
    """
    model = neighbors.KNeighborsClassifier(min(5, len(train)))
    model.fit(described(train, thumbnails), train.targets)
    return model.predict(described(test, thumbnails))


def species_by_histogram(train, test):
    """Class ids (N,), by logistic regression on colour histograms."""
    model = pipeline.make_pipeline(
        preprocessing.StandardScaler(), linear_model.LogisticRegression(max_iter=1000)
    )
    model.fit(described(train, histograms), train.targets)
    return model.predict(described(test, histograms))


def majority_class(train, test):
    """The most frequent training class of each pixel, whatever the image shows: ids (N, H, W)."""
    masks = train.targets
    classes = np.setdiff1d(masks, VOID)
    counts = [(masks == one).sum(0) for one in classes]  # (H, W) of each
    return classes[np.argmax(counts, 0)][None].repeat(len(test), 0)


def nearest_image(train, test):
    """The mask of the training image with the most similar thumbnail: ids (N, H, W).

    Where that is VOID, the answer is the majority class.
    """
    nearest = metrics.pairwise_distances_argmin(
        described(test, thumbnails), described(train, thumbnails)
    )
    answer = train.targets[nearest]
    return np.where(answer == VOID, majority_class(train, test), answer)


def ceiling(truth, stride):
    """The best answer that a map ``stride`` times smaller allows, ids (N, H, W).

    Scores on such a map are fitted to ``truth`` (N, H, W) and enlarged as an FCN enlarges them.
    """
    answers = []
    for target in torch.tensor(truth).long().split(16):
        size = target.shape[1:]
        enlarge = torch.nn.Upsample(size, mode="bilinear")
        small = [-(-side // stride) for side in size]  # rounded up
        counted = target != VOID
        one_hot = F.one_hot(target.where(counted, 0)) * counted[..., None]
        one_hot = one_hot.movedim(-1, 1).float()  # (N, C, H, W)
        scores = F.adaptive_avg_pool2d(one_hot, small).add(0.01).log().requires_grad_()
        optimizer = torch.optim.Adam([scores], 1.0)
        for _ in range(20):
            loss = class_cross_entropy(enlarge(scores), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        answers.append(enlarge(scores).argmax(1))
    return torch.cat(answers).numpy()


def mean_colour(train, test):
    """The mean training colour of each band of rows and grey level, laid on the image's own grey.

    There are 8 bands and 32 levels. RGB (N, 3, H, W) in [0, 1].
    """

    def cells(grey):
        # The number of each pixel's band and level: (N, 1, H, W) -> (N, H, W)
        height = grey.shape[2]
        band = torch.arange(height) * 8 // height
        level = (grey[:, 0] * 31).round().long()
        return 32 * band[:, None] + level

    def sums(images):
        # Per cell the sum of colour less grey, and the number of pixels: (1, 256, 4)
        grey = rgb_to_grey(images)
        colour = torch.cat([images - grey, torch.ones_like(grey)], 1)  # (B, 4, H, W)
        colour = colour.movedim(1, -1).flatten(0, 2)
        return torch.zeros(256, 4).index_add(0, cells(grey).flatten(), colour)[None]

    total = sum(described(train, sums))
    mean = total[:, :3] / total[:, 3:].clip(1)
    grey = described(test, rgb_to_grey)
    return (grey + mean[cells(grey)].movedim(-1, 1)).clamp(0, 1)
