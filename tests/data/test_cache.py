"""Decoded once, found again; whatever happens in between."""

import os
import re
import signal
import subprocess
import sys
import time
import zlib
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import helpers.data
from helpers.data import DataError, cache, decode
from helpers.engine import files, parallel

from . import stalling
from .making import make_birds, make_landscapes, make_streets, photo, snapshot

posix = pytest.mark.skipif(os.name != "posix", reason="signals and resource limits as POSIX has them")


@pytest.fixture
def decoded(monkeypatch):
    """How many files were decoded so far."""
    count, real = [], decode.decode
    monkeypatch.setattr(cache, "decode", lambda *job: count.append(job) or real(*job))
    return count


def contents(data) -> list:
    parts = (data.train, data.valid, data.test)
    return [
        (part.names, part.images.tolist(), None if part.targets is None else part.targets.tolist())
        for part in parts
    ]


PROCESSES = "parallel.count_cores, parallel.PROCESSES_FROM = (lambda: 2), 0"


def script(source, root, body="", size=32, name="birds") -> list[str]:
    """A command that prepares in a process of its own, by a script without a main guard."""
    file = Path(root).parent / f"script_{zlib.crc32(body.encode())}.py"
    file.write_text(
        "import helpers.data\n"
        "from helpers.data import cache\n"
        "from helpers import drawings\n"
        "from helpers.engine import files, parallel\n"
        "from tests.data import stalling\n"
        f"{body}\n"
        f"data = helpers.data.prepare({name!r}, {str(source)!r}, root={str(root)!r}, size={size})\n"
        "print('read', len(data.train), data.train.images[::7].sum())\n"
    )
    return [sys.executable, "-u", str(file)]


run = partial(subprocess.run, capture_output=True, text=True, timeout=300)


@pytest.fixture
def start(tmp_path):
    """Starts a command; ends what is left of it and of its workers. ``start.stalled`` and ``start.go_on``
    are the files of ``stalling.stall``."""
    started, stalled, go_on = [], tmp_path / "stalled", tmp_path / "go_on"
    environment = {**os.environ, "STALLED": str(stalled), "GO_ON": str(go_on)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}

    def begin(command):
        started.append(subprocess.Popen(command, env=environment, **pipes, start_new_session=True))
        return started[-1]

    def wait():
        while not stalled.exists():
            assert all(process.poll() is None for process in started), started[-1].communicate()
            time.sleep(0.01)

    begin.wait, begin.go_on = wait, go_on.touch
    yield begin
    go_on.touch()
    for process in started:
        process.kill()
        process.communicate()


def cache_folders(root) -> list[Path]:
    return [path for path in (root / "cache").iterdir() if path.is_dir()]


@pytest.mark.parametrize(
    ("name", "make"), [("birds", make_birds), ("streets", make_streets), ("landscapes", make_landscapes)]
)
def test_the_second_time_nothing_is_decoded(tmp_path, prepare, decoded, name, make):
    source = make(tmp_path / "set")
    before = snapshot(source)
    first = prepare(name, source)
    count = len(decoded)
    second = prepare(name, source)
    assert count > 0 and len(decoded) == count and contents(first) == contents(second)
    assert str(first.inventory) == str(second.inventory) and snapshot(source) == before


def test_each_size_has_a_cache_of_its_own(tmp_path, prepare, decoded):
    source = make_birds(tmp_path / "set")
    assert prepare("birds", source, size=(24, 40)).train.images.shape[1:] == (24, 40, 3)
    assert prepare("birds", source, size=48).train.images.shape[1:] == (48, 48, 3)
    count = len(decoded)
    prepare("birds", source, size=(24, 40))
    assert len(decoded) == count


def test_a_part_of_a_set_leaves_the_cache_of_the_whole_alone(tmp_path, prepare, decoded):
    source = make_birds(tmp_path / "set", ("A", "B", "C"))
    prepare("birds", source)
    assert prepare("birds", source, classes=2).classes == ["A", "B"]
    count = len(decoded)
    assert len(prepare("birds", source).train) == 18 and len(decoded) == count


