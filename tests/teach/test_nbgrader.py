"""The real nbgrader takes what ``handout`` writes, and grades a class of three.

``make teach`` runs it, with the optional group ``teach``. It takes minutes: each notebook of each
student runs at the smallest preset.
"""

import os
import subprocess
import sys
from zipfile import ZipFile

import nbformat
import pytest
from nbgrader.api import Gradebook

from helpers.publishing.commands import main
from helpers.publishing.handout import ANSWER
from helpers.publishing.notebooks import NOTEBOOKS

LESSONS = {f"lesson{path.name[0]}": path for path in NOTEBOOKS}
STUB = "# YOUR CODE HERE\n        raise NotImplementedError()"
EARLY_RELU = """out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        return out + (x if self.downsample is None else self.downsample(x))"""
AFTER_POOLING = """for level in (3, 2, 1, 0):
            size = skips[level].shape[2:]
            pooled = torch.nn.functional.max_pool2d(skips[level], 2)
            skip = torch.nn.functional.interpolate(pooled, size)
            x = match_size(self.upsample[level](x), skip)
            x = self.up[level](torch.cat([skip, x], 1))
        return x"""


def nbgrader(course, *arguments):
    command = [sys.executable, "-m", "nbgrader", *arguments]
    place = os.path.dirname(sys.executable)  # of alembic, which nbgrader looks for on the PATH
    env = os.environ | {"PATH": f"{place}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(command, cwd=course, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stderr


def cells_of(path):
    """{name: cell} of the cells of a notebook that nbgrader knows."""
    cells = nbformat.read(path, 4).cells
    return {cell.metadata.nbgrader.grade_id: cell for cell in cells if "nbgrader" in cell.metadata}


def write(student, lesson, course, **texts):
    """A student's notebook from the handed-out one, with texts in place of gaps and answers."""
    notebook = nbformat.read(course / "students" / LESSONS[lesson].name, 4)
    for cell in notebook.cells:
        about = cell.metadata.get("nbgrader")
        if about and about.solution:
            name = about.grade_id.replace("-", "_")
            if cell.source == ANSWER:
                cell.source = texts.get(name, ANSWER)
            elif name in texts:
                assert STUB in cell.source or name not in ("block", "up")
                cell.source = (
                    texts[name] if "def " in texts[name] else cell.source.replace(STUB, texts[name])
                )
    folder = course / "at-home" / student
    folder.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, folder / LESSONS[lesson].name)


def right(course, lesson):
    """The right texts of all gaps and answers of a lesson."""
    texts = {}
    for name, cell in cells_of(course / "source" / lesson / LESSONS[lesson].name).items():
        if cell.metadata.nbgrader.solution:
            lines = [line for line in cell.source.splitlines() if " SOLUTION" not in line]
            texts[name.replace("-", "_")] = "\n".join(lines)
            if cell.source == ANSWER:
                texts[name.replace("-", "_")] = "The difference is 0.1."
    return texts


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """A course whose three students have handed in, graded and with feedback.

    Ada has everything right. Ben has written nothing. Eve has the ReLU early, and takes skips after
    pooling; her third lesson is missing.
    """
    course = tmp_path_factory.mktemp("course")
    main(["handout", "--out", str(course), "--points", "10"])
    for lesson in LESSONS:
        nbgrader(course, "generate_assignment", lesson)
        write("ada", lesson, course, **right(course, lesson))
        write("ben", lesson, course)
    answers = {"block": EARLY_RELU, "interval": right(course, "lesson1")["interval"]}
    write("eve", "lesson1", course, **answers, exercise_1="Not slower.")
    answers = {"up": AFTER_POOLING, "mean_iou": right(course, "lesson2")["mean_iou"]}
    write("eve", "lesson2", course, **answers)
    for student in ("ada", "ben", "eve"):
        file = course / f"{student}.zip"
        main(["handin", "--run", str(course / "at-home" / student / "run"), "--out", str(file)])
        with ZipFile(file) as archive:
            archive.extractall(course / "submitted" / student)
    for lesson in LESSONS:
        nbgrader(course, "autograde", lesson, "--Execute.timeout=600")
        nbgrader(course, "generate_feedback", lesson)
    return course


