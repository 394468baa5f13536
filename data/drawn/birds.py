"""Draws miniature photos of invented bird species. Some differ in a single field mark."""

from collections import namedtuple

import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFilter


def smooth(points):
    """A closed Catmull–Rom curve through ``points`` (n, 2) -> (4·n, 2)."""
    p0, p1, p2, p3 = (np.roll(points, shift, axis=0) for shift in (1, 0, -1, -2))
    t = np.array([0, 0.25, 0.5, 0.75])[:, None, None]
    curve = p1 + t / 2 * (
        p2 - p0 + t * (2 * p0 - 5 * p1 + 4 * p2 - p3 + t * (3 * (p1 - p2) + p3 - p0))
    )
    return curve.swapaxes(0, 1).reshape(-1, 2)


# Field marks of one species. Colours are CSS names, and lengths count in body lengths.
# coat: colours of back, breast and belly; fork: how far the outer tail feathers spread;
# marks: {mark: colour}, where "wing" is also the tail's and "bare" that of bill and legs.
Species = namedtuple(
    "Species", "name coat marks bill tail fork plump legs", defaults=("cone", 0.45, 0, 1, 0.16)
)

# fmt: off
FAMILIES = (  # name, coat, shape, the marks of all members, and what tells them apart
    ("REED WARBLER", "peru wheat ivory", {"bill": "thin"}, {},
     {"PLAIN": {}, "CRIMSON-CAPPED": {"cap": "firebrick"},
      "BROWED": {"brow": "ivory", "stripe": "saddlebrown"}}),
    ("ROSE FINCH", "saddlebrown indianred mistyrose", {"plump": 1.1}, {"hood": "firebrick"},
     {"MOORLAND": {}, "BAR-WINGED": {"bars": "ivory"}}),
    ("WOOD THRUSH", "sienna antiquewhite white", {"bill": "thin", "legs": 0.24}, {},
     {"PEPPERED": {"ring": "white", "spots": "black"},
      "STREAKED": {"brow": "white", "streaks": "black"}}),
    ("BLUECHAT", "royalblue chocolate white", {"bill": "thin"}, {},
     {"COPPER-BREASTED": {}, "SNOWY-THROATED": {"throat": "white"}}),
    ("LEMON SISKIN", "olivedrab gold khaki", {}, {"bars": "ivory"},
     {"MASKED": {"stripe": "black"}, "BLACK-CAPPED": {"cap": "black"}}),
    ("BEECATCHER", "forestgreen limegreen palegreen",
     {"bill": "curved", "tail": 0.8, "plump": 0.9},
     {"stripe": "black"}, {"EMERALD": {}, "GOLDEN-THROATED": {"throat": "gold"}}),
    ("ASH TIT", "slategray lightgray white", {"plump": 1.25}, {"bars": "white"},
     {"TUFTED": {"crest": "slategray"}, "SOOTY-CAPPED": {"cap": "black"}}),
    ("BANDIT SHRIKE", "darkgray whitesmoke white", {"bill": "hooked", "tail": 0.6},
     {"wing": "#2c2c30", "stripe": "black"}, {"PALE": {}, "RUSTY": {"cap": "sienna"}}),
    ("FORKTAIL", "midnightblue lavender white",
     {"bill": "thin", "tail": 0.9, "fork": 0.3, "plump": 0.85}, {},
     {"INDIGO": {"throat": "firebrick"}}),
    ("STILT SNIPE", "rosybrown linen white", {"bill": "long", "legs": 0.5},
     {"streaks": "saddlebrown"}, {"DUSKY-BILLED": {}, "CORAL-BILLED": {"bare": "orangered"}}),
)
# Outlines in a bird's own frame: body length about 1, x to the bill, y down, sitting at an angle.
BODY = np.array([(0.5, -0.4), (0.46, -0.54), (0.33, -0.63), (0.19, -0.57), (0.09, -0.4),
                 (-0.13, -0.2), (-0.38, 0.06), (-0.56, 0.28), (-0.46, 0.35), (-0.26, 0.36),
                 (0.02, 0.36), (0.32, 0.18), (0.42, -0.1), (0.47, -0.3)])
