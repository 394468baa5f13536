"""The package stays thin, and no room reaches into one above it."""

import ast
from pathlib import Path

import nbformat
import pytest

from helpers.publishing.notebooks import NOTEBOOKS

HELPERS = Path(__file__).resolve().parents[1] / "helpers"
MACHINERY = ("data", "drawings", "engine", "publishing")
FILES = {path.relative_to(HELPERS).as_posix(): path for path in HELPERS.rglob("*.py")}
SURFACE = {
    name
    for name in FILES
    if name.split("/")[0] not in MACHINERY and Path(name).name not in ("__init__.py", "__main__.py")
}
LINES = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in FILES.items()}


def imported(name):
    """Dotted names of the modules of ``helpers`` that a file imports, wherever in it, or of any module."""
    found = set()
    for node in ast.walk(ast.parse(FILES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            home = Path("helpers", name).with_suffix("").parts[: -node.level] if node.level else ()
            module = ".".join([*home, *([node.module] if node.module else [])])
            found |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return found


def rooms(name):
    """The folders of machinery that a file imports from."""
    return {
        part.split(".")[1]
        for part in imported(name)
        if part.startswith("helpers.") and part.split(".")[1] in MACHINERY
    }


def test_the_surface_is_what_a_student_opens():
    assert {name.split("/")[-1] for name in SURFACE} == {
        *("resnet.py", "fcn.py", "unet.py", "metrics.py", "losses.py", "colour.py", "tasks.py", "presets.py"),
        *(
            "augment.py",
            "skips.py",
            "training.py",
            "baselines.py",
            "figures.py",
            "galleries.py",
            "architecture.py",
            "results.py",
            "widgets.py",
            "live.py",
        ),
    }


def test_the_package_is_thin():
    assert sum(LINES[name] for name in SURFACE) <= 2583
    assert LINES["training.py"] <= 130
    assert sum(LINES.values()) <= 5818


@pytest.mark.parametrize("name", sorted(FILES))
def test_imports_go_one_way(name):
    room = name.split("/")[0]
    if room == "models":
        others = {part.split(".")[0] for part in imported(name)} - {"torch", "helpers"}
        ours = {part for part in imported(name) if part.startswith("helpers")}
        assert not others and all(part.startswith("helpers.models") for part in ours)
    elif name in SURFACE:
        allowed = {"data", "engine"} if name == "training.py" else {"data"}
        assert rooms(name) <= allowed
    elif room in ("data", "drawings", "engine"):
        ours = {part for part in imported(name) if part.startswith("helpers.")}
        surface = {"helpers." + other.removesuffix(".py").replace("/", ".") for other in SURFACE}
        assert not ours & surface and "publishing" not in rooms(name)
        assert room != "engine" or rooms(name) <= {"engine"}


def test_cells_are_short():
    cells = [c for path in NOTEBOOKS for c in nbformat.read(path, 4).cells if c.cell_type == "code"]
    lines = sorted(len(cell.source.splitlines()) for cell in cells)
    assert lines[len(lines) // 2] <= 6 and lines[int(0.9 * len(lines))] <= 12 and lines[-1] <= 15
    assert sum(lines) <= 850
