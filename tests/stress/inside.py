"""Runs inside the tested server: workers add for each request, timer processes take; each with its own books."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import KSR

import mqueue_kemi
from tests.stress.books import DEEP, Consumer, Producer

if TYPE_CHECKING:
    from collections.abc import Sequence

_ADDS = 4  # for each request and queue
_FETCHES = 40  # for each turn of a timer and queue

_producers: dict[tuple[int, str], Producer] = {}
_consumers: dict[tuple[int, str], Consumer] = {}


def producer(folder: str, queue: str) -> Producer:
    """Return this process's book for a queue."""
    key = (os.getpid(), queue)
    if key not in _producers:
        _producers[key] = Producer(folder, queue)
    return _producers[key]


def consumer(folder: str, queue: str) -> Consumer:
    """Return this process's book for a queue."""
    key = (os.getpid(), queue)
    if key not in _consumers:
        _consumers[key] = Consumer(folder, queue)
    return _consumers[key]


class Traffic:
    """What a routing script does with its queues. The generated script says which they are."""

    folder = ""
    queue_names: Sequence[str] = ()

    def request(self, _msg: Any) -> int:
        """Add some items to each queue."""
        for queue in self.queue_names:
            book = producer(self.folder, queue)
            for _ in range(_ADDS):
                if mqueue_kemi.mq_size(queue) > DEEP:
                    break
                key, value = book.next_item()
                book.done(mqueue_kemi.mq_add(queue, key, value) == 1)
        KSR.sl.send_reply(200, "OK")
        return 1

    def ksr_consume(self, _msg: Any, _event: str) -> int:
        """Take some items from each queue."""
        for queue in self.queue_names:
            book = consumer(self.folder, queue)
            for _ in range(_FETCHES):
                book.about_to_fetch()
                if mqueue_kemi.mq_fetch(queue) != 1:
                    book.nothing()
                    break
                book.took(mqueue_kemi.mqk_gete(queue), mqueue_kemi.mqv_gete(queue))
        return 1
