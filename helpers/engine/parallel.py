"""All cores, on every system, inside notebooks, and in scripts without a main guard."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice
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

    The processes of a killed parent end once they have waited for five seconds. A process that was itself
    started by another works in threads: a forked one would wait for its parent's processes for ever.
    """
    chunks = [jobs[i : i + CHUNK] for i in range(0, len(jobs), CHUNK)]
    kind = {"backend": "threading"} if parent_process() else {"backend": "loky", "idle_worker_timeout": 5}
    results = Parallel(cpu_count(), return_as="generator", **kind)(delayed(work)(chunk) for chunk in chunks)
    return chain.from_iterable(results)
