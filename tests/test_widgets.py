"""What the controls of the notebooks do, without a browser: values are set where a hand would move them."""

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

from helpers import galleries, live, widgets
from helpers.metrics import psnr
from helpers.presets import preset
from helpers.skips import bridge_means, without_blocks, without_bridges
from helpers.tasks import Classification, Colorization, Segmentation, build
from helpers.training import predict
from tests.conftest import tiny_data

PALETTE = [(200, 0, 0), (0, 200, 0), (0, 0, 200)]
KINDS = {"birds": Classification, "streets": Segmentation, "landscapes": Colorization}


def made(kind, network, **changes):
    """(network, task, data) with random weights and batch statistics that are not those of new layers."""
    data = tiny_data(kind)
    settings = replace(getattr(preset("smoke"), KINDS[kind].name), size=(32, 32), limit=None, **changes)
    task = KINDS[kind](data, settings)
    net = build(task, network)
    net.train()(task.sample(data.train, 24)[0])
    return net.eval(), task, data


@pytest.fixture
def shown(monkeypatch):
    """What is displayed, in order; a box is displayed as IPython does it."""
    seen = []
    monkeypatch.setattr(widgets, "display", lambda thing, raw=False: seen.append(thing))
    monkeypatch.delenv(widgets.HEADLESS, raising=False)
    return seen


def title(figure):
    return figure.get_suptitle()


def panel(figure, number, count, width=32):
    """One of the pictures of ``galleries.strip``, uint8."""
    (image,) = figure.axes[0].images
    whole = np.asarray(image.get_array())
    start = round(number * (whole.shape[1] + 1) / count)
    return whole[:, start : start + width]


def test_a_bridge_switched_off_gives_what_without_bridges_gives_and_the_metric_of_it(shown):
    net, task, data = made("landscapes", "unet")
    box = live.skip_switches(net, task, data, samples=8)
    box.controls["picture"].value = 3
    box.controls["bridge 2"].value = False
    box.controls["bridge 4"].value = False
    means = bridge_means(net, [task.sample(data.train, 8)[0]])
    truth = torch.as_tensor(data.test.images[3]).permute(2, 0, 1) / 255
    with without_bridges(net, [1, 3], means):
        answer = predict(net, task, data.test)[3]
    expected = (255 * answer).round().byte().permute(1, 2, 0).numpy()
    assert np.abs(panel(shown[-1], 2, 4).astype(int) - expected).max() <= 1
    score, whole = (psnr(x[None], truth[None]).item() for x in (answer, predict(net, task, data.test)[3]))
    assert title(shown[-1]) == f"Picture 3. Without bridges 2, 4: PSNR (dB) {score:.3g}; with all {whole:.3g}"


@pytest.mark.parametrize("kind", ["streets", "landscapes"])
def test_with_all_bridges_on_the_answer_is_the_networks_own_and_nothing_has_changed(kind, shown):
    net, task, data = made(kind, "unet")
    live.skip_switches(net, task, data, PALETTE if kind == "streets" else None)
    answer = predict(net, task, data.test)[0]
    answer = (
        galleries.paint(answer, PALETTE) if kind == "streets" else (255 * answer).round().permute(1, 2, 0)
    )
    assert np.array_equal(panel(shown[-1], 2, 4), np.asarray(answer).astype(np.uint8))
    change = panel(shown[-1], 3, 4).astype(int)
    assert (change[..., 0] == change[..., 2]).all() and (kind == "streets" or not change.any())
    assert title(shown[-1]).startswith("Picture 0. All bridges:")


def test_pixels_that_change_are_marked_where_a_bridge_is_taken_from_a_segmenting_net(shown):
    net, task, data = made("streets", "unet")
    box = live.skip_switches(net, task, data, PALETTE)
    before = panel(shown[-1], 2, 4)
    box.controls["bridge 1"].value = False
    changed = (panel(shown[-1], 2, 4) != before).any(-1)
    red = panel(shown[-1], 3, 4).astype(int)
    assert changed.any() and np.array_equal(red[..., 0] - red[..., 2] > 100, changed)


