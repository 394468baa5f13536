"""The notebooks as ``python -m helpers`` runs and stores them, and its other commands."""

import io
import json
import os
import re
import sys
import threading
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image
from skimage.color import deltaE_ciede2000, rgb2lab

from helpers import ROOT, headless, image_figures
from helpers.data import prepare
from helpers.publishing import colab, commands, notebooks
from helpers.publishing.commands import main
from helpers.publishing.edited import write_notebook
from helpers.publishing.notebooks import NOTEBOOKS, STUDY, NotebookFailed, execute
from helpers.tasks import TASKS
from notebooks.store import code_digest, renew_numbers, smaller, store, store_gallery, strongest
from tests.data.making import make_landscapes, make_streets, mask_image, photo

BASELINES = """chance; nearest thumbnail; colour histogram; majority class; nearest image
ceiling, stride 32; ceiling, stride 16; ceiling, stride 8; grey copy; mean colour by row and grey"""


def small(path, *sources):
    cells = [new_code_cell('OUT = ""', metadata={"tags": ["parameters"]})]
    cells += [new_code_cell(source) for source in sources]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(new_notebook(cells=cells, metadata=kernel), path)
    return path


@pytest.fixture
def changed(tmp_path, monkeypatch):
    """A function that has copies of the notebooks run instead, each ``change``d before."""

    def changed(change):
        copies = []
        (tmp_path / "notebooks/study").mkdir(parents=True)
        for path in NOTEBOOKS + STUDY:
            notebook = nbformat.read(path, 4)
            change(notebook)
            copies.append(tmp_path / path.relative_to(ROOT))
            nbformat.write(notebook, copies[-1])
        for module in (commands, colab):
            monkeypatch.setattr(module, "NOTEBOOKS", copies[:3])
            monkeypatch.setattr(module, "STUDY", copies[3:])

    return changed


def test_all_notebooks_run_at_smoke_and_leave_what_the_readme_promises(tmp_path):
    main(["run", "1", "2", "3", "study", "--preset", "smoke", "--out", str(tmp_path)])
    study = {path.name for path in (tmp_path / "study").iterdir()}
    assert study == {f"{path.stem}{suffix}" for path in STUDY for suffix in (".ipynb", ".html")}
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert all(f'href="study/{path.stem}.html"' in page for path in STUDY)
    wanted = {f"{path.stem}{suffix}" for path in NOTEBOOKS for suffix in (".ipynb", ".html")}
    wanted |= {"results.csv", "results.json", "results.tex", "report.tex", "references.bib"}
    assert wanted | {"index.html"} <= {path.name for path in tmp_path.iterdir()}
    figures = {path.name for path in (tmp_path / "figures").iterdir()}
    names = {Path(name).stem for name in figures}
    assert figures == {f"{name}.{suffix}" for name in names for suffix in ("pdf", "png")}
    study = (ROOT / "notebooks/README.md").read_text(encoding="utf-8").partition("## The study")[2]
    rows = re.findall(r"^\| (`.*?) \|", study.partition("Results on photographs")[0], re.MULTILINE)
    promised = set(re.findall(r"`(\w+)`", " ".join(rows)))
    assert len(promised) > 15 and names >= promised
    for number in range(1, 7):
        assert any(name.startswith(f"figure{number}_") for name in names), f"figure {number}"

    rows = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert {row["task"] for row in rows} == set(TASKS)
    for row in rows:
        untrained = 3 * ("untrained" in row["network"])  # first weights cost nothing
        assert row["seeds"] in (0, untrained or 1) and row["units"].split()[0].isdecimal()
    assert {row["network"] for row in rows if not row["seeds"]} >= set(re.split("; |\n", BASELINES))
    for path in NOTEBOOKS + STUDY:
        tables = tables_of_scores(tmp_path / path.relative_to(ROOT / "notebooks"))
        assert tables
        for table in tables:
            assert "evidence" in table or "seed" in table or "preset" in table


def tables_of_scores(path):
    """The plain text of every table with an interval in an executed notebook without errors."""
    outputs = [o for cell in nbformat.read(path, 4).cells for o in cell.get("outputs", [])]
    assert not [output for output in outputs if output.output_type == "error"]
    tables = [o.data["text/plain"] for o in outputs if "text/html" in o.get("data", {})]
    return [text for text in tables if re.search(r"\d \[-?\d", text)]


