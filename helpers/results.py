"""What a notebook leaves behind: figures, and one table of scores as CSV, JSON and LaTeX."""

import json
import math
import re
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from filelock import FileLock

from helpers import ROOT
from helpers.figures import STYLE, WIDEST, captioned, spoken
from helpers.metrics import bootstrap, mean_iou_of

COLUMNS = ["task", "data", "network", "score", "value", "low", "high", "seeds", "units", "reported"]
RUNNING = ".running"  # suffix of a lock: ``python -m helpers run`` executes this notebook
FEW = 10  # units: an interval drawn from fewer is too narrow
REPORTED = {  # the report's own numbers; of colours it has pictures only
    ("classification", "residual"): {"accuracy": 0.90, "loss": 0.0656},
    ("segmentation", "FCN-32s"): {"mean_iou": 0.458},
    ("segmentation", "U-Net"): {"mean_iou": 0.478},
    ("colorization", "U-Net"): {},
    ("colorization", "no skips"): {},
}
MAIN = {  # of a task's table in a paper; results.csv holds all scores
    "classification": ["accuracy", "loss"],
    "segmentation": ["mean_iou", "border_mean_iou", "pixel_accuracy"],
    "colorization": ["psnr", "ssim", "ab_error"],
}
PREAMBLE = r"""% needs \usepackage{booktabs,graphicx} in the preamble; all scores stand in results.csv
\providecommand{\fitted}[1]{\resizebox{\ifdim\width>\columnwidth\columnwidth\else\width\fi}{!}{#1}}
"""
ESCAPED = {sign: f"\\{sign}" for sign in "#$%&_{}"} | {"[": "{[}", "−": "$-$", "→": r"$\to$"}
ESCAPED |= {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
ESCAPED |= {"<": "$<$", ">": "$>$", "|": "$|$", "×": r"$\times$", "·": r"$\cdot$", "²": "$^2$"}


def report_folder(preset, seeds=1, **sources):
    """``reports/<preset>/``, and for each data set of one's own or more seeds another one.

    >>> report_folder("quick", 3, streets="~/camvid").name
    'quick-streets-camvid-seeds3'
    """
    given = {name: Path(source).expanduser().resolve().name for name, source in sources.items() if source}
    own = [f"{name}-{folder.split('.')[0]}" for name, folder in given.items() if folder != "synthetic"]
    return ROOT / "reports" / "-".join([preset, *own, *[f"seeds{seeds}"] * (seeds > 1)])


class Results:
    """Collects one task's scores and saves them under ``folder`` beside those of the other tasks.

    Args:
        folder: gets ``figures/`` and ``results.csv``, ``.json`` and ``.tex``; a task replaces its older rows.
        data: the ``DataSet`` that the scores come from; its label stands in every row.
        chosen: the preset that the networks are trained by.
        seeds: how often each network is trained.

    Raises ValueError where ``folder`` holds scores of this task on other data.
    """

    def __init__(self, folder, task, data, chosen, seeds=1):
        self.folder, self.task, self.data = Path(folder), task, data
        self.chosen, self.seeds = chosen, seeds
        self.rows, self.pictures = {}, {}  # of (network, score): a row; values, statistic, pictures kept
        others = {row["data"] for row in saved_rows(self.folder) if row["task"] == task} - {data.label}
        if others:
            found = f"{self.folder} holds {task} scores on {', '.join(others)}"
            raise ValueError(f"{found}, not on {data.label}: give another folder as OUT, or move that one")

    def measure(self, network, *, seeds=None, keep=None, **scores):
        """Add mean scores with intervals, from one value per seed and test picture, (S, N): of confusion
        matrices (S, N, C, C) the mean IoU, of a pair (values, statistic) what ``bootstrap`` makes of the two.

        ``keep`` (N,) bool says which pictures count; ``seeds=0``, with S = 1, that no network is trained.
        """
        seeds, keep = self.seeds if seeds is None else seeds, slice(None) if keep is None else keep
        for score, values in scores.items():
            values, statistic = values if isinstance(values, tuple) else (values, None)
            values = np.asarray(values)[:, keep]
            if len(values) != max(seeds, 1):
                raise ValueError(f"{network}, {score}: values of {len(values)} seeds, but there are {seeds}")
            statistic = statistic or (mean_iou_of if values.ndim == 4 else None)
            self.pictures[network, score] = values, statistic, keep
            interval = bootstrap(values, statistic, groups=self.data.test.groups[keep])
            self._add(network, score, interval, seeds, keep)

    def difference(self, one, other, *scores):
        """Add how far ``one`` is above ``other``, both on the same drawn test sets; a table of it."""
        name = f"{one} − {other}"
        for score in scores:
            (values, statistic, keep), (others, _, _) = self.pictures[one, score], self.pictures[other, score]

            def apart(means, of=statistic or np.asarray):
                return of(means[:, :, 0]) - of(means[:, :, 1])

            pairs = np.stack(np.broadcast_arrays(values, others), 2)
            interval = bootstrap(pairs, apart, groups=self.data.test.groups[keep])
            self._add(name, score, interval, self.seeds, keep)
        verdicts = {True: "zero is inside: no difference shown", False: "clear of zero"}
        inside = [verdicts[self[name, score][1] <= 0 <= self[name, score][2]] for score in scores]
        shown, measured = self.table(name), [spoken(score) for score in scores]
        return shown[measured].T.assign(interval=inside, evidence=shown["evidence"].item())

    def __getitem__(self, key):
        """(value, low, high) of (network, score)."""
        return tuple(self.rows[key][4:7])

    def intervals(self, score, *networks):
        """{network: (value, low, high)} of those measured by ``score``, or of the named ones."""
        measured = [n for n, s in self.pictures if s == score and (not networks or n in networks)]
        return {network: self[network, score] for network in measured}

    def evidence(self, seeds=None, keep=slice(None)):
        """What an interval rests on: "3 seeds, 29 scenes"; of a baseline the latter alone."""
        seeds = self.seeds if seeds is None else seeds
        count, unit = len(np.unique(self.data.test.groups[keep])), self.data.test.unit
        return joined(seeds, f"{count} {unit}{' (too few for a safe interval)' * (count < FEW)}")

    def _add(self, network, score, interval, seeds, keep):
        comparable = not self.data.synthetic and self.chosen.name in ("report", "best")
        reported = REPORTED.get((self.task, network), {}).get(score) if comparable else None
        place, units = (self.task, self.data.label, network, score), self.evidence(0, keep)
        self.rows[network, score] = [*place, *interval, seeds, units, reported]

    def figure(self, figure, name, evidence=None):
        """Save ``figure`` as PDF (the same bytes every time) and PNG (300 dpi), and return it to be shown.

        It is as wide as a report's column at most, carries its caption in both files, as their title, and
        says in its corner what it rests on: ``evidence``, or what the scores do.
        """
        place, (width, height) = self.folder / "figures", figure.get_size_inches()
        place.mkdir(parents=True, exist_ok=True)
        if width > WIDEST:
            figure.set_size_inches(WIDEST, height * WIDEST / width)
        notes = ["drawn data"] * self.data.synthetic + [evidence or self.evidence()] * bool(self.pictures)
        figure.text(0.995, -0.005, "; ".join(notes), ha="right", va="top", fontsize=7, color="#777777")
        caption = captioned(figure, spoken(name)[0].upper() + spoken(name)[1:])
        about = {"Title": f"{caption} ({'; '.join(notes)})" if notes else caption, "Subject": self.task}
        with plt.style.context(STYLE):  # holds the resolution and the kind of fonts, too
            figure.draw_without_rendering()  # laid out once, not for each file and for the notebook
            figure.set_layout_engine("none")
            for legend in figure.legends:  # else it would go to the bottom of what is saved, over the text
                there = legend.get_window_extent().transformed(figure.transFigure.inverted())
                legend.set_bbox_to_anchor(there, figure.transFigure)
                legend.set_loc("center")
            box = figure.get_tightbbox().padded(plt.rcParams["savefig.pad_inches"])
            for suffix, unwanted in {"pdf": "CreationDate", "png": "Software"}.items():
                its = {unwanted: None, **about}
                figure.savefig(place / f"{name}.{suffix}", bbox_inches=box, metadata=its)
        return figure

    def table(self, *networks):
        """This task's scores: one row per network, one column per score, with 95 % intervals."""
        rows = [row for row in self.rows.values() if not networks or row[2] in networks]
        frame = pd.DataFrame(rows, columns=COLUMNS)
        evidence = {row.network: joined(row.seeds, row.units) for row in frame.itertuples()}
        return by_network(frame).rename(columns=spoken).assign(evidence=pd.Series(evidence))

    def beside_report(self):
        """Our scores beside the report's, of the presets that train by its settings or to beat it, on real
        data; otherwise a sentence that says why not."""
        mine = {network: scores for (task, network), scores in REPORTED.items() if task == self.task}
        said = [f"{spoken(k)} {v} ({n})" for n, scores in mine.items() for k, v in scores.items()]
        report = ", ".join(said) or 'pictures only: realistic with skips, "extremely blurred" without'
        name, epochs = self.chosen.name, getattr(self.chosen, self.task).epochs
        trained = f"the {name!r} preset's {epochs} epochs"
        if not self.data.synthetic and name in ("report", "best"):
            print(f"The report: {report}. Ours, {trained} on {self.data.label}; splits and sizes may differ:")
            return self.table(*mine)
        print(f"Not comparable: these scores come from {trained} on {self.data.label},")
        print(f"the report's from a full training on photographs: {report}.")
        print('PRESET = "report" or "best" and the real set\'s folder at the top show both here.')

    def save(self):
        """Write all tasks' rows to the three files, each replaced in one step; returns this task's table."""
        mine = [dict(zip(COLUMNS, row, strict=True)) for row in self.rows.values()]
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / ".results.lock"):  # another notebook may save its own at the same time
            rows = [row for row in saved_rows(self.folder) if row["task"] != self.task] + mine
            rows.sort(key=lambda row: row["task"])
            for suffix, text in {
                "json": json.dumps(rows, indent=1, ensure_ascii=False) + "\n",
                "csv": pd.DataFrame(rows, columns=COLUMNS).to_csv(index=False),
                "tex": latex(rows),
            }.items():
                beside = self.folder / f"results.{suffix}.part"
                beside.write_text(text, encoding="utf-8")
                beside.replace(self.folder / f"results.{suffix}")
        return self.table()


