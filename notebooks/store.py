"""Put the outputs of a run into the repository, for those who change or publish the notebooks.

``python notebooks/store.py reports/quick`` puts the outputs of that run into the notebooks beside
this file, and some of their figures into gallery/. A run of several seeds gives the README its
table and its figure instead. ``python -m helpers colab`` writes the project's address into the notebooks.
"""

import base64
import hashlib
import io
import re
import sys
import tomllib
from datetime import date
from pathlib import Path

import nbformat
from PIL import Image

from helpers import ROOT
from helpers.engine.files import written_beside
from helpers.photographs import photographs
from helpers.publishing.notebooks import NOTEBOOKS, STUDY, NotebookFailed
from helpers.results import saved_rows, show

COLAB = "https://colab.research.google.com"
WIDGET = "application/vnd.jupyter.widget-view+json"
JPEG = {"quality": 94, "subsampling": 0, "optimize": True}  # colours at full size
PLACE = ROOT / "notebooks" / "gallery"
LARGE = 20_000  # characters of an image in a notebook; GitHub shows no large notebook
GALLERY = (  # what notebooks/README.md shows of reports/quick/figures
    "border_closeups.png",
    "colorization_comparison.jpg",
    "learning_curves_residual_plain.png",
    "psnr_by_level.png",
    "red_mornings.jpg",
    "segmentation_comparison.jpg",
)
LIGHT = " + input lightness"
SUMMARY = (  # a line each of the README's table: its name, task and score, and the two networks
    ("birds: accuracy", "classification", "accuracy", "residual", "plain"),
    ("streets: mean IoU", "segmentation", "mean_iou", "U-Net", "U-Net, no skips"),
    ("landscapes: PSNR (dB)", "colorization", "psnr", "U-Net", "no skips"),
    ("… with the input's lightness", "colorization", "psnr", f"U-Net{LIGHT}", f"no skips{LIGHT}"),
    ("… ab error, less is better", "colorization", "ab_error", f"U-Net{LIGHT}", f"no skips{LIGHT}"),
)


def store_run(folder):
    """Keep what a run on synthetic data has left in ``folder``."""
    rows = saved_rows(folder)
    others = {row["data"] for row in rows if not row["data"].startswith("synthetic ")}
    if others or not rows:
        raise SystemExit(f"{folder} holds {', '.join(others) or 'no scores'}: only synthetic data is stored")
    seeds = max(row["seeds"] for row in rows if row["network"] == "residual")
    if seeds > 1:
        store_summary(folder, f"python -m helpers run --seeds {seeds}")
        store_gallery(folder / "figures", PLACE, ["what_skips_buy.png"])
        return
    for row in photographs():
        rows.append(row | {"network": f"photographs, {row['network']}"})
    for source in NOTEBOOKS + STUDY:
        store(folder / source.relative_to(ROOT / "notebooks"), source, rows)
    store_gallery(folder / "figures", PLACE)


def store(executed, source, rows=()):
    """Put the outputs of an executed copy into its source notebook, as the repository keeps it.

    Numbers in its prose become those of ``rows``, the run's scores, see ``renew_numbers``.

    The injected parameters go. So do widgets, since GitHub shows no notebook that has half of one,
    and time stamps and paths of this machine.
    """
    notebook = nbformat.read(source, 4)
    copy = nbformat.read(executed, 4)
    copy.cells = [c for c in copy.cells if "injected-parameters" not in c.metadata.get("tags", [])]
    if code_digest(notebook) != code_digest(copy):
        found = f"{executed} was made from other code than {source} now holds"
        raise NotebookFailed(f"{found}: run it again")
    for cell, ran in zip(notebook.cells, copy.cells, strict=True):
        if cell.cell_type == "code":
            shown = [output for output in ran.outputs if WIDGET not in output.get("data", {})]
            cell.outputs = [clean(output) for output in shown]
            cell.execution_count = ran.execution_count
        else:
            cell.source = renew_numbers(cell.source, rows, source.parent.name)
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        "outputs_of": code_digest(notebook),
    }
    with written_beside(source) as beside:
        nbformat.write(notebook, beside)


def renew_numbers(text, rows, folder):
    """Prose whose numbers come from the run: what stands between <!--network: score--> and <!--/-->.

    In a notebook of the study its own rows come before those of the lessons. What was measured on
    photographs is found as "photographs, network: score".
    """
    values = {}
    for row in sorted(rows, key=lambda row: (row["notebook"] == "study") == (folder == "study")):
        values[f"{row['network']}: {row['score']}"] = show(row["value"], row["low"], row["high"])

    def renewed(found):
        key = found[1]
        if key not in values:
            raise SystemExit(f"no score {key!r} in this run, but the prose of a notebook wants it")
        return f"<!--{key}-->{values[key].replace('-', '−')}<!--/-->"

    return re.sub("<!--([^>]+?)-->[^<]*<!--/-->", renewed, text)


