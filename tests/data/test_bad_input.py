"""Half-broken copies: every fault is named with its file and its remedy, and only bad files are lost."""

import os
from functools import partial

import pytest
from PIL import Image

import helpers.data
from helpers.data import DataError, decode

from .making import make_birds, make_landscapes, make_streets, mask, mask_image, photo, snapshot


def refused(prepare, name, source, *words):
    """Preparing must fail with all words in its message, and leave the source as it was."""
    before = snapshot(source)
    with pytest.raises(DataError) as caught:
        prepare(name, source)
    for word in words:
        assert word in str(caught.value), f"{word!r} is not in: {caught.value}"
    assert snapshot(source) == before


def left_out(prepare, name, source, file, *words, others):
    """One bad file of few is an error that names it; with skip_bad it is left out and the others read."""
    refused(prepare, name, source, f"{source}/{file}", *words, "--skip-bad")
    data = prepare(name, source, skip_bad=True)
    assert file in [entry.file for entry in data.inventory.bad]
    assert len(data.train) + len(data.valid) + len(data.test) == others
    assert file in str(data.inventory)


# Folders


def test_an_empty_folder(tmp_path, prepare):
    (tmp_path / "set").mkdir()
    for name in ("birds", "streets", "landscapes"):
        refused(prepare, name, tmp_path / "set", f"{tmp_path}/set is empty", "give the folder")


def test_a_folder_that_is_not_there(tmp_path, prepare):
    with pytest.raises(DataError, match="nowhere is not there: give the folder"):
        prepare("birds", tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["birds", "streets"])
def test_the_parent_of_the_right_folder(tmp_path, prepare, name):
    make = make_birds if name == "birds" else partial(make_streets, folders=("dataA", "dataB"))
    right = make(tmp_path / "downloads" / "set")
    refused(prepare, name, tmp_path / "downloads", "a folder inside it", f"{right}, looks right")


@pytest.mark.parametrize("child", ["train", "train/OVENBIRD"])
def test_a_child_of_the_right_birds_folder(tmp_path, prepare, child):
    right = make_birds(tmp_path / "set")
    refused(prepare, "birds", right / child, f"its parent, {right}, looks right")


@pytest.mark.parametrize("layout", ["{}", "{0}/{0}"])
@pytest.mark.parametrize("child", ["dataA", "dataA/dataA", "dataA/CameraRGB"])
def test_a_child_of_the_right_streets_folder(tmp_path, prepare, child, layout):
    right = make_streets(tmp_path / "set", folders=[layout.format(name) for name in ("dataA", "dataB")])
    if not (right / child).exists():
        pytest.skip("only in the other layout")
    refused(prepare, "streets", right / child, f"its parent, {right}, looks right")


def test_streets_given_as_landscapes(tmp_path, prepare):
    refused(prepare, "landscapes", make_streets(tmp_path / "set"), "CameraSeg", "is a mask", "streets folder")


def test_a_missing_split(tmp_path, prepare):
    source = make_birds(tmp_path / "set")
    (source / "valid").rename(tmp_path / "away")
    refused(prepare, "birds", source, f"{source}/valid is missing", "train, valid and test")


def test_a_species_in_one_split_only_is_named_with_its_nearest_neighbour(tmp_path, prepare):
    source = make_birds(tmp_path / "set", ("OVENBIRD", "HOUSE FINCH"))
    (source / "test" / "OVENBIRD").rename(source / "test" / "OVENBRID")
    file, words = "test/OVENBRID/1.jpg", ("OVENBRID is in test only", "is it OVENBIRD?")
    left_out(prepare, "birds", source, file, *words, others=6 + 2 + 2 + 6 + 2)


def test_a_class_with_one_image(tmp_path, prepare):
    source = make_birds(tmp_path / "set", ("A", "B", "C"))
    for path in sorted((source / "train" / "B").iterdir())[1:]:
        path.unlink()
    left_out(prepare, "birds", source, "train/B/1.jpg", "species B has one training image", others=20)


def test_a_link_that_loops_ends(tmp_path, prepare):
    source = make_birds(tmp_path / "set")
    (source / "train" / "OVENBIRD" / "loop").symlink_to(source / "train")
    (source / "train" / "OVENBIRD" / "self.jpg").symlink_to("self.jpg")
    file = "train/OVENBIRD/self.jpg"
    left_out(prepare, "birds", source, file, "leads to itself", "a loop?", "remove", others=20)


