"""Charts, figures of images and of networks: what is drawn is what was asked for."""

import itertools
from functools import partial

import numpy as np
import pytest
import torch
from matplotlib.text import Annotation, Text

from helpers import figures, image_figures
from helpers.architecture import architecture, shapes
from helpers.models import FCN, ResNet18, UNet

IMAGES = np.random.default_rng(0).integers(0, 255, (6, 24, 32, 3), dtype=np.uint8)
ROWS = [{"epoch": e, "train_loss": 1 / e, "valid_loss": 1.2 / e, "accuracy": e / 5} for e in (1, 2)]
ONE = (0.5, 0.4, 0.6)
LOSS = (-0.3, -0.4, -0.2)
MIXED = [IMAGES[0], IMAGES[1, :9], torch.rand(1, 9, 12)]
X = torch.rand(1, 3, 64, 64)
DOTS = {"x": (["1", "2"], {"a": [ONE] * 2}), "y": ([1], {"b": [LOSS]})}
DRAWINGS = {
    "gallery": (image_figures.gallery, MIXED, list("abc")),
    "compare": (image_figures.compare, {"a": MIXED, "b": MIXED}, [2, 0]),
    "believed": (image_figures.believed, X[0], X[0], list("abc"), np.eye(3) * 255, 0.5, 3, 31, "t"),
    "palette_legend": (figures.palette_legend, "abc", np.eye(3) * 255, [0.7, 0.2, 0.1]),
    "learning_curves": (figures.learning_curves, {"a": ROWS, "b": ROWS[:1], "c": []}, "accuracy"),
    "intervals": (figures.intervals, {"accuracy": {"a": ONE}, "PSNR": {"b": LOSS}}, "t"),
    "class_iou": (figures.class_iou, {"a": np.array([ONE, [np.nan] * 3])}, ["one", "two"], "t"),
    "curves": (figures.curves, {"accuracy": ([10, 18], {"a": [ONE] * 2})}, "layers"),
    "dots": (partial(figures.curves, baseline={"chance": 0.05}, joined=False), DOTS, "block"),
    "landscapes": (figures.landscapes, {"a": np.eye(5), "b": 9 * np.ones((5, 5))}, 0.5, "t"),
    "confused_pairs": (figures.confused_pairs, [[3, 1], [2, 4]], ["ONE BIRD", "TWO BIRD"]),
    "no mistakes": (figures.confused_pairs, np.eye(2, dtype=int), ["ONE", "TWO"]),
    "gradient_flow": (figures.gradient_flow, {"a": [0.1, 0.01]}),
    "resnet": (architecture, ResNet18(3, width=4), X),
    "fcn": (architecture, FCN(3, width=4, skip=True), X),
    "unet": (architecture, UNet(3, 3, width=4), X, "U-Net"),
}


@pytest.mark.parametrize("name", DRAWINGS)
def test_a_figure_fits_a_column_where_no_letter_is_smaller_than_7_pt(name):
    draw, *arguments = DRAWINGS[name]
    figure = draw(*arguments)
    assert not figures.plt.get_fignums(), "pyplot would show it a second time"
    width, height = figure.get_size_inches()
    if width > figures.WIDEST:  # as Results.figure does
        figure.set_size_inches(figures.WIDEST, height * figures.WIDEST / width)
    figure.draw_without_rendering()
    assert figure.get_tightbbox().width <= figures.WIDEST + 0.1
    texts = figure.findobj(lambda part: hasattr(part, "get_fontsize"))
    assert min(text.get_fontsize() for text in texts if text.get_text()) >= 7


def test_names_are_shown_as_they_are_in_fonts_that_have_their_letters():
    odd = r"$x_1$ & \$ $"
    drawn = [
        figures.confused_pairs([[3, 1], [2, 4]], [odd, "B"]),
        figures.class_iou({odd: np.array([ONE, ONE])}, [odd, "$$"], odd),
        figures.palette_legend([odd, "B"], np.eye(3)[:2], [0.9, 0.1]),
        image_figures.gallery(MIXED, [odd], title=odd),
        image_figures.believed(X[0], X[0, :2], [odd, "B"], np.eye(3)[:2], 0.5, 3, 31, odd),
    ]
    for figure in drawn:
        figure.draw_without_rendering()
        texts = [text for text in figure.findobj(Text) if "$" in text.get_text()]
        texts = [text for text in texts if "mathdefault" not in text.get_text()]
        assert texts and not any(text.get_parse_math() for text in texts)
    everywhere = figures.fonts_with(frozenset("a\u20dd"))  # which DejaVu Sans lacks
    assert everywhere == ["DejaVu Sans", "STIXGeneral"]


def test_one_note_says_that_letters_have_no_font(monkeypatch, capsys):
    fonts = [font for font in figures.fontManager.ttflist if font.name == "DejaVu Sans"]
    monkeypatch.setattr(figures.fontManager, "ttflist", fonts)
    figures._note_missing.cache_clear()
    for name in ("北", "京"):
        figures.gradient_flow({name: [0.1, 0.01]})
    assert capsys.readouterr().out.count("no font for some letters") == 1


def test_gains_have_signs_and_a_line_at_zero_and_scores_have_neither():
    def said(**how):
        (axis,) = figures.intervals({"accuracy": {"a": ONE, "b": LOSS}}, **how).axes
        at_zero = [line for line in axis.lines if list(line.get_xdata()) == [0, 0]]
        return [text.get_text() for text in axis.texts], len(at_zero)

    assert said(gains=True) == (["+0.50", "−0.30"], 1)
    assert said() == (["0.500", "−0.300"], 0)


