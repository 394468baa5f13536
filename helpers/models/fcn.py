"""Fully convolutional networks on ResNet-18 (Long et al., 2015, arXiv:1411.4038): FCN-32s, 16s and 8s."""

import torch.nn.functional as F
from torch import nn

from helpers.models.resnet import ResNet18


class FCN(nn.Module):
    """ResNet-18 whose pooling and fc became 1×1 conv → BN → ReLU → 1×1 conv → bilinear upsampling.

    Args:
        num_classes: channels of the logits.
        width: channels of the backbone's first stage.
        skip: ``False`` enlarges the scores of stride 32 at once (the paper's 32s); ``"16s"`` and ``True``
            (its 8s) add scores of the maps of stride 16, or of 16 and 8, on the way up.

    Shape: (N, 3, H, W) -> (N, num_classes, H, W), any H and W.
    """

    def __init__(self, num_classes, *, width=64, skip=False):
        super().__init__()
        if skip not in (False, "16s", True):
            raise ValueError(f'skip={skip!r}: give False (32s), "16s" or True (8s)')
        self.backbone = ResNet18(num_classes, width=width)
        del self.backbone.avgpool, self.backbone.fc
        # The report leaves the middle width open; a quarter of the features is torchvision's choice.
        self.head = nn.Sequential(
            nn.Conv2d(8 * width, 2 * width, 1, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(inplace=True),
            nn.Conv2d(2 * width, num_classes, 1),
        )
        channels = {False: (), "16s": (4 * width,), True: (4 * width, 2 * width)}[skip]
        self.score = nn.ModuleList(nn.Conv2d(c, num_classes, 1) for c in channels)  # deepest first
        for layer in self.score:  # zero, as in the paper: the net begins as the 32s
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x):
        _, eighth, sixteenth, last = self.backbone.maps(x)
        logits = self.head(last)  # (N, num_classes, H/32, W/32)
        for score, finer in zip(self.score, (sixteenth, eighth), strict=False):
            logits = enlarge(logits, finer) + score(finer)  # H/16, then H/8
        return enlarge(logits, x)


def enlarge(logits, like):
    """Bilinear to the size of ``like``; the paper learns its upsampling by 2, from this beginning."""
    return F.interpolate(logits, size=like.shape[-2:], mode="bilinear", align_corners=False)
