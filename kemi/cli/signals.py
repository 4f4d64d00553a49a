# SPDX-License-Identifier: GPL-2.0-or-later
"""Ctrl-C and SIGTERM without losing an item.

A signal that raises anywhere may come between the moment an item leaves the queue and the moment it is written. So it
is only noted, and heeded by `check` between two items, and wherever this process would wait: for input, for output, for
time (`wait`), and in the sleep of a fetch, which has no item yet. The first three cannot miss it, since its number also
comes through a pipe; a signal just before the sleep of a fetch is heeded at its end, so such sleeps are short.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

HEEDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_noted: list[int] = []
_pipe: list[int] = []  # its reading end, while signals are noted


class Interrupted(BaseException):
    """A signal asks the command to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def _note(number: int, _: FrameType | None) -> None:
    _noted.append(number)
    # Who has not imported these does not sleep in them.
    modules = (sys.modules.get(f"kemi.queue.{name}") for name in ("sync.futex", "kernel.choice"))
    if any(module is not None and module.sleeps() for module in modules):
        raise Interrupted(number)


def pending() -> bool:
    """Has a signal come?"""
    return bool(_noted)


def check() -> None:
    """Raise Interrupted when a signal has come."""
    if _noted:
        raise Interrupted(_noted[0])


@contextmanager
def noted() -> Iterator[None]:
    """Note signals for the time of one command."""
    _noted.clear()
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    _pipe[:] = [reader]
    wakeup = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    before = {}
    for number in HEEDED:
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup, or a job in the background of a plain shell
            before[number] = signal.signal(number, _note)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(wakeup)
        _pipe.clear()
        os.close(reader)
        os.close(writer)


def wait(reading: Sequence[int] = (), writing: Sequence[int] = (), seconds: float | None = None) -> bool:
    """Sleep until one of the descriptors is ready: True, or until the time is over: False. Raises Interrupted."""
    ready = select.select([*reading, *_pipe], writing, [], seconds)
    if _pipe and _pipe[0] in ready[0]:
        number = os.read(_pipe[0], 1)[0]
        if number in HEEDED:
            raise Interrupted(number)
    return any(ready)


def wait_until_writable(fd: int) -> None:
    """Sleep until something can be written; a signal is heeded only if there is a need to sleep."""
    if not select.select([], [fd], [], 0)[1]:
        wait(writing=[fd])


def end_by(number: int) -> None:
    """End this process as the signal by itself would, so that its parent sees it."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
