# SPDX-License-Identifier: GPL-2.0-or-later
"""What KEMI offers: every function of the Kamailio releases that are known, with the types of arguments and results.

Data only, in api.json, written by the stub generator. The stubs are rendered from it and the fake checks calls with it.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterable
from typing import Any, NamedTuple

PATH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "api.json")


class Function(NamedTuple):
    """One function of KEMI, in KEMI's own words: types are int, long, str, bool, xval, none."""

    module: str  # as in KSR.module.name; "" for KSR.name
    name: str
    returns: str
    types: tuple[str, ...]
    names: tuple[str, ...]
    doc: str
    loaded_by: str  # the Kamailio module that brings it; "" for the core
    releases: tuple[str, ...] = ()  # those that have it in this form: 5.6, 6.0

    @property
    def path(self) -> str:
        """As a script writes it, without KSR."""
        return f"{self.module}.{self.name}" if self.module else self.name

    @property
    def form(self) -> tuple[str, str, str, tuple[str, ...]]:
        """What must be the same in two releases to be the same function."""
        return self.module, self.name, self.returns, self.types


class Scan(NamedTuple):
    """How one release was read."""

    version: str  # 5.6.3
    not_started: dict[str, str]  # modules whose functions were read before they failed to start, and why
    not_loaded: dict[str, str]  # modules that could not be read at all, and why


class Api(NamedTuple):
    """The functions of one or more releases of Kamailio."""

    scans: dict[str, Scan]  # by release: 5.6
    functions: tuple[Function, ...]

    @property
    def version(self) -> str:
        """The versions that were read: "5.6.3 and 6.0.1"."""
        return " and ".join(scan.version for scan in self.scans.values())

    @property
    def releases(self) -> tuple[str, ...]:
        """Oldest first."""
        return tuple(self.scans)

    def modules(self) -> dict[str, dict[str, Function]]:
        """KEMI module → name → function; of several forms, that of the newest release."""
        found: dict[str, dict[str, Function]] = {}
        for function in sorted(self.functions, key=lambda each: key_of(max(each.releases, key=key_of, default=""))):
            found.setdefault(function.module, {})[function.name] = function
        return {module: dict(sorted(names.items())) for module, names in sorted(found.items())}


def release_of(version: str) -> str:
    """Return 5.6 for 5.6.3."""
    return ".".join(version.split(".")[:2])


def key_of(release: str) -> tuple[int, ...]:
    """Return what releases are sorted by."""
    return tuple(int(part) for part in release.split(".") if part.isdigit())


def single(version: str, functions: Iterable[Function], scan: Scan) -> Api:
    """Return what one release has."""
    release = release_of(version)
    return Api({release: scan}, tuple(each._replace(releases=(release,)) for each in functions))


def merge(known: Api, found: Api) -> Api:
    """Return both; what `known` says of a release that `found` has too is replaced.

    Names, descriptions and modules are those of the newest release that has the function in that form.
    """
    scans = {**known.scans, **found.scans}
    kept = (each._replace(releases=tuple(r for r in each.releases if r not in found.scans)) for each in known.functions)
    forms: dict[Any, list[Function]] = {}
    for function in (*kept, *found.functions):
        if function.releases:
            forms.setdefault(function.form, []).append(function)
    functions = []
    for same in forms.values():
        releases = sorted({release for each in same for release in each.releases}, key=key_of)
        newest = max(same, key=lambda each: key_of(each.releases[-1]))
        functions.append(newest._replace(releases=tuple(releases)))
    functions.sort(key=lambda each: (each.module, each.name, key_of(each.releases[0]), each.form))
    return Api({release: scans[release] for release in sorted(scans, key=key_of)}, tuple(functions))


def only(api: Api, release: str) -> Api:
    """Return what one release has. Raises KeyError."""
    chosen = (each._replace(releases=(release,)) for each in api.functions if release in each.releases)
    return Api({release: api.scans[release]}, tuple(chosen))


def dumps(api: Api) -> str:
    """The text of api.json: one line for each function, always the same for the same API."""
    lines = [json.dumps(_row(function), ensure_ascii=False) for function in api.functions]
    head = {"releases": {release: scan._asdict() for release, scan in api.scans.items()}}
    text = json.dumps(head, indent=1, sort_keys=True, ensure_ascii=False)
    return text[:-2] + ',\n "functions": [\n  ' + ",\n  ".join(lines) + "\n ]\n}\n"


def _row(function: Function) -> list[Any]:
    return [function.module, function.name, function.returns, *function[3:]]


def loads(text: str) -> Api:
    """What `dumps` wrote."""
    data = json.loads(text)
    scans = {release: Scan(**scan) for release, scan in data["releases"].items()}
    functions = tuple(
        Function(module, name, returns, tuple(types), tuple(names), doc, loaded_by, tuple(releases))
        for module, name, returns, types, names, doc, loaded_by, releases in data["functions"]
    )
    return Api({release: scans[release] for release in sorted(scans, key=key_of)}, functions)


@functools.cache
def load() -> Api:
    """The API that this package was made with: every release that is known."""
    with open(PATH, encoding="utf-8") as file:
        return loads(file.read())


@functools.cache
def of(release: str) -> Api:
    """What one release has. Raises KeyError."""
    return only(load(), release)
