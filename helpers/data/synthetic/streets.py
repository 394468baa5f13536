"""Draws miniature street scenes over the bonnet of a car, with the class of every pixel (Lyft ids).

World: metres; x to the right of the camera, y up from the road, z ahead along the road. A pinhole
camera projects polygons of such points, painted from far to near, each into image and mask alike.
"""

import math
from collections import namedtuple
from enum import IntEnum
from itertools import product
from random import Random

import numpy as np
from PIL import Image, ImageColor, ImageDraw

# Difficulty: more of any of these makes the classes harder to tell.
TEXTURE = 1.0  # strength of the grain on road, stone and leaves
NOISE = 2.0  # standard deviation of the camera's noise, in grey levels of 255
GREYNESS = 0.05  # 0 leaves the colours alone, 1 makes a grey picture
CLUTTER = 1.0  # number of things on the sidewalks
REACH = 28

SCALE = 2  # drawn this much larger, then reduced: smooth edges in the image
EYE, SPEED = 1.5, 8.0  # the camera's height and its metres a second
NEAR, FAR = 1.0, 80.0  # what lies nearer is cut off, what lies further isn't drawn


class Id(IntEnum):
    NONE, BUILDING, FENCE, OTHER, PERSON, POLE, LINE, ROAD, SIDEWALK, PLANT, VEHICLE, WALL, SIGN = range(13)


def palette(codes):
    return [ImageColor.getrgb(f"#{code}") for code in codes.split()]