BREAST = smooth([(0.5, -0.3), (0.3, -0.27), (0.2, -0.1), (0.02, 0.1), (-0.1, 0.5), (0.5, 0.4),
                 (0.7, 0)])
BELLY = smooth([(0.3, 0.05), (0.1, 0.12), (-0.2, 0.22), (-0.55, 0.38), (-0.5, 0.6), (0.1, 0.6),
                (0.5, 0.3)])
PLANE = np.eye(2, 3)
HEAD = (0.31, -0.42)
SHOULDER = (0.16, -0.16)
TAIL = (-0.44, 0.26)
AXIS = np.array([-0.8, 0.6])  # towards the tail
ACROSS = np.array([0.6, 0.8])  # from back to belly
# In a wing's frame (x towards its tip), a unit circle, and a blade's outline along and across.
WING = smooth([(0, 0.02), (0.1, -0.05), (0.45, -0.05), (0.8, 0), (1, 0.04), (0.75, 0.14),
               (0.45, 0.25), (0.12, 0.22)])
CIRCLE = np.array([(1, 0), (0, 1), (-1, 0), (0, -1)])
BLOB = smooth(CIRCLE)
BLADE = np.array([(0, 0.5), (0.3, 0.8), (0.75, 1), (0.9, 0.6), (1, 0), (0.9, -0.6), (0.75, -1),
                  (0.3, -0.8)])
# In a head's frame: origin at its centre, radius 0.2, x towards the bill.
MARKS = {mark: smooth(outline) for mark, outline in {
    "hood": CIRCLE * 0.28,
    "throat": [(0.25, 0.04), (0, 0.09), (-0.08, 0.28), (0.12, 0.46), (0.32, 0.24)],
    "cap": [(0.3, -0.03), (0.2, -0.3), (-0.2, -0.3), (-0.3, 0), (-0.1, -0.06)],
    "stripe": [(0.2, -0.01), (0.06, -0.07), (-0.1, -0.04), (-0.24, 0.05), (-0.08, 0.06),
               (0.06, 0.03)],
    "brow": [(0.2, -0.05), (0.06, -0.13), (-0.1, -0.11), (-0.22, -0.03), (-0.08, -0.05),
             (0.06, -0.06)],
    "crest": [(0.12, -0.16), (-0.02, -0.26), (-0.2, -0.35), (-0.16, -0.22), (-0.17, -0.08),
              (0, -0.12)],
    "ring": CIRCLE * 0.06 + (0.06, -0.03),
    "eye": CIRCLE * 0.042 + (0.06, -0.03),
    "glint": CIRCLE * 0.013 + (0.07, -0.045),
}.items()}
BILLS = {
    "cone": [(0.17, -0.05), (0.27, -0.01), (0.33, 0.05), (0.27, 0.08), (0.17, 0.1)],
    "thin": [(0.17, -0.005), (0.27, 0.02), (0.34, 0.04), (0.27, 0.055), (0.17, 0.065)],
    "long": [(0.17, -0.03), (0.4, 0.01), (0.6, 0.06), (0.4, 0.07), (0.17, 0.08)],
    "curved": [(0.17, -0.02), (0.35, 0), (0.51, 0.12), (0.35, 0.055), (0.17, 0.075)],
    "hooked": [(0.17, -0.04), (0.29, -0.03), (0.36, 0.03), (0.34, 0.11), (0.29, 0.06),
               (0.17, 0.09)],
}
# Colours far, near and of the blurred shapes between; width and height of those in image sizes.
HABITATS = (
    ("darkolivegreen", "olivedrab", "yellowgreen darkgreen khaki seagreen", 0.16, 0.16),
    ("lightskyblue", "aliceblue", "white lightsteelblue", 0.6, 0.2),
    ("tan", "darkkhaki", "olive wheat peru olivedrab", 0.05, 1.2),
    ("lightsteelblue", "snow", "white lightslategray gainsboro", 0.5, 0.14),
    ("steelblue", "cadetblue", "lightblue darkslategray powderblue", 0.7, 0.04),
    ("saddlebrown", "darkgoldenrod", "orange maroon goldenrod sienna", 0.18, 0.18),
    ("dimgray", "darkslategray", "black gray darkolivegreen", 0.3, 0.3),
)
BARK = ("saddlebrown", "dimgray", "rosybrown", "darkolivegreen")
SOIL = ("tan", "gray", "olivedrab", "snow")
# fmt: on
ALL_WEAR = {"bare": "dimgray", "eye": "black", "glint": "white"}
SPECIES = tuple(
    Species(
        f"{first} {name}", coat, {**ALL_WEAR, "wing": coat.split()[0], **shared, **own}, **shape
    )
    for name, coat, shape, shared, members in FAMILIES
    for first, own in members.items()
)


