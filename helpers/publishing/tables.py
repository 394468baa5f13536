"""Rows of scores as tables: one row per network for a notebook or a page, and LaTeX for a paper."""

import re

import pandas as pd

from helpers import plural
from helpers.figures import spoken

COLUMNS = ["task", "data", "network", "score", "value", "low", "high", "seeds", "units", "reported"]
COLUMNS += ["preset", "trained how", "notebook"]
CAUTION = "scores of smoke mean nothing"
MAIN = {  # the scores of a task's table in a paper; results.csv holds all of them
    "classification": ["accuracy", "loss"],
    "segmentation": ["mean_iou", "border_mean_iou", "pixel_accuracy"],
    "colorization": ["psnr", "ssim", "ab_error"],
}
PREAMBLE = r"""% needs \usepackage{booktabs,graphicx} in the preamble; results.csv holds all scores
\providecommand{\fitted}[1]{\resizebox{\ifdim\width>\columnwidth\columnwidth\else\width\fi}{!}{#1}}
"""
ESCAPED = str.maketrans({sign: f"\\{sign}" for sign in "#$%&_{}"} | {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": "$<$", ">": "$>$", "|": "$|$", "[": "{[}", "−": "$-$", "→": r"$\to$",
    "×": r"$\times$", "·": r"$\cdot$", "²": "$^2$",
})  # fmt: skip


def by_network(frame):
    """Rows of scores as a table: a row per network, a column per score, "" where there is none."""
    columns = {}
    for row in frame.itertuples():
        column = columns.setdefault(row.score, {})
        column[row.network] = show(row.value, row.low, row.high)
    return pd.DataFrame(columns, frame.network.unique()).fillna("")


def with_training(table, frame):
    """The table of a frame's rows. Where networks differ in their training, a column tells it."""
    how = frame.groupby("network")["trained how"].first().fillna("")
    if len(set(how) - {""}) > 1:
        table["trained how"] = how
    return table


def joined(seeds, units):
    """What a score rests on: "3 seeds, 29 scenes", or "29 scenes" where nothing is trained."""
    if seeds:
        return f"{plural(seeds, 'seed')}, {units}"
    return units


def show(value, low=None, high=None):
    """A number and its interval as text: "0.912 [0.880, 0.940]". Of nan: "too few to say"."""
    if pd.isna(value):
        return "too few to say"
    digits = 3
    if abs(value) >= 2:
        digits = 2
    if abs(value) >= 20:
        digits = 1
    if pd.isna(low) or high - low < 1e-9:
        return f"{value:.{digits}f}"  # exact, or nothing could differ
    if high - low >= 0.5:  # wide, so further digits say nothing
        digits = min(digits, 2)
    if high - low >= 2:
        digits = 1
    return f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def main_tables(rows):
    """The ``MAIN`` scores of saved rows, without the study's: {task: (caption, table)}.

    A table shows the networks that have the first of these scores and another one. A baseline
    needs the first alone.
    """
    saved = pd.DataFrame(rows, columns=COLUMNS).query("notebook != 'study'")
    tables = {}
    for task, main in MAIN.items():
        frame = saved.query("task == @task and score in @main")
        scores = [score for score in main if score in frame.score.values]
        count = frame.groupby("network").score.transform("size")
        is_compared = (frame.seeds == 0) | (count >= min(2, len(scores)))
        shown = frame.network[is_compared & (frame.score == main[0])]
        if shown.empty:
            continue
        frame = frame.query("network in @shown")
        table = by_network(frame).reindex(columns=scores)
        for row in frame.dropna(subset="reported").itertuples():
            table.loc[row.network, f"{spoken(row.score)}, reported"] = show(row.reported)

        trained = frame.query("seeds > 0")
        if trained.empty:
            trained = frame
        evidence = "; ".join(dict.fromkeys(map(joined, trained.seeds, trained.units)))
        caption = f"{task.capitalize()} on {frame.data.iloc[0]}, with 95 % intervals ({evidence})"
        if "smoke" in frame.preset.values:
            caption += f": {CAUTION}"
        table = with_training(table.fillna("").rename(columns=spoken), frame)
        tables[task] = caption, table
    return tables


def latex(rows):
    """The main tables for a paper: a float per task, no wider than its column, for pdflatex."""
    text = PREAMBLE
    for task, (caption, table) in main_tables(rows).items():
        cells = table.map(cell_in_tex).rename(index=tex, columns=tex)
        placed = cells.to_latex(
            position="tb",
            column_format="l" + "r" * len(cells.columns),
            escape=False,
            caption=tex(caption),
            label=f"tab:{task}",
        )
        placed = placed.replace(r"\begin{tabular}", r"\centering\fitted{\begin{tabular}")
        text += placed.replace(r"\end{tabular}", r"\end{tabular}}")
    return text


def cell_in_tex(cell):
    """A cell as LaTeX: its interval in small letters, and minus signs for hyphens."""
    return re.sub(r"(\[.*)", r"{\\scriptsize \1}", cell).replace("-", "$-$")


def tex(text):
    """Any text as plain LaTeX for pdflatex; signs that its fonts lack become question marks."""
    return re.sub("[^ -~À-ÏÑ-Ýß-ïñ-ýÿ–—…‘’“”−→·²]", "?", text).translate(ESCAPED)
