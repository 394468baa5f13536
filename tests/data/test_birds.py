"""Layouts of class folders that people have, and what is refused in them."""

import shutil
import unicodedata

import numpy as np
import pytest

from helpers.data import DataError
from tests.data.making import count, make_birds, photo, sets


def spread(root, species=("A", "B", "C"), images=20):
    for number, name in enumerate(species):
        (root / name).mkdir(parents=True)
        for i in range(images):
            photo(100 * number + i).save(root / name / f"{i}.jpg")
    return root


def test_class_folders_alone_are_split_within_each_class_and_twins_stay_together(
    tmp_path, prepare, capsys
):
    source = spread(tmp_path / "set")
    for i in range(3):
        shutil.copy(source / "A/0.jpg", source / f"A/twin{i}.jpg")
    data = prepare("birds", source)
    assert data.classes == ["A", "B", "C"] and count(data) == 63
    for told in (capsys.readouterr().out, str(prepare("birds", source).inventory)):
        assert "has no valid and no test: a tenth" in told
    for one in sets(data).values():
        assert set(one.targets) == {0, 1, 2}
    of_twins = [any("twin" in name for name in one.names) for one in sets(data).values()]
    assert sum(of_twins) == 1
    assert len(data.test) == pytest.approx(6, abs=1)


@pytest.mark.parametrize(("train", "given"), [(3, 1), (20, 2)])
def test_a_set_without_valid_gets_it_from_its_training_images(tmp_path, prepare, train, given):
    source = make_birds(tmp_path / "set", train=train)
    before = set(prepare("birds", source).test.names)
    shutil.rmtree(source / "valid")
    data = prepare("birds", source)
    assert set(data.test.names) == before
    assert len(data.valid) == 2 * given and len(data.train) == 2 * (train - given)
    assert all(name.startswith("train/") for name in data.valid.names)


@pytest.mark.parametrize("names", ["Train Valid Test", "training val testing", "TRAIN dev tests"])
def test_splits_may_be_called_in_several_ways(tmp_path, prepare, names):
    source = make_birds(tmp_path / "set")
    for old, new in zip(("train", "valid", "test"), names.split(), strict=True):
        (source / old).rename(source / f"{new} ")
        (source / f"{new} ").rename(source / new)
    assert [len(one) for one in sets(prepare("birds", source)).values()] == [12, 4, 4]


@pytest.mark.parametrize("between", ["images", "train"])
def test_a_folder_between_splits_and_species_is_no_species(tmp_path, prepare, between):
    source = make_birds(tmp_path / "set")
    for split in ("train", "valid", "test"):
        (source / split).rename(tmp_path / "moved")
        (source / split).mkdir()
        (tmp_path / "moved").rename(source / split / between)
    photo(99).save(source / "preview.jpg")
    assert prepare("birds", source).classes == ["HOUSE FINCH", "OVENBIRD"]


@pytest.mark.parametrize("names", ["train", "valid", "test", "dev", "test train"])
def test_a_class_or_the_whole_set_may_be_called_like_a_split(tmp_path, prepare, names):
    species = ["BOAT", "CAR", *names.upper().split()]
    assert prepare("birds", make_birds(tmp_path / "set", species)).classes == species
    assert prepare("birds", spread(tmp_path / "other/test", species)).classes == species


def test_photos_beside_the_training_images_make_train_no_class(tmp_path, prepare):
    source = spread(tmp_path / "set/train").parent
    spread(source, ("images to predict",), 1)
    assert prepare("birds", source).classes == ["A", "B", "C"]


def test_a_folder_of_all_sorts_is_not_said_to_look_right(tmp_path, prepare):
    spread(tmp_path, ("dev/photos", "Downloads", "Pictures", "one/A"), 3)
    (tmp_path / "Music").mkdir()
    for source in (tmp_path / "Pictures", tmp_path / "one"):
        with pytest.raises(DataError, match="give the folder that does"):
            prepare("birds", source)


@pytest.mark.parametrize(
    "twins", [("a", "A"), ("CAF\u00c9", "CAFE\u0301"), ("RED  BIRD", "RED BIRD")]
)
def test_two_folders_of_one_name_in_one_split_are_refused_and_both_named(tmp_path, prepare, twins):
    source = make_birds(tmp_path / "set", twins)
    with pytest.raises(DataError, match="would be one species") as caught:
        prepare("birds", source)
    assert all(f"/{name}/" in str(caught.value) for name in twins)


def test_two_folders_of_one_split_may_not_hold_the_same_species(tmp_path, prepare):
    source = make_birds(tmp_path / "set")
    shutil.copytree(source / "valid/OVENBIRD", source / "val/OVENBIRD")
    with pytest.raises(DataError, match="val/OVENBIRD/ and valid/OVENBIRD/ would be one species"):
        prepare("birds", source)


def test_a_letter_written_in_two_ways_is_one_species_across_splits(tmp_path, prepare):
    source = make_birds(tmp_path / "set", ("\u00c9TOURNEAU", "B"))
    (source / "test/\u00c9TOURNEAU").rename(
        source / "test" / unicodedata.normalize("NFD", "\u00c9TOURNEAU")
    )
    assert prepare("birds", source).classes == ["B", "\u00c9TOURNEAU"]


def test_one_species_is_too_few_also_when_the_others_cannot_be_used(tmp_path, prepare):
    with pytest.raises(DataError, match="one species, A: give the folder above"):
        prepare("birds", make_birds(tmp_path / "one", ("A",)))
    source = make_birds(tmp_path / "two", ("A", "B"))
    for path in source.glob("*/B/*"):
        path.write_bytes(b"\xff\xd8\xff\xe0broken")
    with pytest.raises(DataError, match="one class is left, A, and at least two are needed"):
        prepare("birds", source, skip_bad=True)
    source = spread(tmp_path / "three", ("A", "B"))
    for path in source.glob("B/*"):
        photo(1).save(path)  # near-duplicates are nothing to test with
    with pytest.raises(DataError, match="species B is in train only: add other images for valid"):
        prepare("birds", source)


def test_a_species_whose_images_cannot_be_read_leaves_and_the_others_keep_their_labels(
    tmp_path, prepare
):
    source = make_birds(tmp_path / "set", ("A", "B", "C"))
    whole = prepare("birds", source)
    for path in source.glob("*/B/*"):
        path.write_bytes(b"\xff\xd8\xff\xe0broken")
    data = prepare("birds", source, skip_bad=True)
    assert data.classes == ["A", "C"] and count(data) == 20
    for one, before in zip(sets(data).values(), sets(whole).values(), strict=True):
        names = dict(zip(before.names, before.targets, strict=True))
        assert [whole.classes[names[name]] for name in one.names] == [
            data.classes[target] for target in one.targets
        ]
    assert prepare("birds", source).classes == ["A", "C"], "from the cache, too"


def test_the_smallest_set_that_is_promised_can_be_prepared(tmp_path, prepare):
    source = make_birds(tmp_path / "set", ("A", "B"), train=2)
    shutil.rmtree(source / "valid")
    for name in "AB":
        (source / "valid" / name).mkdir(parents=True)
        photo(ord(name)).save(source / f"valid/{name}/1.jpg")
        (source / f"test/{name}/2.jpg").unlink()
    assert [len(one) for one in sets(prepare("birds", source)).values()] == [4, 2, 2]
    assert np.unique(prepare("birds", source).train.targets).tolist() == [0, 1]
