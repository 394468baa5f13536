"""The three layouts, whole ones, as they come out of prepare()."""

import itertools
import zlib
from pathlib import Path

import imagehash
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from helpers.data import ArrayDataset, Inventory, decode, similar, streets
from helpers.data.landscapes import split_photos
from helpers.data.listing import SPLITS

from .making import count, make_birds, make_landscapes, make_streets, mask, mask_image, photo, sets


def pixels_of(data, file):
    for one in sets(data).values():
        if file in one.names:
            return one.images[one.names.index(file)].astype(int)
    raise AssertionError(f"{file} was not read")


# Birds


def test_birds_keep_the_splits_and_labels_of_their_folders(tmp_path, prepare):
    source = make_birds(tmp_path / "set", ("OVENBIRD", "D-ARNAUDS BARBET", "HOUSE FINCH"))
    data = prepare("birds", source)
    assert data.classes == ["D-ARNAUDS BARBET", "HOUSE FINCH", "OVENBIRD"]
    assert data.inventory.read == {"train": 18, "valid": 6, "test": 6}
    for split, one in sets(data).items():
        for name, target in zip(one.names, one.targets, strict=True):
            folder, species, _ = name.split("/")
            assert (folder, species) == (split, data.classes[target])
            with Image.open(source / name) as image:
                centre = image.crop((8, 0, 56, 48))
                expected = np.asarray(centre.resize((32, 32), Image.Resampling.BILINEAR))
            assert np.abs(pixels_of(data, name) - expected).mean() < 3


def test_spellings_of_a_species_agree_and_what_is_no_bird_is_left_out(tmp_path, prepare):
    species = ("PARAKETT AUKLET", "COCK OF THE  ROCK", "LOONEY BIRDS")
    source = make_birds(tmp_path / "set", species)
    (source / "valid" / "PARAKETT AUKLET").rename(source / "valid" / "PARAKETT  AUKLET")
    (source / "test" / "PARAKETT AUKLET").rename(source / "test" / "PARAKETT  AKULET")
    (source / "test" / "COCK OF THE  ROCK").rename(source / "test" / "Cock of the rock ")
    (source / "birds.csv").write_bytes(b"class id,filepaths\n7.0,\xff\xfe nonsense")  # is not read
    data = prepare("birds", source)
    assert data.classes == ["COCK OF THE ROCK", "PARAKETT AUKLET"] and len(data.train) == 12
    assert {entry.reason for entry in data.inventory.left_out if entry.file != "birds.csv"} == {
        "is not a bird"
    }


# Any image

ORANGE = (200, 120, 40)
GREY = (180, 180, 180)
SOLID = {
    "RGB": (Image.new("RGB", (60, 40), ORANGE), ORANGE),
    "grey": (Image.new("L", (60, 40), 180), GREY),
    "grey with alpha": (Image.new("LA", (60, 40), (180, 255)), GREY),
    "palette": (Image.new("RGB", (60, 40), ORANGE).quantize(8), ORANGE),
    "CMYK": (Image.new("RGB", (60, 40), ORANGE).convert("CMYK"), ORANGE),
    "RGBA": (Image.new("RGBA", (60, 40), (*ORANGE, 255)), ORANGE),
    "transparent": (Image.new("RGBA", (60, 40), (0, 0, 0, 0)), (255, 255, 255)),
    "black and white": (Image.new("1", (60, 40), 1), (255, 255, 255)),
    "16-bit": (Image.fromarray(np.full((40, 60), 180 * 257, dtype=np.uint16)), GREY),
    "big-endian": (Image.new("I;16B", (60, 40), 180 * 257), GREY),
    "32-bit": (Image.fromarray(np.full((40, 60), 180 * 257, dtype=np.int32)), GREY),
    "fractions": (Image.fromarray(np.full((40, 60), 180 / 255, dtype=np.float32)), GREY),
}


