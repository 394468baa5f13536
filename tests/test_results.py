"""Scores, their intervals and files, and figures as they are saved."""

import errno
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from helpers import figures, photographs, results
from helpers.engine.files import DataError
from helpers.figures import STYLE, WIDEST
from helpers.metrics import bootstrap, iou_of, mean_iou_of
from helpers.presets import preset
from helpers.publishing.commands import main
from helpers.results import Results, report_folder, saved_rows, show

TEST = SimpleNamespace(groups=np.array([7, 7, 8, 9]), unit="scenes")
SYNTHETIC = SimpleNamespace(synthetic=True, label="synthetic birds", test=TEST)
REAL = SimpleNamespace(synthetic=False, label="birds of Downloads", test=TEST)
RIGHT = {"residual": [1, 1, 1, 0], "plain": [1, 0, 0, 0]}
FIRST = np.array([True, True, False, False])
FEW = "(too few for a safe interval)"


def filled(folder, task="classification", data=REAL, shift=0, chosen="report", seeds=1):
    results = Results(folder, task, data, preset(chosen), seeds)
    for name, right in RIGHT.items():
        results.measure(name, accuracy=np.array([right] * seeds) + shift)
    return results


def test_results_are_the_same_in_csv_json_and_latex(tmp_path):
    folder = tmp_path / "not" / "yet"
    filled(folder).save()
    rows = saved_rows(folder)
    assert [row["value"] for row in rows] == [0.75, 0.25]
    assert pd.read_csv(folder / "results.csv").value.tolist() == [0.75, 0.25]
    latex = (folder / "results.tex").read_text()
    value, _, interval = show(rows[0]["value"], rows[0]["low"], rows[0]["high"]).partition(" ")
    assert rf"residual & {value} {{\scriptsize {interval}}}" in latex and latex.count(r"\\") == 3
    names = {path.name for path in folder.glob("[!.]*")}
    assert names == {"results.csv", "results.json", "results.tex"}


def test_what_is_damaged_or_of_another_preset_is_named_and_kept(tmp_path):
    path = tmp_path / "results.json"
    for damaged in ("", "{", "null", "[1]", '["a"]', '"text"', "\xff"):
        path.write_bytes(damaged.encode("latin-1"))
        with pytest.raises(DataError, match=r"results.json is damaged \(.*: move it away"):
            filled(tmp_path)
        assert path.read_bytes() == damaged.encode("latin-1")
    path.unlink()
    filled(tmp_path, "segmentation", chosen="quick").save()
    before = path.read_bytes()
    for preset_, task in (("smoke", "segmentation"), ("smoke", "classification")):
        with pytest.raises(ValueError, match="scores of the 'quick' preset, not of 'smoke'"):
            filled(tmp_path, task, chosen=preset_)
    with pytest.raises(SystemExit) as stop:
        main(["run", "--preset", "smoke", "--out", str(tmp_path)])
    assert stop.value.code == 2 and path.read_bytes() == before

    older = json.loads(before)
    for row in older:
        del row["preset"], row["trained how"], row["notebook"]
    path.write_text(json.dumps(older), encoding="utf-8")
    filled(tmp_path, chosen="smoke").save()  # an older version's file: nobody can know
    assert [row["preset"] for row in saved_rows(tmp_path)] == ["smoke", "smoke", None, None]


def test_the_study_keeps_the_lessons_scores_and_replaces_its_own(tmp_path):
    filled(tmp_path).save()
    for shift in (0, 0.5):
        study = Results(tmp_path, "classification", REAL, preset("report"), study=True)
        study.measure("plain", accuracy=np.full((1, 4), shift))
        study.save()
    rows = saved_rows(tmp_path)
    told = [(row["notebook"], row["network"], row["value"]) for row in rows]
    assert told == [
        ("lesson", "residual", 0.75),
        ("lesson", "plain", 0.25),
        ("study", "plain", 0.5),
    ]
    filled(tmp_path, shift=1).save()
    assert saved_rows(tmp_path)[2]["value"] == 0.5 and len(saved_rows(tmp_path)) == 3


def test_a_guess_stands_beside_the_difference_that_it_was_about(tmp_path):
    results = filled(tmp_path)
    results.guess("residual − plain", accuracy=0.2)
    results.guess("plain − residual", accuracy=None)
    assert results.difference("residual", "plain", "accuracy")["your guess"].tolist() == [0.2]
    assert "your guess" not in results.difference("plain", "residual", "accuracy")


