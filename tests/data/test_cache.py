"""Decoded once, found again, whatever happens in between."""

import errno
import io
import os
import subprocess
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest

import helpers.data
from helpers.data import ArrayDataset, DataError, cache, decode, synthetic
from helpers.engine import files

from .making import MAKE, make_birds, make_landscapes, make_streets, photo, sets, snapshot


@pytest.fixture
def decoded(monkeypatch):
    """The jobs of decoding so far."""
    jobs = []

    def counting(*job):
        jobs.append(job)
        return decode.decode(*job)

    monkeypatch.setattr(cache, "decode", counting)
    return jobs


def contents(data):
    return [
        (one.names, one.unit, [np.array(a).tolist() for a in (one.images, one.targets, one.groups)])
        for one in sets(data).values()
    ]


def cache_folders(root):
    return [path for path in (root / "cache").iterdir() if path.is_dir()]


@pytest.mark.parametrize("name", MAKE)
def test_the_second_time_nothing_is_decoded(tmp_path, prepare, decoded, name):
    source = MAKE[name](tmp_path / "set")
    before = snapshot(source)
    first = prepare(name, source)
    count = len(decoded)
    second = prepare(name, source)
    assert count > 0 and len(decoded) == count and contents(first) == contents(second)
    assert str(first.inventory) == str(second.inventory) and snapshot(source) == before
    if name == "streets":  # which would fill the memory
        assert {type(second.train.images), type(second.train.targets)} == {np.memmap}
    for one in sets(second).values():
        assert one.digest() == ArrayDataset(one.images, one.targets, one.names).digest()


def test_each_size_and_each_number_of_classes_has_a_cache_of_its_own(tmp_path, prepare, decoded):
    source = make_birds(tmp_path / "set", ("A", "B", "C"))
    assert prepare("birds", source, size=(24, 40)).train.images.shape == (18, 24, 40, 3)
    assert prepare("birds", source, size=48).train.images.shape == (18, 48, 48, 3)
    part = prepare("birds", source, size=48, classes=2)
    assert part.classes == ["A", "B"] and part.train.images.shape == (12, 48, 48, 3)
    count = len(decoded)
    prepare("birds", source, size=(24, 40))
    prepare("birds", source, size=48)
    assert set(part.test.targets) == {0, 1} and len(decoded) == count


