"""The lessons as assignments: what students get, what nbgrader gets, and what is handed in."""

import re
from zipfile import ZipFile

import nbformat
import numpy as np
import pytest
import torch

from helpers.checks import EXERCISES, hint
from helpers.colour import rgb_to_grey
from helpers.publishing.commands import main
from helpers.publishing.handin import verdict
from helpers.publishing.handout import ANSWER, SOLUTION
from helpers.publishing.notebooks import NOTEBOOKS, execute

REGION = re.compile(r"### BEGIN SOLUTION\n(.*?)### END SOLUTION", re.DOTALL)
NEEDED = {"schema_version", "grade_id", "grade", "points", "solution", "locked"}  # of schema 3

pytestmark = pytest.mark.xdist_group("handout")  # on one worker, so that it is made once


@pytest.fixture(scope="module")
def handout(tmp_path_factory):
    folder = tmp_path_factory.mktemp("handout")
    main(["handout", "--out", str(folder), "--points", "7"])
    return folder


def students(handout, lesson):
    return nbformat.read(handout / "students" / lesson.name, 4)


def source(handout, lesson):
    return nbformat.read(handout / "source" / f"lesson{lesson.name[0]}" / lesson.name, 4)


def graded(notebook):
    """{name: cell} of the cells that have nbgrader's metadata."""
    cells = [cell for cell in notebook.cells if "nbgrader" in cell.metadata]
    return {cell.metadata.nbgrader.grade_id: cell for cell in cells}


def test_every_exercise_of_the_checks_is_a_gap_in_one_lesson(handout):
    names = [name for lesson in NOTEBOOKS for name in graded(source(handout, lesson))]
    gaps = [name for name in names if f"{name}-check" in names]
    assert sorted(gaps) == sorted(EXERCISES)


@pytest.mark.parametrize("lesson", NOTEBOOKS, ids=lambda path: path.stem)
def test_gaps_checks_and_answers_have_the_metadata_of_nbgraders_schema_3(handout, lesson):
    for notebook in (source(handout, lesson), students(handout, lesson)):
        nbformat.validate(notebook)
        assert "outputs_of" not in notebook.metadata
        code = [cell for cell in notebook.cells if cell.cell_type == "code"]
        assert all(cell.execution_count is None and not cell.outputs for cell in code)
        names = [cell.metadata.nbgrader.grade_id for cell in graded(notebook).values()]
        assert len(names) == len(set(names))
        for name, cell in graded(notebook).items():
            about = cell.metadata.nbgrader
            assert set(about) == NEEDED and about.schema_version == 3
            is_check = name.endswith("-check")
            is_answer = name.startswith("exercise-")
            assert about.grade == (is_check or is_answer) and about.points == 7 * about.grade
            assert about.locked == is_check != about.solution
            assert (cell.cell_type == "markdown") == is_answer == (cell.source == ANSWER)
        tasks = [cell.id for cell in notebook.cells if re.match(r"\d\. \*", cell.source)]
        assert tasks == [f"exercise-{n}" for n in (1, 2, 3, 4)]


