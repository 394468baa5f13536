"""Run the notebooks from outside, and store their executed selves in the repository."""

import base64
import hashlib
import io
import os
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[1-9]_*.ipynb"))
WIDGET = "application/vnd.jupyter.widget-view+json"
GALLERY = (  # what the README shows of reports/quick/figures
    "border_closeups",
    "colorization_comparison",
    "learning_curves_residual_plain",
    "psnr_by_level",
    "red_mornings",
    "segmentation_comparison",
)


class NotebookFailed(RuntimeError):
    """A cell raised; the executed part of the notebook is kept."""


def execute(source, folder, parameters):
    """Run one notebook into ``folder`` as .ipynb and .html; returns the path of the former."""
    import papermill

    executed = Path(folder) / source.name
    executed.parent.mkdir(parents=True, exist_ok=True)
    os.environ["COURSEWORK_HEADLESS"] = "1"  # a stored slider cannot be moved, a stored bar stands at 0 %
    os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"
    try:
        papermill.execute_notebook(
            source,
            executed,
            parameters,
            kernel_name="python3",
            cwd=ROOT,
            progress_bar={"desc": source.stem},
            extra_arguments=["--log-level=40"],
        )
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

    page, _ = HTMLExporter(embed_images=True).from_notebook_node(nbformat.read(executed, 4))
    # nbconvert's page shows source code in Markdown outputs in a proportional font; JupyterLab does not.
    rule = "<style>.jp-RenderedMarkdown pre { font-family: monospace; font-size: 13px }</style>"
    page = page.replace("</head>", f"{rule}</head>", 1)
    executed.with_suffix(".html").write_text(page, encoding="utf-8")


def code_digest(notebook):
    """A digest of the code cells alone: equal where the stored outputs belong to the code."""
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    return hashlib.sha256("\0".join(code).encode()).hexdigest()


def store(executed, source):
    """Put the outputs of an executed copy into its source notebook, as the repository keeps it.

    The injected parameters go, and so do widget state (GitHub shows no notebook that has half of it),
    time stamps and paths of this machine.
    """
    notebook, fresh = nbformat.read(source, 4), nbformat.read(executed, 4)
    run = [cell for cell in fresh.cells if "injected-parameters" not in cell.metadata.get("tags", [])]
    if code_digest(notebook) != code_digest(nbformat.from_dict({**fresh, "cells": run})):
        raise NotebookFailed(f"{executed} was made from other code than {source} now holds: run it again")
    for cell, ran in zip(notebook.cells, run, strict=True):
        if cell.cell_type == "code":
            # A widget without its kernel is a dead "0 %".
            cell.outputs = [clean(o) for o in ran.outputs if WIDGET not in o.get("data", {})]
            cell.execution_count = ran.execution_count
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        "outputs_of": code_digest(notebook),
    }
    beside = source.with_suffix(".part")
    nbformat.write(notebook, beside)
    os.replace(beside, source)


def store_gallery(figures):
    """Small copies of the README's pictures, beside the notebooks that made them."""
    from PIL import Image

    place = ROOT / "notebooks" / "gallery"
    place.mkdir(exist_ok=True)
    for name in GALLERY:
        with Image.open(figures / f"{name}.png") as picture:
            picture = picture.convert("RGB")
            picture.thumbnail((900, 900))
            picture = picture.quantize(128)
            picture.save(place / f"{name}.png", optimize=True)


def clean(output):
    """One output without folders of this machine; big pictures as JPEG if smaller."""
    data = output.get("data", {})
    for holder, key in [(output, "text")] + [(data, key) for key in data if key.startswith("text/")]:
        if isinstance(holder.get(key), str):
            holder[key] = holder[key].replace(str(ROOT), ".").replace(str(Path.home()), "~")
    if len(data.get("image/png", "")) > 60_000:
        from PIL import Image

        file = io.BytesIO()
        Image.open(io.BytesIO(base64.b64decode(data["image/png"]))).convert("RGB").save(
            file, "JPEG", quality=85
        )
        if 2 * len(file.getvalue()) < len(data["image/png"]):
            del data["image/png"]
            data["image/jpeg"] = base64.b64encode(file.getvalue()).decode()
    return output
