"""The three drawers: repeatable, of any size, and as varied as the lessons need them."""

import numpy as np
import pytest

from helpers.data.streets import split_frames
from helpers.data.synthetic import drawing_code

drawn = drawing_code()
SPECIES = drawn.SPECIES
Id = drawn.streets.Id


def bird(seed, width=112, height=112, species=SPECIES[0]):
    return drawn.draw_bird(np.random.default_rng(seed), species, width)


def landscape(seed, width=144, height=108, sunrise=False):
    return drawn.draw_landscape(np.random.default_rng(seed), width, height, sunrise)


def street(seed, width=240, height=180, offset=0.0):
    return drawn.draw_street(np.random.default_rng(seed), offset, width, height)


@pytest.mark.parametrize(("width", "height"), [(144, 108), (61, 150), (32, 32), (240, 180)])
@pytest.mark.parametrize("draw", [bird, landscape, lambda *how: street(*how)[0]])
def test_any_size_works_and_a_seed_fixes_every_byte(draw, width, height):
    image = draw(5, width, height)
    assert image.shape == (width if draw is bird else height, width, 3)
    assert image.dtype == np.uint8 and image.std() > 10
    assert np.array_equal(image, draw(5, width, height))
    assert np.abs(image.astype(int) - draw(6, width, height)).mean() > 5


def test_no_two_species_look_the_same_in_the_same_pose():
    assert len({species.name for species in SPECIES}) == len(SPECIES) >= 20
    assert len({bird(1, species=species).tobytes() for species in SPECIES}) == len(SPECIES)


def test_sunrises_are_redder_than_days_but_their_greys_do_not_tell():
    luma = np.array([0.299, 0.587, 0.114])
    more_red = []
    for seed in range(12):
        day = landscape(seed).astype(float)
        sunrise = landscape(seed, sunrise=True).astype(float)
        assert np.abs((day - sunrise) @ luma).mean() < 1
        red = [(image[:50, :, 0] > image[:50, :, 2] + 30).mean() for image in (day, sunrise)]
        more_red.append(red[1] - red[0])  # share of the upper half: sky and heights
    assert np.mean(more_red) > 0.2


def test_every_class_is_in_the_synthetic_test_set_and_the_rare_ones_in_most_scenes():
    split = split_frames(drawn.STREET_FRAMES)
    masks = np.stack([street((0, i))[1] for i, name in enumerate(split) if name == "test"])
    assert set(np.unique(masks)) == set(range(13)) and masks.dtype == np.uint8
    assert (masks[:, -20:] == Id.VEHICLE).all()  # the bonnet
    for rare in (Id.PERSON, Id.POLE, Id.SIGN, Id.FENCE):
        assert np.mean((masks == rare).sum((1, 2)) > 20) > 0.6, rare.name


def test_an_offset_moves_the_view_through_the_same_scene():
    mask, further, other = street((7, 0))[1], street((7, 0), offset=0.1)[1], street((7, 1))[1]
    assert (mask == other).mean() < (mask == further).mean() < 1
    assert (mask == further).mean() > 0.85
