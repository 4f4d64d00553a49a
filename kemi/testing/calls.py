"""Checks the arguments of a call as app_python3 does, with PyArg_ParseTuple and the types of KEMI.

What app_python3 5.6 shows to the script is a SystemError whose cause is the error itself.
"""

from __future__ import annotations

from typing import Any

from kemi.testing.api import Function
from kemi.testing.errors import SilentMistake

_LETTERS = {"int": "n", "str": "s"}
_SMALLEST, _LARGEST = -(1 << 31), (1 << 31) - 1


def check(function: Function, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments as the C function has them. Raises SystemError as the server, SilentMistake where it is silent."""
    if not function.types:
        if arguments:
            raise SilentMistake(f"KSR.{function.path} takes no arguments; the server ignores {arguments!r}")
        return ()
    try:
        return _converted(function, arguments)
    except (TypeError, ValueError, OverflowError) as error:
        text = f"<built-in function {function.name}> returned a result with an exception set"
        raise SystemError(text) from error


def _converted(function: Function, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    name = "kemi-param-" + "".join(_LETTERS[kind] for kind in function.types)
    wanted = len(function.types)
    if len(arguments) != wanted:
        plural = "" if wanted == 1 else "s"
        raise TypeError(f"{name}() takes exactly {wanted} argument{plural} ({len(arguments)} given)")
    return tuple(
        _number(value) if kind == "int" else _text(value, name, place)
        for place, (kind, value) in enumerate(zip(function.types, arguments), 1)
    )


def _number(value: Any) -> int:
    if not hasattr(type(value), "__index__"):
        raise TypeError(f"'{type(value).__name__}' object cannot be interpreted as an integer")
    number = int(value.__index__())
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
