"""From what a run has left, scores and figures, to an article in LaTeX and a page to look at."""

import hashlib
import re
from itertools import chain, count
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from helpers.engine.files import written_beside
from helpers.presets import preset
from helpers.publishing.notebooks import NOTEBOOKS
from helpers.results import main_tables, saved_rows, tex
from helpers.tasks import TASKS

HERE = Path(__file__).parent
HOW = {"loader": FileSystemLoader(HERE), "undefined": StrictUndefined, "trim_blocks": True}
HTML = Environment(autoescape=True, **HOW)
LATEX = Environment(  # whose braces and per cent signs are LaTeX's own
    block_start_string="<%", block_end_string="%>", variable_start_string="<<", variable_end_string=">>",
    comment_start_string="<#", comment_end_string="#>", **HOW
)  # fmt: skip
LATEX.filters["caption"] = lambda text: tex(re.sub(r"^Figure \d+\. ", "", text))  # LaTeX counts itself


def write_report(folder, chosen):
    """Write ``report.tex``, ``references.bib`` and ``index.html`` into the ``folder`` of a run at the preset
    named ``chosen``, from what it holds; returns the page's path. An edited article stays as it is."""
    folder = Path(folder)
    about = {"name": folder.name, "preset": preset(chosen), "figures": saved_figures(folder)}
    about["tables"] = {task: (caption, table) for task, caption, table in main_tables(saved_rows(folder))}
    there = [path.stem for path in NOTEBOOKS if (folder / f"{path.stem}.html").exists()]
    about["notebooks"] = {task: stem for task in TASKS for stem in there if stem.endswith(task)}
    write_unedited(folder / "report.tex", LATEX.get_template("report.tex.j2").render(about))
    papers = NOTEBOOKS[0].with_name("references.bib")
    write_unedited(folder / papers.name, papers.read_text(encoding="utf-8"))
    page = folder / "index.html"
    with written_beside(page) as beside:
        beside.write_text(HTML.get_template("index.html.j2").render(about), encoding="utf-8")
    return page


def saved_figures(folder):
    """{name: {"caption", "task", "size"}} of a run's figures in the order of their making, see
    ``Results.figure``."""
    figures = {}
    for path in sorted((folder / "figures").glob("*.png"), key=lambda path: path.stat().st_mtime_ns):
        with Image.open(path) as picture:
            caption, task = picture.info.get("Title", path.stem), picture.info.get("Subject")
            figures[path.stem] = {"caption": caption, "task": task, "size": picture.size}
    return figures


def write_unedited(path, text):
    """Write ``text``; where somebody has edited what an earlier run wrote, beside it, as NAME.new.tex,
    NAME.new2.tex …: the first of them that nobody has touched."""

    def marked(body):
        digest = hashlib.sha256(body.encode()).hexdigest()[:16]
        return f"% {digest}: written by a run; a later one leaves it alone once you have edited it\n{body}"

    def edited(place):
        old = place.read_text(encoding="utf-8", errors="replace") if place.exists() else marked("")
        return old != marked(old.partition("\n")[2])

    names = (f"{path.stem}.new{number if number > 1 else ''}{path.suffix}" for number in count(1))
    place = next(place for place in chain([path], map(path.with_name, names)) if not edited(place))
    if place != path:
        print(f"{place.name} is the new one: what stands before it was edited, and stays")
    with written_beside(place) as beside:
        beside.write_text(marked(text), encoding="utf-8")
