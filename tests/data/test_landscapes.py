"""Folders of photos as people keep them."""

import pytest

from tests.data.making import count, make_landscapes


@pytest.mark.parametrize("below", ["2021", "2021/05/17", "by/me/of/the/Alps/in/2021"])
def test_photos_are_read_from_the_folder_that_is_given_however_deep(tmp_path, prepare, below):
    source = make_landscapes(tmp_path / "photos" / below)
    for path in source.iterdir():
        path.rename(path.with_name(f"{path.name}.1"))
    for folder in (source, tmp_path / "photos"):
        assert count(prepare("landscapes", folder)) == 12


def test_three_photos_in_one_folder_are_enough(tmp_path, prepare):
    make_landscapes(tmp_path / "photos/sunrise", 3)
    data = prepare("landscapes", tmp_path / "photos")
    assert [len(data.train), len(data.valid), len(data.test)] == [1, 1, 1]
