"""What was measured once on photographs, and the figure that sets a run beside it."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from helpers.figures import spoken
from helpers.publishing.tables import COLUMNS, by_network, joined
from helpers.results import saved_rows

MEASURED = Path(__file__).parents[1] / "notebooks/photographs.json"  # it is packed for Colab, too
BOUGHT = {  # score: what its panel is called, and what its rows are
    "accuracy": ("birds, scenes: accuracy", {"residual − plain": "shortcuts"}),
    "mean_iou": (
        "streets: mean IoU",
        {
            "FCN-8s − FCN-32s": "FCN's two skips",
            "U-Net − U-Net, no skips": "U-Net's four skips",
        },
    ),
    "psnr": (
        "landscapes: PSNR (dB)",
        {
            "U-Net − no skips": "U-Net's four skips",
            "U-Net + input lightness − no skips + input lightness": "… with the input's lightness",
        },
    ),
    "ab_error": (
        "landscapes: ab error, less of it",
        {"U-Net + input lightness − no skips + input lightness": "U-Net's four skips"},
    ),
}


def photographs():
    """The rows, as ``saved_rows`` has them, that tests/benchmarks/study.py measured once."""
    return json.loads(MEASURED.read_text(encoding="utf-8"))


def photograph_table(task):
    """The study's scores of a task on photographs, see ``photographs``: one row per network."""
    rows = [row for row in photographs() if row["task"] == task and row["notebook"] == "study"]
    print(rows[0]["data"])
    table = by_network(pd.DataFrame(rows, columns=COLUMNS)).rename(columns=spoken)
    table["evidence"] = joined(rows[0]["seeds"], rows[0]["units"])
    return table


def bought(folder):
    """What skips are worth, of the run in ``folder`` and of photographs: higher is better.

    Returns {panel: {row: an array of value, low and high}}, for ``helpers.figures.intervals``.
    """
    panels = {panel: {} for panel, _ in BOUGHT.values()}
    rows = []
    for row in saved_rows(folder):
        kind = "your images"
        if row["data"].startswith("synthetic "):
            kind = "synthetic"
        rows.append((row, kind))
    rows += [(row, "photographs") for row in photographs()]
    for row, kind in rows:
        panel, names = BOUGHT.get(row["score"], ("", {}))
        if row["network"] in names and row["notebook"] == "lesson":
            interval = np.array([row["value"], row["low"], row["high"]], float)
            if row["score"] == "ab_error":  # less is better
                interval = -interval[[0, 2, 1]]
            panels[panel][f"{names[row['network']]}, {kind}"] = interval
    return {panel: rows for panel, rows in panels.items() if rows}
