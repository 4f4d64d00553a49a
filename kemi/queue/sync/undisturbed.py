# SPDX-License-Identifier: GPL-2.0-or-later
"""Do something that no signal handler of Python's may break off.

Handlers run between any two instructions of the main thread, and may raise. For the time of a repair they are put off:
what comes meanwhile is noted, and delivered again afterwards.
"""

from __future__ import annotations

import signal
import sys
import threading

# Those of C: in the module's own, which are Python, a handler may run, and they take a ValueError for one of theirs.
from _signal import getsignal as _handler_of  # type: ignore[import-not-found]
from _signal import signal as _set_handler
from types import FrameType
from typing import Any, Callable, TypeVar

_Handler = Callable[[int, "FrameType | None"], Any]
_Result = TypeVar("_Result")
_NUMBERS = tuple(map(int, signal.valid_signals()))


class _Period:
    """The time for which handlers are put off."""

    def __init__(self) -> None:
        self.lasts = True


class _Deferred:
    """Stands for a handler. Should it outlive its period, it leads on to it."""

    def __init__(self, number: int, handler: _Handler, period: _Period) -> None:
        self.number = number
        self.handler = handler
        self.period = period
        self.came = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.period.lasts:
            self.came = True
        else:
            self.handler(number, frame)


def undisturbed(work: Callable[[], _Result]) -> _Result:
    """Return what `work` returns, and let signal handlers run after it.

    What one of them raises comes out when `work` is done, and what that returned is lost.
    """
    if threading.current_thread() is not threading.main_thread():
        return work()  # no handler ever runs here
    period = _Period()
    deferred: list[_Deferred] = []
    try:
        for number in _NUMBERS:
            handler = _handler_of(number)
            if callable(handler):
                one = _Deferred(number, handler, period)
                deferred.append(one)
                _set_handler(number, one)
        return work()
    finally:
        period.lasts = False  # no call, so whatever comes next does not put them off for ever
        try:
            _deliver(deferred)
        finally:
            if deferred:
                _deliver(deferred)


def _deliver(deferred: list[_Deferred]) -> None:
    """Put the handlers back, and call those whose signal came, also when one of them raises."""
    try:
        while deferred:
            one = deferred[-1]
            _set_handler(one.number, one.handler)
            del deferred[-1]
            if one.came:
                one.handler(one.number, sys._getframe())  # noqa: SLF001 - public, in spite of its name
    finally:
        if deferred:
            _deliver(deferred)
