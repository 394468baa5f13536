"""Run the notebooks from outside."""

import multiprocessing
import os
import re
from _thread import start_new_thread
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import torch
from filelock import FileLock
from joblib import cpu_count
from tqdm import tqdm

from helpers import ROOT
from helpers.results import RUNNING

NOTEBOOKS = sorted((ROOT / "notebooks").glob("[1-9]_*.ipynb"))

# nbconvert's own page gives no picture the text that it comes with, see ``helpers.figures.captioned``, and
# sets source code in Markdown outputs in a proportional font; JupyterLab does not.
PAGE = """{% extends "lab/index.html.j2" %}
{% block data_png %}
{% set alt = output | get_metadata("alt", "image/png") or "a picture" %}
{{ super() | replace("<img ", '<img alt="' ~ alt | escape_html ~ '" ', 1) }}
{% endblock data_png %}
{% block html_head_css %}
{{ super() }}
<style>.jp-RenderedMarkdown pre { font-family: monospace; font-size: 13px }</style>
{% endblock html_head_css %}
"""


class NotebookFailed(RuntimeError):
    """A cell raised; the executed part of the notebook is kept."""


def execute_all(parameters, folder):
    """Run notebooks into ``folder``; yields (source, path of the executed copy) of each, in their order.

    On a CPU two at a time, each on half of the cores, which is more than half as fast as on all. The second
    notebook, the longest, is among the first; the last one gets all cores, for those of the first that is
    still running soon ends. ``parameters`` maps each source to its own.
    """
    sources = list(parameters)
    lanes = 1 if torch.accelerator.is_available() else min(2, cpu_count(), len(sources))
    given = os.environ.get("OMP_NUM_THREADS", "")
    cores = int(given) if given.isdecimal() else cpu_count()
    spawn = multiprocessing.get_context("spawn")
    how = {"mp_context": spawn, "initializer": begin_lane, "initargs": (spawn.RLock(),)}
    with ProcessPoolExecutor(lanes, **how) as pool:
        jobs = {}
        for source in sorted(sources, key=lambda source: source.name[0] != "2"):
            last = source == sources[-1]
            threads = cores if last and len(sources) > lanes else max(1, cores // lanes)
            jobs[source] = pool.submit(execute, source, folder, parameters[source], threads, not last)
        try:
            for source in sources:
                yield source, jobs[source].result()
        except BrokenExecutor:
            why = "the process of a notebook was ended from outside, perhaps for want of memory"
            raise RuntimeError(f"{source.stem} is not done: {why}; the same command carries on") from None
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for lane in multiprocessing.active_children():  # an interrupt may have reached this process alone
                lane.terminate()
            raise


def begin_lane(lock):
    """Let a process that runs one notebook beside another share the terminal, and end with its parent."""
    start_new_thread(lambda: (multiprocessing.parent_process().join(), os._exit(1)), ())  # if that is killed
    tqdm.set_lock(lock)


def tell(name, text):
    """Pass the lines of a training on to the terminal, above the bars, while its cell still runs."""
    for line in re.findall(r"^(?:epoch +\d.*|.*, seed \d+: .*|[^:\n]+:$)", text, re.MULTILINE):
        tqdm.write(f"{name}: {line}")


def execute(source, folder, parameters, threads=None, awaited=False):
    """Run one notebook into ``folder`` as .ipynb and .html; returns the path of the former.

    It computes with so many ``threads``; the last notebook waits for one that is ``awaited``, see
    ``helpers.results.all_rows``.
    """
    import papermill

    executed = Path(folder) / source.name
    executed.parent.mkdir(parents=True, exist_ok=True)
    os.environ["COURSEWORK_HEADLESS"] = "1"  # a stored slider cannot be moved, a stored bar stands at 0 %
    os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"
    if threads:
        os.environ["OMP_NUM_THREADS"] = str(threads)
    options = {"kernel_name": "python3", "cwd": ROOT, "extra_arguments": ["--log-level=40"]}
    bar = {"desc": source.stem, "position": int(source.name[0]) - 1, "disable": None}  # none in a file
    options |= {"stdout_file": SimpleNamespace(write=partial(tell, source.stem), flush=lambda: None)}
    try:
        with FileLock(executed.with_suffix(RUNNING)) if awaited else nullcontext():
            papermill.execute_notebook(source, executed, parameters, progress_bar=bar, **options)
    except papermill.PapermillExecutionError as error:
        where = f"{executed}: cell {error.exec_count}"
        raise NotebookFailed(f"{where} stopped with {error.ename}: {error.evalue}") from None
    finally:
        del os.environ["COURSEWORK_HEADLESS"]
        executed.with_suffix(RUNNING).unlink(missing_ok=True)
        if executed.exists():
            to_html(executed)
    return executed


def to_html(executed):
    """The same notebook as one HTML file beside it."""
    from nbconvert import HTMLExporter

    page, _ = HTMLExporter(embed_images=True, raw_template=PAGE).from_filename(executed)
    executed.with_suffix(".html").write_text(page, encoding="utf-8")
