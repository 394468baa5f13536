"""Predicting for files of one's own: the run's preprocessing, the image's own size."""

import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image, ImageColor

import helpers
from helpers.data import DataError, prepare
from helpers.data.masks import SPARE
from helpers.publishing.commands import main
from helpers.publishing.predicting import find_run, most_likely, predict, predict_files
from helpers.tasks import TASKS, build
from helpers.training import evaluate, fit
from tests.data.making import MAKE, photo
from tests.training.tiny import SETTINGS, make, train

RUNS = {  # name: task, network, loss
    "classification": ("classification", "resnet10", "cross_entropy"),
    "segmentation": ("segmentation", "unet", "cross_entropy"),
    "colorization": ("colorization", "unet", "channel_cross_entropy"),
    "colour_classes": ("colorization", "unet", "colour_classes"),
}
ODD = {"birds": (95, 61), "streets": (97, 131), "landscapes": (320, 240)}  # the last is not cropped
# On one worker, so that the networks are trained once
pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.xdist_group("predict")]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Of each run its task, network and folder, and its data in files."""
    found = {}
    for name, (kind, model, loss) in RUNS.items():
        root = tmp_path_factory.mktemp(name)
        task = TASKS[kind]
        settings = replace(SETTINGS, size=(36, 48), loss=loss)
        source = MAKE[task.data_set](root / "files")
        for path in source.rglob("*.*"):
            with Image.open(path) as image:  # a mask has few colours: they must stay
                larger = image.resize(ODD[task.data_set], Image.Resampling.NEAREST)
            larger.save(path)
        data = prepare(task.data_set, source, size=(36, 48), root=root / "data")
        made = task(data, settings)
        network = build(made, model)
        list(fit(network, made, data, folder=root / "runs", log=lambda line: None))
        run = find_run(kind, root / "runs")
        found[name] = SimpleNamespace(task=made, model=network, data=data, source=source, run=run)
    return found


@pytest.mark.parametrize("name", RUNS)
def test_predicting_the_test_files_one_by_one_gives_the_scores_of_the_run(name, trained):
    given = trained[name]
    scores = given.task.scores()
    for i, file in enumerate(given.data.test.names):
        (answer,) = predict(given.source / file, given.task.name, given.run)
        np.testing.assert_array_equal(answer.image, given.data.test.images[i])
        _, truth = given.data.test[i]
        if given.task.name == "colorization":
            truth = truth / 255
        scores.update(answer.answer[None], truth[None])
        width, height = ODD[given.task.data_set]
        assert name == "classification" or answer.full.shape[:2] == (height, width)
    expected = evaluate(given.model, given.task, given.data.test)[given.task.metric]
    assert getattr(scores, given.task.metric) == pytest.approx(expected, rel=1e-5)


def test_the_command_writes_masks_overlays_and_shares_at_the_images_own_size(
    trained, tmp_path, monkeypatch, capsys
):
    given = trained["segmentation"]
    monkeypatch.chdir(tmp_path)
    for place, size in {"a/x.jpg": (97, 131), "b/X.png": (64, 48)}.items():
        (tmp_path / place).parent.mkdir()
        photo(3, *size).save(tmp_path / place)
    for _ in range(2):  # its own files are replaced, and no images to be answered
        main(["predict", ".", "--task", "segmentation", "--run", str(given.run)])
    said = capsys.readouterr().out
    assert f"{given.run}: 4 epochs on streets from files/" in said and "2 images answered" in said
    out = tmp_path / "predictions" / given.run.name
    table = pd.read_csv(out / "shares.csv")
    assert list(table.file) == ["a/x.jpg", "b/X.png"]
    assert np.allclose(table[given.task.classes].sum(axis=1), 1, atol=1e-2)
    assert len(list(out.iterdir())) == 5, "the second x does not take the first one's place"
    for name, size in zip(table.answer, [(97, 131), (64, 48)], strict=True):
        with Image.open(out / f"{name}_mask.png") as mask:
            assert mask.size == size and mask.mode == "L"
            ids = np.asarray(mask)
        assert set(np.unique(ids)) <= set(given.task.ids)
        with Image.open(out / f"{name}_overlay.png") as overlay:
            assert overlay.width == size[0] and overlay.height > size[1], "the key stands below"


def test_later_calls_keep_the_answers_of_earlier_ones(trained, tmp_path):
    run = str(trained["segmentation"].run)
    out = tmp_path / "out"

    def answered(*names):
        files = [str(tmp_path / name) for name in names]
        command = ["predict", *files, "--task", "segmentation", "--run", run, "--out", str(out)]
        main(command)
        return pd.read_csv(out / "shares.csv").set_index("file").answer

    for number, name in enumerate(("007.png", "same.png", "same.jpg")):
        photo(number, 40, 32).save(tmp_path / name)
    answered("007.png", "same.png")
    first = (out / "same_mask.png").read_bytes()
    for _ in range(2):
        found = answered("same.jpg")
        assert found[str(tmp_path / "same.png")] == "same"
        assert found[str(tmp_path / "same.jpg")] == "same_"
        assert len(found) == 3 and len(list(out.glob("*_mask.png"))) == 3
    assert (out / "same_mask.png").read_bytes() == first


def test_species_come_with_probabilities_and_colours_with_the_photos_lightness(trained, tmp_path):
    for i in range(2):
        photo(i, 160, 90).save(tmp_path / f"{i}.png")
    for name in ("classification", "colorization"):
        run = str(trained[name].run)
        pattern = str(tmp_path / "*.png")  # which no shell has replaced
        main(["predict", pattern, "--task", name, "--run", run, "--out", str(tmp_path / name)])
    table = pd.read_csv(tmp_path / "classification/predictions.csv")
    assert len(table) == 2 and set(table["species 1"]) <= set(
        trained["classification"].data.classes
    )
    assert (table["probability 1"] + table["probability 2"]).between(0.999, 1.001).all()
    with Image.open(tmp_path / "colorization/0_coloured.png") as image, photo(0, 160, 90) as own:
        assert image.size == own.size
        grey = np.asarray(own.convert("L"), float) - np.asarray(image.convert("L"), float)
    assert np.abs(grey).mean() < 8, "but for clipping"


def test_bad_files_are_told_at_the_end_and_nothing_of_others_is_overwritten(
    trained, tmp_path, capsys
):
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "a.jpg").write_bytes(b"no image")
    (photos / "empty.jpg").write_bytes(b"")
    (photos / "c.heic").write_bytes(b"not read")
    photo(1).save(photos / "b.jpg")
    run = str(trained["segmentation"].run)
    command = ["predict", "--task", "segmentation", "--run", run]

    def refused(*arguments):
        with pytest.raises(SystemExit) as stop:
            main([*command, *map(str, arguments)])
        assert stop.value.code == 2
        return capsys.readouterr()

    said = refused(photos, tmp_path / "gone.jpg", "--out", tmp_path / "out")
    for told in (
        "3 files not answered: ",
        "a.jpg is not an image: replace",
        "empty.jpg is an empty",
        "gone.jpg is",
    ):
        assert told in said.err
    assert "c.heic is a .heic file, which is not read" in said.out
    assert (tmp_path / "out/b_mask.png").exists()

    for name in ("b_mask.png", "shares.csv"):
        mine = tmp_path / name[:3] / name
        mine.parent.mkdir()
        mine.write_text("file,road\nmine,1\n")
        said = refused(photos / "b.jpg", "--out", mine.parent)
        assert f"{mine} was not written by predict" in said.err
        assert mine.read_text() == "file,road\nmine,1\n"


def test_the_last_run_is_taken_and_without_one_it_is_said_how_to_train(tmp_path, monkeypatch):
    image = np.zeros((40, 50, 3), np.uint8)
    monkeypatch.setattr("helpers.publishing.predicting.REPORTS", tmp_path)
    with pytest.raises(DataError, match="train one with python -m helpers train segmentation"):
        helpers.predict(image)
    for seed in range(2):
        train(*make(seed=seed, epochs=1), folder=tmp_path / "quick/runs")
    newest = find_run("segmentation")
    states = sorted(tmp_path.rglob("last.pt"), key=lambda path: path.stat().st_mtime)
    assert states[1].parent == newest
    begun = shutil.copytree(newest, newest.with_name("segmentation-unet-00000000"))
    (begun / "history.csv").unlink()  # as before the end of its first epoch
    assert find_run("segmentation") == newest
    with pytest.raises(DataError, match="holds unet for segmentation: give another one"):
        helpers.predict(image, "colorization", newest)

    answers = helpers.predict([image, Image.fromarray(image).convert("L")])
    answers += helpers.predict(np.stack([image, image]))
    assert {answer.full.shape for answer in answers} == {(40, 50)} and len(answers) == 4
    assert answers[0].answer.shape == (32, 32)


def test_data_of_arrays_and_names_in_letters_of_no_font_get_an_overlay(tmp_path):
    network, task, data = make(epochs=1)
    task.classes = ["\ue000", "\ue001", "\ue002"]  # of private use
    task.ids = [7, 5, 200]
    train(network, task, data, folder=tmp_path / "runs")
    photo(1, 240, 180).save(tmp_path / "x.png")
    predict_files([tmp_path / "x.png"], "segmentation", tmp_path / "runs", tmp_path)
    with Image.open(tmp_path / "x_mask.png") as mask:
        assert {key for _, key in mask.getcolors()} <= {7, 5, 200}
    with Image.open(tmp_path / "x_overlay.png") as overlay:
        below = set(map(tuple, np.asarray(overlay)[180:].reshape(-1, 3).tolist()))
    assert below & set(map(ImageColor.getrgb, SPARE[:3]))


def test_enlarging_class_by_class_finds_the_same_class_as_all_at_once():
    logits = torch.randn(5, 7, 9)
    enlarged = torch.nn.functional.interpolate(logits[None], (20, 31), mode="bilinear")
    assert (most_likely(logits, (20, 31)) == enlarged[0].argmax(0).numpy()).all()
