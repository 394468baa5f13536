"""Folders of photos as people keep them."""

from tests.data.making import count, make_landscapes


def test_photos_by_year_month_and_day_are_read_from_the_folder_that_is_given(tmp_path, prepare):
    source = make_landscapes(tmp_path / "photos/2021/05/17")
    make_landscapes(tmp_path / "photos/2022/08/01").rename(tmp_path / "photos/2022/08/02")
    assert count(prepare("landscapes", tmp_path / "photos")) == 24
    assert count(prepare("landscapes", source)) == 12


def test_three_photos_in_one_folder_are_enough(tmp_path, prepare):
    make_landscapes(tmp_path / "photos/sunrise", 3)
    data = prepare("landscapes", tmp_path / "photos")
    assert [len(data.train), len(data.valid), len(data.test)] == [1, 1, 1]