# Colours of sky and haze; factors on red, green, blue of all surfaces; sun from 0 (shadowless) to 1 (harsh);
# metres after which haze leaves 1/e of a colour; share of light the road mirrors; share of lit windows.
Weather = namedtuple("Weather", "sky haze light sun sight wet lit")
WEATHERS = [
    Weather(*palette("3a72c4 bed0e0"), (1.05, 1.04, 1.0), 0.9, 400, 0, 0),  # noon
    Weather(*palette("a0a8b2 cdd0d2"), (0.85, 0.87, 0.9), 0.1, 250, 0, 0),  # overcast
    Weather(*palette("96887c f5cd8c"), (1.05, 0.86, 0.62), 1.0, 220, 0.15, 0),  # low sun
    Weather(*palette("69707a a5acb2"), (0.6, 0.64, 0.7), 0.0, 110, 0.5, 0.2),  # rain
    Weather(*palette("283054 c8826e"), (0.5, 0.5, 0.64), 0.1, 200, 0, 0.45),  # dusk
    Weather(*palette("bec2c6 ced1d4"), (0.86, 0.88, 0.9), 0.0, 50, 0, 0),  # fog
]
FACADES = palette("a05844 b2a28c 7a7c80 627462 ccc4b4 8a6e5c 5c6678 d0ac7a 80463e e2ded6")
STONES = palette("84827e a0988c 706e70 967662 b2b0aa")
METALS = palette("787c7e 969898 4c5250 c4c2ba")
WOODS = palette("8a5a34 a87850 6a4428 e8e4da")
CLOTHES = palette("282c3c d0282c 2c56c8 e87828 e0c030 c83080 30a8a8")
PAINTS = palette("c8ccd0 2a2c32 787c82 b02020 244690 e2e2de deb428 2e5446 68685c")
LACQUERS = palette("6a3c8c 4c2a70 8c50a0 2e7868")
LEAVES = palette("42602c 32522c 586c30 2c4632 687438 8c6c2c")
SIGNS = palette("d02424 2850b4 ecc024 288a50 e8e8e4")
GLASS = palette("262e3a 465462 78828a 343230")
DARK, PALE = (24, 25, 28), (220, 218, 210)
# Boxes (x from, to; y from, to; z from, to; brightness) of a kiosk, bin, bench and bus shelter.
FURNITURE = [
    [(-0.8, 0.8, 0, 2.2, 0, 1.6, 1), (-0.6, 0.6, 1.1, 1.8, -0.02, 0, 0.4), (-1, 1, 2.2, 2.4, -0.2, 1.8, 0.6)],
    [(-0.35, 0.35, 0, 1.1, 0, 0.7, 1), (-0.4, 0.4, 1.1, 1.25, -0.05, 0.75, 0.6)],
    [(-0.2, 0.2, 0, 0.45, 0.1, 1.7, 0.4), (-0.3, 0.3, 0.45, 0.55, 0, 1.8, 1), (0.2, 0.3, 0.6, 1, 0, 1.8, 1)],
    [(-0.5, 0.7, 0, 2.2, 3, 3.1, 1), (-0.7, -0.6, 0, 2.3, 0, 0.1, 0.5), (-0.8, 0.8, 2.3, 2.5, 0, 3.2, 0.7)],
]


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
        cloud = np.clip(2.4 * np.asarray(cells[0]) + 1.5 * np.asarray(cells[1]) - 1.8, 0, 0.7)[..., None]
        fall = np.linspace(0, 2.1, 36).clip(0, 1)[:, None, None] ** 0.8
        sky = fall * self.weather.haze + (1 - fall) * self.weather.sky
        bright = 0.6 * np.array(self.weather.haze) + 95 * max(self.weather.light) ** 2
        sky = (sky + cloud * (bright - sky)).clip(0, 255).astype(np.uint8)
        return Image.fromarray(sky).resize(self.size, Image.Resampling.BILINEAR)

    def paint(self, points, colour, label=None, bright=1.0, alpha=255, glow=False, shape="polygon"):
        """Fill a polygon of (x, y, z), or the ellipse between two corners; no label leaves the mask alone."""
        depth = max([z for _, _, z in points])
        if depth <= NEAR or (label is None and depth > 50):  # behind the camera, or too far for details
            return
        pixels = []
        for x, y, z in points:
            z = max(z, NEAR)
            scale = self.focal / z
            pixels.append((self.centre + scale * (x + self.bend * z * z), self.horizon + scale * (EYE - y)))
        clear, light = math.exp(-depth / self.weather.sight), (1, 1, 1) if glow else self.weather.light
        channels = zip(colour, light, self.weather.haze, strict=True)
        lit = [int(h + clear * (c * bright * k - h)) for c, k, h in channels]
        getattr(self.pen, shape)(pixels, fill=(*lit, alpha))
        if label is not None:
            getattr(self.label_pen, shape)(pixels, fill=int(label))

    def rect(self, x, y, z, colour, label=None, **how):
        """A rectangle across or along the road, or flat: two of x, y, z are (from, to), one a number."""
        (x0, x1), (y0, y1), (z0, z1) = (v if isinstance(v, tuple) else (v, v) for v in (x, y, z))
        second, last = ((x0, y0, z1), (x1, y0, z0)) if y0 == y1 else ((x1, y0, z1), (x0, y1, z0))
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
        """An upright strip that leans from x[0] to x[1] and tapers from half width half[0] to half[1]."""
        foot, head = ((x[i] - half[i], y[i], z) for i in (0, 1)), ((x[i] + half[i], y[i], z) for i in (1, 0))
        self.paint([*foot, *head], colour, label, **how)

    def blob(self, x, y, z, rx, ry, colour, label=None, **how):
        """An upright ellipse with half-axes rx and ry."""
        self.paint([(x - rx, y + ry, z), (x + rx, y - ry, z)], colour, label, shape="ellipse", **how)


# A thing is a function of the view, its own random numbers, its side of the road (-1, 1), x, z, length.


