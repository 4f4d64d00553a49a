"""The server's part without a server: make the queues of an instance, look into them, end them."""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING, Any

import mqueue_kemi
from kemi import app
from kemi.instance import queues
from kemi.queue.format.layout import W_WAITERS

if TYPE_CHECKING:
    from kemi.queue.queue import Queue

PATIENCE = "20"  # seconds for the lock, so that a busy machine decides nothing
_serial = itertools.count(1)


class Serve:
    """One instance in this process. Forked processes are its workers; others attach by its name."""

    def __init__(self) -> None:
        self.instance = f"processes-{os.getpid()}-{next(_serial)}"
        self.running = False

    def __call__(self, *definitions: str, **params: str) -> Queue:
        """Make the queues, and return the first one."""
        for name, value in {"instance": self.instance, "max_memory": "4G", "lock_timeout": PATIENCE, **params}.items():
            mqueue_kemi.modparam("mqueue", name, value)
        for text in definitions:
            mqueue_kemi.modparam("mqueue", "mqueue", text)
        self.running = True
        mqueue_kemi.mod_init(object())
        return next(iter(queues.values()))

    def stop(self) -> None:
        """Take the instance's names away."""
        if self.running:
            self.running = False
            app.stop_now()


def items(queue: Queue) -> list[tuple[str, str]]:
    """Return what is in a queue, which stays."""
    return [(item.key, item.value) for item in queue.peek(1 << 30)]


def sleepers(queue: Queue) -> int:
    """Return how many processes the queue believes to wait."""
    return int(queue.segment.words[W_WAITERS])


def registry_of(queue: Queue) -> Any:
    """Return the instance's table of memory, as this queue uses it."""
    memory: Any = queue.handle.memory
    return memory._registry


def file_sizes(queue: Queue) -> tuple[int, int]:
    """Return length and memory of the segment's file, bytes."""
    status = os.fstat(queue.segment.fd)
    return status.st_size, status.st_blocks * 512
