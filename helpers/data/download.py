"""Getting the real data sets: a copy at hand, an archive, or a download from the first source that works."""

import os
import stat
import tarfile
import threading
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path

from tqdm.auto import tqdm

from helpers.engine.files import check_space, locked, made_beside

from .listing import DataError, locate, walk

PROBE_SECONDS = 8  # until a host counts as out of reach
SITES = {"hub": "https://huggingface.co/datasets/", "kaggle": "https://www.kaggle.com/datasets/"}
SOURCES = {
    "birds": ["hub:chriamue/bird-species-dataset", "kaggle:gpiosenka/100-bird-species/versions/1"],
    "streets": ["kaggle:kumaresanmanickavelu/lyft-udacity-challenge/versions/1"],
    "landscapes": ["kaggle:arnaud58/landscape-pictures/versions/2"],
}
SPACE = {"birds": 5e9, "streets": 12e9, "landscapes": 2e9}  # bytes for the archive and its files
IMAGES = {  # how many image files each known edition holds
    "birds": {"BIRDS 400": 62_388, "BIRDS 525": 89_885},
    "streets": {"Lyft": 10_000},
    "landscapes": {"Landscape Pictures": 4_319},
}


def find(name: str, root: Path, looks_right: Callable[[Path], bool]) -> Path | None:
    """A copy below ``root/name``, however deep its archive nested it."""
    folder = root / name
    return locate(folder, looks_right) if folder.is_dir() else None


def fetch(name: str, root: Path, looks_right: Callable[[Path], bool]) -> Path:
    """The first source that gives the whole set; DataError with what each said where none does."""
    root.mkdir(parents=True, exist_ok=True)
    check_space(root, int(SPACE[name]))
    pages, said = [], []
    with locked(root / f"{name}.download"):
        if folder := find(name, root, looks_right):
            return folder  # another process was faster
        for source in SOURCES[name]:
            site, handle = source.split(":")
            pages.append(SITES[site] + handle.split("/versions/")[0])
            try:
                check_reachable(pages[-1])
                return FETCH[site](handle, root / name, partial(accepted, name, looks_right=looks_right))
            except Exception as error:  # each library has its own kinds; all mean: try the next source
                first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
                said.append(f"  {pages[-1]}: {first_line}\n")
    raise DataError(
        f"No {name} below {root / name}, and no download worked:\n{''.join(said)}"
        f"By hand: open {' or '.join(pages)} in a browser, download the archive, then\n"
        f"  python -m helpers prepare {name} --from ARCHIVE\n(or unpack it into {root / name})."
    )


