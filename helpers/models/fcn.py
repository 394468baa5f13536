"""A fully convolutional network on ResNet-18 (Long et al., 2015, arXiv:1411.4038), without skips."""

import torch.nn.functional as F
from torch import nn

from helpers.models.resnet import ResNet18


class FCN(nn.Module):
    """ResNet-18 whose pooling and fc became 1×1 conv → BN → ReLU → 1×1 conv → bilinear upsampling.

    Args:
        num_classes: channels of the logits.
        width: channels of the backbone's first stage.

    Shape: (N, 3, H, W) -> (N, num_classes, H, W), any H and W.
    """

    def __init__(self, num_classes, *, width=64):
        super().__init__()
        self.backbone = ResNet18(num_classes, width=width)
        del self.backbone.avgpool, self.backbone.fc
        # The report leaves the middle width open; a quarter of the features is torchvision's choice.
        self.head = nn.Sequential(
            nn.Conv2d(8 * width, 2 * width, 1, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(inplace=True),
            nn.Conv2d(2 * width, num_classes, 1),
        )

    def forward(self, x):
        logits = self.head(self.backbone.maps(x)[-1])  # (N, num_classes, H/32, W/32)
        return F.interpolate(logits, size=x.shape[-2:], mode="bilinear", align_corners=False)
