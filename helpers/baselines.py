"""What scores without a network. Only ``ceiling`` looks at the truth of the pictures that it answers."""

import numpy as np
import torch
import torch.nn.functional as F
from sklearn import linear_model, neighbors, pipeline, preprocessing

from helpers.colour import rgb_to_grey, to_float


def described(dataset, describe):
    """``describe`` of all pictures, in batches (B, 3, H, W) in [0, 1]."""
    batches = np.array_split(np.arange(len(dataset)), -(-len(dataset) // 64))
    return np.concatenate([describe(to_float(dataset[rows][0])) for rows in batches])


def thumbnails(images):
    return F.adaptive_avg_pool2d(images, 8).flatten(1)


def histograms(images):
    """Shares of 4×4×4 colours."""
    cells = torch.einsum("nchw,c->nhw", (images * 3.999).floor(), torch.tensor([16.0, 4, 1])).long()
    return F.one_hot(cells.flatten(1), 64).float().mean(1)


def species_by(describe, train, test):
    """Class ids (N,): of the 5 nearest neighbours by ``thumbnails``, else by logistic regression."""
    regression = linear_model.LogisticRegression(max_iter=1000)
    model = pipeline.make_pipeline(preprocessing.StandardScaler(), regression)
    model = neighbors.KNeighborsClassifier(5) if describe is thumbnails else model
    return model.fit(described(train, describe), train.targets).predict(described(test, describe))


def majority_class(train, test):
    """The commonest training class of each pixel, whatever the picture shows: ids (N, H, W)."""
    counts = np.stack([(train.targets == c).sum(0) for c in range(train.targets.max() + 1)])
    return np.broadcast_to(counts.argmax(0), (len(test), *counts.shape[1:]))


def nearest_picture(train, test):
    """The mask of the training picture that is most alike on 8×8 pixels: ids (N, H, W)."""
    search = neighbors.NearestNeighbors(n_neighbors=1).fit(described(train, thumbnails))
    return train.targets[search.kneighbors(described(test, thumbnails), return_distance=False)[:, 0]]


def ceiling(truth, stride, steps=20):
    """Scores on a map ``stride`` times smaller, fitted to the truth (N, H, W) and enlarged as an FCN's."""
    answers = []
    for target in torch.as_tensor(np.array(truth)).long().split(16):
        size, hot = target.shape[1:], F.one_hot(target).movedim(-1, 1).float()
        scores = F.adaptive_avg_pool2d(hot, [-(-side // stride) for side in size]).add(0.01).log()
        optimizer = torch.optim.Adam([scores.requires_grad_()], lr=1.0)
        for _ in range(steps):
            optimizer.zero_grad()
            F.cross_entropy(F.interpolate(scores, size, mode="bilinear"), target).backward()
            optimizer.step()
        answers.append(F.interpolate(scores, size, mode="bilinear").argmax(1))
    return torch.cat(answers).numpy()


def mean_colour(train, test, bands=8, levels=32):
    """Mean training colour of each (band of rows, grey level), on the input's grey: RGB (N, 3, H, W)."""

    def cells(x):  # (N, H, W)
        rows = torch.arange(x.shape[2]) * bands // x.shape[2]
        return rows[:, None] * levels + (rgb_to_grey(x)[:, 0] * (levels - 1)).round().long()

    def sums(x):  # of colour less grey, and the number of pixels
        colours = F.pad(x - rgb_to_grey(x), (0, 0, 0, 0, 0, 1), value=1).movedim(1, -1).reshape(-1, 4)
        return torch.zeros(1, bands * levels, 4).index_add_(1, cells(x).flatten(), colours[None])

    table = described(train, sums).sum(0)
    table = torch.from_numpy(table[:, :3] / table[:, 3:].clip(1))
    coloured = described(test, lambda x: (rgb_to_grey(x) + table[cells(x)].movedim(-1, 1)).clamp(0, 1))
    return torch.from_numpy(coloured)
