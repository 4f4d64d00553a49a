"""A server as its clients meet it: it makes the queue q, and ends it."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from kemi.owner import this_process
from kemi.queue.catalog.registry import Registry
from kemi.queue.queue import Queue
from tests.support.clients import attach

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kemi.queue.client.attached import AttachedQueue


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


@pytest.fixture
def server(instance: str) -> Iterator[Server]:
    """Give a server that runs, with the queue q. A file of tests takes these two by their names."""
    running = Server(instance)
    running.start()
    yield running
    running.stop()


@pytest.fixture
def queue(server: Server) -> Iterator[AttachedQueue]:
    """Give its queue, attached."""
    with attach("q", server.instance) as attached_queue:
        yield attached_queue


def later(seconds: float, *calls: Callable[[], object]) -> threading.Thread:
    """Make calls in another thread, a while from now."""

    def run() -> None:
        time.sleep(seconds)
        for call in calls:
            call()

    thread = threading.Thread(target=run)
    thread.start()
    return thread