def test_only_bridges_that_a_net_has_get_a_switch_and_the_net_itself_stays_whole(shown):
    net, task, data = made("landscapes", lambda task: live_unet(task, [False, True, False, True]))
    before = predict(net, task, data.test)
    box = live.skip_switches(net, task, data)
    assert list(box.controls) == ["picture", "bridge 2", "bridge 4"]
    box.controls["bridge 2"].value = False
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in net.modules())
    assert torch.equal(predict(net, task, data.test), before)


def live_unet(task, skip):
    from helpers.models import UNet

    return UNet(1, 3, width=4, skip=skip)


def test_blocks_switched_off_give_the_accuracy_of_without_blocks_and_the_worst_pictures(shown):
    nets = {name: made("birds", name)[0] for name in ("resnet18", "plain18")}
    _, task, data = made("birds", "resnet18")
    truth = data.test.targets
    box = live.block_switches(nets, task, data, worst=4)

    def right(name, *out):
        with without_blocks(nets[name], out):
            return predict(nets[name], task, data.test)

    whole = {name: (right(name).argmax(1).numpy() == truth).mean() for name in nets}
    said = ", ".join(f"{name} {share:.3f}" for name, share in whole.items())
    assert title(shown[-1]).startswith(f"All blocks, accuracy: {said}. The resnet18 net's worst of 12")
    box.controls["block 3"].value = False
    box.controls["network"].value = "plain18"
    own = right("plain18", 2)[np.arange(12), truth]
    share = (right("plain18", 2).argmax(1).numpy() == truth).mean()
    assert title(shown[-1]).startswith("Without block 3, accuracy: ") and f"plain18 {share:.3f}." in title(
        shown[-1]
    )
    pictures = [np.asarray(axis.images[0].get_array()) for axis in shown[-1].axes if axis.images]
    for picture, row in zip(pictures, own.argsort()[:4].tolist(), strict=True):
        assert np.array_equal(picture, data.test.images[row])


def test_bars_are_the_networks_probabilities_of_the_pixel_at_the_cross(shown):
    net, task, data = made("streets", "unet")
    other = made("streets", "unet_no_skips")[0]
    box = live.pixels({"with": net, "without": other}, task, data.test, PALETTE)
    for name, value in {"network": "without", "picture": 5, "row": 9, "column": 20}.items():
        box.controls[name].value = value
    with torch.no_grad():
        logits = other(task.inputs(data.test[[5]][0] / 255, None)[0])
    expected = torch.softmax(logits, 1)[0, :, 9, 20]
    photo, bars = shown[-1].axes
    assert [bar.get_width() for bar in bars.patches] == pytest.approx(expected.tolist(), abs=1e-4)
    assert [label.get_text() for label in bars.get_yticklabels()] == data.classes
    said, true = data.classes[expected.argmax()], data.classes[data.test.targets[5, 9, 20]]
    assert title(shown[-1]) == f"Picture 5, at the cross: {said}, says without; the truth: {true}"
    box.controls["opacity"].value = 0.0
    assert np.allclose(shown[-1].axes[0].images[0].get_array(), data.test.images[5] / 255)
    box.controls["opacity"].value = 1.0
    painted = galleries.paint(logits.argmax(1)[0], PALETTE)
    assert np.allclose(shown[-1].axes[0].images[0].get_array(), painted / 255)


def test_left_of_the_line_is_grey_and_right_of_it_the_answer(shown):
    net, task, data = made("landscapes", "unet")
    box = live.before_after(net, task, data.test)
    assert list(box.controls) == ["picture", "line"]
    box.controls["line"].value = 25
    picture, answer = (
        panel(shown[-1], 0, 1).astype(int),
        255 * predict(net, task, data.test)[0].permute(1, 2, 0),
    )
    grey = data.test.images[0] @ [0.299, 0.587, 0.114]
    assert np.abs(picture[:, :8] - grey[:, :8, None]).max() <= 1
    assert np.abs(picture[:, 8:] - answer.numpy()[:, 8:]).max() <= 1


