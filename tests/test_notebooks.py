"""The notebooks as ``python -m helpers`` runs and stores them, and its other commands."""

import importlib
import json
import os
import re
import threading
from pathlib import Path

import nbformat
import pytest
import torch
from nbformat.v4 import new_code_cell, new_notebook, new_output

from helpers import ROOT, headless
from helpers.data import DataError, draw_once
from helpers.engine.checkpoint import CheckpointError
from helpers.models import resnet
from helpers.publishing import commands, notebooks
from helpers.publishing.commands import main, make_parser
from helpers.publishing.notebooks import NOTEBOOKS, NotebookFailed, execute
from helpers.tasks import TASKS
from notebooks.store import code_digest, store
from tests.conftest import REAL

STUDY = """degradation_by_depth lesions gradient_correlation loss_landscape fcn_skips domain_shift
crispness_by_distance skips_at_test_time spectrum_by_skip what_skips_buy red_mornings_recovered"""
BASELINES = """chance; nearest thumbnail; colour histogram; majority class; nearest image
ceiling, stride 32; ceiling, stride 16; ceiling, stride 8; grey copy; mean colour by row and grey"""


def small(path, *sources):
    cells = [new_code_cell('OUT = ""', metadata={"tags": ["parameters"]})]
    cells += [new_code_cell(source) for source in sources]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(new_notebook(cells=cells, metadata=kernel), path)
    return path


def exercises(notebook, language):
    """The blocks in a ``language`` that the exercises at a notebook's end give to paste."""
    block = rf"^```{language}\n(.*?)^```"
    return re.findall(block, notebook.cells[-1].source, re.DOTALL | re.MULTILINE)


@pytest.fixture
def changed(tmp_path, monkeypatch):
    """A function that has copies of the notebooks run instead, each ``change``d before."""

    def changed(change):
        copies = []
        (tmp_path / "notebooks").mkdir()
        for path in NOTEBOOKS:
            notebook = nbformat.read(path, 4)
            change(notebook)
            copies.append(tmp_path / "notebooks" / path.name)
            nbformat.write(notebook, copies[-1])
        monkeypatch.setattr(commands, "NOTEBOOKS", copies)

    return changed


def test_all_notebooks_and_exercises_run_at_smoke_and_leave_what_the_readme_promises(
    tmp_path, changed
):
    def with_exercises(notebook):
        notebook.cells += map(new_code_cell, exercises(notebook, "python"))

    changed(with_exercises)
    main(["run", "--preset", "smoke", "--out", str(tmp_path)])
    wanted = {f"{path.stem}{suffix}" for path in NOTEBOOKS for suffix in (".ipynb", ".html")}
    wanted |= {"results.csv", "results.json", "results.tex", "report.tex", "references.bib"}
    assert wanted | {"index.html"} <= {path.name for path in tmp_path.iterdir()}
    figures = {path.name for path in (tmp_path / "figures").iterdir()}
    names = {Path(name).stem for name in figures}
    assert figures == {f"{name}.{suffix}" for name in names for suffix in ("pdf", "png")}
    assert names >= set(STUDY.split())
    for number in range(1, 7):
        assert any(name.startswith(f"figure{number}_") for name in names), f"figure {number}"

    rows = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert {row["task"] for row in rows} == set(TASKS)
    for row in rows:
        untrained = 3 * ("untrained" in row["network"])  # first weights cost nothing
        assert row["seeds"] in (0, untrained or 1) and row["units"].split()[0].isdecimal()
    assert {row["network"] for row in rows if not row["seeds"]} >= set(re.split("; |\n", BASELINES))
    for path in NOTEBOOKS:
        tables = tables_of_scores(tmp_path / path.name)
        assert tables
        for table in tables:
            assert "evidence" in table or "seed" in table or "preset" in table


def tables_of_scores(path):
    """The plain text of every table with an interval in an executed notebook without errors."""
    outputs = [o for cell in nbformat.read(path, 4).cells for o in cell.get("outputs", [])]
    assert not [output for output in outputs if output.output_type == "error"]
    tables = [o.data["text/plain"] for o in outputs if "text/html" in o.get("data", {})]
    return [text for text in tables if re.search(r"\d \[-?\d", text)]


def test_a_run_on_folders_of_ones_own_reads_all_three_layouts(tmp_path, changed):
    """Real samples where they are, else synthetic ones; with colour classes, as in ``best``."""

    def change(notebook):
        (cell,) = (cell for cell in notebook.cells if "settings = chosen." in cell.source)
        classes = "from dataclasses import replace\nchosen = replace(chosen, colorization=replace("
        classes += "chosen.colorization, loss='colour_classes'))\nsettings = chosen."
        cell.source = cell.source.replace("settings = chosen.", classes)
        cell.source += "\nResults.figure = lambda *a, **k: None"  # another test saves figures

    changed(change)
    arguments = ["run", "--preset", "smoke", "--out", str(tmp_path)]
    for name, layout in {"birds": "birds", "streets": "camvid", "landscapes": "landscapes"}.items():
        place = REAL / layout
        if not place.is_dir():
            place = draw_once(name, ROOT / "data" / "synthetic")
        arguments.append(f"--{name}={place}")
    main(arguments)
    rows = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert not any(row["data"].startswith("synthetic") for row in rows)
    assert not any(row["reported"] for row in rows), "two epochs are set beside the report's"
    scores = {(row["network"], row["score"]): row["value"] for row in rows}
    assert scores["no skips", "gradient_energy"] > 0.5, "the lightness is the input's"


