"""Predicting for files of one's own: the run's preprocessing, the image's own size."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import helpers
from helpers.data import DataError, prepare
from helpers.publishing.commands import main
from helpers.publishing.predicting import find_run, most_likely, predict
from helpers.tasks import TASKS, build
from helpers.training import evaluate, fit
from tests.data.making import MAKE, photo
from tests.training.tiny import SETTINGS, make, train

MODELS = {"classification": "resnet10", "segmentation": "unet", "colorization": "unet"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Of each task a trained network, its data in files, and the folder of its run."""
    root = tmp_path_factory.mktemp("trained")
    found = {}
    for name, model in MODELS.items():
        task = TASKS[name]
        changes = {"loss": "channel_cross_entropy"} if name == "colorization" else {}
        settings = SETTINGS.__class__(**{**vars(SETTINGS), "size": (36, 48), **changes})
        source = MAKE[task.data_set](root / task.data_set)
        if name == "colorization":  # of the size's proportions, so that nothing is cropped
            for i, path in enumerate(sorted(source.iterdir())):
                photo(i, 64, 48).save(path)
        data = prepare(task.data_set, source, size=(36, 48), root=root / "data")
        made = task(data, settings)
        network = build(made, model)
        list(fit(network, made, data, folder=root / "runs", log=lambda line: None))
        run = find_run(name, root / "runs")
        found[name] = SimpleNamespace(task=made, model=network, data=data, source=source, run=run)
    return found


@pytest.mark.parametrize("name", MODELS)
def test_predicting_the_test_files_one_by_one_gives_the_scores_of_the_run(name, trained):
    given = trained[name]
    scores = given.task.scores()
    for image, target in zip(given.data.test.names, given.data.test, strict=False):
        (answer,) = predict(given.source / image, name, given.run)
        assert answer.seen.shape == (36, 48, 3)
        truth = target[1]
        if name == "colorization":
            truth = truth / 255
        scores.update(answer.answer[None], truth[None])
    expected = evaluate(given.model, given.task, given.data.test)[given.task.metric]
    assert getattr(scores, given.task.metric) == pytest.approx(expected, rel=1e-5)


def test_the_command_writes_masks_overlays_and_shares_at_the_images_own_size(
    trained, tmp_path, capsys
):
    given = trained["segmentation"]
    photos = tmp_path / "photos"
    for place, size in {"a/x.jpg": (97, 131), "b/x.png": (64, 48)}.items():
        (photos / place).parent.mkdir(parents=True)
        photo(3, *size).save(photos / place)
    out = tmp_path / "out"
    command = ["predict", str(photos), "--task", "segmentation", "--run", str(given.run)]
    for _ in range(2):  # its own files are replaced
        main([*command, "--out", str(out)])
    assert given.run.name in capsys.readouterr().out
    table = pd.read_csv(out / "predictions.csv")
    assert [path[-7:] for path in table.file] == ["a/x.jpg", "b/x.png"]
    assert np.allclose(table[given.task.classes].sum(axis=1), 1, atol=1e-2)
    assert len(list(out.iterdir())) == 5, "the second x does not take the first one's place"
    for name, size in {"x": (97, 131), "x_": (64, 48)}.items():
        with Image.open(out / f"{name}_mask.png") as mask:
            assert mask.size == size and mask.mode == "L"
            ids = np.asarray(mask)
        assert set(np.unique(ids)) <= set(given.task.ids)
        with Image.open(out / f"{name}_overlay.png") as overlay:
            assert overlay.width == size[0] and overlay.height > size[1], "the key stands below"


def test_species_come_with_probabilities_and_colours_with_the_photos_lightness(trained, tmp_path):
    files = [str(tmp_path / f"{i}.png") for i in range(2)]
    for i, file in enumerate(files):
        photo(i, 160, 90).save(file)
    for name in ("classification", "colorization"):
        run = str(trained[name].run)
        main(["predict", *files, "--task", name, "--run", run, "--out", str(tmp_path / name)])
    table = pd.read_csv(tmp_path / "classification/predictions.csv")
    assert set(table["species 1"]) <= set(trained["classification"].data.classes)
    assert (table["probability 1"] + table["probability 2"]).between(0.999, 1.001).all()
    with Image.open(tmp_path / "colorization/0_coloured.png") as image, Image.open(files[0]) as own:
        assert image.size == own.size
        grey = np.asarray(own.convert("L"), float) - np.asarray(image.convert("L"), float)
    assert np.abs(grey).mean() < 8, "but for clipping"


def test_bad_files_are_told_at_the_end_and_nothing_of_others_is_overwritten(
    trained, tmp_path, capsys
):
    (tmp_path / "a.jpg").write_bytes(b"no image")
    photo(1).save(tmp_path / "b.jpg")
    photo(2).save(tmp_path / "b_mask.png")
    run = str(trained["segmentation"].run)
    command = ["predict", "--task", "segmentation", "--run", run]

    def refused(*arguments):
        with pytest.raises(SystemExit) as stop:
            main([*command, *map(str, arguments)])
        assert stop.value.code == 2
        return capsys.readouterr().err

    both = [tmp_path / "a.jpg", tmp_path / "b.jpg"]
    said = refused(*both, "--out", tmp_path / "out")
    assert "a.jpg is not an image: replace or remove it" in said and "1 of 2 files" in said
    assert (tmp_path / "out/b_mask.png").exists()
    before = (tmp_path / "b_mask.png").read_bytes()
    assert "was not written by predict" in refused(tmp_path / "b.jpg", "--out", tmp_path)
    assert (tmp_path / "b_mask.png").read_bytes() == before
    assert "no-such.jpg is not there" in refused(tmp_path / "no-such.jpg")


def test_the_last_run_is_taken_and_without_one_it_is_said_how_to_train(tmp_path, monkeypatch):
    monkeypatch.setattr("helpers.publishing.predicting.REPORTS", tmp_path)
    with pytest.raises(DataError, match="train one with python -m helpers train segmentation"):
        helpers.predict(np.zeros((40, 50, 3), np.uint8))
    for seed in range(2):
        train(*make(seed=seed, epochs=1), folder=tmp_path / "quick/runs")
    (answer,) = helpers.predict(np.zeros((40, 50, 3), np.uint8))
    assert answer.full.shape == (40, 50) and answer.answer.shape == (32, 32)
    newest = max(tmp_path.rglob("last.pt"), key=lambda path: path.stat().st_mtime)
    assert find_run("segmentation") == newest.parent


def test_enlarging_class_by_class_finds_the_same_class_as_all_at_once():
    logits = torch.randn(5, 7, 9)
    enlarged = torch.nn.functional.interpolate(logits[None], (20, 31), mode="bilinear")
    assert (most_likely(logits, (20, 31)) == enlarged[0].argmax(0).numpy()).all()
