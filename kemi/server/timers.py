# SPDX-License-Identifier: GPL-2.0-or-later
"""Which rtimer processes of kamailio.cfg serve answers: read at the start, when all modparam lines were taken.

rtimer keeps its timers in a list with a symbol of its own. A route's struct is believed only where its pointer to the
route's name leads to the buffer beside it, as in every version that has one.
"""

from __future__ import annotations

import ctypes
from typing import NamedTuple

from kemi.server import core, embedder
from kemi.server.structs import Pointer, StrAt

_MOST = 1000  # timers, and routes of one
_MICROSECONDS = 1  # in flags: of the interval
SLOW_GAP = 100_000  # µs between two turns of an answers process, in which answers wait


class _Route(ctypes.Structure):
    _fields_ = (
        ("timer", StrAt),
        ("route", ctypes.c_uint),
        ("buffer", ctypes.c_char * 64),
        ("name", StrAt),
        ("next", Pointer),
    )


class _Timer(ctypes.Structure):
    _fields_ = (
        ("name", StrAt),
        ("mode", ctypes.c_uint),
        ("flags", ctypes.c_uint),
        ("interval", ctypes.c_uint),
        ("routes", Pointer),
        ("next", Pointer),
    )


class Timers(NamedTuple):
    """What kamailio.cfg has for answers."""

    loaded: bool  # is rtimer?
    names: list[str]  # of timers that have a route for answers
    processes: int
    shared: list[str]  # of these, those with mode=0, which would stop Kamailio's own timer
    slow: list[str]  # of these, those that pause too long


def find(routes: tuple[str, ...]) -> Timers | None:
    """The timers that run one of these routes; None where it cannot be known."""
    try:
        handle = embedder.handle_of(b"rtimer")
        if handle is None:
            return Timers(loaded=False, names=[], processes=0, shared=[], slow=[])
        first = embedder.symbol_of(handle, b"_stm_list")
        return None if first is None else _read(Pointer.from_address(first).value, routes)
    except core.Unavailable:
        return None


def _read(address: int | None, routes: tuple[str, ...]) -> Timers | None:
    found = Timers(loaded=True, names=[], processes=0, shared=[], slow=[])
    for _ in range(_MOST):
        if not address:
            return found
        timer = _Timer.from_address(address)
        named = _runs(timer.routes, routes)
        if named is None:
            return None
        if named:
            name = timer.name.bytes().decode("utf-8", "replace")
            found.names.append(name)
            found = found._replace(processes=found.processes + timer.mode)
            if not timer.mode:
                found.shared.append(name)
            if timer.interval * (1 if timer.flags & _MICROSECONDS else 1_000_000) > SLOW_GAP:
                found.slow.append(name)
        address = timer.next
    return None


def _runs(address: int | None, routes: tuple[str, ...]) -> bool | None:
    """Does a timer run one of these routes? None if that cannot be known."""
    for _ in range(_MOST):
        if not address:
            return False
        route = _Route.from_address(address)
        if ctypes.cast(route.name.s, Pointer).value != address + _Route.buffer.offset:
            return None
        if route.name.bytes().decode("utf-8", "replace") in routes:
            return True
        address = route.next
    return None