def test_every_kind_of_image_becomes_rgb_and_transparency_white(tmp_path, prepare):
    source = make_birds(tmp_path / "set")
    for mode, (image, _) in SOLID.items():
        image.save(source / "train" / "OVENBIRD" / f"{mode}.tif")
    data = prepare("birds", source)
    for mode, (_, colour) in SOLID.items():
        pixels = pixels_of(data, f"train/OVENBIRD/{mode}.tif")
        assert np.abs(pixels - colour).max() <= 3, mode


def test_whatever_pillow_opens_is_read_under_any_name(tmp_path, prepare):
    source = make_landscapes(tmp_path / "set")
    names = ["a.jfif", "b.jpe", "c.jp2", "d.ppm", "e.tga", "f.ico", "g.jpg.1", "h", "i.JPG_large"]
    for number, name in enumerate(names):
        kind = Image.registered_extensions().get(Path(name).suffix, "JPEG")
        photo(50 + number).save(source / name, kind)
    data = prepare("landscapes", source)
    assert count(data) == 21 and not data.inventory.left_out
    assert data.inventory.converted["JPEG named .jpg_large"] == 1
    for number, name in enumerate(names):
        wanted = ImageOps.fit(photo(50 + number), (32, 32), Image.Resampling.BILINEAR)
        assert np.abs(pixels_of(data, name) - np.asarray(wanted)).mean() < 5, name


def chunk(kind, content):
    checksum = zlib.crc32(kind + content).to_bytes(4)
    return len(content).to_bytes(4) + kind + content + checksum


METADATA = {
    "too much text": chunk(b"iTXt", b"XML\0\1\0\0\0" + zlib.compress(bytes(3_000_000))),
    "a wrong checksum": chunk(b"tEXt", b"a\0b")[:-1] + b"!",
    "odd EXIF": chunk(b"eXIf", b"b'Exif\\x00\\x00MM'"),
    "nothing of a chunk": chunk(b"pHYs", b""),
}


@pytest.mark.parametrize("before", [b"IDAT", b"IEND"])
@pytest.mark.parametrize("damage", METADATA)
def test_damaged_metadata_is_no_damage_of_the_image(tmp_path, damage, before):
    image = photo(1)
    image.save(tmp_path / "photo.png")
    content = (tmp_path / "photo.png").read_bytes()
    place = content.index(before) - 4
    (tmp_path / "photo.png").write_bytes(content[:place] + METADATA[damage] + content[place:])
    read, _, _ = decode.read_image(tmp_path / "photo.png", (48, 64), crop=False)
    assert (np.asarray(read) == np.asarray(image)).all()


def test_a_jpeg_with_odd_exif_is_read_and_one_of_a_phone_in_little_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(decode, "MAX_PIXELS", 96 * 64)
    photo(1, 768, 512).save(tmp_path / "photo.jpg", exif=b"Exif\0\0MM")
    image, _, _ = decode.read_image(tmp_path / "photo.jpg", (32, 32), crop=True)
    wanted = ImageOps.fit(photo(1, 768, 512), (32, 32), Image.Resampling.BILINEAR)
    assert np.abs(np.asarray(image).astype(int) - np.asarray(wanted)).mean() < 5


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, prepare, orientation):
    source = make_birds(tmp_path / "set")
    upright = Image.new("RGB", (64, 64), "blue")
    upright.paste("red", (0, 0, 32, 32))
    # How a camera held in each way would have stored the image: the inverse of what the tag asks.
    turns = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    stored = upright.transpose(turns[orientation]) if orientation in turns else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(source / "train" / "OVENBIRD" / "1.jpg", exif=exif, quality=95)
    pixels = pixels_of(prepare("birds", source), "train/OVENBIRD/1.jpg")
    red = pixels[..., 0] > 128
    assert red[2:14, 2:14].all() and not red[18:].any() and not red[:, 18:].any()


def test_the_shorter_side_is_resized_and_the_centre_cropped(tmp_path, prepare):
    image = Image.new("RGB", (240, 80), "red")
    image.paste("green", (80, 0, 160, 80))
    source = make_landscapes(tmp_path / "set")
    image.save(source / "wide.png")
    image.transpose(Image.Transpose.ROTATE_90).save(source / "high.png")
    data = prepare("landscapes", source)
    for name in ("wide.png", "high.png"):
        assert (pixels_of(data, name)[1:-1, 1:-1] == (0, 128, 0)).all()


