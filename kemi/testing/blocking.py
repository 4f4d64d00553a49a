"""Notices a route that makes its SIP worker wait: a sleep, a socket, a thread of its own.

Only calls that can wait are looked at, and of these only the time that is neither on a processor nor in the queue for
one: a busy machine or a slow disk makes no route slow.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from types import FrameType
from typing import Any, Optional

LONGEST = 0.05  # seconds
_SCHEDULED = "/proc/thread-self/schedstat"  # ns on a processor, ns in the queue for one, turns
_ADVICE = "its worker serves no other call meanwhile; put the work into a queue and let another process do it"

# C functions of the standard library that wait for something outside: by module, or by the type that they belong to.
_WAITING = {
    "time": ("sleep",),
    "_socket": ("getaddrinfo", "gethostbyname", "gethostbyname_ex", "gethostbyaddr", "getnameinfo"),
    "select": ("select",),
    "posix": ("wait", "waitpid", "wait3", "wait4", "waitid", "system"),
}
_METHODS = {
    "socket": (
        "accept",
        "connect",
        "connect_ex",
        "recv",
        "recv_into",
        "recvfrom",
        "recvmsg",
        "send",
        "sendall",
        "sendto",
    ),
    "poll": ("poll",),
    "epoll": ("poll",),
    "lock": ("acquire",),
    "RLock": ("acquire",),
    "_SSLSocket": ("read", "write", "do_handshake"),
}
_STANDARD = getattr(sys, "stdlib_module_names", None)  # 3.10


class BlockingRoute(UserWarning):
    """A route has waited, or has started a thread."""


@contextlib.contextmanager
def watched(name: str) -> Iterator[None]:
    """Warn if what runs meanwhile waits for more than 50 ms, or starts a thread."""
    with _threads() as started, _waits() as waits:
        yield
    if started:
        warnings.warn(
            f"{name} has started a thread ({', '.join(started)}): in a server with threads_mode=0 it stands still "
            "while no route runs; put the work into a queue and let another process do it",
            BlockingRoute,
            stacklevel=4,
        )
    if waits.seconds > LONGEST:
        text = f"{name} has waited for {waits.seconds:.2f} s, longest in {waits.longest[1]}: {_ADVICE}"
        warnings.warn(text, BlockingRoute, stacklevel=4)


class _Waits:
    """A profile function that adds up what calls wait."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.longest = (0.0, "")
        self._depth = 0
        self._begun: tuple[int, int, int] | None = None

    def __call__(self, frame: FrameType, event: str, function: Any) -> None:
        if event == "c_call" and (self._depth or _may_wait(function)):
            self._depth += 1
            if self._depth == 1:
                self._begun = _times()
        elif event in ("c_return", "c_exception") and self._depth:
            self._depth -= 1
            if not self._depth:
                self._count(frame, function)

    def _count(self, frame: FrameType, function: Any) -> None:
        waited = _waited(self._begun)
        self.seconds += waited
        if waited > self.longest[0]:
            caller = _outside(frame)
            place = f"{os.path.basename(caller.f_code.co_filename)}:{caller.f_lineno}"
            self.longest = (waited, f"{_name_of(function)} ({place})")


def _may_wait(function: Any) -> bool:
    name = getattr(function, "__name__", "")
    module = getattr(function, "__module__", None)
    if module is not None:
        if name in _WAITING.get(module, ()):
            return True
        top = module.partition(".")[0]
        # What a driver of a database or a client of a service does in C.
        return _STANDARD is not None and top not in _STANDARD and top not in ("kemi", "KSR", "__main__")
    return name in _METHODS.get(type(getattr(function, "__self__", None)).__name__, ())


def _name_of(function: Any) -> str:
    owner = getattr(function, "__module__", None) or type(getattr(function, "__self__", None)).__name__
    return f"{owner}.{getattr(function, '__name__', '?')}"


def _outside(frame: FrameType) -> FrameType:
    """The nearest caller that is not the standard library's."""
    library = os.path.dirname(os.__file__)
    found: Optional[FrameType] = frame  # noqa: UP045
    while (
        found is not None
        and found.f_code.co_filename.startswith(library)
        and "-packages" not in found.f_code.co_filename
    ):
        found = found.f_back
    return found or frame


@contextlib.contextmanager
def _waits() -> Iterator[_Waits]:
    """Whoever profiles already goes on, and nothing is looked at."""
    waits = _Waits()
    if sys.getprofile() is not None or _times() is None:
        yield waits
        return
    sys.setprofile(waits)
    try:
        yield waits
    finally:
        sys.setprofile(None)


def _times() -> tuple[int, int, int] | None:
    """Now, time on a processor, time in the queue; ns. None where the kernel does not say."""
    now = time.monotonic_ns()
    try:
        with open(_SCHEDULED, "rb") as file:
            on, queued, _ = map(int, file.read().split())
    except (OSError, ValueError):
        return None
    return (now, on, queued)


def _waited(before: tuple[int, int, int] | None) -> float:
    after = _times()
    if before is None or after is None:
        return 0.0
    total, on, queued = (new - old for new, old in zip(after, before))
    return max(0, total - on - queued) / 1e9


@contextlib.contextmanager
def _threads() -> Iterator[list[str]]:
    """Names of the threads that are started by this one meanwhile."""
    started: list[str] = []
    mine = threading.get_ident()
    original = threading.Thread.start

    def start(self: threading.Thread) -> None:
        if threading.get_ident() == mine:
            started.append(self.name)
        original(self)

    threading.Thread.start = start  # type: ignore[method-assign]
    try:
        yield started
    finally:
        threading.Thread.start = original  # type: ignore[method-assign]
