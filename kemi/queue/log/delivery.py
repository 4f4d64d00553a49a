"""Holding a record and being done with it, the way that is gone most: lists of the journal, spelled out.

They store what `Core.take` and `Core.release` plan, where a record lies in one chunk, which stays in use. Called with
the queue's lock held.
"""

from __future__ import annotations

import struct

from kemi.errors import CorruptedError
from kemi.queue.format.layout import (
    C_DETACHED,
    C_HELD,
    E_DELIVERIES,
    E_NEXT_FREE,
    E_POSITION,
    E_SEQ,
    ENTRY,
    ENTRY_BYTES,
    FETCH_IN_FLIGHT,
    PENDING,
    STEP_MASK,
    U32,
    W_ADDED,
    W_BURIED,
    W_FLAGS,
    W_FREE_ENTRY,
    W_FRESH_ENTRY,
    W_HEAD_ODD,
    W_HELD_BYTES,
    W_HIGH_WATER,
    W_IN_FLIGHT,
    W_POPPED,
)
from kemi.queue.log.core import Core, Delivery
from kemi.queue.store.inflight import Holder

_lists = {length: struct.Struct(f"={length}Q").pack for length in (14, 16, 18)}


def _pack_list(pairs: tuple[int, ...]) -> bytes:
    """The bytes of a list of the journal. Raises CorruptedError for a number that is none."""
    try:
        return _lists[len(pairs)](*pairs)
    except struct.error:
        raise CorruptedError(f"an operation would store a number that is none: {pairs}") from None


def hold(core: Core, at: int, length: int, holder: Holder, lead: int = 0, link: int = 0) -> int:
    """Hold the oldest record, where nothing but words of the header, an entry and the chunk change.

    lead, link: of a keyed log, the u32 word that leads to the record, and what it is to lead to. Returns the number
    of the in-flight entry; -1, nothing having changed, where `Core.take` is needed.
    """
    u64, mapping = core.mapping.u64, core.mapping
    number = u64[W_FREE_ENTRY] - 1
    end = at + length
    if number < 0 or not end & core.chunks.mask or (at ^ end) >> core.chunks.bits:
        return -1
    row = core.in_flight.row(number)
    following = mapping.u32[row * 2 + E_NEXT_FREE]
    popped = u64[W_POPPED]
    head, held = W_HEAD_ODD - (popped & 1), (at >> core.chunks.bits << core.chunks.bits - 3) + C_HELD
    in_flight, chunk_held, size = u64[W_IN_FLIGHT] + 1, u64[held] + 1, u64[W_HELD_BYTES] + length
    flags = u64[W_FLAGS] | FETCH_IN_FLIGHT
    pairs = (
        *(head, end, W_POPPED, popped + 1, W_FREE_ENTRY, following, row, at, W_IN_FLIGHT, in_flight),
        *(held, chunk_held, W_HELD_BYTES, size, W_FLAGS, flags | PENDING),
        *((U32 + lead, link) if lead else ()),
    )
    packed = _pack_list(pairs)
    mapping.bytes[row * 8 : row * 8 + ENTRY_BYTES] = ENTRY.pack(
        0, popped + 1, 0, holder.life, holder.start, holder.pid, holder.namespace, 1, 0, following, 0
    )
    if (high := u64[W_ADDED] - popped - u64[W_BURIED]) > u64[W_HIGH_WATER]:
        u64[W_HIGH_WATER] = high
    core.journal.begin()
    core.journal.store_list(packed)
    u64[head] = end
    u64[W_POPPED] = popped + 1
    u64[W_FREE_ENTRY] = following
    u64[row] = at
    u64[W_IN_FLIGHT] = in_flight
    u64[held] = chunk_held
    u64[W_HELD_BYTES] = size
    if lead:
        mapping.u32[lead] = link
    u64[W_FLAGS] = flags | PENDING
    core.journal.close()
    u64[W_FLAGS] = flags
    return int(number)


def ack(core: Core, delivery: Delivery, counter: int = 0) -> bool:
    """A held record is done. False if it is not this delivery any more.

    counter: a word of the statistics to count it in.
    """
    if not counter and _ack(core, delivery):
        return True
    entry = core.in_flight.held(*delivery[:3])
    if entry is None:
        return False
    plan = core.begin()
    core.release(plan, entry)
    if counter:
        plan.add(counter, 1)
    core.commit(plan)
    return True


def _ack(core: Core, delivery: Delivery) -> bool:
    """As `ack`, where nothing but words of the header, the entry and the chunk change.

    False, nothing having changed, where it is not so, or it is not this delivery any more.
    """
    number, seq, turn, _ = delivery
    u64, u32 = core.mapping.u64, core.mapping.u32
    row = core.in_flight.row(number)
    half = row * 2
    at = u64[row]
    if not at or number >= u64[W_FRESH_ENTRY] or u64[row + E_SEQ] != seq or u32[half + E_DELIVERIES] != turn:
        return False
    length = core.records.step_at(at) & STEP_MASK
    chunk = at >> core.chunks.bits << core.chunks.bits - 3
    chunk_held = u64[chunk + C_HELD] - 1
    if (
        u32[half + E_POSITION]
        or (at ^ at + length - 1) >> core.chunks.bits
        or not (chunk_held or not u64[chunk + C_DETACHED])
    ):
        return False
    following, in_flight, size = u64[W_FREE_ENTRY], u64[W_IN_FLIGHT] - 1, u64[W_HELD_BYTES] - length
    flags = u64[W_FLAGS] if in_flight else u64[W_FLAGS] & ~FETCH_IN_FLIGHT
    if following > core.in_flight.capacity:
        return False
    pairs = (
        *(row, 0, W_FREE_ENTRY, number + 1, W_IN_FLIGHT, in_flight, chunk + C_HELD, chunk_held),
        *(W_HELD_BYTES, size, W_FLAGS, flags | PENDING, U32 + half + E_NEXT_FREE, following),
    )
    packed = _pack_list(pairs)
    core.journal.begin()
    core.journal.store_list(packed)
    u64[row] = 0
    u64[W_FREE_ENTRY] = number + 1
    u64[W_IN_FLIGHT] = in_flight
    u64[chunk + C_HELD] = chunk_held
    u64[W_HELD_BYTES] = size
    u32[half + E_NEXT_FREE] = following
    u64[W_FLAGS] = flags | PENDING
    core.journal.close()
    u64[W_FLAGS] = flags
    return True