def building(view, rng, side, x, z, length):
    floors, colour, glass, end = rng.randint(1, 5), rng.choice(FACADES), rng.choice(GLASS), z + length
    top, back, ridge, eave = 3 * floors + 0.6, x + side * 9, x + side * 4.5, x - side * 0.3
    view.box((x, back), (0, top), (z, end), colour, Id.BUILDING)
    if rng.random() < 0.5:  # a gabled roof
        slope = [(eave, top, z), (eave, top, end), (ridge, top + 3, end), (ridge, top + 3, z)]
        view.paint(slope, rng.choice(FACADES), Id.BUILDING, 0.5)
        view.paint([(x, top, z), (back, top, z), slope[-1]], colour, Id.BUILDING, 0.8)
    step, share, tall = rng.uniform(2, 3.4), rng.choice((0.45, 0.55, 0.96)), rng.uniform(1.1, 2)
    for column, floor in product(range(int(length / step)), range(floors)):
        start, y, lit = z + (column + 0.3) * step, 3 * floor + 0.8, rng.random() < view.weather.lit
        pane = {"colour": (255, 214, 140) if lit else glass, "bright": rng.uniform(0.7, 1.3), "glow": lit}
        view.rect(x, (y, y + tall), (start, start + share * step), **pane)
        if column < 3 and z > NEAR:  # the end wall
            across = x + side * (1 + 2.7 * column)
            view.rect((across, across + side * 1.4), (y, y + tall), z, **pane)
    if rng.random() < 0.5:
        view.rect(eave, (2.5, 3.1), (z + 0.5, end - 0.5), rng.choice(PAINTS), Id.BUILDING)  # a shop's awning


def fence(view, rng, side, x, z, length):
    height, colour = rng.uniform(1.2, 1.9), rng.choice(WOODS)
    step, share = rng.uniform(0.3, 0.5), rng.uniform(0.2, 0.8)
    if share < 0.3:  # wire mesh counts as filled, although one sees through
        view.rect(x, (0, height), (z, z + length), colour, Id.FENCE, alpha=110)
    for start in np.arange(z, min(z + length, 50), step):
        view.rect(x, (0.05, height), (start, start + share * step), colour, Id.FENCE)
    for y in (0.2, 0.5 * height, height - 0.2):
        view.rect(x, (y, y + 0.1), (z, z + length), colour, Id.FENCE, bright=0.8)


def wall(view, rng, side, x, z, length):
    rows, colour = rng.randint(3, 6), rng.choice(STONES)
    view.box((x, x + side * 0.4), (0, 0.4 * rows), (z, z + length), colour, Id.WALL)
    for i in range(6 * rows):  # stones of other shades
        y, start, bright = 0.4 * (i % rows), z + length * rng.random(), rng.uniform(0.5, 1)
        view.rect(x, (y, y + 0.36), (start, start + rng.uniform(0.3, 1)), colour, bright=bright, alpha=120)
    view.rect(x, (0.4 * rows, 0.4 * rows + 0.12), (z, z + length), colour, Id.WALL, bright=1.1)


def bush(view, rng, side, x, z, length):
    colour, height = rng.choice(LEAVES), rng.uniform(0.3, 0.8)
    for start in np.arange(z + length, max(z, NEAR), -1):
        size = height * rng.uniform(0.7, 1.1)
        view.blob(x, 0.7 * size, start, size, size, colour, Id.PLANT, bright=rng.uniform(0.6, 1.1))


def tree(view, rng, side, x, z, length):
    colour, height, slim = rng.choice(LEAVES), rng.uniform(3.5, 8), rng.uniform(0.15, 0.3)
    view.limb((x, x), (0, 0.7 * height), z, (0.2, 0.1), (88, 76, 64), Id.PLANT)
    for i in range(15):
        angle, far, size = rng.uniform(0, 6.28), rng.random() ** 0.5, height * rng.uniform(0.07, 0.14)
        dx, dy = far * math.cos(angle) * slim, far * math.sin(angle) * 0.3
        bright = 0.55 + 0.03 * i + 0.3 * dy + 0.8 * view.sun * dx
        view.blob(x + dx * height, (0.68 + dy) * height, z, size, 0.8 * size, colour, Id.PLANT, bright=bright)


def plot(view, rng, side, x, z, length):
    """What lines the sidewalk: a house, or a low border with a house or trees behind."""
    if rng.random() < view.town:
        return building(view, rng, side, x, z, length)
    if rng.random() < view.town:
        building(view, rng, side, x + side * rng.uniform(4, 12), z, length)
    for _ in range(rng.randint(0, 3)):
        tree(view, rng, side, x + side * rng.uniform(2, 8), z + length * rng.random(), 0)
    rng.choice((fence, fence, fence, wall, wall, bush))(view, rng, side, x, z, length)


