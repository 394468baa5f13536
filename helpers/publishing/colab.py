"""The notebooks as files for Google Colab: the project travels in the first cell of each."""

import base64
import hashlib
import io
import zipfile
from pathlib import Path

import nbformat
from jinja2 import Template
from nbformat.v4 import new_code_cell

from helpers.publishing.edited import refuse_sources, write_notebook
from helpers.publishing.notebooks import NOTEBOOKS, STUDY

PROJECT = Path(__file__).parents[2]
UNPACK = PROJECT / "helpers/publishing/unpack.py.j2"
PACKED = (
    "helpers/**/*.py",
    "helpers/**/*.j2",
    "helpers/*.mplstyle",
    "data/drawn/*.py",
    "notebooks/references.bib",
    "notebooks/photographs.json",
)


def write_for_colab(folder):
    """Write the notebooks into ``folder``; returns their paths.

    Those that know an address to clone the project from stay as they are. The others get a cell
    that holds the packed project, folded away. What somebody has edited in ``folder`` stays.
    Raises ValueError where it holds the notebooks themselves.
    """
    sources = NOTEBOOKS + STUDY
    refuse_sources(folder, sources)
    packed = packed_cell()
    written = []
    for source in sources:
        notebook = nbformat.read(source, 4)
        if any('REPOSITORY = ""' in cell.source for cell in notebook.cells):
            notebook.cells.insert(1, packed)
        written.append(write_notebook(folder / source.name, notebook))
    return written


def packed_cell():
    """A cell, folded away, that unpacks the project beside the notebook."""
    content = package()
    unpack = Template(UNPACK.read_text(encoding="utf-8")).render(
        digest=hashlib.sha256(content).hexdigest()[:12],
        package=base64.b64encode(content).decode(),
    )
    folded = {"cellView": "form", "jupyter": {"source_hidden": True}}
    return new_code_cell(unpack, id="project", metadata=folded)


def package():
    """The code of the project as a zip archive, the same bytes for the same files."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for pattern in PACKED:
            for path in sorted(PROJECT.glob(pattern)):
                entry = zipfile.ZipInfo(path.relative_to(PROJECT).as_posix())  # dated 1980
                archive.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)
    return file.getvalue()
