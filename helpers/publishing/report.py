"""From what a run has left, scores and figures, to an article in LaTeX and a page to look at."""

import os
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from helpers.engine.files import written_beside
from helpers.presets import preset
from helpers.publishing.edited import write_text
from helpers.publishing.tables import CAUTION, MAIN, main_tables, tex
from helpers.results import saved_rows

TEMPLATES = {
    "loader": FileSystemLoader(Path(__file__).parent),
    "undefined": StrictUndefined,
    "trim_blocks": True,
}
HTML = Environment(**TEMPLATES, autoescape=True)
LATEX = Environment(  # whose braces and per cent signs are LaTeX's own
    **TEMPLATES,
    block_start_string="<%",
    block_end_string="%>",
    variable_start_string="<<",
    variable_end_string=">>",
    comment_start_string="<#",
    comment_end_string="#>",
)
LATEX.filters["tex"] = tex
REFERENCES = Path(__file__).parents[2] / "notebooks/references.bib"


def write_report(folder, chosen):
    """Write ``report.tex``, ``references.bib`` and ``index.html`` from what a run has left.

    Args:
        folder: that of the run. An article in it that somebody has edited stays as it is.
        chosen: the name of the run's preset.

    Returns the path of ``index.html``.
    """
    about = {
        "name": folder.name,
        "preset": preset(chosen),
        "figures": saved_figures(folder),
        "tables": main_tables(saved_rows(folder)),
        "notebooks": saved_notebooks(folder),
        "tasks": MAIN,
        "caution": CAUTION,
    }
    write_text(folder / "report.tex", LATEX.get_template("report.tex.j2").render(about))
    write_text(folder / "references.bib", REFERENCES.read_text(encoding="utf-8"))

    page = folder / "index.html"
    with written_beside(page) as beside:
        beside.write_text(HTML.get_template("index.html.j2").render(about), encoding="utf-8")
    return page


def saved_figures(folder):
    """{name: {"Title", "Subject", "size"}} of a run's figures, the oldest first."""
    figures = {}
    for path in sorted((folder / "figures").glob("*.png"), key=os.path.getmtime):
        with Image.open(path) as image:
            figures[path.stem] = {"size": image.size, "Subject": None, **image.info}
    return figures


def saved_notebooks(folder):
    """{"classification": the last executed notebook of that name in ``folder``, or in study/}.

    A notebook is its path from ``folder``, without suffix.
    """
    pages = [*folder.glob("[1-9]_*.html"), *folder.glob("study/[1-9]_*.html")]
    found = {}
    for page in sorted(sorted(pages), key=os.path.getmtime):
        name = page.stem.partition("_")[2].partition(".")[0]  # of "1_classification.new1"
        found[name] = page.relative_to(folder).with_suffix("").as_posix()
    return found
