"""What makes a training this one and no other: settings, data, weights, code."""

import ast
import functools
import hashlib
import inspect
import json
import textwrap
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

import torch


def digest(value):
    """Eight letters that change with anything in ``value``, which JSON can hold."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:8]


def describe_run(model, task, train, valid, precision, code, start=None):
    """What makes a run this one; when any of it changes, a training starts anew.

    ``train`` and ``valid`` count with the contents of their images and targets. Code counts without
    comments, docstrings and layout: that of the classes of the task and of the model's modules,
    that of a loss that was put into the task, and ``code``, from ``read_code``. What a class of
    one's own calls outside itself is not followed. ``start`` is the state of the run whose weights
    it begins with.
    """
    parts = [task, *model.modules()]
    for value in vars(task).values():
        if isinstance(value, torch.nn.Module):  # a loss, for example
            parts += value.modules()
    code = dict(code)
    for part in parts:
        for kind in type(part).__mro__:
            code |= code_of(kind)
    if start is not None:
        code["start"] = f"{digest(start['run'])}, {len(start['history'])} epochs"
    return {
        "parts": [[type(part).__name__, contents(part)] for part in parts],
        "weights": [list(weight.shape) for weight in model.parameters()],
        "training set": train.digest(),
        "validation set": valid.digest(),
        "settings": asdict(task.settings) | {"precision": precision},
        "code": {name: digest(text) for name, text in code.items()},
    }


_read = {}  # the name of each module that was read: its code


def read_code(*names):
    """{name: code} of modules, read while they are imported, since files may be edited later."""
    for name in names:
        source = Path(import_module(name).__file__).read_text(encoding="utf-8")
        _read[name] = without_comments(source)
    return {name: _read[name] for name in names}


def code_of(kind):
    """{name: code} of a class: its whole file if that was read, else what it holds."""
    name = kind.__module__
    if name in _read:
        return {name: _read[name]}
    if name.split(".")[0] in ("builtins", "torch"):
        return {}
    return {f"{name}.{kind.__qualname__}": contents(kind)}


def contents(thing):
    """{name: text} of the numbers, texts and functions that a class or an object holds."""
    found = {}
    for name, value in vars(thing).items():
        if isinstance(value, functools.partial):
            found[f"arguments of {name}"] = repr([value.args, value.keywords])
        for inside in ("func", "__func__", "fget"):  # of a partial, a method, a property
            value = getattr(value, inside, value)
        if inspect.isfunction(value):
            try:
                found[name] = without_comments(inspect.getsource(value))
            except (OSError, SyntaxError):  # no file, or a lambda in the middle of a line
                code = value.__code__
                found[name] = repr([code.co_code, code.co_names, code.co_consts])
        elif not name.startswith("_") and name != "training":
            values = value if isinstance(value, tuple | list) else [value]
            if all(isinstance(one, bool | int | float | str | None) for one in values):
                found[name] = repr(value)
    return found


def without_comments(source):
    """Python source without comments, docstrings and layout."""
    tree = ast.parse(textwrap.dedent(source))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            if ast.get_docstring(node) is not None:
                node.body[0] = ast.Pass()
    return ast.unparse(tree)
