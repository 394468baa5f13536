"""Decode a listing once into uint8 arrays on disk, and find them again."""

import contextlib
import errno
import json
import multiprocessing
import os
import shutil
import threading
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout
from tqdm.auto import tqdm

from .decode import decode_all
from .listing import SPLITS, DataError, LeftOut, Listing
from .report import Report
from .streets import count_pixels

VERSION = 1  # raise it when the same files would give other arrays
CHUNK = 32
PROCESSES_FROM = 2000  # jobs
CHECKED = 2**28  # bytes whose checksums are compared when a cache is opened; spread evenly in a larger one


def open_or_build(listing: Listing, size: tuple[int, int], folder: Path, skip_bad: bool = False) -> tuple[dict, Report]:
    """Arrays of a listing at ``size`` (height, width), from the cache below ``folder`` or decoded now.

    Returns ``{split: (images, targets or None, names)}`` and the report.
    """
    source = f"{zlib.crc32(str(listing.root.resolve()).encode()):08x}"
    stem = f"{listing.name}-{size[0]}x{size[1]}-{source}"
    place = folder / f"{stem}-{listing.key}-v{VERSION}"
    with locked(place):
        opened = open_cache(place) if place.exists() else None
        if opened is None:
            build(listing, size, place, skip_bad)
            opened = open_cache(place)
            for stale in folder.glob(f"{stem}-*"):
                if stale != place and stale.is_dir():
                    shutil.rmtree(stale, ignore_errors=True)  # of an earlier state of this source
    opened[1].check(listing.root, skip_bad)
    return opened


@contextlib.contextmanager
def locked(place: Path) -> Iterator[None]:
    """One process at a time works on ``place``; the lock ends with its process, however that ends."""
    if getattr(multiprocessing.current_process(), "_inheriting", False):  # a script without a main guard, run again
        raise RuntimeError("prepare() is called in a worker: put your script below `if __name__ == '__main__':`.")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(place.with_name(place.name + ".lock"))
        try:
            lock.acquire(timeout=0.2)
        except Timeout:
            print(f"Waiting for another process that prepares {place.name} …")
            lock.acquire()
    except OSError as error:
        raise DataError(f"{place.parent} cannot be written ({error.strerror}): choose another folder.") from error
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def made_beside(place: Path) -> Iterator[Path]:
    """A new folder beside ``place`` that is moved there in one step, or removed when anything fails."""
    part = place.with_name(place.name + ".part")
    shutil.rmtree(part, ignore_errors=True)  # of a process that was killed
    try:
        part.mkdir(parents=True)
        yield part
        os.replace(part, place)
    except BaseException as error:
        shutil.rmtree(part, ignore_errors=True)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DataError(f"{place.parent}: the disk is full; make room or choose another folder.") from error
        raise


def check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DataError(f"{folder} has {free / 1e9:.2f} GB free, {needed / 1e9:.2f} GB are needed: make room there.")


def build(listing: Listing, size: tuple[int, int], place: Path, skip_bad: bool) -> None:
    with_masks = listing.name == "streets"
    check_space(place.parent, len(listing.items) * size[0] * size[1] * (4 if with_masks else 3))
    report = Report(listing.name, left_out=list(listing.left_out))
    kept, hashes, sums, counts = [], [], [], np.zeros(14, np.int64)
    jobs = [
        (
            str(listing.root / item.image),
            str(listing.root / item.target) if with_masks else None,
            size,
            listing.crop,
            listing.needs_colour,
        )
        for item in listing.items
    ]
    with made_beside(place) as part:
        with ArrayFile(part / "images.npy", (*size, 3)) as images, ArrayFile(part / "masks.npy", size) as masks:
            bar = tqdm(total=len(jobs), desc=f"{listing.name}: decoding at {size[0]}×{size[1]}", unit="image", leave=False)
            for item, (pixels, mask, phash, notes, fault) in zip(listing.items, mapped(decode_all, jobs), strict=True):
                bar.update()
                report.converted.update(notes)
                if fault:
                    which, reason, bad = fault
                    report.left_out.append(LeftOut(item.target if which else item.image, reason, bad))
                    if report.hopeless(len(jobs)) and not skip_bad:
                        report.check(listing.root, skip_bad)
                    continue
                images.append(pixels)
                sums.append(zlib.crc32(pixels))
                if with_masks:
                    masks.append(mask)
                    sums[-1] = zlib.crc32(mask, sums[-1])
                    counts += count_pixels(mask)
                kept.append(item)
                hashes.append(phash)
            bar.close()
        report.check(listing.root, skip_bad, read=len(kept))
        hashes = np.array(hashes, dtype=np.uint64)
        splits = listing.split(hashes) if listing.split else np.array([item.split for item in kept])
        order = np.argsort([SPLITS.index(split) for split in splits], kind="stable")
        if (order[1:] < order[:-1]).any():
            reorder(part / "images.npy", order)
        kept, splits, hashes = [kept[i] for i in order], splits[order], hashes[order]
        np.save(part / "sums.npy", np.array(sums, dtype=np.uint32)[order])
        if listing.name == "birds":
            np.save(part / "classes.npy", np.array([item.target for item in kept], dtype=np.int64))
        if not with_masks:
            (part / "masks.npy").unlink()
        report.read = {split: int((splits == split).sum()) for split in SPLITS}
        report.pixels = counts.tolist() if with_masks else None
        report.count_near(hashes, splits, [item.image for item in kept])
        content = {"names": [item.image for item in kept], "report": vars(report)}
        (part / "content.json").write_text(json.dumps(content), encoding="utf-8")
    for split, count in report.read.items():
        if not count:
            shutil.rmtree(place)
            raise DataError(f"{listing.root}: no usable image is left in {split}: add images or repair the bad ones.")


