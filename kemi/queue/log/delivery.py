# SPDX-License-Identifier: GPL-2.0-or-later
"""Holding a record and being done with it, the way that is gone most: an operation of the journal, spelled out.

They store what `Core.take` and `Core.release` plan, where a record lies in one chunk, which stays in use. Called with
the queue's lock held.
"""

from __future__ import annotations

import struct

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
    JOURNAL_AT,
    PENDING,
    RECORD_HEAD,
    STEP_MASK,
    U32,
    W_ADDED,
    W_BURIED,
    W_COMMIT,
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

_pack_entry = ENTRY.pack
_pack_hold, _pack_lead, _pack_ack = (struct.Struct(f"={length}Q").pack for length in (16, 18, 14))


def hold(core: Core, at: int, length: int, holder: Holder, lead: int = 0, link: int = 0) -> int:
    """Hold the oldest record, where nothing but words of the header, an entry and the chunk change.

    lead, link: of a keyed log, the u32 word that leads to the record, and what it is to lead to. Returns the number
    of the in-flight entry; -1, nothing having changed, where `Core.take` is needed.
    """
    mapping, chunks = core.mapping, core.chunks
    u64 = mapping.u64
    number: int = u64[W_FREE_ENTRY] - 1
    end = at + length
    if number < 0 or (at ^ end) >> chunks.bits:
        return -1
    row = core.in_flight.row(number)
    following = mapping.u32[row * 2 + E_NEXT_FREE]
    popped = u64[W_POPPED]
    head, held = W_HEAD_ODD - (popped & 1), (at >> chunks.bits << chunks.bits - 3) + C_HELD
    in_flight, chunk_held, size = u64[W_IN_FLIGHT] + 1, u64[held] + 1, u64[W_HELD_BYTES] + length
    flags = u64[W_FLAGS] | FETCH_IN_FLIGHT
    pending = flags | PENDING
    pairs = (
        *(head, end, W_POPPED, popped + 1, W_FREE_ENTRY, following, row, at, W_IN_FLIGHT, in_flight),
        *(held, chunk_held, W_HELD_BYTES, size, W_FLAGS, pending),
    )
    packed = _pack_lead(*pairs, U32 + lead, link) if lead else _pack_hold(*pairs)
    mapping.bytes[row * 8 : row * 8 + ENTRY_BYTES] = _pack_entry(
        0, popped + 1, 0, holder.life, holder.start, holder.pid, holder.namespace, 1, 0, following, 0
    )
    if (high := u64[W_ADDED] - popped - u64[W_BURIED]) > u64[W_HIGH_WATER]:
        u64[W_HIGH_WATER] = high
    u64[W_FLAGS] = u64[W_FLAGS] | PENDING
    mapping.bytes[JOURNAL_AT : JOURNAL_AT + len(packed)] = packed
    u64[W_COMMIT] = len(packed) >> 4  # commit
    u64[head] = end
    u64[W_POPPED] = popped + 1
    u64[W_FREE_ENTRY] = following
    u64[row] = at
    u64[W_IN_FLIGHT] = in_flight
    u64[held] = chunk_held
    u64[W_HELD_BYTES] = size
    if lead:
        mapping.u32[lead] = link
    u64[W_FLAGS] = pending
    u64[W_COMMIT] = 0
    u64[W_FLAGS] = flags
    return number


def ack(core: Core, delivery: Delivery, counter: int = 0) -> bool:
    """Be done with a held record. Return False if it is not this delivery any more.

    counter: a word of the statistics to count it in.
    """
    number, seq, turn, _ = delivery
    mapping, chunks = core.mapping, core.chunks
    u64, u32 = mapping.u64, mapping.u32
    row = core.in_flight.row(number)
    half = row * 2
    at = u64[row]
    following = u64[W_FREE_ENTRY]
    if (
        u64[row + E_SEQ] != seq
        or u32[half + E_DELIVERIES] != turn
        or u32[half + E_POSITION]
        or number >= u64[W_FRESH_ENTRY]
        or following > core.in_flight.capacity
        or counter
        or not chunks.is_place(at)
    ):
        return _ack_by_plan(core, delivery, counter)
    length = u32[at >> 2] & STEP_MASK
    chunk = at >> chunks.bits << chunks.bits - 3
    chunk_held = u64[chunk + C_HELD] - 1
    if length < RECORD_HEAD or (at ^ at + length - 1) >> chunks.bits or not (chunk_held or not u64[chunk + C_DETACHED]):
        return _ack_by_plan(core, delivery, 0)
    in_flight, size, flags = u64[W_IN_FLIGHT] - 1, u64[W_HELD_BYTES] - length, u64[W_FLAGS]
    if not in_flight:
        flags &= ~FETCH_IN_FLIGHT
    pending = flags | PENDING
    pairs = (
        *(row, 0, W_FREE_ENTRY, number + 1, W_IN_FLIGHT, in_flight, chunk + C_HELD, chunk_held),
        *(W_HELD_BYTES, size, W_FLAGS, pending, U32 + half + E_NEXT_FREE, following),
    )
    packed = _pack_ack(*pairs)
    u64[W_FLAGS] = u64[W_FLAGS] | PENDING
    mapping.bytes[JOURNAL_AT : JOURNAL_AT + len(packed)] = packed
    u64[W_COMMIT] = len(packed) >> 4  # commit
    u64[row] = 0
    u64[W_FREE_ENTRY] = number + 1
    u64[W_IN_FLIGHT] = in_flight
    u64[chunk + C_HELD] = chunk_held
    u64[W_HELD_BYTES] = size
    u32[half + E_NEXT_FREE] = following
    u64[W_FLAGS] = pending
    u64[W_COMMIT] = 0
    u64[W_FLAGS] = flags
    return True


def _ack_by_plan(core: Core, delivery: Delivery, counter: int) -> bool:
    """`ack`, where chunks change, or something is counted, or it is not this delivery any more."""
    entry = core.in_flight.held(*delivery[:3])
    if entry is None:
        return False
    plan = core.begin()
    core.release(plan, entry)
    if counter:
        plan.add(counter, 1)
    core.commit(plan)
    return True