def blade(start, end, width):
    """The outline (8, 2) of a feather, leaf, leg or streak, widest past the middle."""
    axis = np.subtract(end, start)
    side = np.array([-axis[1], axis[0]]) * width / 2 / (np.hypot(*axis) + 1e-6)
    return start + BLADE @ np.array([axis, side])


def attach(frame, origin, scale=1.0, angle=0.0):
    """A frame (2, 3) at ``origin`` of another one.

    It is turned by ``angle`` (radians) and scaled by one number or by (x, y).
    """
    turn = np.array([(np.cos(angle), -np.sin(angle)), (np.sin(angle), np.cos(angle))])
    return np.column_stack([frame[:, :2] @ turn * scale, frame[:, :2] @ origin + frame[:, 2]])


def paint(layer, frame, points, colour, light=1.0, edge=None):
    """Fill a polygon with a colour times ``light``, its border times ``edge``. None: no colour."""
    if colour is not None:
        points = np.asarray(points) @ frame[:, :2].T + frame[:, 2]
        rgb = ImageColor.getrgb(colour)
        fill, outline = (tuple(min(int(v * x), 255) for v in rgb) for x in (light, edge or light))
        ImageDraw.Draw(layer).polygon(points.ravel().tolist(), fill, outline)


def draw_background(rng, size):
    """A blurred habitat, float32 (size, size, 3)."""
    far, near, colours, *shape = HABITATS[rng.integers(len(HABITATS))]
    ramp = np.linspace(0, 1, 8)[:, None, None] + rng.normal(0, 0.15, (8, 8, 1))
    base = ImageColor.getrgb(far) * (1 - ramp) + ImageColor.getrgb(near) * ramp
    image = Image.fromarray(base.clip(0, 255).astype(np.uint8)).resize(
        (size, size), Image.Resampling.BICUBIC
    )
    for x, y, grow in rng.uniform((0, 0, 0.15), (1, 1, 0.5), (rng.integers(10, 30), 3)):
        frame = attach(PLANE, (x * size, y * size), np.multiply(shape, grow * size))
        paint(image, frame, BLOB, rng.choice(colours.split()), rng.uniform(0.8, 1.1))
    return np.asarray(
        image.filter(ImageFilter.GaussianBlur(size * rng.uniform(0.02, 0.06))), np.float32
    )


def draw_perch(layer, frame, rng):
    """A branch, a stump or the ground, its top at the frame's origin. Lengths in image sizes."""
    branch, stump, ground = (1.4, rng.uniform(0.03, 0.08), BARK), (0.12, 1, BARK), (1.4, 1, SOIL)
    width, thick, colours = (branch, branch, branch, stump, ground)[rng.integers(5)]
    x, bumps, colour = np.linspace(-width, width, 9), rng.normal(0, 0.006, 9), rng.choice(colours)
    paint(layer, frame, np.block([[x, x[::-1]], [bumps, thick - bumps]]).T, colour)
    grain = (0, 0.15) if width < thick else (0.15, 0)
    for u, v, light in rng.uniform((-0.9, 0.1, 0.6), (0.8, 0.9, 1.3), (40, 3)):
        start = np.array([u * width, v * min(thick, 0.5)])
        paint(layer, frame, blade(start, start + grain, 0.008), colour, light)


