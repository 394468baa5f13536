"""The synthetic data sets: the code in data/drawn draws them once, as files like the real ones."""

import importlib.util
import shutil
import sys
from pathlib import Path

from joblib import Parallel, delayed
from tqdm.auto import tqdm

from helpers.engine.files import DataError, locked, made_beside

NAME = "helpers.data.drawn"  # of the package once it is loaded


def drawing_code():
    """The package data/drawn beside ``helpers``. It is loaded by its path, since it is data.

    Raises:
        DataError: it is not there, as in an installation that copied ``helpers`` alone.
    """
    if NAME in sys.modules:
        return sys.modules[NAME]
    file = Path(__file__).parents[2] / "data/drawn/__init__.py"
    if not file.exists():
        raise DataError(
            f"{file.parent} is not there: clone the project and install it with pip install -e."
        )
    spec = importlib.util.spec_from_file_location(NAME, file)
    package = importlib.util.module_from_spec(spec)
    sys.modules[NAME] = package  # its files import each other by this name
    spec.loader.exec_module(package)
    return package


def draw_once(name, root, seed=0):
    """The folder ``root/name`` with a synthetic set, drawn now unless it is there as it should be.

    Args:
        name: birds, streets or landscapes.
        seed: another one draws other images of the same kind.
    """
    drawn = drawing_code()
    jobs = drawn.plan(name, seed)
    wanted = drawn.stamp(name, seed)
    place = root / name
    stamp = place / ".drawn"

    def drawn_already():
        return stamp.exists() and stamp.read_text() == wanted

    if drawn_already():  # who only reads needs no lock
        return place
    with locked(place):
        if drawn_already():  # by another process, meanwhile
            return place
        shutil.rmtree(place, ignore_errors=True)
        with made_beside(place) as part:
            processes = Parallel(n_jobs=-1, return_as="generator", idle_worker_timeout=5)
            done = processes(delayed(draw_one)(name, job, part) for job in jobs)
            for _ in tqdm(done, f"drawing {name}", len(jobs), leave=False, unit="image"):
                pass
            (part / ".drawn").write_text(wanted)
    return place


def draw_one(name, job, folder):
    """Draw one image, in whatever process this runs."""
    drawing_code().draw_files(name, job, folder)
