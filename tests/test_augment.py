import cmath
from math import pi

import pytest
import torch

from helpers.augment import augment, draw_views

HEIGHT, WIDTH = 32, 48
NAMES = ("flip", "turn", "zoom", "right", "down", "brightness", "contrast")
TURN = cmath.exp(1j * 12 / 180 * pi)


def seen(image, **changes):
    """One image (3, H, W) at full strength, in a view that changes nothing but what is given."""
    values = {"flip": 1.0, **changes}
    views = torch.tensor([[values.get(name, 0.0)] for name in NAMES])
    return augment(image[None], torch.zeros(1), 1.0, views)[0][0]


@pytest.mark.parametrize(
    ("changes", "source"),
    [
        ({"flip": -1.0}, lambda place: -place.conj()),
        ({"turn": 1.0}, lambda place: place * TURN),
        ({"turn": -1.0}, lambda place: place / TURN),
        ({"zoom": 1.0}, lambda place: place * 1.25),
        ({"zoom": -1.0}, lambda place: place / 1.25),
        ({"right": 1.0}, lambda place: place + 0.1 * WIDTH),
        ({"down": -1.0}, lambda place: place - 0.1j * HEIGHT),
        ({"turn": 1.0, "zoom": 1.0, "down": 1.0}, lambda p: p * 1.25 * TURN + 0.1j * HEIGHT),
    ],
)
def test_a_view_is_moved_by_the_stated_limits_and_no_further(changes, source):
    y, x = torch.meshgrid(torch.arange(HEIGHT) + 0.5, torch.arange(WIDTH) + 0.5, indexing="ij")
    places = torch.complex(x - WIDTH / 2, y - HEIGHT / 2)  # pixels from the centre
    # An image whose red and green say where a pixel comes from
    image = 0.5 + torch.stack([places.real, places.imag, 0 * x]) / 200
    red, green, _ = 200 * (seen(image, **changes) - 0.5)
    inner = (places.real.abs() < WIDTH / 5) & (places.imag.abs() < HEIGHT / 5)  # no reflection
    off = torch.complex(red, green) - source(places)
    assert off[inner].abs().max() < 0.05


def test_light_changes_by_up_to_a_quarter():
    for change in (-1.0, 1.0):
        grey = seen(torch.full((3, HEIGHT, WIDTH), 0.5), brightness=change)
        torch.testing.assert_close(grey, torch.full_like(grey, 0.5 * (1 + 0.25 * change)))
        light = seen(torch.full((3, HEIGHT, WIDTH), 0.6), contrast=change)
        torch.testing.assert_close(light, torch.full_like(light, 0.5 + 0.1 * (1 + 0.25 * change)))
    views = draw_views(2000, torch.Generator().manual_seed(0))
    assert views.shape == (7, 2000) and views.mean(1).abs().max() < 0.05
    assert 0.99 < views.max() <= 1 and -1 <= views.min() < -0.99


@pytest.mark.parametrize("target", [torch.tensor([0, 1]), torch.ones(2, 8, 8, dtype=torch.uint8)])
def test_no_augmentation_changes_nothing(target):
    images = torch.rand(2, 3, 8, 8)
    assert augment(images, target, 0.0, torch.ones(7, 2)) == (images, target)


def test_augmentation_moves_mask_and_image_alike_and_invents_no_class():
    mask = torch.randint(0, 3, (4, 8, 10)).repeat_interleave(8, 1).repeat_interleave(8, 2) * 5
    images = (mask[:, None].float() / 10).expand(-1, 3, -1, -1)
    views = draw_views(4, torch.Generator().manual_seed(0))
    moved, target = augment(images, mask.byte(), 1.0, views)
    assert set(target.unique().tolist()) <= {0, 5, 10} and not torch.equal(target, mask.byte())
    # Light changes each image as a whole, so within one class the image stays nearly flat.
    for image, ids in zip(moved[:, 0], target, strict=True):
        levels = torch.stack([image[ids == c].median() for c in ids.unique()])
        assert (image[..., None] - levels).abs().min(-1).values.mean() < 0.02