def draw_tail(layer, frame, species):
    """A fan of feathers along x."""
    for s in (-1, -0.5, 0.5, 1, 0):
        end = (
            species.tail * (1 + species.fork * 1.5 * (abs(s) - 1)),
            s * (0.06 + species.fork * 0.5),
        )
        paint(
            layer,
            frame,
            blade((-0.15, s * 0.03), end, 0.11),
            species.marks["wing"],
            0.75 + 0.12 * s,
            0.5,
        )


def draw_plumage(layer, frame, face, species, rng):
    """Paint the colours of body and head, soften them, and cut them out along the outline."""
    back, breast, belly = species.coat.split()
    coat, outline = Image.new("RGB", layer.size, back), Image.new("RGBA", layer.size)
    paint(coat, frame, BREAST, breast)
    paint(coat, frame, BELLY, belly)
    for mark in ("hood", "throat", "cap"):
        paint(coat, face, MARKS[mark], species.marks.get(mark))
    coat = coat.filter(ImageFilter.BoxBlur(float(np.hypot(*frame[:, 1])) * 0.02))
    for mark, long, width in (("streaks", 0.08, 0.025), ("spots", 0.05, 0.05)):
        for start in (
            rng.uniform((-0.2, -0.2), (0.45, 0.35), (70, 2)) if mark in species.marks else ()
        ):
            if start @ ACROSS > 0.05:  # not on the back
                paint(coat, frame, blade(start, start + AXIS * long, width), species.marks[mark])
    # The head keeps its size.
    fatter = np.outer(BODY @ ACROSS * (BODY[:, 1] > -0.3) * (species.plump - 1), ACROSS)
    paint(outline, frame, smooth(BODY + fatter), "white")
    layer.paste(coat, mask=outline)


def draw_wing(layer, frame, species):
    """A folded wing: feathers on a dark outline. x runs to the tip, y from back to belly."""
    colour = species.marks["wing"]
    paint(layer, frame, WING, colour, 0.8)
    for start, end, step, light in (
        (0.35, 1, 0.08, 0.6),
        (0.2, 0.75, 0.06, 0.75),
        (0.05, 0.45, 0.03, 0.9),
    ):
        for i, y in enumerate((0.02, 0.065, 0.11, 0.155, 0.2)):
            tip = np.array([end - step * i, y * (1.2 - 0.5 * end)])
            paint(
                layer, frame, blade((start, y), tip, 0.09), colour, light + 0.03 * i, light * 1.35
            )
            if end < 1:
                paint(layer, frame, blade(tip - (0.1, 0), tip, 0.06), species.marks.get("bars"))


def draw_twig(layer, frame, rng):
    """A leafy twig through the frame's origin, which hides some of the bird."""
    colour = rng.choice(["darkolivegreen", "olivedrab", "saddlebrown"])
    paint(layer, frame, blade((-1, 0), (1, 0.1), 0.02), colour)
    for x, y, light in rng.uniform((-0.5, -0.12, 0.8), (0.5, 0.12, 1.3), (5, 3)):
        paint(layer, frame, blade((x, 0), (x + 0.1, y), 0.06), colour, light)


def lay(image, layer, slope, grain):
    """Lay a painted layer on ``image`` (size, size, 3), 0–255, rounded by light from above."""
    size = len(image)
    layer = layer.resize((size, size), Image.Resampling.BOX)
    height = layer.getchannel("A").filter(ImageFilter.GaussianBlur(size * 0.05))
    down, right = np.gradient(np.asarray(height, np.float32) / 255 * np.float32(size * 0.1))
    shade = np.clip(1 + (0.6 * down + slope * right)[..., None] + grain, 0.3, 1.4)
    colour, alpha = np.split(np.asarray(layer, np.float32), [3], axis=2)
    return image + alpha / 255 * (colour * shade - image)


