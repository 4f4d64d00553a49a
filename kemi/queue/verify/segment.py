# SPDX-License-Identifier: GPL-2.0-or-later
"""`verify`: a read-only judge of a queue's segment, which says what contradicts what.

It is for a segment whose lock is held, or that nobody uses, and where nothing is pending: recover first, then verify.
It trusts no word: each offset is checked before it is read, and every loop is bounded by what the segment can hold. Its
time grows with the number of items, so nothing calls it in the course of normal work.
"""

from __future__ import annotations

import struct
from collections import Counter
from typing import Any

from kemi.errors import CorruptedError
from kemi.queue.format.layout import (
    ABSENT,
    C_DETACHED,
    C_HELD,
    E_NEXT_FREE,
    ENTRY_WORDS,
    FETCH_IN_FLIGHT,
    FREE,
    REFUSALS,
    STEP_MASK,
    TOMBSTONE,
    USED,
    W_ADDED,
    W_ADDMODE,
    W_ASK_LATE,
    W_ASKED,
    W_BUCKETS,
    W_BURIED,
    W_CHUNKS,
    W_DEAD,
    W_DROPPED,
    W_ENTRIES_AT,
    W_FLAGS,
    W_FREE_CHUNKS,
    W_FREE_ENTRY,
    W_FRESH_ENTRY,
    W_HEAP_AT,
    W_HELD_BYTES,
    W_IN_FLIGHT,
    W_MEASURED,
    W_POPPED,
    W_PRESENT,
    W_REFUSED,
    W_RETURNED,
    W_SHAPE,
    W_SOURCE_AT,
    W_SWEEP,
    W_TARGET,
    W_TARGET_AT,
    W_WAITERS,
    Mapping,
)
from kemi.queue.log.core import Core
from kemi.queue.verify.keyed import KeyedJudge

_MAX_FINDINGS = 20
# What bytes that are no log may raise where they are taken for one, beside CorruptedError.
UNREADABLE = (LookupError, ValueError, OverflowError, struct.error)
_COUNTERS = (
    *(W_ADDED, W_POPPED, W_BURIED, W_SHAPE),  # of an empty log the first two may be the same, and at their end
    *(W_WAITERS, W_PRESENT, W_MEASURED, *range(W_DROPPED, W_REFUSED + REFUSALS), *range(W_ASKED, W_ASK_LATE + 1)),
)
_KEYED_ONLY = (W_BURIED, W_DEAD, W_BUCKETS, W_TARGET, W_TARGET_AT, W_SOURCE_AT, W_SWEEP)
_MAX_COUNTER = 1 << 63  # one that goes up by one cannot come that far
_NO_MEMORY: Any = None  # for parts that take and leave no chunk


def verify(mapping: Mapping, key_hash: Any = None) -> list[str]:
    """Return what is wrong with a segment, some 20 findings at most; nothing if it is sound.

    key_hash: the hash of a keyed queue's index (secret, key → 8 bytes).
    """
    findings: list[str] = []
    try:
        core = Core(mapping, _NO_MEMORY)
        _Judge(core, findings).all(key_hash)
    except CorruptedError as error:
        findings.append(str(error))
    except UNREADABLE as error:
        findings.append(f"it cannot be read: {error!r}")
    return findings[:_MAX_FINDINGS]


