"""Half-broken copies: every fault is named with its file and its remedy, and only bad files go."""

import errno
import os

import numpy as np
import pytest
import tifffile
from PIL import Image

from helpers.data import DataError, decode, streets
from tests.benchmarks import fuzz

from .making import (
    MAKE,
    count,
    make_birds,
    make_landscapes,
    mask,
    mask_image,
    photo,
    sets,
    snapshot,
)

BIRD = "train/OVENBIRD/1.jpg"
MASK = "dataA/CameraSeg/02_00_004.png"
PAGE = b"\n<!DOCTYPE html><html><body>404</body></html>"
each_set = pytest.mark.parametrize("name", MAKE)


def refused(prepare, name, source, *words):
    """Preparing must fail with all words in its message, and leave the source as it was."""
    before = snapshot(source)
    with pytest.raises(DataError) as caught:
        prepare(name, source)
    for word in words:
        assert word in str(caught.value), f"{word!r} is not in: {caught.value}"
    assert snapshot(source) == before


def left_out(prepare, name, source, file, *words, others):
    """One bad file of few is an error that names it; with skip_bad it is left out."""
    refused(prepare, name, source, f"{source}/{file}", *words, "--skip-bad")
    data = prepare(name, source, skip_bad=True)
    assert file in [entry.file for entry in data.inventory.bad]
    assert count(data) == others and file in str(data.inventory)


# Folders


@each_set
def test_an_empty_folder_and_one_that_is_not_there_are_refused(tmp_path, prepare, name):
    (tmp_path / "set").mkdir()
    refused(prepare, name, tmp_path / "set", f"{tmp_path}/set is empty", "give the folder")
    photo(1).save(tmp_path / "set" / "._photo.jpg")  # as macOS leaves on other disks
    with pytest.raises(DataError, match=r"does not hold|holds no image that can be read"):
        prepare(name, tmp_path / "set")
    with pytest.raises(DataError, match="nowhere is not there: give the folder"):
        prepare(name, tmp_path / "nowhere")


TWO = ("dataA", "dataB")
NESTED = ("dataA/dataA", "dataB/dataB")


@pytest.mark.parametrize(("name", "how", "given", "hint"), [
    ("birds", {}, "..", "a folder inside it"),
    ("birds", {}, "train", "its parent"),
    ("birds", {}, "train/OVENBIRD", "its parent"),
    ("streets", {"folders": TWO}, "..", "a folder inside it"),
    ("streets", {"folders": TWO}, "dataA", "its parent"),
    ("streets", {"folders": TWO}, "dataA/CameraRGB", "its parent"),
    ("streets", {"folders": NESTED}, "dataA", "its parent"),
    ("streets", {"folders": NESTED}, "dataA/dataA", "its parent"),
])  # fmt: skip
def test_beside_the_right_folder_it_is_named(tmp_path, prepare, name, how, given, hint):
    right = MAKE[name](tmp_path / "downloads" / "set", **how)
    wrong = right.parent if given == ".." else right / given
    refused(prepare, name, wrong, f"{hint}, {right}, looks right: give that")


def move(old, new):
    return lambda source: (source / old).rename(source / new)


def make_heic(below):
    def rename(source):
        for path in [path for path in (source / below).rglob("*") if path.is_file()]:
            path.rename(path.with_suffix(".heic"))

    return rename


HEIC = ["is a .heic file", "save it as JPEG or PNG"]
NO_TRAIN = "set/train is missing or holds no images"
NO_VALID = "set/valid is missing or holds no images"
CARLA = ["CameraMask", "CARLA 0.9", "the masks must be in CameraSeg"]


@pytest.mark.parametrize(("made", "spoil", "given_as", "words"), [
    ("streets", move("dataA", "dataB"), "landscapes", ["CameraSeg", "a streets folder"]),
    ("streets", move("dataA/CameraSeg", "dataA/CameraMask"), "streets", CARLA),
    ("birds", move("train", "away"), "birds", [NO_TRAIN, "train, valid and test"]),
    ("birds", make_heic("valid"), "birds", [NO_VALID, *HEIC]),
    ("birds", make_heic("."), "birds", HEIC),
    ("streets", make_heic("."), "streets", HEIC),
    ("landscapes", make_heic("."), "landscapes", HEIC),
])  # fmt: skip
def test_a_wrong_set_is_refused(tmp_path, prepare, made, spoil, given_as, words):
    source = MAKE[made](tmp_path / "set")
    spoil(source)
    refused(prepare, given_as, source, *words)


