"""What a run leaves for people: tables and an article for LaTeX, a page to look at."""

import errno
import json
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from matplotlib import rc_params_from_file
from matplotlib.figure import Figure
from PIL import Image

from helpers import galleries
from helpers.figures import STYLE, WIDEST
from helpers.presets import preset
from helpers.publishing.notebooks import NOTEBOOKS, execute, tell
from helpers.publishing.report import write_report
from helpers.results import COLUMNS, MAIN, Results, latex, main_tables, tex
from tests.test_notebooks import small
from tests.test_results_figures import DRAWINGS, DRAWN


def row(task, network, score, value=0.5, seeds=1, reported=None):
    place = [task, f"embedded drawn {task}", network, score]
    return dict(
        zip(COLUMNS, [*place, value, value - 0.1, value + 0.1, seeds, "29 scenes", reported], strict=True)
    )


PADDING = rc_params_from_file(STYLE)["savefig.pad_inches"]  # around a figure in its file
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


TITLES = {  # figures of a run, and what each says
    "figure1_resnet18_architecture": "Figure 1. ResNet-18 with 50 % & #more",
    "what_skips_buy": "In this run the skips are worth +0.35 → a lot",
    "border_closeups": None,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run at ``smoke``, with scores, three figures and the pages of its notebooks."""
    folder = tmp_path_factory.mktemp("run")
    pictures = np.random.default_rng(0).integers(0, 255, (6, 24, 32, 3), dtype=np.uint8)
    for name, title in TITLES.items():
        results = Results(folder, "classification", DRAWN, preset("smoke"))
        columns = {"picture": pictures, "truth <b>": pictures}
        results.figure(galleries.compare(columns, [0], title=title), name)
    (folder / "results.json").write_text(json.dumps(ROWS), encoding="utf-8")
    (folder / "results.tex").write_text(latex(ROWS), encoding="utf-8")
    for notebook in NOTEBOOKS:
        (folder / f"{notebook.stem}.html").touch()
    return folder


@pytest.fixture
def finished(tmp_path, run):
    """A copy of the run for one test alone, its files as old as they were."""
    return shutil.copytree(run, tmp_path, dirs_exist_ok=True)


def test_the_article_compiles_with_the_runs_figures_captions_tables_and_references(finished):
    write_report(finished, "smoke")
    text, told = compiled(finished, "report", "pdflatex", "bibtex", "pdflatex", "pdflatex")
    text = " ".join(text.split())
    assert "Figure 1: ResNet-18 with 50 % & #more (drawn data)" in text and "+0.35 → a lot" in text
    assert "(1 seed, 29 scenes)" in text and "[Your name]" in text and "Deep residual learning" in text
    batch = preset("smoke").classification.batch_size
    assert f"for 2 epochs, at 32 × 32 pixels, in batches of {batch}, by Adam" in text
    assert "figure3" not in text
    assert "undefined" not in told and "Overfull" not in told and "??" not in text


def test_an_edited_article_stays_and_the_new_one_stands_beside_it(finished, capsys):
    for _ in range(2):
        write_report(finished, "smoke")
    assert not list(finished.glob("*.new.*"))
    mine = {}
    for name in ("report.tex", "report.new.tex"):  # who edits the new one, too, keeps both
        text = (finished / name).read_text(encoding="utf-8").replace("Your name", f"Åda of {name}")
        mine[name] = text.encode("latin-1", errors="replace")  # as an old editor might save it
        (finished / name).write_bytes(mine[name])
        write_report(finished, "smoke")
    assert mine == {name: (finished / name).read_bytes() for name in mine}
    assert "report.new2.tex is the new one" in capsys.readouterr().out
    assert "Your name" in (finished / "report.new2.tex").read_text(encoding="utf-8")


@pytest.mark.parametrize("failing", ["report.tex", "references.bib", "index.html"])
def test_a_full_disk_leaves_what_was_there(finished, monkeypatch, failing):
    write_report(finished, "smoke")
    before, write = {p.name: p.read_bytes() for p in finished.iterdir() if p.is_file()}, Path.write_text

    def half(path, text, **kwargs):
        if path.name.startswith(failing):
            write(path, text[: len(text) // 2], **kwargs)
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, text, **kwargs)

    monkeypatch.setattr(Path, "write_text", half)
    with pytest.raises(OSError, match=f"{failing}: cannot be written .* intact"):
        write_report(finished, "smoke")
    assert {p.name: p.read_bytes() for p in finished.iterdir() if p.is_file()} == before


class Page(HTMLParser):
    """What a page shows and leads to."""

    def __init__(self, path):
        super().__init__()
        self.found = {"img": [], "a": [], "script": [], "link": []}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        self.found.get(tag, []).append(dict(attributes))


def test_the_page_leads_only_to_files_of_the_run_and_every_picture_has_its_words(finished):
    page = Page(write_report(finished, "smoke"))
    for link in page.found["a"]:
        if link["href"] != "results.csv" and not link["href"].endswith(".ipynb"):  # not made by this fixture
            assert (finished / link["href"]).is_file(), link
    assert not page.found["script"] and not page.found["link"]
    alts = {image["src"]: image["alt"] for image in page.found["img"]}
    assert list(alts) == [
        "figures/what_skips_buy.png",
        "figures/figure1_resnet18_architecture.png",
        "figures/border_closeups.png",
    ]
    assert alts["figures/border_closeups.png"] == "Border closeups: picture, truth <b> (drawn data)"
    assert {link["href"] for link in page.found["a"]} >= {f"{path.stem}.html" for path in NOTEBOOKS}
    text = (finished / "index.html").read_text(encoding="utf-8")
    assert "http" not in text and "prefers-color-scheme: dark" in text and 'name="viewport"' in text


def test_a_figure_is_no_wider_than_a_column_and_no_letter_smaller_than_seven_points(tmp_path, monkeypatch):
    results, widths = Results(tmp_path, "x", DRAWN, preset("quick")), {}
    with monkeypatch.context() as patched:
        patched.setattr(Figure, "savefig", lambda *_, **__: None)  # writing them all takes most of a minute
        for name, draw in DRAWINGS.items():
            figure = results.figure(draw(), "figure")
            figure.draw_without_rendering()
            widths[name] = figure.get_tightbbox().width + 2 * PADDING
            assert widths[name] <= WIDEST + 0.1, name
            texts = figure.findobj(lambda part: hasattr(part, "get_fontsize"))
            assert min(text.get_fontsize() for text in texts if text.get_text()) >= 7, name
    results.figure(draw(), "figure")
    with Image.open(tmp_path / "figures" / "figure.png") as picture:
        assert picture.size[0] / 300 == pytest.approx(widths[name], abs=0.05)
    pdf = (tmp_path / "figures" / "figure.pdf").read_bytes()
    assert b"/FontFile2" in pdf and b"/Type3" not in pdf


def test_a_notebooks_page_gives_every_picture_its_title_as_words(tmp_path):
    draw = "from helpers import figures\nfigures.class_counts([3, 5, 4])"
    page = Page(execute(small(tmp_path / "1_x.ipynb", draw), tmp_path / "out", {}).with_suffix(".html"))
    (image,) = page.found["img"]
    assert image["alt"] == "Between 3 and 5 images a class, 12 in all" and image["src"].startswith(
        "data:image/png"
    )


def test_the_terminal_shows_the_lines_of_a_training_and_nothing_else(capsys):
    tell("1_x", "U-Net, no skips:\nCPU, 2 threads, fp32\nepoch   1/12  train loss 2.4\nfolder: none\n")
    tell("1_x", "plain, seed 2: 12 epochs, validation accuracy 0.5\n")
    assert capsys.readouterr().out.splitlines() == [
        "1_x: U-Net, no skips:",
        "1_x: epoch   1/12  train loss 2.4",
        "1_x: plain, seed 2: 12 epochs, validation accuracy 0.5",
    ]
