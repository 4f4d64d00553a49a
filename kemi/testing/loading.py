# SPDX-License-Identifier: GPL-2.0-or-later
"""Loads a routing script as app_python3 does: its folder is where imports are looked for first."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
import textwrap
from collections.abc import Iterator
from types import ModuleType

_IN_TEXT = "script"  # the name of a script that is given as text


class ScriptError(Exception):
    """Kamailio would not start with this script, or not find the route in it; says why."""


@contextlib.contextmanager
def loaded(source: str | os.PathLike[str]) -> Iterator[ModuleType]:
    """The script as a module; its folder is where imports are looked for first, as in the server."""
    text = os.fspath(source)
    if "\n" in text:
        module = ModuleType(_IN_TEXT)
        vars(module)["__source__"] = textwrap.dedent(text)
        folder = None
    else:
        path = os.path.abspath(text)
        name = os.path.splitext(os.path.basename(path))[0]
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or not os.path.exists(path):
            raise ScriptError(f"{text} is no Python file")
        module = importlib.util.module_from_spec(spec)
        folder = os.path.dirname(path)
    before, path_before, known = sys.modules.get(module.__name__), list(sys.path), set(sys.modules)
    sys.modules[module.__name__] = module
    if folder is not None:
        sys.path.insert(0, folder)
    try:
        execute(module)
        yield module
    finally:
        sys.path[:] = path_before
        sys.modules.pop(module.__name__, None)
        if folder is not None:
            _forget(set(sys.modules) - known, folder)
        if before is not None:
            sys.modules[module.__name__] = before


def _forget(names: set[str], folder: str) -> None:
    """Modules that lie beside the script: another script may have others of the same names."""
    for name in names:
        path = getattr(sys.modules[name], "__file__", None)
        if path and os.path.dirname(path) == folder and name.partition(".")[0] not in ("kemi", "mqueue_kemi"):
            del sys.modules[name]


def execute(module: ModuleType) -> None:
    """Execute the script, at first or again."""
    spec = module.__spec__
    if spec is None:
        exec(compile(vars(module)["__source__"], "<script>", "exec"), vars(module))  # noqa: S102 the test wrote it
    elif spec.loader is not None:
        spec.loader.exec_module(module)
