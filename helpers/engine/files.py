"""Files and folders that appear in one step or not at all, made by one process at a time."""

import contextlib
import errno
import os
import shutil
from pathlib import Path

from filelock import FileLock, Timeout

ELSEWHERE = "give another folder with --root DIR or COURSEWORK_DATA"
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)  # as on some network drives
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
lockless = []  # the first lock file there, once one line has told of it


class DataError(ValueError):
    """Data that cannot be used; the message says what was found, where, and what to do."""


@contextlib.contextmanager
def locked(place):
    """Hold the lock of ``place``; it ends with its process, however that ends."""
    lock = FileLock(place.with_name(place.name + ".lock"))
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        held = acquire(lock, f"prepares {place.name}")
    except OSError as error:
        raise DataError(
            f"{place.parent} cannot be written ({error.strerror}): {ELSEWHERE}."
        ) from error
    with held:
        yield


def acquire(lock, doing, say=print):
    """Hold a lock once no other process does; ``say`` what such a process is ``doing``.

    Where the file system has no locks, one line says so, and the context returned holds nothing.
    """
    try:
        return lock.acquire(timeout=0.2)
    except Timeout:
        say(f"Waiting for another process that {doing} …")
        return lock.acquire()
    except (OSError, NotImplementedError) as error:
        if getattr(error, "errno", errno.ENOSYS) not in NO_LOCKS:
            raise
    if not lockless:
        lockless.append(lock.lock_file)
        say(f"{lock.lock_file}: this drive has no locks, so never start two runs at once.")
    return contextlib.nullcontext()


@contextlib.contextmanager
def made_beside(place):
    """A new folder that takes the name ``place`` in one step, or is removed when anything fails."""
    part = place.with_name(place.name + ".part")
    shutil.rmtree(part, ignore_errors=True)  # of a process that was killed
    try:
        part.mkdir(parents=True)
        yield part
        os.replace(part, place)
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise DataError(f"{place.parent}: the disk is full; make room or {ELSEWHERE}.") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


@contextlib.contextmanager
def written_beside(path):
    """A file to write to, which takes the name ``path`` in one step once the block has ended."""
    path = Path(path)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    except (OSError, RuntimeError) as error:
        told = f"{path}: cannot be written ({error}); what was saved before is intact"
        remedy = "Make room there, or give another folder, and run again."
        raise OSError(f"{told}. {remedy}") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink()


def check_space(folder, needed):
    """Raise DataError where a folder's disk has fewer than ``needed`` bytes free."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        found = f"{folder} has {free / 1e9:.2f} GB free but {needed / 1e9:.2f} GB are needed"
        raise DataError(f"{found}: make room there or {ELSEWHERE}.")
