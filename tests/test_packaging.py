"""The installing files agree with each other, and the committed notebooks with their own outputs."""

import ast
import os
import re
import sys
import tomllib
from importlib.metadata import version
from itertools import chain
from pathlib import Path

import nbformat
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from helpers.publishing.notebooks import NOTEBOOKS
from notebooks.store import code_digest

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
WANTED = [Requirement(r) for r in chain(PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())]
PINS = dict(
    line.split("==")
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if not line.startswith("#")
)
COLAB = (ROOT / "tests" / "colab" / "requirements.txt").read_text().splitlines()
COLAB = [Requirement(line) for line in COLAB if not line.startswith("#")]


def test_every_requirement_is_pinned_to_a_version_it_admits():
    for requirement in WANTED:
        pin = PINS[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(pin), f"{requirement} does not admit {pin}"


def test_pins_are_plain_versions_without_addresses():
    assert len(PINS) > 100
    for name, pin in PINS.items():
        assert name == canonicalize_name(name) and re.fullmatch(r"[0-9][0-9a-z.+]*", pin), (name, pin)


@pytest.mark.skipif(not os.environ.get("CI"), reason="elsewhere, other versions are welcome")
def test_the_tests_run_on_the_pinned_set():
    later = [Requirement(r).name for r in PROJECT["optional-dependencies"]["browser"]]  # by make browser
    found = {r.name: version(r.name).split("+")[0] for r in WANTED if r.name not in later}
    assert found == {name: PINS[canonicalize_name(name)] for name in found}


def test_requirements_admit_what_colab_ships_and_need_nothing_else():
    plain = {r.name: r for r in map(Requirement, PROJECT["dependencies"])}
    for there in COLAB:
        pinned = str(there.specifier).removeprefix("==")
        if pinned and there.name in plain:
            assert plain[there.name].specifier.contains(pinned), (
                f"{plain[there.name]} would reinstall {there}"
            )
    assert plain.keys() - {r.name for r in COLAB} == {"papermill"}  # for the command line


def test_conda_gives_python_alone_and_the_rest_comes_from_the_other_two_files():
    text = (ROOT / "environment.yml").read_text(encoding="utf-8")
    items = re.findall(r"^ +- (.+?)$", text, re.MULTILINE)
    assert items == [
        "conda-forge",
        f"python{PROJECT['requires-python']}",
        "pip",
        "pip:",
        "-c constraints.txt",
        "-e .[lab,test]",
    ]
    assert "-c constraints.txt" in (ROOT / "Makefile").read_text()
    assert sys.version_info >= (3, 11)


def test_every_imported_package_is_a_requirement():
    modules = {"PIL": "pillow", "skimage": "scikit-image", "sklearn": "scikit-learn",
               "IPython": "ipykernel", "nbformat": "nbconvert",
               "jinja2": "nbconvert"}  # fmt: skip
    known = {canonicalize_name(r.name) for r in map(Requirement, PROJECT["dependencies"])}
    for path in (ROOT / "helpers").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            for module in {n.split(".")[0] for n in names} - sys.stdlib_module_names - {"helpers", "google"}:
                assert canonicalize_name(modules.get(module, module)) in known, (
                    f"{path.name} imports {module}"
                )


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_stored_outputs_belong_to_the_code_cells_they_stand_under(path):
    notebook = nbformat.read(path, 4)
    assert notebook.metadata.get("outputs_of") == code_digest(notebook), (
        f"{path.name}: its code has changed since its outputs were made; refresh with: make notebooks"
    )


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_stored_notebooks_are_small_complete_and_clean(path):
    notebook, text = nbformat.read(path, 4), path.read_text(encoding="utf-8")
    nbformat.validate(notebook)
    assert path.stat().st_size < 1.5e6
    assert "widgets" not in notebook.metadata and "widget-view" not in text
    assert not re.search(r"/(home|root|Users|tmp|work)/", re.sub(r'"image/[a-z]+": "[^"]*"', "", text))
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == sorted(cell.execution_count for cell in code)
    assert not any("0%|" in o.get("data", {}).get("text/plain", "") for cell in code for o in cell.outputs)
    kinds = {(o.output_type, o.get("name")) for cell in code for o in cell.outputs}
    assert ("error", None) not in kinds and ("stream", "stderr") not in kinds
    assert sum(any(k.startswith("image") for k in o.get("data", {})) for c in code for o in c.outputs) >= 8


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_have_one_parameters_cell_and_prose_between_the_others(path):
    cells = nbformat.read(path, 4).cells
    assert sum("parameters" in cell.metadata.get("tags", []) for cell in cells) == 1
    assert sum(cell.cell_type == "markdown" for cell in cells) >= 12
