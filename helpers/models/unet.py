"""U-Net (Ronneberger et al., 2015, arXiv:1505.04597), with every skip connection removable."""

import torch
import torch.nn.functional as F
from torch import nn

LEVELS = 4


def double_conv(in_channels, channels):
    """(3×3 conv → BN → ReLU) twice: (N, in_channels, H, W) -> (N, channels, H, W)."""
    layers = []
    for source in (in_channels, channels):
        # Padded, unlike the paper, so that sizes stay; batch norm, unlike the paper, so that lr 1e-3 works.
        layers += [nn.Conv2d(source, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)]
        layers += [nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """U-Net: a contracting path, a bottleneck, and an expanding path, bridged at each of four levels.

    Args:
        in_channels, out_channels: 3 and the number of classes, or 1 and 3 to colour a grey picture.
        width: channels of the first level (the paper's net has 64); each level down doubles them.
        skip: join each contracting level to its expanding twin. ``False`` gives the same hourglass
            without those bridges; a sequence of four bools sets the levels one by one, shallow first.
        stride: answer once for each square of so many pixels, from the mean of their features.

    Shape: (N, in_channels, H, W) -> (N, out_channels, H, W), any H and W of at least 16; with a ``stride``
    H/stride and W/stride, rounded up.
    """

    def __init__(self, in_channels, out_channels, *, width=64, skip=True, stride=1):
        super().__init__()
        self.skip = (skip,) * LEVELS if isinstance(skip, bool) else tuple(bool(s) for s in skip)
        if len(self.skip) != LEVELS:
            raise ValueError(f"skip has {len(self.skip)} values, but this U-Net has {LEVELS} levels")
        channels = [width * 2**level for level in range(LEVELS + 1)]
        self.down = nn.ModuleList(
            double_conv(i, o) for i, o in zip([in_channels, *channels], channels[:-1], strict=False)
        )
        self.bottleneck = double_conv(channels[-2], channels[-1])
        self.upsample = nn.ModuleList(nn.ConvTranspose2d(2 * c, c, 2, stride=2) for c in channels[:-1])
        # An expanding block reads the upsampled map and, where there is a skip, its twin beside it.
        self.up = nn.ModuleList(
            double_conv(2 * c if s else c, c) for c, s in zip(channels[:-1], self.skip, strict=True)
        )
        self.head, self.stride = nn.Conv2d(width, out_channels, 1), stride

    def forward(self, x):
        if min(x.shape[-2:]) < 2**LEVELS:
            raise ValueError(f"images of {x.shape[-2]}×{x.shape[-1]}: U-Net needs at least 16×16")
        bridges = []
        for block in self.down:
            x = block(x)  # (N, width·2^level, H/2^level, W/2^level)
            bridges.append(x)
            x = F.max_pool2d(x, 2)
        x = self.bottleneck(x)  # (N, 16·width, H/16, W/16)
        for level in reversed(range(LEVELS)):
            twin = bridges[level]
            x = match_size(self.upsample[level](x), twin.shape[-2:])  # the twin's shape
            x = self.up[level](torch.cat([twin, x], 1) if self.skip[level] else x)
        if self.stride > 1:
            x = F.avg_pool2d(x, self.stride, ceil_mode=True)  # before the head, which then has less to do
        return self.head(x)


def match_size(x, size):
    """Repeat the last row or column where pooling had rounded an odd size down."""
    if x.shape[-2:] == size:
        return x  # padding by nothing would still copy
    return F.pad(x, (0, size[1] - x.shape[-1], 0, size[0] - x.shape[-2]), mode="replicate")
