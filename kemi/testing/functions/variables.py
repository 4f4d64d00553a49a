"""KSR.pv and KSR.xlog: pseudo-variables, and texts with variables."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kemi.testing import pvars
from kemi.testing.errors import SilentMistake
from kemi.testing.state import Value

if TYPE_CHECKING:
    from kemi.testing.fake import FakeKSR

# By the letter that the server looks at in xlog's first argument: L_INFO.
_LEVELS = {"A": "alert", "C": "crit", "E": "err", "W": "warn", "N": "notice", "I": "info", "D": "dbg"}


def _find(text: str) -> pvars.Name:
    try:
        name, end = pvars.find(text)
        if end == len(text):
            return name
    except pvars.InvalidName:
        pass
    raise SilentMistake(f"{text!r} is no variable: the server logs an error and takes it as null")


def _value(fake: FakeKSR, text: str) -> Value:
    if fake.known(text):
        return fake.value(pvars.Name(text, text))
    try:
        return fake.value(_find(text))
    except pvars.InvalidName:
        raise SilentMistake(f"{text!r} is no variable: the server logs an error and takes it as null") from None


def _getter(null: Value) -> Callable[[FakeKSR, str], Value]:
    def get(fake: FakeKSR, name: str) -> Value:
        value = _value(fake, name)
        return null if value is None else value

    return get


def _get_or(fake: FakeKSR, name: str, default: Value) -> Value:
    value = _value(fake, name)
    return default if value is None else value


def _geti(fake: FakeKSR, name: str) -> int:
    value = _value(fake, name)
    if isinstance(value, int):
        return value
    found = re.match(r"[+-]?\d+", value or "")
    return int(found.group()) if found else 0


def _put(fake: FakeKSR, name: str, value: Value = None) -> bool:
    return pvars.put(fake.state, _find(name), value)


def _print(fake: FakeKSR, level: str, text: str) -> int:
    try:
        fake.state.write(level, pvars.expand(text, fake.value))
    except pvars.InvalidName:
        raise SilentMistake(
            f"{text!r} has a $ that begins no variable ($$ is a plain one): the server logs an error instead"
        ) from None
    return 1


def _printer(level: str) -> Callable[[FakeKSR, str], int]:
    return lambda fake, text: _print(fake, level, text)


def _xlog(fake: FakeKSR, level: str, text: str) -> int:
    letter = level[2:3] if level.startswith("L_") else ""
    return _print(fake, _LEVELS.get(letter, "err"), text)


COVERED: dict[str, Callable[..., Any]] = {
    "pv.get": _getter(None),
    "pv.gete": _getter(""),
    "pv.getw": _getter("<null>"),
    "pv.getvs": _get_or,
    "pv.getvn": _get_or,
    "pv.geti": _geti,
    "pv.sets": _put,
    "pv.seti": _put,
    "pv.unset": _put,
    "pv.is_null": lambda fake, name: _value(fake, name) is None,
    **{f"xlog.x{level}": _printer(level) for level in _LEVELS.values()},
    "xlog.xlog": _xlog,
}