def test_what_skips_are_worth_is_told_of_the_run_and_of_photographs(tmp_path, monkeypatch):
    photo = {"data": "scenes", "network": "residual − plain", "score": "accuracy"}
    photo |= {"notebook": "lesson", "value": 0.1, "low": 0.0, "high": 0.2}
    monkeypatch.setattr(photographs, "photographs", lambda: [photo])
    run = Results(tmp_path, "colorization", SYNTHETIC, preset("quick"))
    for name, error in {"U-Net": 10.0, "no skips": 12.0}.items():
        run.measure(f"{name} + input lightness", ab_error=np.full((1, 4), error))
    run.difference("U-Net + input lightness", "no skips + input lightness", "ab_error")
    run.save()
    own = photo | {"data": "birds from mine/", "value": 0.3}
    saved = results.saved_rows(tmp_path)
    monkeypatch.setattr(photographs, "saved_rows", lambda folder: [*saved, own])
    panels = photographs.bought(tmp_path)
    shown = {panel: {k: v.tolist() for k, v in rows.items()} for panel, rows in panels.items()}
    assert shown == {
        "birds, scenes: accuracy": {
            "shortcuts, your images": [0.3, 0.0, 0.2],
            "shortcuts, photographs": [0.1, 0.0, 0.2],
        },
        "landscapes: ab error, less of it": {"U-Net's four skips, synthetic": [2.0, 2.0, 2.0]},
    }, "less error is a gain"


def test_scores_are_saved_on_a_drive_without_locks(tmp_path, monkeypatch):
    def refuse(self):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(results.FileLock, "_acquire", refuse)
    filled(tmp_path / "new").save()
    assert len(saved_rows(tmp_path / "new")) == 2


def test_a_task_saved_again_replaces_its_own_rows_only(tmp_path):
    for task, shift in (("segmentation", 0), ("classification", 3), ("classification", 1)):
        filled(tmp_path, task, shift=shift).save()
    rows = [(row["task"][:5], row["value"]) for row in saved_rows(tmp_path)]
    assert rows == [("class", 1.75), ("class", 1.25), ("segme", 0.75), ("segme", 0.25)]


def test_notebooks_that_save_at_the_same_time_keep_each_others_rows(tmp_path):
    notebooks = [filled(tmp_path, task) for task in ("classification", "segmentation")]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda results: [results.save() for _ in range(10)], notebooks))
    assert {row["task"] for row in saved_rows(tmp_path)} == {"classification", "segmentation"}


def test_only_a_full_training_on_photographs_stands_beside_the_report(tmp_path, capsys):
    for data, chosen in ((SYNTHETIC, "report"), (REAL, "smoke"), (REAL, "quick"), (REAL, "report")):
        results = filled(tmp_path, data=data, chosen=chosen)
        table = results.beside_report()
        said = capsys.readouterr().out
        reported = [row["reported"] for row in results.rows.values()]
        assert f"the '{chosen}' preset's" in said and "loss 0.0656 (residual)" in said
        if data is REAL and chosen == "report":
            assert list(table.index) == ["residual"] and reported == [0.9, None]
        else:
            assert table is None and reported == [None, None] and said.startswith("Not comparable")


def test_a_table_never_holds_two_data_sets_of_one_task(tmp_path):
    filled(tmp_path, data=SYNTHETIC).save()
    before = (tmp_path / "results.json").read_bytes()
    with pytest.raises(ValueError, match="scores on synthetic birds, not on birds of Downloads"):
        filled(tmp_path, data=REAL)
    assert (tmp_path / "results.json").read_bytes() == before
    filled(tmp_path, "segmentation", REAL).save()  # another task may have other data
    assert len(saved_rows(tmp_path)) == 4


def test_reports_of_other_data_and_seeds_have_folders_of_their_own():
    assert report_folder("quick", birds="", streets="synthetic").name == "quick"
    assert report_folder("quick", streets="/data/camvid/").name == "quick-streets-camvid"
    assert report_folder("best", 3, birds="b.tar.gz", streets=None).name == "best-birds-b-seeds3"
    names = {report_folder("quick", student=name).name for name in ("Ada", "Ада", "Ида", "")}
    assert len(names) == 4 and all(name.startswith("quick") for name in names)