def test_the_smallest_sets_of_ones_own_run_to_the_end_in_one_epoch_with_odd_names(
    tmp_path, changed, monkeypatch
):
    """Streets have other classes and void pixels, all landscapes are sunrises in colour classes."""
    places = {name: tmp_path / name for name in ("birds", "streets", "landscapes")}
    for seed, split in enumerate(("train", "train", "valid", "test")):
        for species in ("$x$ 北京", "B$"):
            folder = places["birds"] / split / species
            folder.mkdir(parents=True, exist_ok=True)
            photo(2 * seed + len(species)).save(folder / f"{seed}.jpg")
    make_streets(places["streets"], frames=5)
    (places["streets"] / "classes.csv").write_text(
        "id,name\n3,北京\n7,$x$ $y$\n12,road\n", encoding="utf-8"
    )
    for path in places["streets"].rglob("CameraSeg/*.png"):
        ids = np.array([3, 7, 12, 255])[np.asarray(Image.open(path))[..., 0] % 4]
        mask_image(ids.astype(np.uint8)).save(path)
    make_landscapes(places["landscapes"] / "sunrise", 3)

    once = """from dataclasses import replace
from helpers.presets import PRESETS
chosen = PRESETS["smoke"]
PRESETS["smoke"] = replace(
    chosen,
    classification=replace(chosen.classification, epochs=1),
    segmentation=replace(chosen.segmentation, epochs=1),
    colorization=replace(chosen.colorization, epochs=1, loss="colour_classes"),
)
from helpers.notebook import start
"""

    def change(notebook):
        (cell,) = (cell for cell in notebook.cells if "REPOSITORY = " in cell.source)
        cell.source = cell.source.replace("from helpers.notebook import start\n", once)

    changed(change)
    out = tmp_path / "out"
    given = [f"--{name}={place}" for name, place in places.items()]
    monkeypatch.setenv("COURSEWORK_DATA", str(tmp_path / "prepared"))
    main(["run", "1", "2", "3", "study", "--preset", "smoke", "--out", str(out), *given])
    rows = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert {row["task"] for row in rows} == set(TASKS)
    assert not any(row["data"].startswith("synthetic") for row in rows)
    assert not any(row["reported"] for row in rows), "one epoch is set beside the report's"
    values = {(row["network"], row["score"]): row["value"] for row in rows}
    assert values["no skips", "gradient_energy"] > 0.5, "the lightness is the input's"
    assert values["no skips, all others", "ab_error"] is None
    with Image.open(out / "figures" / "species_gallery.png") as image:
        assert image.info["Title"].startswith("One training image each of 2 of the 2 species")
    for path in NOTEBOOKS + STUDY:
        executed = nbformat.read(out / path.relative_to(ROOT / "notebooks"), 4)
        cells = [cell for cell in executed.cells if "outputs" in cell]
        outputs = [output for cell in cells for output in cell.outputs]
        assert "stderr" not in [output.get("name") for output in outputs]
        words = str([(o.get("text"), o.get("data", {}).get("text/plain")) for o in outputs])
        assert not re.search(r"\bnan\b|NaN", words)
        assert "too few to say" in words or path in (NOTEBOOKS[0], STUDY[0])


def test_lessons_1_and_2_share_the_cores_then_comes_the_third_and_then_the_study(
    monkeypatch, tmp_path
):
    both = threading.Barrier(2, timeout=60)
    began = []

    def execute(source, folder, parameters):
        assert (folder == tmp_path / "study") == (source in STUDY)
        if source.name[0] in "12":
            both.wait()
        began.append((source.name[0], os.environ["OMP_NUM_THREADS"], headless()))
        return tmp_path / source.name

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    monkeypatch.setattr(notebooks, "cpu_count", lambda: 4)
    monkeypatch.setattr(notebooks, "execute", execute)
    notebooks.execute_all(STUDY + NOTEBOOKS, {}, tmp_path)
    assert sorted(began[:2]) == sorted(began[3:]) == [("1", "2", True), ("2", "2", True)]
    assert began[2] == ("3", "4", True) and not headless()


def test_a_run_of_a_student_has_a_folder_and_parameters_of_its_own(monkeypatch):
    asked = []

    def execute_all(sources, parameters, out):
        asked.append((sources, parameters, out))
        raise NotebookFailed("enough")

    monkeypatch.setattr(commands, "execute_all", execute_all)
    for name in ("", "ada lovelace"):
        with pytest.raises(SystemExit):
            main(["run", "1", "--student", name, "--birds", "synthetic"])
    (_, _, anybody), (sources, parameters, out) = asked
    assert sources == NOTEBOOKS[:1]
    assert (parameters["STUDENT"], parameters["BIRDS"]) == ("ada lovelace", "synthetic")
    assert parameters["OUT"] == str(out)
    assert anybody.name == "quick" and re.fullmatch("quick-ada-lovelace-[0-9a-f]{8}", out.name)


