"""What a run leaves for people: tables and an article for LaTeX, a page to look at."""

import json
import re
import shutil
import subprocess
from html import escape, unescape

import pytest
from PIL import Image

from helpers.presets import preset
from helpers.publishing.notebooks import NOTEBOOKS, Terminal
from helpers.publishing.report import write_report
from helpers.publishing.tables import COLUMNS, MAIN, latex, main_tables, tex
from helpers.results import Results
from tests.test_results import SYNTHETIC, chart


def row(task, network, score, value=0.5, seeds=1, reported=None, how="width 16", notebook="lesson"):
    place = [task, f"synthetic {task}", network, score]
    cells = [*place, value, value - 0.1, value + 0.1, seeds, "29 scenes", reported, "quick", how]
    cells += [notebook]
    return dict(zip(COLUMNS, cells, strict=True))


ROWS = [
    row(task, name, score) for task in MAIN for name in ("U-Net", "plain") for score in MAIN[task]
]
ROWS += [row("segmentation", "U-Net − plain", score, -0.5) for score in MAIN["segmentation"][:2]]
ROWS += [row("segmentation", "nearest_image 100 %", "mean_iou", seeds=0)]
ROWS += [row("segmentation", "half", "mean_iou")]
ROWS += [
    row("segmentation", "the study's", score, notebook="study") for score in MAIN["segmentation"]
]


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


def test_a_table_for_a_paper_tells_networks_apart_that_were_trained_in_different_ways():
    assert "trained how" not in main_tables(ROWS)["colorization"][1]
    halved = [row("colorization", "half", score, how="width 8") for score in ("psnr", "ssim")]
    baseline = row("colorization", "grey copy", "psnr", seeds=0, how="")
    (_, table) = main_tables([*ROWS, *halved, baseline])["colorization"]
    assert table["trained how"].tolist() == ["width 16", "width 16", "width 8", ""]
    older = [{**one, "preset": None, "trained how": None, "notebook": None} for one in ROWS[:-3]]
    assert latex(older) == latex(ROWS)
    smoke = [{**one, "preset": "smoke"} for one in ROWS]
    assert latex(smoke).count("scores of smoke mean nothing") == 3


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
    "figure1_resnet18_architecture": "ResNet-18 with 50 % & #more.",
    "what_skips_buy": "In this run the skips are worth +0.35 → a lot.",
    "border_closeups": "An image beside <b>its</b> truth.",
}


@pytest.fixture
def finished(tmp_path):
    """The folder of a run at ``quick``: scores, three figures, the pages of its notebooks."""
    results = Results(tmp_path, "classification", SYNTHETIC, preset("quick"))
    for name, caption in CAPTIONS.items():
        results.figure(chart(), name, caption)
    (tmp_path / "results.json").write_text(json.dumps(ROWS), encoding="utf-8")
    (tmp_path / "results.tex").write_text(latex(ROWS), encoding="utf-8")
    for notebook in NOTEBOOKS:
        for suffix in ("html", "ipynb"):
            (tmp_path / f"{notebook.stem}.{suffix}").touch()
    return tmp_path


def test_the_article_compiles_with_the_runs_figures_captions_tables_and_references(finished):
    write_report(finished, "quick")
    source = (finished / "report.tex").read_text(encoding="utf-8")
    assert r"\caption{ResNet-18 with 50 \% \& \#more (synthetic data)}" in source
    assert r"\input{results.tex}" in source and "figure3" not in source
    assert source.index(r"\includegraphics") < source.index(r"\clearpage")
    assert source.index(r"\clearpage") < source.index(r"\bibliography{")
    assert "mean nothing" not in source
    text, told = compiled(finished, "report", "pdflatex", "bibtex", "pdflatex", "pdflatex")
    assert "+0.35 → a lot (synthetic data)" in text and "Deep residual learning" in text
    assert "(1 seed, 29 scenes)" in text and "[Your name]" in text
    batch = preset("quick").classification.batch_size
    assert f"for 10 epochs, at 64 × 64 pixels, in batches of {batch}, by Adam" in text
    assert "undefined" not in told and "Overfull" not in told and "??" not in text


