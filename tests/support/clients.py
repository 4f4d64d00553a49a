"""Clients of queues, and what lies behind them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mqueue_kemi
from mqueue_kemi import AttachedQueue

if TYPE_CHECKING:
    from kemi.queue.queue import Queue

_PATIENCE = 60.0  # seconds for a lock


def attach(queue: str, where: str = "kamailio", **options: Any) -> AttachedQueue:
    """Return what `mqueue_kemi.attach` does for an instance, typed as what it is.

    Unless told otherwise it waits for a lock as long as the machine may stop who has it.
    """
    client = mqueue_kemi.attach(queue, where, **{"lock_timeout": _PATIENCE, **options})
    assert isinstance(client, AttachedQueue)
    return client


def inner(client: AttachedQueue) -> Queue:
    """Return the queue that a client uses now."""
    return client._current.queue
