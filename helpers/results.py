"""What a notebook leaves behind: figures, and one table of scores as CSV, JSON and LaTeX."""

import json
import re
from pathlib import Path
from zlib import crc32

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from filelock import FileLock

from helpers import REPORTS, plural
from helpers.engine.files import DataError, acquire, written_beside
from helpers.figures import STYLE, WIDEST, spoken
from helpers.metrics import bootstrap, mean_iou_of
from helpers.publishing.tables import (
    CAUTION,
    COLUMNS,
    by_network,
    joined,
    latex,
    show,
    with_training,
)

FEW = 10  # units: an interval that rests on fewer is too narrow
REPORTED = {  # the report's own numbers; for colorization it has images only
    "classification": {"residual": {"accuracy": 0.90, "loss": 0.0656}},
    "segmentation": {"FCN-32s": {"mean_iou": 0.458}, "U-Net": {"mean_iou": 0.478}},
    "colorization": {"U-Net": {}, "no skips": {}},
}


def report_folder(preset, seeds=1, seed=0, student="", **sources):
    """``reports/<preset>/``. Other data sets, students and seeds have folders of their own.

    >>> report_folder("quick", 3, streets="~/camvid").name
    'quick-streets-camvid-seeds3'
    """
    name = preset
    for data_set, source in sources.items():
        if source and source != "synthetic":
            folder = Path(source).expanduser().resolve().name
            name += f"-{data_set}-{folder.split('.')[0]}"
    if student:
        name += f"-{re.sub('[^A-Za-z0-9]+', '-', student)}-{crc32(student.encode()):08x}"
    if seeds > 1:
        name += f"-seeds{seeds}"
    if seed:
        name += f"-seed{seed}"
    return REPORTS / name


