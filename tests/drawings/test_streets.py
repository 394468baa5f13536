import numpy as np
import pytest

from helpers import drawings
from helpers.data.streets import split_frames
from helpers.drawings.streets import Id, draw_street


def draw(seed, *how, **options):
    return draw_street(np.random.default_rng(seed), *how, **options)


@pytest.fixture(scope="module")
def scenes():
    return [draw((7, i)) for i in range(36)]


def test_the_same_seed_draws_the_same_bytes():
    for first, second in zip(draw((3, 1), 0.2), draw((3, 1), 0.2), strict=True):
        assert first.tobytes() == second.tobytes()


def test_image_and_mask_have_the_size_asked_for():
    image, mask = draw(5, width=120, height=92)
    assert image.shape == (92, 120, 3) and image.dtype == np.uint8
    assert mask.shape == (92, 120) and mask.dtype == np.uint8


def test_masks_hold_all_thirteen_ids_and_no_other(scenes):
    assert set(np.unique([mask for _, mask in scenes])) == set(range(13))


def test_the_bonnet_is_a_vehicle(scenes):
    for _, mask in scenes:
        assert (mask[-20:] == Id.VEHICLE).all()


def test_rare_classes_occur_in_most_scenes(scenes):
    for rare in (Id.PERSON, Id.POLE, Id.SIGN, Id.FENCE):
        assert np.mean([(mask == rare).sum() > 20 for _, mask in scenes]) > 0.6, rare.name


def test_an_offset_moves_the_view_through_the_same_scene(scenes):
    _, here = scenes[0]
    _, further = draw((7, 0), offset=0.1)
    _, elsewhere = scenes[1]
    assert 0.85 < (here == further).mean() < 1
    assert (here == elsewhere).mean() < (here == further).mean()


def test_every_class_is_present_in_the_test_part_of_the_drawn_set():
    frames = [i for i, split in enumerate(split_frames(drawings.STREET_FRAMES)) if split == "test"]
    seen = set()
    for i in frames:
        seen |= set(np.unique(draw((0, i))[1]))
    assert seen == set(range(13))
