"""Draws miniature landscape photos: a small terrain renderer in numpy.

A landscape is a height map seen through a camera. A pixel's colour follows from what stands there,
from the light, and from the haze of its distance. Height and slope decide between snow, rock,
forest, meadow, sand and water. A sunrise is the same landscape in the same greys with other
colours: the grey image can't tell.

Inside, z is the distance from the camera, x runs to the right, and the water lies at height 0.
Positions in the image count in image heights. Colours are 0..1 and images (3, H, W), so that (H, W)
masks broadcast.
"""

from collections import namedtuple
from types import SimpleNamespace

import numpy as np
from scipy import fft, ndimage

# share: of the images; camera: height of the eye; ground: its height at the distances GROUND_AT;
# wooded: how readily trees grow; zenith, skyline: colours of the sky;
# sun, skylight: what lights the land
Scene = namedtuple("Scene", "share camera ground hills peaks wooded")
Mood = namedtuple("Mood", "share clouds zenith skyline sun skylight")
GROUND_AT = (0.8, 1.6, 5, 12)
SCENES = {
    "lake": Scene(0.30, 0.5, (0.0, -0.3, -0.2, 0.0), 1.4, 14, 0.65),
    "meadow": Scene(0.25, 0.5, (0.0, 0.1, 0.15, 0.5), 1.2, 13, 0.4),
    "forest": Scene(0.19, 1.7, (0.8, 0.3, 0.5, 1.0), 2.6, 10, 0.95),
    "glacier": Scene(0.10, 0.7, (0.1, -0.2, 0.5, 1.3), 1.6, 15, -2),
    "sea": Scene(0.16, 0.5, (0.15, -0.1, -0.6, -1.2), 1.7, 1, 0.45),
}
MOODS = {
    "noon": Mood(
        0.5, 0.4, (0.17, 0.40, 0.76), (0.70, 0.83, 0.93), (0.95, 0.90, 0.80), (0.32, 0.37, 0.45)
    ),
    "morning": Mood(
        0.2, 0.3, (0.32, 0.53, 0.79), (0.86, 0.88, 0.88), (0.92, 0.84, 0.7), (0.36, 0.40, 0.46)
    ),
    "evening": Mood(
        0.15, 0.4, (0.33, 0.46, 0.68), (0.92, 0.84, 0.72), (0.95, 0.78, 0.6), (0.32, 0.35, 0.44)
    ),
    "cloudy": Mood(
        0.15, 0.7, (0.55, 0.60, 0.66), (0.80, 0.82, 0.84), (0.38, 0.38, 0.38), (0.52, 0.54, 0.57)
    ),
}
PAINT = {  # from the dark to the light shade
    "grass": ((0.30, 0.40, 0.13), (0.58, 0.56, 0.25)),
    "rock": ((0.33, 0.31, 0.30), (0.62, 0.57, 0.51)),
    "sand": ((0.72, 0.64, 0.49), (0.86, 0.79, 0.62)),
    "ice": ((0.42, 0.66, 0.78), (0.95, 0.97, 0.98)),
    "snow": ((0.92, 0.95, 1.00), (0.92, 0.95, 1.00)),
    "needles": ((0.08, 0.19, 0.08), (0.26, 0.40, 0.16)),
    "autumn leaves": ((0.40, 0.18, 0.07), (0.74, 0.52, 0.16)),
    "water": ((0.07, 0.24, 0.33), (0.25, 0.52, 0.55)),
    "shadow at dawn": ((0.34, 0.42, 0.62), (0.34, 0.42, 0.62)),
    "heights at dawn": ((1.00, 0.50, 0.26), (1.00, 0.48, 0.40)),
    "sky at dawn": ((1.00, 0.56, 0.30), (0.31, 0.38, 0.64)),
}
TILE = 256  # side of the periodic noise textures
FREQUENCY = np.maximum(np.hypot(fft.fftfreq(TILE)[:, None], fft.rfftfreq(TILE)), 3 / TILE)
SMOOTH, PUFFY, GRAINY = (FREQUENCY**-roughness for roughness in (2.8, 1.7, 0.6))


def mix(a, b, share):
    """From a (share 0) to b (share 1)."""
    return a + (b - a) * share


