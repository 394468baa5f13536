"""ResNet-18 and its plain twin (He et al., 2015, "Deep Residual Learning", arXiv:1512.03385)."""

from torch import nn


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and, with ``skip``, the shortcut that adds the input back: F(x) + x.

    Shape: (N, in_channels, H, W) -> (N, channels, H/stride, W/stride)
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
                nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x):
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.skip:
            out = out + (x if self.downsample is None else self.downsample(x))
        return self.relu(out)


class ResNet18(nn.Module):
    """ResNet-18; its parameters have torchvision's names and shapes, so weights are interchangeable.

    Args:
        num_classes: length of the logits.
        width: channels of the first stage; the paper's net has 64, and each stage doubles them.
        skip: ``False`` gives the plain 18-layer net that the paper compares against.

    Shape: (N, 3, H, W) -> (N, num_classes), any H and W.
    """

    def __init__(self, num_classes, *, width=64, skip=True):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = self._stage(width, width, 1, skip)
        self.layer2 = self._stage(width, 2 * width, 2, skip)
        self.layer3 = self._stage(2 * width, 4 * width, 2, skip)
        self.layer4 = self._stage(4 * width, 8 * width, 2, skip)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(8 * width, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    @staticmethod
    def _stage(in_channels, channels, stride, skip):
        return nn.Sequential(
            BasicBlock(in_channels, channels, stride, skip=skip), BasicBlock(channels, channels, skip=skip)
        )

    def features(self, x):
        """The map that the pooling layer sees: (N, 3, H, W) -> (N, 8·width, H/32, W/32), rounded up."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))  # (N, width, H/4, W/4)
        x = self.layer1(x)  # (N, width, H/4, W/4)
        x = self.layer2(x)  # (N, 2·width, H/8, W/8)
        x = self.layer3(x)  # (N, 4·width, H/16, W/16)
        return self.layer4(x)  # (N, 8·width, H/32, W/32)

    def forward(self, x):
        x = self.avgpool(self.features(x))  # (N, 8·width, 1, 1)
        return self.fc(x.flatten(1))  # (N, num_classes)
