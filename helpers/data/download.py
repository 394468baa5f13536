"""Getting the data sets (stub)."""
from pathlib import Path
from .listing import DataError, locate
def find(name, root, looks_right):
    folder = Path(root) / name
    return locate(folder, looks_right) if folder.is_dir() else None
def download(name, root, looks_right):
    raise DataError(f"No {name} below {root}, and downloads are not written yet.")
def unpack(archive, root, looks_right):
    raise DataError("archives are not written yet")