def test_an_edited_article_stays_and_the_new_one_stands_beside_it(finished, capsys):
    for _ in range(2):
        write_report(finished, "quick")
    assert not list(finished.glob("*.new*"))
    mine = {}
    for name in ("report.tex", "report.new1.tex"):  # who edits the new one, too, keeps both
        text = (finished / name).read_text(encoding="utf-8")
        text = text.replace("Your name", f"Åda of {name}")
        mine[name] = text.encode("latin-1", errors="replace")  # as an old editor might save it
        (finished / name).write_bytes(mine[name])
        write_report(finished, "quick")
    assert mine == {name: (finished / name).read_bytes() for name in mine}
    assert "report.new2.tex is the new one" in capsys.readouterr().out
    assert "Your name" in (finished / "report.new2.tex").read_text(encoding="utf-8")


def test_the_page_has_tables_and_figures_where_no_notebook_was_run_into_the_folder(finished):
    for path in [
        *finished.glob("*.html"),
        *finished.glob("*.ipynb"),
    ]:  # as in Colab, in Kaggle and in JupyterLab
        path.unlink()
    Image.new("RGB", (9, 9)).save(finished / "figures" / "mine.png")  # without a title
    text = write_report(finished, "quick").read_text(encoding="utf-8")
    assert text.count("<table>") == 3 and text.count("<img") == 3 and ".ipynb" not in text
    assert (finished / "references.bib").exists()


def test_the_page_leads_to_the_notebook_that_the_last_run_has_written(finished):
    (finished / "1_classification.new1.html").touch()
    text = write_report(finished, "quick").read_text(encoding="utf-8")
    assert 'href="1_classification.new1.html"' in text and 'href="2_segmentation.html"' in text
    assert text.count("<h2>") == 3 and 'href="1_classification.html"' not in text


def test_page_and_article_of_smoke_say_above_everything_that_its_scores_mean_nothing(finished):
    text = write_report(finished, "smoke").read_text(encoding="utf-8")
    parts = [part for part in re.split("<h[12]>", text)[1:] if "<img" in part or "<table>" in part]
    assert len(parts) == 4
    for part in parts:
        assert part.index("Scores of smoke mean nothing") < part.index(
            "<img" if "<img" in part else "<table>"
        )
    source = (finished / "report.tex").read_text(encoding="utf-8")
    assert source.index("Scores of smoke mean nothing") < source.index(r"\input{results.tex}")


def test_the_page_leads_only_to_files_of_the_run_and_every_figure_has_its_words(finished):
    text = write_report(finished, "quick").read_text(encoding="utf-8")
    links = set(re.findall(r'<a href="(.*?)"', text))
    assert links >= {f"{path.stem}.html" for path in NOTEBOOKS}
    for link in links - {"results.csv"}:  # which this fixture does not make
        assert (finished / link).is_file(), link
    assert "<script" not in text and "<link" not in text
    alts = dict(re.findall(r'<img src="figures/(.*?).png" alt="(.*?)"', text))
    assert list(alts) == ["what_skips_buy", "figure1_resnet18_architecture", "border_closeups"]
    assert (
        unescape(alts["border_closeups"]) == f"{CAPTIONS['border_closeups'][:-1]} (synthetic data)"
    )
    assert f"<figcaption>{escape(CAPTIONS['border_closeups'][:-1])} (synthetic data)<" in text
    assert "http" not in text and "prefers-color-scheme: dark" in text and 'name="viewport"' in text


def test_the_terminal_shows_the_lines_of_a_training_and_nothing_else(capsys):
    terminal = Terminal("1_x")
    shown = ["U-Net, no skips:", "epoch   1/12  train loss 2.4", "plain, seed 2: 12 epochs, x 0.5"]
    terminal.write(f"{shown[0]}\nCPU, 2 threads, fp32\n{shown[1]}\n")
    terminal.write(f"folder: none\n{shown[2]}\n")
    assert capsys.readouterr().out.splitlines() == [f"1_x: {line}" for line in shown]
