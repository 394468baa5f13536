"""For processes that tests start: decoding that stops at a fixed point, and work for their workers."""

import multiprocessing
import os
import time
from pathlib import Path

from helpers.data.decode import decode_rows


def stall(*_, **__):
    """Say so by a file, and wait for another one, or for the end."""
    Path(os.environ["STALLED"]).touch()
    while not Path(os.environ["GO_ON"]).exists():
        time.sleep(0.01)


def stall_at_first(*how):
    stall()
    return decode_rows(*how)


def stall_half_way(*how):
    told = decode_rows(*how)
    if how[-1][0][0] >= 64:
        stall()
    return told


def add_one(jobs: list[int]) -> list[int]:
    return [job + 1 for job in jobs]


def add_one_here(jobs: list[int]) -> list[int]:
    """As ``add_one``, but any process other than the first dies of it."""
    if multiprocessing.parent_process():
        os._exit(1)
    return add_one(jobs)


def divide(jobs: list[int]) -> list[float]:
    return [1 / (job - 40) for job in jobs]
