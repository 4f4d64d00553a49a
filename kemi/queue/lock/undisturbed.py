"""Do something that no signal handler of Python's may break off.

Handlers run between any two instructions of the main thread, and may raise. For the time of a repair they are put off:
what comes meanwhile is noted, and delivered again afterwards.
"""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType
from typing import Any, Callable

_Handler = Callable[[int, "FrameType | None"], Any]


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


def undisturbed(work: Callable[[], None]) -> None:
    """Call `work`, and let signal handlers run after it. What one of them raises comes out when `work` is done."""
    if threading.current_thread() is not threading.main_thread():
        work()  # no handler ever runs here
        return
    period = _Period()
    deferred: list[_Deferred] = []
    try:
        for number in signal.valid_signals():
            handler = signal.getsignal(number)
            if callable(handler):
                one = _Deferred(number, handler, period)
                deferred.append(one)
                signal.signal(number, one)
        work()
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
            signal.signal(one.number, one.handler)
            del deferred[-1]
            if one.came:
                one.handler(one.number, sys._getframe())  # noqa: SLF001 - public, in spite of its name
    finally:
        if deferred:
            _deliver(deferred)
