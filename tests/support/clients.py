"""Clients of queues, and what lies behind them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mqueue_kemi
from mqueue_kemi import AttachedQueue

if TYPE_CHECKING:
    from kemi.queue.queue import Queue


def attach(queue: str, where: str = "kamailio", **options: Any) -> AttachedQueue:
    """Return what `mqueue_kemi.attach` does for an instance, typed as what it is."""
    client = mqueue_kemi.attach(queue, where, **options)
    assert isinstance(client, AttachedQueue)
    return client


def inner(client: AttachedQueue) -> Queue:
    """Return the queue that a client uses now."""
    return client._current.queue