def ramp(value, low: float, high: float) -> np.ndarray:
    """0 below low, 1 above high, smooth in between."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def paint(name: str, lightness=0) -> np.ndarray:
    return mix(*np.float32(PAINT[name])[..., None, None], lightness)


def fractal(rng, amplitude: np.ndarray) -> np.ndarray:
    """Noise (TILE + 1, TILE + 1), zero mean and unit deviation, with amplitudes of frequencies."""
    spectrum = fft.rfft2(rng.standard_normal((TILE, TILE), dtype=np.float32)) * amplitude
    noise = fft.irfft2(spectrum.astype(np.complex64))
    # It is periodic, so the first row comes again.
    return np.pad((noise - noise.mean()) / noise.std(), (0, 1), mode="wrap")


def at(texture, x, y) -> np.ndarray:
    """The texture at x and y, linearly interpolated. Any numbers will do: it repeats itself."""
    column, row = np.floor(x), np.floor(y)
    # Indices into the flattened texture.
    here = row.astype(int) % TILE * (TILE + 1) + column.astype(int) % TILE
    upper, lower = (
        mix(texture.take(i), texture.take(i + 1), x - column) for i in (here, here + TILE + 1)
    )
    return mix(upper, lower, y - row)


def raise_terrain(rng, scene, smooth, x, z) -> np.ndarray:
    """Height at x (Z, W) and z (Z, 1): the ground, hills on it, ridged peaks behind."""
    (a, b, c, d), tilt = rng.uniform(0, TILE, 4), rng.choice([-1, 1]) * rng.uniform(0.2, 1.2)
    aside = tilt * x / z  # the land rises to one side of the image
    hills = at(smooth, 10 * x + a, 10 * z + b) + 0.2 * at(smooth, 50 * x + b, 50 * z + c)
    ridges = 0.3 * aside
    # A crest where the noise changes its sign.
    for share, scale in ((0.4**i, 1.2 * 2**i) for i in range(5)):
        ridges += share * (1 - np.abs(at(smooth, scale * x + c, scale * z + d)))
    ground = np.array(scene.ground) + rng.uniform(-0.15, 0.15) * np.array([1, 0.5, 0, 0])
    height = np.interp(z, GROUND_AT, ground) + 0.03 * hills * np.minimum(z, 4)
    height += 0.4 * np.maximum(aside, 0) ** 2
    height += scene.hills * ramp(z, 2.5, 14) * (0.4 + 0.5 * hills + 0.8 * aside)
    height += scene.peaks * ramp(z, 11, 34) * (0.12 + 0.5 * np.maximum(ridges, 0))
    return height.astype(np.float32)


def plant_trees(rng, scene, ground, smooth, x, z, autumn: bool) -> tuple[np.ndarray, np.ndarray]:
    """A row of trees at every distance: height above the ground, and tone 0..1, both (Z, W)."""
    row = np.arange(len(z))[:, None] % TILE
    along = x / 0.13 + rng.uniform(0, TILE, TILE)[row]
    tree, across = along.astype(int) % TILE, 2 * np.abs(along % 1 - 0.5)
    tone = rng.random((TILE, TILE), dtype=np.float32)[row, tree]
    # Leaves grow on round crowns, needles on spikes.
    crown = np.sqrt(1 - across**2) if autumn else 1 - across
    wood = 0.5 + 0.4 * at(smooth, 14 * x + 50, 14 * z) + 0.4 * (tone - 0.5)
    grows = (wood > 1 - scene.wooded) & (ground > 0.05) & (ground < 2.5 + tone) & (z > 2)
    return grows * crown * (0.25 + 0.25 * (7 * tone % 1)), tone


def cast(rng, scene, x, y, autumn: bool) -> SimpleNamespace:
    """Maps (H, W) of what the lines of sight hit first.

    They go through x (1, W) and through y (H, 1) above the horizon.
    """
    smooth, grain, sun_side = fractal(rng, SMOOTH), fractal(rng, GRAINY), rng.choice([-1, 1])
    z = np.geomspace(-0.8 * scene.camera / y.min(initial=-0.4), 60, len(y) + 20, dtype=np.float32)[
        :, None
    ]
    ground = raise_terrain(rng, scene, smooth, x * z, z)
    trees, tone = plant_trees(rng, scene, ground, smooth, x * z, z, autumn)
    foot = (np.maximum(ground, 0) - scene.camera) / z
    # The horizon of all that is nearer: (Z, W).
    top = np.maximum.accumulate(foot + trees / z, axis=0)
    hit = np.stack([np.searchsorted(column, y[:, 0]) for column in top.T], axis=1)
    view = SimpleNamespace(is_sky=hit == len(z))
    hit = np.minimum(hit, len(z) - 1), np.arange(x.size)

    def look(values):  # (Z, W) -> (H, W)
        return np.broadcast_to(values, top.shape)[hit]

    slope_x = np.diff(ground, axis=1, append=ground[:, -1:]) / (z / len(y))
    slope_z = np.diff(ground, axis=0, append=ground[-1:]) / np.diff(z, axis=0, append=2 * z[-1:])
    upright = 1 / np.sqrt(1 + slope_x**2 + slope_z**2)
    lit = look(np.clip((0.7 * sun_side * slope_x + 0.3 * slope_z + 0.55) * upright, 0, 1))
    view.depth, view.level, view.upright, view.tone = map(look, (z, ground, upright, tone))
    depth, crown = view.depth, look(trees)
    above = scene.camera + y * depth  # like level, but smooth between the steps of z
    view.wave = at(grain, 25 * x * depth, 70 * depth)
    view.coarse = at(smooth, 25 * x * depth, 25 * (depth + above))
    view.fine = 0.7 * at(grain, 200 * x, 160 * y) + 0.6 * at(
        grain, 45 * x * depth, 90 * (depth + above)
    )
    # 0 at the foot, 1 at the tip of a tree.
    view.tip = (y - look(foot)) * depth / np.maximum(crown, 1e-3)
    view.is_tree = (crown > 0) & (view.tip > 0.03) & ~view.is_sky
    view.is_water = (view.level <= 0) & ~view.is_tree & ~view.is_sky
    view.lit = np.where(
        view.is_tree, 0.3 + 0.5 * lit + 0.4 * (view.tone - 0.5), lit * (1 + 0.3 * view.fine)
    )
    return view


def draw_sky(mood, puffs, x, y) -> np.ndarray:
    # Clouds lie in a plane: smaller and flatter towards the horizon.
    flat = 1 / (0.22 + np.maximum(y, 0))
    u, v = 45 * x * flat, 75 * flat
    density = at(puffs, u, v)
    lit = 0.5 + 0.5 * np.tanh(1.5 * (density - at(puffs, u + 3, v + 5)))
    cloud = mix(0.4 + 0.5 * mood.skylight, 0.35 + 0.65 * mood.sun, lit)
    clear = mix(mood.skyline, mood.zenith, ramp(y, -0.15, 0.7) ** 0.7)
    return mix(clear, cloud, 0.95 * ramp(density - 1.5 + 2.5 * mood.clouds, 0, 1.2))


def draw_land(rng, kind, view, autumn: bool) -> np.ndarray:
    """Colours of the land in white light."""
    fine, coarse, level, near = view.fine, view.coarse, view.level, view.depth < 3
    snowline, bloom = rng.uniform(2.5, 6.5), rng.uniform(0.4, 1, 3)
    land = paint("grass", ramp(coarse + 0.7 * fine, -2, 2.2))
    if kind == "meadow":
        land = np.where((fine > 1.7) & near, np.float32(bloom)[:, None, None], land)
    steep = ramp(0.08 * fine - view.upright, -0.72, -0.55)
    bare = ramp(level + 0.4 * fine, 2.6, 3.6) if kind != "glacier" else 1
    land = mix(land, paint("rock", ramp(coarse + fine, -2.5, 2.5)), np.maximum(steep, bare))
    snow = ramp(level + 0.7 * coarse + 0.3 * fine - snowline, 0, 0.6) * (1 - 0.8 * steep)
    land = mix(land, paint("snow"), snow)
    if kind == "glacier":
        ice = paint("ice", ramp(0.5 * fine + coarse + 2 * view.upright, 0, 3))
        land = mix(land, ice, ramp(level, 0.12, 0.2) * ramp(-level, -2.6, -2.2) * (view.depth > 2))
    if kind == "sea":
        inland = ramp(level + 0.02 * fine - 0.6 * near, 0.15, 0.3)
        land = mix(paint("sand", 0.5 + 0.3 * fine), land, inland)
    leaf = paint("needles", ramp(view.tip + 0.2 * fine, 0, 1.1))
    if autumn:
        turned = view.tone + 0.2 * coarse > 0.4
        leaf = mix(leaf, paint("autumn leaves", view.tip + 0.25 * fine), 0.9 * turned)
    return np.where(view.is_tree, leaf, land)


def light_dawn(image, scene, view, y, pink: float) -> np.ndarray:
    """The image under a rising sun, in the same greys (ITU-R 601 luma, as in a grey JPEG)."""
    grey = 0.299 * image[0] + 0.587 * image[1] + 0.114 * image[2]
    first_light = ramp(view.level / scene.peaks, 0.1, 0.3) * ramp(view.lit, 0.2, 0.6)
    glow = first_light * ~view.is_tree * (view.depth > 4)
    land = mix(mix(image, paint("shadow at dawn"), 0.3), paint("heights at dawn", pink), 0.9 * glow)
    clear = 0.4 + 0.6 * ramp(image[2] - image[0], -0.1, 0.35)  # clouds catch the red, too
    sky = mix(paint("sky at dawn", ramp(y, 0, 0.4) * clear), image, 0.2)
    tinted = np.where(view.is_sky, sky, land)
    tinted *= grey / (0.299 * tinted[0] + 0.587 * tinted[1] + 0.114 * tinted[2])
    # Where that is too bright for its hue, only a paler one has this grey.
    return mix(
        grey, tinted, np.clip((1 - grey) / np.maximum(tinted.max(axis=0) - grey, 1e-3), 0, 1)
    )


def flood(image, kind, view) -> np.ndarray:
    """The image with its water, which mirrors what stands on the far shore."""
    height, width = view.depth.shape
    row = np.arange(height)[:, None]
    shore = ndimage.median_filter(np.argmax(view.is_water, axis=0), 1 + width // 16)
    below = (row - shore) / height
    ripple = 0.1 * height * view.wave * np.maximum(below, 0.02)
    mirror = np.clip(2 * shore - row + ripple, 0, height - 1).astype(int)
    reflected = image[:, mirror, np.arange(width)]
    own = paint("water", ramp(view.level, -0.25, 0)) * (1 + 0.12 * view.wave)
    water = mix(reflected, own, np.clip((0.4 if kind == "sea" else 0.15) + 1.3 * below, 0, 0.8))
    if kind == "sea":
        water = mix(water, 0.9, 0.9 * ramp(view.level + 0.02 * view.wave, -0.06, -0.01))  # surf
    return np.where(view.is_water, water, image)


def draw_landscape(rng: np.random.Generator, width=144, height=108, sunrise=False) -> np.ndarray:
    """One landscape, uint8 (height, width, 3).

    One state of ``rng`` gives nearly the same greys with and without the sunrise.
    """
    kind, hour = (rng.choice(list(t), p=[row.share for row in t.values()]) for t in (SCENES, MOODS))
    scene, (share, clouds, *colours) = SCENES[kind], MOODS[hour]
    mood = Mood(share, clouds, *np.float32(colours)[..., None, None])
    horizon, haze, pink = rng.uniform(0.42, 0.58), rng.uniform(30, 100), rng.random()
    autumn = rng.random() < 0.15
    x = ((np.arange(width, dtype=np.float32) + 0.5 - width / 2) / height)[None]
    y = (np.float32(horizon) - (np.arange(height, dtype=np.float32) + 0.5) / height)[:, None]

    view = cast(rng, scene, x, y, autumn)
    land = draw_land(rng, kind, view, autumn) * (mood.skylight + 1.1 * mood.sun * view.lit)
    far = mix(mood.skyline, mood.zenith, 0.35)
    land = mix(land, far, 1 - np.exp(-view.depth / haze))
    image = np.where(view.is_sky, draw_sky(mood, fractal(rng, PUFFY), x, y), land).clip(0.01, 1)
    if sunrise:
        image = light_dawn(image, scene, view, y, pink)
    image = flood(image, kind, view)
    return (image.clip(0, 1) * 255).round().astype(np.uint8).transpose(1, 2, 0)
