"""What a run leaves for people: tables and an article for LaTeX, a page to look at."""

import shutil
import subprocess

import pytest

from helpers.results import COLUMNS, MAIN, latex, main_tables, tex


def row(task, network, score, value=0.5, seeds=1, reported=None):
    place = [task, f"embedded drawn {task}", network, score]
    return dict(
        zip(COLUMNS, [*place, value, value - 0.1, value + 0.1, seeds, "29 scenes", reported], strict=True)
    )


ROWS = [row(task, network, score) for task in MAIN for network in ("U-Net", "plain") for score in MAIN[task]]
ROWS += [row("segmentation", "U-Net − plain", score, -0.5) for score in ("mean_iou", "border_mean_iou")]
ROWS += [
    row("segmentation", "nearest_picture 100 %", "mean_iou", seeds=0),
    row("segmentation", "half", "mean_iou"),
]


def compiled(folder, name, *commands):
    """The text of ``name``.tex in ``folder`` as pdflatex sets it, and what it said."""
    if not all(map(shutil.which, ("pdflatex", "bibtex", "pdftotext"))):
        pytest.skip(
            "no pdflatex, bibtex or pdftotext here (Debian: texlive-latex-recommended, poppler-utils)"
        )
    told = ""
    for command in commands or ["pdflatex"]:
        options = ["-interaction=nonstopmode", "-halt-on-error"] if command == "pdflatex" else []
        done = subprocess.run(
            [command, *options, name], cwd=folder, capture_output=True, text=True, errors="replace"
        )
        assert done.returncode == 0, done.stdout[-2000:]
        told = done.stdout
    text = subprocess.run(
        ["pdftotext", "-layout", f"{name}.pdf", "-"], cwd=folder, capture_output=True, text=True
    )
    return text.stdout, told


@pytest.mark.parametrize("columns", ["onecolumn", "twocolumn"])
def test_the_tables_are_set_by_pdflatex_and_fit_their_column(tmp_path, columns):
    (tmp_path / "results.tex").write_text(latex(ROWS), encoding="utf-8")
    start = rf"\documentclass[{columns}]{{article}}\usepackage{{booktabs,graphicx}}\begin{{document}}"
    (tmp_path / "x.tex").write_text(rf"{start}\input{{results.tex}}\end{{document}}")
    text, told = compiled(tmp_path, "x")
    assert "Overfull" not in told and "mean IoU" in text and "U-Net − plain" in text and "−0.500" in text
    assert " ".join(text.split()).count("(1 seed, 29 scenes)") == 3


def test_a_table_for_a_paper_keeps_the_main_scores_and_the_baselines():
    tables = {task: table for task, _, table in main_tables(ROWS)}
    assert list(tables) == ["classification", "segmentation", "colorization"]
    assert list(tables["segmentation"].index) == ["U-Net", "plain", "U-Net − plain", "nearest_picture 100 %"]
    assert list(tables["segmentation"].columns) == ["mean IoU", "border mean IoU", "pixel accuracy"]


def test_a_table_for_a_paper_has_the_reports_number_where_it_may_stand_beside():
    ((_, _, table),) = main_tables([row("segmentation", "U-Net", "mean_iou", reported=0.478), ROWS[-1]])
    assert table["mean IoU, reported"].tolist() == ["0.478", ""]


def test_any_text_can_be_set_by_pdflatex(tmp_path):
    text = "".join(map(chr, range(32, 0x250))) + "–—…‘’“”−→≤北京\U0001f426 end"
    start = r"\documentclass{article}\begin{document}\sloppy "
    (tmp_path / "x.tex").write_text(rf"{start}{tex(text)}\end{{document}}", encoding="utf-8")
    assert compiled(tmp_path, "x")[0].split()[-2] == "end"  # before the page number