def draw_bird(rng: np.random.Generator, species: Species, size: int = 112) -> np.ndarray:
    """One photo of ``species``, uint8 (size, size, 3). The state of ``rng`` fixes every byte."""

    def vary(middle, spread, shape=None):  # larger spreads make the species harder to tell apart
        return middle + spread * rng.uniform(-1, 1, shape)

    canvas = 2 * size  # painted at twice the size, so that reducing it smooths the edges
    perch, bird, twig = (Image.new("RGBA", (canvas, canvas)) for _ in range(3))
    side, length = rng.choice([-1, 1]), canvas * vary(0.55, 0.11)
    centre = canvas * vary(np.array([0.5 + 0.03 * side, 0.48 - 0.1 * species.legs]), 0.1, 2)
    upright = attach(PLANE, centre, (side * length * vary(0.87, 0.13), length))
    body = attach(upright, (0, 0), 1, vary(0, 0.3))
    # The bird looks back or ahead.
    face = attach(body, HEAD, (-1 if rng.random() < 0.2 else 1, 1), vary(0, 0.25))
    backwards, ground = np.arctan2(*AXIS[::-1]), 0.36 + species.legs

    foot = upright[:, :2] @ (0.04, ground) + upright[:, 2]
    draw_perch(perch, attach(PLANE, foot, canvas, vary(0, 0.25)), rng)
    for x in (-0.02, 0.1):
        paint(bird, upright, blade((x * 1.5, 0.2), (x, ground), 0.045), species.marks["bare"], 0.8)
        for toe in (
            (x - 0.06, ground + 0.04),
            (x + 0.02, ground + 0.04),
            (x + 0.08, ground + 0.03),
        ):
            paint(bird, upright, blade((x, ground), toe, 0.03), species.marks["bare"], 0.7)
    draw_tail(bird, attach(body, TAIL, (1, -1), backwards + vary(0, 0.15)), species)
    draw_plumage(bird, body, face, species, rng)
    draw_wing(bird, attach(body, SHOULDER, (0.8, -1), backwards + vary(0, 0.1)), species)
    paint(bird, face, BILLS[species.bill], species.marks["bare"], 0.8, 0.5)
    # These are sharp, on top of the soft plumage.
    for mark in (
        "crest",
        "stripe",
        "brow",
        "ring",
        "eye",
        "glint",
    ):
        paint(bird, face, MARKS[mark], species.marks.get(mark))
    # A tint for each bird: no two are of quite the same colour.
    layers = [
        (perch, 0),
        (bird, vary(0, 0.1, 3)),
    ]
    if rng.random() < 0.3:
        draw_twig(twig, attach(PLANE, rng.uniform(0, canvas, 2), canvas, rng.uniform(0, 6.3)), rng)
        layers.append((twig.filter(ImageFilter.BoxBlur(rng.uniform(0, 0.01) * canvas)), 0))

    noise = rng.standard_normal((size, size, 1), np.float32)
    # The grain runs along the feathers.
    grain = sum(np.roll(noise, (i, -i * side), (0, 1)) for i in range(4)) * 0.035
    slope, image = vary(0, 0.4), draw_background(rng, size)
    for layer, tint in layers:
        image = lay(image, layer, slope, grain + tint)

    grey, warmth = image.mean(2, keepdims=True), vary(0, 0.1) * np.array([1, 0, -1])
    # Saturation and brightness.
    image = (grey + (image - grey) * vary(0.8, 0.2)) * vary(1, 0.25) * (1 + warmth)
    image = (image - 120) * vary(1, 0.2) + 120  # contrast
    image += rng.standard_normal(image.shape, np.float32) * rng.uniform(1, 6)  # the sensor
    return image.clip(0, 255).astype(np.uint8)
