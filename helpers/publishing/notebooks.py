"""Run the notebooks from outside."""

import os
import re
from pathlib import Path
from types import SimpleNamespace

from tqdm import tqdm

from helpers import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("[1-9]_*.ipynb"))

# nbconvert's own page gives no picture the text that it comes with, see ``helpers.figures.captioned``, and
# sets source code in Markdown outputs in a proportional font; JupyterLab does not.
PAGE = """{% extends "lab/index.html.j2" %}
{% block data_png %}
{% set alt = output | get_metadata("alt", "image/png") or "a picture" %}
{{ super() | replace("<img ", '<img alt="' ~ alt | escape_html ~ '" ', 1) }}
{% endblock data_png %}
{% block html_head_css %}
{{ super() }}
<style>.jp-RenderedMarkdown pre { font-family: monospace; font-size: 13px }</style>
{% endblock html_head_css %}
"""


class NotebookFailed(RuntimeError):
    """A cell raised; the executed part of the notebook is kept."""


def tell(text):
    """Pass the lines of a training on to the terminal, above the bar, while its cell still runs."""
    for line in re.findall(r"^(?:epoch +\d|.*, seed \d+: ).*", text, re.MULTILINE):
        tqdm.write(line)


def execute(source, folder, parameters):
    """Run one notebook into ``folder`` as .ipynb and .html; returns the path of the former."""
    import papermill

    executed = Path(folder) / source.name
    executed.parent.mkdir(parents=True, exist_ok=True)
    os.environ["COURSEWORK_HEADLESS"] = "1"  # a stored slider cannot be moved, a stored bar stands at 0 %
    os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"
    options = {"kernel_name": "python3", "cwd": ROOT, "extra_arguments": ["--log-level=40"]}
    options |= {"progress_bar": {"desc": source.stem}}
    options |= {"stdout_file": SimpleNamespace(write=tell, flush=lambda: None)}
    try:
        papermill.execute_notebook(source, executed, parameters, **options)
    except papermill.PapermillExecutionError as error:
        raise NotebookFailed(
            f"{executed}: cell {error.exec_count} stopped with {error.ename}: {error.evalue}"
        ) from None
    finally:
        del os.environ["COURSEWORK_HEADLESS"]
        if executed.exists():
            to_html(executed)
    return executed


def to_html(executed):
    """The same notebook as one HTML file beside it."""
    from nbconvert import HTMLExporter

    page, _ = HTMLExporter(embed_images=True, raw_template=PAGE).from_filename(executed)
    executed.with_suffix(".html").write_text(page, encoding="utf-8")