def test_where_colour_classes_are_trained_they_are_read_with_rare_colours_raised_as_set(shown):
    net, task, data = made("landscapes", "unet", loss="colour_classes")
    box = live.before_after(net, task, data.test)
    box.controls["line"].value = 0
    inputs, _ = task.sample(data.test, 12)
    with torch.no_grad():
        logits = net(inputs[:1])
    for rarity in (0.0, 1.0):
        box.controls["rarity"].value = rarity
        expected = 255 * task.colours.decode(logits, (inputs[:1] + 1) / 2, 0.38, rarity)[0].permute(1, 2, 0)
        assert np.abs(panel(shown[-1], 0, 1).astype(int) - expected.numpy()).max() <= 2


def encoded(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def fitted(content):
    return live.fitted(live.open_photo("mine", content), 64).images


def uploads(content, name="mine.png"):
    """The value of a FileUpload in ipywidgets 8 and in 7.7."""
    about = {"name": name, "type": "image/png", "size": len(content)}
    eight = ({**about, "content": memoryview(content), "last_modified": datetime.now(UTC)},)
    return eight, {name: {"metadata": about, "content": content}}


def test_an_upload_is_read_the_same_in_both_shapes_of_ipywidgets(shown):
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 96, 3), dtype=np.uint8))
    eight, seven = (live.open_photo(*live.uploaded(value)) for value in uploads(encoded(picture)))
    assert np.array_equal(eight, picture) and np.array_equal(seven, picture)


@pytest.mark.parametrize("mode", ["L", "RGBA", "I;16", "P", "CMYK"])
def test_a_photo_of_any_mode_and_size_becomes_rgb_of_the_wanted_size(mode):
    image = Image.new("RGB", (300, 200), (90, 90, 90))
    image = (
        Image.fromarray(np.full((200, 300), 90 * 257, np.uint16)) if mode == "I;16" else image.convert(mode)
    )
    content = encoded(image, "TIFF" if mode == "CMYK" else "PNG")
    images = fitted(content)
    assert images.shape == (1, 64, 96, 3) and np.abs(images.astype(int) - 90).max() <= 6


def test_a_photo_that_the_camera_held_sideways_stands_upright():
    image = Image.new("RGB", (96, 64), "black")
    image.paste("white", (0, 0, 48, 64))  # the left half; turned clockwise, the upper one
    exif = Image.Exif()
    exif[0x0112] = 6
    images = fitted(encoded(image, "JPEG", exif=exif))
    assert images.shape == (1, 96, 64, 3) and images[0, :40].min() > 200 and images[0, 56:].max() < 50


def test_a_panorama_is_kept_small():
    images = fitted(encoded(Image.new("RGB", (4000, 40))))
    assert images.shape == (1, 16, 256, 3)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is not an image"),
        (b"plain text, no picture", "is not an image"),
        (b"<!doctype html><p>not found", "is a web page saved as an image"),
        (encoded(Image.effect_noise((200, 200), 50), "JPEG")[:3000], "is damaged or cut off"),
        (encoded(Image.new("RGB", (5, 5))), "has only 5×5 pixels"),
    ],
)
def test_a_bad_file_gets_a_sentence_and_the_next_good_one_a_picture(content, reason, shown, capsys):
    net, task, data = made("landscapes", "unet")
    box = live.before_after(net, task)
    first = shown[-1]
    for file, good in ((content, False), (encoded(Image.new("RGB", (80, 60), "blue")), True)):
        upload = uploads(file, "mine.xyz")[ipywidgets.__version__[0] == "7"]
        box.controls["picture"].set_trait("value", upload)
        if not good:
            said = capsys.readouterr().out
            assert f"mine.xyz {reason}" in said and said.rstrip().endswith(".") and "Traceback" not in said
            assert shown[-1] is first
    assert shown[-1] is not first


