"""What a notebook leaves behind: figures, and one table of scores as CSV, JSON and LaTeX."""

import json
import os
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

from helpers.figures import METRICS, STYLE

COLUMNS = ["task", "data", "network", "score", "value", "low", "high", "reported"]
REPORTED = {
    "classification": "accuracy 0.90, test loss 0.0656",
    "segmentation": "mean IoU 0.458 with the FCN, 0.478 with the U-Net",
    "colorization": 'pictures only: realistic with skips, "extremely blurred" without',
}


class Results:
    """Collects one task's scores and saves them under ``folder`` beside those of the other tasks.

    Args:
        folder: gets ``figures/`` and ``results.csv``, ``.json`` and ``.tex``.
        task: e.g. "segmentation"; its older rows are replaced.
        data: the ``DataSet`` that the scores come from; its label stands in every row.
    """

    def __init__(self, folder, task, data):
        self.folder, self.task, self.data = Path(folder), task, data
        self.rows = []

    def add(self, network, score, value, low=None, high=None, reported=None):
        """One number; ``reported`` is the report's, kept only where the data is real."""
        reported = None if self.data.synthetic else reported
        self.rows.append([self.task, self.data.label, network, score, value, low, high, reported])

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

    def table(self):
        """This task's scores: one row per network, one column per score, with 95 % intervals."""
        frame = pd.DataFrame(self.rows, columns=COLUMNS)
        frame["cell"] = [show(row.value, row.low, row.high) for row in frame.itertuples()]
        wide = frame.pivot(index="network", columns="score", values="cell")
        wide = wide.loc[frame.network.unique(), frame.score.unique()]
        return wide.rename(columns=METRICS).rename_axis(index=None, columns=None)

    def beside_report(self, *networks):
        """Our scores beside the report's where the data is real; otherwise a sentence that says why not."""
        from IPython.display import Markdown

        report = REPORTED[self.task]
        if self.data.synthetic:
            return Markdown(
                f"**Not comparable.** These scores come from {self.data.label}; the report's ({report}) "
                "from photographs. Drawn data tells which network is better, never how good it would be "
                "out there. Give the real set's folder at the top of the notebook to see both here."
            )
        print(f"The report: {report}. Ours, on {self.data.label}; splits and sizes may differ:")
        return self.table().loc[list(networks)]

    def save(self):
        """Write all tasks' rows to the three files, each replaced in one step; returns this task's table."""
        path = self.folder / "results.json"
        kept = []
        if path.exists():
            kept = [row for row in json.loads(path.read_text(encoding="utf-8")) if row["task"] != self.task]
        mine = [dict(zip(COLUMNS, row, strict=True)) for row in self.rows]
        rows = sorted(kept + mine, key=lambda row: row["task"])
        frame = pd.DataFrame(rows, columns=COLUMNS)
        self.folder.mkdir(parents=True, exist_ok=True)
        replace(path, json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
        replace(self.folder / "results.csv", frame.to_csv(index=False))
        frame["value"] = [show(row.value, row.low, row.high) for row in frame.itertuples()]
        latex = frame.drop(columns=["low", "high"]).to_latex(index=False, escape=True, na_rep="")
        replace(self.folder / "results.tex", latex)
        return self.table()


def show(value, low=None, high=None):
    """0.912 [0.880, 0.940]"""
    digits = 1 if abs(value) >= 20 else 2 if abs(value) >= 2 else 3
    text = f"{value:.{digits}f}"
    return text if low is None or pd.isna(low) else f"{text} [{low:.{digits}f}, {high:.{digits}f}]"


def replace(path, text):
    """Write a text file in one step."""
    beside = path.with_name(path.name + f".{os.getpid()}.part")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)
