"""What the controls of the notebooks do, without a browser: values are set as a hand would."""

import gc
import io
import weakref
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace

import ipywidgets
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from helpers import VOID, image_figures, widgets
from helpers.metrics import psnr
from helpers.presets import preset
from helpers.shortcuts import without_blocks
from helpers.skips import skip_means, without_skips
from helpers.tasks import Classification, Colorization, Segmentation, build
from helpers.training import predict
from tests.conftest import tiny_data

PALETTE = [(200, 0, 0), (0, 200, 0), (0, 0, 200)]
KINDS = {"birds": Classification, "streets": Segmentation, "landscapes": Colorization}


def made(kind, model, **changes):
    """(model, task, data) with random weights and batch statistics unlike those of new layers."""
    data = tiny_data(kind)
    settings = getattr(preset("smoke"), KINDS[kind].name)
    task = KINDS[kind](data, replace(settings, size=(32, 32), limit=None, **changes))
    model = build(task, model)
    model.train()(task.sample(data.train, 24)[0])
    return model.eval(), task, data


@pytest.fixture
def shown(monkeypatch):
    """What is displayed, in order. Each call is another cell's."""
    seen = []
    monkeypatch.setattr(widgets, "display", lambda thing, raw=False: seen.append(thing))
    monkeypatch.setattr(widgets, "running_cell", lambda: (len(seen), 0))
    monkeypatch.delenv("COURSEWORK_HEADLESS", raising=False)
    return seen


def panel(figure, number):
    """One image of a figure as integers, (H, W, 3) or (H, W)."""
    values = np.asarray(figure.axes[number].images[0].get_array())
    if values.dtype.kind == "f":
        values = (255 * values).round()
    return values.astype(int)


def rows_of(image):
    """(3, H, W) in [0, 1] -> (H, W, 3) integers, as a figure has them."""
    return (255 * image).round().permute(1, 2, 0).numpy().astype(int)


def set_values(box, **values):
    for name, value in values.items():
        box.controls[name].value = value


def test_skips_switched_off_give_what_without_skips_gives_and_its_score(shown):
    model, task, data = made("landscapes", {"skip": (False, True, True, True), "width": 4})
    whole = predict(model, task, data.test)
    box = widgets.skip_switches(model, task, data)
    assert list(box.controls) == ["1", "2", "3", "index"], "a skip that is not there has a switch"
    set_values(box, index=3)
    assert shown[-1].get_suptitle().startswith("Image 3. Skips off: none;")
    assert np.abs(panel(shown[-1], 2) - rows_of(whole[3])).max() <= 1
    assert not panel(shown[-1], 3).any(), "something has changed"
    set_values(box, **{"1": False, "3": False})
    means = skip_means(model, [task.sample(data.train, 64)[0]])
    with without_skips(model, [1, 3], means):
        answer = predict(model, task, data.test)
    assert np.abs(panel(shown[-1], 2) - rows_of(answer[3])).max() <= 1
    truth = torch.as_tensor(data.test.images[3]).permute(2, 0, 1)[None] / 255
    scores = [f"{psnr(x[3:4], truth).item():.3g}" for x in (answer, whole)]
    expected = f"Image 3. Skips off: 2, 4; PSNR (dB) {scores[0]}, with all {scores[1]}"
    assert shown[-1].get_suptitle() == expected
    assert torch.equal(predict(model, task, data.test), whole), "the network is not whole again"


def test_pixels_that_change_are_marked_where_a_segmenting_network_loses_a_skip(shown):
    model, task, data = made("streets", "unet")
    box = widgets.skip_switches(model, task, data, PALETTE)
    before = image_figures.paint(predict(model, task, data.test)[0], PALETTE)
    for skip in (True, False):
        set_values(box, **{"0": skip})
        changed = (panel(shown[-1], 2) != before).any(-1)
        red = panel(shown[-1], 3)
        assert changed.any() != skip
        assert np.array_equal(red[..., 0] - red[..., 2] > 100, changed)