def check_reachable(url: str) -> None:
    """Raise within PROBE_SECONDS when a page cannot be had; libraries alone may try for minutes."""
    answer = Future()

    def ask() -> None:
        try:
            answer.set_result(urllib.request.urlopen(url, timeout=PROBE_SECONDS).close())
        except Exception as error:
            answer.set_exception(error)

    threading.Thread(target=ask, daemon=True).start()  # a name look-up knows no timeout
    try:
        answer.result(PROBE_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code in (404, 410):  # others dislike probes, not visitors
            raise
    except TimeoutError:
        raise TimeoutError(f"no answer within {PROBE_SECONDS} s: is there a network?") from None


def fetch_kaggle(handle: str, place: Path, accept: Callable[[Path], Path]) -> Path:
    """kagglehub resumes a broken download and unpacks; a set mounted by Colab or Kaggle is used in place."""
    import kagglehub

    os.environ.setdefault("KAGGLEHUB_CACHE", str(place.parent / "kaggle"))
    folder = Path(kagglehub.dataset_download(handle))
    found = accept(folder)
    if place.parent not in folder.parents:
        return found
    os.replace(folder, place)
    return place / found.relative_to(folder)


def fetch_hub(handle: str, place: Path, accept: Callable[[Path], Path]) -> Path:
    """A mirror's archives (train.tar.gz, …) side by side; a broken download goes on where it stopped."""
    from huggingface_hub import HfApi, hf_hub_url
    from huggingface_hub.file_download import http_get  # hf_hub_download would start a killed download over

    info = HfApi().dataset_info(handle, files_metadata=True)
    store = place.parent / "hub" / info.sha
    store.mkdir(parents=True, exist_ok=True)
    for file in info.siblings:
        archive = store / Path(file.rfilename).name
        if archive.name.endswith((".tar.gz", ".zip")) and not archive.exists():
            part = archive.with_name(archive.name + ".part")
            with open(part, "ab") as stream:
                url = hf_hub_url(handle, file.rfilename, repo_type="dataset", revision=info.sha)
                http_get(url, stream, resume_size=stream.tell(), expected_size=file.size)
            os.replace(part, archive)
    with made_beside(place) as part:
        for archive in sorted([*store.glob("*.tar.gz"), *store.glob("*.zip")]):
            top = part / archive.name.split(".")[0]  # train.tar.gz holds train/SPECIES or SPECIES
            extract(archive, top)
            if [child.name for child in top.iterdir()] == [top.name]:
                os.replace(top / top.name, part / "inner")
                top.rmdir()
                os.replace(part / "inner", top)
        found = accept(part)
    return place / found.relative_to(part)


FETCH = {"kaggle": fetch_kaggle, "hub": fetch_hub}


def accepted(name: str, folder: Path, looks_right: Callable[[Path], bool]) -> Path:
    """The set's root in a download: far fewer files than any known edition mean a broken copy."""
    root, known = locate(folder, looks_right), IMAGES[name]
    count = len(walk(root)[0]) if root else 0
    if count < 0.9 * min(known.values()):
        raise DataError(f"only {count} images, but {' or '.join(f'{k} has {v}' for k, v in known.items())}.")
    if count not in known.values():
        print(f"{folder} holds {count} images, unlike {known}: an edition we do not know, used as it is.")
    return root


def unpack(archive: Path, root: Path, looks_right: Callable[[Path], bool]) -> Path:
    """The set inside a .zip or .tar.gz, unpacked once below ``root/unpacked``."""
    status = archive.stat()
    place = root / "unpacked" / f"{archive.name.split('.')[0]}-{status.st_size:x}-{status.st_mtime_ns:x}"
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


def extract(archive: Path, target: Path) -> None:
    """Unpack, refusing whatever is not a plain file or folder inside ``target``."""
    target.mkdir(parents=True, exist_ok=True)
    size, bar = archive.stat().st_size, {"desc": f"unpacking {archive.name}", "leave": False}
    try:
        with tqdm.wrapattr(open(archive, "rb"), "read", total=size, **bar) as stream:
            if zipfile.is_zipfile(archive):
                with zipfile.ZipFile(stream) as file:
                    for member in file.infolist():
                        kind = stat.S_IFMT(member.external_attr >> 16)
                        check_member(member.filename, kind in (0, stat.S_IFREG, stat.S_IFDIR), archive)
                    check_space(target, sum(member.file_size for member in file.infolist()))
                    file.extractall(target)
            else:
                check_space(target, size)
                with tarfile.open(fileobj=stream) as file:
                    for member in file:
                        check_member(member.name, member.isreg() or member.isdir(), archive)
                        file.extract(member, target, filter="data")
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error) as error:
        why = str(error).splitlines()[0]
        raise DataError(f"{archive} is no whole .zip or .tar.gz ({why}): download it again.") from error


def check_member(name: str, plain: bool, archive: Path) -> None:
    parts = name.replace("\\", "/").split("/")
    if not plain or ".." in parts or parts[0] == "" or ":" in parts[0]:
        raise DataError(
            f"{archive}: {name} is a link, a device or leads out of the archive, which no data set needs; "
            "nothing was unpacked: get the archive from a source you trust."
        )