def saved_rows(folder):
    """The rows of ``results.json`` in a folder, dicts with ``COLUMNS``; [] where there is none."""
    path = Path(folder, "results.json")
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else []


def all_rows(folder):
    """``saved_rows``, once the notebooks are done that ``python -m helpers run`` executes beside this one."""
    for running in Path(folder).glob(f"*{RUNNING}"):
        with FileLock(running):
            pass
    return saved_rows(folder)


def by_network(frame):
    """Rows of scores as a table: one row per network, one column per score, "" where nothing was measured."""
    cells = [show(row.value, row.low, row.high) for row in frame.itertuples()]
    wide = frame.assign(cell=cells).pivot(index="network", columns="score", values="cell").fillna("")
    wide = wide.loc[frame.network.unique(), frame.score.unique()]
    return wide.rename_axis(index=None, columns=None)


def main_tables(rows):
    """The ``MAIN`` scores of saved rows, for a paper or a page: (task, caption, table) of each task.

    A table shows the networks that have the first of them and another one, and the baselines that have it.
    """
    tasks = dict(list(pd.DataFrame(rows, columns=COLUMNS).groupby("task")))
    for task in sorted(tasks, key=[*MAIN, *tasks].index):
        frame, measured = tasks[task], tasks[task].score.unique()
        scores = [s for s in MAIN.get(task, measured) if s in measured][:3] or list(measured[:3])
        frame = frame[frame.score.isin(scores)]
        count, first = frame.network.value_counts(), frame[frame.score == scores[0]]
        shown = first.network[first.network.map(count).ge(min(2, len(scores))) | first.seeds.eq(0)]
        frame = frame[frame.network.isin(shown)]
        table = by_network(frame).reindex(columns=scores)
        for score, its in frame.dropna(subset="reported").groupby("score", sort=False):
            table[f"{spoken(score)}, reported"] = its.set_index("network").reported.map(show)
        trained = frame[frame.seeds > 0] if frame.seeds.any() else frame
        evidence = "; ".join(dict.fromkeys(joined(row.seeds, row.units) for row in trained.itertuples()))
        caption = f"{task.capitalize()} on {frame.data.iloc[0]}, with 95 % intervals ({evidence})"
        yield task, caption, table.fillna("").rename(columns=spoken)


