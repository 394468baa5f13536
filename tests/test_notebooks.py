import importlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import nbformat
import pytest
import torch
from joblib import cpu_count
from nbformat.v4 import new_code_cell, new_notebook, new_output

import helpers.publishing.report  # noqa: F401, whose NOTEBOOKS stay as they are
from helpers import ROOT
from helpers.data import ROOT as DRAWN
from helpers.drawings import draw
from helpers.engine.source import Code
from helpers.models import resnet
from helpers.presets import preset
from helpers.publishing import commands, notebooks
from helpers.publishing.commands import main, make_parser
from helpers.publishing.notebooks import NOTEBOOKS, NotebookFailed, execute
from helpers.tasks import TASKS, Classification
from helpers.widgets import repeats
from notebooks.store import code_digest, store
from tests.conftest import REAL, tiny_data

STUDY = [
    "degradation_by_depth", "lesions", "gradient_correlation", "loss_landscape", "fcn_skips", "domain_shift",
    "crispness_by_distance", "skips_at_test_time", "spectrum_by_skip", "what_skips_buy",
    "red_mornings_recovered",
]  # fmt: skip


def small(path, *sources):
    cells = [new_code_cell('OUT = ""', metadata={"tags": ["parameters"]}), *map(new_code_cell, sources)]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(new_notebook(cells=cells, metadata=kernel), path)
    return path


def exercises(notebook, language):
    """The blocks in a ``language`` that the exercises at a notebook's end give to paste."""
    return re.findall(rf"^```{language}\n(.*?)^```", notebook.cells[-1].source, re.DOTALL | re.MULTILINE)


def with_exercises(notebook):
    notebook.cells += map(new_code_cell, exercises(notebook, "python"))


@pytest.fixture
def changed(tmp_path, monkeypatch):
    """A function that has copies of the three notebooks run instead, each ``change``d before."""

    def changed(change):
        copies = [tmp_path / "notebooks" / path.name for path in NOTEBOOKS]
        copies[0].parent.mkdir()
        for path, copy in zip(NOTEBOOKS, copies, strict=True):
            notebook = nbformat.read(path, 4)
            change(notebook)
            nbformat.write(notebook, copy)
        monkeypatch.setattr(notebooks, "NOTEBOOKS", copies)

    return changed


def test_all_notebooks_and_exercises_run_at_smoke_and_leave_what_the_readme_promises(tmp_path, changed):
    changed(with_exercises)
    main(["run", "--preset", "smoke", "--out", str(tmp_path)])
    names = {p.name for p in tmp_path.iterdir()}
    assert {f"{n.stem}{s}" for n in NOTEBOOKS for s in (".ipynb", ".html")} <= names
    assert {
        "results.csv",
        "results.json",
        "results.tex",
        "report.tex",
        "references.bib",
        "index.html",
    } <= names
    figures = {p.name for p in (tmp_path / "figures").iterdir()}
    assert {f"{name}.pdf" for name in STUDY} <= figures
    assert {p[:-4] for p in figures if p.endswith(".pdf")} == {p[:-4] for p in figures if p.endswith(".png")}
    for number in range(1, 7):
        assert any(name.startswith(f"figure{number}_") for name in figures), f"figure {number} of the report"
    tasks = {row["task"] for row in json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))}
    assert tasks == {"classification", "segmentation", "colorization"}
    rows = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    seeds = [
        (0, 3) if "untrained" in row["network"] else (0, 1) for row in rows
    ]  # first weights cost nothing
    assert all(row["seeds"] in known for row, known in zip(rows, seeds, strict=True))
    assert all(row["units"].split()[0].isdecimal() for row in rows)
    baselines = {"chance", "nearest thumbnail", "colour histogram", "majority class", "nearest picture"}
    baselines |= {f"ceiling, stride {stride}" for stride in (32, 16, 8)}
    baselines |= {"grey copy", "mean colour by row and grey"}
    assert baselines <= {row["network"] for row in rows if not row["seeds"]}
    for path in tmp_path.glob("*.ipynb"):
        for table in tables(path):
            assert "evidence" in table or "seed" in table or "preset" in table
        errors = [
            o for c in nbformat.read(path, 4).cells for o in c.get("outputs", []) if o.output_type == "error"
        ]
        assert not errors


def tables(path):
    """The plain text of every table of scores in an executed notebook: those with an interval."""
    outputs = [o for c in nbformat.read(path, 4).cells for o in c.get("outputs", [])]
    shown = [output.data["text/plain"] for output in outputs if "text/html" in output.get("data", {})]
    return [text for text in shown if re.search(r"\d \[-?\d", text)]


