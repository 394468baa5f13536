"""Colour on tensors: RGB in [0, 1] to grey, to CIE Lab and back, and colours as classes.

scikit-image does the same on arrays and is the oracle of the tests; these run on the GPU, in batches.
"""

from functools import cache

import torch
import torch.nn.functional as F
from torch import nn

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, what PIL's convert("L") uses
_RGB_TO_XYZ = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
_XYZ_TO_RGB = tuple(map(tuple, torch.linalg.inv(torch.tensor(_RGB_TO_XYZ, dtype=torch.float64)).tolist()))
_WHITE = (0.95047, 1.0, 1.08883)  # D65, 2° observer
REACH = 128  # largest a and b


def to_float(images):
    """Pictures as they are stored -> as they are computed with: uint8 to float in [0, 1], any shape."""
    return images.float() / 255


def rgb_to_grey(rgb):
    """Luma of RGB pictures: (N, 3, H, W) -> (N, 1, H, W), in the range of the input."""
    return torch.einsum("nchw,c->nhw", rgb, _constant(LUMA, rgb.dtype, rgb.device)).unsqueeze(1)


def put_lightness_back(rgb, grey):
    """Keep a prediction's colour, and take its lightness from the grey picture that was the input.

    Adding one number to all three channels changes luma but neither of the colour differences R−Y and
    B−Y, so this is exact but for clipping. (N, 3, H, W) and (N, 1, H, W) in [0, 1] -> (N, 3, H, W).
    """
    return (rgb + grey - rgb_to_grey(rgb)).clamp(0, 1)


def rgb_to_lab(rgb):
    """sRGB in [0, 1] to CIE Lab (L in [0, 100], a and b about ±100), both (N, 3, H, W)."""
    linear = torch.where(rgb > 0.04045, ((rgb.clamp(min=0.04045) + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    xyz = _mix(_RGB_TO_XYZ, linear) / _constant(_WHITE, rgb.dtype, rgb.device)[:, None, None]
    f = torch.where(xyz > 0.008856, xyz.clamp(min=0.008856) ** (1 / 3), 7.787 * xyz + 16 / 116)
    x, y, z = f.unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], 1)


def lab_to_rgb(lab):
    """CIE Lab to sRGB, clipped to [0, 1]; both (N, 3, H, W)."""
    lightness, a, b = lab.unbind(1)
    y = (lightness + 16) / 116
    f = torch.stack([y + a / 500, y, (y - b / 200).clamp(min=0)], 1)
    xyz = torch.where(f > 0.2068966, f**3, (f - 16 / 116) / 7.787)
    xyz = xyz * _constant(_WHITE, lab.dtype, lab.device)[:, None, None]
    linear = _mix(_XYZ_TO_RGB, xyz)
    curved = 1.055 * linear.clamp(min=0.0031308) ** (1 / 2.4) - 0.055
    return torch.where(linear > 0.0031308, curved, 12.92 * linear).clamp(0, 1)


class ColourClasses(nn.Module):
    """Colours as classes (Zhang et al., 2016, arXiv:1603.08511): cells of the ab plane that sRGB can reach.

    A network that names a *probability* for each cell may answer "grey-green or red" where one that
    gives a single colour must answer with their brownish mean. As in the paper, a pixel's truth is spread
    over its 5 nearest cells, and each answer is for ``stride`` × ``stride`` pixels: eyes see colour coarsely.
    Unlike there, rare colours are raised when an answer is read, not in the loss: one network then gives
    faithful and vivid pictures, and learns faster. Cells are those that hold a colour of the sRGB cube (259
    of 10 × 10; the paper counts 313), and ab values are looked up on a grid of whole numbers.

    Attributes:
        centres: (Q, 2), the ab value of each cell.
        weights: (Q,), how much rarer than others each cell is; ones until ``rebalance`` has seen data.
    """

    def __init__(self, step=10.0, near=5, sigma=5.0, stride=4):
        super().__init__()
        self.stride = stride
        levels = torch.linspace(0, 1, 33)
        cube = torch.cartesian_prod(levels, levels, levels).T.reshape(1, 3, -1, 1)
        cells = (rgb_to_lab(cube)[0, 1:, :, 0].T / step).round().long()  # (33³, 2)
        centres = torch.unique(cells, dim=0).float() * step
        axis = torch.arange(-REACH, REACH + 1.0)
        far, nearest = torch.cdist(torch.cartesian_prod(axis, axis), centres).topk(near, largest=False)
        self.sigma = sigma
        self.register_buffer("centres", centres)
        self.register_buffer("nearest", nearest.view(len(axis), len(axis), near))  # of each whole (a, b)
        self.register_buffer("shares", torch.softmax(-(far**2) / (2 * sigma**2), 1).view_as(self.nearest))
        self.register_buffer("weights", torch.ones(len(centres)))

    def encode(self, rgb):
        """(N, 3, H, W) RGB in [0, 1] -> 5 nearest classes, their shares: both (N, H/stride, W/stride, 5)."""
        rgb = F.avg_pool2d(rgb, self.stride, ceil_mode=True)
        a, b = (rgb_to_lab(rgb)[:, 1:].round().long() + REACH).clamp(0, 2 * REACH).unbind(1)
        return self.nearest[a, b], self.shares[a, b]

    def decode(self, logits, grey, temperature=0.38, rarity=0.0):
        """The annealed mean of the predicted colours on the input's lightness: (N, 3, H, W) RGB in [0, 1].

        ``temperature`` 1 takes the mean of all that the network holds possible, towards 0 the likeliest
        colour alone. ``rarity`` 0 believes the network, which is closest to the truth, and pale; 1 multiplies
        its probabilities by ``weights``, as if each colour were about as common as the next: vivid, and
        further off where it is wrong.
        """
        raised = logits + rarity * self.weights.log()[:, None, None]
        probability = torch.softmax(raised / temperature, 1)
        ab = torch.einsum("nqhw,qc->nchw", probability, self.centres.to(logits.dtype))
        ab = F.interpolate(ab, size=grey.shape[-2:], mode="bilinear", align_corners=False)
        lightness = rgb_to_lab(grey.expand(-1, 3, -1, -1))[:, :1]
        return put_lightness_back(lab_to_rgb(torch.cat([lightness, ab], 1)), grey)

    def rebalance(self, batches, uniform=0.5):
        """Learn how rare each colour is, as the paper's equation 4: 1 / ((1 − λ)·p + λ/Q), mean weight 1.

        p are the shares of the cells in all ``batches`` (N, 3, H, W), smoothed by a Gaussian of ``sigma``.
        """
        count = torch.zeros(len(self.centres), dtype=torch.float64)
        for rgb in batches:
            count += torch.bincount(self.encode(rgb)[0][..., 0].flatten(), minlength=len(count))
        kernel = torch.exp(-(torch.cdist(self.centres, self.centres) ** 2) / (2 * self.sigma**2)).double()
        share = (kernel / kernel.sum(0)) @ (count / count.sum())
        weights = 1 / ((1 - uniform) * share + uniform / len(share))
        self.weights.copy_((weights / (share * weights).sum()).float())
        return self


def _mix(matrix, pixels):
    return torch.einsum("dc,nchw->ndhw", _constant(matrix, pixels.dtype, pixels.device), pixels)


@cache  # a copy for each batch would make a program wait for its GPU
def _constant(values, dtype, device):
    return torch.tensor(values, dtype=dtype, device=device)
