"""What a run leaves for people: tables and an article for LaTeX, a page to look at."""

import json
import re
import shutil
import subprocess
from html import unescape

import pytest

from helpers.presets import preset
from helpers.publishing import report
from helpers.publishing.notebooks import NOTEBOOKS, Terminal
from helpers.publishing.report import write_report
from helpers.publishing.tables import COLUMNS, MAIN, latex, main_tables, tex
from helpers.results import Results
from tests.test_results import SYNTHETIC, chart


def row(task, network, score, value=0.5, seeds=1, reported=None):
    place = [task, f"synthetic {task}", network, score]
    cells = [*place, value, value - 0.1, value + 0.1, seeds, "29 scenes", reported]
    return dict(zip(COLUMNS, cells, strict=True))


ROWS = [
    row(task, name, score) for task in MAIN for name in ("U-Net", "plain") for score in MAIN[task]
]
ROWS += [row("segmentation", "U-Net − plain", score, -0.5) for score in MAIN["segmentation"][:2]]
ROWS += [row("segmentation", "nearest_image 100 %", "mean_iou", seeds=0)]
ROWS += [row("segmentation", "half", "mean_iou")]


def compiled(folder, name, *commands):
    """The text of ``name``.tex in ``folder`` as pdflatex sets it, and what it said."""
    if not all(map(shutil.which, ("pdflatex", "bibtex", "pdftotext"))):
        pytest.skip("no pdflatex, bibtex or pdftotext (texlive-latex-recommended, poppler-utils)")
    for command in commands or ["pdflatex"]:
        options = ["-interaction=nonstopmode", "-halt-on-error"] * (command == "pdflatex")
        done = subprocess.run([command, *options, name], cwd=folder, capture_output=True)
        told = done.stdout.decode(errors="replace")
        assert done.returncode == 0, told[-2000:]
    command = ["pdftotext", "-layout", f"{name}.pdf", "-"]
    return " ".join(subprocess.check_output(command, cwd=folder, text=True).split()), told


def test_a_table_for_a_paper_keeps_the_main_scores_and_the_baselines_beside_the_reports_number():
    reported = row("segmentation", "U-Net", "mean_iou", reported=0.478)
    tables = main_tables([*ROWS, reported])
    assert list(tables) == ["classification", "segmentation", "colorization"]
    caption, table = tables["segmentation"]
    assert caption.endswith("synthetic segmentation, with 95 % intervals (1 seed, 29 scenes)")
    assert list(table.index) == ["U-Net", "plain", "U-Net − plain", "nearest_image 100 %"]
    scores = ["mean IoU", "border mean IoU", "pixel accuracy"]
    assert table.loc["nearest_image 100 %", scores].tolist() == ["0.500 [0.400, 0.600]", "", ""]
    assert table["mean IoU, reported"].tolist() == ["0.478", "", "", ""]


@pytest.mark.parametrize("columns", ["onecolumn", "twocolumn"])
def test_the_tables_are_set_by_pdflatex_and_fit_their_column(tmp_path, columns):
    (tmp_path / "results.tex").write_text(latex(ROWS), encoding="utf-8")
    start = rf"\documentclass[{columns}]{{article}}\usepackage{{booktabs,graphicx}}"
    (tmp_path / "x.tex").write_text(start + r"\begin{document}\input{results.tex}\end{document}")
    text, told = compiled(tmp_path, "x")
    assert "Overfull" not in told
    assert "mean IoU" in text and "U-Net − plain" in text and "−0.500" in text
    assert text.count("(1 seed, 29 scenes)") == 3


def test_any_text_can_be_set_by_pdflatex(tmp_path):
    text = "".join(map(chr, range(32, 127))) + "Åß×·²–—…‘’“”−→≤北京\U0001f426 end"
    start = r"\documentclass{article}\begin{document}\sloppy "
    (tmp_path / "x.tex").write_text(rf"{start}{tex(text)}\end{{document}}", encoding="utf-8")
    assert compiled(tmp_path, "x")[0].split()[-2] == "end"  # before the page number


CAPTIONS = {  # figures of a run, and what each says
    "figure1_resnet18_architecture": "Figure 1. ResNet-18 with 50 % & #more.",
    "what_skips_buy": "In this run the skips are worth +0.35 → a lot.",
    "border_closeups": "An image beside <b>its</b> truth.",
}