@pytest.mark.parametrize("lesson", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_source_has_solutions_and_hidden_tests_on_other_inputs(handout, lesson):
    cells = graded(source(handout, lesson))
    for name in EXERCISES.keys() & cells:
        assert len(SOLUTION.findall(cells[name].source)) == 1
        shown, hidden = cells[f"{name}-check"].source.split("### BEGIN HIDDEN TESTS\n")
        assert f'check("{name}", ' in shown and f'check("{name}", ' in hidden
        assert "for seed in (1, 2, 3):" in hidden and hidden.endswith("### END HIDDEN TESTS")


def graded_alone(gap, check):
    """Run a gap and its check as nbgrader does, with what the lesson has imported before."""
    names = {"__name__": "notebook", "np": np, "torch": torch, "rgb_to_grey": rgb_to_grey}
    exec(f"{gap}\n{check}", names)


@pytest.mark.parametrize("lesson", NOTEBOOKS, ids=lambda path: path.stem)
def test_hidden_tests_pass_solutions_and_nothing_else(handout, lesson):
    cells = graded(source(handout, lesson))
    for name in EXERCISES.keys() & cells:
        check = cells[f"{name}-check"].source
        check = f"from helpers.checks import check\n{check}"
        graded_alone(cells[name].source, check)
        with pytest.raises(AssertionError, match="not attempted"):
            graded_alone(graded(students(handout, lesson))[name].source, check)


BLOCK = "from helpers.models.resnet import BasicBlock\nclass MyBlock(BasicBlock):"
BORROWED = [
    (0, "block", f"{BLOCK} pass"),
    (0, "block", f"{BLOCK}\n  def forward(self, x): return super().forward(x)"),
    (0, "block", f"{BLOCK}\n  def forward(self, x): return BasicBlock.forward(self, x)"),
    (
        0,
        "interval",
        "from helpers import checks\n"
        "def interval(*given): return checks.EXERCISES['interval'].answer(*given)",
    ),
    (
        1,
        "mean_iou",
        "def mean_iou(batches, num_classes):\n"
        "  from helpers.checks import MeanIoU\n"
        "  return [MeanIoU.answer(batches, num_classes) for _ in range(1)][0]",
    ),
    (2, "lightness", "from helpers.colour import put_lightness_back as lightness_back"),
]


@pytest.mark.parametrize(("lesson", "name", "ours"), BORROWED)
def test_a_gap_that_is_filled_with_our_own_code_gets_no_points(handout, lesson, name, ours):
    cells = graded(source(handout, NOTEBOOKS[lesson]))
    check = f"from helpers.checks import check\n{cells[f'{name}-check'].source}"
    with pytest.raises(AssertionError, match=r"this (is|calls) finished code"):
        graded_alone(ours, check)


HONEST = """
def bootstrap(values):  # no super().forward, and no losses
    return rng.choice(values, len(values))

def interval(values, resamples, seed):
    global rng
    rng = np.random.default_rng(seed)
    losses = bootstrap_means = [bootstrap(values).mean() for _ in range(resamples)]
    return np.percentile(bootstrap_means, [2.5, 97.5])
"""


def test_comments_and_a_students_own_names_are_no_finished_code(handout):
    check = graded(source(handout, NOTEBOOKS[0]))["interval-check"].source
    graded_alone(HONEST, f"from helpers.checks import check\n{check}")


def test_gaps_and_exercises_may_have_different_points_and_changed_points_stay(tmp_path, capsys):
    main(["handout", "--out", str(tmp_path)])
    cells = graded(source(tmp_path, NOTEBOOKS[0]))
    points = {name: cell.metadata.nbgrader.points for name, cell in cells.items()}
    exercises = {f"exercise-{number}": 4 for number in (1, 2, 3, 4)}
    assert points == {"block": 0, "block-check": 5, "interval": 0, "interval-check": 5} | exercises

    path = tmp_path / "source" / "lesson1" / NOTEBOOKS[0].name
    notebook = nbformat.read(path, 4)
    graded(notebook)["exercise-1"].metadata.nbgrader.points = 3
    nbformat.write(notebook, path)
    before = path.read_bytes()
    main(["handout", "--out", str(tmp_path)])
    assert path.read_bytes() == before
    assert f"Not written, because it was edited: {path}" in capsys.readouterr().out
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("lesson", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_link_of_a_students_notebook_leads_out_of_its_folder(handout, lesson):
    for cell in students(handout, lesson).cells:
        if cell.cell_type == "markdown":
            assert not re.search(r'\]\((?!http)|href="(?!http)', cell.source)


def solution_lines(lesson):
    """The telling lines of a lesson's solutions."""
    lines = []
    for cell in nbformat.read(lesson, 4).cells:
        for region in REGION.findall(cell.source):
            lines += [line.strip() for line in region.splitlines()]
    assert lines
    return [line for line in lines if len(line) > 20]


@pytest.mark.parametrize("lesson", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_cell_or_metadata_of_a_students_notebook_shows_a_solution(handout, lesson):
    notebook = students(handout, lesson)
    text = nbformat.writes(notebook)
    assert "SOLUTION" not in text and "HIDDEN" not in text
    said = "\n".join(cell.source for cell in notebook.cells)
    for line in solution_lines(lesson):
        assert line not in said
    for name in EXERCISES.keys() & graded(notebook):
        gap = graded(notebook)[name].source
        assert re.search(r"\n +# YOUR CODE HERE\n +raise NotImplementedError\(\)$", gap)
        compile(gap, name, "exec")
        assert str(hint(name, 3)) not in said


@pytest.mark.parametrize("lesson", NOTEBOOKS[:1], ids=lambda path: path.stem)
def test_with_open_gaps_a_lesson_runs_to_its_end_and_shows_no_solution(
    handout, lesson, tmp_path, capsys
):
    """Lesson 1; tests/teach runs them all."""
    parameters = {"PRESET": "smoke", "OUT": str(tmp_path / "run")}
    path = execute(handout / "students" / lesson.name, tmp_path, parameters)
    said = ""
    for cell in nbformat.read(path, 4).cells:
        for output in cell.get("outputs", []):
            assert output.output_type != "error"
            said += output.get("text", "") + str(output.get("data", {}).get("text/markdown", ""))
    assert "Our code is shown here once your block is right." in said
    assert "the lesson goes on with ours" in said and "the figure has ours alone" in said
    assert "downsample(x)" not in said
    capsys.readouterr()
    main(["handin", "--run", str(tmp_path / "run"), "--out", str(tmp_path / "a.zip")])
    told = capsys.readouterr().out
    assert "- The gap block: open\n" in told and "- exercise-4: not answered\n" in told
    assert re.search(r"- (\d+) of \1 code cells ran, in order\n", told)
    assert re.search(r"- classification-resnet18-[0-9a-f]{8}\n", told)
    assert "## Lesson 2: 0 notebooks\n" in told
    names = ZipFile(tmp_path / "a.zip").namelist()
    assert set(names) == {"lesson1/1_classification.ipynb", "results.json", "SUMMARY.md"}

    notebook = nbformat.read(path, 4)  # as Colab saves it, without ids of cells
    for cell in notebook.cells:
        del cell["id"]
    notebook.nbformat_minor = 0
    nbformat.write(notebook, path)
    main(["handin", "--run", str(tmp_path / "run"), "--out", str(tmp_path / "colab.zip")])
    told = capsys.readouterr().out
    assert "- The gap block: open\n" in told and "- exercise-4: not answered\n" in told


def test_a_check_that_ended_in_an_error_is_told_of():
    gap = nbformat.v4.new_code_cell("def mine(): ...")
    error = nbformat.v4.new_output("error", ename="NameError", evalue="", traceback=[])
    check = nbformat.v4.new_code_cell('check("up", mine)', outputs=[error])
    assert verdict(gap, check) == "its check ended in NameError"


def test_code_of_ours_that_a_gap_asks_for_is_shown_only_once_it_is_right():
    shown = {"block": "show(BasicBlock", "up": "show(UNet)"}
    for lesson, (name, call) in zip(NOTEBOOKS, shown.items(), strict=False):
        (cell,) = [c for c in nbformat.read(lesson, 4).cells if "show(" in c.source]
        condition = rf'^if check\("{name}", \S+\)\.right:\n    {re.escape(call)}'
        assert re.search(condition, cell.source, re.MULTILINE)


def test_for_colab_students_notebooks_bring_the_project_along(handout, tmp_path, monkeypatch):
    main(["handout", "--out", str(tmp_path), "--points", "7", "--colab"])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NBGRADER_EXECUTION", "autograde")
    for lesson in NOTEBOOKS:
        packed = students(tmp_path, lesson)
        project = packed.cells.pop(1)
        assert project.id == "project"
        assert packed.cells == students(handout, lesson).cells
        assert source(tmp_path, lesson) == source(handout, lesson)
        exec(project.source, {})
        assert not list(tmp_path.glob("coursework-*")), "who grades has the project"


def test_a_handin_without_notebooks_says_where_it_looked(tmp_path, capsys):
    main(["handin", "--run", str(tmp_path / "run"), "--out", str(tmp_path / "a.zip")])
    assert f"No notebook is in {tmp_path / 'run'} or beside it" in capsys.readouterr().out


def test_a_handin_refuses_nothing_says_what_is_missing_and_replaces_no_file(tmp_path, capsys):
    notebook = nbformat.read(NOTEBOOKS[1], 4)
    notebook.cells.insert(2, nbformat.v4.new_code_cell('STUDENT = "ada"'))  # as a run injects it
    for number, cell in enumerate(c for c in notebook.cells if c.cell_type == "code"):
        cell.execution_count = 100 - number
        cell.outputs = []
        if cell.id == "up-check":
            text = {"text/plain": "wrong. The skip is left out."}
            cell.outputs = [nbformat.v4.new_output("execute_result", data=text)]
    nbformat.write(notebook, tmp_path / NOTEBOOKS[1].name)
    for name in ("a.zip", "a.new1.zip"):
        main(["handin", "--run", str(tmp_path / "run"), "--out", str(tmp_path / "a.zip")])
        told = capsys.readouterr().out
        assert told.endswith(f"{name}: hand in this file\n")
        assert '- PRESET = "quick", STUDENT = "ada", SEEDS = 1, SEED = 0\n' in told
        assert "- The gap up: wrong. The skip is left out.\n" in told
        assert "- The gap mean_iou: its check did not run\n" in told
        assert "ran, not in order\n" in told and "results.json is missing" in told
        with ZipFile(tmp_path / name) as archive:
            assert archive.read("SUMMARY.md").decode() in told
            sent = archive.read(f"lesson2/{NOTEBOOKS[1].name}")
            assert sent == (tmp_path / NOTEBOOKS[1].name).read_bytes()
