"""Copies at hand, archives, downloads, and what happens when nothing can be had."""

import io
import os
import tarfile
import zipfile
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import kagglehub
import pytest

import helpers.data
from helpers.data import DataError, download

from .making import MAKE, count, make_birds, make_landscapes, make_streets, snapshot

KINDS = ["zip", "tar", "tar.gz", "tar.bz2", "tar.xz"]


def pack(folder, archive):
    """All of a folder, below its own name, as a .zip, .tar or packed .tar."""
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w") as file:
            for path in sorted(folder.rglob("*")):
                file.write(path, path.relative_to(folder.parent))
    else:
        packed = archive.suffix.removeprefix(".").removeprefix("tar")
        with tarfile.open(archive, f"w:{packed}") as file:
            file.add(folder, folder.name)
    return archive


# Archives


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", MAKE)
def test_archives_are_unpacked_once(tmp_path, prepare, kind, name, monkeypatch):
    source = MAKE[name](tmp_path / "in" / "set")
    archive = pack(source, tmp_path / f"{name} set.{kind}")
    data = prepare(name, archive)
    plain = helpers.data.prepare(name, source, root=tmp_path / "other", size=32)
    assert data.inventory.read == plain.inventory.read
    assert (data.train.images == plain.train.images).all()
    (unpacked,) = (path for path in (tmp_path / "data" / "unpacked").iterdir() if path.is_dir())
    date = unpacked.stat().st_mtime_ns
    monkeypatch.setattr(download, "locked", None)  # who only reads needs no lock
    prepare(name, str(archive))
    assert unpacked.stat().st_mtime_ns == date


def wicked_tar(path, name, kind, target=""):
    with tarfile.open(path, "w:gz") as file:
        file.addfile(tarfile.TarInfo("set/good.txt"), io.BytesIO())
        member = tarfile.TarInfo(name)
        member.type = kind
        member.linkname = target
        file.addfile(member, io.BytesIO())


def wicked_zip(path, name):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("set/good.txt", "")
        file.writestr(name, "evil")


WICKED = {
    "a path upwards": (wicked_tar, "set/../../evil.jpg", tarfile.REGTYPE),
    "an absolute path": (wicked_tar, "/tmp/evil.jpg", tarfile.REGTYPE),
    "a Windows drive": (wicked_tar, "C:\\evil.jpg", tarfile.REGTYPE),
    "a symbolic link outwards": (wicked_tar, "set/link", tarfile.SYMTYPE, "../../.."),
    "a hard link": (wicked_tar, "set/link", tarfile.LNKTYPE, "/etc/hostname"),
    "a device file": (wicked_tar, "set/device", tarfile.CHRTYPE),
    "a pipe": (wicked_tar, "set/pipe", tarfile.FIFOTYPE),
    "a path upwards in a zip": (wicked_zip, "../evil.jpg"),
    "an absolute path in a zip": (wicked_zip, "/tmp/evil.jpg"),
    "backslashes": (wicked_zip, "..\\evil.jpg"),
}


@pytest.mark.parametrize("trick", WICKED)
def test_an_archive_that_leads_outside_is_refused_and_nothing_kept(tmp_path, prepare, trick):
    write, *how = WICKED[trick]
    archive = tmp_path / "set.archive"
    write(archive, *how)
    with pytest.raises(DataError, match=r"archive: .*no data set needs.*a source you trust"):
        prepare("birds", archive)
    assert [path.suffix for path in (tmp_path / "data" / "unpacked").iterdir()] == [".lock"]
    assert not list(tmp_path.rglob("evil*"))


