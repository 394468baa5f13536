"""All cores, on every system and inside notebooks."""

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool

CHUNK = 32  # jobs handed to a worker at once
PROCESSES_FROM = 2000  # jobs; below, starting processes takes longer than what they gain over threads


def mapped(
    work: Callable[[list], list], jobs: list, heavy: bool = False, cores: int | None = None
) -> Iterator:
    """Results of ``work`` on chunks of jobs, in order.

    heavy: the work holds Python's lock, so it needs processes however few the jobs are.
    """
    step = 4 if heavy else CHUNK
    chunks = [jobs[i : i + step] for i in range(0, len(jobs), step)]
    done = 0
    for pool in pools(heavy or len(jobs) >= PROCESSES_FROM, cores or count_cores()):
        try:
            for results in pool.map(work, chunks[done:]):
                done += 1
                yield from results
            return
        except BrokenProcessPool:
            continue  # the system forbids or killed the processes: go on with threads
        finally:
            pool.shutdown(cancel_futures=True)


def count_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def pools(processes: bool, cores: int) -> Iterator[Executor]:
    """Processes when wanted and possible, and threads should those break."""
    if processes and cores > 1 and multiprocessing.parent_process() is None:
        spawn = multiprocessing.get_context("spawn")  # the same on all systems, and inherits no locks
        yield ProcessPoolExecutor(cores, mp_context=spawn, initializer=die_with_parent)
    yield ThreadPoolExecutor(cores)


def die_with_parent() -> None:
    """End this worker when its parent is killed, which nobody would tell it."""
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()