def test_a_table_without_its_evidence_would_be_noticed(tmp_path):
    source = small(
        tmp_path / "1_x.ipynb", "import pandas", "pandas.DataFrame({'accuracy': ['0.9 [0.8, 1.0]']})"
    )
    (table,) = tables(execute(source, tmp_path / "out", {}))
    assert "evidence" not in table


def test_exercise_2_of_notebook_1_changes_the_network_that_is_trained(tmp_path, monkeypatch):
    (edit,) = exercises(nbformat.read(NOTEBOOKS[0], 4), "diff")
    text = Path(resnet.__file__).read_text(encoding="utf-8")
    start = text.index("        if self.skip:\n            out = out +")
    text = text[:start] + edit.rstrip("\n") + text[text.index("\n\n", start) :]
    (tmp_path / "edited.py").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    before, after = resnet.ResNet18(3, width=4), importlib.import_module("edited").ResNet18(3, width=4)
    after.load_state_dict(before.state_dict())
    images = torch.rand(2, 3, 32, 32)
    assert not torch.equal(before.eval()(images), after.eval()(images))
    was, now = Code(before).parts, Code(after).parts  # of another digest, a net trains anew: see test_source
    assert was["helpers.models.resnet.BasicBlock.forward"] != now["edited.BasicBlock.forward"]
    assert was["helpers.models.resnet.ResNet.maps"] == now["edited.ResNet.maps"]


def test_an_interrupted_run_over_seeds_goes_on_with_the_missing_one(tmp_path, capsys):
    data = tiny_data("birds")
    task = Classification(data, replace(preset("smoke").classification, width=4, limit=None))
    how = {"name": "net", "folder": tmp_path}

    def trained(seeds):
        nets = repeats(task, "resnet18", data, seeds=range(seeds), **how)
        return [
            sum(p.detach().sum().item() for p in net.parameters()) for net in nets
        ], capsys.readouterr().out

    two, _ = trained(2)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/last.pt")}
    three, said = trained(3)
    assert three[:2] == two and len(set(three)) == 3
    assert all(path.stat().st_mtime_ns == then for path, then in times.items()), "trained again"
    assert len(list(tmp_path.glob("*/last.pt"))) == 3 and "net, seed 2: 2 epochs" in said


def test_a_run_on_folders_of_ones_own_reads_all_three_layouts(tmp_path, changed):
    """Real samples where they are, else drawn ones; with colour classes, as ``best`` has them."""

    def change(notebook):
        (cell,) = (cell for cell in notebook.cells if "settings = chosen." in cell.source)
        cell.source += "\nResults.figure = lambda *drawn: None"  # which another test saves, and takes longest
        classes = "from dataclasses import replace\nchosen = replace(chosen, colorization=replace("
        classes += "chosen.colorization, loss='colour_classes'))\nsettings = chosen."
        cell.source = cell.source.replace("settings = chosen.", classes)

    changed(change)
    names = {"birds": "birds", "streets": "camvid", "landscapes": "landscapes"}
    places = {n: REAL / f if REAL.is_dir() else draw(n, DRAWN / "synthetic") for n, f in names.items()}
    main(["run", "--preset", "smoke", "--out", str(tmp_path), *(f"--{n}={p}" for n, p in places.items())])
    rows = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert {row["data"] for row in rows}.isdisjoint({f"embedded drawn {name}" for name in names})
    assert not any(row["reported"] for row in rows), "two epochs are set beside the report's"
    (sharp,) = (r["value"] for r in rows if (r["network"], r["score"]) == ("no skips", "gradient_energy"))
    assert sharp > 0.5, "the lightness is the input's"


@pytest.mark.skipif(cpu_count() < 2 or os.name != "posix", reason="two notebooks at a time; POSIX signals")
def test_an_interrupt_of_a_run_ends_the_notebooks_beside_each_other_and_their_kernels(tmp_path):
    cell = "import os, time; open({!r}, 'x').write(str(os.getpid())); time.sleep(3600)"
    pids = [tmp_path / f"pid{number}" for number in (1, 2)]
    sources = [small(tmp_path / f"{pid.name[-1]}_x.ipynb", cell.format(str(pid))) for pid in pids]
    script, given = tmp_path / "script.py", {str(source): {} for source in sources}
    script.write_text(
        "from pathlib import Path\n"
        "from helpers.publishing.notebooks import execute_all\n"
        "if __name__ == '__main__':\n"
        f"    given = {{Path(source): own for source, own in {given}.items()}}\n"
        f"    list(execute_all(given, {str(tmp_path / 'out')!r}))\n"
    )
    run = subprocess.Popen([sys.executable, str(script)], stderr=subprocess.PIPE, text=True)
    while not all(pid.exists() and pid.read_text() for pid in pids):
        assert run.poll() is None, run.stderr.read()
        time.sleep(0.05)
    run.send_signal(signal.SIGINT)  # to it alone
    assert "KeyboardInterrupt" in run.communicate(timeout=600)[1] and run.returncode
    while any(map(alive, map(int, (pid.read_text() for pid in pids)))):  # else the suite would not end
        time.sleep(0.05)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for a process's parent in /proc")