class _Judge:
    """One look at one segment."""

    def __init__(self, core: Core, findings: list[str]) -> None:
        self._core = core
        self._u64 = core.mapping.u64
        self._findings = findings
        self._used: set[int] = set()  # chunks that something leads to

    def _equal(self, what: str, found: int, expected: int) -> None:
        if found != expected:
            self._findings.append(f"{what} is {found}, not {expected}")

    def all(self, key_hash: Any) -> None:
        """Everything, in an order in which each step may rely on the ones before."""
        u64 = self._u64
        if self._core.journal.is_pending():
            self._findings.append("an operation was broken off and not recovered")
            return
        for word in _COUNTERS:
            if u64[word] >= _MAX_COUNTER:
                self._findings.append(f"the counter in word {word} is {u64[word]}")
        states = self._core.chunks.states()
        others = Counter(state for state in states if state not in (ABSENT, FREE, USED))
        if others:
            self._findings.append(f"the chunk map has states that no operation left: {dict(others)}")
        self._equal("the number of free chunks", u64[W_FREE_CHUNKS], states.count(FREE))
        chain = self._chain()
        records = self._records(chain)
        self._in_flight(set(chain))
        if u64[W_ADDMODE]:
            self._used |= KeyedJudge(self._core, chain, records, self._equal).all(key_hash)
        else:
            for word in _KEYED_ONLY:
                self._equal(f"word {word} of a plain queue", u64[word], 0)
        used = {self._core.chunks.offset(number) for number, state in enumerate(states) if state == USED}
        if used != self._used:
            self._findings.append(
                f"chunks in use that nothing leads to: {sorted(used - self._used)}; "
                f"not in use, and something leads to them: {sorted(self._used - used)}"
            )

    def _chain(self) -> list[int]:
        """Return the chunks of the log."""
        core = self._core
        mask = core.chunks.mask
        core.chunks.bounds(core.head(), "HEAD")
        core.chunks.bounds(core.tail(), "TAIL")
        chain = [core.head() & ~mask]
        while chain[-1] != core.tail() & ~mask:
            chain.append(core.records.next_chunk(chain[-1]))
            if len(chain) > core.chunks.count:
                raise CorruptedError("the chunks of the log go in a circle")
        self._equal("the number of chunks in the log", self._u64[W_CHUNKS], len(chain))
        for chunk in chain:
            self._equal(f"the detached mark of the chunk at {chunk}", self._u64[(chunk >> 3) + C_DETACHED], 0)
        self._used.update(chain)
        return chain

    def _records(self, chain: list[int]) -> list[tuple[int, int]]:
        """Offset and step of all records and tombstones from HEAD to TAIL."""
        core = self._core
        at, tail = core.head(), core.tail()
        most = len(chain) * core.chunks.room >> 3
        found: list[tuple[int, int]] = []
        while at != tail:
            step = core.records.step_at(at)
            found.append((at, step))
            if step & TOMBSTONE and not self._u64[W_ADDMODE] and at + (step & STEP_MASK) & core.chunks.mask:
                self._findings.append(f"there is a tombstone at {at} in a plain log")
            at = core.records.after(core.records.span(at, step & STEP_MASK))
            if len(found) > most:
                raise CorruptedError("the records do not end at TAIL")
        alive = sum(not step & TOMBSTONE for _, step in found)
        self._equal("the number of records in the log", core.in_log(), alive)
        return found

    def _in_flight(self, chain: set[int]) -> None:
        """Entries, the free list, the heap, and the chunks that they keep."""
        core, u64 = self._core, self._u64
        entries = core.in_flight.entries()
        self._equal("the number of entries in use", u64[W_IN_FLIGHT], len(entries))
        self._equal("the mark of entries in use", bool(u64[W_FLAGS] & FETCH_IN_FLIGHT), bool(entries))
        self._equal("the number of entries of one seq", len(entries) - len({entry.seq for entry in entries}), 0)
        held: Counter[int] = Counter()
        size = 0
        for entry in entries:
            length = core.records.step_at(entry.at) & STEP_MASK
            span = core.records.span(entry.at, length)
            size += length
            held.update(span.ends())
            self._used.update((*span.ends(), *span.middle))
        self._equal("the bytes in flight", u64[W_HELD_BYTES], size)
        for chunk in self._used:
            self._equal(f"the records held in the chunk at {chunk}", u64[(chunk >> 3) + C_HELD], held[chunk])
        for chunk in held.keys() - chain:
            self._equal(f"the detached mark of the chunk at {chunk}", u64[(chunk >> 3) + C_DETACHED], 1)
        self._free_list({entry.number for entry in entries})
        self._heap({entry.number: (entry.due, entry.seq) for entry in entries if entry.position})

    def _free_list(self, used: set[int]) -> None:
        core, u64 = self._core, self._u64
        fresh = u64[W_FRESH_ENTRY]
        if fresh > core.in_flight.capacity:
            raise CorruptedError(f"{fresh} of {core.in_flight.capacity} in-flight entries were used")
        free: list[int] = []
        number = u64[W_FREE_ENTRY]
        while number:
            if number > fresh or len(free) > fresh:
                raise CorruptedError("the free list of in-flight entries leads to none, or in a circle")
            free.append(number - 1)
            row = (u64[W_ENTRIES_AT] >> 3) + (number - 1) * ENTRY_WORDS
            number = core.mapping.u32[row * 2 + E_NEXT_FREE]
        if sorted([*free, *used]) != list(range(fresh)):
            self._findings.append(f"in-flight entries are in use ({sorted(used)}) and free ({sorted(free)}) of {fresh}")

    def _heap(self, keys: dict[int, tuple[int, int]]) -> None:
        core, u64 = self._core, self._u64
        self._equal("the length of the redelivery heap", u64[W_RETURNED], len(keys))
        first = u64[W_HEAP_AT] >> 2
        heap = core.mapping.u32[first : first + len(keys)].tolist()
        if set(heap) != keys.keys():
            self._findings.append(f"the redelivery heap has {sorted(heap)}, returned are {sorted(keys)}")
            return
        for place, number in enumerate(heap, 1):
            entry = core.in_flight.entry(number)
            self._equal(f"the position of entry {number}", entry.position if entry else 0, place)
            if place > 1 and keys[heap[place // 2 - 1]] > keys[number]:
                self._findings.append(f"entry {number} is below a later one in the redelivery heap")
