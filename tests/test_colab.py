"""What Google Colab and Kaggle get: notebooks that bring the project along, or clone it."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile

import nbformat

from helpers import ROOT
from helpers.publishing import colab
from helpers.publishing.notebooks import NOTEBOOKS, STUDY
from notebooks import store
from notebooks.store import code_digest
from tests.data.making import make_birds, snapshot

RUN_CELLS = """
import json, sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
for source in json.load(sys.stdin):
    shell.run_cell(source).raise_error()
"""
HIDE = f"""
import sys  # this environment has the project installed, as Colab's has not
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in str(finder).lower()]
sys.path = [place for place in sys.path if place not in ("", {str(ROOT)!r})]
"""


def run_as_in_colab(folder, *cells, **environment):
    """What cells print in a fresh kernel in ``folder``, where nothing is installed."""
    folder.mkdir(exist_ok=True)
    environment |= {"IPYTHONDIR": str(folder / ".ipython"), "PYTHONPATH": ""}
    environment = os.environ | environment
    how = {"cwd": folder, "env": environment, "input": json.dumps([HIDE, *cells]), "text": True}
    done = subprocess.run([sys.executable, "-c", RUN_CELLS], capture_output=True, **how)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def first_code(path):
    return next(cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code")


def test_a_packed_notebook_is_whole_small_always_the_same_and_draws_synthetic_data(tmp_path):
    once, again = (colab.write_for_colab(tmp_path / name) for name in ("once", "again"))
    for path, other, source in zip(once, again, NOTEBOOKS + STUDY, strict=True):
        assert path.read_bytes() == other.read_bytes()
        packed = nbformat.read(path, 4)
        nbformat.validate(packed)
        assert len(first_code(path).source) < 300_000
        packed.cells.remove(first_code(path))
        assert packed.cells == nbformat.read(source, 4).cells
    edited = nbformat.read(once[2], 4)
    edited.cells[-1].source += " MY ANSWERS"
    nbformat.write(edited, once[2])
    before = once[2].read_bytes()
    assert [path.name for path in colab.write_for_colab(tmp_path / "once")] == [
        *[path.name for path in once[:2]],
        "3_colorization.new1.ipynb",
        *[path.name for path in once[3:]],
    ]
    assert once[2].read_bytes() == before
    names = set(zipfile.ZipFile(io.BytesIO(colab.package())).namelist())
    wanted = {path.relative_to(ROOT).as_posix() for path in (ROOT / "helpers").rglob("*.*")}
    assert names >= {name for name in wanted if not name.endswith((".pyc", ".md"))}
    draw = (
        "import helpers; from helpers.data.synthetic import draw_one, drawing_code\n"
        "draw_one('birds', drawing_code().plan('birds')[0], helpers.ROOT)"
    )
    run_as_in_colab(tmp_path / "content", first_code(once[0]).source, draw)
    assert list((tmp_path / "content" / "train").glob("*/*.jpg"))


def test_a_packed_notebook_works_in_kaggle_with_its_data_sets_and_without_network(tmp_path):
    """Twice, as after a restart: what is written goes below the working folder alone."""
    inputs = make_birds(tmp_path / "input" / "100-bird-species" / "birds").parents[1]
    before = snapshot(inputs)
    for path in [inputs, *inputs.rglob("*")]:
        path.chmod(path.stat().st_mode & ~0o222)
    cells = f"""
