"""The notebooks as files to upload to Google Colab, which has every package they need but ImageHash.

The project travels in the first cell of each. Once it has an address, ``Repository`` in pyproject.toml, Colab
clones it from there instead, and badges in the README and in the notebooks open them with a click.
"""

import base64
import hashlib
import io
import re
import tomllib
import zipfile
from pathlib import Path

import nbformat
from jinja2 import Template

from helpers import ROOT
from helpers.engine.files import written_beside
from helpers.publishing.notebooks import NOTEBOOKS

HELPERS = Path(__file__).parents[1]
COLAB = "https://colab.research.google.com"


def write_for_colab(folder):
    """Write the three notebooks into ``folder``, and where the project has an address, also that address and
    the badges into the project's own notebooks and README; returns the paths in ``folder``."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    address, written = project.get("urls", {}).get("Repository", ""), []
    for source in NOTEBOOKS:
        notebook = nbformat.read(source, 4)
        if address:
            refer(notebook, source.name, address)
        else:
            pack(notebook)
        written.append(Path(folder) / source.name)
        for path in [written[-1], *[source] * bool(address)]:
            with written_beside(path) as beside:
                nbformat.write(notebook, beside)
    if address:
        readme = ROOT / "README.md"
        before, mark, rest = readme.read_text(encoding="utf-8").partition("<!-- colab -->\n")
        badges = " ".join(badge(source.name, address) for source in NOTEBOOKS)
        after = rest[rest.index("<!-- end of colab -->") :]
        readme.write_text(f"{before}{mark}{badges}\n{after}", encoding="utf-8")
    return written


def first_cell(notebook):
    return next(cell for cell in notebook.cells if cell.cell_type == "code")


def pack(notebook):
    """Put the whole package into a notebook's first code cell, folded away; its last lines stay."""
    content, cell = package(), first_cell(notebook)
    template = Template(Path(__file__).with_name("unpack.py.j2").read_text(encoding="utf-8"))
    digest, last = hashlib.sha256(content).hexdigest()[:12], cell.source[cell.source.index("if importlib.") :]
    cell.source = template.render(digest=digest, package=base64.b64encode(content).decode(), last=last)
    cell.metadata |= {"cellView": "form", "jupyter": {"source_hidden": True}}


def package():
    """``helpers/`` as a zip archive, the same bytes for the same files."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for path in sorted(HELPERS.rglob("*")):
            if path.suffix in (".py", ".j2", ".bib", ".mplstyle"):
                entry = zipfile.ZipInfo(path.relative_to(HELPERS.parent).as_posix())  # dated 1980
                archive.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED, compresslevel=9)
    return file.getvalue()


def refer(notebook, name, address):
    """Let a notebook's first code cell clone from ``address``, and its first line open it in Colab."""
    cell, head = first_cell(notebook), notebook.cells[0]
    cell.source = re.sub('^REPOSITORY = ".*"$', f'REPOSITORY = "{address}"', cell.source, flags=re.MULTILINE)
    text = head.source.partition("\n\n")[2] if head.source.startswith("[![Open") else head.source
    head.source = f"{badge(name, address)}\n\n{text}"


def badge(name, address):
    place = address.replace("https://github.com", f"{COLAB}/github").removesuffix(".git")
    shown = f"![Open {name} in Colab]({COLAB}/assets/colab-badge.svg)"
    return f"[{shown}]({place}/blob/main/notebooks/{name})"