CHANGES = {
    "a file replaced": lambda folder: photo(77).save(folder / "1.jpg"),
    "a file added": lambda folder: photo(77).save(folder / "99.jpg"),
    "a file removed": lambda folder: (folder / "1.jpg").unlink(),
    "a file renamed": lambda folder: (folder / "1.jpg").rename(folder / "99.jpg"),
    "a file of the same size with a new date": lambda folder: os.utime(folder / "1.jpg", (1, 1)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_source_is_decoded_anew_and_its_old_cache_removed(tmp_path, prepare, decoded, change):
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
    "half of the images": lambda folder: os.truncate(folder / "images.u8", 5000),
    "the number of images": lambda folder: os.truncate(folder / "images.u8", 3 * 32 * 32 * 3),
    "all of the images": lambda folder: (folder / "images.u8").unlink(),
    "the whole table": lambda folder: (folder / "content.json").write_bytes(b""),
    "half of the table": lambda folder: (folder / "content.json").write_text('{"table": ['),
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


def test_leave_to_go_on_without_bad_files_holds_until_a_file_changes(tmp_path, prepare, decoded):
    source = make_birds(tmp_path / "set")
    (source / "train" / "OVENBIRD" / "1.jpg").write_bytes(b"<html>")
    assert len(prepare("birds", source, skip_bad=True).train) == 11
    count = len(decoded)
    again = prepare("birds", source)
    assert len(decoded) == count and again.inventory.bad[0].file == "train/OVENBIRD/1.jpg"
    assert "train/OVENBIRD/1.jpg" not in again.train.names and again.train.images.shape == (11, 32, 32, 3)
    (source / "train" / "OVENBIRD" / "2.jpg").write_bytes(b"<html>")
    with pytest.raises(DataError, match=r"2 of 20 files are bad.*is a web page"):
        prepare("birds", source)


def test_checksums_are_sampled_over_the_whole_of_a_large_cache(tmp_path, prepare, decoded, monkeypatch):
    source = make_landscapes(tmp_path / "set", 30)
    prepare("landscapes", source)
    monkeypatch.setattr(cache, "CHECKED", 3 * 32 * 32 * 10)
    images = np.memmap(cache_folders(tmp_path / "data")[0] / "images.u8", np.uint8, "r+")
    images.reshape(30, -1)[27] ^= 1  # every third row is compared
    images.flush()
    prepare("landscapes", source)
    assert len(decoded) == 60


def test_threads_and_one_core_give_the_same_arrays(tmp_path, monkeypatch):
    source = make_birds(tmp_path / "set", train=60)
    outcomes = []
    for cores in (1, 3):
        monkeypatch.setattr(cache, "cpu_count", lambda cores=cores: cores)
        outcomes.append(contents(helpers.data.prepare("birds", source, root=tmp_path / str(cores), size=32)))
    assert outcomes[0] == outcomes[1]


FEW = (  # drawings by two processes, though few
    "drawings.SPECIES, drawings.BIRD_COUNTS = drawings.SPECIES[:4], {'train': 4, 'valid': 1, 'test': 1}\n"
    "parallel.cpu_count = lambda: 2\n"
)


def test_drawing_processes_need_no_main_guard(tmp_path):
    done = run(script("synthetic", tmp_path / "data", FEW + "print('begun')"))
    assert done.stdout.startswith("begun\nread 16 ")  # once: no worker ran the script
    assert re.sub(r"(drawing|decoding) birds:[^\r\n]*", "", done.stderr).strip() == ""


@pytest.mark.parametrize(
    ("work", "divide"),
    [
        (partial(parallel.ahead, stalling.add_one, threads=3), partial(parallel.ahead, stalling.divide)),
        (partial(parallel.mapped, stalling.add_ones), partial(parallel.mapped, stalling.divide_all)),
    ],
    ids=["threads", "processes"],
)
def test_results_come_in_order_and_an_error_comes_through(work, divide):
    assert list(work(jobs=list(range(100)))) == list(range(1, 101))
    with pytest.raises(ZeroDivisionError):
        list(divide(jobs=list(range(100))))


def test_threads_take_over_from_processes_that_are_killed(monkeypatch):
    monkeypatch.setattr(parallel, "cpu_count", lambda: 2)
    done = list(parallel.mapped(stalling.add_ones_in_threads, list(range(10))))
    assert done == list(range(1, 11))


def test_threads_work_a_few_jobs_ahead_and_no_more():
    begun = []
    results = parallel.ahead(begun.append, range(100), threads=3)
    next(results), next(results)
    time.sleep(0.05)
    assert len(begun) <= 2 + 6
    results.close()


def test_two_processes_at_once_give_one_result(tmp_path, start):
    source, root = make_birds(tmp_path / "set", train=20), tmp_path / "data"
    first = start(script(source, root, "cache.decode = stalling.stall_at_first"))
    start.wait()
    second = start(script(source, root))
    assert "Waiting for another process" in second.stdout.readline()
    start.go_on()
    (one, _), (other, progress) = first.communicate(), second.communicate()
    assert one == other and one.startswith("read 40") and "decoding" not in progress
    assert len(cache_folders(root)) == 1


POINTS = {
    "before the first file": "cache.decode = stalling.stall_at_first",
    "half way": "cache.decode = stalling.stall_half_way",
    "when all is decoded": "cache.take_stock = stalling.stall",
    "before the last file is written": "cache.json.dumps = stalling.stall",
    "before the folder is moved": "files.os.replace = stalling.stall",
}


@posix
@pytest.mark.parametrize("point", POINTS)
def test_after_a_kill_the_next_run_starts_clean(tmp_path, start, point):
    source, root = make_birds(tmp_path / "set", train=60), tmp_path / "data"
    victim = start(script(source, root, POINTS[point]))
    start.wait()
    victim.send_signal(signal.SIGKILL)
    victim.communicate()
    assert [path.suffix for path in cache_folders(root)] == [".part"]
    data = helpers.data.prepare("birds", source, root=root, size=32)
    assert len(data.train) == 120 and len(cache_folders(root)) == 1
    assert not list(root.rglob("*.part"))


@posix
def test_after_a_kill_drawing_processes_end_too_and_the_next_run_starts_clean(tmp_path, start):
    root = tmp_path / "data"
    victim = start(script("synthetic", root, f"{FEW}drawings.draw_many = stalling.stall"))
    start.wait()
    victim.send_signal(signal.SIGKILL)
    start.go_on()
    victim.communicate(timeout=600)  # its pipes close only when its workers have ended too
    assert (root / "synthetic" / "birds.part").exists()
    assert run(script("synthetic", root, FEW)).stdout.startswith("read 16 ")
    assert not list(root.rglob("*.part"))


@posix
@pytest.mark.parametrize("stage", ["decoding", "drawing"])
def test_an_interrupt_leaves_nothing_half_done(tmp_path, start, stage):
    root = tmp_path / "data"
    if stage == "decoding":
        source = make_birds(tmp_path / "set", train=60)
        victim = start(script(source, root, "cache.decode = stalling.stall_half_way"))
    else:
        victim = start(script("synthetic", root, f"{FEW}drawings.draw_many = stalling.stall"))
    start.wait()
    os.killpg(victim.pid, signal.SIGINT)  # as a terminal does: to the workers too
    start.go_on()
    _, error = victim.communicate(timeout=600)
    assert error.count("KeyboardInterrupt") == 1
    assert not [path for path in root.glob("*/*") if path.is_dir()]


@posix
def test_a_disk_that_fills_while_caching(tmp_path):
    source, root = make_birds(tmp_path / "set", train=60), tmp_path / "data"
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))"
    done = run(script(source, root, limit))
    assert "DataError" in done.stderr and "the disk is full; make room" in done.stderr
    assert cache_folders(root) == []
    assert run(script(source, root)).stdout.startswith("read 120")