def test_too_few_frames_or_photos_are_refused_with_the_reason(tmp_path, prepare):
    streets_folder = MAKE["streets"](tmp_path / "streets", 4)
    refused(prepare, "streets", streets_folder, "4 usable frames are too few", "at least 5")
    photos = make_landscapes(tmp_path / "photos", 2)
    refused(prepare, "landscapes", photos, "left for train (2 in all; nothing was left out)")
    photo(50).convert("L").save(photos / "grey.jpg")
    refused(prepare, "landscapes", photos, "left for train (2 in all; ", "grey.jpg is grey: no")


# Files


def saved(kind, cut=1.0, flip=None):
    """Writes an image of noise, of which a part is kept, or a bit of the byte ``flip`` differs."""

    def write(path):
        Image.effect_noise((64, 64), 50).convert("RGB").save(path, kind)
        content = bytearray(path.read_bytes())
        if flip:
            content[flip] ^= 1
        path.write_bytes(content[: int(cut * len(content))])

    return write


def values(low, high, kind, channels=(), **how):
    """Writes a TIFF of numbers, evenly spread from ``low`` to ``high``."""
    how.setdefault("photometric", "rgb" if channels else "minisblack")

    def write(path):
        numbers = np.linspace(low, high, 64 * 48).reshape(48, 64, *(1 for _ in channels))
        numbers = np.broadcast_to(numbers, (48, 64, *channels)).astype(kind)
        if "planarconfig" in how:
            numbers = numbers.transpose(2, 0, 1)
        tifffile.imwrite(path, numbers, **how)

    return write


def flat(mode, *size):
    return lambda path: Image.new(mode, size).save(path, "PNG")


def labels(ids, mode="RGB", kind="PNG"):
    return lambda path: mask_image(ids).convert(mode).save(path, kind)


DAMAGED = ["is damaged or cut off", "download it again"]
BAD = {
    "empty": (lambda path: path.write_bytes(b""), ["is an empty file", "download it again"]),
    "nearly all of a JPEG": (saved("JPEG", 0.95), DAMAGED),
    "nearly all of a PNG": (saved("PNG", 0.95), DAMAGED),
    "a flipped bit": (saved("PNG", flip=5000), DAMAGED),
    "a flipped bit of the last checksum": (saved("PNG", flip=-14), DAMAGED),
    "a web page": (lambda path: path.write_bytes(PAGE), ["is a web page", "the image itself"]),
    "text": (lambda path: path.write_bytes(b"text"), ["is not an image", "replace"]),
    "one pixel": (flat("RGB", 1, 1), ["only 1×1 pixels", "at least 16"]),
    "a bomb": (flat("1", 20_000, 20_000), ["decompression bomb", "remove it"]),
    "a large photo": (flat("RGB", 129, 96), ["129×96 pixels, more than any photo"]),
    "12 bits of 16": (values(0, 4095, "u2"), ["0 to 65535, or none above a quarter", "8-bit PNG"]),
    "12 bits of 16, in colour": (values(0, 4095, "u2", [3]), ["0 to 255, or none above", "scale"]),
    "16 bits, 0 is white": (
        values(0, 65535, "u2", photometric="miniswhite"),
        ["is a 16-bit TIFF of a rare kind", "8-bit PNG"],
    ),
    "16 bits in planes": (
        values(0, 65535, "u2", [3], planarconfig="separate"),
        ["is a 16-bit TIFF of a rare kind", "8-bit PNG"],
    ),
    "32 bits": (values(0, 2e9, "u4"), ["values outside of 0 to 65535"]),
    "negative numbers": (values(-1000, 30_000, "i2"), ["values outside of 0 to 65535"]),
    "fractions up to 255": (values(0, 255, "f4"), ["values outside of 0 to 1"]),
    "fractions that are no numbers": (values(0, np.nan, "f4"), ["values outside of 0 to 1"]),
    "a kind of TIFF that is not read": (values(0, 1, "f8"), ["a kind that is not read", "save it"]),
    "mask of another size": (labels(mask(0, 32, 24)), ["32×24 but its image is 64×48", "export"]),
    "mask with id 13": (labels(mask(0) + 1), ["id 13, but Lyft has 0–12", "CARLA 0.9", "Re-label"]),
    "mask in colours": (
        lambda path: Image.fromarray(255 - streets.LYFT.palette[mask(0)]).save(path),
        ["has the colour (", "which no class has", "classes.csv"],
    ),
    "mask in RGBA": (labels(mask(0), "RGBA"), ["RGBA mask as CARLA 0.9", "re-label"]),
    "mask with a flipped bit": (saved("PNG", flip=-14), DAMAGED),
    "mask in a JPEG": (labels(mask(0), kind="JPEG"), ["is a JPEG", "save masks as PNG"]),
}


