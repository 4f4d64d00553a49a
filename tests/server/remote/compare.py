"""Runs inside the tested server: the same calls to the C module and to ours, step by step.

One seed gives one sequence. It may be walked in pieces by several workers in turn: the queues are common to them,
what each has fetched is its own, and both sides must keep that apart in the same way.
"""

from __future__ import annotations

from typing import Callable

import KSR

import mqueue_kemi
from tests.server.remote.calls import steps


def _same(code: object) -> object:
    return code


def _size(code: object) -> object:
    """Empty and unknown: 0 and -1 from the C module's KEMI, -1 and -2 as it is documented."""
    return {0: -1, -1: -2}.get(code, code)  # type: ignore[call-overload]


def _empty(text: object) -> object:
    """Nothing fetched: None from the C module, which ignores the mode of gete."""
    return "" if text is None else text


def _word(text: object) -> object:
    return "<null>" if text is None else text


# The documented differences: what ours must return where the C module returns something else.
DIFFERENT: dict[str, Callable[[object], object]] = {
    "mq_size": _size,
    "mqk_gete": _empty,
    "mqv_gete": _empty,
    "mqk_getw": _word,
    "mqv_getw": _word,
}


def differences(seed: int, first: int, last: int) -> list[str]:
    """Make the calls first..last of a sequence on both sides; say where they differ."""
    sequence = steps(seed)
    found = []
    for number, (name, arguments) in zip(range(last), sequence):
        if number < first:
            continue
        theirs = getattr(KSR.mqueue, name)(*arguments)
        ours = getattr(mqueue_kemi, name)(*arguments)
        wanted = DIFFERENT.get(name, _same)(theirs)
        if ours != wanted:
            found.append(f"step {number}: {name}{arguments}: C {theirs!r}, wanted {wanted!r}, ours {ours!r}")
    return found
