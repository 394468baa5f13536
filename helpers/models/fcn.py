"""Fully convolutional networks on ResNet-18 (Long et al., 2015, arXiv:1411.4038)."""

import torch.nn.functional as F
from torch import nn

from helpers.models.resnet import ResNet18


class FCN(nn.Module):
    """ResNet-18 with 1×1 conv → BN → ReLU → 1×1 conv → bilinear upsampling in place of its end.

    Args:
        num_classes: channels of the logits.
        width: channels of the backbone's first stage.
        skip: ``False`` enlarges the scores of stride 32 in one step (the paper's FCN-32s).
            ``"16s"`` adds scores of the map of stride 16 on the way up (its FCN-16s).
            ``True`` also adds scores of the map of stride 8 (its FCN-8s).

    Shape: (N, 3, H, W) -> (N, num_classes, H, W), any H and W.
    """

    def __init__(self, num_classes, *, width=64, skip=False):
        super().__init__()
        if skip not in (False, "16s", True):
            raise ValueError(f'skip={skip!r}: give False (32s), "16s" or True (8s)')
        self.backbone = ResNet18(num_classes, width=width)
        del self.backbone.avgpool, self.backbone.fc
        # The report leaves the middle width open. A quarter is torchvision's choice.
        self.head = nn.Sequential(
            nn.Conv2d(8 * width, 2 * width, 1, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
            nn.Conv2d(2 * width, num_classes, 1),
        )

        self.score = nn.ModuleList()  # deepest first
        if skip:
            self.score.append(nn.Conv2d(4 * width, num_classes, 1))  # of stride 16
        if skip and skip != "16s":
            self.score.append(nn.Conv2d(2 * width, num_classes, 1))  # of stride 8
        for parameter in self.score.parameters():
            nn.init.zeros_(parameter)  # as in the paper: training begins at the FCN-32s

    def forward(self, x):
        eighth, sixteenth, last = self.backbone.maps(x)
        logits = self.head(last)  # (N, num_classes, H/32, W/32)
        for score, finer in zip(self.score, [sixteenth, eighth], strict=False):
            logits = enlarge(logits, finer) + score(finer)  # H/16, then H/8
        return enlarge(logits, x)  # (N, num_classes, H, W)


def enlarge(logits, like):
    """Bilinear upsampling to the size of ``like``. The paper starts from this and learns it."""
    return F.interpolate(logits, like.shape[2:], mode="bilinear")
