"""Draws miniature street scenes over the bonnet of a car, with the Lyft class of every pixel.

A thing is a function of the view, its own random numbers, its side of the road (-1, 1), and x, z
and length in the camera's world. All are painted from far to near.
"""

import math
from itertools import product
from random import Random

import numpy as np

from .camera import NEAR, Id, View, palette

SPEED = 8.0  # metres a second
DARK, PALE = (24, 25, 28), (220, 218, 210)
FACADES = palette("a05844 b2a28c 7a7c80 627462 ccc4b4 8a6e5c 5c6678 d0ac7a 80463e e2ded6")
STONES = palette("84827e a0988c 706e70 967662 b2b0aa")
METALS = palette("787c7e 969898 4c5250 c4c2ba")
CLOTHES = palette("282c3c d0282c 2c56c8 e87828 e0c030 c83080 30a8a8")
PAINTS = palette("c8ccd0 2a2c32 787c82 b02020 244690 e2e2de deb428 2e5446 68685c")
LEAVES = palette("42602c 32522c 586c30 2c4632 687438 8c6c2c")
SIGNS = palette("d02424 2850b4 ecc024 288a50 e8e8e4")
GLASS = palette("262e3a 465462 78828a 343230")
# Boxes (x from, to; y from, to; z from, to; brightness) of a kiosk, bin, bench and bus shelter.
FURNITURE = [
    [
        (-0.8, 0.8, 0, 2.2, 0, 1.6, 1),
        (-0.6, 0.6, 1.1, 1.8, -0.02, 0, 0.4),
        (-1, 1, 2.2, 2.4, -0.2, 1.8, 0.6),
    ],
    [(-0.35, 0.35, 0, 1.1, 0, 0.7, 1), (-0.4, 0.4, 1.1, 1.25, -0.05, 0.75, 0.6)],
    [
        (-0.2, 0.2, 0, 0.45, 0.1, 1.7, 0.4),
        (-0.3, 0.3, 0.45, 0.55, 0, 1.8, 1),
        (0.2, 0.3, 0.6, 1, 0, 1.8, 1),
    ],
    [
        (-0.5, 0.7, 0, 2.2, 3, 3.1, 1),
        (-0.7, -0.6, 0, 2.3, 0, 0.1, 0.5),
        (-0.8, 0.8, 2.3, 2.5, 0, 3.2, 0.7),
    ],
]


def building(view, rng, side, x, z, length):
    floors, colour, glass, end = (
        rng.randint(1, 5),
        rng.choice(FACADES),
        rng.choice(GLASS),
        z + length,
    )
    top, back, ridge, eave = 3 * floors + 0.6, x + side * 9, x + side * 4.5, x - side * 0.3
    view.box((x, back), (0, top), (z, end), colour, Id.BUILDING)
    if rng.random() < 0.5:  # a gabled roof
        view.rect(
            (eave, ridge), (top, top + 3), (z, end), rng.choice(FACADES), Id.BUILDING, bright=0.5
        )
        view.paint([(x, top, z), (back, top, z), (ridge, top + 3, z)], colour, Id.BUILDING, 0.8)
    step, share, tall = rng.uniform(2, 3.4), rng.choice((0.45, 0.55, 0.96)), rng.uniform(1.1, 2)
    for column, floor in product(range(int(length / step)), range(floors)):
        start, y, lit = z + (column + 0.3) * step, 3 * floor + 0.8, rng.random() < view.weather.lit
        pane = {
            "colour": (255, 214, 140) if lit else glass,
            "bright": rng.uniform(0.7, 1.3),
            "glow": lit,
        }
        view.rect(x, (y, y + tall), (start, start + share * step), **pane)
        if column < 3 and z > NEAR:  # the end wall
            across = x + side * (1 + 2.7 * column)
            view.rect((across, across + side * 1.4), (y, y + tall), z, **pane)
    if rng.random() < 0.5:
        # A shop's awning.
        view.rect(eave, (2.5, 3.1), (z + 0.5, end - 0.5), rng.choice(PAINTS), Id.BUILDING)


def fence(view, rng, side, x, z, length):
    height, colour = rng.uniform(1.2, 1.9), rng.choice(palette("8a5a34 a87850 6a4428 e8e4da"))
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
        view.rect(
            x, (y, y + 0.36), (start, start + rng.uniform(0.3, 1)), colour, bright=bright, alpha=120
        )
    view.rect(x, (0.4 * rows, 0.4 * rows + 0.12), (z, z + length), colour, Id.WALL, bright=1.1)


def bush(view, rng, side, x, z, length):
    colour, height = rng.choice(LEAVES), rng.uniform(0.3, 0.8)
    for start in np.arange(z + length, max(z, NEAR), -1):
        size = height * rng.uniform(0.7, 1.1)
        view.blob(x, 0.7 * size, start, size, size, colour, Id.PLANT, bright=rng.uniform(0.6, 1.1))