def lamp(view, rng, side, x, z, length):
    colour, y, end, lit = rng.choice(METALS), rng.uniform(4.5, 7), x - side * 1.6, view.weather.lit > 0
    view.limb((x, x), (0, y), z, (0.22, 0.17), colour, Id.POLE)
    view.paint([(x, y - 0.15, z), (x, y + 0.15, z), (end, y + 0.5, z), (end, y + 0.2, z)], colour, Id.POLE)
    view.blob(end, y + 0.25, z, 0.35, 0.13, (255, 236, 190) if lit else colour, Id.POLE, glow=lit)


def traffic_light(view, rng, side, x, z, length):
    y, shining = rng.uniform(2.4, 3.2), rng.randrange(3)
    view.limb((x, x), (0, y), z, (0.18, 0.18), rng.choice(METALS), Id.POLE)
    view.rect((x - 0.32, x + 0.32), (y, y + 1.2), z, DARK, Id.SIGN)
    for i, colour in enumerate(palette("3ce678 fabe3c fa3c32")):
        lit = i == shining
        view.blob(x, y + 0.24 + 0.37 * i, z, 0.15, 0.15, colour, bright=1 if lit else 0.25, glow=lit)


def sign(view, rng, side, x, z, length):
    y, size = rng.uniform(2.2, 2.8), rng.uniform(0.5, 0.7)
    corners, turn = rng.choice((3, 4, 20)), rng.choice((0, 0.5))
    view.limb((x, x), (0, y), z, (0.17, 0.17), rng.choice(METALS), Id.POLE)
    for radius in (size, 0.68 * size):
        angles = [2 * math.pi * (i + turn) / corners for i in range(corners)]
        points = [(x + radius * math.sin(a), y + radius * math.cos(a), z) for a in angles]
        view.paint(points, rng.choice(SIGNS), Id.SIGN)


def person(view, rng, side, x, z, length):
    size, step, legs, top = rng.uniform(0.9, 1.08), rng.uniform(0.08, 0.2), *rng.choices(CLOTHES, k=2)
    for s in (-1, 1):
        shade = {"label": Id.PERSON, "bright": 0.85 + 0.1 * s}
        view.limb((x + s * step, x + s * 0.12), (0, 0.9 * size), z, (0.11, 0.15), legs, **shade)
        view.limb((x + s * 0.38, x + s * 0.28), (0.8 * size, 1.4 * size), z, (0.09, 0.09), top, **shade)
    view.limb((x, x), (0.85 * size, 1.42 * size), z, (0.26, 0.3), top, Id.PERSON)
    view.blob(x, 1.58 * size, z, 0.16, 0.19, (214, 172, 142), Id.PERSON, bright=rng.uniform(0.45, 1.1))
    view.blob(x, 1.68 * size, z, 0.16, 0.1, (70, 50, 36), Id.PERSON, bright=rng.uniform(0.3, 2))


def vehicle(view, rng, side, x, z, length):
    """A car or van, seen from behind (side 1) or from the front (side -1)."""
    colour, end, left, right, lit = rng.choice(PAINTS), z + length, x - 0.88, x + 0.88, view.weather.lit > 0
    waist, top, hood, slope = rng.choice([(0.88, 1.45, 0.8 - 0.3 * side, 0.6)] * 4 + [(1.15, 2.2, 0.1, 0.15)])
    hood, roof, roof_end = z + hood, z + hood + slope, end - 1.1
    view.rect((left - 0.15, right + 0.15), 0, (z - 0.3, end + 0.2), DARK, alpha=150)  # its shadow
    view.box((left + 0.1, right - 0.1), (0.12, 0.4), (z + 0.1, end - 0.1), DARK, Id.VEHICLE)
    view.box((left, right), (0.32, waist), (z, end), colour, Id.VEHICLE)
    for edge in sorted((left, right), key=abs, reverse=True):  # the visible side last
        inner = edge + 0.16 * (x - edge)
        window = [(edge, waist, hood), (edge, waist, end - 0.5), (inner, top, roof_end), (inner, top, roof)]
        view.paint(window, GLASS[1], Id.VEHICLE)
        for wheel in (z + 0.8, end - 0.8):
            rim = [(edge, 0.33 + 0.33 * math.sin(a), wheel + 0.33 * math.cos(a)) for a in range(7)]
            view.paint(rim, DARK, Id.VEHICLE)
    view.rect((left + 0.14, right - 0.14), top, (roof, roof_end), colour, Id.VEHICLE, bright=1.1)
    if z <= NEAR:
        return
    for half, low, high, shade in ((0.88, waist, top, colour), (0.74, waist + 0.05, top - 0.08, GLASS[0])):
        screen = [(half, low, hood), (half - 0.14, high, roof), (0.14 - half, high, roof), (-half, low, hood)]
        view.paint([(x + dx, y, depth) for dx, y, depth in screen], shade, Id.VEHICLE, 0.9)
    for edge in (left + 0.22, right - 0.22):
        lamps = (230, 40, 30) if side > 0 else (250, 245, 215)
        view.rect((edge - 0.2, edge + 0.2), (0.62, 0.8), z, lamps, glow=lit)
    view.rect((x - 0.27, x + 0.27), (0.45, 0.57), z, PALE)


