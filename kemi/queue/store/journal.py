# SPDX-License-Identifier: GPL-2.0-or-later
"""A physical redo journal of one record: how an operation of several stores is done as a whole, or not at all.

The bytes: a commit word, and a list of at most MAX_PAIRS pairs (where, value). `where` names one number of the segment
and its size; `value` is absolute, so that doing a list twice is doing it once. An operation is in one of these states:

    PENDING in FLAGS | COMMIT | what recovery does
    -----------------+--------+---------------------------------------------------------------------
    no               | 0      | nothing: there is no operation
    yes              | 0      | roll back: the list does not count, chunks that were taken are free
    yes              | n      | redo: the n pairs of the list are stored, chunks that were left are free

All of it is called with the queue's lock held. The order of events, a kill or an exception may come between any two:

    1. `begin`  stores PENDING. From here on, whoever takes the lock and reads FLAGS, as every add and fetch does,
                sees that something was broken off, however the lock was given back.
    2. The operation takes chunks and fills memory that nothing leads to.
    3. `commit` stores the list, in any order; then COMMIT, one aligned store: from here on the operation is done, and
                what is missing follows from the list alone. Then the stores of the list themselves.
    4.          The chunks that were taken and left get their final state.
    5. `close`  stores COMMIT = 0. Only now memory may be given back: a redo may touch what the list leads to.
    6. `end`    stores FLAGS without PENDING.

Why it holds: before 3's commit nothing that counts was changed, so a roll back leaves the state before. After it, the
list is complete, since it was stored before COMMIT; redo does not read what it changes. Between 5 and 6 the
operation is whole, and a roll back finds nothing to do but memory that was being given back. A redo that is broken off
leaves COMMIT, and is redone.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from itertools import chain

from kemi.errors import CorruptedError
from kemi.queue.format.layout import (
    INDEX_MASK,
    JOURNAL_AT,
    KIND_SHIFT,
    MAX_PAIRS,
    PENDING,
    U8,
    U32,
    W_COMMIT,
    W_FLAGS,
    Mapping,
)

_PACK = [struct.Struct(f"={2 * pairs}Q").pack for pairs in range(MAX_PAIRS + 1)]
_WIDTHS = (8, 4, 1)  # by the kind of a store


class Plan(dict[int, int]):
    """What an operation is going to store: where → value. Numbers read through it are as they will be."""

    def __init__(self, mapping: Mapping) -> None:
        super().__init__()
        _, self._u64, self._u32 = mapping

    def u64(self, index: int) -> int:
        """Return a u64 word, by its index."""
        value = self.get(index)
        return int(self._u64[index]) if value is None else value

    def u32(self, index: int) -> int:
        """Return a u32 word, by its index."""
        value = self.get(U32 + index)
        return int(self._u32[index]) if value is None else value

    def add(self, index: int, difference: int) -> int:
        """Count a u64 word up or down; returns what it will be. Raises CorruptedError below 0."""
        value = self.u64(index) + difference
        if value < 0:
            raise CorruptedError(f"word {index} is {value - difference} and cannot be {-difference} less")
        self[index] = value
        return value


class Journal:
    """The journal of one segment."""

    def __init__(self, mapping: Mapping) -> None:
        self._bytes, self._u64, self._u32 = mapping

    def begin(self) -> None:
        """Announce an operation."""
        self._u64[W_FLAGS] = self._u64[W_FLAGS] | PENDING

    def commit(self, plan: Plan) -> None:
        """Make the operation count, and do its stores.

        Raises ValueError for a plan that is too long, struct.error for a number that is none: the segment is corrupted.
        """
        count = len(plan)
        if count > MAX_PAIRS:
            raise ValueError(f"{count} stores in one operation, at most {MAX_PAIRS} are possible")
        pairs = [*chain.from_iterable(plan.items())]
        self.store_list(_PACK[count](*pairs))
        self._apply(pairs)

    def store_list(self, packed: bytes) -> None:
        """Do the first half of `commit`, for a caller that has the list as bytes, and does its stores itself."""
        self._bytes[JOURNAL_AT : JOURNAL_AT + len(packed)] = packed
        self._u64[W_COMMIT] = len(packed) >> 4  # commit

    def close(self) -> None:
        """All stores of the operation are done: the list does not count any more."""
        self._u64[W_COMMIT] = 0

    def end(self) -> None:
        """Nothing is under way any more."""
        self._u64[W_FLAGS] = self._u64[W_FLAGS] & ~PENDING

    def is_pending(self) -> bool:
        """Return True if an operation was broken off."""
        return bool(self._u64[W_FLAGS] & PENDING or self._u64[W_COMMIT])

    def redo(self, has_memory: Callable[[int], bool]) -> bool:
        """Do the stores of a committed operation once more; `close` is still to be called.

        has_memory: whether an offset of the segment may be touched. Returns False if none was committed. Raises
        CorruptedError, nothing having been stored, when the list cannot be what an operation left.
        """
        count = self._u64[W_COMMIT]
        if not count:
            return False
        if count > MAX_PAIRS:
            raise CorruptedError(f"the journal claims {count} stores, at most {MAX_PAIRS} are possible")
        first = JOURNAL_AT >> 3
        pairs = self._u64[first : first + 2 * count].tolist()
        for where, value in zip(pairs[::2], pairs[1::2]):
            kind, index = where >> KIND_SHIFT, where & INDEX_MASK
            if kind >= len(_WIDTHS) or not has_memory(index * _WIDTHS[kind]) or value >> 8 * _WIDTHS[kind]:
                raise CorruptedError(f"the journal has {value} for {where:#x}, which is no store to memory")
        self._apply(pairs)
        return True

    def _apply(self, pairs: Sequence[int]) -> None:
        u64 = self._u64
        numbers = iter(pairs)
        for where, value in zip(numbers, numbers):
            if where < U32:
                u64[where] = value
            elif where < U8:
                self._u32[where - U32] = value
            else:
                self._bytes[where - U8] = value