@pytest.fixture
def small_disk(tmp_path):
    """A file system of one megabyte."""
    place = tmp_path / "disk"
    place.mkdir()
    try:
        mounted = run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(place)]).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("mounting a small disk needs the superuser")
    yield place
    run(["umount", str(place)])


def test_a_truly_full_disk_is_an_error_and_no_crash(tmp_path, small_disk, prepare, monkeypatch):
    source = make_birds(tmp_path / "set", train=200)
    with pytest.raises(DataError, match=r"0.00 GB free but 0.00 GB are needed|make room there"):
        prepare("birds", source, root=small_disk)
    monkeypatch.setattr(cache, "check_space", lambda *_: None)
    with pytest.raises(DataError, match="the disk is full; make room"):
        prepare("birds", source, root=small_disk)
    assert cache_folders(small_disk) == []


def test_free_space_is_checked_before_decoding(tmp_path, prepare, decoded, monkeypatch):
    monkeypatch.setattr("helpers.engine.files.shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    with pytest.raises(DataError, match="GB are needed: make room there"):
        prepare("birds", make_birds(tmp_path / "set"))
    assert decoded == []


def test_a_root_that_cannot_be_written(tmp_path):
    (tmp_path / "data").write_text("a file, not a folder")
    with pytest.raises(DataError, match=r"cannot be written .*choose another root"):
        helpers.data.prepare("birds", make_birds(tmp_path / "set"), root=tmp_path / "data", size=32)


def test_a_read_only_source_is_used_in_place(tmp_path, prepare):
    source = make_birds(tmp_path / "set")
    for path in [source, *source.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = snapshot(source)
    try:
        assert len(prepare("birds", source).train) == 12 and snapshot(source) == before
    finally:
        for path in [source, *source.rglob("*")]:
            path.chmod(0o755)


def test_a_single_file_takes_its_place_wholly_or_not_at_all(tmp_path):
    file = tmp_path / "new" / "state.bin"
    with files.written_beside(file) as part:
        assert part.name == f"state.bin.{os.getpid()}.part"
        part.write_bytes(b"old")
    for error in (OSError("disk full"), RuntimeError("cannot be written")):
        with (
            pytest.raises(OSError, match=r"state.bin: cannot be written \(.*what was saved before is intact"),
            files.written_beside(file) as part,
        ):
            part.write_bytes(b"half")
            raise error
    with pytest.raises(KeyboardInterrupt), files.written_beside(str(file)) as part:
        part.write_bytes(b"half")
        raise KeyboardInterrupt
    assert file.read_bytes() == b"old" and list(file.parent.iterdir()) == [file]


def test_a_worker_needs_no_torch():
    code = "import sys, helpers.drawings; print('torch' in sys.modules)"
    assert run([sys.executable, "-c", code]).stdout == "False\n"
