"""A server as its clients meet it: it makes the queue q, and ends it."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from kemi.owner import this_process
from kemi.queue.catalog.registry import Registry
from kemi.queue.queue import Queue

if TYPE_CHECKING:
    from collections.abc import Callable


class Server:
    """What a server does to its queue."""

    def __init__(self, instance: str) -> None:
        self.instance = instance
        self.queues: list[Queue] = []  # that it has to end

    def start(self, *, closed: bool = False) -> Queue:
        self.registry = Registry.create(self.instance, this_process(), 64 << 20)
        self.queue = Queue.create(self.instance, "q", window=16 << 20, registry=self.registry, closed=closed)
        self.queues.append(self.queue)
        return self.queue

    def stop(self) -> None:
        while self.queues:
            self.queues.pop().remove()
            self.registry.segment.unlink()


def later(seconds: float, *calls: Callable[[], object]) -> threading.Thread:
    """Make calls in another thread, a while from now."""

    def run() -> None:
        time.sleep(seconds)
        for call in calls:
            call()

    thread = threading.Thread(target=run)
    thread.start()
    return thread