def test_a_failing_cell_is_named_and_what_ran_before_it_is_kept(tmp_path):
    source = small(tmp_path / "1_x.ipynb", "print('ran')", "1 / 0", "print('never')")
    out = tmp_path / "a {folder} $1"
    for _ in range(2):  # a notebook that has failed counts as unedited
        with pytest.raises(NotebookFailed, match=r"\$1/1_x.ipynb: cell 4 stopped with ZeroDiv"):
            execute(source, out, {"OUT": "there"})
    text = (out / "1_x.html").read_text(encoding="utf-8")
    assert ">ran\n" in text and ">never\n" not in text
    assert {path.name for path in out.iterdir()} == {"1_x.ipynb", "1_x.html"}


def test_an_edited_notebook_stays_and_the_new_one_stands_beside_it(tmp_path, capsys):
    source = small(tmp_path / "1_x.ipynb", "print(6 * 7)")
    out = tmp_path / "out"
    mine = execute(source, out, {"OUT": "there"})

    def rewrite(path, change):
        notebook = nbformat.read(path, 4)
        change(notebook)
        nbformat.write(notebook, path)
        return path.read_bytes()

    def executed_by_hand(notebook):
        notebook.cells += [new_code_cell(" ")]  # as Shift + Enter leaves it
        notebook.cells[-2].outputs = []

    rewrite(mine, executed_by_hand)
    assert execute(source, out, {"OUT": "there"}) == mine and "42" in mine.read_text()

    changes = [
        lambda notebook: notebook.cells.append(new_markdown_cell("MY ANSWERS")),
        lambda notebook: notebook.cells[-1].update(source="print(7 * 7)"),
        lambda notebook: notebook.cells.pop(),
    ]
    kept = {}
    for number, change in enumerate(changes, 1):
        kept[mine] = rewrite(mine, change)
        page = mine.with_suffix(".html").read_bytes()
        made = execute(source, out, {"OUT": "there"})
        assert made == execute(source, out, {"OUT": "there"}) == out / f"1_x.new{number}.ipynb"
        assert mine.with_suffix(".html").read_bytes() == page
        assert made.with_suffix(".html").exists() and "42" in made.read_text()
        mine = made
    assert {path: path.read_bytes() for path in kept} == kept
    told = "1_x.new1.ipynb is the new one: 1_x.ipynb is yours, and stays as it is\n"
    assert capsys.readouterr().out.count(told) == 2


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"\xff not JSON", None])
def test_what_no_run_has_written_counts_as_edited(content, tmp_path):
    place = tmp_path / "1_x.ipynb"
    if content is None:
        place.mkdir()
    else:
        place.write_bytes(content)
    source = small(tmp_path / "source.ipynb", "pass")
    made = write_notebook(place, nbformat.read(source, 4))
    assert made.name == "1_x.new1.ipynb" and (content is None or place.read_bytes() == content)


@pytest.mark.parametrize("link", ["itself", "folder", "file"])
def test_the_source_notebooks_are_refused_as_a_place_to_write_to(link, tmp_path, changed, capsys):
    changed(lambda notebook: None)
    sources = tmp_path / "notebooks"
    before = {path: path.read_bytes() for path in sources.glob("*.ipynb")}
    out = sources
    if link == "folder":
        out = tmp_path / "linked"
        out.symlink_to(sources)
    if link == "file":
        out = tmp_path / "out"
        out.mkdir()
        (out / NOTEBOOKS[2].name).symlink_to(sources / NOTEBOOKS[2].name)
    for command in ("run", "colab"):
        with pytest.raises(SystemExit):
            main([command, "--out", str(out)])
        assert f"{out} holds the source notebooks" in capsys.readouterr().err
    assert before == {path: path.read_bytes() for path in before}


@pytest.mark.parametrize("backend", ["Agg", "TkAgg", "module://backend_interagg"])
def test_notebooks_have_their_figures_and_this_python_whatever_they_inherit(
    backend, tmp_path, monkeypatch
):
    kernel = tmp_path / "kernels" / "python3"  # installed by another project, long ago
    kernel.mkdir(parents=True)
    about = {"argv": ["/no/such/python", "{connection_file}"], "display_name": "Python 3"}
    (kernel / "kernel.json").write_text(json.dumps(about))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    monkeypatch.setenv("MPLBACKEND", backend)
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    figure = "from helpers import figures\nfigures.gradient_flow({'$北京$': [0.1, 0.01]})"
    source = small(tmp_path / "1_x.ipynb", "import sys; print(sys.executable)", figure)
    *_, where, shown = nbformat.read(execute(source, tmp_path / "out", {"OUT": ""}), 4).cells
    assert where.outputs[0].text.strip() == sys.executable
    assert "image/png" in shown.outputs[-1].data
    assert "stderr" not in [output.get("name") for output in shown.outputs]


