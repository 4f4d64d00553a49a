# SPDX-License-Identifier: GPL-2.0-or-later
"""Puts together what the servers told: one list of functions, each one once, with names and descriptions."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any

from kemi.testing import api
from kemi.testing.api import Api, Function
from kemi.testing.stubgen import readme
from kemi.testing.stubgen.server import Answer, StubgenError
from kemi.testing.stubgen.words import WORDS

Readmes = Callable[[str], dict[str, list[readme.Entry]]]


def merge(version: str, answers: dict[str, Answer], readmes: Readmes) -> Api:
    """Raises StubgenError when two servers, or two ways of looking, contradict each other."""
    rows: dict[tuple[str, str], list[dict[str, Any]]] = {}
    not_started, not_loaded = {}, {}
    for module, answer in sorted(answers.items()):
        if answer.tables is None:
            not_loaded[module] = answer.why
            continue
        if answer.listed is None:
            not_started[module] = answer.why
        check(module, answer)
        for row in seen(answer.tables):
            _add(rows.setdefault((row["shown"], row["name"]), []), row, module)
    cached = functools.lru_cache(maxsize=None)(readmes)
    functions = tuple(_function(row, cached) for key in sorted(rows) for row in rows[key])
    return api.single(version, functions, api.Scan(version, not_started, not_loaded))


def _add(known: list[dict[str, Any]], row: dict[str, Any], module: str) -> None:
    """Two modules may bring the same name: ims_qos and ims_qos_npn do, and their Rx_AAR differ. One may not."""
    for other in known:
        if other == row:
            return
        if other["file"] == row["file"]:
            raise StubgenError(f"{module}: {row} was {other} before")
        if (other["ret"], other["params"]) == (row["ret"], row["params"]):
            return
    known.append(row)


def seen(tables: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what a script sees of tables that list a function more than once: the last one, as Python sets names."""
    return list({(row["shown"], row["name"]): row for row in tables}.values())


def check(module: str, answer: Answer) -> None:
    """dir(KSR) has the functions of the tables and no other, and the running server lists the same."""
    tables = answer.tables or []
    plain = [{key: value for key, value in row.items() if key not in ("shown", "file")} for row in tables]
    if answer.listed is not None and [_listed(row) for row in answer.listed] != [_listed(row) for row in plain]:
        raise StubgenError(f"{module}: the server does not list what its tables have")
    names = {(row["shown"], row["name"]) for row in tables}
    shown = {(each, name) for each, found in answer.names.items() for name in found} - {("x", "modf")}
    if names != shown:
        raise StubgenError(f"{module}: dir(KSR) differs from the server's list: {sorted(names ^ shown)}")


# Types that the core has no name for: it lists the whole function without any.
_NAMELESS = re.compile(r"\b(long|type\d+)\b")


def _listed(row: dict[str, Any]) -> dict[str, Any]:
    """One line of a list, without the types that the core cannot name."""
    return {
        key: "" if key in ("ret", "params") and (not value or _NAMELESS.search(value)) else value
        for key, value in row.items()
    }


def _function(row: dict[str, Any], readmes: Readmes) -> Function:
    types = () if row["params"] == "none" else tuple(row["params"].split(", "))
    path = f"{row['shown']}.{row['name']}" if row["shown"] else row["name"]
    names, doc = WORDS.get(path, ((), ""))
    if path not in WORDS and row["file"]:
        entry = readme.fitting(readmes(row["file"]).get(row["name"], ()), len(types))
        names, doc = (entry.names, entry.text) if entry else ((), "")
    return Function(row["shown"], row["name"], row["ret"], types, _usable(names, types), doc, row["file"])


def _usable(names: tuple[str, ...], types: tuple[str, ...]) -> tuple[str, ...]:
    """One name for each argument, no name twice."""
    found: list[str] = []
    for number, _ in enumerate(types):
        name = names[number] if number < len(names) else ""
        found.append(name if name and name not in found else f"arg{number + 1}")
    return tuple(found)
