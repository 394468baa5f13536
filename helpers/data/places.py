"""Folders that appear in one step or not at all, made by one process at a time."""

import contextlib
import errno
import multiprocessing
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from .listing import DataError


@contextlib.contextmanager
def locked(place: Path) -> Iterator[None]:
    """Hold the lock of ``place``; it ends with its process, however that ends."""
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise RuntimeError(
            "A worker runs your script again: put its calls below `if __name__ == '__main__':`."
        )
    lock = FileLock(place.with_name(place.name + ".lock"))
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0.2)
        except Timeout:
            print(f"Waiting for another process that prepares {place.name} …")
            lock.acquire()
    except OSError as error:
        raise DataError(
            f"{place.parent} cannot be written ({error.strerror}): choose another root."
        ) from error
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
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise DataError(
                f"{place.parent}: the disk is full; make room there or choose another root."
            ) from error
        raise


def check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DataError(
            f"{folder} has {free / 1e9:.2f} GB free but {needed / 1e9:.2f} GB are needed: "
            "make room there or choose another root."
        )