@pytest.mark.parametrize("fault", BAD)
def test_a_bad_image_or_mask_is_named_and_can_be_left_out(tmp_path, prepare, fault, monkeypatch):
    monkeypatch.setattr(decode, "MAX_PIXELS", 128 * 96)
    name, file, others = ("streets", MASK, 7) if "mask" in fault else ("birds", BIRD, 19)
    source = MAKE[name](tmp_path / "set")
    write, words = BAD[fault]
    write(source / file)
    left_out(prepare, name, source, file, *words, others=others)


def without_second(source):
    (source / "train" / "OVENBIRD" / "2.jpg").unlink()


def with_links(source):
    (source / "train" / "OVENBIRD" / "loop").symlink_to(source / "train")
    (source / "train" / "OVENBIRD" / "self.jpg").symlink_to("self.jpg")


def with_twin(source):
    photo(99).save(source / "train" / "OVENBIRD" / "1.JPG")
    if len(list((source / "train" / "OVENBIRD").iterdir())) == 2:
        pytest.skip("this file system takes the two names for one")


misspelt = move("test/OVENBIRD", "test/OVENBRID")


@pytest.mark.parametrize(("spoil", "file", "words", "others"), [
    (misspelt, "test/OVENBRID/1.jpg", ["OVENBRID is in test only", "is it OVENBIRD?"], 16),
    (without_second, BIRD, ["species OVENBIRD has one training image", "add some"], 12),
    (with_links, "train/OVENBIRD/self.jpg", ["leads to itself", "a loop?", "remove"], 18),
    (with_twin, BIRD, ["differs from 1.JPG only in letter case", "rename one"], 18),
])  # fmt: skip
def test_what_cannot_serve_is_named(tmp_path, prepare, spoil, file, words, others):
    source = make_birds(tmp_path / "set", ("OVENBIRD", "HOUSE FINCH", "RUFOUS TREPE"), train=2)
    spoil(source)
    left_out(prepare, "birds", source, file, *words, others=others)


def test_names_in_any_letters_are_read_even_when_they_are_no_text(tmp_path, prepare):
    source = make_birds(tmp_path / "Dörte's set, new 🐦", ("GRÜN, GELB 🦜", "BLACK & WHITE"))
    photo(99).save(source / "train" / "GRÜN, GELB 🦜" / "a'b\", süß 🐤.jpg")
    data = prepare("birds", source)
    assert data.classes == ["BLACK & WHITE", "GRÜN, GELB 🦜"] and len(data.train) == 13
    assert "train/GRÜN, GELB 🦜/a'b\", süß 🐤.jpg" in data.train.names
    bird = source / "train" / "BLACK & WHITE" / "1.jpg"
    try:
        os.rename(bird, os.fsencode(bird.parent) + b"/caf\xe9.jpg")
    except OSError:
        pytest.skip("this file system has only names that are valid text")
    assert prepare("birds", source).train.names == prepare("birds", source).train.names


def test_a_file_or_folder_that_may_not_be_read_is_read_once_it_may(tmp_path, prepare, monkeypatch):
    source = make_birds(tmp_path / "set", ("A", "B", "OVENBIRD"))

    # As the system does; the superuser, who may run this, reads all.
    def refusing(end, number, real):
        def refuse(path, *how):
            if str(path).endswith(end):
                raise OSError(number, os.strerror(number), path)
            return real(path, *how)

        return refuse

    with monkeypatch.context() as denied:
        denied.setattr("helpers.data.listing.os.access", lambda path, _: not path.match(BIRD))
        left_out(prepare, "birds", source, BIRD, "may not be read", "chmod", others=29)
    with monkeypatch.context() as torn:
        torn.setattr(decode, "open", refusing(BIRD, errno.EIO, open), raising=False)
        refused(prepare, "birds", source, f"{BIRD} cannot be read (Input/output error): copy")
    assert BIRD in prepare("birds", source).train.names
    deny = refusing("train/B", errno.EACCES, os.scandir)
    monkeypatch.setattr("helpers.data.listing.os.scandir", deny)
    with pytest.raises(DataError, match=r"train/B/? may not be read.*chmod"):
        prepare("birds", source)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])  # Pillow turns a TIFF while it loads it
def test_a_street_turned_by_exif_is_refused(tmp_path, prepare, kind):
    source = MAKE["streets"](tmp_path / "set", 11)
    exif = Image.Exif()
    exif[decode.ORIENTATION] = 3
    photo(3).save(source / "dataA/CameraRGB/02_00_003.png", kind, exif=exif)
    words = ["is turned by EXIF", "save both upright"]
    left_out(prepare, "streets", source, "dataA/CameraRGB/02_00_003.png", *words, others=8)


