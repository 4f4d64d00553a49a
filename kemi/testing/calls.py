# SPDX-License-Identifier: GPL-2.0-or-later
"""Checks the arguments of a call as app_python3 does.

5.6 parses them with PyArg_ParseTuple and the types of KEMI: what is wrong becomes a SystemError whose cause is the
error itself. 6.0 looks at each argument: what is wrong becomes a line in its log and the result False, and arguments
that are too many are not looked at.
"""

from __future__ import annotations

from typing import Any

from kemi.testing.api import Function
from kemi.testing.errors import SilentMistake

_LETTERS = {"int": "n", "long": "l", "str": "s"}
_SMALLEST, _LARGEST = -(1 << 31), (1 << 31) - 1
_WORD, _LONG = 1 << 32, 1 << 63


class RefusedError(Exception):
    """The server says why in its log, and the call gives False."""


def check(function: Function, arguments: tuple[Any, ...], release: str = "5.6") -> tuple[Any, ...]:
    """The arguments as the C function has them.

    Raises what the server does: SystemError in 5.6; RefusedError, and what Python raises for a text that is none, in
    6.0. Raises SilentMistake where the server is silent.
    """
    if not function.types:
        if arguments:
            raise SilentMistake(f"KSR.{function.path} takes no arguments; the server ignores {arguments!r}")
        return ()
    if release != "5.6":
        return _looked_at(function, arguments)
    try:
        return _parsed(function, arguments)
    except (TypeError, ValueError, OverflowError) as error:
        raise system_error(function.name, error) from error


def system_error(name: str, cause: BaseException) -> SystemError:
    """Return what Python raises when C code leaves an error behind; it says the cause, which Python does not."""
    return SystemError(f"<built-in function {name}> returned a result with an exception set; the cause: {cause}")


def _fits_a_word(number: int) -> int:
    if not -_LONG <= number < _LONG:
        raise OverflowError("Python int too large to convert to C long")
    return number


# --- 5.6 --------------------------------------------------------------------------------------------------------------


def _parsed(function: Function, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    name = "kemi-param-" + "".join(_LETTERS[kind] for kind in function.types)
    wanted = len(function.types)
    if len(arguments) != wanted:
        plural = "" if wanted == 1 else "s"
        raise TypeError(f"{name}() takes exactly {wanted} argument{plural} ({len(arguments)} given)")
    return tuple(
        _text(value, name, place) if kind == "str" else _number(value)
        for place, (kind, value) in enumerate(zip(function.types, arguments), 1)
    )


def _number(value: Any) -> int:
    if not hasattr(type(value), "__index__"):
        raise TypeError(f"'{type(value).__name__}' object cannot be interpreted as an integer")
    number = _fits_a_word(int(value.__index__()))
    if number > _LARGEST:
        raise OverflowError("signed integer is greater than maximum")
    if number < _SMALLEST:
        raise OverflowError("signed integer is less than minimum")
    return number


def _text(value: Any, name: str, place: int) -> str:
    if not isinstance(value, str):
        kind = "None" if value is None else type(value).__name__
        raise TypeError(f"{name}() argument {place} must be str, not {kind}")
    value.encode("utf-8")  # raises for a lone surrogate
    if "\0" in value:
        raise ValueError("embedded null character")
    return value


# --- 6.0 --------------------------------------------------------------------------------------------------------------


def _looked_at(function: Function, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(_one(function, place, kind, arguments) for place, kind in enumerate(function.types))


def _one(function: Function, place: int, kind: str, arguments: tuple[Any, ...]) -> Any:
    count = len(arguments)
    if place >= count:
        raise RefusedError(f"invalid number of parameters - idx: {place} argc: {count}")
    value = arguments[place]
    where = f"func: {function.name} idx: {place} argc: {count}"
    if kind == "str":
        if not isinstance(value, str):
            raise RefusedError(f"non-string parameter - {where}")
        value.encode("utf-8")  # raises for a lone surrogate
        return value
    if not isinstance(value, int):
        raise RefusedError(f"non-number parameter - {where}")
    try:
        number = _fits_a_word(int(value))
    except OverflowError as error:
        raise system_error(function.name, error) from error
    return number if kind == "long" else (number - _SMALLEST) % _WORD + _SMALLEST
