"""The code behind a run: edited code is another run, reformatted or re-commented code the same one."""

import ast
import functools
import hashlib
import inspect
import os
import site
import sys
import sysconfig
import textwrap
import time
import types
from pathlib import Path

import numpy as np
import torch

LIBRARIES = (sysconfig.get_path("stdlib"), *site.getsitepackages(), site.getusersitepackages())
STARTED = time.time()
CARRIERS = ("helpers.data", "helpers.engine.batches", "helpers.engine.device")  # bring pictures, change none


class Code:
    """What a network, functions and methods do: their source, and that of all they mention by name.

    Libraries don't count, nor do comments, docstrings and layout. ``parts`` is {qualified name: digest of its
    source}; ``unknown`` names what has no source that can be read: a lambda inside another call, say.

    Raises RuntimeError where a file was edited after it was imported: what runs is not what stands there.
    """

    def __init__(self, network, **things):
        self.parts, self.unknown, self._seen = {}, [], set()
        for name, thing in {"": network, **things}.items():
            self._add(thing, name)

    def _add(self, thing, name):
        if isinstance(thing, torch.nn.Module):
            structure = []
            for path, module in thing.named_modules():
                state = {k: v for k, v in sorted(vars(module).items()) if k[0] != "_" and k != "training"}
                structure.append((path, type(module).__name__, [i for i in state.items() if _plain(i)]))
                self._add([type(module), *filter(callable, state.values())], "")
            self._note(f"{name or type(thing).__name__}, its modules", repr(structure))
            if name:  # a loss's weights belong to it, while a network's statistics come and go
                self._add(dict(thing.named_buffers()), name)
        elif isinstance(thing, dict):
            for key, value in thing.items():
                self._add(value, f"{name}[{key!r}]")
        elif name and _plain(thing):
            self._note(name, repr(thing))
        elif isinstance(thing, list | tuple | set | frozenset):
            self._add(dict(enumerate(thing)), name)
        elif isinstance(thing, torch.Tensor | np.ndarray):  # rounded: another machine adds up differently
            values = torch.as_tensor(thing).detach().cpu().double().flatten().tolist()
            self._note(name, repr([f"{value:.4g}" for value in values]))
        elif isinstance(thing, functools.partial):
            self._add([thing.func, thing.args, thing.keywords], name)
        elif isinstance(thing, types.MethodType | types.FunctionType):
            owner = getattr(thing, "__self__", None)
            self._add_function(inspect.unwrap(getattr(thing, "__func__", thing)), owner)
            if isinstance(owner, torch.nn.Module):
                self._add(owner, name)
        elif isinstance(thing, type):
            if self._is_new(thing) and not _of_a_library(thing):
                self._add(thing.__bases__, thing.__qualname__)
                for key, value in vars(thing).items():
                    if callable(value) or not key.startswith("__"):
                        value = getattr(value, "__func__", getattr(value, "fget", value))
                        self._add(value, f"{thing.__qualname__}.{key}")
        elif callable(thing) and hasattr(thing, "__dict__"):  # an object with a __call__ of its own
            self._add([type(thing), vars(thing)], name)

    def _add_function(self, function, owner=None):
        if _of_a_library(function) or not self._is_new(function, owner):
            return
        name, code = f"{function.__module__}.{function.__qualname__}", function.__code__
        file = code.co_filename
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
        except (OSError, TypeError, SyntaxError):
            self.unknown.append(name)
            return
        if os.path.exists(file) and os.stat(file).st_mtime > STARTED:
            now = compile(Path(file).read_bytes(), file, "exec", dont_inherit=True)
            if code not in _codes(now):
                raise RuntimeError(
                    f"{file}: {function.__qualname__} was edited after it was imported; restart the kernel, "
                    "so that what runs is what stands there"
                )
        names = {name for inner in _codes(code) for name in inner.co_names}
        scope = {key: function.__globals__[key] for key in names & function.__globals__.keys()}
        scope |= inspect.getclosurevars(function).nonlocals | ({} if owner is None else {"self": owner})
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node) is not None:
                node.body[0] = ast.Pass()
            if isinstance(node, ast.Name) and node.id in scope:
                self._add(scope[node.id], f"{function.__module__}.{node.id}")
            if isinstance(node, ast.Attribute) and getattr(node.value, "id", None) in scope:
                holder = scope[node.value.id]
                if holder is owner or isinstance(holder, types.ModuleType):
                    self._add(getattr(holder, node.attr, None), f"{name}: {node.value.id}.{node.attr}")
        self._note(name, ast.unparse(tree))

    def _is_new(self, *things):
        key = tuple(map(id, things))
        return key not in self._seen and not self._seen.add(key)

    def _note(self, name, content):
        self.parts[name] = hashlib.sha256(content.encode()).hexdigest()[:8]


def _plain(thing):
    """Whether ``repr`` says all of it, on every machine alike."""
    if isinstance(thing, tuple | list):
        return all(map(_plain, thing))
    return isinstance(thing, bool | int | float | str | bytes) or thing is None


def _of_a_library(thing):
    module = thing.__module__ or ""
    if module.split(".")[0] == "helpers":
        return module.startswith(CARRIERS)
    file = getattr(sys.modules.get(module), "__file__", None) or ""
    return module != "__main__" and file.startswith(LIBRARIES)


def _codes(code):
    """A code object and all those inside it."""
    yield code
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            yield from _codes(const)
