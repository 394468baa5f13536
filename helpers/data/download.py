"""Get the real data sets: a copy at hand, an archive, or a download from the first source."""

import os
import tarfile
import zipfile
import zlib
from pathlib import Path, PureWindowsPath

from helpers.engine.files import check_space, locked, made_beside

from .listing import DataError, locate

SOURCES = {
    "birds": [
        "https://huggingface.co/datasets/chriamue/bird-species-dataset",
        "https://www.kaggle.com/datasets/gpiosenka/100-bird-species/versions/1",
    ],
    "streets": [
        "https://www.kaggle.com/datasets/kumaresanmanickavelu/lyft-udacity-challenge/versions/1"
    ],
    "landscapes": ["https://www.kaggle.com/datasets/arnaud58/landscape-pictures/versions/2"],
}
SPACE = {"birds": 5e9, "streets": 12e9, "landscapes": 2e9}  # bytes for the archive and its files


def fetch(name, root, looks_right):
    """A copy below ``root/name``, however deep its archive nested it, or else a download.

    Raises:
        DataError: no source works. It names each, what it said, and how to download by hand.
    """
    place = root / name
    pages = SOURCES[name]
    said = []
    with locked(root / f"{name}.download"):  # another process may be fetching it
        folder = locate(place, looks_right)
        if folder:
            return folder
        check_space(root, SPACE[name])
        for page in pages:
            handle = page.partition("/datasets/")[2]
            download = download_kaggle if "kaggle" in page else download_hub
            try:
                folder = locate(download(handle, place), looks_right)
                if folder:
                    return folder
                reason = "holds no such data set"
            except Exception as error:  # each library has its own kinds: try the next source
                reason = str(error).strip() or type(error).__name__
            said.append(f"  {page}: {reason.splitlines()[0]}\n")
    raise DataError(
        f"No {name} below {place}, and no download worked:\n{''.join(said)}"
        f"By hand: open {' or '.join(pages)} in a browser, download the archive, then\n"
        f"  python -m helpers prepare {name} --from ARCHIVE\n(or unpack it into {place})."
    )


def download_kaggle(handle, place):
    """Download into ``place``. A set that Colab or Kaggle has mounted is used where it is."""
    import kagglehub

    os.environ.setdefault("KAGGLEHUB_CACHE", str(place.parent / "kaggle"))
    folder = Path(kagglehub.dataset_download(handle))
    if place.parent in folder.parents:
        return folder.replace(place)
    return folder


def download_hub(handle, place):
    """Download a mirror's archives (train.tar.gz, …) and unpack them side by side in ``place``."""
    import huggingface_hub

    files = huggingface_hub.dataset_info(handle).siblings
    names = [file.rfilename for file in files if file.rfilename.endswith((".tar.gz", ".zip"))]
    if not names:
        raise DataError("holds no archive")
    folder = place.parent / "hub"
    with made_beside(place) as part:
        for name in names:
            huggingface_hub.hf_hub_download(handle, name, repo_type="dataset", local_dir=folder)
            archive = folder / name
            extract(archive, part / archive.name.split(".")[0])  # it holds train/SPECIES or SPECIES
    return place


def unpack(archive, root, looks_right):
    """The set inside a .zip or .tar.gz, unpacked once below ``root/unpacked``."""
    status = archive.stat()
    place = root / f"unpacked/{archive.name}-{status.st_size:x}-{status.st_mtime_ns:x}"
    with locked(place):
        if not place.exists():
            with made_beside(place) as part:
                extract(archive, part)
    folder = locate(place, looks_right)
    if folder is None:
        raise DataError(
            f"{archive} is unpacked in {place}, but holds no such data set: give another archive."
        )
    return folder


def extract(archive, target):
    """Unpack. Refuse whatever is not a plain file or folder inside ``target``."""
    print(f"Unpacking {archive.name} …")
    try:
        open_archive = zipfile.ZipFile if zipfile.is_zipfile(archive) else tarfile.open
        with open_archive(archive) as file:
            file.extraction_filter = tarfile.data_filter  # of a .tar.gz
            space = 0
            for name, is_plain, size in members(file):
                path = PureWindowsPath(name)  # splits at / and \, and knows drives
                if not is_plain or path.anchor or ".." in path.parts:
                    raise DataError(
                        f"{archive}: {name} is a link, a device or leads outside, which no data "
                        "set needs; nothing was unpacked: get it from a source you trust."
                    )
                space += size
            check_space(target.parent, space)
            file.extractall(target)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error) as error:
        raise DataError(
            f"{archive} is no whole .zip or .tar.gz file: download it again."
        ) from error


def members(file):
    """[(name, whether it is a plain file or folder, bytes)] of an open archive.

    A link in a .zip counts as a file, because ``zipfile`` unpacks it as one.
    """
    if isinstance(file, tarfile.TarFile):
        return [(member.name, member.isreg() or member.isdir(), member.size) for member in file]
    return [(member.filename, True, member.file_size) for member in file.infolist()]