def code_digest(notebook):
    """A digest of the code cells alone: equal where the stored outputs belong to the code.

    The project's address, which ``refer`` fills in, changes no output.
    """
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    code = [re.sub("^REPOSITORY = .*", "", source, flags=re.MULTILINE) for source in code]
    return hashlib.sha256("\0".join(code).encode()).hexdigest()


def clean(output):
    """One output without folders of this machine, and with a small image in place of a large one."""
    if "text" in output:
        output["text"] = without_folders(output["text"])
    data = output.get("data", {})
    for kind, content in data.items():
        if kind.startswith("text/"):
            data[kind] = without_folders(content)
    if len(data.get("image/png", "")) > LARGE:
        kind, content = smaller(base64.b64decode(data.pop("image/png")))
        data[kind] = base64.b64encode(content).decode()
    return output


def without_folders(text):
    return text.replace(str(ROOT), ".").replace(str(Path.home()), "~")


def smaller(png):
    """(MIME type, bytes) of the same image in the same colours, as JPEG where that is smaller."""
    image = Image.open(io.BytesIO(png)).convert("RGB")
    drawing = io.BytesIO()
    image.save(drawing, "PNG", optimize=True)
    photo = io.BytesIO()
    image.save(photo, "JPEG", **JPEG)
    if len(photo.getvalue()) < len(drawing.getvalue()):
        return "image/jpeg", photo.getvalue()
    return "image/png", drawing.getvalue()


def store_summary(folder, command):
    """The README's table between its two marks, from a run's scores and the command that made it."""
    rows = {(row["task"], row["network"], row["score"]): row for row in saved_rows(folder)}
    lines = [
        "| on synthetic data | with skips | without | strongest baseline | with − without |",
        "|---|---|---|---|---|",
    ]
    evidence = {}
    for name, task, score, one, other in SUMMARY:
        baseline = strongest(rows.values(), task, score)
        found = [rows[task, network, score] for network in (one, other, baseline, f"{one} − {other}")]
        cells = [show(row["value"], row["low"], row["high"]) for row in found]
        cells[2] += f" ({baseline})"
        evidence[found[-1]["units"]] = None  # in their order
        lines.append(f"| {name} | {' | '.join(cells).replace('-', '−')} |")
    made = f"Means with 95 % intervals over {found[-1]['seeds']} seeds and {', '.join(evidence)}"
    lines += ["", f"{made}, by `{command}`, {date.today()}."]
    put_between(ROOT / "README.md", "summary", "\n".join(lines))


def strongest(rows, task, score):
    """The baseline of a task that is best by a score. What a map of some stride can say is none."""
    values = {}
    for row in rows:
        ours = (row["task"], row["score"], row["seeds"]) == (task, score, 0)
        name = row["network"]
        is_part = " − " in name or ", " in name  # a difference, or some of the images
        if ours and not is_part and not name.startswith("ceiling"):
            values[name] = row["value"]
    best = min if score == "ab_error" else max
    return best(values, key=values.get)


def store_gallery(figures, place, names=GALLERY):
    """Small copies in ``place`` of the figures that the README shows."""
    for name in names:
        with Image.open((figures / name).with_suffix(".png")) as image:
            image.thumbnail((900, 900))
            save = image.convert("RGB").save
            if name.endswith("jpg"):
                save(place / name, **JPEG)
            else:
                save(place / name, optimize=True)


def refer():
    """Let Colab clone the project from ``Repository`` in pyproject.toml, where that has an address.

    The first cell of each notebook gets the address. Badges in the notebooks and in the README
    open them in Colab.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    address = project.get("urls", {}).get("Repository", "")
    if not address:
        return
    place = address.removesuffix(".git").replace("https://github.com", f"{COLAB}/github")
    badges = []
    for path in NOTEBOOKS + STUDY:
        link = f"{place}/blob/main/{path.relative_to(ROOT).as_posix()}"
        badge = f"[![Open {path.name} in Colab]({COLAB}/assets/colab-badge.svg)]({link})"
        badges.append(badge)

        notebook = nbformat.read(path, 4)
        head = notebook.cells[0]
        if head.source.startswith("[![Open"):
            head.source = head.source.partition("\n\n")[2]
        head.source = f"{badge}\n\n{head.source}"
        (first,) = (cell for cell in notebook.cells if "REPOSITORY = " in cell.source)
        line = f'REPOSITORY = "{address}"'
        first.source = re.sub("^REPOSITORY = .*", line, first.source, flags=re.MULTILINE)
        with written_beside(path) as beside:
            nbformat.write(notebook, beside)
    put_between(ROOT / "README.md", "colab", " ".join(badges))


def put_between(readme, name, text):
    """Replace what stands between the marks ``<!-- name -->`` and ``<!-- end of name -->``."""
    mark = f"<!-- {name} -->\n"
    end = f"<!-- end of {name} -->\n"
    before, _, rest = readme.read_text(encoding="utf-8").partition(mark)
    after = rest.partition(end)[2]
    with written_beside(readme) as beside:
        beside.write_text(f"{before}{mark}{text}\n{end}{after}", encoding="utf-8")


if __name__ == "__main__":
    store_run(Path(sys.argv[1]))
