"""The embedded data sets on disk: in the real layouts, the same to the byte, drawn once."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import helpers.data
from helpers.data import parallel, synthetic

from .making_data import snapshot


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(synthetic, "SPECIES", synthetic.SPECIES[:2])
    monkeypatch.setattr(synthetic, "BIRD_COUNTS", {"train": 3, "valid": 1, "test": 2})
    monkeypatch.setattr(synthetic, "STREET_FRAMES", 5)
    monkeypatch.setattr(synthetic, "LANDSCAPES", 16)


NAMES = ("birds", "streets", "landscapes")


def files(folder: Path) -> dict:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


@pytest.mark.parametrize("name", NAMES)
def test_drawings_are_the_same_to_the_byte_however_many_processes(tmp_path, monkeypatch, name):
    two = files(synthetic.draw(name, tmp_path / "two"))
    monkeypatch.setattr(parallel, "count_cores", lambda: 1)
    assert files(synthetic.draw(name, tmp_path / "one")) == two
    other = files(synthetic.draw(name, tmp_path / "other", seed=1))
    pictures = [path for path in two if path.endswith((".jpg", ".png"))]
    assert len(pictures) > 8 and not any(two[path] == other.get(path) for path in pictures)


@pytest.mark.parametrize("name", NAMES)
def test_drawings_are_reused_until_their_version_or_number_changes(tmp_path, monkeypatch, name):
    folder = synthetic.draw(name, tmp_path)
    first = snapshot(folder)
    synthetic.draw(name, tmp_path)
    assert snapshot(folder) == first
    monkeypatch.setattr(synthetic, "DRAWING_VERSION", -1)
    synthetic.draw(name, tmp_path)
    second = snapshot(folder)
    assert second != first and second.keys() == first.keys()
    monkeypatch.setattr(synthetic, "BIRD_COUNTS", {"train": 4, "valid": 1, "test": 2})
    monkeypatch.setattr(synthetic, "STREET_FRAMES", 6)
    monkeypatch.setattr(synthetic, "LANDSCAPES", 17)
    synthetic.draw(name, tmp_path)
    assert len(snapshot(folder)) > len(second)


def test_drawn_birds_have_the_layout_of_birds(tmp_path):
    folder = synthetic.draw("birds", tmp_path)
    species = [kind.name for kind in synthetic.SPECIES]
    for split, count in synthetic.BIRD_COUNTS.items():
        for name in species:
            assert len(list((folder / split / name).glob("*.jpg"))) == count
    rows = list(csv.DictReader((folder / "birds.csv").read_text(encoding="utf-8").splitlines()))
    assert list(rows[0]) == ["class id", "filepaths", "labels", "data set", "scientific name"]
    assert len(rows) == 12 and all((folder / row["filepaths"]).exists() for row in rows)


def test_drawn_streets_have_the_layout_of_lyft(tmp_path):
    folder = synthetic.draw("streets", tmp_path)
    for side in synthetic.STREET_FOLDERS:
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
    monkeypatch.setattr(synthetic, "SUNRISES", 0.5)
    folder = synthetic.draw("landscapes", tmp_path)
    names = sorted(path.stem for path in folder.glob("*.jpg"))
    assert {name.split("_")[0] for name in names} == {"landscape", "sunrise"} and len(names) == 16
    shapes = {Image.open(path).size for path in folder.glob("*.jpg")}
    assert any(w > h for w, h in shapes) and any(w < h for w, h in shapes)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_code_reads_the_drawings(tmp_path, name):
    data = helpers.data.prepare(name, synthetic=True, root=tmp_path, size=32)
    assert data.synthetic and data.label == f"embedded drawn {name}"
    assert min(len(data.train), len(data.valid), len(data.test)) > 0 and not data.report.bad
    again = helpers.data.prepare_or_draw(name, "synthetic", root=tmp_path, size=32)
    assert (again.test.images == data.test.images).all()
