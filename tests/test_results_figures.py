import itertools
import json
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import matplotlib.figure
import numpy as np
import pandas as pd
import pytest
import torch
from filelock import FileLock
from PIL import Image

from helpers import figures, galleries, widgets
from helpers.architecture import architecture, shapes
from helpers.metrics import bootstrap, iou_of, mean_iou_of
from helpers.models import FCN, ResNet18, UNet
from helpers.presets import preset
from helpers.results import RUNNING, Results, all_rows, report_folder, saved_rows, show

PART = SimpleNamespace(groups=np.array([7, 7, 8, 9]), unit="scenes")
DRAWN = SimpleNamespace(synthetic=True, label="embedded drawn birds", test=PART)
REAL = SimpleNamespace(synthetic=False, label="birds of Downloads", test=PART)
RIGHT = {"residual": [1, 1, 1, 0], "plain": [1, 0, 0, 0]}


def filled(folder, task="classification", data=REAL, shift=0, chosen="report", seeds=1):
    results = Results(folder, task, data, preset(chosen), seeds)
    for name, right in RIGHT.items():
        results.measure(name, accuracy=np.array([right] * seeds) + shift)
    return results


def saved(folder):
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))


def test_results_are_the_same_in_csv_json_and_latex(tmp_path):
    filled(tmp_path).save()
    rows = json.loads((tmp_path / "results.json").read_text())
    frame = pd.read_csv(tmp_path / "results.csv")
    assert [r["value"] for r in rows] == frame.value.tolist() == [0.75, 0.25]
    latex = (tmp_path / "results.tex").read_text()
    value, _, interval = show(*(rows[0][key] for key in ("value", "low", "high"))).partition(" ")
    assert rf"residual & {value} {{\scriptsize {interval}}}" in latex and latex.count(r"\\") == 3
    assert sorted(p.name for p in tmp_path.glob("[!.]*")) == ["results.csv", "results.json", "results.tex"]


def test_a_task_saved_again_replaces_its_own_rows_only(tmp_path):
    filled(tmp_path, "segmentation").save()
    filled(tmp_path, shift=3).save()
    filled(tmp_path, shift=1).save()
    frame = pd.read_csv(tmp_path / "results.csv")
    assert frame.task.tolist() == ["classification"] * 2 + ["segmentation"] * 2
    assert frame.value.tolist() == [1.75, 1.25, 0.75, 0.25]


def test_drawn_scores_never_stand_beside_the_reports(tmp_path, capsys):
    drawn, real = filled(tmp_path / "drawn", data=DRAWN), filled(tmp_path / "real", data=REAL)
    assert drawn.beside_report() is None
    assert "Not comparable" in (said := capsys.readouterr().out) and "0.0656 (residual)" in said
    assert drawn.save() is not None and all(row["reported"] is None for row in saved(tmp_path / "drawn"))
    real.save()
    assert saved(tmp_path / "real")[0]["reported"] == 0.9
    assert list(real.beside_report().index) == ["residual"]
    assert "the 'report' preset's 20 epochs on birds of Downloads" in capsys.readouterr().out


@pytest.mark.parametrize("chosen", ["smoke", "quick"])
def test_a_short_training_never_stands_beside_the_reports(tmp_path, chosen, capsys):
    results = filled(tmp_path, chosen=chosen)
    assert results.beside_report() is None
    assert f"Not comparable: these scores come from the '{chosen}' preset's" in capsys.readouterr().out
    results.save()
    assert all(row["reported"] is None for row in saved(tmp_path))


def test_a_table_never_holds_two_data_sets_of_one_task(tmp_path):
    filled(tmp_path, data=DRAWN).save()
    before = (tmp_path / "results.json").read_bytes()
    with pytest.raises(
        ValueError, match=r"holds classification scores on embedded drawn birds, not on birds"
    ):
        filled(tmp_path, data=REAL)
    assert (tmp_path / "results.json").read_bytes() == before
    filled(tmp_path, "segmentation", REAL).save()  # another task may have other data
    assert len(saved(tmp_path)) == 4


def test_reports_of_other_data_and_seeds_have_folders_of_their_own(tmp_path):
    assert (
        report_folder("quick").name == "quick" == report_folder("quick", birds="", streets="synthetic").name
    )
    assert report_folder("quick", streets="/data/camvid/").name == "quick-streets-camvid"
    assert report_folder("best", 3, birds="b.tar.gz", streets=None).name == "best-birds-b-seeds3"


