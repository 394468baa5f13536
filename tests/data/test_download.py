"""Copies at hand, archives, downloads, and what happens when nothing can be had."""

import contextlib
import http.server
import io
import itertools
import json
import os
import socket
import stat
import subprocess
import sys
import tarfile
import threading
import time
import urllib.request
import zipfile
from functools import partial
from pathlib import Path

import pytest

import helpers.data
from helpers import drawings
from helpers.data import DataError, download

from .making import make_birds, make_landscapes, make_streets, photo


@pytest.fixture
def no_network(monkeypatch):
    """Every web request meets a closed door."""
    for scheme in ("http", "https"):
        monkeypatch.setenv(f"{scheme}_proxy", "http://127.0.0.1:9")
        monkeypatch.delenv(f"{scheme.upper()}_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setattr(urllib.request, "_opener", None)  # which remembers the proxies of its first request
    monkeypatch.setitem(download.SPACE, "birds", 0)
    monkeypatch.setitem(download.SPACE, "streets", 0)


def pack(folder, archive, kind):
    """All of a folder, below its own name, as a .zip or .tar.gz."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    if kind == "zip":
        with zipfile.ZipFile(archive, "w") as file:
            for path in files:
                file.write(path, path.relative_to(folder.parent))
    else:
        with tarfile.open(archive, "w:gz") as file:
            file.add(folder, folder.name)
    return archive


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
@pytest.mark.parametrize(
    ("name", "make"), [("birds", make_birds), ("streets", make_streets), ("landscapes", make_landscapes)]
)
def test_archives_are_unpacked_once(tmp_path, prepare, kind, name, make):
    archive = pack(make(tmp_path / "in" / "set"), tmp_path / f"{name} set.{kind}", kind)
    data = prepare(name, archive)
    plain = helpers.data.prepare(name, tmp_path / "in" / "set", root=tmp_path / "other", size=32)
    assert data.inventory.read == plain.inventory.read and (data.train.images == plain.train.images).all()
    (unpacked,) = (path for path in (tmp_path / "data" / "unpacked").iterdir() if path.is_dir())
    date = unpacked.stat().st_mtime_ns
    prepare(name, str(archive))
    assert unpacked.stat().st_mtime_ns == date


def wicked_tar(path, name, kind, target=""):
    with tarfile.open(path, "w:gz") as file:
        member = tarfile.TarInfo("set/good.txt")
        file.addfile(member, io.BytesIO())
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, target
        file.addfile(member, io.BytesIO())
    return path


WICKED = {
    "a path upwards": ("set/../../evil.jpg", tarfile.REGTYPE, ""),
    "an absolute path": ("/tmp/evil.jpg", tarfile.REGTYPE, ""),
    "a Windows drive": ("C:\\evil.jpg", tarfile.REGTYPE, ""),
    "a symbolic link outwards": ("set/link", tarfile.SYMTYPE, "../../.."),
    "a hard link": ("set/link", tarfile.LNKTYPE, "/etc/hostname"),
    "a device file": ("set/device", tarfile.CHRTYPE, ""),
    "a pipe": ("set/pipe", tarfile.FIFOTYPE, ""),
}


@pytest.mark.parametrize("trick", WICKED)
def test_a_tar_that_leads_outside_is_refused_and_nothing_kept(tmp_path, prepare, trick):
    archive = wicked_tar(tmp_path / "set.tar.gz", *WICKED[trick])
    with pytest.raises(DataError, match=r"set\.tar\.gz: .*which no data set needs.*from a source you trust"):
        prepare("birds", archive)
    assert [path.suffix for path in (tmp_path / "data" / "unpacked").iterdir()] == [".lock"]
    assert not list(tmp_path.rglob("evil*"))


@pytest.mark.parametrize("name", ["../evil.jpg", "/tmp/evil.jpg", "a/../../evil.jpg", "..\\evil.jpg", "link"])
def test_a_zip_that_leads_outside_is_refused_and_nothing_kept(tmp_path, prepare, name):
    archive = tmp_path / "set.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("set/good.txt", "")
        info = zipfile.ZipInfo(name)
        if name == "link":
            info.external_attr = (stat.S_IFLNK | 0o777) << 16
        file.writestr(info, "/etc")
    with pytest.raises(DataError, match="which no data set needs"):
        prepare("birds", archive)
    assert not list(tmp_path.rglob("evil*")) and not list(tmp_path.rglob("good.txt"))


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_a_truncated_archive_is_named(tmp_path, prepare, kind):
    archive = pack(make_birds(tmp_path / "set"), tmp_path / f"birds.{kind}", kind)
    archive.write_bytes(archive.read_bytes()[:-2000])
    with pytest.raises(DataError, match=r"birds\..* is no whole .zip or .tar.gz .*download it again"):
        prepare("birds", archive)
    assert not list((tmp_path / "data").rglob("*.jpg"))


def test_an_archive_of_something_else_is_named(tmp_path, prepare):
    archive = pack(make_landscapes(tmp_path / "photos"), tmp_path / "photos.zip", "zip")
    with pytest.raises(DataError, match=r"photos.zip is unpacked in .* holds no such data set"):
        prepare("streets", archive)


def test_an_archive_larger_than_the_disk_is_not_begun(tmp_path, prepare, monkeypatch):
    archive = pack(make_birds(tmp_path / "set"), tmp_path / "birds.zip", "zip")
    monkeypatch.setattr("helpers.engine.files.shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    with pytest.raises(DataError, match="GB are needed: make room"):
        prepare("birds", archive)


def test_without_network_every_source_and_the_manual_way_are_named(tmp_path, prepare, no_network):
    with pytest.raises(DataError) as caught:
        prepare("birds")
    message = str(caught.value)
    for page in (
        "huggingface.co/datasets/chriamue/bird-species-dataset",
        "datasets/gpiosenka/100-bird-species",
    ):
        assert f"{page}: " in message and message.count(page) == 2
    assert "refused" in message and "python -m helpers prepare birds --from ARCHIVE" in message
    assert "By hand" in message and str(tmp_path / "data" / "birds") in message


def test_a_host_that_never_answers_counts_as_absent_soon(tmp_path, prepare, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setitem(download.SITES, "hub", f"http://127.0.0.1:{silent.getsockname()[1]}/")
        monkeypatch.setitem(download.SOURCES, "birds", ["hub:a/b"] * 2)
        monkeypatch.setitem(download.SPACE, "birds", 0)
        monkeypatch.setattr(download, "PROBE_SECONDS", 0.5)
        monkeypatch.setattr(urllib.request, "_opener", None)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        with pytest.raises(DataError, match=r"(?s)a/b: no answer within 0.5 s.*By hand"):
            prepare("birds")


def test_a_notebook_goes_on_with_the_embedded_data(tmp_path, no_network, monkeypatch, capsys):
    monkeypatch.setattr(drawings, "STREET_FRAMES", 5)
    data = helpers.data.prepare_or_draw("streets", "", root=tmp_path / "data", size=32)
    assert data.synthetic and data.label == "embedded drawn streets"
    out = capsys.readouterr().out
    assert (
        "kaggle.com/datasets/kumaresanmanickavelu" in out
        and "Going on with the embedded, drawn streets" in out
    )
    with pytest.raises(DataError, match="nowhere is not there"):
        helpers.data.prepare_or_draw("streets", tmp_path / "nowhere", root=tmp_path / "data")


@pytest.fixture
def open_door(monkeypatch):
    """Sources can be reached, disks are large, and any number of images is right."""
    monkeypatch.setattr(download, "check_reachable", lambda _: None)
    for name in download.SPACE:
        monkeypatch.setitem(download.SPACE, name, 0)
        monkeypatch.setitem(download.IMAGES, name, {"tiny": 20})


def test_the_next_source_is_tried_when_one_fails(tmp_path, prepare, open_door, monkeypatch):
    tried = []

    def gone(handle, *_):
        tried.append(handle)
        raise FileNotFoundError("404: gone")

    def works(handle, place, accept):
        tried.append(handle)
        return accept(make_birds(tmp_path / "downloaded"))

    monkeypatch.setattr(download, "FETCH", {"hub": gone, "kaggle": works})
    assert len(prepare("birds").train) == 12
    assert tried == [source.split(":")[1] for source in download.SOURCES["birds"]]


def test_kaggle_sets_are_pinned_and_used_where_kagglehub_put_them(tmp_path, prepare, open_door, monkeypatch):
    asked = []

    def dataset_download(handle):
        asked.append(handle)
        return str(
            make_streets(tmp_path / "mounted" / "versions" / "1", folders=("dataA/dataA", "dataB/dataB"))
        )

    monkeypatch.setattr("kagglehub.dataset_download", dataset_download)
    data = prepare("streets")
    assert asked == ["kumaresanmanickavelu/lyft-udacity-challenge/versions/1"] and len(data.train) == 12
    sources = itertools.chain(*download.SOURCES.values())
    assert all("/versions/" in source for source in sources if source.startswith("kaggle"))


def test_kaggle_sets_that_land_in_data_are_found_there_later(tmp_path, prepare, open_door, monkeypatch):
    def dataset_download(_):
        return str(make_landscapes(Path(os.environ["KAGGLEHUB_CACHE"]) / "versions" / "2", 20))

    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "data" / "kaggle"))
    monkeypatch.setattr("kagglehub.dataset_download", dataset_download)
    first = prepare("landscapes")
    monkeypatch.setattr(download, "FETCH", {})
    assert prepare("landscapes").test.names == first.test.names
    assert (tmp_path / "data" / "landscapes" / "photo_00.jpg").exists()


def test_a_download_with_too_few_files_counts_as_failed(tmp_path, prepare, open_door, monkeypatch):
    monkeypatch.setitem(download.IMAGES, "birds", {"BIRDS 400": 62_388})
    monkeypatch.setattr(download, "FETCH", {"kaggle": download.fetch_kaggle})
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "data" / "kaggle"))
    monkeypatch.setattr(
        "kagglehub.dataset_download", lambda _: make_birds(tmp_path / "data" / "kaggle" / "1")
    )
    with pytest.raises(DataError, match="only 20 images, but BIRDS 400 has 62388"):
        prepare("birds")
    assert not (tmp_path / "data" / "birds").exists()


def test_an_unknown_edition_is_used_and_said_to_be_one(tmp_path, prepare, open_door, monkeypatch, capsys):
    monkeypatch.setitem(download.IMAGES, "birds", {"tiny": 19})
    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", lambda *_, **__: 1 / 0)
    monkeypatch.setattr("kagglehub.dataset_download", lambda _: make_birds(tmp_path / "mounted"))
    assert len(prepare("birds").train) == 12 and "20 images" in capsys.readouterr().out


def test_nothing_is_downloaded_onto_a_full_disk(prepare, monkeypatch):
    monkeypatch.setattr(
        "helpers.engine.files.shutil.disk_usage", lambda _: type("Usage", (), {"free": 10**9})
    )
    with pytest.raises(DataError, match=r"1.00 GB free but 5.00 GB are needed"):
        prepare("birds")


def test_a_home_made_landscape_set_below_data_is_found(tmp_path, prepare):
    (tmp_path / "data" / "landscapes" / "mine").mkdir(parents=True)
    for i in range(5):
        photo(i).save(tmp_path / "data" / "landscapes" / "mine" / f"{i}.jpg")
    assert prepare("landscapes").inventory.read == {"train": 3, "valid": 1, "test": 1}


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of the Hugging Face hub as a download needs; ``go_on`` holds it up after 11 MB of a file."""

    protocol_version = "HTTP/1.1"
    files, ranges, go_on = {}, [], threading.Event()

    def do_GET(self):
        content, start = self.files.get(self.path.rpartition("/")[2]), 0
        if "/resolve/" in self.path:
            start = int(self.headers.get("Range", "bytes=0-")[6:].split("-")[0])
            self.ranges.append((self.path.rpartition("/")[2], start))
        else:
            siblings = [{"rfilename": f"data/{name}", "size": len(data)} for name, data in self.files.items()]
            content = json.dumps({"id": "a/b", "sha": "0" * 40, "siblings": siblings}).encode()
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        for at in range(start, len(content), 2**16):
            if at > 11_000_000:
                self.go_on.wait()
            with contextlib.suppress(OSError):
                self.wfile.write(content[at : at + 2**16])

    def log_message(self, *_):
        pass


@pytest.fixture
def download_from_hub(tmp_path, monkeypatch):
    """Starts a process that prepares birds from a mirror on this machine."""
    monkeypatch.setattr(Hub, "files", {})
    monkeypatch.setattr(Hub, "ranges", [])
    Hub.go_on.set()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        code = (
            "from helpers.data import download, prepare\n"
            f"download.SITES['hub'] = {url + '/'!r}\n"
            "download.SOURCES['birds'] = ['hub:a/b']\n"
            "download.SPACE['birds'], download.IMAGES['birds'] = 0, {'tiny': 20}\n"
            f"print(prepare('birds', root={str(tmp_path / 'data')!r}, size=32).inventory.read)"
        )
        yield partial(
            subprocess.Popen,
            [sys.executable, "-c", code],
            env={**os.environ, "HF_ENDPOINT": url},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        server.shutdown()


def serve_archives(whole, nested=True):
    for split in ("train", "valid", "test"):
        archive = whole.parent / f"{split}.tar.gz"
        with tarfile.open(archive, "w:gz", compresslevel=1) as file:
            file.add(whole / split, split if nested else ".")
        Hub.files[archive.name] = archive.read_bytes()


@pytest.mark.parametrize("nested", [True, False])
def test_archives_of_the_hub_become_one_set(tmp_path, prepare, download_from_hub, monkeypatch, nested):
    serve_archives(make_birds(tmp_path / "whole"), nested)
    out, error = download_from_hub().communicate(timeout=300)
    assert "{'train': 12, 'valid': 4, 'test': 4}" in out, out + error
    assert len(Hub.ranges) == 3
    monkeypatch.setattr(download, "FETCH", {})  # the second time it is found in data/
    assert prepare("birds").inventory.read == {"train": 12, "valid": 4, "test": 4}


def test_a_download_that_was_killed_goes_on_where_it_stopped(tmp_path, download_from_hub):
    whole = make_birds(tmp_path / "whole")
    (whole / "train" / "large.bin").write_bytes(os.urandom(12_000_000))  # the library writes 10 MB at once
    serve_archives(whole)
    Hub.go_on.clear()
    victim = download_from_hub()
    while not any(path.stat().st_size > 10**6 for path in (tmp_path / "data").rglob("*.gz.part")):
        assert victim.poll() is None
        time.sleep(0.02)
    victim.kill()
    victim.communicate()
    Hub.go_on.set()
    Hub.ranges.clear()
    out, error = download_from_hub().communicate(timeout=300)
    assert "{'train': 12, 'valid': 4, 'test': 4}" in out, out + error
    assert [start > 10**6 for name, start in Hub.ranges if name == "train.tar.gz"] == [True]
