"""The notebooks as files for Google Colab: the project travels in the first cell of each."""

import base64
import hashlib
import io
import zipfile
from pathlib import Path

import nbformat
from jinja2 import Template

from helpers.publishing.edited import refuse_sources, write_notebook
from helpers.publishing.notebooks import NOTEBOOKS

PROJECT = Path(__file__).parents[2]
UNPACK = PROJECT / "helpers/publishing/unpack.py.j2"
PACKED = (
    "helpers/**/*.py",
    "helpers/**/*.j2",
    "helpers/*.mplstyle",
    "data/drawn/*.py",
    "notebooks/references.bib",
)


def write_for_colab(folder):
    """Write the notebooks into ``folder``; returns their paths.

    Those that know an address to clone the project from stay as they are. In the others, the
    first code cell holds the packed project, folded away. What somebody has edited in ``folder``
    stays. Raises ValueError where it holds the notebooks themselves.
    """
    refuse_sources(folder, NOTEBOOKS)
    content = package()
    unpack = Template(UNPACK.read_text(encoding="utf-8")).render(
        digest=hashlib.sha256(content).hexdigest()[:12],
        package=base64.b64encode(content).decode(),
    )
    written = []
    for source in NOTEBOOKS:
        notebook = nbformat.read(source, 4)
        first = next(cell for cell in notebook.cells if cell.cell_type == "code")
        if 'REPOSITORY = ""' in first.source:
            first.source = unpack
            first.metadata |= {"cellView": "form", "jupyter": {"source_hidden": True}}
        written.append(write_notebook(folder / source.name, notebook))
    return written


def package():
    """The code of the project as a zip archive, the same bytes for the same files."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for pattern in PACKED:
            for path in sorted(PROJECT.glob(pattern)):
                entry = zipfile.ZipInfo(path.relative_to(PROJECT).as_posix())  # dated 1980
                archive.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)
    return file.getvalue()
