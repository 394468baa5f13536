"""The lessons as assignments: nbgrader's source for teachers, and notebooks with gaps."""

import re

import nbformat
from nbformat.v4 import new_markdown_cell

from helpers.publishing.colab import packed_cell
from helpers.publishing.edited import is_edited, write_notebook
from helpers.publishing.notebooks import NOTEBOOKS

SOLUTION = re.compile(r"^( *)### BEGIN SOLUTION\n.*?### END SOLUTION$", re.MULTILINE | re.DOTALL)
STUB = r"\1# YOUR CODE HERE\n\1raise NotImplementedError()"
CHECK = re.compile(r'^check\("(\w+)", ([\w.]+)\)', re.MULTILINE)
HIDDEN = """
### BEGIN HIDDEN TESTS
from types import CodeType, ModuleType
from helpers.checks import check

written = getattr({1}, "forward", {1})
assert not written.__module__.startswith("helpers"), "this is finished code"
codes = [written.__code__]
for code in codes:
    codes += [inner for inner in code.co_consts if isinstance(inner, CodeType)]
    for name in code.co_names:
        value = written.__globals__.get(name)
        home = name
        if callable(value) or isinstance(value, ModuleType):
            home = getattr(value, "__module__", None) or getattr(value, "__name__", name)
        ours = home.startswith("helpers") and name not in ("match_size", "rgb_to_grey")
        assert not ours and name not in ("super", "__mro__"), f"this calls finished code: {{name}}"
for seed in (1, 2, 3):  # other inputs than those of the check above
    found = check("{0}", {1}, seed=seed)
    assert found.right, found
### END HIDDEN TESTS"""
ANSWER = "YOUR ANSWER HERE"  # as nbgrader has it
LINK = re.compile(r'\[([^\]]+)\]\((?!http)[^)]+\)|<a href="(?!http)[^"]+">(.*?)</a>')
FOLDER = """import os
import tempfile

OUT = os.path.abspath(OUT or "run")  # beside this notebook, so that no other run serves it
if "NBGRADER_EXECUTION" in os.environ:  # graded by the smallest run, in a folder that goes again
    graded = tempfile.TemporaryDirectory()
    PRESET, SEEDS, DRIVE, OUT = "smoke", 1, False, graded.name
    BIRDS = STREETS = LANDSCAPES = ""

"""


def write_handout(folder, points, colab=False):
    """Write ``source/lesson1/…`` for nbgrader and ``students/…``; yields the paths of both.

    ``points`` are those of each gap and, last, of each exercise. With ``colab`` the students'
    notebooks bring the project along. What somebody has edited in ``folder`` stays.
    """
    for lesson in NOTEBOOKS:
        notebook = nbformat.read(lesson, 4)
        to_assignment(notebook, points)
        place = folder / "source" / f"lesson{lesson.name[0]}"
        yield write_unedited(place / lesson.name, notebook)
        for cell in notebook.cells:
            cell.source = SOLUTION.sub(STUB, cell.source).partition("\n### BEGIN HIDDEN TESTS")[0]
        if colab:
            notebook.cells.insert(1, packed_cell())
        yield write_unedited(folder / "students" / lesson.name, notebook)


def write_unedited(path, notebook):
    """Write a notebook, but leave an edited one there alone. nbgrader wants one in each folder."""
    if path.exists() and is_edited(path):
        print(f"Not written, because it was edited: {path}. For a new one give another --out")
        return path
    return write_notebook(path, notebook)


def to_assignment(notebook, points):
    """Make a lesson nbgrader's source: with hidden tests and cells for answers, without outputs."""
    notebook.metadata.pop("outputs_of", None)
    cells = []
    for cell in notebook.cells:
        cells.append(cell)
        if cell.cell_type == "code":
            cell.outputs = []
            cell.execution_count = None
        check = CHECK.search(cell.source)
        if check:
            mark(cells[-2], check[1], solution=True)
            mark(cell, f"{check[1]}-check", points[0])
            cell.source += HIDDEN.format(*check.groups())
        elif cell.id == "start":
            cell.source = FOLDER + cell.source
        elif cell.id.startswith("exercise-"):
            cells.append(new_markdown_cell(ANSWER, id=f"{cell.id}-answer"))
            mark(cells[-1], cell.id, points[-1], solution=True)
        if cell.cell_type == "markdown":  # what lies beside our lessons is not beside theirs
            cell.source = LINK.sub(r"\1\2", cell.source)
    notebook.cells = cells


def mark(cell, name, points=0, solution=False):
    """Give a cell nbgrader's metadata. It is graded if it has points, and locked if no solution."""
    about = {"schema_version": 3, "grade_id": name, "grade": points > 0, "points": points}
    about |= {"solution": solution, "locked": not solution}
    cell.metadata = {"deletable": False, "nbgrader": about}
