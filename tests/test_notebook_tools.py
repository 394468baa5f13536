"""What the notebooks call to show code, to train and to check, without a notebook."""

import sys
from types import SimpleNamespace

import pytest
import torch

from helpers import notebook
from helpers.losses import l1
from helpers.notebook import drive_folder, overfit, repeats, train
from helpers.presets import Settings
from helpers.tasks import Classification, build
from helpers.training import fit
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
    curves = notebook.LiveCurves("accuracy", "ours", {"others": [ROW, ROW]})
    assert len(shown) == 1 and capsys.readouterr().out == "ours:\n"
    for _ in range(2):
        curves.update(ROW)
    assert [len(figure.axes[1].lines[1].get_xdata()) for figure in shown] == [0, 1, 2]
    assert [text.get_text() for text in shown[-1].legends[0].get_texts()] == ["others", "ours"]


def test_overfitting_one_batch_prints_a_loss_that_falls(capsys):
    model = torch.nn.Linear(2, 2)
    task = SimpleNamespace(loss=torch.nn.functional.mse_loss)
    overfit(model, task, torch.ones(4, 2), torch.full((4, 2), 5.0), steps=21, lr=0.1)
    losses = [float(line.split()[-1]) for line in capsys.readouterr().out.splitlines()]
    assert len(losses) == 3 and losses[0] > 4 * losses[-1]


def test_networks_of_several_seeds_are_those_that_fit_trains_and_are_kept(shown, capsys, tmp_path):
    data = tiny_data("birds")
    task = Classification(data, SETTINGS)
    runs = {"folder": tmp_path / "runs", "mirror": tmp_path / "mirror"}
    models, rows = train(task, "plain10", data, name="plain", seeds=2, **runs)
    first, *_, last = capsys.readouterr().out.splitlines()
    told = f"plain, seed {SETTINGS.seed + 1}: {SETTINGS.epochs} epochs, validation accuracy"
    assert first == "plain:" and last.startswith(told) and len(rows) == SETTINGS.epochs
    for seed, trained in enumerate(models):
        model = build(task.seeded(seed), "plain10")
        list(fit(model, task.seeded(seed), data, log=lambda line: None))
        assert torch.equal(model.fc.weight, trained.fc.weight)
    (again,) = repeats(task, "plain10", data, name="plain", seeds=[1], **runs)
    assert torch.equal(again.fc.weight, models[1].fc.weight)
    for folder in runs.values():  # nothing is trained twice
        assert [path.name.split("-")[0] for path in folder.iterdir()] == ["classification"] * 2


def test_google_drive_is_mounted_where_it_is_wanted_and_there_is_one(monkeypatch):
    assert drive_folder(False) is None
    with pytest.raises(RuntimeError, match="set DRIVE = False here"):
        drive_folder(True)
    mounted = []
    colab = SimpleNamespace(drive=SimpleNamespace(mount=mounted.append))
    monkeypatch.setitem(sys.modules, "google.colab", colab)
    assert drive_folder(True).as_posix() == "/content/drive/MyDrive/coursework"
    assert mounted == ["/content/drive"]
