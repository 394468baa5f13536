"""The synthetic data sets on disk: in the real layouts, always the same, and drawn once."""

import subprocess
import sys

import numpy as np
import pytest
from joblib import Parallel
from PIL import Image

import helpers.data
from helpers.data import DataError, draw_once, synthetic

from ..data.making import snapshot

drawn = synthetic.drawing_code()
SETS = ["birds", "streets", "landscapes"]


@pytest.fixture
def few(monkeypatch):
    """Small sets, drawn in this process, because starting others takes longer."""
    monkeypatch.setattr(drawn, "SPECIES", drawn.SPECIES[:2])
    fewer(monkeypatch, 3)
    monkeypatch.setattr(synthetic, "Parallel", lambda **how: Parallel(**{**how, "n_jobs": 1}))


def fewer(monkeypatch, number):
    monkeypatch.setattr(drawn, "BIRD_COUNTS", {"train": number, "valid": 1, "test": 2})
    monkeypatch.setattr(drawn, "STREET_FRAMES", number + 2)
    monkeypatch.setattr(drawn, "LANDSCAPES", number + 13)


def files(folder):
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


# (mean, standard deviation) of the pixels: bytes may differ where a processor rounds otherwise.
RECORDED = {
    "train/PLAIN REED WARBLER/001.jpg": (95.12, 54.44),
    "train/BLACK-CAPPED LEMON SISKIN/001.jpg": (106.30, 52.94),
    "dataA/CameraRGB/00_000.png": (123.14, 52.64),
    "dataA/CameraSeg/00_000.png": (1.87, 3.39),
    "dataB/CameraRGB/00_000.png": (126.62, 52.04),
    "dataB/CameraSeg/00_000.png": (1.93, 3.48),
    "landscape_0000.jpg": (110.86, 49.30),
    "landscape_0300.jpg": (108.33, 55.25),
}


def test_the_images_are_those_that_were_recorded(tmp_path):
    for name in SETS:
        jobs = drawn.plan(name)
        for job in jobs[:: len(jobs) // 2]:
            drawn.draw_files(name, job, tmp_path)
    assert files(tmp_path).keys() == RECORDED.keys()
    for file, recorded in RECORDED.items():
        pixels = np.asarray(Image.open(tmp_path / file), dtype=float)
        assert (pixels.mean(), pixels.std()) == pytest.approx(recorded, abs=0.02), file


def test_processes_draw_the_same_bytes_and_need_no_main_guard(tmp_path, few):
    one = files(draw_once("birds", tmp_path / "one"))
    script = tmp_path / "script.py"
    script.write_text(
        "from pathlib import Path\nfrom helpers.data import draw_once, synthetic\n"
        "print('begun')\ndrawn = synthetic.drawing_code()\ndrawn.SPECIES = drawn.SPECIES[:2]\n"
        f"drawn.BIRD_COUNTS = {drawn.BIRD_COUNTS}\n"
        f"draw_once('birds', Path({str(tmp_path / 'two')!r}))\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=300)
    assert done.stdout == "begun\n", done.stderr  # once: no worker ran the script
    assert files(tmp_path / "two" / "birds") == one


@pytest.mark.parametrize("name", SETS)
def test_a_set_is_drawn_once_until_its_version_or_number_changes(tmp_path, few, name, monkeypatch):
    folder = draw_once(name, tmp_path)
    first = snapshot(folder)
    content = files(folder)
    draw_once(name, tmp_path)
    assert snapshot(folder) == first
    monkeypatch.setattr(drawn, "VERSION", -1)
    draw_once(name, tmp_path)
    assert snapshot(folder) != first and files(folder).keys() == content.keys()
    fewer(monkeypatch, 4)
    assert len(files(draw_once(name, tmp_path))) > len(content)


def test_a_set_that_fails_leaves_nothing_behind(tmp_path, few, monkeypatch):
    real = drawn.draw_files

    def fail_at_the_last(name, job, folder):
        if "0015" in job[0]:
            raise MemoryError
        real(name, job, folder)

    monkeypatch.setattr(drawn, "draw_files", fail_at_the_last)
    with pytest.raises(MemoryError):
        draw_once("landscapes", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["landscapes.lock"]


def test_without_the_drawing_code_it_is_said_what_to_do(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, synthetic.NAME)
    monkeypatch.setattr(synthetic, "__file__", str(tmp_path / "helpers/data/synthetic.py"))
    with pytest.raises(DataError, match=r"data/drawn is not there.*pip install -e"):
        helpers.data.prepare("birds", "synthetic", root=tmp_path)


@pytest.mark.parametrize("name", SETS)
def test_the_same_code_reads_them(tmp_path, few, name):
    data = helpers.data.prepare(name, "synthetic", root=tmp_path, size=32)
    assert data.synthetic and data.label == f"synthetic {name}"
    assert min(data.inventory.read.values()) > 0 and not data.inventory.bad
    again = helpers.data.prepare_or_draw(name, "synthetic", root=tmp_path, size=32)
    assert (again.test.images == data.test.images).all()


def test_each_student_has_images_of_their_own_and_always_the_same(few, tmp_path):
    made = {}
    for student in ("", "Ada", "Łukasz", "Ada"):
        data = helpers.data.prepare("birds", "synthetic", root=tmp_path, size=32, student=student)
        images = data.train.images
        assert student not in made or np.array_equal(made[student], images)
        made[student] = images
    assert data.label == "synthetic birds for Ada" and data.synthetic
    assert not any(np.array_equal(made[""], made[name]) for name in ("Ada", "Łukasz"))
    assert len(list(tmp_path.glob("synthetic*/birds"))) == 3