def test_names_with_spaces_commas_umlauts_and_emoji(tmp_path, prepare):
    source = make_birds(tmp_path / "Dörte's set, new 🐦", ("GRÜN, GELB 🦜", "BLACK & WHITE"))
    names = ["ein Vogel, süß.jpg", "🐤.jpg", "a'b\"c.jpg"]
    for i, name in enumerate(names):
        photo(100 + i).save(source / "train" / "GRÜN, GELB 🦜" / name)
    data = prepare("birds", source)
    assert data.classes == ["BLACK & WHITE", "GRÜN, GELB 🦜"] and len(data.train) == 15
    assert {f"train/GRÜN, GELB 🦜/{name}" for name in names} <= set(data.train.names)


def test_a_name_that_is_no_valid_text(tmp_path, prepare):
    source = make_birds(tmp_path / "set")
    try:
        os.rename(source / "train/OVENBIRD/1.jpg", os.fsencode(source) + b"/train/OVENBIRD/caf\xe9.jpg")
    except OSError:
        pytest.skip("this file system has only names that are valid text")
    assert len(prepare("birds", source).train) == len(prepare("birds", source).train) == 12


# Images


def bad_birds(tmp_path, content: bytes, file="train/OVENBIRD/1.jpg"):
    source = make_birds(tmp_path / "set")
    (source / file).write_bytes(content)
    return source, file


def bytes_of(image, tmp_path, kind):
    path = tmp_path / f"image.{kind}"
    image.save(path)
    return path.read_bytes()


def test_an_empty_file(tmp_path, prepare):
    left_out(prepare, "birds", *bad_birds(tmp_path, b""), "is an empty file", "download it again", others=19)


@pytest.mark.parametrize("kind", ["jpg", "png"])
@pytest.mark.parametrize("kept", [0.5, 0.95])
def test_a_truncated_image(tmp_path, prepare, kind, kept):
    whole = bytes_of(Image.effect_noise((64, 64), 50).convert("RGB"), tmp_path, kind)
    source, file = bad_birds(tmp_path, whole[: int(kept * len(whole))], f"train/OVENBIRD/7.{kind}")
    left_out(prepare, "birds", source, file, "is damaged or cut off", "download it again", others=20)


