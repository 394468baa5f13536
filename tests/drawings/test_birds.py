"""The drawn birds: repeatable, of the promised kind, and told apart by their field marks."""

import numpy as np
import pytest

from helpers.drawings.birds import SPECIES, draw_bird


def draw(species, seed, **kwargs):
    return draw_bird(np.random.default_rng(seed), species, **kwargs)


@pytest.mark.parametrize("species", SPECIES, ids=lambda species: species.name)
def test_every_species_can_be_drawn_at_any_size(species):
    for size in (32, 112):
        image = draw(species, 0, size=size)
        assert image.shape == (size, size, 3) and image.dtype == np.uint8
        assert image.std() > 10


def test_the_same_seed_gives_the_same_bytes_and_another_seed_another_photo():
    assert draw(SPECIES[0], 5).tobytes() == draw(SPECIES[0], 5).tobytes()
    assert np.abs(draw(SPECIES[0], 5).astype(int) - draw(SPECIES[0], 6)).mean() > 5


def test_no_two_species_look_the_same_in_the_same_pose():
    assert len({species.name for species in SPECIES}) == len(SPECIES) >= 20
    assert len({draw(species, 1).tobytes() for species in SPECIES}) == len(SPECIES)