def test_every_row_and_table_tells_its_seeds_and_units(tmp_path):
    results = filled(tmp_path, seeds=2)
    results.measure("chance", seeds=0, accuracy=np.full((1, 4), 0.5))
    results.measure("residual, some", keep=np.array([True, True, False, False]), accuracy=np.ones((2, 4)))
    results.difference("residual", "chance", "accuracy")
    results.save()
    evidence = {row["network"]: (row["seeds"], row["units"]) for row in saved(tmp_path)}
    few = "(too few for a safe interval)"
    assert evidence == {
        "residual": (2, f"3 scenes {few}"), "plain": (2, f"3 scenes {few}"), "chance": (0, f"3 scenes {few}"),
        "residual, some": (2, f"1 scenes {few}"), "residual − chance": (2, f"3 scenes {few}"),
    }  # fmt: skip
    assert results.table().loc["residual", "evidence"] == f"2 seeds, 3 scenes {few}"
    assert results.table().loc["chance", "evidence"] == f"3 scenes {few}"
    note = results.figure(figures.class_counts([3, 5, 4]), "f").texts[-1].get_text()
    assert note == f"2 seeds, 3 scenes {few}"


def test_scores_of_fewer_seeds_than_promised_are_refused(tmp_path):
    results = Results(tmp_path, "classification", REAL, preset("quick"), seeds=3)
    with pytest.raises(ValueError, match="plain, accuracy: values of 1 seeds, but there are 3"):
        results.measure("plain", accuracy=np.ones((1, 4)))


def test_an_interval_over_seeds_is_wider_where_seeds_disagree(tmp_path):
    test = SimpleNamespace(groups=np.arange(200), unit="pictures")
    data = SimpleNamespace(synthetic=True, label="x", test=test)
    right = np.random.default_rng(0).random((3, 200)) < np.array([[0.5], [0.7], [0.9]])
    widths = {}
    for name, values in {"apart": right, "together": np.stack([right[1]] * 3)}.items():
        results = Results(tmp_path, "classification", data, preset("quick"), seeds=3)
        results.measure("net", accuracy=values)
        value, low, high = results["net", "accuracy"]
        widths[name] = high - low
        assert value == pytest.approx(values.mean())
    assert widths["apart"] > 4 * widths["together"]


def test_differences_are_taken_picture_by_picture_with_the_scores_own_statistic(tmp_path):
    results = filled(tmp_path)
    table = results.difference("residual", "plain", "accuracy")
    gain = np.subtract(*RIGHT.values())
    expected = bootstrap(gain[None].astype(float), groups=PART.groups)
    assert results["residual − plain", "accuracy"] == pytest.approx(expected)
    assert table.loc["accuracy", "interval"] == "zero is inside: no difference shown"
    assert list(results.intervals("accuracy")) == ["residual", "plain"]
    matrices = np.random.default_rng(0).integers(1, 9, (2, 1, 4, 3, 3))
    for name, values in zip("ab", matrices, strict=True):
        results.measure(name, mean_iou=values, first=(values, lambda m: iou_of(m)[..., 0]))
    results.difference("a", "b", "mean_iou", "first")
    apart = np.subtract(*(mean_iou_of(values[0].sum(0)) for values in matrices))
    assert results["a − b", "mean_iou"][0] == pytest.approx(apart)
    assert results["a − b", "first"][0] == pytest.approx(results["a", "first"][0] - results["b", "first"][0])


def test_figures_say_that_data_is_drawn_and_their_pdf_is_the_same_every_time(tmp_path):
    def draw():
        return figures.class_counts([3, 5, 4])

    texts = [
        t.get_text() for t in Results(tmp_path / "a", "x", DRAWN, preset("quick")).figure(draw(), "f").texts
    ]
    assert "drawn data" in texts
    assert not Results(tmp_path / "b", "x", REAL, preset("quick")).figure(draw(), "f").texts[-1].get_text()
    Results(tmp_path / "c", "x", DRAWN, preset("quick")).figure(draw(), "f")
    pdfs = [(tmp_path / x / "figures" / "f.pdf").read_bytes() for x in "abc"]
    assert pdfs[0] == pdfs[2] != pdfs[1] and b"/FontFile2" in pdfs[0]
    assert (tmp_path / "a" / "figures" / "f.png").stat().st_size > 1000


@pytest.mark.parametrize(("args", "text"), [
    ((0.5,), "0.500"), ((0.5, 0.4, 0.6), "0.500 [0.400, 0.600]"), ((25.31, 24, 26), "25.3 [24.0, 26.0]"),
    ((-3.456,), "-3.46"), ((0.777, 0.777, 0.777), "0.777"), ((0.05, 0.05, 0.0501), "0.050 [0.050, 0.050]"),
])  # fmt: skip
def test_numbers_are_shown_with_the_digits_they_deserve(args, text):
    assert show(*args) == text


