# SPDX-License-Identifier: GPL-2.0-or-later
"""What a function of KEMI gives: which values a test may put in its place."""

from __future__ import annotations

from typing import Any

from kemi.testing.api import Function

_KINDS: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "bool": (bool,),
    "none": (int, type(None)),
    "xval": (str, int, type(None)),
}
_WELL: dict[str, Any] = {"int": 1, "bool": True, "none": None, "xval": None}
_EXAMPLES = {"int": "1", "bool": "True", "none": "None", "xval": '"..."'}


def fits(function: Function, result: Any) -> bool:
    """Return True for a value that such a function gives."""
    kinds = _KINDS[function.returns]
    return isinstance(result, kinds) and (bool in kinds or not isinstance(result, bool))


def check(function: Function, result: Any) -> None:
    """Raise TypeError for a value that such a function never gives."""
    if not fits(function, result):
        names = " or ".join("None" if kind is type(None) else kind.__name__ for kind in _KINDS[function.returns])
        raise TypeError(f"KSR.{function.path} gives {names}, not {result!r}")


def success(function: Function) -> Any:
    """Return what such a function gives when all went well."""
    return _WELL[function.returns]


def example(function: Function) -> str:
    """Return such a value as it is written in a test."""
    return _EXAMPLES[function.returns]
