"""Get the real data sets: a copy at hand, an archive, or a download from the first source."""

import os
import tarfile
import zipfile
from pathlib import Path, PureWindowsPath

import helpers
from helpers.engine.files import FULL, check_space, locked, made_beside

from .listing import DataError, describe, locate, sum_up, walk

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
# Sets below INPUTS: their names, and what others have, too. Any photos look like landscapes.
NAMED = {
    "birds": "*bird-species*/",
    "streets": "*lyft-udacity-challenge*/",
    "landscapes": "[Ll]andscape*/",
}
SIGNS = {"birds": "[Tt][Rr][Aa][Ii][Nn]*/*/**/*.[JjPp][PpNn]*", "streets": "*/"}
SPACE = {"birds": 5e9, "streets": 12e9, "landscapes": 2e9}  # bytes for the archive and its files

READ = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
REPACK = "unpack it with another program, and give the folder"
STRANGE = (b"Rar!", b"7z\xbc\xaf", b"\x28\xb5\x2f\xfd")


def fetch(name, root, looks_right):
    """A copy below ``root/name``, however deep, or one below INPUTS, or else a download.

    Raises:
        DataError: no source works. It names each, what it said, and how to download by hand.
    """
    place = root / name
    pages = SOURCES[name]
    said = []
    folder = locate(place, looks_right) or find_input(name, looks_right)
    if folder:  # who only reads needs no lock
        return folder
    with locked(root / f"{name}.download"):  # another process may be fetching it
        folder = locate(place, looks_right)
        if folder:
            return folder
        if place.is_dir() and any(place.iterdir()):  # before gigabytes are downloaded
            raise DataError(f"{place} holds other files than {name}: move it away.")
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


def find_input(name, looks_right):
    """The set below ``helpers.INPUTS``, where Kaggle mounts data sets to be read, or None."""

    def has_signs(folder):
        return name in SIGNS and any(folder.glob(SIGNS[name])) and looks_right(folder)

    for pattern, is_right in ((NAMED[name], looks_right), ("*/", has_signs)):
        for place in (pattern, f"datasets/*/{pattern}"):
            for folder in sorted(helpers.INPUTS.glob(place)):
                found = locate(folder, is_right)
                if found:
                    print(f"Using {found} for {name}, which is only read.")
                    return found
    return None


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
    """The set inside a .zip, .tar or packed .tar, unpacked once below ``root/unpacked``."""
    status = archive.stat()
    place = root / f"unpacked/{archive.name}-{status.st_size:x}-{status.st_mtime_ns:x}"
    if not place.exists():  # who only reads needs no lock
        with locked(place):
            if not place.exists():
                with made_beside(place) as part:
                    extract(archive, part)
    folder = locate(place, looks_right)
    if folder is None:
        _, left_out = walk(place)
        raise DataError(
            f"{archive} is unpacked in {place}, but holds no such data set "
            f"({sum_up(left_out, place)}): give another archive."
        )
    return folder


def extract(archive, target):
    """Unpack. Refuse whatever is not a plain file or folder inside ``target``."""
    print(f"Unpacking {archive.name} …")
    try:
        with open(archive, "rb") as file:
            if file.read(6).startswith(STRANGE):
                raise DataError(
                    f"{archive} is a .rar, .7z or .zst file, which is not read: {REPACK}."
                )
        open_archive = tarfile.open if tarfile.is_tarfile(archive) else zipfile.ZipFile
        with open_archive(archive) as file:
            file.extraction_filter = tarfile.data_filter  # of a .tar.gz
            space = 0
            spelled = {}  # Windows and macOS take names that differ in letter case for one
            found = members(file)
            for name, is_plain, size in found.values():
                path = PureWindowsPath(name)  # splits at / and \, and knows drives
                if not is_plain or path.anchor or ".." in path.parts:
                    raise DataError(
                        f"{archive}: {name} is a link, a device or leads outside, which no data "
                        "set needs; nothing was unpacked: get it from a source you trust."
                    )
                for part in [path, *path.parents]:
                    twin = spelled.setdefault(part, part)  # equal in any case
                    if twin.parts != part.parts:
                        raise DataError(
                            f"{archive} holds {twin.as_posix()} and {part.as_posix()}, "
                            "which differ only in letter case (one file on Windows): rename one of "
                            "them, and pack it again."
                        )
                space += size
            check_space(target.parent, space)
            file.extractall(target, found)
    except DataError:
        raise
    except Exception as error:  # whatever a library says of an archive
        told = f"is no whole .zip or .tar file ({error}): download it again"
        number = getattr(error, "errno", None)
        if number in FULL:  # of the disk
            raise
        if number:
            told = describe(error)
        raise DataError(f"{archive} {told}.") from error


def members(file):
    """{member: (name, whether it is a plain file or folder, bytes)}.

    A link in a .zip counts as a file, because ``zipfile`` unpacks it as one.

    Raises:
        DataError: members are packed in a way that is not read.
    """
    found = {}
    if isinstance(file, tarfile.TarFile):
        for member in file:
            is_plain = member.isreg() or member.isdir()
            found[member] = (member.name, is_plain, member.size)
        # What ``tarfile`` takes for the end may be a damaged header, or the file is cut off there.
        file.fileobj.seek(file.offset)
        block = file.fileobj.read(512)
        if not block or any(block):
            raise tarfile.ReadError("its end is missing")
        while file.fileobj.read(2**20):  # packed ones compare their checksum at the end
            pass
        return found
    for member in file.infolist():
        if member.flag_bits & 1:
            raise DataError(f"{file.filename} is encrypted: {REPACK}.")
        if member.compress_type not in READ:
            raise DataError(f"{file.filename} is packed in a rare way (Deflate64?): {REPACK}.")
        member.filename = member.filename.replace("\\", "/")  # of Windows
        found[member] = (member.filename, True, member.file_size)
    return found