import sys
sys.modules["papermill"] = None
import numpy as np
from helpers import DATA, REPORTS, ROOT
from helpers.data import prepare
from helpers.photographs import bought
from helpers.presets import preset
from helpers.publishing.report import write_report
from helpers.results import Results, report_folder
assert [str(ROOT)] * 2 == [str(DATA.parent), str(REPORTS.parent)] == ["{tmp_path / "working"}"] * 2
data = prepare("birds", size=32)
results = Results(report_folder("smoke"), "classification", data, preset("smoke"))
results.measure("chance", seeds=0, accuracy=np.full((1, len(data.test)), 0.5))
results.save()
assert len(bought(results.folder)) == 2, "the rows that were measured on photographs"
print(len(data.train), write_report(results.folder, "smoke"))"""
    (path, *_) = colab.write_for_colab(tmp_path / "upload")
    kaggle = {"COURSEWORK_INPUTS": str(inputs), "MPLBACKEND": "agg"}
    kaggle |= {"COURSEWORK_DATA": "", "COURSEWORK_REPORTS": ""}
    kaggle |= dict.fromkeys(["http_proxy", "https_proxy"], "http://127.0.0.1:9")
    for _ in range(2):
        told = run_as_in_colab(tmp_path / "working", first_code(path).source, cells, **kaggle)
        page = tmp_path / "working" / "reports" / "smoke" / "index.html"
        assert told[-1] == f"12 {page}" and (page.parent / "references.bib").exists()
    for path in [inputs, *inputs.rglob("*")]:
        path.chmod(path.stat().st_mode | 0o200)
    assert snapshot(inputs) == before


def test_the_packed_cell_works_again_after_a_restart_and_a_newer_one_wins(tmp_path, monkeypatch):
    (tmp_path / "helpers").mkdir()
    monkeypatch.setattr(colab, "PROJECT", tmp_path)
    told = []
    versions = ["older", "older", "newer", "older"]
    for version in versions:
        (tmp_path / "helpers" / "__init__.py").write_text(f"VERSION = {version!r}")
        (path, *_) = colab.write_for_colab(tmp_path / version)
        ask = "import helpers; print(helpers.VERSION, helpers.__file__)"
        told.append(run_as_in_colab(tmp_path / "content", first_code(path).source, ask)[-1].split())
    assert [version for version, _ in told] == versions and told[0] == told[1] == told[3]


def cloning(path):
    """The lines of a notebook that find the project, or clone it."""
    (cell,) = (cell for cell in nbformat.read(path, 4).cells if "REPOSITORY = " in cell.source)
    return cell.source.partition("from helpers")[0]


def test_the_first_cell_clones_the_project_once_and_works_again_after_a_restart(tmp_path):
    (cell,) = {cloning(path) for path in NOTEBOOKS + STUDY}  # the same in all
    project = tmp_path / "project"
    (project / "helpers").mkdir(parents=True)
    (project / "helpers" / "__init__.py").write_text("HERE = __file__")
    git = ["git", "-c", "user.name=x", "-c", "user.email=x"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"]):
        subprocess.run([*git, *command], cwd=project, check=True)
    cell = re.sub("(?m)^REPOSITORY = .*", f"REPOSITORY = 'file://{project}'", cell)
    for _ in range(2):
        told = run_as_in_colab(tmp_path / "content", cell, "import helpers; print(helpers.HERE)")
        assert told[-1].endswith("content/coursework/helpers/__init__.py")
    assert "already exists" not in " ".join(told)


def test_with_an_address_readme_and_notebooks_link_and_clone_from_there(tmp_path, monkeypatch):
    address = "https://github.com/ada/skips"
    (tmp_path / "pyproject.toml").write_text(f'[project.urls]\nRepository = "{address}"\n')
    readme = tmp_path / "README.md"
    readme.write_text("# A\n<!-- colab -->\n<!-- end of colab -->\nB\n", encoding="utf-8")
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    copies = [tmp_path / path.relative_to(ROOT) for path in NOTEBOOKS + STUDY]
    monkeypatch.setattr(store, "ROOT", tmp_path)
    for module in (store, colab):
        monkeypatch.setattr(module, "NOTEBOOKS", copies[:3])
        monkeypatch.setattr(module, "STUDY", copies[3:])
    before = [code_digest(nbformat.read(path, 4)) for path in copies]
    for _ in range(2):  # the second changes nothing
        store.refer()
    made = readme.read_text(encoding="utf-8")
    assert made.count("colab-badge.svg") == 5 and made.endswith("B\n")
    outs = colab.write_for_colab(tmp_path / "out")
    for path, out, digest in zip(copies, outs, before, strict=True):
        place = path.relative_to(tmp_path).as_posix()
        link = f"https://colab.research.google.com/github/ada/skips/blob/main/{place}"
        notebook = nbformat.read(path, 4)
        assert notebook.cells[0].source.count(link) == 1 and link in made
        line = f'REPOSITORY = "{address}"\n'
        assert line in cloning(path) == cloning(out) and len(nbformat.read(out, 4).cells) == len(
            notebook.cells
        )
        assert code_digest(notebook) == digest, "the stored outputs would count as of other code"