def test_exercise_2_of_notebook_1_changes_the_network_that_is_trained(tmp_path, monkeypatch):
    (edit,) = exercises(nbformat.read(NOTEBOOKS[0], 4), "diff")
    text = Path(resnet.__file__).read_text(encoding="utf-8")
    start = text.index("        if self.downsample is not None:\n            out +=")
    text = text[:start] + edit.rstrip("\n") + text[text.index("\n\n", start) :]
    (tmp_path / "edited.py").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    before = resnet.ResNet18(3, width=4)
    after = importlib.import_module("edited").ResNet18(3, width=4)
    after.load_state_dict(before.state_dict())
    images = torch.rand(2, 3, 32, 32)
    assert not torch.equal(before.eval()(images), after.eval()(images))


def test_notebooks_1_and_2_share_the_cores_and_the_third_comes_after_them(monkeypatch, tmp_path):
    both = threading.Barrier(2, timeout=60)
    began = []

    def execute(source, folder, parameters):
        if source.name[0] in "12":
            both.wait()
        began.append((source.name[0], os.environ["OMP_NUM_THREADS"], headless()))
        return tmp_path / source.name

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    monkeypatch.setattr(notebooks, "cpu_count", lambda: 4)
    monkeypatch.setattr(notebooks, "execute", execute)
    notebooks.execute_all(dict.fromkeys(NOTEBOOKS), tmp_path)
    assert sorted(began) == [("1", "2", True), ("2", "2", True), ("3", "4", True)]
    assert began[2][0] == "3" and not headless()


def test_a_failing_cell_is_named_and_what_ran_before_it_is_kept(tmp_path):
    source = small(tmp_path / "1_x.ipynb", "print('ran')", "1 / 0", "print('never')")
    with pytest.raises(NotebookFailed, match=r"out/1_x.ipynb: cell 4 stopped with ZeroDivision"):
        execute(source, tmp_path / "out", {"OUT": "there"})
    text = (tmp_path / "out" / "1_x.html").read_text(encoding="utf-8")
    assert ">ran\n" in text and ">never\n" not in text


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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("run 4", "no notebook '4': choose 1, 2 or 3"),
        ("run --preset fast", "invalid choice: 'fast'"),
        ("run --seeds 0", "--seeds 0: give a whole number of at least 1"),
        ("run --seed 3", "unrecognized arguments: --seed"),
        (f"run --out {__file__}", "test_notebooks.py is a file: give a folder to write to"),
        (f"train segmentation --out {__file__}/below", "test_notebooks.py is a file"),
        (f"train segmentation --mirror {__file__}", "test_notebooks.py is a file"),
        ("train classification --model vgg", "choose one of resnet18, plain18"),
        ("train classification --loss l1", "for classification: choose one of cross_entropy"),
        ("train classification --size large", "argument --size: invalid pixels value: 'large'"),
    ],
)
def test_wrong_arguments_end_with_one_clear_line_before_anything_is_done(
    arguments, message, capsys
):
    with pytest.raises(SystemExit) as stop:
        main(arguments.split())
    shown = capsys.readouterr()
    assert stop.value.code == 2 and message in shown.err and not shown.out


def test_a_folder_that_is_not_there_is_named():
    with pytest.raises(SystemExit, match=r"prepare: .*no-such-folder is not there"):
        main(["prepare", "birds", "--from", "no-such-folder"])


def test_the_help_of_train_names_every_network_and_setting_and_how_to_go_on(capsys):
    with pytest.raises(SystemExit):
        make_parser().parse_args(["train", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    for task in TASKS.values():
        for name in task.models:
            assert name in shown.replace("unet_ ", "unet_")
    for option in ("--epochs", "how many images a step learns from", "--size", "--loss {cross"):
        assert option in shown
    assert "run again, goes on where it was stopped" in shown and "accelerate launch" in shown


@pytest.mark.parametrize(
    "kind", [CheckpointError, DataError, FloatingPointError, MemoryError, NotebookFailed, OSError]
)
def test_what_can_go_wrong_in_a_training_is_told_in_one_line(monkeypatch, kind):
    def fail(options):
        raise kind("what to do")

    monkeypatch.setattr(commands, "train_network", fail)
    with pytest.raises(SystemExit, match="train: what to do"):
        main(["train", "segmentation"])


class Broken(torch.nn.Conv2d):
    def forward(self, x):
        return super().forward(x[:, :2])


def test_what_torch_says_of_ones_own_network_comes_with_its_place(tmp_path, monkeypatch):
    monkeypatch.setitem(TASKS["segmentation"].models, "broken", lambda task: Broken(3, 13, 1))
    arguments = ["train", "segmentation", "--preset", "smoke", "--out", str(tmp_path)]
    with pytest.raises(RuntimeError, match="channels") as error:
        main([*arguments, "--model", "broken"])
    assert Path(__file__) in [frame.path for frame in error.traceback[1:]]


def test_one_network_is_trained_headless_and_once(tmp_path, capsys):
    command = ["train", "segmentation", "--model", "fcn", "--preset", "smoke"]
    main([*command, "--out", str(tmp_path)])
    first = capsys.readouterr().out
    main([*command, "--out", str(tmp_path)])
    second = capsys.readouterr().out
    assert first.count("epoch ") == 2 and "epoch   1/" not in second
    assert first.splitlines()[-1] == second.splitlines()[-1] and "mean_iou" in second
    assert [path.name.startswith("segmentation-fcn-") for path in tmp_path.iterdir()] == [True]
