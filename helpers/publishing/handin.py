"""One zip to hand in: notebooks, scores, and a summary of what ran and of what is missing."""

import re
from itertools import pairwise
from zipfile import ZipFile

import nbformat

from helpers import plural
from helpers.publishing.edited import unedited_place
from helpers.publishing.handout import ANSWER, CHECK

PARAMETER = re.compile(r"^(PRESET|STUDENT|SEEDS?) = ([^#\n]*?) *(?:#.*)?$", re.MULTILINE)


def write_handin(run, out):
    """Write a zip of the run in a folder; returns its path and the summary in it.

    It unpacks to ``lesson1/1_classification.ipynb`` and so on, as nbgrader has it. Where there is
    a file ``out`` already, that stays.
    """
    text = "# Hand-in\n\nNetworks that were trained, by name and digest:\n\n"
    for folder in sorted(run.glob("runs/*-????????")):
        text += f"- {folder.name}\n"
    if not notebooks_of(run):
        text += f"\nNo notebook is in {run} or beside it: name its folder by --run.\n"
    files = {}
    for number in ("1", "2", "3"):
        notebooks = [path for path in notebooks_of(run) if path.name.startswith(number)]
        text += f"\n## Lesson {number}: {plural(len(notebooks), 'notebook')}\n\n"
        for path in notebooks:
            files[f"lesson{number}/{path.name}"] = path
            text += "\n".join(summary(nbformat.read(path, 4)))
    scores = run / "results.json"
    if scores.exists():
        files[scores.name] = scores
    else:
        text += f"\n\n{scores} is missing: lesson.finish() writes it."
    place = unedited_place(out)
    with ZipFile(place, "x") as archive:
        for name, path in files.items():
            archive.write(path, name)
        archive.writestr("SUMMARY.md", text)
    return place, text


def notebooks_of(run):
    """The notebooks of lessons in the folder of a run, or else beside it."""
    found = sorted(run.glob("[1-3]_*.ipynb"))
    return found or sorted(run.absolute().parent.glob("[1-3]_*.ipynb"))


def summary(notebook):
    """The parameters, a line for each gap and each answer, and in which order cells ran."""
    counts = []
    parameters = {}
    for cell in notebook.cells:
        parameters.update(PARAMETER.findall(cell.source))  # what a run has injected comes later
    yield "- " + ", ".join(f"{name} = {value}" for name, value in parameters.items())
    for before, cell in pairwise(notebook.cells):
        check = CHECK.search(cell.source)
        if check:
            yield f"- The gap {check[1]}: {verdict(before, cell)}"
        # Colab saves cells without their ids
        name = cell.metadata.get("nbgrader", {}).get("grade_id", "")
        if name.startswith("exercise-"):
            answered = "not answered" if cell.source == ANSWER else "answered"
            yield f"- {name}: {answered}"
        if cell.cell_type == "code":
            counts.append(cell.execution_count)
    ran = [count for count in counts if count]
    order = "in order" if ran == sorted(ran) else "not in order"
    yield f"- {len(ran)} of {plural(len(counts), 'code cell')} ran, {order}\n"


def verdict(gap, check):
    """What the check of a gap said when it ran."""
    if "raise NotImplementedError()" in gap.source:
        return "open"
    for output in check.outputs:
        if "data" in output:
            return output.data["text/plain"]
        if output.output_type == "error":
            return f"its check ended in {output.ename}"
    return "its check did not run"
