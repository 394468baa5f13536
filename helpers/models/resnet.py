"""Residual networks and their plain twins (He et al., 2015, arXiv:1512.03385)."""

from functools import partial

import torch
from torch import nn


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and, with ``skip``, the shortcut that adds the input back: F(x) + x.

    Shape: (N, in_channels, H, W) -> (N, channels, H/stride, W/stride), rounded up.
    """

    def __init__(self, in_channels, channels, stride=1, *, skip=True):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

        self.skip = skip
        self.downsample = None
        if skip and (stride != 1 or in_channels != channels):
            # The shapes differ, so the shortcut is a 1×1 projection (option B of the paper).
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False),
                nn.BatchNorm2d(channels),
            )

    def forward(self, x):
        out = self.relu(self.bn1(self.conv1(x)))  # (N, channels, H/stride, W/stride)
        out = self.bn2(self.conv2(out))

        if self.downsample is not None:
            out += self.downsample(x)
        elif self.skip:
            out += x
        return self.relu(out)


def stage(block, count, in_channels, channels):
    """``count`` blocks in a row. Where the first doubles the channels, it halves the map."""
    stride = channels // in_channels
    layers = [block(in_channels, channels, stride)]
    while len(layers) < count:
        layers.append(block(channels, channels))
    return nn.Sequential(*layers)


class ResNet(nn.Module):
    """A residual network of any depth. Its parameters have torchvision's names and shapes.

    Args:
        blocks: how many blocks each of the four stages has. n blocks make 2·n + 2 layers.
        num_classes: length of the logits.
        width: channels of the first stage, 64 in the paper. Each further stage doubles them.
        skip: ``False`` gives the plain network that the paper compares against.
        block: makes a block of (in_channels, channels, stride=1). Default: ``BasicBlock``.

    Shape: (N, 3, H, W) -> (N, num_classes), any H and W.
    """

    def __init__(self, blocks, num_classes, *, width=64, skip=True, block=None):
        super().__init__()
        block = block or partial(BasicBlock, skip=skip)
        if len(blocks) != 4 or min(blocks) < 1:
            raise ValueError(
                f"blocks={blocks}: give the number of blocks of each of four stages, at least 1"
            )
        self.conv1 = nn.Conv2d(3, width, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        self.layer1 = stage(block, blocks[0], width, width)
        self.layer2 = stage(block, blocks[1], width, 2 * width)
        self.layer3 = stage(block, blocks[2], 2 * width, 4 * width)
        self.layer4 = stage(block, blocks[3], 4 * width, 8 * width)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(8 * width, num_classes)

        for weight in self.parameters():
            if weight.ndim == 4:  # a convolution's
                nn.init.kaiming_normal_(weight, mode="fan_out")

    def maps(self, x):
        """The maps of the last three stages: 2, 4 and 8 times ``width`` channels, H/8 to H/32."""
        x = self.relu(self.bn1(self.conv1(x)))  # (N, width, H/2, W/2), sizes rounded up
        x = self.layer1(self.maxpool(x))  # (N, width, H/4, W/4)
        eighth = self.layer2(x)  # (N, 2·width, H/8, W/8)
        sixteenth = self.layer3(eighth)  # (N, 4·width, H/16, W/16)
        last = self.layer4(sixteenth)  # (N, 8·width, H/32, W/32)
        return eighth, sixteenth, last

    def forward(self, x):
        x = self.avgpool(self.maps(x)[-1])  # (N, 8·width, 1, 1)
        return self.fc(x.flatten(1))  # (N, num_classes)


def whitening_filters(images, regular, size=7):
    """Filters whose responses to patches of images are uncorrelated, and of about equal variance.

    They are the principal components of the patches, the strongest first, each divided by its
    standard deviation. ``regular`` is added to the variances, so that noise is not enlarged. As
    in the speed records of CIFAR-10 (Jordan, 2024, arXiv:2404.00498).

    Shape: (N, 3, H, W) -> (3·size², 3, size, size).
    """
    patches = images.unfold(2, size, size + 1).unfold(3, size, size + 1)
    patches = patches.movedim(1, 3).flatten(3).flatten(0, 2)  # (patches, 3·size²)
    variances, directions = torch.linalg.eigh(patches.T.cov())  # the weakest first
    filters = directions / (variances.clamp(min=0) + regular).sqrt()
    return filters.T.flip(0).reshape(-1, 3, size, size)


@torch.no_grad()
def begin_whitened(model, filters):
    """Give the first layer of a new ResNet the strongest ``filters``, each with both signs."""
    weight = model.conv1.weight
    half = filters[: (len(weight) + 1) // 2]
    both = torch.cat([half, -half])[: len(weight)]
    weight[: len(both)] = both  # a very wide layer has more filters than there are components


class ResNet18(ResNet):
    """The ResNet with two blocks in each stage. torchvision's weights fit, and fit back."""

    def __init__(self, num_classes, *, width=64, skip=True):
        super().__init__((2, 2, 2, 2), num_classes, width=width, skip=skip)
