"""The notebooks that Google Colab gets: they bring the project along, or clone it, and keep runs on Drive."""

import base64
import io
import os
import re
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import nbformat
import pytest

from helpers.engine import drive
from helpers.presets import preset
from helpers.publishing import colab
from helpers.publishing.notebooks import NOTEBOOKS
from helpers.tasks import Classification, build
from helpers.training import fit
from notebooks import store
from notebooks.store import code_digest
from tests.conftest import tiny_data
from tests.test_notebooks import FIRST_CELL, ROOT


def first_code(path):
    return next(cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code")


def test_a_packed_notebook_is_whole_small_and_the_same_every_time(tmp_path):
    once, again = (colab.write_for_colab(tmp_path / name) for name in ("once", "again"))
    for path, other, source in zip(once, again, NOTEBOOKS, strict=True):
        assert path.read_bytes() == other.read_bytes()
        packed, original = nbformat.read(path, 4), nbformat.read(source, 4)
        nbformat.validate(packed)
        cells = [k for k, cell in enumerate(packed.cells) if cell != original.cells[k]]
        assert len(cells) == 1 and packed.cells[cells[0]] == first_code(path), (
            "more than the first cell changed"
        )
        assert len(first_code(path).source) < 300_000
    content = base64.b64decode(re.search('"([^"]{9999,})"', first_code(once[0]).source)[1])
    names = set(zipfile.ZipFile(io.BytesIO(content)).namelist())
    tracked = subprocess.run(["git", "ls-files", "helpers"], cwd=ROOT, capture_output=True, text=True).stdout
    assert names >= {*tracked.split()} - {*filter(lambda name: "__pycache__" in name, names)}
    assert all(name.startswith("helpers/") for name in names)


def run_as_in_colab(folder, *cells):
    """The last line that cells print in a fresh kernel in ``folder``, where the project isn't installed."""
    hide = "import sys; sys.meta_path = [f for f in sys.meta_path if 'editable' not in str(f).lower()]"
    hide += f"; sys.path = [p for p in sys.path if p not in ('', {str(ROOT)!r})]"
    environment = {**os.environ, "IPYTHONDIR": str(folder / ".ipython"), "PYTHONPATH": ""}
    command = [sys.executable, "-c", FIRST_CELL, hide, *cells]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def test_the_packed_cell_works_again_after_a_restart_and_a_newer_one_wins(tmp_path, monkeypatch):
    (tmp_path / "helpers").mkdir()
    (tmp_path / "content").mkdir()
    monkeypatch.setattr(colab, "HELPERS", tmp_path / "helpers")
    told = []
    for version in ("older", "older", "newer", "older"):
        (tmp_path / "helpers" / "__init__.py").write_text(f"VERSION = {version!r}")
        (path, *_) = colab.write_for_colab(tmp_path / version)
        ask = "import helpers; print(helpers.VERSION, helpers.__file__)"
        told.append(run_as_in_colab(tmp_path / "content", first_code(path).source, ask).split())
    assert [version for version, _ in told] == ["older", "older", "newer", "older"]
    assert told[0] == told[1] == told[3] and len(list((tmp_path / "content").glob("coursework-*"))) == 2


def test_with_an_address_readme_and_notebooks_get_badges_and_clone_from_there(tmp_path, monkeypatch):
    address = "https://github.com/ada/skips"
    (tmp_path / "pyproject.toml").write_text(f'[project.urls]\nRepository = "{address}"\n')
    (tmp_path / "README.md").write_text("# A\n<!-- colab -->\n<!-- end of colab -->\nB\n", encoding="utf-8")
    copies = [tmp_path / "notebooks" / path.name for path in NOTEBOOKS]
    (tmp_path / "notebooks").mkdir()
    for copy, source in zip(copies, NOTEBOOKS, strict=True):
        copy.write_bytes(source.read_bytes())
    monkeypatch.setattr(store, "ROOT", tmp_path)
    for module in (store, colab):
        monkeypatch.setattr(module, "NOTEBOOKS", copies)
    before = [code_digest(nbformat.read(path, 4)) for path in copies]
    made = [store.refer() or (tmp_path / "README.md").read_text(encoding="utf-8") for _ in range(2)]
    colab.write_for_colab(tmp_path / "out")
    assert made[0] == made[1] and made[0].count("colab-badge.svg") == 3 and made[0].endswith("B\n")
    for path, out, digest in zip(copies, sorted((tmp_path / "out").iterdir()), before, strict=True):
        notebook = nbformat.read(path, 4)
        opens = f"https://colab.research.google.com/github/ada/skips/blob/main/notebooks/{path.name}"
        assert notebook.cells[0].source.count(opens) == 1 and opens in made[0]
        assert f'REPOSITORY = "{address}"\n' in first_code(path).source == first_code(out).source
        assert code_digest(notebook) == digest, "the stored outputs would count as those of other code"


@pytest.fixture
def google(tmp_path, monkeypatch):
    """A stand-in of ``google.colab``: mounting makes the folder that Drive has."""
    mounted = []
    package = ModuleType("google.colab")
    package.drive = SimpleNamespace(
        mount=lambda place: (mounted.append(place), Path(place, "MyDrive").mkdir(parents=True))
    )
    monkeypatch.setitem(sys.modules, "google", ModuleType("google"))
    monkeypatch.setitem(sys.modules, "google.colab", package)
    monkeypatch.setattr(drive, "PLACE", str(tmp_path / "drive"))
    monkeypatch.setenv(drive.MIRROR, "")  # so that it is put back
    return mounted


def test_with_drive_every_run_is_mirrored_and_a_fresh_machine_goes_on(tmp_path, google):
    data = tiny_data("birds")
    task = Classification(data, replace(preset("smoke").classification, width=1, epochs=1, limit=16))

    def rows(machine, **how):
        return list(fit(build(task, "resnet18"), task, data, folder=machine and tmp_path / machine, **how))

    drive.keep_on_drive(True)
    first, said = rows("first"), []
    assert google == [str(tmp_path / "drive")] and list(
        (tmp_path / "drive/MyDrive/coursework").glob("ResNet*/last-*")
    )
    assert rows("second", log=said.append) == first and "were finished before" in said[0]
    assert len(rows(None)) == len(first), "a run that keeps nothing has nothing to mirror"
    drive.keep_on_drive(False)
    rows("third", log=said.append)
    assert sum("epoch " in line for line in said) == len(first), "mirrored although it was switched off"


def test_drive_outside_colab_is_refused_in_a_sentence():
    with pytest.raises(RuntimeError, match="works in Google Colab alone: set DRIVE = False"):
        drive.keep_on_drive(True)