# Streets


@pytest.mark.parametrize("folders", [("dataA", "dataB"), ("dataA/dataA", "dataB/dataB")])
@pytest.mark.parametrize(("name", "start"), [("02_00_{:03}", 6), ("F61-{}", 4)])
def test_streets_are_read_flat_and_nested_in_either_naming(tmp_path, prepare, folders, name, start):
    data = prepare("streets", make_streets(tmp_path / "set", 20, folders, name), size=(24, 32))
    assert count(data) == 2 * 18 and not data.inventory.bad
    frames = []
    for one in sets(data).values():
        names = [path.split("/")[-1].removesuffix(".png") for path in one.names]
        assert names[::2] == names[1::2]  # both folders' views lie in one set
        frames += [int(name[start:]) for name in names[::2]]
    assert len(set(frames)) == 18 and frames == sorted(frames)  # as people count


@given(st.integers(5, 3000))
def test_blocks_of_frames_do_not_leak(n):
    split = np.array([side or "" for side in streets.split_frames(n)])
    assert len(split) == n and set(SPLITS) <= set(split)
    for first, second in itertools.combinations(SPLITS, 2):
        a, b = (np.flatnonzero(split == side) for side in (first, second))
        assert np.abs(a[:, None] - b[None]).min() > max(1, n // 100)
    assert 1 + np.count_nonzero(split[1:] != split[:-1]) <= 6 * streets.BLOCKS
    if n >= 100:
        shares = [np.mean(split[split != ""] == side) for side in SPLITS]
        assert np.allclose(shares, (0.8, 0.1, 0.1), atol=0.025) and np.mean(split == "") < 0.17


def test_frames_of_a_second_count_once_and_synthetic_ones_are_scenes(tmp_path, prepare):
    source = make_streets(tmp_path / "set", 120, ["dataA", "dataB"], "F61-{}")
    split = streets.split_frames(120)
    test = prepare("streets", source, size=(24, 32)).test
    assert len(test) == 2 * split.count("test") and test.unit == "blocks of frames"
    for name, group in zip(test.names, test.groups, strict=True):
        frame = start = int(name.split("-")[1].removesuffix(".png"))
        while split[start - 1] == "test":
            start -= 1
        assert group == frame - (frame - start) % streets.SECOND
    (source / ".drawn").touch()
    test = prepare("streets", source, size=(24, 32)).test
    assert len(set(test.groups)) == split.count("test") and test.unit == "scenes"


def test_masks_are_read_from_red_and_grey_and_palettes_by_their_colours(tmp_path, prepare):
    source = make_streets(tmp_path / "set")
    grey = Image.fromarray(mask(1))
    palette = Image.fromarray(mask(2))
    palette.putpalette(np.roll(streets.LYFT.palette, 1, 0).tobytes())  # indexes mean nothing
    for i, image in enumerate([mask_image(mask(0)), grey, palette, grey.convert("RGB")]):
        image.save(source / f"dataA/CameraSeg/02_00_{i:03}.png")
    train = prepare("streets", source, size=(48, 64)).train
    for i, labels in enumerate([mask(0), mask(1), (mask(2) + 12) % 13, mask(1)]):
        row = train.names.index(f"dataA/CameraRGB/02_00_{i:03}.png")
        assert (train.targets[row] == labels).all(), i


@pytest.mark.parametrize("size", [(120, 160), (97, 131), (600, 800)])
def test_real_masks_hold_the_labels_of_nearest_resizing(prepare, real_data, size):
    for one in sets(prepare("streets", real_data / "lyft", size=size)).values():
        for name, target in zip(one.names, one.targets, strict=True):
            with Image.open(real_data / "lyft" / name.replace("RGB", "Seg")) as image:
                red = torch.tensor(np.asarray(image)[..., 0])
            exact = F.interpolate(red[None, None], size, mode="nearest-exact")[0, 0]
            assert (torch.tensor(target) == exact).float().mean() > 0.999


def test_the_bonnet_of_real_streets_is_counted_apart(prepare, real_data):
    data = prepare("streets", real_data / "lyft", size=(600, 800))
    bonnet = streets.bonnet_mask(data.train.targets)
    assert bonnet[:, 530:].mean() > 0.98 and not bonnet[:, :490].any()
    shares = data.inventory.shares
    assert "Vehicles: own bonnet 15.2" in str(data.inventory)
    assert shares["Vehicles: own bonnet"] == pytest.approx(0.1526, abs=0.002)
    assert shares["Vehicles"] < 0.03 and sum(shares.values()) == pytest.approx(1)


def test_a_car_ahead_is_no_bonnet():
    ids = np.full((2, 60, 80), 7, dtype=np.uint8)
    ids[:, 52:] = streets.VEHICLES
    ids[:, 20:45, 30:50] = streets.VEHICLES
    assert (streets.bonnet_mask(ids).nonzero()[1] >= 52).all()
    assert streets.bonnet_mask(ids)[:, 52:].all()


# Landscapes


def test_photos_are_found_in_nested_folders_and_grey_ones_left_out(tmp_path, prepare):
    source = make_landscapes(tmp_path / "set", 20)
    (source / "sea").mkdir()
    (source / "photo_00.jpg").rename(source / "sea" / "photo_00.jpg")
    photo(50).convert("L").save(source / "grey.jpg")
    photo(51).convert("L").convert("RGB").save(source / "grey stored as RGB.jpg")
    data = prepare("landscapes", source)
    gone = [entry.file for entry in data.inventory.left_out]
    assert gone == ["grey stored as RGB.jpg", "grey.jpg"] and data.inventory.bad == []
    assert data.inventory.read == {"train": 16, "valid": 2, "test": 2}
    pixels_of(data, "sea/photo_00.jpg")
    images, targets = data.train[[0, 1]]
    assert data.classes == [] and torch.equal(images, targets)  # its own target


def test_near_duplicate_photos_stay_in_one_set(tmp_path, prepare):
    source = make_landscapes(tmp_path / "set", 30)
    for i in range(10):
        photo(100).resize((60 + i, 60)).save(source / f"copy_{i}.jpg", quality=60 + 3 * i)
    data = prepare("landscapes", source)
    assert sum("copy" in "".join(one.names) for one in sets(data).values()) == 1
    assert all(found == [0, ""] for found in data.inventory.near_duplicates.values())


@given(st.integers(3, 400), st.integers(1, 40), st.integers(0, 2**32))
def test_groups_of_photos_never_straddle_the_split(n, groups, seed):
    rng = np.random.default_rng(seed)
    centres = rng.integers(0, 2**64, groups, dtype=np.uint64)
    group = rng.integers(0, groups, n)
    split = split_photos(centres[group])
    assert len(split) == n
    assert all(len(set(split[group == g])) == 1 for g in set(group))
    if len(set(group)) >= 3:
        assert set(split) == set(SPLITS)


@given(st.integers(60, 2000), st.integers(0, 2**32))
def test_photos_split_80_10_10(n, seed):
    split = split_photos(np.random.default_rng(seed).integers(0, 2**64, n, dtype=np.uint64))
    assert np.allclose([np.mean(split == side) for side in SPLITS], (0.8, 0.1, 0.1), atol=0.03)


# All three


def test_an_inventory_says_what_its_words_mean_and_which_class_never_occurs():
    inventory = Inventory({"train": 1}, {}, [], {}, {"None": 1.0, "Walls": 0.0}, [])
    for shown in (str(inventory), inventory._repr_html_()):
        assert "Near-duplicates are pairs of images" in shown
        assert "None is all that has no class of its own" in shown and "there: Walls." in shown


@pytest.mark.parametrize(("copies", "unit"), [(0, "images"), (3, "groups of near-duplicates")])
def test_near_duplicates_count_once_and_across_sets_are_told(tmp_path, prepare, copies, unit):
    source = make_birds(tmp_path / "set", train=4)
    first = Image.open(source / "test" / "OVENBIRD" / "1.jpg")
    for i in range(copies):
        first.resize((70 + i, 52)).save(source / f"test/OVENBIRD/{20 + i}.jpg", quality=60)
    first.resize((80, 60)).save(source / "train" / "OVENBIRD" / "9.jpg", quality=70)
    data = prepare("birds", source)
    number = dict(zip(data.test.names, data.test.groups, strict=True))
    assert len(set(number.values())) == len(data.test) - copies and data.test.unit == unit
    alike = {number[f"test/OVENBIRD/{name}.jpg"] for name in (1, *range(20, 20 + copies))}
    few = data.test.subset(2)
    assert len(alike) == 1 and list(few.groups) == [number[name] for name in few.names]
    example = "train/OVENBIRD/9.jpg ≈ test/OVENBIRD/1.jpg"
    found = data.inventory.near_duplicates
    assert found["train – test"] == [1 + copies, example] and example in str(data.inventory)
    assert found["train – valid"] == found["valid – test"] == [0, ""]


def test_near_pairs_agree_with_the_hash_library(monkeypatch):
    monkeypatch.setattr(similar, "ROWS", 7)
    images = [photo(seed // 2).resize((64 + seed, 64)) for seed in range(20)]
    ours = np.array([similar.phash(image) for image in images], dtype=np.uint64)
    theirs = [imagehash.phash(image.reduce(2)) for image in images]
    expected = set()
    for i in range(20):
        expected |= {(i, j) for j in range(20) if theirs[i] - theirs[j] <= similar.DISTANCE}
    assert {(i, j) for i, j in similar.near_pairs(ours, ours)} == expected
    assert len(expected) > 30  # each with itself, and most of those made alike


@pytest.mark.parametrize("rows", [[2, 3, 4], [7, 0, 5]])
def test_rows_of_larger_arrays_are_a_set_that_gives_whole_batches(rows):
    images = np.random.default_rng(0).integers(0, 256, (10, 4, 6, 3), dtype=np.uint8)
    one = ArrayDataset(images, np.arange(10), list("abcdefghij"), rows)
    assert one.names == ["abcdefghij"[row] for row in rows] and one.targets.tolist() == rows
    assert (one.images == images[rows]).all() and len(one) == 3
    assert (one.images.base is images) == (rows == [2, 3, 4])  # side by side: no copy
    for indices in ([2, 1], np.array([2, 1]), torch.tensor([2, 1]), slice(2, 0, -1)):
        batch, targets = one[indices]
        assert batch.dtype == torch.uint8 and batch.shape == (2, 3, 4, 6)
        assert batch.is_contiguous(memory_format=torch.channels_last)
        assert (batch.permute(0, 2, 3, 1).numpy() == images[[rows[2], rows[1]]]).all()
        assert targets.tolist() == [rows[2], rows[1]]
    image, target = one[-1]
    assert (image.permute(1, 2, 0).numpy() == images[rows[2]]).all() and target == rows[2]
    assert [len(part) for part in one[[]]] == [0, 0]
    with pytest.raises(IndexError):
        one[3]


def test_a_subset_is_always_the_same(tmp_path, prepare):
    train = prepare("birds", make_birds(tmp_path / "set")).train
    small = train.subset(5)
    assert len(set(small.names)) == 5 and small.names == train.subset(5).names
    assert small.names != train.names[:5]
    rows = [train.names.index(name) for name in small.names]
    assert (small.images == train.images[rows]).all()
    assert (small.targets == train.targets[rows]).all()
    assert train.subset(1000) is train.subset(None) is train


@pytest.mark.parametrize(("name", "folder", "counts"), [
    ("birds", "birds", [600, 25, 25]),
    ("streets", "lyft", [4, 1, 1]),
    ("streets", "camvid", [209, 26, 26]),
    ("landscapes", "landscapes", [504, 63, 63]),
])  # fmt: skip
def test_real_samples_are_read_without_a_loss(prepare, real_data, name, folder, counts):
    inventory = prepare(name, real_data / folder).inventory
    assert list(inventory.read.values()) == counts and not inventory.bad
