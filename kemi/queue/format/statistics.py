# SPDX-License-Identifier: GPL-2.0-or-later
"""A queue's statistics, from the words of its header: the one place where they are computed."""

from __future__ import annotations

import sys

from kemi.queue.format import layout
from kemi.queue.format.layout import CHUNK_HEAD
from kemi.queue.format.outcome import AddResult, Stats, Waited

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_WAITED_END = layout.W_WAITED + len(layout.WAITED_BOUNDS) + 1


def stats_of(u64: Any, memory: int, oldest: float | None, due: int) -> Stats:
    """Statistics of a queue. u64: the words of its header, which may be of no one moment, and of a corrupted segment.

    memory: bytes that the segment has. oldest: when the item was added that will be taken next. due: items that were
    given back for later.
    """
    in_flight, returned = u64[layout.W_IN_FLIGHT], u64[layout.W_RETURNED]
    due = min(due, returned)
    refusals = {
        AddResult(layout.FIRST_REFUSAL + number): u64[layout.W_REFUSED + number] for number in range(layout.REFUSALS)
    }
    popped, buried, added = u64[layout.W_POPPED], u64[layout.W_BURIED], u64[layout.W_ADDED]
    dropped, discarded = u64[layout.W_DROPPED], u64[layout.W_DISCARDED]
    dead_lettered, expired = u64[layout.W_DEAD_LETTERS], u64[layout.W_EXPIRED]
    in_log = min(max(0, added - popped - buried), sys.maxsize)
    size = min(in_log + returned - due, sys.maxsize)
    return Stats(
        size=size,
        bytes=_used_bytes(u64),
        memory=memory,
        added=added,
        fetched=max(0, popped - in_flight - dropped - discarded - dead_lettered - expired),
        dropped=dropped,
        replaced=buried + discarded,
        refused=sum(refusals.values()),
        recovered=u64[layout.W_RECOVERED],
        high_water=max(u64[layout.W_HIGH_WATER], size),
        size_limit=u64[layout.W_SIZE_LIMIT] or None,
        byte_limit=u64[layout.W_BYTE_LIMIT] or None,
        addmode=u64[layout.W_ADDMODE],
        reserved=max(0, in_flight - returned),
        dead_lettered=dead_lettered,
        exhausted=u64[layout.W_EXHAUSTED],
        max_deliveries=u64[layout.W_MAX_DELIVERIES] or None,
        oldest=oldest,
        due=due,
        expired=expired,
        unmoved=u64[layout.W_UNMOVED],
        maxage=u64[layout.W_MAX_AGE] / 1e9 or None,
        refusals=refusals,
        waited=Waited(
            layout.WAITED_BOUNDS,
            tuple(u64[layout.W_WAITED : _WAITED_END]),
            u64[layout.W_WAITED_SUM] / 1e6,
        ),
    )


def numbers_of(stats: Stats) -> dict[str, Any]:
    """Return what commands and metrics show of statistics: 0 for no limit; `oldest` is None while there is no item."""
    shown: dict[str, Any] = {}
    for name in NUMBERS:
        value = getattr(stats, name)
        shown[name] = value if name == "oldest" else value or 0
    return shown


def details_of(stats: Stats) -> dict[str, Any]:
    """Return what is no plain number, as JSON has it: refusals by reason, the histogram of the time in the queue."""
    waited = stats.waited
    return {
        "refusals": {reason_of(result): count for result, count in stats.refusals.items()},
        "waited": {"bounds": list(waited.bounds), "counts": list(waited.counts), "total": waited.total},
    }


def reason_of(result: AddResult) -> str:
    """Return a refusal's name in metrics and JSON: full, no_memory, too_large, closed."""
    return result.name.lower()


def mean_wait(waited: Waited, before: Waited | None = None) -> float | None:
    """Seconds that items were in the queue on average, all or those since an earlier look; None if there were none."""
    count, total = sum(waited.counts), waited.total
    if before is not None:
        count, total = count - sum(before.counts), total - before.total
    return max(0.0, total / count) if count > 0 else None


def wait_within(waited: Waited, share: float) -> float | None:
    """Seconds within which that share of the items left the queue, by the bounds; None if that is not known."""
    wanted, seen = share * sum(waited.counts), 0
    for bound, count in zip(waited.bounds, waited.counts):
        seen += count
        if wanted and seen >= wanted:
            return bound
    return None


_NOT_SHOWN = ("refusals", "waited")
NUMBERS = tuple(name for name in Stats.__annotations__ if name not in _NOT_SHOWN)


def _used_bytes(u64: Any) -> int:
    """Bytes of all records that are in the log or in flight."""
    size = 1 << min(u64[layout.W_CHUNK_BITS], layout.CHUNK_BITS)
    head = u64[layout.W_HEAD + (u64[layout.W_POPPED] & 1)] & size - 1
    tail = u64[layout.W_TAIL + (u64[layout.W_ADDED] & 1)] & size - 1
    between = (u64[layout.W_CHUNKS] - 1) * (size - CHUNK_HEAD) + tail - head
    return max(0, int(between - u64[layout.W_DEAD] + u64[layout.W_HELD_BYTES]))
