"""From what a run has left, scores and figures, to an article in LaTeX and a page to look at."""

import hashlib
import os
import re
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from helpers import ROOT
from helpers.engine.files import written_beside
from helpers.presets import preset
from helpers.publishing.tables import main_tables, tex
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
REFERENCES = ROOT / "notebooks/references.bib"


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
        "notebooks": {
            path.stem.partition("_")[2]: path.stem for path in sorted(folder.glob("[1-9]_*.html"))
        },
    }
    write_unedited(folder / "report.tex", LATEX.get_template("report.tex.j2").render(about))
    if REFERENCES.exists():  # not in what Colab gets
        write_unedited(folder / "references.bib", REFERENCES.read_text(encoding="utf-8"))

    page = folder / "index.html"
    with written_beside(page) as beside:
        beside.write_text(HTML.get_template("index.html.j2").render(about), encoding="utf-8")
    return page


def saved_figures(folder):
    """{name: {"caption", "task", "size"}} of a run's figures, the oldest first."""
    figures = {}
    for path in sorted((folder / "figures").glob("*.png"), key=os.path.getmtime):
        with Image.open(path) as image:
            figures[path.stem] = {
                "caption": image.info.get("Title", path.stem),
                "task": image.info.get("Subject"),
                "size": image.size,
            }
    return figures


def in_latex(caption):
    """A figure's caption for LaTeX, which counts figures itself."""
    return tex(re.sub(r"^Figure \d+\. ", "", caption))


LATEX.filters["caption"] = in_latex


def write_unedited(path, text):
    """Write a text whose first line holds its digest.

    Where somebody has edited what an earlier run wrote there, write beside it: to NAME.new1.tex,
    NAME.new2.tex …, the first of them that nobody has edited.
    """
    place = path
    number = 0
    while place.exists() and is_edited(place):
        number += 1
        place = path.with_name(f"{path.stem}.new{number}{path.suffix}")
    if number:
        print(f"{place.name} is the new one: {path.name} was edited, and stays as it is")
    with written_beside(place) as beside:
        beside.write_text(marked(text), encoding="utf-8")


def marked(text):
    """``text`` below a line with its digest, by which an edited text is known."""
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    rule = "written by a run; a later one leaves it alone once you have edited it"
    return f"% {digest}: {rule}\n{text}"


def is_edited(path):
    found = path.read_text(encoding="utf-8", errors="replace")
    return found != marked(found.partition("\n")[2])