def grades(course, lesson, student):
    """{cell: points}, and the names of the cells that wait for the teacher."""
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as book:
        submission = book.find_submission_notebook(LESSONS[lesson].stem, lesson, student)
        points = {grade.name: grade.auto_score for grade in submission.grades}
        waiting = [grade.name for grade in submission.grades if grade.needs_manual_grade]
    return points, sorted(waiting)


def graded(course, lesson, student):
    return course / "autograded" / student / lesson / LESSONS[lesson].name


EXERCISES = [f"exercise-{number}" for number in (1, 2, 3, 4)]
GAPS = {
    "lesson1": ["block-check", "interval-check"],
    "lesson2": ["up-check", "mean_iou-check"],
    "lesson3": ["cross_entropy-check", "floor-check", "lightness-check"],
}


@pytest.mark.parametrize("lesson", LESSONS)
def test_the_release_is_what_students_get_from_us(course, lesson):
    ours = nbformat.read(course / "students" / LESSONS[lesson].name, 4)
    theirs = nbformat.read(course / "release" / lesson / LESSONS[lesson].name, 4)
    assert [cell.source for cell in ours.cells] == [cell.source for cell in theirs.cells]


@pytest.mark.parametrize("lesson", LESSONS)
def test_a_perfect_hand_in_gets_all_points_and_its_answers_wait_for_the_teacher(course, lesson):
    points, waiting = grades(course, lesson, "ada")
    assert points == dict.fromkeys(GAPS[lesson], 10) | dict.fromkeys(EXERCISES)
    assert waiting == EXERCISES
    errors, said = outputs_of(graded(course, lesson, "ada"))
    assert not errors
    if lesson != "lesson3":
        assert "same as ours, bit by bit: True" in said


@pytest.mark.parametrize("lesson", LESSONS)
def test_an_empty_hand_in_gets_none_and_runs_to_its_end(course, lesson):
    points, waiting = grades(course, lesson, "ben")
    assert points == dict.fromkeys([*GAPS[lesson], *EXERCISES], 0) and not waiting
    errors, said = outputs_of(graded(course, lesson, "ben"))
    assert sorted(errors) == sorted(GAPS[lesson])
    assert all("not attempted" in text for text in errors.values())


def outputs_of(path):
    """{cell: error} of the cells that ended with one, and the text of all other outputs."""
    errors = {}
    said = ""
    for cell in nbformat.read(path, 4).cells:
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                name = cell.metadata.get("nbgrader", {}).get("grade_id", cell.id)
                errors[name] = output.evalue
            said += output.get("text", "")
    return errors, said


def test_a_partly_wrong_hand_in_is_told_its_mistakes(course):
    points, waiting = grades(course, "lesson1", "eve")
    rest = dict.fromkeys(EXERCISES[1:], 0)
    assert points == {"block-check": 0, "interval-check": 10, "exercise-1": None} | rest
    assert waiting == ["exercise-1"]
    points, waiting = grades(course, "lesson2", "eve")
    assert points == {"up-check": 0, "mean_iou-check": 10} | dict.fromkeys(EXERCISES, 0)
    assert not waiting
    told = {"lesson1": "The ReLU comes before the addition", "lesson2": "taken after pooling"}
    for lesson, words in told.items():
        errors, _ = outputs_of(graded(course, lesson, "eve"))
        assert list(errors) == [GAPS[lesson][0]] and words in errors[GAPS[lesson][0]]
        page = course / "feedback" / "eve" / lesson / f"{LESSONS[lesson].stem}.html"
        assert words in page.read_text(encoding="utf-8")


def test_each_hand_in_is_graded_in_a_folder_of_its_own_that_is_gone_afterwards(course):
    for student in ("ada", "ben", "eve"):
        assert not (course / "at-home" / student / "run").exists()
        for folder in (course / "autograded" / student).iterdir():
            assert [path.name for path in folder.iterdir()] == [LESSONS[folder.name].name]
    summary = (course / "submitted/eve/SUMMARY.md").read_text(encoding="utf-8")
    assert "Lesson 3: 0 notebooks" in summary