class ArrayFile:
    """An .npy file that grows row by row; plain writes, so that a full disk is an error and not a crash."""

    def __init__(self, path: Path, shape: tuple[int, ...]):
        self.file, self.shape, self.rows = open(path, "wb"), shape, 0
        self.header()

    def header(self) -> None:
        content = {"descr": "|u1", "fortran_order": False, "shape": (self.rows, *self.shape)}
        np.lib.format.write_array_header_1_0(self.file, content)  # numpy pads it, so that rows may grow

    def append(self, row: np.ndarray) -> None:
        self.file.write(np.ascontiguousarray(row))
        self.rows += 1

    def __enter__(self) -> "ArrayFile":
        return self

    def __exit__(self, *error) -> None:
        try:
            if error[0] is None:
                self.file.seek(0)
                self.header()
        finally:
            self.file.close()


def reorder(path: Path, order: np.ndarray) -> None:
    rows = np.load(path, mmap_mode="r")
    with ArrayFile(path.with_suffix(".sorted"), rows.shape[1:]) as file:
        for i in order:
            file.append(rows[i])
    rows._mmap.close()  # Windows replaces no open file
    os.replace(path.with_suffix(".sorted"), path)


def mapped(work: Callable[[list], list], jobs: list, heavy: bool = False) -> Iterator:
    """Results of ``work`` on chunks of jobs, on all cores, in order.

    heavy: jobs that hold Python's lock, and so need processes however few they are.
    """
    step = 4 if heavy else CHUNK
    chunks = [jobs[i : i + step] for i in range(0, len(jobs), step)]
    done = 0
    for pool in pools(heavy or len(jobs) >= PROCESSES_FROM):
        try:
            for results in pool.map(work, chunks[done:]):
                done += 1
                yield from results
            return
        except BrokenProcessPool:
            continue  # the system forbids or killed the processes: go on with threads
        finally:
            pool.shutdown(cancel_futures=True)


def pools(processes: bool) -> Iterator[Executor]:
    """Processes when wanted and possible, then threads should those break."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if processes and cores > 1 and multiprocessing.parent_process() is None:
        spawn = multiprocessing.get_context("spawn")  # the same on Windows, macOS and Linux; inherits no locks
        yield ProcessPoolExecutor(cores, mp_context=spawn, initializer=die_with_parent)
    yield ThreadPoolExecutor(cores)


def die_with_parent() -> None:
    """End this worker when its parent is killed, which nobody would tell it."""
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


def open_cache(place: Path) -> tuple[dict, Report] | None:
    """Map a cache into memory after comparing checksums; None where it was damaged, and then it is removed."""
    try:
        content = json.loads((place / "content.json").read_text(encoding="utf-8"))
        report = Report(**content["report"])
        sums = np.load(place / "sums.npy")
        images = np.load(place / "images.npy", mmap_mode="r")
        masks = np.load(place / "masks.npy", mmap_mode="r") if report.pixels else None
        targets = np.load(place / "classes.npy") if report.name == "birds" else masks
        if not len(images) == len(sums) == len(content["names"]) == sum(report.read.values()):
            raise ValueError("lengths differ")
        if targets is not None and len(targets) != len(images):
            raise ValueError("lengths differ")
        row = max(1, images[:1].nbytes)
        for i in range(0, len(images), -(-len(images) * row // CHECKED)):
            found = zlib.crc32(images[i])
            if (found if masks is None else zlib.crc32(masks[i], found)) != sums[i]:
                raise ValueError(f"checksum of row {i}")
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        print(f"The cache {place.name} is damaged ({error}): decoding again.")
        shutil.rmtree(place)
        return None
    splits, start = {}, 0
    for split in SPLITS:
        rows = slice(start, start := start + report.read[split])
        splits[split] = images[rows], None if targets is None else targets[rows], content["names"][rows]
    return splits, report