def test_a_png_with_a_flipped_bit(tmp_path, prepare):
    whole = bytearray(bytes_of(Image.effect_noise((64, 64), 50).convert("RGB"), tmp_path, "png"))
    whole[len(whole) // 2] ^= 1
    left_out(prepare, "birds", *bad_birds(tmp_path, bytes(whole)), "is damaged or cut off", others=19)


def test_a_web_page_saved_as_an_image(tmp_path, prepare):
    page = b"\n<!DOCTYPE html><html><body>404</body></html>"
    left_out(
        prepare, "birds", *bad_birds(tmp_path, page), "is a web page", "download the image itself", others=19
    )


def test_bytes_that_are_no_image(tmp_path, prepare):
    left_out(prepare, "birds", *bad_birds(tmp_path, b"just text"), "is not an image", "replace", others=19)


def test_a_wrong_extension_is_read_and_reported(tmp_path, prepare):
    source, file = bad_birds(tmp_path, bytes_of(photo(99), tmp_path, "png"))
    data = prepare("birds", source)
    assert file in data.train.names and data.inventory.converted["PNG named .jpg"] == 1


def test_an_image_of_one_pixel(tmp_path, prepare):
    one = bytes_of(Image.new("RGB", (1, 1)), tmp_path, "png")
    left_out(prepare, "birds", *bad_birds(tmp_path, one), "only 1×1 pixels", "at least 16", others=19)


def test_a_decompression_bomb(tmp_path, prepare):
    bomb = bytes_of(Image.new("1", (20_000, 20_000)), tmp_path, "png")
    assert len(bomb) < 200_000
    left_out(prepare, "birds", *bad_birds(tmp_path, bomb), "decompression bomb", "remove it", others=19)


def test_a_large_photo_is_no_bomb_but_a_larger_one_is(tmp_path, prepare, monkeypatch):
    monkeypatch.setattr(decode, "MAX_PIXELS", 64 * 48)
    source = make_birds(tmp_path / "set")
    photo(1, 65, 48).save(source / "train" / "OVENBIRD" / "1.jpg")
    file = "train/OVENBIRD/1.jpg"
    left_out(prepare, "birds", source, file, "has 65×48 pixels, more than any photo", others=19)


def test_a_file_that_may_not_be_read(tmp_path, prepare, monkeypatch):
    source, file = make_birds(tmp_path / "set"), "train/OVENBIRD/1.jpg"
    opened = Image.open

    def refuse(path):  # as the system does; the superuser, who may run this, reads everything
        if str(path).endswith(file):
            raise PermissionError(13, "Permission denied", path)
        return opened(path)

    monkeypatch.setattr(decode.Image, "open", refuse)
    left_out(prepare, "birds", source, file, "may not be read", "chmod", others=19)


def test_a_folder_that_may_not_be_read(tmp_path, prepare, monkeypatch):
    source = make_birds(tmp_path / "set", ("A", "B", "C"))
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("train/B"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr("helpers.data.listing.os.scandir", refuse)
    with pytest.raises(DataError, match=r"train/B/? may not be read.*chmod"):
        prepare("birds", source)


def test_names_that_differ_in_case_only(tmp_path, prepare):
    source = make_birds(tmp_path / "set")
    if (source / "train" / "OVENBIRD" / "1.JPG").exists():
        pytest.skip("this file system takes the two names for one")
    photo(99).save(source / "train" / "OVENBIRD" / "1.JPG")
    words = ("differs from 1.JPG only in upper and lower case", "rename one")
    left_out(prepare, "birds", source, "train/OVENBIRD/1.jpg", *words, others=20)


# Masks


def bad_mask(tmp_path, image, file="dataA/CameraSeg/02_00_004.png"):
    source = make_streets(tmp_path / "set")
    image.save(source / file)
    return source, file


def test_an_image_without_a_mask(tmp_path, prepare):
    source = make_streets(tmp_path / "set", 11)
    (source / "dataA" / "CameraSeg" / "02_00_003.png").unlink()
    file = "dataA/CameraRGB/02_00_003.png"
    left_out(
        prepare, "streets", source, file, "has no mask in CameraSeg of the same name", "add it", others=8
    )


def test_a_mask_without_an_image(tmp_path, prepare):
    source = make_streets(tmp_path / "set", 11)
    (source / "dataA" / "CameraRGB" / "02_00_003.png").unlink()
    file = "dataA/CameraSeg/02_00_003.png"
    left_out(
        prepare, "streets", source, file, "has no image in CameraRGB of the same name", "add it", others=8
    )


def test_a_mask_of_another_size(tmp_path, prepare):
    bad = bad_mask(tmp_path, mask_image(mask(0, 32, 24)))
    left_out(prepare, "streets", *bad, "is 32×24 but its image is 64×48", "export both", others=7)


@pytest.mark.parametrize("number", [13, 17, 255])
def test_a_class_id_above_twelve(tmp_path, prepare, number):
    ids = mask(0)
    ids[5, 5] = number
    words = (f"class id {number}, but Lyft has 0–12", "CARLA 0.9", "Re-label")
    left_out(prepare, "streets", *bad_mask(tmp_path, mask_image(ids)), *words, others=7)


def test_a_colour_coded_mask(tmp_path, prepare):
    colours = Image.fromarray(helpers.data.streets.PALETTE[mask(0)])
    left_out(
        prepare, "streets", *bad_mask(tmp_path, colours), "holds colours, not class ids", "map each", others=7
    )


def test_a_mask_as_carla_09_exports_it(tmp_path, prepare):
    rgba = mask_image(mask(0)).convert("RGBA")
    left_out(prepare, "streets", *bad_mask(tmp_path, rgba), "RGBA mask as CARLA 0.9", "re-label", others=7)


def test_carla_folders_are_recognised(tmp_path, prepare):
    source = make_streets(tmp_path / "set")
    (source / "dataA" / "CameraSeg").rename(source / "dataA" / "CameraMask")
    refused(prepare, "streets", source, "CameraMask", "CARLA 0.9", "the masks must be in CameraSeg")


def test_a_mask_saved_as_jpeg(tmp_path, prepare):
    source = make_streets(tmp_path / "set")
    (source / "dataA" / "CameraSeg" / "02_00_004.png").unlink()
    file = "dataA/CameraSeg/02_00_004.jpg"
    mask_image(mask(0)).save(source / file)
    left_out(prepare, "streets", source, file, "is a JPEG", "save masks as PNG", others=7)


def test_a_mask_without_class_ids(tmp_path, prepare):
    left_out(
        prepare, "streets", *bad_mask(tmp_path, Image.new("1", (64, 48))), "has mode 1", "8-bit PNG", others=7
    )


# How much is too much


def test_one_bad_file_in_a_hundred_is_left_out_and_listed(tmp_path, prepare):
    source = make_landscapes(tmp_path / "set", 200)
    for i in (7, 8):
        (source / f"photo_{i:02}.jpg").write_bytes(b"<html>")
    data = prepare("landscapes", source)
    assert [entry.file for entry in data.inventory.bad] == ["photo_07.jpg", "photo_08.jpg"]
    assert sum(data.inventory.read.values()) == 198
    (source / "photo_09.jpg").write_bytes(b"<html>")
    refused(prepare, "landscapes", source, "3 of 200 files are bad, more than 1 %", "--skip-bad")


def test_a_hopeless_set_stops_early(tmp_path, prepare):
    source = tmp_path / "set"
    source.mkdir()
    for i in range(400):
        (source / f"{i:03}.jpg").write_bytes(b"<html>")
    refused(prepare, "landscapes", source, "101 of 101 files", "is a web page")


def test_nothing_usable_is_an_error_even_when_skipping(tmp_path, prepare):
    source = make_landscapes(tmp_path / "set", 3)
    for path in source.iterdir():
        path.write_bytes(b"<html>")
    with pytest.raises(
        DataError, match=r"no usable image is left for train, valid, test \(0 in all; "
    ) as caught:
        prepare("landscapes", source, skip_bad=True)
    assert "photo_00.jpg is a web page" in str(caught.value) and "(3 such files)" in str(caught.value)


def test_too_few_photos_for_three_splits_are_refused_with_the_reason(tmp_path, prepare):
    source = make_landscapes(tmp_path / "set", 2)
    with pytest.raises(
        DataError, match=r"no usable image is left for test \(2 in all; nothing was left out\)"
    ):
        prepare("landscapes", source)
    photo(50).convert("L").save(source / "grey.jpg")
    with pytest.raises(DataError, match=r"left for test \(2 in all; .*grey.jpg is grey: no colour"):
        prepare("landscapes", source)


def test_a_folder_without_a_visible_image_says_so(tmp_path, prepare):
    (tmp_path / "set").mkdir()
    photo(1).save(tmp_path / "set" / "._photo.jpg")  # as macOS leaves on other disks
    refused(prepare, "landscapes", tmp_path / "set", f"{tmp_path}/set holds no image that can be read")


# Kinds that are not read


@pytest.mark.parametrize(
    ("name", "make"), [("birds", make_birds), ("streets", make_streets), ("landscapes", make_landscapes)]
)
def test_files_that_are_not_read_are_counted_with_a_remedy(tmp_path, prepare, name, make):
    source = make(tmp_path / "set")
    folder = next(path for path in sorted(source.rglob("*")) if path.is_file()).parent
    for file in ("a.heic", "b.HEIC", "c.heic", "drive.mp4", "notes.txt"):
        (folder / file).write_bytes(b"anything")
    inventory = prepare(name, source).inventory
    table = inventory.table()
    counted = {
        row.detail: row.files
        for row in table[table.what == "left out"].itertuples()
        if "not read" in row.detail
    }
    assert inventory.bad == [] and counted == {
        "is a .heic file, which is not read: save it as JPEG or PNG": 3,
        "is a .mp4 file, which is not read: export its frames as JPEG or PNG": 1,
    }


@pytest.mark.parametrize(
    ("name", "make"), [("birds", make_birds), ("streets", make_streets), ("landscapes", make_landscapes)]
)
def test_a_folder_of_such_files_alone_names_them(tmp_path, prepare, name, make):
    source = make(tmp_path / "set")
    for path in [path for path in source.rglob("*") if path.is_file()]:
        path.rename(path.with_suffix(".heic"))
    refused(prepare, name, source, ".heic is a .heic file", "save it as JPEG or PNG", "such files)")


def test_a_split_of_such_files_alone_names_them(tmp_path, prepare):
    source = make_birds(tmp_path / "set")
    for path in list((source / "valid").rglob("*.jpg")):
        path.rename(path.with_suffix(".heic"))
    refused(
        prepare, "birds", source, f"{source}/valid is missing or holds no images", "save it as JPEG or PNG"
    )


def test_a_full_inventory_reaches_the_table(tmp_path, prepare):
    source = make_landscapes(tmp_path / "set", 150)
    (source / "photo_00.jpg").write_bytes(b"")
    photo(999).convert("L").save(source / "grey.png")
    photo(1000).convert("P").save(source / "palette.png")
    table = prepare("landscapes", source).inventory.table()
    assert list(table.columns) == ["what", "detail", "files", "example"]
    assert table[table.what == "read"].files.sum() == 150
    assert dict(table[table.what == "left out"][["detail", "example"]].values) == {
        "is an empty file: copy or download it again": "photo_00.jpg",
        "is grey: no colour to learn from": "grey.png",
    }
    assert table[table.detail == "P to RGB"].files.item() == 1


def test_unusable_arguments_are_refused(tmp_path, prepare):
    with pytest.raises(DataError, match=r"no data set 'fish'.*birds, streets, landscapes"):
        prepare("fish")
    with pytest.raises(DataError, match=r"size=\(8, 8\).*at least 16"):
        prepare("birds", make_birds(tmp_path / "set"), size=8)
