"""Puts together what the servers told: one list of functions, each one once, with names and descriptions."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from kemi.testing.api import Api, Function
from kemi.testing.stubgen import readme
from kemi.testing.stubgen.server import Answer, StubgenError
from kemi.testing.stubgen.words import WORDS

Readmes = Callable[[str], dict[str, list[readme.Entry]]]


def merge(version: str, answers: dict[str, Answer], readmes: Readmes) -> Api:
    """Raises StubgenError when two servers, or two ways of looking, contradict each other."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    not_started, not_loaded = {}, {}
    for module, answer in sorted(answers.items()):
        if answer.tables is None:
            not_loaded[module] = answer.why
            continue
        if answer.listed is None:
            not_started[module] = answer.why
        check(module, answer)
        for row in answer.tables:
            known = rows.setdefault((row["shown"], row["name"]), row)
            if known != row:
                raise StubgenError(f"{module}: {row} was {known} before")
    cached = functools.lru_cache(maxsize=None)(readmes)
    functions = tuple(_function(rows[key], cached) for key in sorted(rows))
    return Api(version, functions, not_started, not_loaded)


def check(module: str, answer: Answer) -> None:
    """dir(KSR) has the functions of the tables and no other, and the running server lists the same."""
    tables = answer.tables or []
    plain = [{key: value for key, value in row.items() if key not in ("shown", "file")} for row in tables]
    if answer.listed is not None and answer.listed != plain:
        raise StubgenError(f"{module}: the server does not list what its tables have")
    names = {(row["shown"], row["name"]) for row in tables}
    shown = {(each, name) for each, found in answer.names.items() for name in found} - {("x", "modf")}
    if names != shown:
        raise StubgenError(f"{module}: dir(KSR) differs from the server's list: {sorted(names ^ shown)}")


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
