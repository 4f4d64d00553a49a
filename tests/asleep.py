"""Does another process sleep, and what for? The kernel knows, by whichever file it lets be read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kemi.queue.sync import futex

if TYPE_CHECKING:
    from collections.abc import Callable

_WORDS = 9  # of /proc/PID/syscall while a process waits: number, six arguments, stack, instruction
_WAIT = 0  # FUTEX_WAIT, of a futex that processes share
_PRIVATE = 128  # FUTEX_PRIVATE_FLAG: of one process's own, as all of Python's locks are


def asleep(pid: int) -> bool:
    """Whether the main thread of a process sleeps in a futex that processes share: for an item, or for a lock of ours.

    A lock of Python's own (the interpreter's, that of a thread which starts) is none, where the kernel tells.
    """
    words = _read(pid, "syscall").split()
    if words:
        return words[0] == str(futex._NUMBER) and len(words) == _WORDS and not int(words[2], 16) & _PRIVATE
    return "futex" in _read(pid, "wchan")


def in_shared_futex(pid: int) -> bool:
    """Whether the main thread of a process waits, without an end, for a lock in anonymous shared memory.

    Kamailio has its locks there, and we have none. Only processes forked from the one that made it reach such memory.
    """
    words = _read(pid, "syscall").split()
    if len(words) < _WORDS or words[0] != str(futex._NUMBER):
        return False
    address, operation, _value, timeout = (int(word, 16) for word in words[1:5])
    if operation != _WAIT or timeout:
        return False
    for line in _read(pid, "maps").splitlines():
        span, flags, *_, path = line.split(maxsplit=5)
        first, last = (int(end, 16) for end in span.split("-"))
        if first <= address < last:
            return flags.endswith("s") and path == "/dev/zero (deleted)"
    return False


def in_poll(pid: int) -> bool:
    """Whether the main thread of a process waits for a file."""
    return "poll" in _read(pid, "wchan")


def idle(pid: int) -> bool:
    """Whether the main thread of a process waits for whatever it may be."""
    return _read(pid, "stat").rpartition(")")[2].split()[:1] == ["S"]


def doing(pid: int) -> str:
    """What the main thread of a process is in, for a message."""
    state = _read(pid, "stat").rpartition(")")[2].split()[:1]
    return " ".join(["state", *state, _read(pid, "wchan"), _read(pid, "syscall").strip()])


def has_run(pid: int) -> Callable[[], bool]:
    """Return a condition: since now the process has woken up, looked around, and gone to sleep again, twice."""
    before = _sleeps(pid)
    return lambda: _sleeps(pid) >= before + 2


def _sleeps(pid: int) -> int:
    """How often a process has begun to wait."""
    lines = _read(pid, "status").splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches:")), 0)


def _read(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text("ascii")
    except OSError:  # it is over, or that file is not for us
        return ""