class Results:
    """Collects one task's scores and saves them beside those of the other tasks.

    Args:
        folder: gets ``figures/`` and ``results.csv``, ``.json`` and ``.tex``.
        task: its name. Its rows replace those of an earlier run of this notebook in ``folder``.
        data: the ``DataSet`` that the scores come from. Its label stands in every row.
        chosen: the preset that the networks are trained by.
        seeds: how often each network is trained.
        study: whether the scores are the study's, which stand beside those of the lesson.

    Raises ValueError where ``folder`` holds scores of this task on other data, or of another
    preset.
    """

    def __init__(self, folder, task, data, chosen, seeds=1, study=False):
        self.folder = Path(folder).expanduser()
        self.task = task
        self.data = data
        self.chosen = chosen
        self.seeds = seeds
        self.notebook = "study" if study else "lesson"
        self.comparable = not data.synthetic and chosen.name in ("report", "best")
        self.rows = {}  # (network, score): a dict with COLUMNS
        self.measured = {}  # (network, score): its values, their statistic, keep, seeds and how
        self.guesses = {}  # (network, score): what a reader expects

        check_preset(self.folder, chosen.name)
        for row in saved_rows(self.folder):
            if row["task"] == task and row["data"] != data.label:
                raise ValueError(
                    f"{self.folder} holds {task} scores on {row['data']}, not on {data.label}: "
                    "give another folder as OUT, or move that one"
                )

    def measure(self, network, *, seeds=None, keep=None, how=None, **scores):
        """Add mean scores and their intervals.

        Args:
            network: the name of its rows.
            seeds: how many trainings the values are of. 0 means that no network is trained.
            keep: (N,) bool, the test images that count. Default: all. Of none, scores are nan.
            how: the ``Settings`` of the training. Default: the preset's. A text where none was.
            scores: (S, N) each, one value per seed and test image. Of confusion matrices, which are
                (S, N, C, C), the mean IoU is taken. A pair (values, statistic) names what
                ``bootstrap`` takes of the values.

        Raises ValueError for another number of seeds, and for other values under a known name.
        """
        if seeds is None:
            seeds = self.seeds
        if keep is None:
            keep = np.ones_like(self.data.test.groups, bool)
        if not isinstance(how, str):
            how = trained_how(how or getattr(self.chosen, self.task))
        if seeds == 0:
            how = ""
        for score, values in scores.items():
            statistic = np.asarray  # the mean itself
            if isinstance(values, tuple):
                values, statistic = values
            elif np.ndim(values) == 4:
                statistic = mean_iou_of
            values = np.asarray(values)[:, keep]

            if len(values) != max(seeds, 1):
                raise ValueError(
                    f"{network}, {score}: values of {plural(len(values), 'seed')}, "
                    f"but there are {seeds}"
                )
            known = self.measured.get((network, score))
            if known and not np.array_equal(known[0], values, equal_nan=True):
                raise ValueError(
                    f"{network}, {score} was measured before, with other values: "
                    "give another name, or begin anew with Results(...)"
                )

            measured = values, statistic, keep, seeds, how
            self.measured[network, score] = measured
            self._add(network, score, *measured)

    def guess(self, difference, **scores):
        """Keep what you expect of a difference, to be shown beside it: "residual − plain".

        Of None, nothing is kept.
        """
        for score, value in scores.items():
            self.guesses[difference, score] = value

    def difference(self, one, other, *scores):
        """Add by how much ``one`` is above ``other``, image by image; returns a table of it.

        Without ``scores``, it has all that were measured of ``one``. It has your guess, where there
        is one, see ``guess``.

        Raises ValueError where the two were measured on different images.
        """
        name = f"{one} − {other}"
        table = {}
        if not scores:
            scores = [score for network, score in self.measured if network == one]
        for score in scores:
            values, statistic, keep, seeds, how = known(self.measured, one, score)
            others, _, others_keep, others_seeds, others_how = known(self.measured, other, score)
            if not np.array_equal(keep, others_keep):
                raise ValueError(
                    f"{one} and {other} were measured on different images ({score}): "
                    "measure both with the same keep"
                )

            def apart(means, of=statistic):
                return of(means[:, :, 0]) - of(means[:, :, 1])

            pairs = np.stack(np.broadcast_arrays(values, others), 2)  # (S, N, 2, ...)
            seeds = max(seeds, others_seeds)
            both = " − ".join(dict.fromkeys(filter(None, (how, others_how))))
            interval = self._add(name, score, pairs, apart, keep, seeds, both)

            _, low, high = interval
            verdict = "clear of zero"
            if np.isnan(low):
                verdict = show(low)
            elif low <= 0 <= high:
                verdict = "zero is inside: no difference shown"
            table[spoken(score)] = {
                name: show(*interval),
                "interval": verdict,
                "evidence": self.evidence(seeds, keep),
            }
            guessed = self.guesses.get((name, score))
            if guessed is not None:
                table[spoken(score)]["your guess"] = guessed
        return pd.DataFrame(table).T

    def __getitem__(self, key):
        """(value, low, high) of (network, score)."""
        row = known(self.rows, *key)
        return row["value"], row["low"], row["high"]

    def intervals(self, score, *networks):
        """{network: (value, low, high)} of those measured by ``score``, or of the named ones."""
        return {
            network: self[network, score]
            for network, other in self.measured
            if other == score and (not networks or network in networks)
        }

    def evidence(self, seeds=None, keep=slice(None)):
        """What an interval rests on: "3 seeds, 29 scenes". For a baseline, the scenes alone."""
        if seeds is None:
            seeds = self.seeds
        count = len(np.unique(self.data.test.groups[keep]))
        units = f"{count} {self.data.test.unit}"
        if count < FEW:
            units += " (too few for a safe interval)"
        return joined(seeds, units)

    def _add(self, network, score, values, statistic, keep, seeds, how):
        """Add the row of one score; returns its value, low and high."""
        interval = np.full(3, np.nan)
        groups = self.data.test.groups[keep]
        if len(groups):
            interval = bootstrap(values, statistic, groups=groups)
        if len(set(groups)) == 1 and interval[1] == interval[2]:
            interval[1:] = np.nan  # nothing to resample
        reported = None
        if self.comparable:
            reported = REPORTED[self.task].get(network, {}).get(score)
        row = [
            self.task,
            self.data.label,
            network,
            score,
            *interval.tolist(),
            seeds,
            self.evidence(0, keep),
            reported,
            self.chosen.name,
            how,
            self.notebook,
        ]
        self.rows[network, score] = dict(zip(COLUMNS, row, strict=True))
        return interval

    def figure(self, figure, name, caption, evidence=""):
        """Save a figure as PDF and as PNG (300 dpi), and return it to be shown.

        It is as wide as a report's column at most. Its corner says ``evidence``. Both files carry
        ``caption``, a sentence, as their title. The PDF has the same bytes every time.

        Args:
            evidence: what the figure rests on, such as ``self.evidence()``.
        """
        width, height = figure.get_size_inches()
        if width > WIDEST:
            figure.set_size_inches(WIDEST, height * WIDEST / width)
        notes = []
        if self.data.synthetic:
            notes.append("synthetic data")
        if evidence:
            notes.append(evidence)
        if self.chosen.name == "smoke":
            notes.append(CAUTION)
        title = caption
        if notes:
            note = "; ".join(notes)
            title = f"{caption.removesuffix('.')} ({note})"
            # Above the figure: a legend below it moves to the lower edge of what is saved.
            figure.text(0.995, 1.005, note, ha="right", va="bottom", fontsize=7, color="#777777")

        about = {
            "Title": title,
            "Subject": self.task if self.notebook == "lesson" else "study",
            "CreationDate": None,
        }
        with plt.style.context(STYLE):  # its resolution and its fonts
            for suffix in ("png", "pdf"):
                with written_beside(self.folder / "figures" / f"{name}.{suffix}") as beside:
                    figure.savefig(beside, format=suffix, metadata=about)
        return figure

    def table(self, *networks):
        """This task's scores: one row per network, one column per score, with 95 % intervals.

        Where networks were trained in different ways, a column says how.
        """
        rows = [row for row in self.rows.values() if not networks or row["network"] in networks]
        frame = pd.DataFrame(rows, columns=COLUMNS)
        table = with_training(by_network(frame).rename(columns=spoken), frame)
        for row in rows:
            table.loc[row["network"], "evidence"] = joined(row["seeds"], row["units"])
        return table

    def beside_report(self):
        """Our scores beside the report's, or else a sentence that says why they do not compare.

        They do where networks were trained on real data, at the "report" or "best" preset.
        """
        said = []
        for network, scores in REPORTED[self.task].items():
            said += [f"{spoken(score)} {value} ({network})" for score, value in scores.items()]
        report = ", ".join(said) or 'images only: realistic with skips, "extremely blurred" without'
        epochs = getattr(self.chosen, self.task).epochs
        trained = f"the {self.chosen.name!r} preset's {epochs} epochs on {self.data.label}"
        if self.comparable:
            print(f"The report: {report}. Ours, {trained}; splits and sizes may differ:")
            return self.table(*REPORTED[self.task])
        print(
            f"Not comparable: these scores come from {trained},\n"
            f"the report's from a full training on real data: {report}.\n"
            'PRESET = "report" or "best" and the real set\'s folder at the top show both here.'
        )

    def save(self):
        """Write all tasks' rows to the three files, each in one step."""
        self.folder.mkdir(parents=True, exist_ok=True)
        # Another notebook may save its own meanwhile.
        with acquire(FileLock(self.folder / ".results.lock"), "saves its scores"):
            rows = list(self.rows.values())
            own = (self.task, self.notebook)
            for row in saved_rows(self.folder):
                if (row["task"], row["notebook"] or "lesson") != own:
                    rows.append(row)
            rows.sort(key=lambda row: (row["task"], row["notebook"] or "lesson"))
            table = pd.DataFrame(rows, columns=COLUMNS)
            texts = {
                "json": table.to_json(orient="records", indent=1, force_ascii=False),
                "csv": table.to_csv(index=False),
                "tex": latex(rows),
            }
            for suffix, text in texts.items():
                with written_beside(self.folder / f"results.{suffix}") as beside:
                    beside.write_text(text, encoding="utf-8")