def furniture(view, rng, side, x, z, length):
    colour = rng.choice(LACQUERS)
    for x0, x1, y0, y1, z0, z1, bright in rng.choice(FURNITURE):
        view.box((x + side * x0, x + side * x1), (y0, y1), (z + z0, z + z1), colour, Id.OTHER, bright)


SIDEWALK_THINGS = {lamp: 4, traffic_light: 2, sign: 4, tree: 3, furniture: 3, person: 9}  # how often


def draw_ground(view, rng, left, right, pavement, ahead):
    """Skyline, grass, sidewalks, road and its lines."""
    for x in range(-270, 270, 18):
        colours, label = rng.choice(((LEAVES, Id.PLANT), (LEAVES, Id.PLANT), (FACADES, Id.BUILDING)))
        width, height = rng.uniform(12, 30), rng.uniform(3, 10)
        view.rect((x, x + width), (0, height), 125, rng.choice(colours), label, bright=0.8)
    asphalt, slab = [rng.uniform(68, 115)] * 3, rng.choice(STONES)
    grass, paint, worn = rng.choice(LEAVES), rng.choice(((220, 170, 50), PALE)), rng.randint(170, 255)
    strips = [
        (-300, 300, grass, Id.PLANT),
        (left - pavement, right + pavement, slab, Id.SIDEWALK),
        (left - 0.2, right + 0.2, [1.2 * c for c in slab], Id.SIDEWALK),  # the kerbs
        (left, right, asphalt, Id.ROAD),
        (left + 0.25, left + 0.45, PALE, Id.LINE),
        (right - 0.45, right - 0.25, PALE, Id.LINE),
    ]
    dashed = rng.random() < 0.6
    if not dashed:
        strips += [(-2.1, -1.9, paint, Id.LINE), (-1.7, -1.5, paint, Id.LINE)]
    for z in (0.6 * 1.4**i for i in range(16, -1, -1)):  # short pieces follow the bend
        for x0, x1, colour, label in strips:
            view.rect((x0, x1), 0, (z, 1.4 * z), colour, label, alpha=worn if label == Id.LINE else 255)
    for z in np.arange(-ahead % 1.5, 25, 1.5):  # joints between the slabs
        for x in (left - pavement, right):
            view.rect((x, x + pavement), 0, (z, z + 0.05), slab, bright=0.6, alpha=150)
    for z in np.arange(-ahead % 7 - 7, 80, 7) if dashed else ():
        view.rect((-1.92, -1.68), 0, (z, z + 3), paint, Id.LINE, alpha=worn)
    zebra = rng.uniform(9, 60) - ahead
    for x in np.arange(left + 0.5, right - 0.6, 1):
        view.rect((x, x + 0.5), 0, (zebra, zebra + 2.5), PALE, Id.LINE, alpha=worn)