IMAGES = np.random.default_rng(0).integers(0, 255, (6, 24, 32, 3), dtype=np.uint8)
ROWS = [{"epoch": e, "train_loss": 1 / e, "valid_loss": 1.2 / e, "accuracy": e / 5} for e in (1, 2, 3)]
DRAWINGS = {
    "gallery": lambda: galleries.gallery(IMAGES, list("abcdef"), columns=4),
    "compare": lambda: galleries.compare(
        {"a": torch.rand(3, 1, 9, 12), "b": torch.rand(3, 3, 9, 12)}, [2, 0]
    ),
    "compare, across": lambda: galleries.compare({"a": IMAGES, "b": IMAGES}, across=True, title="all"),
    "compare, other sizes": lambda: galleries.compare({"a": [IMAGES[0], IMAGES[1, :9]]}, labels=["x", "y"]),
    "palette_legend": lambda: figures.palette_legend(list("abc"), np.eye(3) * 255, [0.7, 0.2, 0.1]),
    "class_counts": lambda: figures.class_counts([4]),
    "learning_curves": lambda: figures.learning_curves({"a": ROWS, "b": ROWS[:1]}, "accuracy"),
    "intervals": lambda: figures.intervals({"a": (0.5, 0.4, 0.6), "b": (0.2, 0.1, 0.3)}, "x"),
    "class_iou": lambda: figures.class_iou({"a": [[0.5, 0.4, 0.6], [np.nan] * 3]}, ["one", "two"]),
    "curves": lambda: figures.curves({"accuracy": ([10, 18], {"a": [(0.5, 0.4, 0.6)] * 2})}, "layers"),
    "dots": lambda: figures.curves(
        {"x": (["1", "2"], {"a": [(0.5, 0.4, 0.6)] * 2}), "y": ([1], {"b": [(0.1, 0.1, 0.2)]})},
        "block",
        ylabel="share",
        baseline={"chance": 0.05},
        joined=False,
    ),
    "landscapes": lambda: figures.landscapes({"a": np.eye(5) + 1e-9, "b": 9 * np.ones((5, 5))}, 0.5, "t"),
    "gains": lambda: figures.gains({"accuracy": {"a": (0.1, -0.1, 0.2)}, "PSNR": {"b": (5, 4, 6)}}, "t"),
    "confused_pairs": lambda: figures.confused_pairs([[3, 1], [2, 4]], ["ONE BIRD", "TWO BIRD"]),
    "confused_pairs, none": lambda: figures.confused_pairs(np.eye(2, dtype=int), ["ONE", "TWO"]),
    "sharpness_and_colour": lambda: figures.sharpness_and_colour({"a": (0.5, 9)}),
    "gradient_flow": lambda: figures.gradient_flow({"a": [0.1, 0.01]}),
    "resnet": lambda: architecture(ResNet18(3, width=4), torch.rand(1, 3, 64, 64)),
    "plain": lambda: architecture(ResNet18(3, width=4, skip=False), torch.rand(1, 3, 64, 64)),
    "fcn": lambda: architecture(FCN(3, width=4), torch.rand(1, 3, 64, 64)),
    "unet": lambda: architecture(UNet(3, 3, width=4, skip=[1, 0, 1, 0]), torch.rand(1, 3, 64, 64)),
}


def test_the_architecture_is_read_from_the_module():
    steps = {name: shape for name, _, shape in shapes(UNet(3, 5, width=8), torch.rand(2, 3, 32, 48))}
    assert (
        steps["down.2"] == (2, 32, 8, 12) and steps["bottleneck"] == (2, 128, 2, 3) and steps["head"][1] == 5
    )
    orange = {
        skip: sum(
            isinstance(p, matplotlib.patches.FancyArrowPatch) and p.get_edgecolor()[0] > 0.8
            for p in architecture(UNet(3, 3, width=4, skip=skip), torch.rand(1, 3, 32, 32)).axes[0].patches
        )
        for skip in (True, False, (True, False, False, True))
    }
    assert orange == {True: 4, False: 0, (True, False, False, True): 2}


def test_tables_show_the_pictures_rows_and_crops_that_were_asked_for():
    columns = {"a": IMAGES, "b": IMAGES[..., 0], "c": IMAGES}
    figure = galleries.compare(columns, [(4, 3, 5), (1, 0, 9)], crop=8, only=["a", "b"])
    shown = [axis.images[0].get_array() for axis in figure.axes]
    assert [axis.get_title() for axis in figure.axes] == ["a", "b", "", ""]
    assert (shown[0] == IMAGES[4, 3:11, 5:13]).all() and (shown[3] == IMAGES[1, :8, 9:17, 0]).all()
    across = galleries.compare(columns, [2, 5], across=True)
    assert len(across.axes) == 6 and (across.axes[1].images[0].get_array() == IMAGES[5]).all()
    assert across.axes[2].get_ylabel() == "b"


