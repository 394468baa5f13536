"""What the notebooks call to show code, to train and to check, without a notebook."""

import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from helpers import notebook
from helpers.losses import l1
from helpers.notebook import Lesson, drive_folder, overfit, start
from helpers.presets import Settings, preset
from helpers.results import Results
from helpers.tasks import Classification, build
from helpers.training import fit, predict
from tests.conftest import tiny_data

SETTINGS = Settings((32, 32), 4, 4, 6, 1e-2, "linear")
ROW = {"epoch": 1, "train_loss": 1.0, "valid_loss": 2.0, "accuracy": 0.5}


@pytest.fixture
def shown(monkeypatch):
    """What is displayed, in order, and what takes its place."""
    seen = []
    handle = SimpleNamespace(update=seen.append)
    monkeypatch.setattr(notebook, "display", lambda thing, **how: seen.append(thing) or handle)
    return seen


def test_the_source_that_is_shown_is_the_imported_one(shown):
    notebook.show(l1, Classification)
    starts = ("```python\ndef l1(logits, rgb):", "```python\nclass Classification:")
    assert all(code.data.startswith(start) for code, start in zip(shown, starts, strict=True))


def test_live_curves_are_one_image_that_stands_above_the_lines_and_grows(shown, capsys):
    curves = notebook.LiveCurves("accuracy", {"others": [ROW, ROW]})
    assert curves.follow("ours", [ROW, ROW]) == [ROW, ROW]
    assert capsys.readouterr().out == "ours:\n"
    assert [len(figure.axes[1].lines[1].get_xdata()) for figure in shown] == [0, 1, 2]
    curves.follow("third", [ROW])
    names = [text.get_text() for text in shown[-1].legends[0].get_texts()]
    assert names == ["others", "ours", "third"] and len(shown) == 4, "in the same figure"


def test_overfitting_one_batch_prints_a_loss_that_falls(capsys):
    model = torch.nn.Linear(2, 2)
    task = SimpleNamespace(loss=torch.nn.functional.mse_loss)
    overfit(model, task, torch.ones(4, 2), torch.full((4, 2), 5.0), steps=21, lr=0.1)
    losses = [float(line.split()[-1]) for line in capsys.readouterr().out.splitlines()]
    assert len(losses) == 3 and losses[0] > 4 * losses[-1]


@pytest.fixture
def lesson(tmp_path):
    """A lesson on tiny birds with two seeds, whose runs are kept in two folders."""
    data = tiny_data("birds")
    data.label, data.synthetic = "tiny birds", True
    results = Results(tmp_path, "classification", data, preset("smoke"), 2)
    lesson = Lesson(Classification(data, SETTINGS), data, results, tmp_path / "mirror")
    lesson.networks = {"plain": "plain10"}
    return lesson


def test_networks_of_several_seeds_are_those_that_fit_trains_and_are_kept(shown, capsys, lesson):
    lesson.train("plain")
    first, *_, last = capsys.readouterr().out.splitlines()
    told = f"plain, seed {SETTINGS.seed + 1}: {SETTINGS.epochs} epochs, validation accuracy"
    assert first == "plain:" and last.startswith(told)
    assert len(lesson.histories["plain"]) == SETTINGS.epochs
    models = lesson.models["plain"]
    for seed, trained in enumerate(models):
        task = lesson.task.seeded(seed)
        model = build(task, "plain10")
        list(fit(model, task, lesson.data, log=lambda line: None))
        assert torch.equal(model.fc.weight, trained.fc.weight)
        answer = predict(model, task, lesson.data.test)
        assert torch.equal(lesson.answers("plain")[seed], answer)
    lesson.train("plain", curves=False)
    assert torch.equal(lesson.models["plain"][1].fc.weight, models[1].fc.weight)
    for folder in lesson.runs.values():  # nothing is trained twice
        assert [path.name.split("-")[0] for path in folder.iterdir()] == ["classification"] * 2


def test_a_lesson_measures_each_network_with_the_settings_it_was_trained_by(shown, lesson):
    longer = Classification(lesson.data, replace(SETTINGS, epochs=SETTINGS.epochs + 1))
    lesson.networks["longer"] = "plain10"
    lesson.train("plain", curves=False)
    lesson.train("longer", longer, curves=False)
    with pytest.raises(ValueError, match=r"'deeper' is not in lesson.networks: add it"):
        lesson.train("deeper")
    with pytest.raises(ValueError, match=r"'deeper' has no answers yet: lesson.train"):
        lesson.answers("deeper")
    before = lesson.answers("plain")
    lesson.measure("plain", "longer")
    right = before.argmax(2) == torch.as_tensor(lesson.data.test.targets)
    assert lesson.results["plain", "accuracy"][0] == pytest.approx(float(right.float().mean()))
    assert lesson.results["plain", "loss"][0] > 0
    how = {name: row["trained how"] for (name, _), row in lesson.results.rows.items()}
    assert how["plain"] != how["longer"]
    lesson.train("plain", longer, curves=False)  # under the same name: the answers are new
    assert not torch.equal(lesson.answers("plain"), before)
    valid = lesson.answers("plain", lesson.data.valid)
    assert valid.shape == (2, len(lesson.data.valid), 3)


def test_a_notebook_begins_with_the_settings_the_data_and_the_folder_of_its_run(tmp_path, capsys):
    lesson = start("colorization", preset="smoke", seeds=2, seed=3, out=str(tmp_path), study=True)
    assert lesson.settings == preset("smoke", 3).colorization and lesson.results.seeds == 2
    assert lesson.results.folder == tmp_path and lesson.results.notebook == "study"
    told = capsys.readouterr().out
    assert "synthetic" in told and str(lesson.settings) in told
    elsewhere = start("colorization", preset="smoke")
    assert elsewhere.results.folder.name == "smoke"


def test_google_drive_is_mounted_where_it_is_wanted_and_there_is_one(monkeypatch):
    assert drive_folder(False) is None
    with pytest.raises(RuntimeError, match="set DRIVE = False here"):
        drive_folder(True)
    mounted = []
    colab = SimpleNamespace(drive=SimpleNamespace(mount=mounted.append))
    monkeypatch.setitem(sys.modules, "google.colab", colab)
    assert drive_folder(True).as_posix() == "/content/drive/MyDrive/coursework"
    assert mounted == ["/content/drive"]


def test_each_network_keeps_the_rate_that_suits_the_validation_set(shown, capsys, lesson):
    lesson.tune("plain", lesson.task, [1e-6, SETTINGS.lr])
    told = capsys.readouterr().out.splitlines()
    assert told[-1] == f"plain: of 2 rates, {SETTINGS.lr:.1e} is best" and len(told) == 5
    tuned = lesson.answers("plain")
    lesson.train("plain", curves=False)
    assert torch.equal(lesson.answers("plain"), tuned)
