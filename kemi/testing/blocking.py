# SPDX-License-Identifier: GPL-2.0-or-later
"""Notices a route that makes its SIP worker wait: a sleep, a socket, a thread of its own.

Only calls that can wait are looked at, and of these only the time that is neither on a processor nor in the queue for
one: a busy machine or a slow disk makes no route slow.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from types import FrameType
from typing import Any, Optional

LONGEST = 0.05  # seconds
_SCHEDULED = "/proc/thread-self/schedstat"  # ns on a processor, ns in the queue for one, turns
ADVICE = "its worker serves no other call meanwhile; put the work into a queue and let another process do it"
REPLY_LOCK = (
    "it has the lock of its transaction's replies meanwhile: a SIP worker that gets a retransmission of the call "
    "waits, and so does every other answer; for something slow, ask again"
)

# C functions of the standard library that wait for something outside: by module, or by the type that they belong to.
# What a driver of a database or a client of a service does in C counts as well; a file on a disk does not.
_WAITING = {
    "time": ("sleep",),
    "_socket": ("getaddrinfo", "gethostbyname", "gethostbyname_ex", "gethostbyaddr", "getnameinfo"),
    "select": ("select",),
    "posix": ("wait", "waitpid", "wait3", "wait4", "waitid", "system", "read", "readv"),
    "_signal": ("pause", "sigtimedwait", "sigwait", "sigwaitinfo"),
    "fcntl": ("flock", "lockf"),
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
_READS = ("read", "read1", "readall", "readinto", "readline", "readlines", "peek")  # of a pipe
_SQLITE = ("execute", "executemany", "executescript", "commit", "fetchone", "fetchmany", "fetchall")
_OURS = ("wait", "pause")  # of kemi.queue's futex: a call of a queue that waits for an item, or for its lock
_NATIVE = "pop_wait"  # the native kernel's, which sleeps in C
_STANDARD = getattr(sys, "stdlib_module_names", None)  # 3.10


class BlockingRoute(UserWarning):
    """A route has waited, or has started a thread."""


@contextlib.contextmanager
def watched(name: str, advice: str = ADVICE) -> Iterator[None]:
    """Warn if what runs meanwhile waits for more than 50 ms, or starts a thread. advice: what to do then."""
    with _threads() as started, _waits() as waits:
        yield
    started += waits.threads
    if started:
        warnings.warn(
            f"{name} has started a thread ({', '.join(started)}): in a server with threads_mode=0 it stands still "
            "while no route runs; put the work into a queue and let another process do it",
            BlockingRoute,
            stacklevel=4,
        )
    if waits.seconds > LONGEST:
        text = f"{name} has waited for {waits.seconds:.2f} s, longest in {waits.longest[1]}: {advice}"
        warnings.warn(text, BlockingRoute, stacklevel=4)


class _Waits:
    """A profile function that adds up what calls wait."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.longest = (0.0, "")
        self.threads: list[str] = []  # that not even the module threading knows
        self._depth = 0
        self._begun: tuple[int, int, int] | None = None

    def __call__(self, frame: FrameType, event: str, function: Any) -> None:
        if event == "c_call":
            if self._depth or _may_wait(function):
                self._enter()
            elif _starts_thread(frame, function):
                self.threads.append(_name_of(function))
        elif event == "call":
            if _is_ours(frame):
                self._enter()
        elif self._depth and (event != "return" or _is_ours(frame)):
            self._leave(frame, function)

    def _enter(self) -> None:
        self._depth += 1
        if self._depth == 1:
            self._begun = _times()

    def _leave(self, frame: FrameType, function: Any) -> None:
        self._depth -= 1
        if not self._depth:
            is_queue = _is_ours(frame) or _is_native(function)
            self._count(frame, "a call of a queue" if is_queue else _name_of(function))

    def _count(self, frame: FrameType, name: str) -> None:
        waited = _waited(self._begun)
        self.seconds += waited
        if waited > self.longest[0]:
            caller = _outside(frame)
            place = f"{os.path.basename(caller.f_code.co_filename)}:{caller.f_lineno}"
            self.longest = (waited, f"{name} ({place})")


def _may_wait(function: Any) -> bool:
    name = getattr(function, "__name__", "")
    module = getattr(function, "__module__", None)
    if module is not None:
        return name in _WAITING.get(module, ()) or _is_foreign(module)
    owner = getattr(function, "__self__", None)
    kind = type(owner)
    if kind.__module__ == "_io":
        return name in _READS and _is_no_file(owner)
    if kind.__module__ == "sqlite3":
        return name in _SQLITE
    return _is_native(function) or name in _METHODS.get(kind.__name__, ()) or _is_foreign(kind.__module__)


def _is_foreign(module: object) -> bool:
    """Whether it is neither Python's nor ours."""
    top = str(module).partition(".")[0]
    return _STANDARD is not None and top not in _STANDARD and top not in ("kemi", "KSR", "__main__")


def _is_no_file(stream: Any) -> bool:
    """Whether it is read from a pipe or a socket."""
    try:
        return not stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
    except (OSError, ValueError):
        return False


def _starts_thread(frame: FrameType, function: Any) -> bool:
    name = getattr(function, "__name__", "")
    return name in ("start_new_thread", "start_new") and frame.f_globals.get("__name__") != "threading"


def _is_ours(frame: FrameType) -> bool:
    module = str(frame.f_globals.get("__name__"))
    return frame.f_code.co_name in _OURS and module.startswith("kemi.queue.") and module.endswith(".futex")


def _is_native(function: Any) -> bool:
    owner = type(getattr(function, "__self__", None))
    return getattr(function, "__name__", "") == _NATIVE and owner.__module__.startswith("kemi.queue.")


def _name_of(function: Any) -> str:
    owner = getattr(function, "__module__", None) or type(getattr(function, "__self__", None)).__name__
    return f"{owner}.{getattr(function, '__name__', '?')}"


def _outside(frame: FrameType) -> FrameType:
    """The nearest caller that is not in the standard library or in ours."""
    library = os.path.dirname(os.__file__)
    found: Optional[FrameType] = frame  # noqa: UP045
    while found is not None:
        path, module = found.f_code.co_filename, str(found.f_globals.get("__name__"))
        standard = path.startswith(library) and "-packages" not in path
        if not standard and module.partition(".")[0] not in ("kemi", "mqueue_kemi"):
            return found
        found = found.f_back
    return frame


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