@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_that_is_cut_off_or_of_something_else_is_named(tmp_path, prepare, kind):
    archive = pack(make_birds(tmp_path / "set"), tmp_path / f"set.{kind}")
    with pytest.raises(DataError, match=r"set\..* is unpacked in .* holds no such data set"):
        prepare("streets", archive)
    content = archive.read_bytes()
    size = len(content)
    ends = [0, size // 3, size // 2]
    if kind == "tar":  # also between two files
        with tarfile.open(archive) as file:
            ends += [member.offset for member in file][1:]
    for end in ends:
        archive.write_bytes(content[:end])
        with pytest.raises(DataError, match=r"set\..* is no whole .zip or .tar file.*again"):
            prepare("birds", archive)
    assert len([path for path in (tmp_path / "data/unpacked").iterdir() if path.is_dir()]) == 1


def test_nothing_is_unpacked_or_downloaded_onto_a_full_disk(tmp_path, prepare, monkeypatch):
    usage = SimpleNamespace(free=1000)
    monkeypatch.setattr("helpers.engine.files.shutil.disk_usage", lambda _: usage)
    archive = pack(make_birds(tmp_path / "set"), tmp_path / "birds.zip")
    with pytest.raises(DataError, match="GB are needed: make room"):
        prepare("birds", archive)
    with pytest.raises(DataError, match=r"0.00 GB free but 5.00 GB are needed"):
        prepare("birds")


# Copies at hand and downloads


def test_what_was_copied_into_data_is_found_however_deep(tmp_path, prepare, monkeypatch):
    monkeypatch.setattr(download, "locked", None)
    make_landscapes(tmp_path / "data" / "landscapes" / "by" / "me")
    assert count(prepare("landscapes")) == 12


@pytest.fixture
def sources(monkeypatch):
    """What the two libraries are asked for. They say no, until a test tells them what to do."""
    asked = []

    def refuse(handle, *_, **__):
        asked.append(handle)
        raise OSError(f"no way to {handle}\nand more")

    monkeypatch.setattr(kagglehub, "dataset_download", refuse)
    monkeypatch.setattr(huggingface_hub, "dataset_info", refuse)
    monkeypatch.setattr(download, "SPACE", dict.fromkeys(download.SPACE, 0))
    return asked


def test_where_no_source_works_each_is_named_and_how_to_go_by_hand(tmp_path, prepare, sources):
    with pytest.raises(DataError) as caught:
        prepare("birds")
    message = str(caught.value)
    for page in download.SOURCES["birds"]:
        assert f"{page}: no way to " in message and message.count(page) == 2
    assert "and more" not in message  # of each only the first line
    assert "By hand" in message and f"unpack it into {tmp_path}/data/birds" in message
    assert "python -m helpers prepare birds --from ARCHIVE" in message


def test_other_files_in_the_way_are_told_of_before_anything_is_downloaded(
    tmp_path, prepare, sources
):
    (tmp_path / "data/birds").mkdir(parents=True)
    (tmp_path / "data/birds/notes.txt").touch()
    with pytest.raises(DataError, match=r"data/birds holds other files than birds: move it away"):
        prepare("birds")
    assert sources == []


def test_without_a_network_the_libraries_themselves_give_up(tmp_path, prepare, monkeypatch):
    monkeypatch.setattr(download, "SPACE", dict.fromkeys(download.SPACE, 0))
    for scheme in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(scheme, "http://127.0.0.1:9")
    for variable in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    told = r"(?s)bird-species-dataset: .*100-bird-species.*: .*By hand"
    with pytest.raises(DataError, match=told):
        prepare("birds")


def test_a_notebook_goes_on_with_synthetic_data(tmp_path, prepare, sources, monkeypatch, capsys):
    monkeypatch.setattr(
        helpers.data, "draw_once", lambda name, root, student: make_streets(root / name)
    )
    data = helpers.data.prepare_or_draw("streets", "", root=tmp_path / "data", size=32)
    assert data.synthetic and data.label == "synthetic streets"
    assert "Going on with synthetic streets instead" in capsys.readouterr().out
    with pytest.raises(DataError, match="nowhere is not there"):
        helpers.data.prepare_or_draw("streets", tmp_path / "nowhere", root=tmp_path / "data")


def test_a_set_that_kaggle_has_mounted_is_used_where_it_is(tmp_path, prepare, sources, monkeypatch):
    def mounted(handle):
        sources.append(handle)
        return str(make_streets(tmp_path / "mounted" / "1", folders=("dataA/dataA", "dataB/dataB")))

    monkeypatch.setattr(kagglehub, "dataset_download", mounted)
    assert len(prepare("streets").train) == 12
    assert sources == ["kumaresanmanickavelu/lyft-udacity-challenge/versions/1"]
    assert not (tmp_path / "data" / "streets").exists()


def test_a_set_that_kaggle_downloads_is_found_later(tmp_path, prepare, sources, monkeypatch):
    def downloaded(handle):
        return str(make_landscapes(Path(os.environ["KAGGLEHUB_CACHE"]) / "versions" / "2", 20))

    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "data" / "kaggle"))
    monkeypatch.setattr(kagglehub, "dataset_download", downloaded)
    first = prepare("landscapes")
    monkeypatch.undo()
    assert prepare("landscapes").test.names == first.test.names
    assert (tmp_path / "data" / "landscapes" / "photo_00.jpg").exists()


def listing(*names):
    found = SimpleNamespace(siblings=[SimpleNamespace(rfilename=name) for name in names])
    return lambda handle: found


@pytest.mark.parametrize("inside", ["train", "."])
def test_archives_of_the_hub_become_one_set(tmp_path, prepare, sources, monkeypatch, inside):
    whole = make_birds(tmp_path / "whole")

    def hub(handle, name, *, repo_type, local_dir):
        assert repo_type == "dataset"
        split = Path(name).name.removesuffix(".tar.gz")
        (local_dir / name).parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(local_dir / name, "w:gz") as file:
            file.add(whole / split, split if inside == "train" else ".")

    wanted = {"train": 12, "valid": 4, "test": 4}
    listed = listing("README.md", *(f"data/{split}.tar.gz" for split in wanted))
    monkeypatch.setattr(huggingface_hub, "dataset_info", listed)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", hub)
    assert prepare("birds").inventory.read == wanted and sources == []
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", None)  # now it is found in data/
    assert prepare("birds").inventory.read == wanted