def test_every_row_and_table_tells_its_seeds_and_units(tmp_path):
    results = filled(tmp_path, seeds=2)
    results.measure("chance", seeds=0, accuracy=np.full((1, 4), 0.5))
    results.measure("some", keep=FIRST, accuracy=np.ones((2, 4)))
    results.difference("residual", "chance", "accuracy")
    results.difference("chance", "chance", "accuracy")
    assert results.table().evidence.to_dict() == {
        "residual": f"2 seeds, 3 scenes {FEW}",
        "plain": f"2 seeds, 3 scenes {FEW}",
        "chance": f"3 scenes {FEW}",
        "some": f"2 seeds, 1 scenes {FEW}",
        "residual − chance": f"2 seeds, 3 scenes {FEW}",
        "chance − chance": f"3 scenes {FEW}",
    }


def test_scores_of_fewer_seeds_than_promised_are_refused(tmp_path):
    results = Results(tmp_path, "classification", REAL, preset("quick"), seeds=3)
    with pytest.raises(ValueError, match="plain, accuracy: values of 1 seed, but there are 3"):
        results.measure("plain", accuracy=np.ones((1, 4)))


def test_a_known_name_takes_the_same_values_again_and_no_others(tmp_path):
    results = filled(tmp_path)
    for _ in range(2):  # a cell that runs twice
        results.measure("residual", accuracy=np.array([RIGHT["residual"]]))
        results.measure("empty", loss=np.full((1, 4), np.nan))
    assert len(results.rows) == 3
    for values, keep in ((np.array([RIGHT["plain"]]), None), (np.ones((1, 4)), FIRST)):
        with pytest.raises(ValueError, match=r"residual, accuracy .* give another name, or begin"):
            results.measure("residual", keep=keep, accuracy=values)
    assert results["residual", "accuracy"][0] == 0.75


def test_where_there_are_too_few_images_a_table_says_so_instead_of_a_number(tmp_path):
    results = Results(tmp_path, "classification", REAL, preset("quick"))
    none = np.zeros(4, bool)
    for name in ("one", "other"):
        results.measure(name, keep=none, loss=np.ones((1, 4)))
        results.measure(f"{name} image", keep=FIRST, loss=np.ones((1, 4)))
    table = results.difference("one", "other", "loss")
    assert table.loc["loss", ["one − other", "interval"]].tolist() == ["too few to say"] * 2
    table = results.difference("one image", "other image", "loss")  # two of one unit
    assert table.loc["loss", ["one image − other image", "interval"]].tolist() == [
        "0.000",
        "too few to say",
    ]
    assert results.table().loss.tolist()[:2] == ["too few to say", "1.000"]
    results.save()
    json.loads((tmp_path / "results.json").read_text(), parse_constant=pytest.fail)


def test_a_table_of_networks_trained_in_different_ways_says_how(tmp_path):
    results = filled(tmp_path, chosen="quick")
    assert "trained how" not in results.table()
    settings = replace(preset("quick").classification, width=4, limit=9, epochs=1)
    results.measure("half", how=settings, accuracy=np.ones((1, 4)))
    results.measure("chance", seeds=0, accuracy=np.ones((1, 4)))
    results.measure("none", how="untrained", accuracy=np.ones((1, 4)))
    results.difference("residual", "half", "accuracy")
    whole = "width 32, 10 epochs, all images"
    half = "width 4, 1 epoch, at most 9 images"
    expected = [whole, whole, half, "", "untrained", f"{whole} − {half}"]
    assert results.table()["trained how"].tolist() == expected
    assert "trained how" not in results.table("residual", "plain", "chance")


def test_differences_are_taken_image_by_image_with_the_scores_own_statistic(tmp_path):
    results = filled(tmp_path)
    table = results.difference("residual", "plain", "accuracy")
    gain = np.subtract(*RIGHT.values())
    expected = bootstrap(gain[None].astype(float), groups=TEST.groups)
    assert results["residual − plain", "accuracy"] == pytest.approx(expected)
    assert table.loc["accuracy", "interval"] == "zero is inside: no difference shown"
    assert list(results.intervals("accuracy")) == ["residual", "plain"]

    matrices = np.random.default_rng(0).integers(1, 9, (2, 1, 4, 3, 3))
    for name, values in zip("ab", matrices, strict=True):
        results.measure(name, mean_iou=values, first=(values, lambda m: iou_of(m)[..., 0]))
    results.difference("a", "b", "mean_iou", "first")
    apart = np.subtract(*(mean_iou_of(values[0].sum(0)) for values in matrices))
    assert results["a − b", "mean_iou"][0] == pytest.approx(apart)
    of_first = results["a", "first"][0] - results["b", "first"][0]
    assert results["a − b", "first"][0] == pytest.approx(of_first)


