"""Masks of one's own classes, in ids or in colours, in whatever lossless file."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers import VOID
from helpers.data import DataError, masks, streets

from .making import make_streets, mask, mask_image, photo

CAMVID = """name,red,green,blue
Animal,64,128,64\nArchway,192,0,128\nBicyclist,0,128,192\nBridge,0,128,64\nBuilding,128,0,0
Car,64,0,128\nCartLuggagePram,64,0,192\nChild,192,128,64\nColumn_Pole,192,192,128\nFence,64,64,128
LaneMkgsDriv,128,0,192\nLaneMkgsNonDriv,192,0,64\nMisc_Text,128,128,64\nMotorcycleScooter,192,0,192
OtherMoving,128,64,64\nParkingBlock,64,192,128\nPedestrian,64,64,0\nRoad,128,64,128
RoadShoulder,128,128,192\nSUVPickupTruck,64,128,192\nSidewalk,0,0,192\nSignSymbol,192,128,128
Sky,128,128,128\nTrafficCone,0,0,64\nTrafficLight,0,64,64\nTrain,192,64,128\nTree,128,128,0
Truck_Bus,192,128,192\nTunnel,64,0,64\nVegetationMisc,192,192,0\nVoid,0,0,0\nWall,64,192,0"""
HEADER, *LINES = CAMVID.splitlines()
CAMVID = "\n".join([f"id,{HEADER}", *(f"{i},{line}" for i, line in enumerate(LINES))])
COLOURS = np.array([line.split(",")[1:] for line in LINES], np.uint8)
PAIR = "id,name\n0,ground\n1,car\n"


def blocks(seed, ids):
    """A mask whose squares of 4×4 pixels hold ``ids`` by chance."""
    drawn = np.random.default_rng(seed).choice(np.uint8(ids), (12, 16))
    return drawn.repeat(4, 0).repeat(4, 1)


def made(root, images, table=None):
    """A set of streets with these masks, and with classes.csv if ``table`` is given."""
    make_streets(root, len(images))
    for i, image in enumerate(images):
        image.save(root / f"dataA/CameraSeg/02_00_{i:03}.png")
    if table:
        (root / "classes.csv").write_text(table, encoding="utf-8")
    return root


def targets_of(data):
    """{number of the frame: its mask}."""
    found = {}
    for one in (data.train, data.valid, data.test):
        found |= {int(name[-7:-4]): ids for name, ids in zip(one.names, one.targets, strict=True)}
    return found


def refused(prepare, source, *words):
    with pytest.raises(DataError) as caught:
        prepare("streets", source)
    for word in words:
        assert word in str(caught.value), f"{word!r} is not in: {caught.value}"


def test_camvids_colours_are_read_by_their_table_in_rgb_and_in_palettes_of_any_order(
    tmp_path, prepare
):
    ids = [blocks(seed, range(32)) for seed in range(11)]
    ids.append(np.full((48, 64), 30, np.uint8))  # black all over: Void, though 0 is an id
    images = [Image.fromarray(COLOURS[one]) for one in ids]
    images[1::3] = [image.quantize(32) for image in images[1::3]]
    images[2::3] = [image.convert("RGBA") for image in images[2::3]]
    data = prepare("streets", made(tmp_path / "set", images, CAMVID), size=(48, 64))
    assert len(data.classes) == 31 and data.classes[-1] == "Wall" and "Void" not in data.classes
    numbers = np.uint8([*range(30), VOID, 30])
    found = targets_of(data)
    assert len(found) > 8
    for i, target in found.items():
        np.testing.assert_array_equal(target, numbers[ids[i]])
        shown = np.where((target == VOID)[..., None], 0, data.palette[np.minimum(target, 30)])
        np.testing.assert_array_equal(shown, images[i].convert("RGB"))
    assert {"void: counts nowhere", "Sky"} <= data.inventory.shares.keys()
    assert sum(data.inventory.shares.values()) == pytest.approx(1)


def test_lyfts_own_colours_need_no_table_and_leave_its_classes_and_palette(tmp_path, prepare):
    ids = [mask(seed) for seed in range(10)]
    images = [
        Image.fromarray(streets.LYFT.palette[one]).quantize(5 + i) for i, one in enumerate(ids)
    ]
    for i in range(8):  # their colours are too many for so small a palette: in ids
        ids[i][:4] = VOID
        images[i] = mask_image(ids[i])
    data = prepare("streets", made(tmp_path / "set", images), size=(48, 64))
    assert data.classes == streets.CLASSES and (data.palette[10] == (0, 0, 255)).all()
    assert all((target == ids[i]).all() for i, target in targets_of(data).items())


@pytest.mark.parametrize("mode", ["L", "1", "RGB", "P"])
def test_masks_of_0_and_255_alone_have_two_classes(tmp_path, prepare, mode, capsys):
    ids = [blocks(seed, [0, 255]) for seed in range(10)]
    images = [Image.fromarray(one).convert(mode) for one in ids]
    source = made(tmp_path / "set", images)
    data = prepare("streets", source, size=(48, 64))
    assert data.classes == ["class 0", "class 255"] and data.palette.dtype == np.uint8
    assert all((target == (ids[i] == 255)).all() for i, target in targets_of(data).items())
    file, lines = capsys.readouterr().out.split("write ")[1].rstrip(".\n").split(" with lines ")
    Path(file).write_text(lines.replace(" and ", "\n"))  # as told
    named = prepare("streets", source, size=(48, 64))
    assert named.classes == ["ground", "car"] and (named.palette[1] == 255).all()
    np.testing.assert_array_equal(named.train.targets, data.train.targets)


def test_ids_that_lyft_has_not_are_classes_of_their_own_and_255_is_void(tmp_path, prepare, capsys):
    ids = [blocks(seed, [0, 3, 20, VOID]) for seed in range(10)]
    source = made(tmp_path / "set", [Image.fromarray(one) for one in ids])
    data = prepare("streets", source, size=(48, 64))
    assert data.classes == ["class 0", "class 3", "class 20"]
    assert "the classes are class 0, class 3, class 20. To" in capsys.readouterr().out
    for i, target in targets_of(data).items():
        np.testing.assert_array_equal(np.uint8([0, 3, 20, VOID])[target.clip(max=3)], ids[i])
    named = "id;name;red;green;blue\n3;car;;;\n0;way, paved;0;9;0\n20;Unlabeled;;;\n"
    (source / "dataA/classes.csv").write_text(named, encoding="utf-8-sig")
    data = prepare("streets", source, size=(48, 64))
    assert data.classes == ["car", "way, paved"] and not capsys.readouterr().out
    assert data.palette.tolist()[1] == [0, 9, 0] != data.palette.tolist()[0]
    assert "classes.csv" not in str(data.inventory)
    for i, target in targets_of(data).items():
        np.testing.assert_array_equal(target == VOID, ids[i] >= 20)
        np.testing.assert_array_equal(target == 0, ids[i] == 3)


@pytest.mark.parametrize(("ids", "words"), [
    ([0, 22], ["id 22, but Lyft has 0–12", "CARLA 0.9", "classes.csv"]),  # in RGBA
    (range(0, 250, 2), ["but Lyft has 0–12"]),  # smoothed
    ([4], ["set: the masks show no two classes"]),
    ([4, 255], ["set: the masks show no two classes", "255 is void, unless"]),
])  # fmt: skip
def test_ids_that_may_mean_something_else_are_refused(tmp_path, prepare, ids, words):
    mode = "RGBA" if 22 in ids else "L"
    images = [Image.fromarray(blocks(seed, ids)).convert(mode) for seed in range(10)]
    refused(prepare, made(tmp_path / "set", images), *words)


@pytest.mark.parametrize("count", [2, 3])
def test_ids_that_lyft_has_not_are_errors_where_a_quarter_of_the_masks_or_fewer_hold_them(
    tmp_path, prepare, count
):
    images = [Image.fromarray(blocks(seed, [0, 14 * (seed < count), 7])) for seed in range(10)]
    source = made(tmp_path / "set", images)
    if count == 2:
        refused(prepare, source, "has class id 14, but Lyft has 0–12")
    else:
        assert prepare("streets", source).classes == ["class 0", "class 7", "class 14"]


def with_alpha(image):
    image.putalpha(254)
    return image


def without_palette(ids):
    image = Image.new("P", ids.shape[::-1])
    image.putdata(ids.ravel().tolist())
    return image


GREY = blocks(0, range(13))
RGB = mask_image(GREY)
SAVED = {
    "PNG L": Image.fromarray(GREY),
    "PNG LA": Image.fromarray(GREY).convert("LA"),
    "PNG RGBA": RGB.convert("RGBA"),
    "PNG P": Image.fromarray(GREY).convert("P"),
    "PNG I;16": Image.fromarray(GREY.astype(np.uint16)),
    "TIFF I": Image.fromarray(GREY.astype(np.int32)),
    "TIFF RGB": RGB,
    "BMP RGB": RGB,
    "GIF P": Image.fromarray(GREY),
    "PPM RGB": RGB,
}


@pytest.mark.parametrize("how", SAVED)
def test_every_lossless_file_of_the_same_ids_gives_them(tmp_path, how):
    SAVED[how].save(tmp_path / "mask", how.split()[0])
    table = masks.Table(streets.LYFT.ids, {})
    found = masks.read_mask(tmp_path / "mask", (48, 64), (64, 48), table)
    np.testing.assert_array_equal(found, GREY)


BAD = {
    "JPEG": (RGB, {}, "is a JPEG, whose"),
    "JPEG2000": (RGB, {}, "is a JPEG2000, whose"),
    "WEBP": (RGB, {}, "is a WEBP, whose"),
    "AVIF": (RGB, {}, "is a AVIF, whose"),
    "TIFF": (RGB, {"compression": "jpeg"}, "is a TIFF JPEG, whose"),
    "PNG": (Image.fromarray(GREY + np.uint16(300)), {}, "has mode I;16 with"),
    "PNG transparent": (with_alpha(RGB.copy()), {}, "has mode RGBA with transparent"),
    "TIFF CMYK": (RGB.convert("CMYK"), {}, "has mode CMYK"),
    "PNG palette": (without_palette(GREY), {}, "has one colour for several indexes"),
    "PNG colour": (Image.new("RGB", (64, 48), (1, 2, 3)), {}, r"\(1, 2, 3\) in 3072 pixels, which"),
}


@pytest.mark.parametrize("how", BAD)
def test_files_that_may_have_lost_labels_are_refused_by_name(tmp_path, how):
    image, options, message = BAD[how]
    image.save(tmp_path / "mask.png", how.split()[0], **options)
    with pytest.raises(ValueError, match=message):
        masks.read_mask(tmp_path / "mask.png", (48, 64), (64, 48), streets.LYFT)


@pytest.mark.parametrize(("table", "words"), [
    ("", ["names no two classes"]),
    ("id,name\n", ["names no two classes"]),
    ("id,name\n0,void\n1,Ignore\n255,car\n2,ground", ["names no two classes beside void"]),
    ("name\nground\ncar", ["line 2, must hold an id and a name"]),
    ("id,class\n0,ground", ["line 2, must hold an id and a name"]),
    (PAIR + "1,bus", ["line 4,", "no id, name or colour twice"]),
    (PAIR + "2,car", ["line 4,", "no id, name or colour twice"]),
    ("id,name,red,green,blue\n0,a,1,2,3\n1,b,1,2,3", ["line 3,", "colour twice"]),
    ("id,name,red,green,blue\n0,a,1,2,\n", ["line 2,", "red, green and blue or none"]),
    ("id,name,red,green,blue\n0,a,1,2,256\n", ["line 2,", "from 0 to 255"]),
    (PAIR + "256,bus", ["line 4,", "from 0 to 255"]),
    (PAIR + "-1,bus", ["line 4,", "from 0 to 255"]),
    (PAIR + "x,bus", ["line 4,", "from 0 to 255"]),
    (PAIR + "2,", ["line 4, must hold an id and a name"]),
    (b"id,name\n0,stra\xdfe\n1,auto", ["is not in UTF-8: save it"]),
])  # fmt: skip
def test_a_faulty_table_is_told_in_one_sentence(tmp_path, table, words):
    file = tmp_path / "classes.csv"
    file.write_bytes(table if isinstance(table, bytes) else table.encode())
    with pytest.raises(DataError) as caught:
        masks.read_table(file)
    assert all(word in str(caught.value) for word in [str(file), *words]), caught.value


@pytest.mark.parametrize("text", [
    "ID, Name \n 0 , ground\n1,  car \n,\n\n",
    "\ufeffname;id\r\nground;0\r\ncar;1\r\n;\r\n",
    'note\tid\tname\n"a, b"\t0\tground\n\t1\tcar',
])  # fmt: skip
def test_a_table_is_read_as_office_programs_save_it(tmp_path, text):
    (tmp_path / "classes.csv").write_text(text, encoding="utf-8")
    table = masks.read_table(tmp_path / "classes.csv")
    assert table.ids == {0: "ground", 1: "car"} and table.classes == ["ground", "car"]


def test_classes_without_colours_get_colours_of_their_own():
    table = masks.Table({i: f"class {i}" for i in range(255)}, {})
    assert len({tuple(colour) for colour in table.palette.tolist()}) == 255
    assert masks.Table({0: "a", 255: "void"}, {(1, 2, 3): "a"}).palette.tolist() == [[1, 2, 3]]


def test_clips_below_the_two_folders_are_stretches_of_neighbouring_frames(tmp_path, prepare):
    source = make_streets(tmp_path / "set", 24)
    for side in ("CameraRGB", "CameraSeg"):
        for i in range(24):
            folder = source / f"dataA/{side}" / ("b/2", "b/10")[i // 12]
            folder.mkdir(parents=True, exist_ok=True)
            old = source / f"dataA/{side}/02_00_{i:03}.png"
            old.rename(folder / f"{i % 12:03}.png")  # the same names in both
    data = prepare("streets", source)
    assert not data.inventory.bad and data.inventory.read == {"train": 18, "valid": 2, "test": 2}
    assert data.train.names[:12] == [f"dataA/CameraRGB/b/2/{i:03}.png" for i in range(12)]
    assert data.train.names[12:] == [f"dataA/CameraRGB/b/10/{i:03}.png" for i in range(6)]
    assert data.train.groups.tolist() == [0] * 10 + [10] * 2 + [12] * 6  # none in two clips


@pytest.mark.parametrize("count", [1, 10])
def test_masks_that_are_no_images_are_told_with_what_is_read(tmp_path, prepare, count):
    source = make_streets(tmp_path / "set", 10)
    for i in range(count):
        path = source / f"dataA/CameraSeg/02_00_{i:03}.png"
        path.unlink()
        np.save(path.with_suffix(".npy"), mask(i))
    words = ["has images only", "as PNG", "000.npy is a .npy file, which is not read"]
    if count == 1:
        words = ["CameraRGB/02_00_000.png has no image in CameraSeg of the same name, such as a"]
    refused(prepare, source, *words)


def test_a_mask_of_another_size_than_its_image_is_refused(tmp_path):
    photo(0).save(tmp_path / "mask.png")
    with pytest.raises(ValueError, match="is 64×48 but its image is 48×64: export both"):
        masks.read_mask(tmp_path / "mask.png", (48, 64), (48, 64), streets.LYFT)
