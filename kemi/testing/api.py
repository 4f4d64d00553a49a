"""What KEMI offers: every function of a Kamailio, with the types of its arguments and of what it gives.

Data only, in api.json, written by the stub generator. The stubs are rendered from it and the fake checks calls with it.
"""

from __future__ import annotations

import functools
import json
import os
from typing import Any, NamedTuple

PATH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "api.json")


class Function(NamedTuple):
    """One function of KEMI, in KEMI's own words: types are int, str, bool, xval, none."""

    module: str  # as in KSR.module.name; "" for KSR.name
    name: str
    returns: str
    types: tuple[str, ...]
    names: tuple[str, ...]
    doc: str
    loaded_by: str  # the Kamailio module that brings it; "" for the core

    @property
    def path(self) -> str:
        """As a script writes it, without KSR."""
        return f"{self.module}.{self.name}" if self.module else self.name


class Api(NamedTuple):
    """All functions of one version of Kamailio."""

    version: str
    functions: tuple[Function, ...]
    not_started: dict[str, str]  # modules whose functions were read before they failed to start, and why
    not_loaded: dict[str, str]  # modules that could not be read at all, and why

    def modules(self) -> dict[str, dict[str, Function]]:
        """KEMI module → name → function."""
        found: dict[str, dict[str, Function]] = {}
        for function in self.functions:
            found.setdefault(function.module, {})[function.name] = function
        return found


def dumps(api: Api) -> str:
    """The text of api.json: one line for each function, always the same for the same API."""
    lines = [json.dumps(_row(function), ensure_ascii=False) for function in api.functions]
    head = {"version": api.version, "not_started": api.not_started, "not_loaded": api.not_loaded}
    text = json.dumps(head, indent=1, sort_keys=True, ensure_ascii=False)
    return text[:-2] + ',\n "functions": [\n  ' + ",\n  ".join(lines) + "\n ]\n}\n"


def _row(function: Function) -> list[Any]:
    return [function.module, function.name, function.returns, *function[3:]]


def loads(text: str) -> Api:
    """What `dumps` wrote."""
    data = json.loads(text)
    functions = tuple(
        Function(module, name, returns, tuple(types), tuple(names), doc, loaded_by)
        for module, name, returns, types, names, doc, loaded_by in data["functions"]
    )
    return Api(data["version"], functions, data["not_started"], data["not_loaded"])


@functools.cache
def load() -> Api:
    """The API that this package was made with."""
    with open(PATH, encoding="utf-8") as file:
        return loads(file.read())
