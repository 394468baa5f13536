"""For processes that tests start: decoding that stops at a fixed point, and work for their workers."""

import itertools
import os
import threading
import time
from pathlib import Path

from helpers.data.decode import decode

CALLS = itertools.count()


def stall(*_, **__):
    """Say so by a file, and wait for another one, or for the end."""
    Path(os.environ["STALLED"]).touch()
    while not Path(os.environ["GO_ON"]).exists():
        time.sleep(0.01)


def stall_at_first(*how):
    stall()
    return decode(*how)


def stall_half_way(*how):
    if next(CALLS) == 64:
        stall()
    return decode(*how)


def add_one(job: int) -> int:
    return job + 1


def divide(job: int) -> float:
    return 1 / (job - 40)


def add_ones(jobs: list[int]) -> list[int]:
    return [add_one(job) for job in jobs]


def add_ones_in_threads(jobs: list[int]) -> list[int]:
    """As ``add_ones``, but a process that is started for it dies."""
    if threading.current_thread() is threading.main_thread():
        os._exit(1)
    return add_ones(jobs)


def divide_all(jobs: list[int]) -> list[float]:
    return [divide(job) for job in jobs]