def test_a_source_that_holds_something_else_is_told(tmp_path, prepare, sources, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "dataset_info", listing("README.md"))
    kaggle = make_landscapes(tmp_path / "photos", 5)
    monkeypatch.setattr(kagglehub, "dataset_download", lambda _: str(kaggle))
    told = r"(?s)species-dataset: holds no archive.*versions/1: holds no such data set"
    with pytest.raises(DataError, match=told):
        prepare("birds")


def zipped(source, archive, name=lambda path: path):
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(source.rglob("*.jpg")):
            entry = zipfile.ZipInfo()
            entry.filename = name(path.relative_to(source).as_posix())
            file.writestr(entry, path.read_bytes())
    return archive


def patched(archive, local, central, value):
    """The archive with a number changed in all of its headers."""
    content = bytearray(archive.read_bytes())
    for signature, offset in ((b"PK\3\4", local), (b"PK\1\2", central)):
        place = content.find(signature)
        while place >= 0:
            content[place + offset : place + offset + 2] = value.to_bytes(2, "little")
            place = content.find(signature, place + 1)
    archive.write_bytes(content)
    return archive


def test_backslashes_in_an_archive_of_windows_are_folders(tmp_path, prepare):
    source = make_birds(tmp_path / "set")
    archive = zipped(source, tmp_path / "a.zip", lambda path: path.replace("/", "\\"))
    assert len(prepare("birds", archive).train) == 12


def test_archives_that_cannot_be_unpacked_are_named_with_what_to_do(tmp_path, prepare):
    source = make_birds(tmp_path / "set")
    broken = {
        "is encrypted: unpack it": patched(zipped(source, tmp_path / "e.zip"), 6, 8, 1),
        r"\(Deflate64\?\): unpack it": patched(zipped(source, tmp_path / "d.zip"), 8, 10, 9),
        "Bad CRC-32 for file .*: download": patched(zipped(source, tmp_path / "s.zip"), 14, 16, 9),
        "is a .zip file, which is not read: unpack": tmp_path / "n.zip",
        "CRC check failed .*: download": pack(source, tmp_path / "s.tar.gz"),
        "cannot be read": zipped(
            source, tmp_path / "f.zip", lambda path: path.replace("1", 300 * "1")
        ),
        "only in letter case": zipped(
            source, tmp_path / "c.zip", lambda path: path.replace("train/O", "Train/O")
        ),
    }
    with zipfile.ZipFile(tmp_path / "n.zip", "w") as file:
        file.write(zipped(source, tmp_path / "inner.zip"), "data/inner.zip")
    content = bytearray((tmp_path / "s.tar.gz").read_bytes())
    content[-6] ^= 1  # of the checksum
    (tmp_path / "s.tar.gz").write_bytes(content)
    (tmp_path / "r.rar").write_bytes(b"Rar!\x1a\x07" + bytes(100))
    broken["which is not read: unpack it"] = tmp_path / "r.rar"
    for told, archive in broken.items():
        with pytest.raises(DataError, match=rf"{archive.name}.*{told}"):
            prepare("birds", archive)


def test_sets_below_the_input_folder_are_found_and_only_read(tmp_path, monkeypatch, capsys):
    inputs = tmp_path / "input"
    make_birds(inputs / "a-set-of-cats/train-images", ("LION", "TIGER"), 9)
    make_birds(inputs / "datasets/somebody/100-bird-species/birds")
    make_streets(inputs / "my-streets", 12, [""])
    make_landscapes(inputs / "landscape-pictures")
    make_landscapes(inputs / "holidays", 3)
    (inputs / "reviews/train/good").mkdir(parents=True)
    (inputs / "reviews/train/good/1.txt").write_text("a text")
    monkeypatch.setattr(helpers, "INPUTS", inputs)
    monkeypatch.setattr(download, "locked", None)
    before = snapshot(inputs)
    found = {"birds": 20, "streets": 10, "landscapes": 12}
    for name in found:
        data = helpers.data.prepare(name, size=32, root=tmp_path / "data")
        assert count(data) == found[name] and not data.synthetic
        assert f"for {name}, which is only read" in capsys.readouterr().out
    assert snapshot(inputs) == before
    (inputs / "datasets").rename(tmp_path / "datasets")
    told = helpers.data.prepare("birds", size=32, root=tmp_path / "data")
    assert told.classes == ["LION", "TIGER"]
    make_birds(tmp_path / "data/birds")
    assert "LION" not in helpers.data.prepare("birds", size=32, root=tmp_path / "data").classes
