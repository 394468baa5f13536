"""Decoded once, found again; whatever happens in between."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import helpers.data
from helpers.data import DataError, cache, parallel

from .making_data import make_birds, make_landscapes, make_streets, photo, snapshot

PROJECT = Path(__file__).resolve().parents[1]
posix = pytest.mark.skipif(os.name != "posix", reason="signals and resource limits as POSIX has them")


@pytest.fixture
def prepare(tmp_path):
    return partial(helpers.data.prepare, root=tmp_path / "data", size=32)


@pytest.fixture
def decoded(monkeypatch):
    """How many files were decoded so far."""
    count = []
    decode_into = cache.decode_into
    monkeypatch.setattr(cache, "decode_into", lambda *job: count.extend(job[-1]) or decode_into(*job))
    return count


def contents(data) -> list:
    parts = (data.train, data.valid, data.test)
    return [
        (part.names, part.images.tolist(), None if part.targets is None else part.targets.tolist())
        for part in parts
    ]


def script(source, root, body="", size=32, name="birds", after=()) -> list[str]:
    """A command that prepares in a process of its own; its workers run ``body`` too."""
    lines = [
        "import helpers.data",
        "from helpers.data import cache, decode, parallel",
        textwrap.dedent(body),
        "if __name__ == '__main__':",
        f"    data = helpers.data.prepare({name!r}, {str(source)!r}, root={str(root)!r}, size={size})",
        "    print('read', len(data.train), data.train.images[::7].sum())",
        *(f"    {line}" for line in after),
    ]
    file = Path(root).parent / f"script_{time.monotonic_ns()}.py"
    file.write_text("\n".join(lines))
    return [sys.executable, str(file)]


ENVIRONMENT = {**os.environ, "PYTHONPATH": str(PROJECT)}
run = partial(subprocess.run, env=ENVIRONMENT, capture_output=True, text=True, timeout=60)
start = partial(
    subprocess.Popen,
    env=ENVIRONMENT,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    start_new_session=True,
)
SLOW = """
import time
phash = decode.phash
decode.phash = lambda image: time.sleep(0.03) or phash(image)
"""


def wait_for(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


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
    assert str(first.report) == str(second.report) and snapshot(source) == before


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
    assert len(prepare("birds", source, limit=2).train) == 2
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
    "all of the images": lambda folder: (folder / "images.u8").unlink(),
    "the checksums": lambda folder: (folder / "sums.npy").write_bytes(b""),
    "the names": lambda folder: (folder / "content.json").write_text('{"names": ['),
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


def test_checksums_are_sampled_over_the_whole_of_a_large_cache(tmp_path, prepare, decoded, monkeypatch):
    source = make_landscapes(tmp_path / "set", 30)
    prepare("landscapes", source)
    monkeypatch.setattr(cache, "CHECKED", 3 * 32 * 32 * 10)
    file = cache_folders(tmp_path / "data")[0] / "images.u8"
    content = bytearray(file.read_bytes())
    content[27 * 3 * 32 * 32] ^= 1  # every third row is compared
    file.write_bytes(content)
    prepare("landscapes", source)
    assert len(decoded) == 60


def test_processes_and_threads_and_one_core_give_the_same_arrays(tmp_path, monkeypatch):
    source = make_birds(tmp_path / "set", train=60)
    outcomes = []
    for i, (cores, from_jobs) in enumerate([(1, 10**9), (3, 10**9), (2, 0)]):
        monkeypatch.setattr(parallel, "count_cores", lambda cores=cores: cores)
        monkeypatch.setattr(parallel, "PROCESSES_FROM", from_jobs)
        outcomes.append(contents(helpers.data.prepare("birds", source, root=tmp_path / str(i), size=32)))
    assert outcomes[0] == outcomes[1] == outcomes[2]


def test_a_script_without_a_main_guard_ends_well(tmp_path):
    source, file = make_birds(tmp_path / "set"), tmp_path / "unguarded.py"
    file.write_text(
        "import helpers.data\nfrom helpers.data import parallel\nparallel.PROCESSES_FROM = 0\n"
        f"data = helpers.data.prepare('birds', {str(source)!r}, root={str(tmp_path / 'data')!r}, size=32)\n"
        "print('read', len(data.train))\n"
    )
    done = run([sys.executable, str(file)])
    assert done.stdout.endswith("read 12\n") and "__name__ == '__main__'" in done.stderr


def test_two_processes_at_once_give_one_result(tmp_path):
    source, root = make_birds(tmp_path / "set", train=20), tmp_path / "data"
    first = start(script(source, root, SLOW))
    wait_for(lambda: list(root.glob("cache/*.part/images.u8")))
    second = start(script(source, root, SLOW))
    (out_1, _), (out_2, progress) = first.communicate(timeout=60), second.communicate(timeout=60)
    assert "Waiting for another process" in out_2 and "decoding" not in progress
    assert out_1.splitlines()[-1] == out_2.splitlines()[-1] and out_1.startswith("read 40")
    assert len(cache_folders(root)) == 1


@posix
@pytest.mark.parametrize("processes", [False, True])
@pytest.mark.parametrize("delay", [0, 0.1, 0.3])
def test_after_a_kill_the_next_run_starts_clean(tmp_path, processes, delay):
    source, root = make_birds(tmp_path / "set", train=60), tmp_path / "data"
    body = SLOW + f"parallel.PROCESSES_FROM = {0 if processes else 10**9}"
    victim = start(script(source, root, body))
    wait_for(lambda: list(root.glob("cache/*.part/images.u8")))
    time.sleep(delay + processes)
    victim.send_signal(signal.SIGKILL)
    victim.communicate(timeout=20)  # its pipes close only when its workers have ended too
    assert [path.suffix for path in cache_folders(root)] == [".part"]
    data = helpers.data.prepare("birds", source, root=root, size=32)
    assert len(data.train) == 120 and len(cache_folders(root)) == 1
    assert not list(root.rglob("*.part"))


@posix
def test_an_interrupt_leaves_nothing_half_done(tmp_path):
    source, root = make_birds(tmp_path / "set", train=60), tmp_path / "data"
    victim = start(script(source, root, SLOW))
    wait_for(lambda: list(root.glob("cache/*.part/images.u8")))
    victim.send_signal(signal.SIGINT)
    _, error = victim.communicate(timeout=20)
    assert "KeyboardInterrupt" in error and cache_folders(root) == []


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
    monkeypatch.setattr("helpers.data.places.shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000}))
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


@posix
def test_memory_does_not_grow_with_the_number_of_images(tmp_path):
    epoch = "for i in range(len(data.train)): data.train[i]"
    peak = "import resource; print('peak', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)"
    peaks = []
    for count in (200, 3000):
        source = make_landscapes(tmp_path / f"set{count}", 40)
        for i in range(40, count):
            os.link(source / f"photo_{i % 40:02}.jpg", source / f"copy_{i}.jpg")
        command = script(source, tmp_path / f"data{count}", size=128, name="landscapes", after=[epoch, peak])
        out = run(command).stdout
        peaks.append(int(out.split()[-1]))
    assert np.ptp(peaks) < 80, peaks  # the larger has 131 MiB more of pixels


def test_a_worker_needs_no_torch():
    code = "import sys, helpers.data.decode, helpers.data.synthetic; print('torch' in sys.modules)"
    assert run([sys.executable, "-c", code]).stdout == "False\n"