def test_networks_measured_on_different_images_have_no_difference(tmp_path):
    results = Results(tmp_path, "classification", REAL, preset("quick"))
    results.measure("one", keep=FIRST, accuracy=np.array([[0, 0, 1, 1]]))
    results.measure("other", keep=~FIRST, accuracy=np.array([[0, 0, 1, 1]]))
    with pytest.raises(ValueError, match="one and other were measured on different images"):
        results.difference("one", "other", "accuracy")
    assert len(results.rows) == 2


def test_a_network_without_scores_is_named(tmp_path):
    results = filled(tmp_path)
    with pytest.raises(KeyError, match="'deeper' has no scores yet: train and measure it first"):
        results.difference("residual", "deeper", "accuracy")
    with pytest.raises(KeyError, match="'deeper' has no scores yet"):
        results["deeper", "accuracy"]
    network, score = next(iter(results.measured))
    with pytest.raises(KeyError, match=f"no score 'top 1' of '{network}': choose one of {score}"):
        results[network, "top 1"]


def test_a_difference_without_a_score_has_all_of_them(tmp_path):
    results = filled(tmp_path)
    network, _ = next(iter(results.measured))
    scores = [score for name, score in results.measured if name == network]
    assert len(results.difference(network, network)) == len(scores) > 0


def test_numbers_are_shown_with_the_digits_they_deserve():
    assert show(0.5) == show(0.5, 0.5, 0.5) == "0.500"
    assert show(0.5, 0.4, 0.6) == "0.500 [0.400, 0.600]"
    assert show(25.31, 24, 26) == "25.3 [24.0, 26.0]"
    assert show(-3.456) == "-3.46"
    assert show(0.05, 0.05, 0.0501) == "0.050 [0.050, 0.050]"


def chart():
    with plt.style.context(STYLE):
        figure, axis = plt.subplots(figsize=(5, 2))
        axis.plot([0, 1])
        axis.set_xlabel("<b>epoch</b>")
        plt.close(figure)
    return figure


def test_a_figure_carries_its_caption_and_what_it_rests_on_and_its_pdf_never_changes(tmp_path):
    def saved(data, **how):
        results = Results(tmp_path, "classification", data, preset("quick"))
        figure = results.figure(chart(), "f", "Skips help.", **how)
        with Image.open(tmp_path / "figures" / "f.png") as image:
            about = image.info
        return [text.get_text() for text in figure.texts], about["Title"], about["Subject"]

    assert saved(REAL) == ([], "Skips help.", "classification")
    assert saved(SYNTHETIC, evidence="2 photos")[0] == ["synthetic data; 2 photos"]
    title = "Skips help (synthetic data)"
    pdfs = []
    for _ in range(2):
        assert saved(SYNTHETIC) == (["synthetic data"], title, "classification")
        pdfs.append((tmp_path / "figures" / "f.pdf").read_bytes())
    assert pdfs[0] == pdfs[1] and b"(Skips help \\(synthetic data\\))" in pdfs[0]
    assert b"/FontFile2" in pdfs[0] and b"/Type3" not in pdfs[0]


def test_a_figure_is_at_most_as_wide_as_a_column_and_its_note_stands_clear(tmp_path):
    rows = {f"without skip {k}": [(0.1, 0.0, 0.2)] * 3 for k in range(5)}
    figure = figures.curves({"power": (range(3), rows), "coherence": (range(3), rows)}, "octave")
    figure.set_size_inches(9, 3)
    filled(tmp_path, data=SYNTHETIC).figure(figure, "f", "A legend below, a note above.")
    with Image.open(tmp_path / "figures" / "f.png") as image:
        assert image.width <= 300 * (WIDEST + 0.1)
        dark = np.asarray(image.convert("L")) < 64  # as titles and names are, but not the note
    line = 7 * 300 // 72  # pixels
    assert not dark[:line].any(), "something stands beside the note"
    assert dark[-2 * line :].any(), "the legend is the lowest thing"
