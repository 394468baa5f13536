"""What a notebook leaves behind: figures, and one table of scores as CSV, JSON and LaTeX."""

import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from helpers.figures import STYLE, spoken
from helpers.metrics import bootstrap, mean_iou_of

COLUMNS = ["task", "data", "network", "score", "value", "low", "high", "reported"]
REPORTED = {  # the report's own numbers; of colours it has pictures only
    ("classification", "residual"): {"accuracy": 0.90, "loss": 0.0656},
    ("segmentation", "FCN"): {"mean_iou": 0.458},
    ("segmentation", "U-Net"): {"mean_iou": 0.478},
    ("colorization", "U-Net"): {},
    ("colorization", "no skips"): {},
}


class Results:
    """Collects one task's scores and saves them under ``folder`` beside those of the other tasks.

    Args:
        folder: gets ``figures/`` and ``results.csv``, ``.json`` and ``.tex``; a task replaces its older rows.
        data: the ``DataSet`` that the scores come from; its label stands in every row.
    """

    def __init__(self, folder, task, data):
        self.folder, self.task, self.data = Path(folder), task, data
        self.rows, self.pictures = {}, {}  # of (network, score): a row; one value per test picture

    def measure(self, network, **scores):
        """Add mean scores with intervals, from one value per test picture, (N,): of confusion matrices
        (N, C, C) the mean IoU, of a pair (values, statistic) what ``bootstrap`` makes of the two.
        """
        for score, values in scores.items():
            if not isinstance(values, tuple):
                values = values, mean_iou_of if np.ndim(values) == 3 else None
            self.pictures[network, score] = values
            self._add(network, score, *bootstrap(*values))

    def difference(self, one, other, *scores):
        """Add how far ``one`` is above ``other``, both on the same drawn test sets; a table of it."""
        name = f"{one} − {other}"
        for score in scores:
            (values, statistic), (others, _) = self.pictures[one, score], self.pictures[other, score]
            pairs, f = np.stack([values, others], 1), statistic or (lambda mean: mean)
            self._add(name, score, *bootstrap(pairs, lambda m, f=f: f(m[:, 0]) - f(m[:, 1])))
        verdicts = {True: "zero is inside: no difference shown", False: "clear of zero"}
        inside = [verdicts[self[name, score][1] <= 0 <= self[name, score][2]] for score in scores]
        return self.table(name)[[spoken(score) for score in scores]].T.assign(interval=inside)

    def __getitem__(self, key):
        """(value, low, high) of (network, score)."""
        return tuple(self.rows[key][4:7])

    def intervals(self, score, *networks):
        """{network: (value, low, high)} of those measured by ``score``, or of the named ones."""
        measured = [n for n, s in self.pictures if s == score and (not networks or n in networks)]
        return {network: self[network, score] for network in measured}

    def _add(self, network, score, value, low, high):
        reported = None if self.data.synthetic else REPORTED.get((self.task, network), {}).get(score)
        place = self.task, self.data.label, network, score
        self.rows[network, score] = [*place, value, low, high, reported]

    def figure(self, figure, name):
        """Save ``figure`` as PDF (the same bytes every time) and PNG (300 dpi), and return it to be shown."""
        place = self.folder / "figures"
        place.mkdir(parents=True, exist_ok=True)
        if self.data.synthetic:
            figure.text(0.995, -0.005, "drawn data", ha="right", va="top", fontsize=7, color="#777777")
        with plt.style.context(STYLE):  # holds the resolution and the kind of fonts, too
            figure.savefig(place / f"{name}.pdf", metadata={"CreationDate": None})
            figure.savefig(place / f"{name}.png", metadata={"Software": None})
        return figure

    def table(self, *networks):
        """This task's scores: one row per network, one column per score, with 95 % intervals."""
        rows = [row for row in self.rows.values() if not networks or row[2] in networks]
        frame = pd.DataFrame(rows, columns=COLUMNS)
        frame["cell"] = [show(row.value, row.low, row.high) for row in frame.itertuples()]
        wide = frame.pivot(index="network", columns="score", values="cell").fillna("")
        wide = wide.loc[frame.network.unique(), frame.score.unique()]
        return wide.rename(columns=spoken).rename_axis(index=None, columns=None)

    def beside_report(self):
        """Our scores beside the report's where the data is real; otherwise a sentence that says why not."""
        mine = {network: scores for (task, network), scores in REPORTED.items() if task == self.task}
        said = [f"{spoken(k)} {v} ({n})" for n, scores in mine.items() for k, v in scores.items()]
        report = ", ".join(said) or 'pictures only: realistic with skips, "extremely blurred" without'
        if not self.data.synthetic:
            print(f"The report: {report}. Ours, on {self.data.label}; splits and sizes may differ:")
            return self.table(*mine)
        print(f"Not comparable: these scores come from {self.data.label}, the report's from photographs:")
        print(f"{report}. Drawn data shows the mechanism; photographs decide.")
        print("Give the real set's folder at the top of the notebook to see both here.")

    def save(self):
        """Write all tasks' rows to the three files, each replaced in one step; returns this task's table."""
        path = self.folder / "results.json"
        old = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
        mine = [dict(zip(COLUMNS, row, strict=True)) for row in self.rows.values()]
        rows = [row for row in old if row["task"] != self.task] + mine
        rows.sort(key=lambda row: row["task"])
        frame = pd.DataFrame(rows, columns=COLUMNS)
        latex = frame.drop(columns=["low", "high"])
        latex["value"] = [show(row.value, row.low, row.high) for row in frame.itertuples()]
        self.folder.mkdir(parents=True, exist_ok=True)
        for suffix, text in {
            "json": json.dumps(rows, indent=1, ensure_ascii=False) + "\n",
            "csv": frame.to_csv(index=False),
            "tex": latex.to_latex(index=False, escape=True, na_rep=""),
        }.items():
            beside = self.folder / f"results.{suffix}.part"
            beside.write_text(text, encoding="utf-8")
            beside.replace(self.folder / f"results.{suffix}")
        return self.table()


def show(value, low=None, high=None):
    """0.912 [0.880, 0.940]"""
    digits = 1 if abs(value) >= 20 else 2 if abs(value) >= 2 else 3
    text = f"{value:.{digits}f}"
    return text if low is None or pd.isna(low) else f"{text} [{low:.{digits}f}, {high:.{digits}f}]"