def tree(view, rng, side, x, z, length):
    colour, height, slim = rng.choice(LEAVES), rng.uniform(3.5, 8), rng.uniform(0.15, 0.3)
    view.limb(x, (0, 0.7 * height), z, (0.2, 0.1), (88, 76, 64), Id.PLANT)
    for i in range(15):
        angle, far, size = (
            rng.uniform(0, 6.28),
            rng.random() ** 0.5,
            height * rng.uniform(0.07, 0.14),
        )
        dx, dy = far * math.cos(angle) * slim, far * math.sin(angle) * 0.3
        bright = 0.55 + 0.03 * i + 0.3 * dy + 0.8 * view.sun * dx
        view.blob(
            x + dx * height,
            (0.68 + dy) * height,
            z,
            size,
            0.8 * size,
            colour,
            Id.PLANT,
            bright=bright,
        )


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
    colour, y, end, lit = (
        rng.choice(METALS),
        rng.uniform(4.5, 7),
        x - side * 1.6,
        view.weather.lit > 0,
    )
    view.limb(x, (0, y), z, (0.22, 0.17), colour, Id.POLE)
    view.paint(
        [(x, y - 0.15, z), (x, y + 0.15, z), (end, y + 0.5, z), (end, y + 0.2, z)], colour, Id.POLE
    )
    view.blob(end, y + 0.25, z, 0.35, 0.13, (255, 236, 190) if lit else colour, Id.POLE, glow=lit)


def traffic_light(view, rng, side, x, z, length):
    y, shining = rng.uniform(2.4, 3.2), rng.randrange(3)
    view.limb(x, (0, y), z, 0.18, rng.choice(METALS), Id.POLE)
    view.rect((x - 0.32, x + 0.32), (y, y + 1.2), z, DARK, Id.SIGN)
    for i, colour in enumerate(palette("3ce678 fabe3c fa3c32")):
        shine = {"glow": True} if i == shining else {"bright": 0.25}
        view.blob(x, y + 0.24 + 0.37 * i, z, 0.15, 0.15, colour, **shine)


def sign(view, rng, side, x, z, length):
    y, size = rng.uniform(2.2, 2.8), rng.uniform(0.5, 0.7)
    corners, turn = rng.choice((3, 4, 20)), rng.choice((0, 0.5))
    view.limb(x, (0, y), z, 0.17, rng.choice(METALS), Id.POLE)
    for radius in (size, 0.68 * size):
        angles = [2 * math.pi * (i + turn) / corners for i in range(corners)]
        points = [(x + radius * math.sin(a), y + radius * math.cos(a), z) for a in angles]
        view.paint(points, rng.choice(SIGNS), Id.SIGN)


def person(view, rng, side, x, z, length):
    size, step, legs, top = (
        rng.uniform(0.9, 1.08),
        rng.uniform(0.08, 0.2),
        *rng.choices(CLOTHES, k=2),
    )
    for s in (-1, 1):
        how = {"label": Id.PERSON, "bright": 0.85 + 0.1 * s}
        view.limb((x + s * step, x + s * 0.12), (0, 0.9 * size), z, (0.11, 0.15), legs, **how)
        view.limb((x + s * 0.38, x + s * 0.28), (0.8 * size, 1.4 * size), z, 0.09, top, **how)
    view.limb(x, (0.85 * size, 1.42 * size), z, (0.26, 0.3), top, Id.PERSON)
    view.blob(
        x, 1.58 * size, z, 0.16, 0.19, (214, 172, 142), Id.PERSON, bright=rng.uniform(0.45, 1.1)
    )
    view.blob(x, 1.68 * size, z, 0.16, 0.1, (70, 50, 36), Id.PERSON, bright=rng.uniform(0.3, 2))


def vehicle(view, rng, side, x, z, length):
    """A car or van, seen from behind (side 1) or from the front (side -1)."""
    colour, end, left, right, lit = (
        rng.choice(PAINTS),
        z + length,
        x - 0.88,
        x + 0.88,
        view.weather.lit > 0,
    )
    waist, top, hood, slope = rng.choice(
        [(0.88, 1.45, 0.8 - 0.3 * side, 0.6)] * 4 + [(1.15, 2.2, 0.1, 0.15)]
    )
    hood, roof, roof_end = z + hood, z + hood + slope, end - 1.1
    view.rect((left - 0.15, right + 0.15), 0, (z - 0.3, end + 0.2), DARK, alpha=150)  # its shadow
    view.box((left + 0.1, right - 0.1), (0.12, 0.4), (z + 0.1, end - 0.1), DARK, Id.VEHICLE)
    view.box((left, right), (0.32, waist), (z, end), colour, Id.VEHICLE)
    for edge in sorted((left, right), key=abs, reverse=True):  # the visible side last
        inner = edge + 0.16 * (x - edge)
        window = [
            (edge, waist, hood),
            (edge, waist, end - 0.5),
            (inner, top, roof_end),
            (inner, top, roof),
        ]
        view.paint(window, GLASS[1], Id.VEHICLE)
        for wheel in (z + 0.8, end - 0.8):
            rim = [(edge, 0.33 + 0.33 * math.sin(a), wheel + 0.33 * math.cos(a)) for a in range(7)]
            view.paint(rim, DARK, Id.VEHICLE)
    view.rect((left + 0.14, right - 0.14), top, (roof, roof_end), colour, Id.VEHICLE, bright=1.1)
    if z > NEAR:
        view.limb(x, (waist, top), (hood, roof), (0.88, 0.74), colour, Id.VEHICLE, bright=0.9)
        view.limb(
            x,
            (waist + 0.05, top - 0.08),
            (hood, roof),
            (0.74, 0.6),
            GLASS[0],
            Id.VEHICLE,
            bright=0.9,
        )
        for edge in (left + 0.22, right - 0.22):
            lamps = (230, 40, 30) if side > 0 else (250, 245, 215)
            view.rect((edge - 0.2, edge + 0.2), (0.62, 0.8), z, lamps, glow=lit)
        view.rect((x - 0.27, x + 0.27), (0.45, 0.57), z, PALE)


