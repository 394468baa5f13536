"""A camera on a road. It paints what stands there into an image and into a mask of Lyft ids.

World: metres, x to the right of the camera, y up from the road, z ahead along the road.
"""

import math
from collections import namedtuple
from enum import IntEnum

import numpy as np
from PIL import Image, ImageColor, ImageDraw

SCALE = 2  # drawn this much larger, then reduced: smooth edges in the image
EYE, NEAR = 1.5, 1.0  # the camera's height; what lies nearer is cut off


class Id(IntEnum):
    NONE, BUILDING, FENCE, OTHER, PERSON, POLE, LINE, ROAD, SIDEWALK, PLANT, VEHICLE, WALL, SIGN = (
        range(13)
    )


def palette(codes):
    return [ImageColor.getrgb(f"#{code}") for code in codes.split()]


# sky, haze: colours; light: factors on red, green and blue of all surfaces;
# sun: from 0 (no shadows) to 1 (harsh); sight: metres after which haze leaves 1/e of a colour;
# wet: share of light that the road mirrors; lit: share of lit windows.
Weather = namedtuple("Weather", "sky haze light sun sight wet lit")
WEATHERS = [
    Weather(*palette("3a72c4 bed0e0"), (1.05, 1.04, 1.0), 0.9, 400, 0, 0),  # noon
    Weather(*palette("a0a8b2 cdd0d2"), (0.85, 0.87, 0.9), 0.1, 250, 0, 0),  # overcast
    Weather(*palette("96887c f5cd8c"), (1.05, 0.86, 0.62), 1.0, 220, 0.15, 0),  # low sun
    Weather(*palette("69707a a5acb2"), (0.6, 0.64, 0.7), 0.0, 110, 0.5, 0.2),  # rain
    Weather(*palette("283054 c8826e"), (0.5, 0.5, 0.64), 0.1, 200, 0, 0.45),  # dusk
    Weather(*palette("bec2c6 ced1d4"), (0.86, 0.88, 0.9), 0.0, 50, 0, 0),  # fog
]
# Strength of the grain on each class.
TEXTURE = np.float32([0, 4, 4, 3, 3, 2, 4, 5, 5, 15, 1, 7, 2]) / 100


def pair(value):
    return value if isinstance(value, tuple) else (value, value)