CHANGES = {
    "a file replaced": lambda folder: photo(77).save(folder / "1.jpg"),
    "a file added": lambda folder: photo(77).save(folder / "99.jpg"),
    "a file removed": lambda folder: (folder / "1.jpg").unlink(),
    "a file renamed": lambda folder: (folder / "1.jpg").rename(folder / "99.jpg"),
    "the same size and a new date": lambda folder: os.utime(folder / "1.jpg", (1, 1)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_source_replaces_its_old_cache(tmp_path, prepare, decoded, change):
    source = make_birds(tmp_path / "set")
    prepare("birds", source)
    count = len(decoded)
    CHANGES[change](source / "train" / "OVENBIRD")
    data = prepare("birds", source)
    assert len(decoded) > count and len(cache_folders(tmp_path / "data")) == 1
    fresh = helpers.data.prepare("birds", source, root=tmp_path / "fresh", size=32)
    assert contents(data) == contents(fresh)


def flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "a byte of an image": lambda folder: flip_a_byte(folder / "images.u8"),
    "a byte of a mask": lambda folder: flip_a_byte(folder / "masks.u8"),
    "the number of images": lambda folder: os.truncate(folder / "images.u8", 3 * 32 * 32 * 3),
    "the whole table": lambda folder: (folder / "content.json").write_bytes(b""),
    "everything": lambda folder: [path.unlink() for path in folder.iterdir()],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_cache_is_noticed_and_built_again(tmp_path, prepare, decoded, capsys, damage):
    source = make_streets(tmp_path / "set")
    whole = contents(prepare("streets", source))
    count = len(decoded)
    DAMAGES[damage](cache_folders(tmp_path / "data")[0])
    assert contents(prepare("streets", source)) == whole
    assert len(decoded) == 2 * count and "is damaged" in capsys.readouterr().out


def test_checksums_are_compared_all_over_a_large_cache(tmp_path, prepare, decoded, monkeypatch):
    source = make_landscapes(tmp_path / "set", 30)
    prepare("landscapes", source)
    monkeypatch.setattr(cache, "CHECKED", 3 * 32 * 32 * 10)
    images = np.memmap(cache_folders(tmp_path / "data")[0] / "images.u8", np.uint8, "r+")
    images.reshape(30, -1)[27] ^= 1  # every third row is compared
    images.flush()
    prepare("landscapes", source)
    assert len(decoded) == 60


def test_leave_to_go_on_without_bad_files_holds_until_a_file_changes(tmp_path, prepare, decoded):
    source = make_birds(tmp_path / "set")
    bad = "train/OVENBIRD/1.jpg"
    (source / bad).write_bytes(b"<html>")
    assert len(prepare("birds", source, skip_bad=True).train) == 11
    again = prepare("birds", source)
    assert len(decoded) == 20 and again.inventory.bad[0].file == bad
    assert bad not in again.train.names and again.train.images.shape == (11, 32, 32, 3)
    (source / "train" / "OVENBIRD" / "2.jpg").write_bytes(b"<html>")
    with pytest.raises(DataError, match=r"2 of 20 files are bad.*is a web page"):
        prepare("birds", source)


def test_a_second_process_waits_for_the_first(tmp_path, prepare, decoded, monkeypatch):
    source = make_birds(tmp_path / "set")
    prepare("birds", source)
    (lock,) = (tmp_path / "data" / "cache").glob("*.lock")
    (source / "train/OVENBIRD/1.jpg").touch()  # it is to be decoded again
    told = io.StringIO()
    monkeypatch.setattr(sys, "stdout", told)
    second = threading.Thread(target=prepare, args=("birds", source))
    with files.locked(lock.with_suffix("")):
        second.start()
        while second.is_alive() and not told.getvalue():
            second.join(0.1)
        assert second.is_alive() and "Waiting for another process" in told.getvalue()
    second.join(60)
    assert not second.is_alive() and len(decoded) == 40


@pytest.mark.parametrize("name", ["birds", "synthetic"])
def test_what_is_prepared_is_read_without_a_lock_or_a_place_to_write(
    tmp_path, prepare, monkeypatch, name
):
    source = make_birds(tmp_path / "set")
    monkeypatch.setattr(synthetic, "drawing_code", lambda: SimpleNamespace(
        plan=lambda *_: [], stamp=lambda *_: "1", draw_files=None
    ))  # fmt: skip
    find = {
        "birds": lambda: contents(prepare("birds", source)),
        "synthetic": lambda: synthetic.draw_once("birds", tmp_path / "data"),
    }[name]
    before = find()

    def denied(*_, **__):
        raise PermissionError(13, "Permission denied")

    for place, function in ((os, "open"), (os, "replace"), (files.Path, "mkdir")):
        monkeypatch.setattr(place, function, denied)
    assert find() == before
    photo(77).save(source / "train" / "OVENBIRD" / "99.jpg")
    with pytest.raises(DataError, match=r"cannot be written \(Permission denied\): .*--root DIR"):
        prepare("birds", source)


@pytest.mark.skipif(os.name == "nt", reason="Windows has other locks")
@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP])
def test_a_drive_without_locks_works_and_one_line_says_so(
    tmp_path, prepare, monkeypatch, capsys, number
):
    def without(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", without)
    monkeypatch.setattr(files, "lockless", [])
    source = make_birds(tmp_path / "set")
    prepare("birds", source)
    prepare("birds", source, size=24)
    assert capsys.readouterr().out.count("this drive has no locks") == 1
    unlike = SimpleNamespace(lock_file="x", acquire=lambda **_: without())
    monkeypatch.setattr(files, "NO_LOCKS", [errno.ENOSYS])
    with pytest.raises(OSError):
        files.acquire(unlike, "waits")


def run(source, root, before):
    """Prepare in a process of its own, by a script without a main guard."""
    code = (
        f"import os\nfrom helpers.data import cache, prepare\n{before}\n"
        f"data = prepare('birds', {str(source)!r}, root={str(root)!r}, size=32)\n"
        "print('read', len(data.train))"
    )
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def test_after_a_kill_and_on_a_full_disk_nothing_half_done_stays(tmp_path):
    source = make_birds(tmp_path / "set", train=60)
    root = tmp_path / "data"
    assert run(source, root, "cache.take_stock = lambda *_: os._exit(9)").returncode == 9
    assert [path.suffix for path in cache_folders(root)] == [".part"]
    if os.name == "posix":  # limits as POSIX has them
        limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, -1))"
        told = run(source, root, limit).stderr
        assert "DataError" in told and "the disk is full; make room" in told
        assert cache_folders(root) == []
    assert run(source, root, "").stdout == "read 120\n" and len(cache_folders(root)) == 1
    assert not list(root.rglob("*.part"))


def test_a_root_that_cannot_be_written(tmp_path, prepare):
    (tmp_path / "data").write_text("a file, not a folder")
    with pytest.raises(DataError, match=r"cannot be written .*--root DIR"):
        prepare("birds", make_birds(tmp_path / "set"))


def test_a_single_file_takes_its_place_wholly_or_not_at_all(tmp_path):
    file = tmp_path / "new" / "state.bin"
    with files.written_beside(file) as part:
        part.write_bytes(b"old")
    for error in (OSError("disk full"), RuntimeError("cannot be written")):
        wanted = r"state.bin: cannot be written \(.*what was saved before is intact"
        with pytest.raises(OSError, match=wanted), files.written_beside(file) as part:
            part.write_bytes(b"half")
            raise error
    with pytest.raises(KeyboardInterrupt), files.written_beside(str(file)) as part:
        part.write_bytes(b"half")
        raise KeyboardInterrupt
    assert file.read_bytes() == b"old" and list(file.parent.iterdir()) == [file]
