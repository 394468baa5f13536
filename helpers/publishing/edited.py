"""What somebody has edited stays. A run knows its own files by a digest that it puts into them."""

import hashlib

import nbformat

from helpers.engine.files import written_beside

KEY = "cells_of_the_run"  # of a notebook's metadata


def write_text(path, text):
    """Write a text below a line with its digest, unless somebody has edited what is there."""
    place = unedited_place(path)
    with written_beside(place) as beside:
        beside.write_text(f"{mark(text)}\n{text}", encoding="utf-8")


def write_notebook(path, notebook):
    """Write a notebook whose metadata holds the digest of its cells; returns where it is.

    It is ``path`` unless somebody has edited the notebook there.
    """
    place = unedited_place(path)
    notebook.metadata[KEY] = mark(said(notebook))
    with written_beside(place) as beside:
        nbformat.write(notebook, beside)
    return place


def unedited_place(path):
    """Where to write: ``path``, or NAME.new1.tex, NAME.new2.tex … if somebody has edited that."""
    place = path
    number = 0
    while place.exists() and is_edited(place):
        number += 1
        place = path.with_name(f"{path.stem}.new{number}{path.suffix}")
    if number:
        print(f"{place.name} is the new one: {path.name} is yours, and stays as it is")
    return place


def is_edited(path):
    """Whether a text, or anything but the outputs of a notebook, differs from what a run wrote."""
    try:
        found = path.read_text(encoding="utf-8")
        if path.suffix == ".ipynb":
            notebook = nbformat.reads(found, 4)
            return notebook.metadata[KEY] != mark(said(notebook))
    except Exception:  # of whatever else it is: no run has written it
        return True
    first, _, text = found.partition("\n")
    return first != mark(text)


def mark(text):
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return f"% {digest}: written by a run; a later one leaves it alone once you have edited it"


def said(notebook):
    """What the cells say, and their points. Empty cells and papermill's marks don't count."""
    texts = []
    for cell in notebook.cells:
        is_mark = "papermill-error-cell-tag" in cell.metadata.get("tags", [])
        if cell.source.strip() and not is_mark:
            points = cell.metadata.get("nbgrader", {}).get("points", "")
            texts.append(f"{cell.cell_type}{points}: {cell.source}")
    return "\0".join(texts)


def refuse_sources(folder, sources):
    """Raise ValueError where ``folder`` holds one of the notebooks ``sources``, also as a link."""
    for source in sources:
        place = folder / source.name
        if place.exists() and place.samefile(source):
            told = "holds the source notebooks: give another folder to write to"
            raise ValueError(f"{folder} {told}")