class View:
    """A camera on a road of constant curvature, with the image and the mask that it paints."""

    def __init__(self, width, height, rng):
        self.size = width * SCALE, height * SCALE
        self.weather = rng.choice(WEATHERS)
        self.focal, self.centre = 0.8 * self.size[0], rng.uniform(0.44, 0.56) * self.size[0]
        self.horizon = rng.uniform(0.43, 0.49) * self.size[1]
        self.bend = rng.uniform(-0.004, 0.004)  # half the curvature, in 1/m
        self.sun = rng.choice((-1, 1)) * self.weather.sun  # > 0: light from the right
        self.town = rng.uniform(0.1, 0.5)  # share of plots with a house
        self.image = self.sky(np.random.default_rng(rng.getrandbits(32)))
        self.mask = Image.new("L", self.size, Id.NONE)
        self.pen, self.label_pen = ImageDraw.Draw(self.image, "RGBA"), ImageDraw.Draw(self.mask)

    def sky(self, rng):
        """A gradient with clouds, computed tiny and enlarged."""
        cells = [Image.fromarray(rng.random((n, n), np.float32)).resize((48, 36)) for n in (5, 12)]
        cloud = np.clip(2.4 * np.asarray(cells[0]) + 1.5 * np.asarray(cells[1]) - 1.8, 0, 0.7)[
            ..., None
        ]
        fall = np.linspace(0, 2.1, 36).clip(0, 1)[:, None, None] ** 0.8
        sky = fall * self.weather.haze + (1 - fall) * self.weather.sky
        bright = 0.6 * np.array(self.weather.haze) + 95 * max(self.weather.light) ** 2
        sky = (sky + cloud * (bright - sky)).clip(0, 255).astype(np.uint8)
        return Image.fromarray(sky).resize(self.size, Image.Resampling.BILINEAR)

    def paint(self, points, colour, label=None, bright=1.0, alpha=255, glow=False, shape="polygon"):
        """Fill a polygon of (x, y, z), or the ellipse between two corners.

        Without a label the mask stays as it is.
        """
        depth = max([z for _, _, z in points])
        # Behind the camera, or too far for details.
        if depth <= NEAR or (label is None and depth > 50):
            return
        pixels = []
        for x, y, z in points:
            z = max(z, NEAR)
            scale = self.focal / z
            pixels.append(
                (self.centre + scale * (x + self.bend * z * z), self.horizon + scale * (EYE - y))
            )
        clear, light = (
            math.exp(-depth / self.weather.sight),
            (1, 1, 1) if glow else self.weather.light,
        )
        channels = zip(colour, light, self.weather.haze, strict=True)
        lit = [int(h + clear * (c * bright * k - h)) for c, k, h in channels]
        getattr(self.pen, shape)(pixels, fill=(*lit, alpha))
        if label is not None:
            getattr(self.label_pen, shape)(pixels, fill=int(label))

    def rect(self, x, y, z, colour, label=None, **how):
        """A rectangle across or along the road, flat or sloping.

        x, y and z are numbers or (from, to).
        """
        (x0, x1), (y0, y1), (z0, z1) = map(pair, (x, y, z))
        second, last = ((x1, y0, z0), (x0, y1, z0)) if z0 == z1 else ((x0, y0, z1), (x1, y1, z0))
        self.paint([(x0, y0, z0), second, (x1, y1, z1), last], colour, label, **how)

    def box(self, x, y, z, colour, label, bright=1.0):
        """A box from three (from, to) pairs, brighter on the sun's side."""
        for face in sorted(x, key=abs, reverse=True):  # the visible one last
            sunny = self.sun if face == max(x) else -self.sun
            self.rect(face, y, z, colour, label, bright=bright * (0.75 + 0.3 * sunny))
        if y[1] < EYE:
            self.rect(x, y[1], z, colour, label, bright=1.1 * bright)
        if z[0] > NEAR:
            self.rect(x, y, z[0], colour, label, bright=0.85 * bright)

    def limb(self, x, y, z, half, colour, label, **how):
        """An upright strip. x, y, z and its half width: numbers, or (at the foot, at the head)."""
        (x0, x1), (y0, y1), (z0, z1), (half, half1) = map(pair, (x, y, z, half))
        foot, head = (
            [(x0 + half, y0, z0), (x0 - half, y0, z0)],
            [(x1 - half1, y1, z1), (x1 + half1, y1, z1)],
        )
        self.paint(foot + head, colour, label, **how)

    def blob(self, x, y, z, rx, ry, colour, label=None, **how):
        """An upright ellipse with half-axes rx and ry."""
        self.paint(
            [(x - rx, y + ry, z), (x + rx, y - ry, z)], colour, label, shape="ellipse", **how
        )

    def develop(self, seed):
        """Reduce to image and mask arrays. Add grain, reflections, the bonnet and noise."""
        rng = np.random.default_rng(seed)
        image = np.asarray(self.image.reduce(SCALE), np.float32)
        mask = np.asarray(self.mask)[SCALE // 2 :: SCALE, SCALE // 2 :: SCALE].copy()
        height, width = mask.shape
        grain = rng.standard_normal((height, width), np.float32)
        grain += np.roll(grain, 1, axis=1)
        image *= 1 + (min(1, self.weather.sight / 150) * TEXTURE[mask] * grain)[..., None]
        image += 0.05 * (image @ np.full((3, 3), 1 / 3, np.float32) - image)
        rows, columns = np.arange(height)[:, None], np.arange(width)
        if self.weather.wet:
            ripples = np.round(grain).astype(int)
            mirrored = (2 * int(self.horizon / SCALE) - rows + ripples).clip(0, height - 1)
            road = np.isin(mask, (Id.ROAD, Id.LINE))[..., None] * np.float32(self.weather.wet)
            image += road * (0.9 * image[mirrored, columns] - image)
        bonnet = rows > height * (0.855 + 0.03 * np.linspace(-1, 1, width) ** 2)
        mask[bonnet] = Id.VEHICLE
        image[bonnet] = 12 + 0.12 * image[::-1][bonnet]  # it mirrors the sky
        image += 2 * rng.standard_normal((height, width, 1), np.float32)
        return image.clip(0, 255).astype(np.uint8), mask
