import numpy as np
import pytest

from helpers.drawings.landscapes import draw_landscape


def draw(seed, *size, **options):
    return draw_landscape(np.random.default_rng(seed), *size, **options)


def test_the_same_seed_draws_the_same_landscape_and_another_seed_another_one():
    assert np.array_equal(draw(3), draw(3))
    assert not np.array_equal(draw(3), draw(4))


@pytest.mark.parametrize("width, height", [(144, 108), (96, 96), (61, 150), (5, 3), (1, 1), (320, 300)])
def test_any_size_works(width, height):
    picture = draw(0, width, height)
    assert picture.shape == (height, width, 3)
    assert picture.dtype == np.uint8


def test_sunrise_pictures_are_redder_than_day_ones_but_their_greys_do_not_tell():
    luma, more_red = np.array([0.299, 0.587, 0.114]), []
    for seed in range(12):
        day, sunrise = draw(seed).astype(float), draw(seed, sunrise=True).astype(float)
        assert np.abs((day - sunrise) @ luma).mean() < 1
        red = [(picture[..., 0] > picture[..., 2] + 30).mean() for picture in (day[:50], sunrise[:50])]
        more_red.append(red[1] - red[0])  # share of the upper half: sky and heights
    assert np.mean(more_red) > 0.2