@pytest.fixture
def finished(tmp_path):
    """The folder of a run at ``smoke``: scores, three figures, the pages of its notebooks."""
    results = Results(tmp_path, "classification", SYNTHETIC, preset("smoke"))
    for name, caption in CAPTIONS.items():
        results.figure(chart(), name, caption)
    (tmp_path / "results.json").write_text(json.dumps(ROWS), encoding="utf-8")
    (tmp_path / "results.tex").write_text(latex(ROWS), encoding="utf-8")
    for notebook in NOTEBOOKS:
        (tmp_path / f"{notebook.stem}.html").touch()
    return tmp_path


def test_the_article_compiles_with_the_runs_figures_captions_tables_and_references(finished):
    write_report(finished, "smoke")
    source = (finished / "report.tex").read_text(encoding="utf-8")
    assert r"\caption{ResNet-18 with 50 \% \& \#more (synthetic data)}" in source
    assert r"\input{results.tex}" in source and "figure3" not in source
    text, told = compiled(finished, "report", "pdflatex", "bibtex", "pdflatex", "pdflatex")
    assert "+0.35 → a lot (synthetic data)" in text and "Deep residual learning" in text
    assert "(1 seed, 29 scenes)" in text and "[Your name]" in text
    batch = preset("smoke").classification.batch_size
    assert f"for 2 epochs, at 32 × 32 pixels, in batches of {batch}, by Adam" in text
    assert "undefined" not in told and "Overfull" not in told and "??" not in text


def test_an_edited_article_stays_and_the_new_one_stands_beside_it(finished, capsys):
    for _ in range(2):
        write_report(finished, "smoke")
    assert not list(finished.glob("*.new*"))
    mine = {}
    for name in ("report.tex", "report.new1.tex"):  # who edits the new one, too, keeps both
        text = (finished / name).read_text(encoding="utf-8")
        text = text.replace("Your name", f"Åda of {name}")
        mine[name] = text.encode("latin-1", errors="replace")  # as an old editor might save it
        (finished / name).write_bytes(mine[name])
        write_report(finished, "smoke")
    assert mine == {name: (finished / name).read_bytes() for name in mine}
    assert "report.new2.tex is the new one" in capsys.readouterr().out
    assert "Your name" in (finished / "report.new2.tex").read_text(encoding="utf-8")


def test_a_report_is_written_where_there_are_no_notebooks_and_no_references(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "REFERENCES", tmp_path / "missing.bib")  # as Colab gets it
    assert write_report(tmp_path, "smoke").exists()
    assert not list(tmp_path.glob("*.bib"))


def test_the_page_leads_only_to_files_of_the_run_and_every_figure_has_its_words(finished):
    text = write_report(finished, "smoke").read_text(encoding="utf-8")
    links = set(re.findall(r'<a href="(.*?)"', text))
    assert links >= {f"{path.stem}.html" for path in NOTEBOOKS}
    for link in links - {"results.csv"}:  # which this fixture does not make, nor notebooks
        assert link.endswith(".ipynb") or (finished / link).is_file(), link
    assert "<script" not in text and "<link" not in text
    alts = dict(re.findall(r'<img src="figures/(.*?).png" alt="(.*?)"', text))
    assert list(alts) == ["what_skips_buy", "figure1_resnet18_architecture", "border_closeups"]
    assert (
        unescape(alts["border_closeups"]) == f"{CAPTIONS['border_closeups'][:-1]} (synthetic data)"
    )
    assert "http" not in text and "prefers-color-scheme: dark" in text and 'name="viewport"' in text


def test_the_terminal_shows_the_lines_of_a_training_and_nothing_else(capsys):
    terminal = Terminal("1_x")
    shown = ["U-Net, no skips:", "epoch   1/12  train loss 2.4", "plain, seed 2: 12 epochs, x 0.5"]
    terminal.write(f"{shown[0]}\nCPU, 2 threads, fp32\n{shown[1]}\n")
    terminal.write(f"folder: none\n{shown[2]}\n")
    assert capsys.readouterr().out.splitlines() == [f"1_x: {line}" for line in shown]
