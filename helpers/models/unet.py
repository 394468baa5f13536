"""U-Net (Ronneberger et al., 2015, arXiv:1505.04597), with every skip removable."""

import torch
import torch.nn.functional as F
from torch import nn

LEVELS = 4


def double_conv(in_channels, channels):
    """(3×3 conv → BN → ReLU) twice: (N, in_channels, H, W) -> (N, channels, H, W)."""
    # Padded, unlike the paper, so that sizes stay. Batch norm, unlike the paper, for lr 1e-3.
    layers = []
    for inputs in (in_channels, channels):
        layers += [
            nn.Conv2d(inputs, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """A contracting path, a bottleneck and an expanding path, joined by a skip at each level.

    Args:
        in_channels, out_channels: 3 and the number of classes, or 1 and 3 to colour an image.
        width: channels of the first level, 64 in the paper. Each level down doubles them.
        skip: concatenate each contracting level's map with the upsampled one.
            ``False`` gives the same hourglass without skips.
            Four bools set the levels one by one, shallowest first.
        stride: give one answer for each square of so many pixels, from its mean features.

    Shape: (N, in_channels, H, W) -> (N, out_channels, H, W), any H and W of at least 16.
        With a ``stride`` the result has H/stride and W/stride, rounded up.
    """

    def __init__(self, in_channels, out_channels, *, width=64, skip=True, stride=1):
        super().__init__()
        levels = skip
        if isinstance(skip, bool):
            levels = [skip] * LEVELS
        if len(levels) != LEVELS:
            raise ValueError(f"skip has {len(levels)} values, but this U-Net has {LEVELS} levels")
        self.skip = tuple(levels)
        self.stride = stride

        channels = [width * 2**level for level in range(LEVELS)]
        self.down = nn.ModuleList(map(double_conv, [in_channels, *channels], channels))
        self.bottleneck = double_conv(8 * width, 16 * width)
        self.upsample = nn.ModuleList(nn.ConvTranspose2d(2 * c, c, 2, stride=2) for c in channels)
        self.up = nn.ModuleList()
        for c, joined in zip(channels, self.skip, strict=True):
            inputs = 2 * c if joined else c  # the skip's channels and the upsampled map's
            self.up.append(double_conv(inputs, c))
        self.head = nn.Conv2d(width, out_channels, 1)

    def forward(self, x):
        height, width = x.shape[2:]
        if min(height, width) < 16:
            raise ValueError(f"images of {height}×{width}: U-Net needs at least 16×16")
        x, skips = self.contract(x)
        x = self.bottleneck(x)  # (N, 16·width, H/16, W/16)
        x = self.expand(x, skips)
        if self.stride > 1:
            x = F.avg_pool2d(x, self.stride, ceil_mode=True)  # first: the head has less to do
        return self.head(x)

    def contract(self, x):
        """The way down: (N, in_channels, H, W) -> the bottleneck's input, and each level's map."""
        skips = []
        for block in self.down:
            x = block(x)  # (N, width·2^level, H/2^level, W/2^level)
            skips.append(x)
            x = F.max_pool2d(x, 2)
        return x, skips

    def expand(self, x, skips):
        """The way up: the bottleneck's output and the maps of ``contract`` -> (N, width, H, W)."""
        for level in reversed(range(LEVELS)):
            x = self.upsample[level](x)
            x = match_size(x, skips[level])  # (N, width·2^level, H/2^level, W/2^level)
            if self.skip[level]:
                x = torch.cat([skips[level], x], 1)
            x = self.up[level](x)
        return x


def match_size(x, like):
    """Repeat the last row or column where pooling had rounded an odd size down."""
    height, width = like.shape[2:]
    if x.shape != like.shape:
        x = F.pad(x, (0, 1, 0, 1), "replicate")
    return x[:, :, :height, :width]