def test_titles_of_a_gallery_do_not_run_into_each_other():
    names = ["Copper-Breasted Bluechat", "Crimson-Capped Reed Warbler", "Black And Yellow Broadbill"] * 2
    for columns, size in ((6, 1.35), (5, 1.5)):
        figure = galleries.gallery(IMAGES, names, columns=columns, size=size)
        figure.draw_without_rendering()
        boxes = [axis.title.get_window_extent() for axis in figure.axes[: len(names)]]
        for row in (boxes[:columns], boxes[columns:]):
            assert all(left.x1 < right.x0 for left, right in itertools.pairwise(row))
        frames = [axis.get_window_extent() for axis in figure.axes]
        assert all(
            not box.overlaps(frame) for i, box in enumerate(boxes) for k, frame in enumerate(frames) if i != k
        )


def test_error_maps_mark_wrong_pixels_red_and_no_others():
    target = np.zeros((24, 32), int)
    prediction = target.copy()
    prediction[3, 4] = 1
    shown = galleries.error_map(IMAGES[0], prediction, target).astype(int)
    assert ((shown[..., 0] - shown[..., 2]) > 150).nonzero() == (3, 4)


def test_busiest_spots_find_the_dense_corner():
    band = np.zeros((3, 40, 40), bool)
    band[1, 20:30, 10:20] = True
    (image, top, left), *_ = galleries.busiest_spots(band, 8, 2)
    assert image == 1 and 20 <= top <= 24 and 8 <= left <= 14


def test_live_curves_are_one_picture_that_stands_above_the_lines_and_grows(monkeypatch):
    drawn = []
    handle = SimpleNamespace(update=drawn.append)
    monkeypatch.setattr(widgets, "display", lambda figure, display_id: drawn.append(figure) or handle)
    curves = widgets.LiveCurves("accuracy", "ours", {"others": ROWS})
    assert len(drawn) == 1, "shown only after the first epoch's line"
    for row in ROWS:
        curves.update(row)
    assert [len(figure.axes[1].lines[1].get_xdata()) for figure in drawn] == [0, 1, 2, 3]
    assert [text.get_text() for text in drawn[-1].legends[0].get_texts()] == ["others", "ours"]


def test_overfitting_one_batch_prints_a_loss_that_falls(capsys):
    net, task = torch.nn.Linear(2, 2), SimpleNamespace(loss=torch.nn.functional.mse_loss)
    widgets.overfit(net, task, torch.ones(4, 2), torch.full((4, 2), 5.0), steps=21, lr=0.1)
    losses = [float(line.split()[-1]) for line in capsys.readouterr().out.splitlines()]
    assert len(losses) == 3 and losses[0] > 4 * losses[-1]


def test_notebooks_that_save_at_the_same_time_keep_each_others_rows(tmp_path):
    tasks = ("classification", "segmentation", "colorization")
    notebooks = [filled(tmp_path, task) for task in tasks]
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda results: [results.save() for _ in range(10)], notebooks))
    assert {row["task"] for row in saved_rows(tmp_path)} == set(tasks)


def test_the_page_of_all_rows_waits_for_the_notebooks_that_run_beside_it(tmp_path):
    with ThreadPoolExecutor(1) as pool:
        with FileLock(tmp_path / f"2_x{RUNNING}"):
            rows = pool.submit(all_rows, tmp_path)
            with pytest.raises(TimeoutError):
                rows.result(timeout=0.3)
            (tmp_path / "results.json").write_text('[{"task": "late"}]')
        assert rows.result() == [{"task": "late"}]


def test_what_a_figure_rests_on_stands_below_the_names_of_its_curves(tmp_path):
    names = ("U-Net", "without skip 1", "without skips 1, 2", "without skips 1–3", "no skips")
    rows = {name: [(0.1, 0.0, 0.2)] * 3 for name in names}
    panels = {score: (range(3), rows) for score in ("power", "coherence")}
    filled(tmp_path, data=DRAWN).figure(figures.curves(panels, "octave"), "f")
    with Image.open(tmp_path / "figures" / "f.png") as picture:
        dark = np.asarray(picture.convert("L")) < 64  # as the names are, and the grey line below is not
    line = 7 * 300 // 72  # pixels
    assert dark[-5 * line :].any() and not dark[-line:].any()