def test_a_notebook_whose_process_is_killed_is_named_with_what_to_do(tmp_path):
    cell = f"import os, time; open({str(tmp_path / 'pid')!r}, 'x').write(str(os.getpid())); time.sleep(3600)"
    source = small(tmp_path / "1_x.ipynb", cell)

    def kill():
        while not ((tmp_path / "pid").exists() and (pid := (tmp_path / "pid").read_text())):
            time.sleep(0.05)
        lane = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
        os.kill(int(lane), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(RuntimeError, match=r"1_x is not done: .* the same command carries on"):
        list(notebooks.execute_all({source: {}}, tmp_path / "out"))
    killer.join()
    while alive((tmp_path / "pid").read_text()):  # else the suite would not end
        time.sleep(0.05)


def alive(pid):
    """Whether a process computes; one that has ended may wait for a parent that is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_failing_cell_is_named_and_what_ran_before_it_is_kept(tmp_path):
    source = small(tmp_path / "1_x.ipynb", "print('ran')", "1 / 0", "print('never')")
    with pytest.raises(NotebookFailed, match=r"out/1_x.ipynb: cell 4 stopped with ZeroDivisionError"):
        execute(source, tmp_path / "out", {"OUT": "there"})
    text = (tmp_path / "out" / "1_x.html").read_text(encoding="utf-8")
    assert ">ran\n" in text and ">never\n" not in text


def test_storing_keeps_outputs_and_drops_parameters_widgets_and_paths(tmp_path):
    source = small(tmp_path / "1_x.ipynb", "print('hello')")
    executed = nbformat.read(source, 4)
    executed.cells.insert(1, new_code_cell("OUT = 'elsewhere'", metadata={"tags": ["injected-parameters"]}))
    widget = new_output("display_data", {"application/vnd.jupyter.widget-view+json": {}, "text/plain": "0%|"})
    text = new_output("display_data", {"text/plain": f"in {NOTEBOOKS[0].parent}"})
    executed.cells[2].outputs = [widget, text]
    executed.metadata["widgets"] = {}
    nbformat.write(executed, tmp_path / "executed.ipynb")
    store(tmp_path / "executed.ipynb", source)
    stored = nbformat.read(source, 4)
    assert [cell.source for cell in stored.cells] == ['OUT = ""', "print('hello')"]
    assert [output.data for output in stored.cells[1].outputs] == [{"text/plain": "in ./notebooks"}]
    assert set(stored.metadata) == {"kernelspec", "language_info", "outputs_of"}
    assert stored.metadata.outputs_of == code_digest(stored)


def test_outputs_of_other_code_are_not_stored(tmp_path):
    source = small(tmp_path / "1_x.ipynb", "print('hello')")
    shutil.copy(source, tmp_path / "executed.ipynb")
    small(source, "print('goodbye')")
    before = source.read_bytes()
    with pytest.raises(NotebookFailed, match="made from other code"):
        store(tmp_path / "executed.ipynb", source)
    assert source.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "4"], "no notebook '4'"),
        (["run", "--preset", "fast"], "invalid choice: 'fast'"),
        (["run", "--store", "--birds", "x"], "leave the data folders out"),
        (["run", "--seeds", "0"], "--seeds 0: give a whole number of at least 1"),
        (["run", "--out", __file__], "test_notebooks.py is a file: give a folder to write to"),
        (
            ["train", "segmentation", "--out", __file__ + "/below"],
            "test_notebooks.py is a file: give a folder",
        ),
        (["train", "segmentation", "--mirror", __file__], "test_notebooks.py is a file: give a folder"),
        (["train", "classification", "--model", "vgg"], "choose one of resnet18, plain18"),
        (["train", "classification", "--loss", "l1"], "for classification: choose one of cross_entropy"),
        (["train", "classification", "--size", "large"], "argument --size: invalid pixels value: 'large'"),
    ],
)
def test_wrong_arguments_end_with_one_clear_line_before_anything_is_done(arguments, message, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    shown = capsys.readouterr()
    assert stop.value.code == 2 and message in shown.err and "Traceback" not in shown.err and not shown.out


def test_prepare_makes_by_default_what_the_readmes_next_line_needs():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    ready, used = re.findall(
        r"^python -m helpers (prepare birds|run --preset report)(.*)", readme, re.MULTILINE
    )
    assert "--preset" not in ready[1] and used[0] == "run --preset report"
    assert make_parser().parse_args(["prepare", "birds"]).preset == "report"


def test_a_folder_that_is_not_there_is_named(capsys):
    with pytest.raises(SystemExit, match=r"prepare: .*no-such-folder is not there"):
        main(["prepare", "birds", "--from", "no-such-folder"])


def test_the_help_of_train_names_every_network_and_setting_and_how_to_go_on(capsys):
    with pytest.raises(SystemExit):
        make_parser().parse_args(["train", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    for task in TASKS.values():
        for name in task.networks:
            assert name in shown.replace("unet_ ", "unet_")
    for option in ("--epochs N", "--batch-size N how many pictures a step", "--size HxW", "--loss NAME"):
        assert option in shown
    assert "run again, goes on where it was stopped" in shown and "accelerate launch" in shown


class Broken(torch.nn.Conv2d):
    def forward(self, x):
        return super().forward(x[:, :2])


def test_what_torch_says_of_ones_own_network_comes_with_its_place_and_our_own_words_do_not(
    tmp_path, monkeypatch
):
    how = ["train", "segmentation", "--preset", "smoke", "--out", str(tmp_path), "--model", "broken"]
    monkeypatch.setitem(TASKS["segmentation"].networks, "broken", lambda task: Broken(3, 13, 1))
    with pytest.raises(RuntimeError, match="channels") as error:
        main(how)
    assert (Broken.forward.__code__, Path(__file__)) in [(f.frame.code.raw, f.path) for f in error.traceback]

    def edited(options):
        raise RuntimeError(
            "was edited",
        )

    monkeypatch.setattr(commands, "train", edited)
    with pytest.raises(SystemExit, match="train: was edited"):
        main(how)


FIRST_CELL = """
import sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
for source in sys.argv[1:]:
    shell.run_cell(source).raise_error()
"""


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_first_cell_fetches_the_project_once_and_works_again_after_a_restart(path, tmp_path):
    cell = next(c.source for c in nbformat.read(path, 4).cells if c.cell_type == "code")
    project = tmp_path / "project"
    (project / "helpers").mkdir(parents=True)
    (project / "helpers" / "__init__.py").write_text("HERE = __file__")
    git = ["git", "-c", "user.name=x", "-c", "user.email=x"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"]):
        subprocess.run([*git, *command], cwd=project, check=True)
    address = f"REPOSITORY = 'file://{project}'"
    cell = "\n".join(address if line.startswith("REPOSITORY") else line for line in cell.splitlines())
    assert address in cell
    elsewhere = tmp_path / "content"
    elsewhere.mkdir()
    # This environment has the project installed; Colab's has not, and this finder hides it.
    hide = "import sys; sys.meta_path = [f for f in sys.meta_path if 'editable' not in str(f).lower()]"
    hide += f"; sys.path = [p for p in sys.path if p not in ('', {str(ROOT)!r})]"
    outputs = [
        subprocess.run(
            [sys.executable, "-c", FIRST_CELL, hide, cell, "import helpers; print(helpers.HERE)"],
            cwd=elsewhere,
            env={**os.environ, "IPYTHONDIR": str(tmp_path / "ipython"), "PYTHONPATH": ""},
            capture_output=True,
            text=True,
        )
        for _ in range(2)
    ]
    for done in outputs:
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1].endswith("content/coursework/helpers/__init__.py")
    assert "already exists" not in outputs[1].stdout + outputs[1].stderr


def test_one_network_is_trained_headless_and_once(tmp_path, capsys):
    command = ["train", "segmentation", "--model", "fcn", "--preset", "smoke", "--out", str(tmp_path)]
    main(command)
    first = capsys.readouterr().out
    main(command)
    second = capsys.readouterr().out
    assert first.count("epoch ") == 2 and "epoch   1/" not in second
    assert first.splitlines()[-1] == second.splitlines()[-1] and "mean_iou" in second
