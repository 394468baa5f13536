"""Colour on float32 tensors: RGB to grey, to CIE Lab and back, and colours as classes.

scikit-image converts arrays on the CPU. These functions convert batches, on the GPU, too.
"""

from functools import cache

import torch
import torch.nn.functional as F

LUMA = ((0.299, 0.587, 0.114),)  # ITU-R BT.601, as in PIL's convert("L")
RGB_TO_XYZ = (
    (0.412453, 0.357580, 0.180423),
    (0.212671, 0.715160, 0.072169),
    (0.019334, 0.119193, 0.950227),
)
XYZ_TO_RGB = torch.tensor(RGB_TO_XYZ, dtype=float).inverse().float()
WHITE = torch.tensor([0.95047, 1.0, 1.08883])[:, None, None]  # D65, 2° observer

CELL = 10.0  # side of a colour class in the ab plane
REACH = 128  # largest a and b
VARIANCE = 25.0  # of the Gaussian that spreads a colour over classes


@cache  # making a new tensor for each batch would wait for the GPU
def constant(values, device):
    return torch.as_tensor(values).to(device)


def mix(matrix, images):
    """Multiply the channels of each pixel by a matrix: (N, C, H, W) -> (N, D, H, W)."""
    return torch.einsum("dc,nchw->ndhw", constant(matrix, images.device), images)


def to_float(images):
    """uint8 images as they are stored -> float in [0, 1], any shape."""
    return images.float() / 255


def rgb_to_grey(rgb):
    """Luma of RGB images: (N, 3, H, W) -> (N, 1, H, W), in the range of the input."""
    return mix(LUMA, rgb)


def put_lightness_back(rgb, grey):
    """Keep a prediction's colour and take its lightness from ``grey``, the input.

    Adding one number to all three channels changes the luma Y but not the colour differences
    R−Y and B−Y. Apart from clipping, the result therefore has exactly the input's luma.
    (N, 3, H, W) and (N, 1, H, W) in [0, 1] -> (N, 3, H, W).
    """
    return (rgb + grey - rgb_to_grey(rgb)).clamp(0, 1)


def rgb_to_lab(rgb):
    """sRGB in [0, 1] to CIE Lab (L in [0, 100], a and b about ±100), both (N, 3, H, W)."""
    linear = torch.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    xyz = mix(RGB_TO_XYZ, linear) / constant(WHITE, rgb.device)
    f = torch.where(xyz > 0.008856, xyz ** (1 / 3), 7.787 * xyz + 16 / 116)
    x, y, z = f.unbind(1)
    lab = [
        116 * y - 16,
        500 * (x - y),
        200 * (y - z),
    ]
    return torch.stack(lab, 1)


def lab_to_rgb(lab):
    """CIE Lab to sRGB, clipped to [0, 1]; both (N, 3, H, W)."""
    lightness, a, b = lab.unbind(1)
    y = (lightness + 16) / 116
    x = y + a / 500
    z = (y - b / 200).clamp(min=0)
    f = torch.stack([x, y, z], 1)
    xyz = torch.where(f > 0.2068966, f**3, (f - 16 / 116) / 7.787)
    linear = mix(XYZ_TO_RGB, xyz * constant(WHITE, lab.device))
    rgb = torch.where(linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, 12.92 * linear)
    return rgb.clamp(0, 1)


class ColourClasses(torch.nn.Module):
    """Colours as classes (Zhang et al., 2016, arXiv:1603.08511): cells of Lab's ab plane.

    A network that gives a single colour has to answer "grey-green or red" with their mean, a
    brown. One that gives a *probability* for each cell can keep both. As in the paper, the truth
    of a pixel is spread over its 5 nearest cells. Each answer is for ``stride`` × ``stride``
    pixels, because eyes see colour coarsely.

    Unlike the paper, we favour rare colours when an answer is read, not in the loss. One network
    then gives both faithful and vivid images, and it learns faster. Our cells are the 259 of
    10 × 10 that hold a colour of the sRGB cube (the paper counts 313). Colours are looked up on
    a grid of whole a and b.

    Attributes:
        centres: (Q, 2), the a and b of each cell.
        weights: (Q,), how much rarer than others each cell is; ones before ``rebalance``.
    """

    def __init__(self, stride=4):
        super().__init__()
        self.stride = stride

        # The cells that hold a colour of sRGB
        levels = torch.linspace(0, 1, 33)
        cube = torch.cartesian_prod(levels, levels, levels)  # (33³, 3)
        ab = rgb_to_lab(cube[:, :, None, None])[:, 1:, 0, 0]  # (33³, 2)
        centres = CELL * (ab / CELL).round().unique(dim=0)  # (Q, 2)

        # For each whole a and b the nearest cells, and how a colour there is shared among them
        axis = torch.arange(-REACH, REACH + 1.0)
        grid = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), 2)  # (A, A, 2)
        distance, nearest = torch.cdist(grid, centres).topk(5, largest=False)  # (A, A, 5)
        shares = torch.softmax(distance**2 / (-2 * VARIANCE), 2)

        self.register_buffer("centres", centres)
        self.register_buffer("nearest", nearest)
        self.register_buffer("shares", shares)
        self.register_buffer("weights", torch.ones(len(centres)))

    def encode(self, rgb):
        """(N, 3, H, W) RGB in [0, 1] -> the 5 nearest classes of each square, and their shares.

        Both are (N, H/stride, W/stride, 5), rounded up.
        """
        small = F.avg_pool2d(rgb, self.stride, ceil_mode=True)
        lab = rgb_to_lab(small).round().long() + REACH
        _, a, b = lab.unbind(1)
        return self.nearest[a, b], self.shares[a, b]

    def decode(self, logits, grey, temperature, rarity):
        """The mean of the predicted colours on the input's lightness.

        ``temperature`` 1 takes the mean of everything that the network holds possible. Towards 0
        the likeliest colour is left alone. ``rarity`` 0 believes the network, which is closest to
        the truth, and pale. 1 multiplies the probabilities by ``weights``, as if all colours were
        about equally common. That is vivid, and further off where it is wrong.

        (N, Q, H/stride, W/stride) and (N, 1, H, W) -> (N, 3, H, W), grey and RGB in [0, 1].
        """
        logits = logits + rarity * self.weights.log()[:, None, None]
        probability = torch.softmax(logits / temperature, 1)
        ab = torch.einsum("nqhw,qc->nchw", probability, self.centres)
        ab = F.interpolate(ab, grey.shape[2:], mode="bilinear")
        lightness = rgb_to_lab(grey.repeat(1, 3, 1, 1))[:, :1]
        rgb = lab_to_rgb(torch.cat([lightness, ab], 1))
        return put_lightness_back(rgb, grey)

    def rebalance(self, batches):
        """Set ``weights`` to 1 / (p + 1/Q), the paper's equation 4, scaled to a mean of 1.

        p are the shares of the cells in all ``batches`` (N, 3, H, W), smoothed by a Gaussian. The
        mean is over everything counted. Returns this module.
        """
        count = torch.zeros_like(self.weights, dtype=float)
        for rgb in batches:
            classes, _ = self.encode(rgb)
            count += torch.bincount(classes[..., 0].flatten(), minlength=len(count))
        distance = torch.cdist(self.centres, self.centres)
        kernel = torch.exp(distance**2 / (-2 * VARIANCE)).double()
        share = (kernel / kernel.sum(0)) @ (count / count.sum())
        weights = 1 / (share + 1 / len(share))
        self.weights.copy_(weights / (share @ weights))
        return self
