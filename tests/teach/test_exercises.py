"""The expected ranges of the exercises: the command that makes them, and the teacher's table."""

import re

import nbformat
import pytest

from helpers import ROOT
from helpers.publishing.notebooks import NOTEBOOKS, STUDY
from notebooks.exercises import expected, table

WITHOUT_A_NUMBER = {"1.4"}  # four images are described


def all_exercises():
    for path in NOTEBOOKS + STUDY:
        lesson = path.name[0] if path in NOTEBOOKS else f"S{path.name[0]}"
        for cell in nbformat.read(path, 4).cells:
            if cell.id.startswith("exercise-"):
                yield f"{lesson}.{cell.id.removeprefix('exercise-')}"


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    folder = tmp_path_factory.mktemp("expected")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("helpers.results.REPORTS", folder)
        return expected("a name", 1, "smoke")


def test_each_exercise_with_a_number_is_done(smoke):
    assert {number for number, _ in smoke} == set(all_exercises()) - WITHOUT_A_NUMBER


def test_the_table_of_the_readme_has_the_same_rows(smoke):
    text = (ROOT / "notebooks" / "README.md").read_text(encoding="utf-8")
    stored = text.partition("<!-- expected -->")[2].partition("<!-- end of expected -->")[0]
    rows = re.compile(r"^\| ([^|]+ \| [^|]+) \|", re.MULTILINE)
    assert rows.findall(stored) == rows.findall(table([smoke]))


def test_a_row_has_the_lowest_and_the_highest_value():
    students = [{("1.1", "gain"): value} for value in (0.2, -0.1, 0.05)]
    assert table(students).splitlines()[-1] == "| 1.1 | gain | −0.10 | 0.20 |"
