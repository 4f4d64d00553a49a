"""What a queue says: what became of an add, and its statistics."""

from __future__ import annotations

from typing import NamedTuple

from kemi.queue.ring import FULL, NO_MEMORY, TOO_LARGE
from kemi.queue.segment import SHM_DIR

# What became of an add, beside the outcomes of the ring.
CLOSED = 6
NOT_TRIED = 7

REASONS = {
    NO_MEMORY: f"no memory: {SHM_DIR} or max_memory is full",
    TOO_LARGE: "the item is too large",
    FULL: "maxbytes of the queue is reached",
    CLOSED: "the queue was closed by its server",
    NOT_TRIED: "the queue's lock could not be had in time",
}


class Stats(NamedTuple):
    """What a queue did since it was made, and what it holds."""

    size: int  # items that can be taken
    bytes: int  # of all records, with 24 bytes and padding for each; reserved ones too
    memory: int  # bytes of shared memory
    added: int
    fetched: int
    dropped: int  # the oldest, when size was exceeded
    replaced: int  # by a newer one of the same key (addmode 2)
    refused: int  # for lack of memory, over maxbytes, or too large
    recovered: int  # times that a process died in the middle of its work here
    high_water: int  # most items at a time
    size_limit: int  # 0 = none
    byte_limit: int  # 0 = none
    addmode: int
    reserved: int = 0  # items that are taken and not done
    dead_lettered: int = 0  # moved to the queue dead_letter, after max_deliveries
    exhausted: int = 0  # times that an item came back after its last delivery, and no queue for dead letters took it
    max_deliveries: int = 0  # 0 = any number
    oldest: float | None = None  # when the oldest item was added, seconds since the epoch
