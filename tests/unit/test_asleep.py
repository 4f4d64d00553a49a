"""tests/asleep.py: who is taken for asleep is where a test strikes, and nowhere else."""

from __future__ import annotations

import ctypes
import mmap
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kemi.queue.sync import futex
from tests.asleep import asleep, doing
from tests.conftest import HANG
from tests.unit.children import fork, kill

if TYPE_CHECKING:
    from collections.abc import Callable


def wait_for_a_shared_word() -> None:
    futex.wait(ctypes.c_uint32.from_buffer(mmap.mmap(-1, 4096)), 0, HANG)


def wait_for_a_lock_of_python() -> None:
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


@pytest.mark.parametrize(
    ("wait", "counts"), [(wait_for_a_shared_word, True), (wait_for_a_lock_of_python, False)], ids=["ours", "Python's"]
)
def test_only_what_processes_share_counts(wait: Callable[[], None], counts: bool) -> None:
    """A thread that starts is waited for in a futex, too: struck there, a test tests nothing, or fails."""
    pid = fork(wait)
    try:
        try:
            Path(f"/proc/{pid}/syscall").read_text("ascii")
        except OSError:
            pytest.skip("the kernel does not tell in which call a process waits")
        until = time.monotonic() + HANG
        while f" {futex._NUMBER} " not in doing(pid):
            assert time.monotonic() < until
            time.sleep(0.001)
        deadline = time.monotonic() + (HANG if counts else 0.1)
        seen = False  # once is enough: the child looks around between two slices of its sleep
        while not seen and time.monotonic() < deadline:
            seen = asleep(pid)
            time.sleep(0.001)
        assert seen is counts
    finally:
        kill(pid)
