"""Does another process sleep? Known from the kernel, whichever of the two files it lets be read."""

from __future__ import annotations

from pathlib import Path

from kemi.queue import futex


def asleep(pid: int) -> bool:
    """Whether the main thread of a process sleeps in a futex: it waits for an item, or for a lock."""
    return "futex" in _read(pid, "wchan") or _read(pid, "syscall").startswith(f"{futex._NUMBER} ")


def in_poll(pid: int) -> bool:
    """Whether the main thread of a process waits for a file."""
    return "poll" in _read(pid, "wchan")


def _read(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text("ascii")
    except OSError:  # it is over, or that file is not for us
        return ""
