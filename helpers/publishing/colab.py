"""The notebooks as files to upload to Google Colab: the project travels in the first cell of each."""

import base64
import hashlib
import io
import zipfile
from pathlib import Path

import nbformat
from jinja2 import Template

from helpers.engine.files import written_beside
from helpers.publishing.notebooks import NOTEBOOKS

HELPERS = Path(__file__).parents[1]
UNPACK = Template(Path(__file__).with_name("unpack.py.j2").read_text(encoding="utf-8"))


def write_for_colab(folder):
    """Write the three notebooks into ``folder``; returns their paths. Those that know an address to clone the
    project from stay as they are; the others get it packed, in a cell that is folded away."""
    content, written = package(), []
    digest, text = hashlib.sha256(content).hexdigest()[:12], base64.b64encode(content).decode()
    for source in NOTEBOOKS:
        notebook = nbformat.read(source, 4)
        first = next(cell for cell in notebook.cells if cell.cell_type == "code")
        if 'REPOSITORY = ""' in first.source:
            first.source = UNPACK.render(digest=digest, package=text)
            first.metadata |= {"cellView": "form", "jupyter": {"source_hidden": True}}
        written.append(Path(folder) / source.name)
        with written_beside(written[-1]) as beside:
            nbformat.write(notebook, beside)
    return written


def package():
    """``helpers/`` as a zip archive, the same bytes for the same files."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for path in sorted(HELPERS.rglob("*")):
            if path.suffix in (".py", ".j2", ".mplstyle"):
                entry = zipfile.ZipInfo(path.relative_to(HELPERS.parent).as_posix())  # dated 1980
                archive.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED, compresslevel=9)
    return file.getvalue()
