"""Run the notebooks from outside, into a folder of their own."""

import os
import re
import sys
from multiprocessing.pool import ThreadPool

import torch
from ipykernel.kernelspec import get_kernel_dict
from joblib import cpu_count
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from tqdm import tqdm

from helpers import ROOT
from helpers.publishing.edited import refuse_sources, write_notebook

NOTEBOOKS = sorted((ROOT / "notebooks").glob("[1-9]_*.ipynb"))  # the lessons
STUDY = sorted((ROOT / "notebooks/study").glob("[1-9]_*.ipynb"))
# nbconvert sets source code in Markdown outputs in a proportional font, unlike JupyterLab.
MONOSPACE = "<style>.jp-RenderedMarkdown pre { font-family: monospace; font-size: 13px }</style>"


class NotebookFailed(RuntimeError):
    """A cell raised; what ran before it is kept."""


class ThisPython(AsyncKernelManager):
    """Starts kernels of the running interpreter, whatever kernels are installed by that name."""

    @property
    def kernel_spec(self):
        return KernelSpec(**get_kernel_dict())


def execute_all(sources, parameters, folder):
    """Run notebooks into ``folder``, each as .ipynb and .html; those of the study into study/.

    ``parameters`` is a dict of those that all of them get.

    On a CPU of several cores, lessons 1 and 2 run at the same time, each on half of the cores.
    The third reads what the others have saved, so it runs alone. The study's two follow together.

    Raises ValueError where ``folder`` holds the notebooks themselves.
    """
    places = {}
    together = {"1, 2": [], "3": [], "study": []}
    for source in sources:
        group = "1, 2" if source.name[0] in "12" else "3"
        places[source] = folder
        if source.parent.name == "study":
            group = "study"
            places[source] = folder / "study"
        refuse_sources(places[source], [source])
        together[group].append(source)
    groups = [group for group in together.values() if group]
    if cpu_count() == 1 or torch.accelerator.is_available():
        groups = [[source] for group in groups for source in group]
    cores = min(cpu_count(), torch.get_num_threads())

    os.environ["COURSEWORK_HEADLESS"] = "1"  # a stored slider cannot be moved
    try:
        for group in groups:
            os.environ["OMP_NUM_THREADS"] = str(max(1, cores // len(group)))
            jobs = [(source, places[source], parameters) for source in group]
            with ThreadPool(len(group)) as pool:  # each kernel is a process of its own
                pool.starmap(execute, jobs)
    finally:
        del os.environ["COURSEWORK_HEADLESS"]


def execute(source, folder, parameters):
    """Run one notebook into ``folder`` as .ipynb and .html; returns the path of the former.

    One that somebody has edited there stays, and the new one stands beside it. Raises
    NotebookFailed where a cell does.
    """
    import papermill
    from papermill.iorw import load_notebook_node
    from papermill.parameterize import parameterize_notebook

    notebook = load_notebook_node(str(source))
    notebook = parameterize_notebook(notebook, parameters, kernel_name="python3", language="python")
    executed = write_notebook(folder / source.name, notebook)
    place = str(executed).replace("{", "{{").replace("}", "}}")  # it is a pattern to papermill
    try:
        papermill.execute_notebook(
            place,
            place,
            kernel_name="python3",
            kernel_manager_class=ThisPython,
            cwd=ROOT,
            extra_arguments=["--log-level=40"],
            progress_bar={
                "desc": source.stem,
                "position": int(source.name[0]) - 1,
                "disable": None,  # there is none in a file
            },
            stdout_file=Terminal(source.stem),
        )
    except papermill.PapermillExecutionError as error:
        raise NotebookFailed(
            f"{executed}: cell {error.exec_count} stopped with {error.ename}: {error.evalue}"
        ) from None
    except RuntimeError as error:  # the kernel has died
        raise NotebookFailed(
            f"{executed}: {error}. It was the kernel of {sys.executable}: run this again; if it "
            "happens again, memory is short, or ipykernel does not start there"
        ) from None
    finally:
        to_html(executed)
    return executed


class Terminal:
    """A file to papermill; it passes the lines of a training on to the terminal, above the bars."""

    def __init__(self, name):
        self.name = name

    def write(self, text):
        lines = r"^(?:epoch +\d.*|.*, seed \d+: .*|[^:\n]+:$)"
        for line in re.findall(lines, text, re.MULTILINE):
            tqdm.write(f"{self.name}: {line}")

    def flush(self):
        pass


def to_html(executed):
    """The same notebook as one HTML file beside it."""
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(embed_images=True)
    exporter.log.setLevel("ERROR")  # it warns of images without a description
    page, _ = exporter.from_filename(executed)
    page = page.replace("</head>", f"{MONOSPACE}</head>", 1)
    executed.with_suffix(".html").write_text(page, encoding="utf-8")
