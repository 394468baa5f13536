"""The installing files agree with each other, the committed notebooks with their outputs."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
from importlib.metadata import version
from itertools import chain

import nbformat
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from helpers import ROOT
from helpers.publishing.notebooks import NOTEBOOKS, STUDY
from notebooks.store import code_digest

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def requirements(lines):
    return [Requirement(line) for line in lines if not line.startswith("#")]


PLAIN = requirements(PROJECT["dependencies"])
OPTIONAL = {name: requirements(lines) for name, lines in PROJECT["optional-dependencies"].items()}
COLAB = requirements((ROOT / "tests/colab/requirements.txt").read_text().splitlines())
LINES = (ROOT / "constraints.txt").read_text().splitlines()
PINS = dict(line.split("==") for line in LINES if not line.startswith("#"))


def test_every_requirement_is_pinned_to_a_version_it_admits():
    for requirement in chain(PLAIN, *OPTIONAL.values()):
        pin = PINS[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(pin), f"{requirement} does not admit {pin}"
    for name, pin in PINS.items():
        assert name == canonicalize_name(name) and re.fullmatch(r"[0-9][0-9a-z.+]*", pin)


@pytest.mark.skipif(not os.environ.get("CI"), reason="elsewhere, other versions are welcome")
def test_the_tests_run_on_the_pinned_set():
    for requirement in [*PLAIN, *OPTIONAL["lab"], *OPTIONAL["test"]]:
        found = version(requirement.name).split("+")[0]
        assert found == PINS[canonicalize_name(requirement.name)], requirement.name


def test_requirements_admit_what_colab_ships_and_need_nothing_else():
    plain = {requirement.name: requirement.specifier for requirement in PLAIN}
    for there in COLAB:
        pinned = str(there.specifier).removeprefix("==")
        if pinned and there.name in plain:
            assert plain[there.name].contains(pinned), f"{there} would be installed again"
    assert plain.keys() - {there.name for there in COLAB} == {"papermill"}  # for the command line


def test_conda_gives_python_alone_and_the_rest_comes_from_the_other_two_files():
    text = (ROOT / "environment.yml").read_text(encoding="utf-8")
    items = re.findall(r"^ +- (.+?)$", text, re.MULTILINE)
    python = f"python{PROJECT['requires-python']}"
    assert items == ["conda-forge", python, "pip", "pip:", "-c constraints.txt", "-e .[lab,test]"]


def test_a_torch_that_is_there_already_is_not_replaced(tmp_path):
    """A stand-in for PyTorch's CPU build: two packages that hold nothing but their versions."""
    for name in ("Makefile", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    venv.create(tmp_path / ".venv", with_pip=True)
    bin = tmp_path / ".venv/bin"
    subprocess.run(["make", "--quiet", ".venv/constraints.txt"], cwd=tmp_path, check=True)
    assert (tmp_path / ".venv/constraints.txt").read_text().splitlines() == LINES
    (site,) = (tmp_path / ".venv/lib").glob("*/site-packages")
    for name, there in {"torch": "2.10.0+cpu", "torchvision": "0.25.0+cpu"}.items():
        folder = site / f"{name}-{there}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {there}\n")
    subprocess.run(["make", "--quiet", ".venv/constraints.txt"], cwd=tmp_path, check=True)
    wanted = [str(requirement) for requirement in PLAIN if requirement.name.startswith("torch")]
    pip = [bin / "python", "-m", "pip", "install", "--no-index", "-c", ".venv/constraints.txt"]
    done = subprocess.run([*pip, *wanted], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("already satisfied") == len(wanted) == 2


@pytest.mark.maintain
def test_every_imported_package_is_a_requirement():
    modules = {"PIL": "pillow", "skimage": "scikit-image", "sklearn": "scikit-learn"}
    modules["jupyter_client"] = "ipykernel"
    modules |= {"IPython": "ipykernel", "nbformat": "nbconvert", "jinja2": "nbconvert"}
    known = {canonicalize_name(requirement.name) for requirement in [*PLAIN, *OPTIONAL["onnx"]]}
    for path in [*(ROOT / "helpers").rglob("*.py"), *(ROOT / "data" / "drawn").glob("*.py")]:
        names = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names.add(node.module.split(".")[0])
        for name in names - sys.stdlib_module_names - {"helpers", "google"}:
            package = canonicalize_name(modules.get(name, name))
            assert package in known, f"{path.name} imports {name}"


@pytest.mark.maintain
@pytest.mark.parametrize("path", NOTEBOOKS + STUDY, ids=lambda path: path.stem)
def test_stored_outputs_belong_to_the_code_cells_they_stand_under(path):
    notebook = nbformat.read(path, 4)
    told = "its code has changed since its outputs were made; refresh with: make notebooks"
    assert notebook.metadata.get("outputs_of") == code_digest(notebook), f"{path.name}: {told}"


@pytest.mark.maintain
@pytest.mark.parametrize("path", NOTEBOOKS + STUDY, ids=lambda path: path.stem)
def test_stored_notebooks_are_small_complete_and_clean(path):
    notebook = nbformat.read(path, 4)
    text = re.sub(r'"image/[a-z]+": "[^"]*"', "", path.read_text(encoding="utf-8"))
    nbformat.validate(notebook)
    assert path.stat().st_size < 2e6
    assert not re.search(r"/(home|root|Users|tmp|work)/|widget-view|\"widgets\"|0%\|", text)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    counts = [cell.execution_count for cell in code]
    assert counts == sorted(counts)
    outputs = [output for cell in code for output in cell.outputs]
    kinds = [o.get("name") or o.output_type for o in outputs]
    assert "error" not in kinds and "stderr" not in kinds
    assert sum("image/" in "".join(o.get("data", {})) for o in outputs) >= 8
    assert sum("parameters" in cell.metadata.get("tags", []) for cell in code) == 1
    assert len(notebook.cells) - len(code) >= 12, "prose stands between the cells"
    prose = "".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    assert "-->?<!--" not in prose, "a number of the stored run is missing"


PAGES = [
    ROOT / "README.md",
    *(ROOT / f"{name}/README.md" for name in ("notebooks", "helpers", "data")),
]
PAGES += [ROOT / "tests/benchmarks/README.md", *NOTEBOOKS, *STUDY]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_to_files_and_headings_that_are_there(page):
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".ipynb":
        cells = nbformat.read(page, 4).cells
        text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    links = re.findall(r"\]\(([^)\s]*)\)", text) + re.findall(r'href="([^"]+)"', text)
    for link in links:
        if link.startswith(("http", "mailto:")):
            continue
        path, _, heading = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        if heading:
            titles = re.findall("^#+ (.+)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            plain = [re.sub(r"[^\w\- ]", "", title.lower()) for title in titles]
            assert heading in [title.replace(" ", "-") for title in plain], link


@pytest.mark.maintain
def test_the_first_page_is_short():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 120 and len(text.split()) <= 900
