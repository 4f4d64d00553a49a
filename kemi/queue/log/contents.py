# SPDX-License-Identifier: GPL-2.0-or-later
"""What lies in a log as a whole: what there is to take, what is not done, and throwing it all away.

Called with the queue's lock held.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Union

from kemi.queue.format.layout import (
    CHUNK_HEAD,
    FETCH_IN_FLIGHT,
    USED,
    W_ADDED,
    W_BURIED,
    W_CHUNKS,
    W_DEAD,
    W_DROPPED,
    W_FLAGS,
    W_FREE_ENTRY,
    W_FRESH_ENTRY,
    W_HEAD,
    W_HELD_BYTES,
    W_IN_FLIGHT,
    W_MEASURED,
    W_POPPED,
    W_RETURNED,
    W_SOURCE_AT,
    W_SWEEP,
    W_TAIL,
    W_TARGET,
    W_TARGET_AT,
)
from kemi.queue.log.keyed import KeyedLog
from kemi.queue.log.plain import PlainLog

Log = Union[PlainLog, KeyedLog]

_CLEARED = (
    *(W_DEAD, W_TARGET, W_TARGET_AT, W_SOURCE_AT, W_SWEEP),
    *(W_IN_FLIGHT, W_RETURNED, W_FREE_ENTRY, W_FRESH_ENTRY, W_HELD_BYTES),
)


def waiting(log: Log, now: int) -> Iterator[int]:
    """Offsets of all records that are there to be taken, the next one first; what is not due yet is not.

    now: see `clock`.
    """
    if log.core.mapping.u64[W_RETURNED]:
        returned = [entry for entry in log.core.in_flight.entries() if entry.position and entry.due <= now]
        yield from (entry.at for entry in sorted(returned, key=lambda entry: (entry.due, entry.seq)))
    yield from log.scan()


def undone(log: Log) -> Iterator[int]:
    """Offsets of all records that are not done, the oldest first; what processes hold, too."""
    if log.core.mapping.u64[W_IN_FLIGHT]:
        yield from (entry.at for entry in log.core.in_flight.entries())
    yield from log.scan()


def clear(log: Log) -> None:
    """Throw everything away, what processes hold, too: in one commit, if there is memory for an empty log beside it."""
    while not _reset(log):
        # Dropping the items of one chunk makes room.
        core = log.core
        log.head.oldest()
        plan = core.begin()
        held = core.in_flight.entries()
        if core.in_flight.first() or core.in_log():
            log.head.plan_drop(plan)
        elif held:
            core.release(plan, held[0])
            plan.add(W_DROPPED, 1)
        core.commit(plan)
        if not plan:
            return


def _reset(log: Log) -> bool:
    """Put an empty log in the place of all chunks. False if there is no memory."""
    core = log.core
    u64 = core.mapping.u64
    items = core.in_log() + u64[W_IN_FLIGHT]
    plan = core.begin()
    chunk = core.chunks.alloc()
    if not chunk or (isinstance(log, KeyedLog) and not log.index.format(plan)):
        core.abandon()
        return False
    core.start_chunk(chunk, 0, 0, chunk + CHUNK_HEAD)
    for number, state in enumerate(core.chunks.states()):
        if state == USED:
            core.chunks.free(core.chunks.offset(number))
    plan.update(dict.fromkeys(_CLEARED, 0))
    plan[W_POPPED] = plan.u64(W_ADDED) - plan.u64(W_BURIED)
    plan[W_HEAD + (plan[W_POPPED] & 1)] = plan[W_TAIL + (plan.u64(W_ADDED) & 1)] = chunk + CHUNK_HEAD
    plan[W_MEASURED] = plan[W_POPPED]
    plan[W_CHUNKS] = 1
    plan[W_FLAGS] = plan.u64(W_FLAGS) & ~FETCH_IN_FLIGHT
    plan.add(W_DROPPED, items)
    core.commit(plan)
    return True
