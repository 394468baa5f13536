"""Is what a student built right, and if not, which mistake is it?

A solution runs on small random inputs, and so does the answer in ``helpers.gaps``. Where they
differ, the answer runs again with each known mistake in it, until it gives what the solution gave.
"""

import sys
import time
import warnings
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from traceback import walk_tb

import numpy as np
import torch

from helpers.gaps import EXERCISES

SECONDS = 10  # that a solution may take


@dataclass
class Line:
    """A line that a notebook shows as it is. ``right`` is None where nothing was attempted."""

    text: str
    right: bool | None = None

    def __repr__(self):
        return self.text


def check(name, thing, seed=0):
    """Whether a solution is right, and if not, what is wrong. Another ``seed`` gives other inputs.

    ``thing`` is a class for "block", and a function for the other names in ``EXERCISES``. The
    notebook's random numbers stay as they are.
    """
    exercise = exercise_of(name)
    run = partial(outcomes, exercise, seed)
    ignored = warnings.catch_warnings(action="ignore")
    with ignored, torch.no_grad(), torch.random.fork_rng(devices=[]):
        found = limited(thing, partial(run, partial(exercise.apply, thing)))
        first, *_ = found.values()
        if thing is None or isinstance(first, NotImplementedError):
            return Line(f"not attempted. For help: hint({name!r})")
        expected = run(exercise.answer)
        label = difference(found, expected)
        if label is None:
            return Line(f"right{exercise.remark(thing)}", True)
        for sentences, options in mistakes_of(exercise):
            if difference(found, run(partial(exercise.answer, **options))) is None:
                return Line(f"wrong. {sentences}", False)
    return Line(f"wrong. {label}: {described(found[label], expected[label], thing)}", False)


def hint(name, step=1):
    """Help in three steps. The third says nearly everything."""
    text = exercise_of(name).hints[max(1, min(step, 3)) - 1]
    if step < 3:
        text += f" More: hint({name!r}, {step + 1})"
    return Line(text)


def exercise_of(name):
    if name not in EXERCISES:
        raise ValueError(f"no gap {name!r}: choose one of {', '.join(EXERCISES)}")
    return EXERCISES[name]


def outcomes(exercise, seed, function):
    """What a function gives for each input, by its label: arrays, up to the first exception."""
    torch.default_generator.manual_seed(seed)
    found = {}
    for label, arguments in list(exercise.inputs()):
        tensors = [x for x in arguments if isinstance(x, torch.Tensor)]
        before = [x.clone() for x in tensors]
        try:
            result = function(*arguments)
            if result is None:
                raise TypeError("the result is None: is a return missing?")
            if not all(map(torch.equal, tensors, before)):
                raise ValueError("your code changes its input: write a = a + b, not a += b")
            found[label] = np.asarray(result, float)
        except Exception as error:
            found[label] = error
            break
    return found


def mistakes_of(exercise):
    """What a student is told and the options that do it: each mistake alone, then two at once."""
    single = [
        (sentence, {option: value})
        for (option, *values), sentence in exercise.mistakes.items()
        for value in values
    ]
    yield from single
    for (one, options), (other, more) in combinations(single, 2):
        yield f"{one} {other}", options | more


def difference(found, others):
    """The label of the first outcome that differs; None where all are the same."""
    for label in found:
        if not alike(found[label], others[label]):
            return label


def alike(one, other):
    if isinstance(one, Exception) or isinstance(other, Exception):
        # As sets of words, because a + b and b + a name two sizes in another order.
        return set(repr(one).split()) == set(repr(other).split())
    return one.shape == other.shape and np.allclose(one, other, atol=1e-4, equal_nan=True)


def described(mine, ours, thing):
    """How an outcome differs from the expected one, where no known mistake explains it."""
    if isinstance(mine, Exception):
        steps = walk_tb(mine.__traceback__)
        lines = [f", in line {line} of your code" for frame, line in steps if is_from(thing, frame)]
        text = " ".join(str(mine).split())
        return f"{type(mine).__name__}: {text}{''.join(lines[-1:])}"
    if mine.shape != ours.shape:
        return f"the shape is {mine.shape}, expected {ours.shape}"
    gap = abs(mine - ours)
    place = np.unravel_index(gap.argmax(), gap.shape)
    where = f", at {[*map(int, place)]}" if place else ""
    values = f"{mine[place]:.4g}, expected {ours[place]:.4g}"
    return f"the largest difference is {gap[place]:.4g}{where}: {values}"


def is_from(thing, frame):
    """Whether a frame runs code of the module, or the notebook, that defines ``thing``."""
    return frame.f_globals.get("__name__") == getattr(thing, "__module__", None)


def limited(thing, run):
    """What ``run`` gives. An endless loop in the code of ``thing`` is stopped, on every system."""
    end = time.monotonic() + SECONDS

    def watch(frame, event, argument):
        if not is_from(thing, frame):
            return None
        frame.f_trace_opcodes = True  # ``while True: pass`` has no other events
        if time.monotonic() > end:
            raise TimeoutError(f"stopped after {SECONDS} seconds, perhaps in a loop without end")
        return watch

    before = sys.gettrace()
    sys.settrace(watch)
    try:
        return run()
    finally:
        sys.settrace(before)
