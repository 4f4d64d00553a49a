"""Ctrl-C and SIGTERM without losing an item.

A signal that raises anywhere may come between the moment an item leaves the queue and the moment it is written. So it
is only noted, and heeded by `check` between two items; it raises at once only where this process sleeps, reads or
writes, and where nothing is held, or what is held is put back.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import CodeType, FrameType, FunctionType
from typing import Any, Callable, TypeVar, cast

from kemi.queue import futex

Function = TypeVar("Function", bound=Callable[..., Any])

HEEDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_raises_in: set[CodeType] = {futex.wait.__code__}  # the sleep of a fetch, before it has an item
_noted: list[int] = []


class Interrupted(BaseException):
    """A signal asks the command to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def interruptible(function: Function) -> Function:
    """Mark a function as one in which a signal may raise at any moment. It calls no Python function of ours."""
    _raises_in.add(cast(FunctionType, function).__code__)
    return function


def _note(number: int, frame: FrameType | None) -> None:
    _noted.append(number)
    if frame is not None and frame.f_code in _raises_in:
        raise Interrupted(number)


def check() -> None:
    """Raise Interrupted when a signal has come."""
    if _noted:
        raise Interrupted(_noted[0])


@contextmanager
def noted() -> Iterator[None]:
    """Note signals for the time of one command."""
    _noted.clear()
    before = {}
    for number in HEEDED:
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup, or a job in the background of a plain shell
            before[number] = signal.signal(number, _note)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@interruptible
def pause(seconds: float, watched: int | None = None) -> bool:
    """Sleep, at most until there is something to read from the descriptor `watched`; True if there is."""
    return bool(select.select([] if watched is None else [watched], [], [], seconds)[0])


def end_by(number: int) -> None:
    """End this process as the signal by itself would, so that its parent sees it."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