def furniture(view, rng, side, x, z, length):
    colour = rng.choice(palette("6a3c8c 4c2a70 8c50a0 2e7868"))
    for x0, x1, y0, y1, z0, z1, bright in rng.choice(FURNITURE):
        view.box(
            (x + side * x0, x + side * x1), (y0, y1), (z + z0, z + z1), colour, Id.OTHER, bright
        )


def draw_ground(view, rng, left, right, walk, ahead):
    """Skyline, grass, sidewalks, road and its lines."""
    for x in range(-270, 270, 18):
        colours, label = rng.choice(
            ((LEAVES, Id.PLANT), (LEAVES, Id.PLANT), (FACADES, Id.BUILDING))
        )
        width, height = rng.uniform(12, 30), rng.uniform(3, 10)
        view.rect((x, x + width), (0, height), 125, rng.choice(colours), label, bright=0.8)
    tar, slab = [rng.uniform(68, 115)] * 3, rng.choice(STONES)
    grass, paint, worn = (
        rng.choice(LEAVES),
        rng.choice(((220, 170, 50), PALE)),
        rng.randint(170, 255),
    )
    dashed, kerb = rng.random() < 0.6, [1.2 * c for c in slab]
    layers = [
        (300, grass, Id.PLANT),
        (walk, slab, Id.SIDEWALK),
        (0.2, kerb, Id.SIDEWALK),
        (0, tar, Id.ROAD),
    ]
    lines = [(left + 0.25, PALE), (right - 0.45, PALE)] + [(-2.1, paint), (-1.7, paint)] * (
        not dashed
    )
    for z in (0.6 * 1.4**i for i in range(16, -1, -1)):  # short pieces follow the bend
        for margin, colour, label in layers:
            view.rect((left - margin, right + margin), 0, (z, 1.4 * z), colour, label)
        for x, colour in lines:
            view.rect((x, x + 0.2), 0, (z, 1.4 * z), colour, Id.LINE, alpha=worn)
    # Joints between the slabs.
    for z, x in product(np.arange(-ahead % 1.5, 25, 1.5), (left - walk, right)):
        view.rect((x, x + walk), 0, (z, z + 0.05), slab, bright=0.6, alpha=150)
    for z in np.arange(-ahead % 7 - 7, 80, 7) if dashed else ():
        view.rect((-1.92, -1.68), 0, (z, z + 3), paint, Id.LINE, alpha=worn)
    zebra = rng.uniform(9, 60) - ahead
    for x in np.arange(left + 0.5, right - 0.6):
        view.rect((x, x + 0.5), 0, (zebra, zebra + 2.5), PALE, Id.LINE, alpha=worn)


def draw_street(rng, offset=0.0, width=240, height=180):
    """One scene: image uint8 (height, width, 3) and mask uint8 (height, width) of class ids 0–12.

    The state of ``rng`` fixes all of it. ``offset`` is how many seconds further the car has driven.
    """
    rng = Random(int(rng.integers(2**62)))
    view = View(width, height, rng)
    walk, parked = rng.uniform(2.5, 4), rng.choices((True, False), (1, 2), k=2)
    left, right = -5.5 - 2.2 * parked[0], 1.9 + 2.2 * parked[1]
    draw_ground(view, Random(rng.getrandbits(32)), left, right, walk, SPEED * offset)
    things = []

    def add(function, side, x, z, length=1.0, speed=0.0):
        z += (speed - SPEED) * offset
        depth = z + length if function is plot else z  # a plot lies behind all that stands along it
        things.append((depth, function, Random(rng.getrandbits(32)), side, x, z, length))

    for side, kerb in ((-1, left), (1, right)):
        z = -8.0
        while z < 80:
            length = rng.uniform(7, 16)
            add(plot, side, kerb + side * walk, z, length)
            z += length + rng.choice((0, 0, 0, 3))
        z = rng.uniform(4, 7)
        while z < 28:
            kind = rng.choices(
                (lamp, traffic_light, sign, tree, furniture, person), (4, 2, 4, 3, 3, 9)
            )[0]
            add(
                kind, side, kerb + side * rng.uniform(0.4, walk - 0.6 if kind is person else 1.2), z
            )
            z += rng.uniform(1.5, 4.5)
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
    return view.develop(rng.getrandbits(32))
