"""All cores, on every system, inside notebooks, and in scripts without a main guard."""

import multiprocessing
import os
import signal
import sys
import threading
import types
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, ThreadPoolExecutor

CHUNK = 32  # jobs handed to a worker at once
PROCESSES_FROM = 2000  # jobs; below, starting processes takes longer than what they gain over threads
MAIN = threading.Lock()  # held while it is hidden: else workers would run the caller's script


def mapped(work: Callable[[list], list], jobs: list, heavy=False, cores: int | None = None) -> Iterator:
    """Results of ``work``, a function of some module, on chunks of jobs; in order.

    heavy: the work holds Python's lock, so it needs processes however few the jobs are.
    """
    step, cores, done = 4 if heavy else CHUNK, cores or count_cores(), 0
    chunks = [jobs[i : i + step] for i in range(0, len(jobs), step)]
    pools = [ThreadPoolExecutor(cores)]
    if cores > 1 and (heavy or len(jobs) >= PROCESSES_FROM) and not multiprocessing.parent_process():
        spawn = multiprocessing.get_context("spawn")  # the same on all systems, and inherits no locks
        pools.insert(0, ProcessPoolExecutor(cores, spawn, initializer=obey_parent))
    for pool in pools:
        try:
            with MAIN:
                main, sys.modules["__main__"] = sys.modules["__main__"], types.ModuleType("__main__")
                try:
                    results = pool.map(work, chunks[done:])  # starts all the workers
                finally:
                    sys.modules["__main__"] = main
            for result in results:
                done += 1
                yield from result
            return
        except BrokenExecutor:
            continue  # the system forbids or killed the processes: go on with threads
        finally:
            pool.shutdown(cancel_futures=True)


def count_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def obey_parent() -> None:
    """Leave interrupts to the parent, and end with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()


def end_with_parent() -> None:
    """End this process when its parent is killed, which nobody would tell it."""
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()
