"""Put the outputs of an executed run into the notebooks beside this file, its pictures into gallery/, and
the scores of one over several seeds into the README; and the project's address into all of them.

``python -m helpers run --store`` and ``colab`` do it; only for those who change or publish the notebooks.
"""

import base64
import hashlib
import io
import json
import re
import tomllib
from datetime import date
from pathlib import Path

import nbformat
from PIL import Image

from helpers import ROOT
from helpers.engine.files import written_beside
from helpers.publishing.notebooks import NOTEBOOKS, NotebookFailed
from helpers.results import joined, show

COLAB = "https://colab.research.google.com"
WIDGET = "application/vnd.jupyter.widget-view+json"
GALLERY = (  # what the README shows of reports/quick/figures
    "border_closeups",
    "colorization_comparison",
    "learning_curves_residual_plain",
    "psnr_by_level",
    "red_mornings",
    "segmentation_comparison",
    "what_skips_buy",
)
SUMMARY = (  # a line of the README's table each
    ("birds: accuracy", "classification", "accuracy", "residual", "plain", "colour histogram"),
    ("streets: mean IoU", "segmentation", "mean_iou", "U-Net", "U-Net, no skips", "nearest picture"),
    ("… near borders", "segmentation", "border_mean_iou", "U-Net", "U-Net, no skips", "nearest picture"),
    ("landscapes: PSNR (dB)", "colorization", "psnr", "U-Net", "no skips", "grey copy"),
    ("… ab error", "colorization", "ab_error", "U-Net", "no skips", "mean colour by row and grey"),
)


def code_digest(notebook):
    """A digest of the code cells alone: equal where the stored outputs belong to the code.

    Where the project is cloned from, which ``python -m helpers colab`` fills in, changes no output.
    """
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    code = [re.sub("^REPOSITORY = .*", "", source, flags=re.MULTILINE) for source in code]
    return hashlib.sha256("\0".join(code).encode()).hexdigest()


def store(executed, source):
    """Put the outputs of an executed copy into its source notebook, as the repository keeps it.

    The injected parameters go, and so do widgets (GitHub shows no notebook that has half of one), time
    stamps and paths of this machine.
    """
    notebook, fresh = nbformat.read(source, 4), nbformat.read(executed, 4)
    run = [cell for cell in fresh.cells if "injected-parameters" not in cell.metadata.get("tags", [])]
    if code_digest(notebook) != code_digest(nbformat.from_dict({**fresh, "cells": run})):
        raise NotebookFailed(f"{executed} was made from other code than {source} now holds: run it again")
    for cell, ran in zip(notebook.cells, run, strict=True):
        if cell.cell_type == "code":
            cell.outputs = [clean(output) for output in ran.outputs if WIDGET not in output.get("data", {})]
            cell.execution_count = ran.execution_count
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        "outputs_of": code_digest(notebook),
    }
    with written_beside(source) as beside:
        nbformat.write(notebook, beside)


def clean(output):
    """One output without folders of this machine; small pictures, for GitHub shows no large notebook."""
    data = output.get("data", {})
    for holder, key in [(output, "text")] + [(data, key) for key in data if key.startswith("text/")]:
        if isinstance(holder.get(key), str):
            holder[key] = holder[key].replace(str(ROOT), ".").replace(str(Path.home()), "~")
    if len(data.get("image/png", "")) > 20_000:
        original = base64.b64decode(data.pop("image/png"))
        photo, drawing, picture = io.BytesIO(), io.BytesIO(), Image.open(io.BytesIO(original)).convert("RGB")
        picture.save(photo, "JPEG", quality=85)
        picture.quantize(256, dither=Image.Dither.NONE).save(drawing, "PNG", optimize=True)
        small = 2 * len(photo.getvalue()) < len(original)
        kind, file = ("image/jpeg", photo) if small else ("image/png", drawing)
        data[kind] = base64.b64encode(file.getvalue()).decode()
    return output


def store_summary(results, command):
    """The README's table between its two marks, from ``results.json`` and the command that made it."""
    rows = {(r["task"], r["network"], r["score"]): r for r in json.loads(results.read_text(encoding="utf-8"))}
    lines = [
        "| on drawn data | with skips | without | a baseline | with − without | evidence |",
        "|---|---|---|---|---|---|",
    ]
    for what, task, score, one, other, baseline in SUMMARY:
        cells = [rows[task, name, score] for name in (one, other, baseline, f"{one} − {other}")]
        shown = [show(cell["value"], cell["low"], cell["high"]) for cell in cells]
        shown[2] += f" ({baseline})"
        lines.append(f"| {what} | {' | '.join(shown)} | {joined(cells[3]['seeds'], cells[3]['units'])} |")
    made = f"Means over seeds with 95 % intervals over seeds and test units, by `{command}`, {date.today()}."
    put_into_readme("summary", "\n".join([*lines, "", made]))


def put_into_readme(name, text):
    """Between its marks ``<!-- name -->`` and ``<!-- end of name -->``, instead of what stands there."""
    readme, mark, end = ROOT / "README.md", f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"
    before, _, rest = readme.read_text(encoding="utf-8").partition(mark)
    with written_beside(readme) as beside:
        beside.write_text(f"{before}{mark}{text}\n{end}{rest.partition(end)[2]}", encoding="utf-8")


def store_gallery(figures):
    """Small copies of the README's pictures, beside the notebooks that made them."""
    place = ROOT / "notebooks" / "gallery"
    place.mkdir(exist_ok=True)
    for name in GALLERY:
        with Image.open(figures / f"{name}.png") as picture:
            picture.thumbnail((900, 900))
            picture.convert("RGB").quantize(128).save(place / f"{name}.png", optimize=True)


def refer():
    """Let Colab clone the project from ``Repository`` in pyproject.toml, where there is such an address: each
    notebook's first cell gets it, and badges in the notebooks and the README open them there."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    address, badges = project.get("urls", {}).get("Repository", ""), []
    if not address:
        return
    place = address.removesuffix(".git").replace("https://github.com", f"{COLAB}/github")
    for path in NOTEBOOKS:
        link = f"{place}/blob/main/notebooks/{path.name}"
        badges.append(f"[![Open {path.name} in Colab]({COLAB}/assets/colab-badge.svg)]({link})")
        notebook = nbformat.read(path, 4)
        head, first = notebook.cells[0], next(c for c in notebook.cells if c.cell_type == "code")
        text = head.source.partition("\n\n")[2] if head.source.startswith("[![Open") else head.source
        head.source = f"{badges[-1]}\n\n{text}"
        new = f'REPOSITORY = "{address}"'
        first.source = re.sub("^REPOSITORY = .*", new, first.source, flags=re.MULTILINE)
        with written_beside(path) as beside:
            nbformat.write(notebook, beside)
    put_into_readme("colab", " ".join(badges))
