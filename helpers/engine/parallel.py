"""All cores, on every system, inside notebooks, and in scripts without a main guard."""

import os
import time
from _thread import start_new_thread
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, ThreadPoolExecutor
from itertools import islice
from multiprocessing import parent_process

from joblib import Parallel, cpu_count, delayed

CHUNK = 4  # jobs handed to a process at once


def ahead(work: Callable, jobs: Iterable, threads: int = 1) -> Iterator:
    """Results of ``work`` on each job, in order, for work that lets go of Python's lock, as decoding does.

    Threads begin the next jobs meanwhile, but only two each, so that memory holds what waits.
    """
    jobs, coming = iter(jobs), deque()
    with ThreadPoolExecutor(threads) as pool:
        while True:
            coming.extend(pool.submit(work, job) for job in islice(jobs, 2 * threads - len(coming)))
            if not coming:
                return
            yield coming.popleft().result()


def mapped(work: Callable[[list], list], jobs: list) -> Iterator:
    """Results of ``work`` on chunks of jobs, in order, by one process a core: for work that holds the lock.

    A process that was itself started by another works in threads: a forked one would wait for ever.
    """
    chunks, done = [jobs[i : i + CHUNK] for i in range(0, len(jobs), CHUNK)], 0
    watch = {"initargs": (end_with, (os.getpid(),))}  # a thread of each process
    processes = "loky", watch | {"idle_worker_timeout": 5, "initializer": start_new_thread}
    for backend, how in [*[processes] * (not parent_process()), ("threading", {})]:
        pool = Parallel(cpu_count(), backend=backend, return_as="generator", **how)
        try:
            for results in pool(delayed(work)(chunk) for chunk in chunks[done:]):
                done += 1
                yield from results
            return
        except BrokenExecutor:
            continue  # the system killed a process: go on with threads


def end_with(parent: int) -> None:
    """End this process soon after its ``parent``, which may be killed; on POSIX systems."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
