# SPDX-License-Identifier: GPL-2.0-or-later
"""What a queue says: what became of an add, and its statistics."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

from kemi.errors import MqueueError, QueueClosed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dataclasses import dataclass, field
    from typing import NamedTuple
else:
    from kemi.frozen import NamedTuple, dataclass, field


class AddResult(IntEnum):
    """What became of an add. True only if the item is in the queue: by this call, or its key was there.

    All refusals but TOO_LARGE may pass: the same add may work later.
    """

    ADDED = 1
    KEPT = 2  # addmode 1: the older item of the key stays
    NO_MEMORY = 3
    TOO_LARGE = 4
    FULL = 5  # maxbytes
    CLOSED = 6  # there is no server, or it ended
    NOT_TRIED = 7  # add_many: what stopped it came before this one, which is not in the queue
    UNKNOWN = 8  # add_many to an engine: no reply, so it is in the queue or not

    __str__ = int.__repr__  # as an IntEnum has it since Python 3.11: a log shows the same with each

    def __bool__(self) -> bool:
        return self._value_ <= _IN_THE_QUEUE

    @property
    def reason(self) -> str:
        """A sentence for people."""
        return _REASONS[self]

    def or_raise(self) -> AddResult:
        """Itself when it is true; otherwise it raises Refused."""
        if not self:
            raise Refused(self)
        return self


class Refused(MqueueError):
    """An item was not added. Raised by `AddResult.or_raise` alone; `result` says why."""

    def __init__(self, result: AddResult) -> None:
        super().__init__(result)  # its arguments are what it pickles as
        self.result = result

    def __str__(self) -> str:
        return f"not added: {self.result.reason}"


_IN_THE_QUEUE = 2  # the last result that is true
_REASONS = {
    AddResult.ADDED: "the item was added",
    AddResult.KEPT: "an older item has this key and stays (addmode 1)",
    AddResult.NO_MEMORY: "no memory: /dev/shm or max_memory is full",
    AddResult.TOO_LARGE: "the item is too large",
    AddResult.FULL: "maxbytes of the queue is reached",
    AddResult.CLOSED: "the queue was closed by its server",
    AddResult.NOT_TRIED: "not tried, because of an error on the way; add it again",
    AddResult.UNKNOWN: "no reply came: it may be in the queue; added again, it may be there twice",
}

CLOSED = AddResult.CLOSED
NOT_TRIED = AddResult.NOT_TRIED


# What may break a batch off. What was done before is told, and another call with the rest raises what is wrong.
BREAKS_OFF = (MqueueError, MemoryError)


def rest_after(error: Exception, count: int) -> list[AddResult]:
    """Return what became of those that an error kept from being added, when others were added before."""
    return [AddResult.CLOSED if isinstance(error, QueueClosed) else AddResult.NOT_TRIED] * count


class Waited(NamedTuple):
    """How long items were in the queue, until they were fetched or delivered for the first time: a histogram.

    It is measured now and then (for each item that is reserved or waited for, else every few thousand bytes), and what
    left since the last time is counted as what was measured.
    """

    bounds: tuple[float, ...]  # seconds, inclusive
    counts: tuple[int, ...]  # items for each bound, above the one before it; one more, for all that was longer
    total: float  # seconds of all of them together


_NO_WAITS = Waited((), (0,), 0.0)


@dataclass(frozen=True)
class Stats:
    """What a queue did since it was made, and what it holds, at one moment. Moments are seconds since the epoch."""

    size: int  # items that can be taken now
    bytes: int  # of all records, with 24 bytes and padding for each; reserved ones too
    memory: int  # bytes of shared memory
    added: int
    fetched: int
    dropped: int  # the oldest, when size was exceeded; and those that were rejected, without a dead letter queue
    replaced: int  # by a newer one of the same key (addmode 2)
    refused: int  # adds, for whatever reason
    recovered: int  # times that a process died in the middle of its work here
    high_water: int  # most items at a time
    size_limit: int | None  # items; None = none
    byte_limit: int | None  # bytes; None = none
    addmode: int
    reserved: int = 0  # items that are taken and not done
    dead_lettered: int = 0  # moved to the dead letter queue: after max_deliveries, or rejected
    exhausted: int = 0  # times that an item came back after its last delivery, and no queue for dead letters took it
    max_deliveries: int | None = None  # None = any number
    oldest: float | None = None  # when the oldest item was added
    due: int = 0  # given back with a delay that is not over
    expired: int = 0  # older than maxage
    maxage: float | None = None  # seconds that an item is delivered for; None = for ever
    refusals: Mapping[AddResult, int] = field(default_factory=dict)  # `refused`, by reason
    unmoved: int = 0  # times that the dead letter queue did not take an item
    waited: Waited = _NO_WAITS  # how long items were in the queue