def finish(view, seed):
    """Reduce to image and mask arrays; add grain, reflections, the bonnet and the camera's noise."""
    rng = np.random.default_rng(seed)
    image = np.asarray(view.image.reduce(SCALE), np.float32)
    mask = np.asarray(view.mask)[SCALE // 2 :: SCALE, SCALE // 2 :: SCALE].copy()
    height, width = mask.shape
    grain = rng.standard_normal((height, width), np.float32)
    grain += np.roll(grain, 1, axis=1)
    # one strength for each id
    amount = np.float32([0, 0.04, 0.04, 0.03, 0.03, 0.02, 0.04, 0.05, 0.05, 0.15, 0.01, 0.07, 0.02])[mask]
    image *= 1 + (TEXTURE * min(1, view.weather.sight / 150) * amount * grain)[..., None]
    image += GREYNESS * (image @ np.full((3, 3), 1 / 3, np.float32) - image)
    rows, columns = np.arange(height)[:, None], np.arange(width)
    if view.weather.wet:
        # ripples: the grain jitters the mirror
        above = 2 * int(view.horizon / SCALE) - rows + np.round(grain).astype(int)
        road = np.isin(mask, (Id.ROAD, Id.LINE))[..., None] * np.float32(view.weather.wet)
        image += road * (0.9 * image[above.clip(0, height - 1), columns] - image)
    bonnet = rows > height * (0.855 + 0.03 * np.linspace(-1, 1, width) ** 2)
    mask[bonnet] = Id.VEHICLE
    image[bonnet] = 12 + 0.12 * image[::-1][bonnet]  # it mirrors the sky
    image += NOISE * rng.standard_normal((height, width, 1), np.float32)
    return image.clip(0, 255).astype(np.uint8), mask


def draw_street(seed, offset=0.0, width=240, height=180):
    """Draw one scene.

    Args:
        seed: an int, or a tuple of ints, that fixes the whole scene to the byte.
        offset: seconds of driving: the same street seen from up to a few metres further on.

    Returns:
        image uint8 (height, width, 3) and mask uint8 (height, width) with class ids 0 to 12.
    """
    rng = Random(int(np.random.default_rng(seed).integers(2**62)))
    view = View(width, height, rng)
    pavement, parked = rng.uniform(2.5, 4), rng.choices((True, False), (1, 2), k=2)
    left, right = -5.5 - 2.2 * parked[0], 1.9 + 2.2 * parked[1]
    draw_ground(view, Random(rng.getrandbits(32)), left, right, pavement, SPEED * offset)
    things = []

    def add(function, side, x, z, length=1.0, speed=0.0):
        z += (speed - SPEED) * offset
        # A plot lies behind all that stands along it, a car before the sidewalk beside it.
        depth = z + length if function is plot else z
        things.append((depth, function, Random(rng.getrandbits(32)), side, x, z, length))

    for side, kerb in ((-1, left), (1, right)):
        z = -8.0
        while z < FAR:
            length = rng.uniform(7, 16)
            add(plot, side, kerb + side * pavement, z, length)
            z += length + rng.choice((0, 0, 0, 3))
        z = rng.uniform(4, 7)
        while z < REACH:
            thing = rng.choices(list(SIDEWALK_THINGS), SIDEWALK_THINGS.values())[0]
            add(thing, side, kerb + side * rng.uniform(0.4, pavement - 0.6 if thing is person else 1.2), z)
            z += rng.uniform(1.5, 4.5) / CLUTTER
        z = rng.uniform(4, 12)
        while parked[side > 0] and z < 60:
            add(vehicle, rng.choice((1, side)), kerb - side * 1.1, z, 4.2)
            z += rng.uniform(5, 18)
    for _ in range(rng.randint(0, 1)):
        add(vehicle, 1, rng.uniform(-0.2, 0.2), rng.uniform(9, 35), 4.2, SPEED)
        add(person, 1, rng.uniform(left, right), rng.uniform(8, 22))
    for _ in range(rng.randint(0, 2)):
        add(vehicle, -1, -3.6, rng.uniform(8, 50), 4.2, -SPEED)
    for _, function, *how in sorted(things, reverse=True, key=lambda thing: thing[0]):
        function(view, *how)
    return finish(view, rng.getrandbits(32))
