"""The three layouts, whole ones, as they come out of prepare()."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import helpers.data
from helpers.data import ArrayDataset, DataError, Inventory, similar, streets
from helpers.data.landscapes import split_photos

from .making import make_birds, make_landscapes, make_streets, mask, mask_image, photo, snapshot

SPLITS = ("train", "valid", "test")


# Birds


def test_birds_keep_the_splits_and_labels_of_their_folders(tmp_path, prepare):
    source = make_birds(tmp_path / "set", ("OVENBIRD", "D-ARNAUDS BARBET", "HOUSE FINCH"))
    data = prepare("birds", source)
    assert data.classes == ["D-ARNAUDS BARBET", "HOUSE FINCH", "OVENBIRD"]
    assert [len(data.train), len(data.valid), len(data.test)] == [18, 6, 6]
    for split in SPLITS:
        part = getattr(data, split)
        for name, target, pixels in zip(part.names, part.targets, part.images, strict=True):
            folder, species, _ = name.split("/")
            assert (folder, species) == (split, data.classes[target])
            with Image.open(source / name) as image:
                expected = np.asarray(image.crop((8, 0, 56, 48)).resize((32, 32), Image.Resampling.BILINEAR))
            assert np.abs(pixels.astype(int) - expected).mean() < 3


def test_spellings_of_a_species_agree_across_splits(tmp_path, prepare):
    source = make_birds(
        tmp_path / "set", ("PARAKETT AUKLET", "BLACK & YELLOW  BROADBILL", "COCK OF THE  ROCK")
    )
    (source / "valid" / "PARAKETT AUKLET").rename(source / "valid" / "PARAKETT  AUKLET")
    (source / "test" / "PARAKETT AUKLET").rename(source / "test" / "PARAKETT  AKULET")
    (source / "test" / "COCK OF THE  ROCK").rename(source / "test" / "Cock of the rock ")
    data = prepare("birds", source)
    assert data.classes == ["BLACK & YELLOW BROADBILL", "COCK OF THE ROCK", "PARAKETT AUKLET"]
    assert len(data.train) == 18 and not data.inventory.left_out


def test_loony_birds_are_left_out_and_the_csv_is_not_read(tmp_path, prepare):
    source = make_birds(tmp_path / "set", ("OVENBIRD", "LOONEY BIRDS", "RUFOUS TREPE"))
    (source / "birds.csv").write_bytes(b"class id,filepaths\n7.0,\xff\xfe nonsense")
    data = prepare("birds", source)
    assert data.classes == ["OVENBIRD", "RUFOUS TREPE"]
    assert {entry.reason for entry in data.inventory.left_out} == {"is not a bird"}


def test_classes_takes_the_first_names(tmp_path, prepare):
    source = make_birds(tmp_path / "set", ("C", "A", "B"))
    data = prepare("birds", source, classes=2)
    assert data.classes == ["A", "B"] and len(data.train) == 12 and set(data.test.targets) == {0, 1}
    with pytest.raises(DataError, match="has 3 species: classes=4"):
        prepare("birds", source, classes=4)


SOLID = {
    "RGB": lambda rgb: Image.new("RGB", (60, 40), rgb),
    "grey": lambda rgb: Image.new("L", (60, 40), rgb[0]),
    "grey with alpha": lambda rgb: Image.new("LA", (60, 40), (rgb[0], 255)),
    "palette": lambda rgb: Image.new("RGB", (60, 40), rgb).quantize(8),
    "CMYK": lambda rgb: Image.new("RGB", (60, 40), rgb).convert("CMYK"),
    "RGBA": lambda rgb: Image.new("RGBA", (60, 40), (*rgb, 255)),
    "16-bit": lambda rgb: Image.fromarray(np.full((40, 60), rgb[0] * 257, dtype=np.uint16)),
}


@pytest.mark.parametrize("mode", SOLID)
def test_every_kind_of_image_becomes_rgb(tmp_path, prepare, mode):
    source = make_birds(tmp_path / "set")
    colour = (180, 180, 180) if "grey" in mode or "16" in mode else (200, 120, 40)
    SOLID[mode](colour).save(source / "train" / "OVENBIRD" / "1.tif")
    data = prepare("birds", source)
    pixels = data.train.images[data.train.names.index("train/OVENBIRD/1.tif")]
    assert np.abs(pixels.astype(int) - colour).max() <= 3


def test_transparency_is_laid_on_white(tmp_path, prepare):
    source = make_birds(tmp_path / "set")
    Image.new("RGBA", (40, 40), (0, 0, 0, 0)).save(source / "train" / "OVENBIRD" / "1.png")
    data = prepare("birds", source)
    assert (data.train.images[data.train.names.index("train/OVENBIRD/1.png")] == 255).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, prepare, orientation):
    source = make_birds(tmp_path / "set")
    upright = Image.new("RGB", (64, 64), "blue")
    upright.paste("red", (0, 0, 32, 32))
    # how a camera held in each way would have stored the picture: the inverse of what the tag asks for
    turn = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}.get(orientation)
    stored = upright if turn is None else upright.transpose(Image.Transpose(turn))
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(source / "train" / "OVENBIRD" / "1.jpg", exif=exif, quality=95)
    data = prepare("birds", source)
    pixels = data.train.images[data.train.names.index("train/OVENBIRD/1.jpg")].astype(int)
    reds = pixels[..., 0] > 128
    assert reds[2:14, 2:14].all() and not reds[18:].any() and not reds[:, 18:].any()


def test_shorter_side_is_resized_and_the_centre_cropped(tmp_path, prepare):
    for width, height in ((240, 80), (80, 240)):
        image = Image.new("RGB", (width, height), "red")
        image.paste("green", ((width - 80) // 2, (height - 80) // 2, (width + 80) // 2, (height + 80) // 2))
        source = make_landscapes(tmp_path / f"set{width}")
        image.save(source / "wide.png")
        data = prepare("landscapes", source)
        everything = {name: pixels for part in (data.train, data.valid, data.test)
                      for name, pixels in zip(part.names, part.images, strict=True)}  # fmt: skip
        assert (everything["wide.png"][1:-1, 1:-1] == (0, 128, 0)).all()


# Streets


@pytest.mark.parametrize("layout", ["{}", "{0}/{0}"])
@pytest.mark.parametrize("name", ["02_00_{:03}", "F61-{}"])
def test_streets_are_read_flat_and_nested_in_either_naming(tmp_path, prepare, layout, name):
    source = make_streets(
        tmp_path / "set", 20, [layout.format(folder) for folder in ("dataA", "dataB")], name
    )
    data = prepare("streets", source, size=(24, 32))
    assert len(data.train) + len(data.valid) + len(data.test) == 2 * 18 and not data.inventory.bad
    sides = {}
    for split in SPLITS:
        for path in getattr(data, split).names:
            sides.setdefault(path.split("/")[-1], set()).add(split)
    assert len(sides) == 18 and all(len(side) == 1 for side in sides.values())


def test_frames_are_ordered_as_people_count(tmp_path, prepare):
    data = prepare("streets", make_streets(tmp_path / "set", 30, name="F61-{}"), size=(24, 32))
    numbers = [
        int(path.split("-")[1][:-4]) for part in (data.train, data.valid, data.test) for path in part.names
    ]
    assert numbers == sorted(numbers)


@given(st.integers(5, 3000))
def test_blocks_of_frames_do_not_leak(n):
    split = np.array([side or "" for side in streets.split_frames(n)])
    assert len(split) == n and {"train", "valid", "test"} <= set(split)
    gap = max(1, n // 100)
    for first, second in (("train", "valid"), ("train", "test"), ("valid", "test")):
        a, b = np.flatnonzero(split == first), np.flatnonzero(split == second)
        assert np.abs(a[:, None] - b[None]).min() > gap
    blocks = 1 + np.count_nonzero(split[1:] != split[:-1])
    assert blocks <= 6 * streets.BLOCKS
    if n >= 100:
        shares = [np.mean(split[split != ""] == side) for side in SPLITS]
        assert np.allclose(shares, (0.8, 0.1, 0.1), atol=0.025) and np.mean(split == "") < 0.17


def test_frames_of_a_second_count_once_and_drawn_ones_are_scenes(tmp_path, prepare):
    source = make_streets(tmp_path / "set", 120, ["dataA", "dataB"], "F61-{}")
    test = prepare("streets", source, size=(24, 32)).test
    group, split = {}, streets.split_frames(120)
    for name, number in zip(test.names, test.groups, strict=True):
        group.setdefault(int(name.split("-")[1][:-4]), set()).add(number)
    assert len(test) == 2 * len(group) and test.unit == "blocks of frames"
    stretches = np.split(sorted(group), np.flatnonzero(np.diff(sorted(group)) > 1) + 1)
    assert len(stretches) == streets.BLOCKS and all(split[i] == "test" for i in group)
    seen = set()
    for stretch in stretches:
        for second in np.array_split(stretch, range(streets.SECOND, len(stretch), streets.SECOND)):
            (number,) = set.union(
                *(group[int(i)] for i in second)
            )  # of both folders' views of all its frames
            assert number not in seen and not seen.add(number)
    (source / ".drawn").touch()
    test = prepare("streets", source, size=(24, 32)).test
    assert len(set(test.groups)) == len(group) and test.unit == "scenes"


def test_too_few_frames_are_refused(tmp_path, prepare):
    with pytest.raises(DataError, match=r"4 usable frames are too few.*at least 5"):
        prepare("streets", make_streets(tmp_path / "set", 4))


@pytest.mark.parametrize("mode", ["red", "grey", "grey as RGB", "palette"])
def test_masks_are_read_from_red_grey_and_palette_indexes(tmp_path, prepare, mode):
    source = make_streets(tmp_path / "set")
    ids = mask(0)
    image = {"red": mask_image(ids), "grey as RGB": Image.fromarray(ids).convert("RGB")}.get(
        mode, Image.fromarray(ids)
    )
    if mode == "palette":
        image = Image.fromarray(ids)
        image.putpalette(np.roll(streets.PALETTE, 1, 0).tobytes())
        assert image.mode == "P"
    image.save(source / "dataA" / "CameraSeg" / "02_00_000.png")
    data = prepare("streets", source, size=(48, 64))
    assert (data.train.targets[data.train.names.index("dataA/CameraRGB/02_00_000.png")] == ids).all()


@pytest.mark.parametrize("size", [(120, 160), (97, 131), (600, 800)])
def test_masks_of_real_streets_hold_exactly_the_labels_of_nearest_resizing(prepare, real_data, size):
    data = prepare("streets", real_data / "lyft", size=size)
    for part in (data.train, data.valid, data.test):
        for name, target in zip(part.names, part.targets, strict=True):
            with Image.open(real_data / "lyft" / name.replace("CameraRGB", "CameraSeg")) as image:
                red = np.asarray(image)[..., 0]
            nearest = Image.fromarray(red).resize(size[::-1], Image.Resampling.NEAREST)
            assert (target == np.asarray(nearest)).all()
            oracle = torch.nn.functional.interpolate(
                torch.tensor(red)[None, None], size, mode="nearest-exact"
            )
            assert (target == oracle[0, 0].numpy()).mean() > 0.999


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
    ids[:, 52:] = ids[:, 20:45, 30:50] = streets.VEHICLES
    expected = np.zeros_like(ids, dtype=bool)
    expected[:, 52:] = True
    assert (streets.bonnet_mask(ids) == expected).all()


# Landscapes


def test_grey_photos_are_left_out_and_counted(tmp_path, prepare):
    source = make_landscapes(tmp_path / "set")
    photo(50).convert("L").save(source / "grey.jpg")
    photo(51).convert("L").convert("RGB").save(source / "grey stored as RGB.jpg")
    data = prepare("landscapes", source)
    assert len(data.train) + len(data.valid) + len(data.test) == 12
    assert [entry.file for entry in data.inventory.left_out] == ["grey stored as RGB.jpg", "grey.jpg"]
    assert data.inventory.bad == []


def test_photos_are_found_in_nested_folders_and_split_by_the_seed(tmp_path, prepare):
    source = make_landscapes(tmp_path / "set", 20)
    (source / "sea").mkdir()
    (source / "photo_00.jpg").rename(source / "sea" / "photo_00.jpg")
    data = prepare("landscapes", source)
    assert [len(data.train), len(data.valid), len(data.test)] == [16, 2, 2]
    assert "sea/photo_00.jpg" in data.train.names + data.valid.names + data.test.names
    again = helpers.data.prepare("landscapes", source, root=tmp_path / "elsewhere", size=32)
    assert again.test.names == data.test.names


def test_near_duplicate_photos_stay_on_one_side(tmp_path, prepare):
    source = make_landscapes(tmp_path / "set", 30)
    for i in range(10):
        photo(100).resize((60 + i, 60)).save(source / f"copy_{i}.jpg", quality=60 + 3 * i)
    data = prepare("landscapes", source)
    sides = {split for split in SPLITS for name in getattr(data, split).names if name.startswith("copy")}
    assert len(sides) == 1
    assert sum(data.inventory.near_duplicates.values()) == 0


@given(st.integers(3, 400), st.integers(1, 40), st.integers(0, 2**32))
def test_groups_of_photos_never_straddle_the_split(n, groups, seed):
    rng = np.random.default_rng(seed)
    centres = rng.integers(0, 2**64, groups, dtype=np.uint64)
    group = rng.integers(0, groups, n)
    split = split_photos(centres[group])
    assert len(split) == n
    for g in set(group):
        assert len(set(split[group == g])) == 1
    if len(set(group)) >= 3:
        assert set(split) == set(SPLITS)


@given(st.integers(60, 2000), st.integers(0, 2**32))
def test_photos_split_80_10_10(n, seed):
    split = split_photos(np.random.default_rng(seed).integers(0, 2**64, n, dtype=np.uint64))
    assert np.allclose([np.mean(split == side) for side in SPLITS], (0.8, 0.1, 0.1), atol=0.03)


# All three


def test_an_inventory_says_what_its_words_mean_and_which_class_never_occurs():
    inventory = Inventory(
        {"train": 1}, {}, [], {"train – test": 0}, {"train – test": ""}, {"None": 1.0, "Walls": 0.0}
    )
    for shown in (str(inventory), inventory._repr_html_()):
        assert "Near-duplicates: pairs of pictures in two parts that look alike" in shown
        assert "None is all that has no class of its own" in shown and "Never there: Walls." in shown
    assert "None is" not in str(replace(inventory, shares={}))


def test_near_duplicates_across_splits_are_counted(tmp_path, prepare):
    source = make_birds(tmp_path / "set")
    copy = Image.open(source / "train" / "OVENBIRD" / "1.jpg").resize((70, 52))
    copy.save(source / "test" / "OVENBIRD" / "9.jpg", quality=60)
    inventory = prepare("birds", source).inventory
    assert inventory.near_duplicates == {"train – valid": 0, "train – test": 1, "valid – test": 0}
    assert "train/OVENBIRD/1.jpg ≈ test/OVENBIRD/9.jpg" in str(inventory)


@pytest.mark.parametrize("copies", [0, 3])
def test_near_duplicates_within_a_test_part_count_once(tmp_path, prepare, copies):
    source = make_birds(tmp_path / "set", train=4)
    first = source / "test" / "OVENBIRD" / "1.jpg"
    for i in range(copies):
        Image.open(first).resize((70 + i, 52)).save(first.with_name(f"{20 + i}.jpg"), quality=60)
    test = prepare("birds", source).test
    number = dict(zip(test.names, test.groups, strict=True))
    assert len(set(number.values())) == len(test) - copies
    alike = {number[f"test/OVENBIRD/{name}.jpg"] for name in (1, *range(20, 20 + copies))}
    assert len(alike) == 1 and test.unit == ("groups of near-duplicates" if copies else "pictures")
    assert (test.subset(2).groups == test.groups[[test.names.index(n) for n in test.subset(2).names]]).all()


def test_near_pairs_agree_with_the_hash_library():
    import imagehash

    images = [photo(seed // 2).resize((64 + seed, 64)) for seed in range(20)]
    ours = np.array([similar.phash(image) for image in images], dtype=np.uint64)
    theirs = [imagehash.phash(image.reduce(2)) for image in images]
    expected = {(i, j) for i in range(20) for j in range(20) if theirs[i] - theirs[j] <= similar.DISTANCE}
    found = {*zip(*similar.near_pairs(ours, ours, rows=7).tolist(), strict=True)}
    assert found == expected
    assert len(expected) > 30  # each with itself, and most of those made alike


def test_indices_become_a_whole_batch(tmp_path, prepare):
    train = prepare("streets", make_streets(tmp_path / "set", 40), size=(24, 32)).train
    for indices in ([3, 1], np.array([3, 1]), torch.tensor([3, 1]), slice(3, 0, -2)):
        images, targets = train[indices]
        assert images.dtype == targets.dtype == torch.uint8
        assert images.shape == (2, 3, 24, 32) and targets.shape == (2, 24, 32)
        assert images.is_contiguous(memory_format=torch.channels_last)
        assert (images.permute(0, 2, 3, 1).numpy() == train.images[[3, 1]]).all()
        assert (targets.numpy() == train.targets[[3, 1]]).all()
    image, target = train[-1]
    assert (image.permute(1, 2, 0).numpy() == train.images[-1]).all() and target.shape == (24, 32)
    assert [len(part) for part in train[[]]] == [0, 0]
    with pytest.raises(IndexError):
        train[len(train)]


def test_rows_make_a_split_of_arrays_that_hold_more():
    images = np.random.default_rng(0).integers(0, 256, (10, 4, 6, 3), dtype=np.uint8)
    whole = ArrayDataset(images, np.arange(10), list("abcdefghij"))
    assert len(whole) == 10 and whole.images.base is images
    for rows in ([2, 3, 4], [7, 0, 5]):
        part = ArrayDataset(images, np.arange(10), list("abcdefghij"), rows)
        assert part.names == ["abcdefghij"[row] for row in rows] and part.targets.tolist() == rows
        assert (part.images == images[rows]).all() and len(part) == 3
        assert (part.images.base is images) == (rows == [2, 3, 4])  # side by side: no copy
        batch, targets = part[[2, 0]]
        assert (batch.permute(0, 2, 3, 1).numpy() == images[[rows[2], rows[0]]]).all()
        assert targets.tolist() == [rows[2], rows[0]]


def test_a_subset_is_drawn_always_the_same(tmp_path, prepare):
    train = prepare("birds", make_birds(tmp_path / "set")).train
    small = train.subset(5)
    assert len(small) == 5 == len(set(small.names)) and small.names == train.subset(5).names
    assert small.names != train.names[:5]
    for name, pixels, target in zip(small.names, small.images, small.targets, strict=True):
        i = train.names.index(name)
        assert (train.images[i] == pixels).all() and train.targets[i] == target
    assert train.subset(1000) is train.subset(None) is train
    assert small.subset(3).names == [
        small.names[i] for i in np.sort(np.random.default_rng(0).permutation(5)[:3])
    ]


def test_landscapes_are_their_own_target(tmp_path, prepare):
    data = prepare("landscapes", make_landscapes(tmp_path / "set"))
    images, targets = data.train[[0, 1]]
    assert data.classes == [] and data.train.targets is None and torch.equal(images, targets)


def test_pictures_are_mapped_not_read_into_memory(tmp_path, prepare):
    for name, make in (("birds", make_birds), ("streets", make_streets)):
        data = prepare(name, make(tmp_path / name))
        assert isinstance(data.train.images, np.memmap) and isinstance(data.test.images, np.memmap)
    assert isinstance(data.train.targets, np.memmap)


@pytest.mark.parametrize(
    ("name", "folder", "counts"),
    [
        ("birds", "birds", [600, 25, 25]),
        ("streets", "lyft", [4, 1, 1]),
        ("streets", "camvid", [209, 26, 26]),
        ("landscapes", "landscapes", [504, 63, 63]),
    ],
)
def test_real_samples_are_read_without_a_loss(prepare, real_data, name, folder, counts):
    before = snapshot(real_data / folder)
    data = prepare(name, real_data / folder)
    assert [len(data.train), len(data.valid), len(data.test)] == counts
    assert not data.inventory.bad and snapshot(real_data / folder) == before


def test_what_was_copied_into_data_is_found(tmp_path, prepare):
    shutil.move(make_birds(tmp_path / "set"), tmp_path / "data" / "birds" / "100-bird-species")
    assert len(prepare("birds").train) == 12