def test_a_slider_over_pictures_shows_the_one_it_stands_at(shown):
    drawn = []
    box = widgets.browse(lambda i: drawn.append(i) or galleries.gallery([np.zeros((8, 8))]), 9)
    box.controls["index"].value = 7
    assert drawn[-1] == 7 and box.controls["index"].max == 8 and len(shown) == 2


def everything():
    net, task, data = made("streets", "unet")
    bird, birds, flock = made("birds", "resnet18")
    grey, colour, land = made("landscapes", "unet")
    yield lambda: widgets.browse(lambda i: galleries.gallery(land.test.images[[i]]), 3)
    yield lambda: live.block_switches({"residual": bird}, birds, flock)
    yield lambda: live.skip_switches(net, task, data, PALETTE)
    yield lambda: live.pixels({"U-Net": net}, task, data.test, PALETTE)
    yield lambda: live.before_after(grey, colour, land.test)
    yield lambda: live.before_after(grey, colour)


def test_where_nobody_can_move_anything_each_is_a_picture_that_says_what_one_could_do(shown, monkeypatch):
    monkeypatch.setenv(widgets.HEADLESS, "1")
    for show in everything():
        figure = show()
        assert isinstance(figure, Figure) and not shown
        notes = [" ".join(text.get_text().split()) for text in figure.texts]
        assert sum(note.startswith("In a running notebook: ") for note in notes) == 1


def test_each_is_stored_with_a_still_picture_for_readers_without_a_kernel(shown):
    for show in everything():
        box = show()
        box._ipython_display_()
        bundle = shown[-1]
        assert bundle["application/vnd.jupyter.widget-view+json"]["model_id"] == box.model_id
        assert bundle["image/png"].startswith("iVBOR") and bundle["text/plain"].startswith("In a running")
        assert all(control.description for control in box.controls.values()), "a control without a name"


def living():
    return len(getattr(ipywidgets.widgets.widget, "_instances", None) or ipywidgets.Widget.widgets)


def test_a_cell_that_runs_again_forgets_what_it_had_opened_and_other_cells_keep_theirs(shown, monkeypatch):
    moment = ["cell", 0]
    monkeypatch.setattr(widgets, "running_cell", lambda: tuple(moment))
    monkeypatch.setattr(widgets.Live, "opened", {})

    def opened():
        def draw(a):
            shown.append(a)
            return galleries.gallery([np.zeros((8, 8))])

        return widgets.hands_on(draw, "", a=widgets.slider("a", 0, 0, 9)), weakref.ref(draw)

    (one, gone), (two, _) = opened(), opened()  # two in one cell: both live
    for box in (one, two):
        box.controls["a"].value = 5
    assert shown.count(5) == 2
    moment[0] = "another cell"
    other, _ = opened()
    moment[:] = "cell", 1
    before = living()
    again, _ = opened()
    old, two = one.controls["a"], None
    old.value = 6
    assert 6 not in shown and living() < before
    for box in (again, other):
        box.controls["a"].value = 7
    assert shown.count(7) == 2
    del one, box
    gc.collect()
    assert gone() is None, "what was drawn is kept for ever, with its networks"
    for run in (2, 3):
        moment[1], before = run, living()
        opened()
    assert living() == before


def test_a_cell_is_known_by_its_id_or_else_by_its_text(monkeypatch):
    def runs(**parent):
        shell = SimpleNamespace(parent_header=parent, user_ns={"In": ["", "first", "browse()"]})
        monkeypatch.setattr(widgets, "get_ipython", lambda: shell)
        return widgets.running_cell()

    assert runs(header={"msg_id": "m1"}, metadata={"cellId": "c7"}) == ("c7", "m1")
    assert runs(header={"msg_id": "m2"}, metadata={}) == ("browse()", "m2")
    monkeypatch.setattr(widgets, "get_ipython", lambda: None)
    assert widgets.running_cell() == ("", None)