@pytest.mark.parametrize(("gone", "there"), [("RGB", "Seg"), ("Seg", "RGB")])
def test_an_image_or_a_mask_alone_is_named_and_can_be_left_out(tmp_path, prepare, gone, there):
    source = MAKE["streets"](tmp_path / "set", 11)
    (source / f"dataA/Camera{gone}/02_00_003.png").unlink()
    words = [" has no ", f" in Camera{gone} of the same name"]
    left_out(prepare, "streets", source, f"dataA/Camera{there}/02_00_003.png", *words, others=8)


# How much is too much


def test_one_bad_file_in_a_hundred_is_left_out_and_the_table_tells_of_every_file(tmp_path, prepare):
    source = make_landscapes(tmp_path / "set", 200)
    for i in (7, 8):
        (source / f"photo_{i:02}.jpg").write_bytes(PAGE)
    photo(999).convert("L").save(source / "grey.png")
    photo(1000).convert("P").save(source / "palette.jpg", "PNG")
    data = prepare("landscapes", source)
    assert [entry.file for entry in data.inventory.bad] == ["photo_07.jpg", "photo_08.jpg"]
    table = data.inventory.table()
    assert count(data) == table[table.what == "read"].files.sum() == 199
    grey = table[table.detail == "is grey: no colour to learn from"]
    assert grey.example.item() == "grey.png"
    assert {"P to RGB", "PNG named .jpg"} <= set(table.detail)
    (source / "photo_09.jpg").write_bytes(PAGE)
    refused(prepare, "landscapes", source, "3 of 201 files are bad, more than 1 %", "--skip-bad")


def test_a_hopeless_set_is_an_error_even_when_skipping(tmp_path, prepare):
    (tmp_path / "set").mkdir()
    for i in range(40):
        (tmp_path / "set" / f"{i:02}.jpg").write_bytes(PAGE)
    refused(prepare, "landscapes", tmp_path / "set", "40 of 40 files are bad", "is a web page")
    wanted = r"left for train, valid, test \(0 in all; .*00.jpg is a web .* \(40 such files\)"
    with pytest.raises(DataError, match=wanted):
        prepare("landscapes", tmp_path / "set", skip_bad=True)


@each_set
def test_files_that_are_not_read_are_counted_with_a_remedy(tmp_path, prepare, name):
    source = MAKE[name](tmp_path / "set")
    folder = next(path for path in sorted(source.rglob("*")) if path.is_file()).parent
    for file in ("a.heic", "b.HEIC", "c.heic", "drive.mp4", "rest.zip", "notes.txt", "LICENSE"):
        (folder / file).write_bytes(b"anything")
    (folder / "@eaDir").mkdir()
    photo(9).save(folder / "@eaDir" / "1.jpg")
    os.mkfifo(folder / "pipe.jpg")
    data = prepare(name, source)
    files = data.inventory.table().set_index("detail").files
    assert files["is a .heic file, which is not read: save it as JPEG or PNG"] == 3
    assert files["is a .mp4 file, which is not read: export its frames as JPEG or PNG"] == 1
    assert files["is a .zip file, which is not read: unpack it"] == 1
    assert files["is not an image"] == 2 and files["is a pipe or a device"] == 1
    assert files["is a folder of thumbnails or trash"] == 1
    assert data.inventory.bad == [] and "eaDir" not in str(
        [one.names for one in sets(data).values()]
    )


def test_unusable_arguments_are_refused(tmp_path, prepare):
    source = make_birds(tmp_path / "set")
    with pytest.raises(DataError, match=r"no data set 'fish'.*birds, streets, landscapes"):
        prepare("fish")
    with pytest.raises(DataError, match=r"size=\(8, 8\).*at least 16"):
        prepare("birds", source, size=8)
    with pytest.raises(DataError, match="has 2 species: classes=4"):
        prepare("birds", source, classes=4)
    with pytest.raises(DataError, match="classes=4 changes nothing for streets"):
        prepare("streets", "synthetic", classes=4)


@pytest.mark.parametrize("damage", [fuzz.fuzz_images, fuzz.fuzz_archives])
def test_files_damaged_by_chance_are_left_out_or_read_as_they_were(tmp_path, damage):
    counts = [counts for _, _, counts in damage(tmp_path, files=6, seed=1)]
    assert all(sum(found.values()) == 6 for found in counts) and len(counts) in (3, 12)
    assert all(found["cut", "left out"] + found["cut", "refused"] == 2 for found in counts)