def test_blocks_switched_off_give_the_accuracy_of_without_blocks_and_the_worst_images(shown):
    models = {name: made("birds", name)[0] for name in ("resnet18", "plain18")}
    _, task, data = made("birds", "resnet18")
    box = widgets.block_switches(models, task, data)
    set_values(box, **{"network": "plain18", "2": False})
    scores = []
    for name, model in models.items():
        with without_blocks(model, [2]):
            answer = predict(model, task, data.test).numpy()
        scores.append(f"{name} {(answer.argmax(1) == data.test.targets).mean():.3f}")
    expected = f"Blocks off: 3; accuracy: {', '.join(scores)}. Worst images of plain18:"
    assert shown[-1].get_suptitle() == expected
    worst = answer[range(12), data.test.targets].argsort()[:10]
    for number, row in enumerate(worst):
        assert np.array_equal(panel(shown[-1], number), data.test.images[row])


def test_bars_are_the_networks_probabilities_of_the_pixel_at_the_cross(shown):
    model, task, data = made("streets", "unet")
    other, _, _ = made("streets", "unet_no_skips")
    box = widgets.pixels({"with": model, "without": other}, task, data.test, PALETTE)
    set_values(box, network="without", index=5, row=9, column=20)
    with torch.no_grad():
        logits = other(task.inputs(data.test[[5]][0] / 255, None)[0])
    expected = torch.softmax(logits, 1)[0, :, 9, 20]
    bars = shown[-1].axes[1]
    assert [bar.get_width() for bar in bars.patches] == pytest.approx(expected.tolist(), abs=1e-4)
    assert [label.get_text() for label in bars.get_yticklabels()] == data.classes
    said = [data.classes[c] for c in (expected.argmax(), data.test.targets[5, 9, 20])]
    title = f"Image 5, at the cross: without says {said[0]}, the truth is {said[1]}"
    assert shown[-1].get_suptitle() == title
    data.test.targets[5, 9, 20] = VOID
    set_values(box, row=8)
    set_values(box, row=9)
    assert shown[-1].get_suptitle().endswith("the truth is void, which counts nowhere")
    set_values(box, opacity=1.0)
    painted = image_figures.paint(logits.argmax(1)[0], PALETTE)
    assert np.abs(panel(shown[-1], 0) - painted).max() <= 1


@pytest.mark.parametrize("rarity", [None, 0.0, 1.0])
def test_left_of_the_line_is_grey_and_right_of_it_the_answer(rarity, shown):
    loss = "l1" if rarity is None else "colour_classes"
    model, task, data = made("landscapes", "unet", loss=loss)
    box = widgets.before_after(model, task, data.test)
    if rarity is not None:  # colour classes are read with rare colours raised
        set_values(box, rarity=rarity)
        task = task.with_rarity(rarity)
    set_values(box, line=25)
    image = panel(shown[-1], 0)
    grey = data.test.images[0] @ [0.299, 0.587, 0.114]
    assert np.abs(image[:, :7] - grey[:, :7, None]).max() <= 1
    assert (image[:, 7] == 255).all()
    answer = rows_of(predict(model, task, data.test)[0])
    assert np.abs(image[:, 8:] - answer[:, 8:]).max() <= 2


def encoded(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def uploads(content):
    """The value of a FileUpload in ipywidgets 8 and in 7.7."""
    about = {"name": "mine.png", "type": "image/png", "size": len(content)}
    later = {**about, "content": memoryview(content), "last_modified": datetime.now(UTC)}
    return {"8": (later,), "7": {"mine.png": {"metadata": about, "content": content}}}


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "I;16", "P", "CMYK"])
def test_a_photo_of_any_mode_becomes_rgb_and_keeps_its_proportions(mode):
    image = Image.new("RGB", (300, 200), (90, 90, 90))
    if mode == "I;16":
        image = Image.fromarray(np.full((200, 300), 90 * 257, np.uint16))
    else:
        image = image.convert(mode)
    for upload in uploads(encoded(image, "TIFF" if mode == "CMYK" else "PNG")).values():
        photo = widgets.read_photo(upload, 32)
        assert photo.shape == (3, 64, 96) and (photo.int() - 90).abs().max() <= 6


