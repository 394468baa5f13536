"""The embedded data sets on disk: in the real layouts, the same to the byte, drawn once."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import helpers.data
from helpers import drawings
from helpers.engine import parallel

from ..data.making import snapshot


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(drawings, "SPECIES", drawings.SPECIES[:2])
    monkeypatch.setattr(drawings, "BIRD_COUNTS", {"train": 3, "valid": 1, "test": 2})
    monkeypatch.setattr(drawings, "STREET_FRAMES", 5)
    monkeypatch.setattr(drawings, "LANDSCAPES", 16)
    monkeypatch.setattr(
        parallel, "count_cores", lambda: 1
    )  # starting processes takes longer than so few pictures


NAMES = ("birds", "streets", "landscapes")


def files(folder: Path) -> dict:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def test_drawings_are_the_same_to_the_byte_however_many_processes(tmp_path):
    ones, plans = {}, [job for name in NAMES for job in drawings.plan_pictures(name, 0)]
    for name in NAMES:
        one = files(drawings.draw(name, tmp_path / "one"))
        other = files(drawings.draw(name, tmp_path / "other", seed=1))
        assert len(one) > 8 and not any(data == other.get(path) for path, data in one.items())
        ones |= one
    del ones[".drawn"]
    work = partial(drawings.draw_many, tmp_path / "two")
    assert list(parallel.mapped(work, plans, heavy=True, cores=2)) == plans
    assert files(tmp_path / "two") == ones


def test_a_drawing_that_fails_leaves_nothing_behind(tmp_path, monkeypatch):
    draw_landscape, count = drawings.draw_landscape, iter(range(100))

    def fail_at_the_last(*how):
        if next(count) == 15:
            raise MemoryError
        return draw_landscape(*how)

    monkeypatch.setattr(drawings, "draw_landscape", fail_at_the_last)
    with pytest.raises(MemoryError):
        drawings.draw("landscapes", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["landscapes.lock"]


@pytest.mark.parametrize("name", NAMES)
def test_drawings_are_reused_until_their_version_or_number_changes(tmp_path, monkeypatch, name):
    folder = drawings.draw(name, tmp_path)
    first = snapshot(folder)
    drawings.draw(name, tmp_path)
    assert snapshot(folder) == first
    monkeypatch.setattr(drawings, "DRAWING_VERSION", -1)
    drawings.draw(name, tmp_path)
    second = snapshot(folder)
    assert second != first and second.keys() == first.keys()
    monkeypatch.setattr(drawings, "BIRD_COUNTS", {"train": 4, "valid": 1, "test": 2})
    monkeypatch.setattr(drawings, "STREET_FRAMES", 6)
    monkeypatch.setattr(drawings, "LANDSCAPES", 17)
    drawings.draw(name, tmp_path)
    assert len(snapshot(folder)) > len(second)


def test_drawn_birds_have_the_layout_of_birds(tmp_path):
    folder = drawings.draw("birds", tmp_path)
    species = [kind.name for kind in drawings.SPECIES]
    for split, count in drawings.BIRD_COUNTS.items():
        for name in species:
            assert len(list((folder / split / name).glob("*.jpg"))) == count
    assert len(files(folder)) == 12 + 1  # and the stamp


def test_drawn_streets_have_the_layout_of_lyft(tmp_path):
    folder = drawings.draw("streets", tmp_path)
    for side in drawings.STREET_FOLDERS:
        names = [
            [path.name for path in sorted((folder / side / kind).iterdir())]
            for kind in ("CameraRGB", "CameraSeg")
        ]
        assert names[0] == names[1] and len(names[0]) == 5
        for path in (folder / side / "CameraSeg").iterdir():
            pixels = np.asarray(Image.open(path))
            assert pixels[..., 0].max() <= 12 and not pixels[..., 1:].any()
    a, b = (np.asarray(Image.open(folder / side / "CameraRGB" / names[0][0])) for side in ("dataA", "dataB"))
    assert (a != b).any()


def test_drawn_landscapes_are_one_flat_folder_with_marked_sunrises(tmp_path, monkeypatch):
    monkeypatch.setattr(drawings, "SUNRISES", 0.5)
    folder = drawings.draw("landscapes", tmp_path)
    names = sorted(path.stem for path in folder.glob("*.jpg"))
    assert {name.split("_")[0] for name in names} == {"landscape", "sunrise"} and len(names) == 16
    shapes = {Image.open(path).size for path in folder.glob("*.jpg")}
    assert any(w > h for w, h in shapes) and any(w < h for w, h in shapes)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_code_reads_the_drawings(tmp_path, name):
    data = helpers.data.prepare(name, "synthetic", root=tmp_path, size=32)
    assert data.synthetic and data.label == f"embedded drawn {name}"
    assert min(len(data.train), len(data.valid), len(data.test)) > 0 and not data.inventory.bad
    again = helpers.data.prepare_or_draw(name, "synthetic", root=tmp_path, size=32)
    assert (again.test.images == data.test.images).all()