def latex(rows):
    """The main tables for a paper: one float per task, never wider than its column, for pdflatex."""
    text, (start, end) = PREAMBLE, (r"\begin{tabular}", r"\end{tabular}")
    for task, caption, table in main_tables(rows):
        cells = table.map(lambda cell: re.sub(r"(\[.*)", r"{\\scriptsize \1}", cell).replace("-", "$-$"))
        how = {"position": "tb", "column_format": "l" + "r" * len(cells.columns), "escape": False}
        how |= {"caption": tex(caption), "label": f"tab:{task}"}
        placed = cells.rename(index=tex, columns=tex).to_latex(**how)
        text += placed.replace(start, rf"\centering\fitted{{{start}").replace(end, end + "}")
    return text


def tex(text):
    """Any text as plain LaTeX for pdflatex; signs that its fonts lack become question marks."""
    known = re.sub("[^ -~À-ÏÑ-Ýß-ïñ-ýÿ–—…‘’“”−→·²]", "?", text)
    return "".join(ESCAPED.get(sign, sign) for sign in known)


def joined(seeds, units):
    return f"{seeds} seed{'s' * (seeds > 1)}, {units}" if seeds else units


def show(value, low=None, high=None):
    """0.912 [0.880, 0.940]"""
    digits = 1 if abs(value) >= 20 else 2 if abs(value) >= 2 else 3
    text = f"{value:.{digits}f}"
    exact = low is None or pd.isna(low) or math.isclose(low, high, abs_tol=1e-9)  # nothing that could differ
    return text if exact else f"{text} [{low:.{digits}f}, {high:.{digits}f}]"