def test_classes_stand_in_the_order_of_the_first_networks_iou_absent_ones_last():
    ious = {"a": np.array([[0.2] * 3, [np.nan] * 3, ONE]), "b": np.array([ONE] * 3)}
    (axis,) = figures.class_iou(ious, ["one", "two", "three"]).axes
    assert [label.get_text() for label in axis.get_xticklabels()] == ["three", "one", "two"]
    np.testing.assert_equal(axis.lines[0].get_ydata(), [0.5, 0.2, np.nan])


def test_confused_pairs_are_the_mistakes_most_frequent_first():
    figure = figures.confused_pairs([[3, 1, 0], [2, 4, 0], [0, 0, 5]], ["ONE", "TWO", "THREE"])
    (axis,) = figure.axes
    assert [label.get_text() for label in axis.get_yticklabels()] == ["Two → One", "One → Two"]
    assert [bar.get_width() for bar in axis.patches] == [2, 1]
    assert figure.get_suptitle() == "3 of 15 test images are taken for another class"


def test_the_architecture_is_read_from_the_module():
    model = UNet(3, 5, width=8).train()
    steps = {name: shape for name, _, shape in shapes(model, torch.rand(2, 3, 32, 48))}
    assert steps["down.2"] == (2, 32, 8, 12) and steps["bottleneck"] == (2, 128, 2, 3)
    assert model.training and not any(m._forward_hooks for m in model.modules())
    *_, (name, _, shape) = shapes(FCN(5, width=4), torch.rand(1, 3, 33, 50))
    assert (name, shape) == ("enlarged", (1, 5, 33, 50))


@pytest.mark.parametrize(("model", "count"), [
    (UNet(3, 3, width=4, skip=False), 0),
    (UNet(3, 3, width=4, skip=[True, False, False, True]), 2),
    (ResNet18(3, width=4), 8),
    (ResNet18(3, width=4, skip=False), 0),
])  # fmt: skip
def test_an_architecture_has_an_orange_arrow_for_each_skip(model, count):
    (axis,) = architecture(model, torch.rand(1, 3, 32, 32)).axes
    arrows = [part.arrow_patch for part in axis.texts if isinstance(part, Annotation)]
    assert sum(arrow.get_edgecolor()[0] > 0.8 for arrow in arrows) == count


@pytest.mark.parametrize(("model", "says"), [
    (ResNet18(3, width=4), "shortcuts (orange)"),
    (ResNet18(3, width=4, skip=False), "no shortcuts"),
    (UNet(3, 3, width=4), "4 of 4 skips (orange)"),
    (torch.nn.Sequential(torch.nn.Conv2d(3, 3, 1)), "height × width"),
])  # fmt: skip
def test_an_architecture_says_of_skips_what_it_can_know(model, says):
    below = architecture(model, torch.rand(1, 3, 32, 32)).get_supxlabel()
    assert says in below and (("shortcuts" in below) == ("shortcuts" in says))


def test_tables_show_the_images_rows_and_close_ups_that_were_asked_for():
    columns = {"a": IMAGES, "b": torch.from_numpy(IMAGES[..., 0] / 255)[:, None], "c": IMAGES}
    cut = image_figures.close_ups(columns, [(4, 3, 5), (1, 0, 9)], 8)
    figure = image_figures.compare(cut, only=["a", "b"], labels=["one", "two"])
    shown = [axis.images[0].get_array() for axis in figure.axes]
    assert [axis.get_title() for axis in figure.axes] == ["a", "b", "", ""]
    assert [axis.get_ylabel() for axis in figure.axes] == ["one", "", "two", ""]
    assert (shown[0] == IMAGES[4, 3:11, 5:13]).all() and (shown[3] == IMAGES[1, :8, 9:17, 0]).all()
    across = image_figures.compare(columns, [2, 5], across=True)
    assert len(across.axes) == 6 and (across.axes[1].images[0].get_array() == IMAGES[5]).all()
    assert [axis.get_ylabel() for axis in across.axes] == ["a", "", "b", "", "c", ""]


def test_titles_of_a_gallery_do_not_run_into_each_other():
    names = ["Copper-Breasted Bluechat", "Crimson-Capped Reed Warbler\nand another line"] * 3
    for columns, size in ((6, 1.35), (5, 1.5)):
        figure = image_figures.gallery(IMAGES, names, columns=columns, size=size)
        figure.draw_without_rendering()
        titles = [axis.title.get_window_extent() for axis in figure.axes[:6]]
        for left, right in itertools.pairwise(titles[:columns]):
            assert left.x1 < right.x0
        for title, i in itertools.product(titles, range(6)):
            assert title is titles[i] or not title.overlaps(figure.axes[i].bbox)


def test_error_maps_mark_wrong_pixels_red_and_no_others():
    target = np.zeros((24, 32), int)
    prediction = target.copy()
    prediction[3, 4] = 1
    shown = image_figures.error_map(IMAGES[0], prediction, target).astype(int)
    assert ((shown[..., 0] - shown[..., 2]) > 150).nonzero() == (3, 4)


def test_busiest_spots_find_the_dense_corner():
    band = np.zeros((3, 40, 40), bool)
    band[1, 20:30, 10:20] = True
    (image, top, left), *others = image_figures.busiest_spots(band, 8, 2)
    assert image == 1 and 20 <= top <= 24 and 8 <= left <= 14 and len(others) == 1
