# SPDX-License-Identifier: GPL-2.0-or-later
"""KSR.pv and KSR.xlog: pseudo-variables, and texts with variables."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from kemi.testing import assign, pvars
from kemi.testing.errors import SilentMistake
from kemi.testing.state import Name, Server, Value

# By the letter that the server looks at in xlog's first argument: L_INFO.
_LEVELS = {"A": "alert", "C": "crit", "E": "err", "W": "warn", "N": "notice", "I": "info", "D": "dbg"}


def _find(text: str) -> Name:
    try:
        name, end = pvars.find(text)
        if end == len(text):
            return name
    except pvars.InvalidName:
        pass
    raise SilentMistake(f"{text!r} is no variable: the server logs an error and takes it as null")


def _value(fake: Server, text: str) -> Value:
    if fake.known(text):
        return fake.value(Name(text, text))
    try:
        return fake.value(_find(text))
    except pvars.InvalidName:
        raise SilentMistake(f"{text!r} is no variable: the server logs an error and takes it as null") from None


_WORD, _HALF = 1 << 32, 1 << 31


def _narrow(value: Value) -> Value:
    """A number as int of C has it: only getl gives a long one."""
    return (value + _HALF) % _WORD - _HALF if isinstance(value, int) else value


def _getter(null: Value) -> Callable[[Server, str], Value]:
    def get(fake: Server, name: str) -> Value:
        value = _value(fake, name)
        return null if value is None else _narrow(value)

    return get


def _get_or(fake: Server, name: str, default: Value) -> Value:
    value = _value(fake, name)
    return default if value is None else value


def _geti(fake: Server, name: str) -> int:
    value = _narrow(_value(fake, name))
    if isinstance(value, int):
        return value
    found = re.match(r"[+-]?\d+", value or "")
    return int(found.group()) if found else 0


def _getl(fake: Server, name: str) -> int:
    value = _value(fake, name)
    return value if isinstance(value, int) else 0


def _put(fake: Server, name: str, value: Value = None) -> bool:
    return assign.put(fake.state, _find(name), value)


def _print(fake: Server, level: str, text: str) -> int:
    try:
        fake.state.write(level, pvars.expand(text, fake.value))
    except pvars.InvalidName:
        raise SilentMistake(
            f"{text!r} has a $ that begins no variable ($$ is a plain one): the server logs an error instead"
        ) from None
    return 1


def _printer(level: str) -> Callable[[Server, str], int]:
    return lambda fake, text: _print(fake, level, text)


def _xlog(fake: Server, level: str, text: str) -> int:
    letter = level[2:3] if level.startswith("L_") else ""
    return _print(fake, _LEVELS.get(letter, "err"), text)


COVERED: dict[str, Callable[..., Any]] = {
    "pv.get": _getter(None),
    "pv.gete": _getter(""),
    "pv.getw": _getter("<null>"),
    "pv.getvs": _get_or,
    "pv.getvn": _get_or,
    "pv.geti": _geti,
    "pv.getl": _getl,
    "pv.setl": _put,
    "pv.sets": _put,
    "pv.seti": _put,
    "pv.unset": _put,
    "pv.is_null": lambda fake, name: _value(fake, name) is None,
    **{f"xlog.x{level}": _printer(level) for level in _LEVELS.values()},
    "xlog.xlog": _xlog,
}
