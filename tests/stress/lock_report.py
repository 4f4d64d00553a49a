"""Who has a queue's lock that could not be had, and where every worker is."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

from kemi.queue.format import layout
from kemi.queue.lock import pthread

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kemi.queue.shm.segment import Segment

ASK = signal.SIGUSR1
_PATIENCE = 10.0  # seconds for a worker to write its stack
_FACTS = ("Name", "State", "Tgid", "PPid", "SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt")


def _stack_file(home: Path, pid: int) -> Path:
    return home / f"{pid}.stack"


def answer(home: Path) -> None:
    """Let this process write its stacks to a file of `home` whenever it is asked, without running Python for it."""
    fd = os.open(_stack_file(home, os.getpid()), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    faulthandler.register(ASK, fd, all_threads=True)


def report(segment: Segment, workers: Iterable[int], home: Path) -> str:
    """Tell the lock's words, its holder, and the stacks of the workers, twice: who gets on, and who does not."""
    everybody = list(workers)
    lines: list[str] = []
    for look in ("now", "a second later"):
        lines += [f"--- {look}, {time.monotonic_ns()} ---", *_of_the_lock(segment, everybody)]
        for pid in everybody:
            lines += [f"worker {_of_process(pid)}", *_stack(home, pid)]
        time.sleep(1)
    return "\n".join(lines)


def _of_the_lock(segment: Segment, workers: list[int]) -> list[str]:
    lines = []
    used = segment.words[layout.W_MUTEX]
    for number in range(used + 1):
        start = layout.MUTEX_AT + number * layout.MUTEX_STRIDE
        data = bytes(segment.bytes[start : start + 40])
        word = int.from_bytes(data[pthread.HOLDER_AT : pthread.HOLDER_AT + 4], "little")
        holder = word & pthread.HOLDER_MASK
        whose = "this process" if holder == os.getpid() else "a worker" if holder in workers else "no worker"
        lines.append(f"mutex {number} of {used}: {data.hex(' ', 4)}, word {word:#x}, held by {holder} ({whose})")
        if holder:
            lines.append(f"  {_of_process(holder)}")
    return lines


def _of_process(pid: int) -> str:
    try:
        status = Path(f"/proc/{pid}/status").read_text("utf-8")
        facts = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        wait = Path(f"/proc/{pid}/wchan").read_text("utf-8")
    except OSError as error:
        return f"{pid}: {error.strerror}"
    told = ", ".join(f"{name} {facts[name].strip()}" for name in _FACTS if name in facts)
    return f"{pid}: {told}, waits in {wait}"


def _stack(home: Path, pid: int) -> list[str]:
    path = _stack_file(home, pid)
    try:
        before = path.stat().st_size
    except FileNotFoundError:
        return ["  it has not begun"]
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, ASK)
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end and path.stat().st_size == before:
        time.sleep(0.01)
    time.sleep(0.05)  # for the rest of it
    text = path.read_text("utf-8")[before:]
    return ["  " + line for line in text.splitlines()] or [f"  no answer in {_PATIENCE:g} s"]