def test_a_kernel_that_dies_is_named_with_what_to_do(tmp_path):
    source = small(tmp_path / "1_x.ipynb", "import os; os._exit(1)")
    with pytest.raises(NotebookFailed, match=f"kernel of {sys.executable}: run this again"):
        execute(source, tmp_path / "out", {"OUT": ""})


def test_storing_keeps_the_codes_own_outputs_without_parameters_widgets_and_paths(tmp_path):
    source = small(tmp_path / "1_x.ipynb", "print('hello')")
    executed = nbformat.read(source, 4)
    injected = new_code_cell("OUT = 'elsewhere'", metadata={"tags": ["injected-parameters"]})
    executed.cells.insert(1, injected)
    view = {"application/vnd.jupyter.widget-view+json": {}, "text/plain": "0%|"}
    text = {"text/plain": f"in {NOTEBOOKS[0].parent}"}
    executed.cells[2].outputs = [new_output("display_data", data) for data in (view, text)]
    executed.metadata["widgets"] = {}
    nbformat.write(executed, tmp_path / "executed.ipynb")
    store(tmp_path / "executed.ipynb", source)
    stored = nbformat.read(source, 4)
    assert [cell.source for cell in stored.cells] == ['OUT = ""', "print('hello')"]
    assert [output.data for output in stored.cells[1].outputs] == [{"text/plain": "in ./notebooks"}]
    assert set(stored.metadata) == {"kernelspec", "language_info", "outputs_of"}
    assert stored.metadata.outputs_of == code_digest(stored)

    small(source, "print('goodbye')")
    before = source.read_bytes()
    with pytest.raises(NotebookFailed, match="made from other code"):
        store(tmp_path / "executed.ipynb", source)
    assert source.read_bytes() == before


def test_stored_figures_keep_their_colours(tmp_path):
    """A palette of 128 colours once turned the pink of sunsets into brown."""
    data = prepare("landscapes", "synthetic", size=(64, 96))
    figure = image_figures.gallery(data.test.images[:8], list("abcdefgh"), columns=4)
    run = io.BytesIO()
    figure.savefig(run, format="png", dpi=150)
    _, stored = smaller(run.getvalue())
    (tmp_path / "red_mornings.png").write_bytes(run.getvalue())
    store_gallery(tmp_path, tmp_path, ["red_mornings.jpg"])
    for copy in (io.BytesIO(stored), tmp_path / "red_mornings.jpg"):
        with Image.open(run) as one, Image.open(copy) as other:
            one.thumbnail(other.size)
            pixels = [np.asarray(image.convert("RGB")) for image in (one, other)]
        assert deltaE_ciede2000(*map(rgb2lab, pixels)).mean() < 1


def test_numbers_in_the_prose_become_those_of_the_run_and_a_missing_one_is_named():
    lesson = {"network": "U-Net − none", "score": "mean_iou", "notebook": "lesson"}
    lesson |= {"value": -0.3, "low": -0.4, "high": -0.2}
    study = lesson | {"notebook": "study", "value": 0.25, "low": None, "high": None}
    text = "about <!--U-Net − none: mean_iou-->0.9 [0.8, 1.0]<!--/--> here"
    told = {
        folder: renew_numbers(text, [study, lesson], folder) for folder in ("notebooks", "study")
    }
    assert "-->−0.300 [−0.400, −0.200]<!--/--> here" in told["notebooks"]
    assert "-->0.250<!--/--> here" in told["study"]
    assert renew_numbers(told["study"], [lesson], "study") == told["notebooks"]
    with pytest.raises(SystemExit, match="no score 'U-Net − none: mean_iou' in this run"):
        renew_numbers(text, [], "notebooks")


def test_a_summary_stands_beside_the_strongest_answer_without_a_network():
    found = {
        "grey copy": (0, 21.0),
        "mean colour": (0, 23.0),
        "mean colour, red mornings": (0, 29.0),  # of some images only
        "ceiling, stride 8": (0, 30.0),
        "grey copy − mean colour": (0, 31.0),
        "U-Net": (3, 32.0),
    }
    rows = [
        {"task": "colorization", "score": score, "network": name, "seeds": seeds, "value": value}
        for name, (seeds, value) in found.items()
        for score in ("psnr", "ab_error")
    ]
    assert strongest(rows, "colorization", "psnr") == "mean colour"
    assert strongest(rows, "colorization", "ab_error") == "grey copy", "less is better"