def known(scores, network, score):
    """What ``scores`` has of a network. Raises KeyError, with a sentence, where it has nothing."""
    if (network, score) in scores:
        return scores[network, score]
    others = [other for name, other in scores if name == network]
    if others:
        raise KeyError(f"no score {score!r} of {network!r}: choose one of {', '.join(others)}")
    raise KeyError(f"{network!r} has no scores yet: train and measure it first")


def trained_how(settings):
    """What tells trainings of one preset apart: "width 16, 5 epochs, at most 300 images"."""
    images = "all images"
    if settings.limit:
        images = f"at most {settings.limit} images"
    return f"width {settings.width}, {plural(settings.epochs, 'epoch')}, {images}"


def saved_rows(folder):
    """The rows of ``results.json`` in a folder, dicts with ``COLUMNS``; [] where there is none.

    What an older version did not write is None, and so is nan. Raises DataError where the file is
    damaged.
    """
    path = Path(folder, "results.json")
    if not path.exists():
        return []
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        return [dict.fromkeys(COLUMNS) | row for row in rows]
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{path} is damaged ({error}): move it away; the next run writes it anew"
        ) from error


def check_preset(folder, name):
    """Raise ValueError where ``folder`` holds scores of another preset than ``name``."""
    for row in saved_rows(folder):
        if row["preset"] not in (None, name):
            raise ValueError(
                f"{folder} holds scores of the {row['preset']!r} preset, not of {name!r}: "
                "give another folder, or move that one"
            )