def test_a_photo_that_the_camera_held_sideways_stands_upright():
    image = Image.new("RGB", (96, 64), "black")
    image.paste("white", (0, 0, 48, 64))  # the left half; turned clockwise, the upper one
    exif = Image.Exif()
    exif[0x0112] = 6
    photo = widgets.read_photo(uploads(encoded(image, "JPEG", exif=exif))["8"], 16)
    assert photo.shape == (3, 48, 32) and photo[:, :20].min() > 200 and photo[:, 28:].max() < 50


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is not an image"),
        (b"<!doctype html><p>not found", "is a web page saved as an image"),
        (encoded(Image.effect_noise((200, 200), 50), "JPEG")[:3000], "is damaged or cut off"),
        (encoded(Image.new("RGB", (5, 5))), "has only 5×5 pixels"),
    ],
    ids=["empty", "web page", "cut off", "tiny"],
)
def test_a_bad_file_gets_a_sentence_and_the_next_good_one_an_image(content, reason, shown, capsys):
    model, task, _ = made("landscapes", "unet")
    box = widgets.before_after(model, task)
    for file in (content, encoded(Image.new("RGB", (80, 60), "blue"))):
        upload = uploads(file)[ipywidgets.__version__[0]]
        box.controls["chosen"].set_trait("value", upload)
    assert [type(figure) for figure in shown] == [Figure, Figure]  # of the cup and of the good one
    assert f"Your file {reason}" in capsys.readouterr().out


def everything():
    """All controls, one after the other."""
    streets = made("streets", "unet")
    landscapes = made("landscapes", "unet")
    bird, task, data = made("birds", "resnet18")
    images = data.test.images
    yield widgets.browse(lambda i: image_figures.gallery(images[[i]]), 9)
    yield widgets.block_switches({"residual": bird}, task, data)
    yield widgets.skip_switches(*streets, PALETTE)
    yield widgets.pixels({"U-Net": streets[0]}, streets[1], streets[2].test, PALETTE)
    yield widgets.before_after(*landscapes[:2], landscapes[2].test)
    yield widgets.before_after(*landscapes[:2])


def test_where_nobody_can_move_anything_an_image_says_what_one_could_do(shown, monkeypatch):
    monkeypatch.setenv("COURSEWORK_HEADLESS", "1")
    for figure in everything():
        assert not shown
        (note,) = [text for text in figure.texts if text.get_text().startswith("In a running")]
        figure.draw_without_rendering()
        assert note.get_window_extent().x1 <= figure.bbox.x1 + 2, "it runs off the figure"


def test_each_is_stored_with_a_still_image_for_readers_without_a_kernel(shown):
    for box in everything():
        box._ipython_display_()
        view = shown[-1]["application/vnd.jupyter.widget-view+json"]
        assert view["model_id"] == box.model_id and shown[-1]["image/png"].startswith("iVBOR")
        assert all(control.description for control in box.controls.values())


def test_a_cell_that_runs_again_closes_what_it_had_opened_and_no_other_cells(shown, monkeypatch):
    def opened(*moment):
        def draw(i):
            shown.append(i)
            return image_figures.gallery([np.zeros((8, 8), np.uint8)])

        monkeypatch.setattr(widgets, "running_cell", lambda: moment)
        return widgets.browse(draw, 9), weakref.ref(draw)

    one, drawing = opened("cell", 0)
    two, _ = opened("cell", 0)  # two in one cell: both live
    other, _ = opened("another cell", 0)
    assert all(box.comm for box in (one, two, other))
    again, _ = opened("cell", 1)
    assert not any(part.comm for part in (one, two, one.controls["index"], *one.children))
    for box in (again, other):
        set_values(box, index=7)
    assert shown.count(7) == 2
    del one, two
    gc.collect()
    assert drawing() is None, "what was drawn is kept for ever, with its networks"


def test_a_cell_is_known_by_its_id_or_else_by_its_text(monkeypatch):
    shell = SimpleNamespace(user_ns={"In": ["", "first", "browse()"]}, execution_count=2)
    monkeypatch.setattr(widgets, "get_ipython", lambda: shell)
    for metadata, cell in (({"cellId": "c7"}, "c7"), ({}, "browse()")):
        shell.parent_header = {"metadata": metadata}
        assert widgets.running_cell() == (cell, 2)
