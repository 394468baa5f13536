"""Getting the real data sets: a copy at hand, an archive, or a download from the first source that works."""

import os
import stat
import tarfile
import urllib.error
import urllib.request
import zipfile
import zlib
from functools import partial
from pathlib import Path

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


def fetch(name: str, root: Path, looks_right) -> Path:
    """A copy below ``root/name``, however deep its archive nested it, or else a download."""
    pages, said, place = [], "", root / name
    with locked(root / f"{name}.download"):  # another process may be fetching it
        if place.is_dir() and (folder := locate(place, looks_right)):
            return folder
        check_space(root, SPACE[name])
        for site, handle in (source.split(":") for source in SOURCES[name]):
            pages.append(SITES[site] + handle.split("/versions/")[0])
            try:
                check_reachable(pages[-1])
                return FETCH[site](handle, place, partial(accepted, name, looks_right=looks_right))
            except Exception as error:  # each library has its own kinds; all mean: try the next source
                first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
                said += f"  {pages[-1]}: {first_line}\n"
    raise DataError(
        f"No {name} below {place}, and no download worked:\n{said}"
        f"By hand: open {' or '.join(pages)} in a browser, download the archive, then\n"
        f"  python -m helpers prepare {name} --from ARCHIVE\n(or unpack it into {place})."
    )


def check_reachable(url: str) -> None:
    """Raise soon when a page cannot be had; the libraries alone may try for minutes."""
    try:
        urllib.request.urlopen(url, timeout=PROBE_SECONDS).close()
    except urllib.error.HTTPError as error:
        if error.code in (404, 410):  # others dislike mere probes
            raise
    except OSError as error:
        if isinstance(getattr(error, "reason", error), TimeoutError):
            raise TimeoutError(f"no answer within {PROBE_SECONDS} s: is there a network?") from None
        raise


def fetch_kaggle(handle: str, place: Path, accept) -> Path:
    """kagglehub resumes a broken download and unpacks; a set mounted by Colab or Kaggle is used in place."""
    import kagglehub

    os.environ.setdefault("KAGGLEHUB_CACHE", str(place.parent / "kaggle"))
    folder = Path(kagglehub.dataset_download(handle))
    found = accept(folder)
    if place.parent not in folder.parents:
        return found
    os.replace(folder, place)
    return place / found.relative_to(folder)


def fetch_hub(handle: str, place: Path, accept) -> Path:
    """A mirror's archives (train.tar.gz, …) side by side; a broken download goes on where it stopped."""
    from huggingface_hub import HfApi, hf_hub_url
    from huggingface_hub.file_download import http_get  # hf_hub_download would start a killed download over

    info = HfApi().dataset_info(handle, files_metadata=True)
    store = place.parent / "hub" / info.sha
    store.mkdir(parents=True, exist_ok=True)
    for file in info.siblings:
        archive = store / Path(file.rfilename).name
        if archive.name.endswith((".tar.gz", ".zip")) and not archive.exists():
            url = hf_hub_url(handle, file.rfilename, repo_type="dataset", revision=info.sha)
            with open(f"{archive}.part", "ab") as stream:
                http_get(url, stream, resume_size=stream.tell(), expected_size=file.size)
            os.replace(stream.name, archive)
    with made_beside(place) as part:
        for archive in sorted([*store.glob("*.tar.gz"), *store.glob("*.zip")]):
            extract(archive, part / archive.name.split(".")[0])  # train.tar.gz holds train/SPECIES or SPECIES
        found = accept(part)
    return place / found.relative_to(part)


FETCH = {"kaggle": fetch_kaggle, "hub": fetch_hub}


def accepted(name: str, folder: Path, looks_right) -> Path:
    """The set's root in a download: far fewer files than any known edition mean a broken copy."""
    root, known = locate(folder, looks_right), IMAGES[name]
    count = len(walk(root)[0]) if root else 0
    if count < 0.9 * min(known.values()):
        raise DataError(f"only {count} images, but {' or '.join(f'{k} has {v}' for k, v in known.items())}.")
    if count not in known.values():
        print(f"{folder} holds {count} images, unlike {known}: an edition we do not know, used as it is.")
    return root


def unpack(archive: Path, root: Path, looks_right) -> Path:
    """The set inside a .zip or .tar.gz, unpacked once below ``root/unpacked``."""
    status = archive.stat()
    place = root / "unpacked" / f"{archive.name.split('.')[0]}-{status.st_size:x}-{status.st_mtime_ns:x}"
    with locked(place):
        if not place.exists():
            with made_beside(place) as part:
                extract(archive, part)
    if folder := locate(place, looks_right):
        return folder
    raise DataError(f"{archive} is unpacked in {place}, but holds no such data set: give another archive.")


def extract(archive: Path, target: Path) -> None:
    """Unpack, refusing whatever is not a plain file or folder inside ``target``."""
    print(f"Unpacking {archive.name} …")
    target.mkdir(exist_ok=True)
    try:
        zipped = zipfile.is_zipfile(archive)
        with zipfile.ZipFile(archive) if zipped else tarfile.open(archive) as file:
            if zipped:
                kinds = (0, stat.S_IFREG, stat.S_IFDIR)
                plain = [(m.filename, stat.S_IFMT(m.external_attr >> 16) in kinds) for m in file.infolist()]
                size = sum(member.file_size for member in file.infolist())
            else:
                file.extraction_filter = tarfile.data_filter
                plain = [(member.name, member.isreg() or member.isdir()) for member in file]
                size = sum(member.size for member in file.getmembers())
            for name, is_plain in plain:
                first, *_ = parts = name.replace("\\", "/").split("/")
                if not is_plain or ".." in parts or not first or ":" in first:
                    why = "is a link, a device or leads out of the archive, which no data set needs"
                    remedy = "nothing was unpacked: get the archive from a source you trust"
                    raise DataError(f"{archive}: {name} {why}; {remedy}.")
            check_space(target, size)
            file.extractall(target)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error) as error:
        why = str(error).splitlines()[0]
        raise DataError(f"{archive} is no whole .zip or .tar.gz ({why}): download it again.") from error
