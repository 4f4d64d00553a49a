# SPDX-License-Identifier: GPL-2.0-or-later
"""The part of `verify` that is for keyed logs: what is dead where, the key index, and compaction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import final

from kemi.errors import CorruptedError
from kemi.queue.format.keyhash import KeyHash
from kemi.queue.format.layout import (
    C_DEAD,
    C_FIRST,
    C_PREVIOUS,
    RETURNED,
    STEP_MASK,
    TOMBSTONE,
    W_BUCKETS,
    W_BUCKETS_PER_CHUNK,
    W_DEAD,
    W_DIRECTORY_AT,
    W_SOURCE_AT,
    W_SWEEP,
    W_TARGET,
    W_TARGET_AT,
)
from kemi.queue.log.core import Core
from kemi.queue.store.keyindex import KeyIndex

Equal = Callable[[str, int, int], None]  # what it is, what was found, what should be


@final
class KeyedJudge:
    """One look at one keyed log, of which chain and records are sound. equal: notes a finding when two differ."""

    def __init__(self, core: Core, chain: list[int], records: list[tuple[int, int]], equal: Equal) -> None:
        self._core = core
        self._u64, self._u32 = core.mapping.u64, core.mapping.u32
        self._chain = chain
        self._records = records
        self._equal = equal

    def all(self, key_hash: KeyHash) -> set[int]:
        """Judge all of it; return the chunks of the key index."""
        self._dead()
        self._compaction()
        return self._index(key_hash)

    def _dead(self) -> None:
        """Judge counts of tombstones, and the way back."""
        u64, mask = self._u64, ~self._core.chunks.mask
        dead: Counter[int] = Counter()
        first: dict[int, int] = {}
        for at, step in self._records:
            first.setdefault(at & mask, at)
            if step & TOMBSTONE:
                dead[at & mask] += step & STEP_MASK
            elif step & RETURNED:
                self._equal(f"the mark of the record at {at}, which was not returned,", step, step & STEP_MASK)
        first.setdefault(self._core.tail() & mask, self._core.tail())
        self._equal("the dead bytes", u64[W_DEAD], sum(dead.values()))
        for before, chunk in zip([0, *self._chain], self._chain):
            word = chunk >> 3
            self._equal(f"the dead bytes in the chunk at {chunk}", u64[word + C_DEAD], dead[chunk])
            if before:
                self._equal(f"the chunk before {chunk}", u64[word + C_PREVIOUS], before)
                self._equal(f"the first record in the chunk at {chunk}", u64[word + C_FIRST], first.get(chunk, 0))
        for chunk in self._chain[1:-1]:
            if chunk != u64[W_TARGET] and dead[chunk] == self._core.chunks.room:
                self._equal(f"the live bytes in the chunk at {chunk}, which is in the chain,", 0, 1)

    def _compaction(self) -> None:
        u64 = self._u64
        target, sweep = u64[W_TARGET], u64[W_SWEEP]
        for what, chunk in (("the target of compaction", target), ("the chunk looked at next", sweep)):
            if chunk and chunk not in self._chain:
                raise CorruptedError(f"{what} is {chunk}, which is in no chunk of the log")
        if not target:
            self._equal("the place in a target of compaction that there is not", u64[W_TARGET_AT], 0)
            return
        at = u64[W_TARGET_AT]
        self._core.chunks.bounds(at, "the place in the target of compaction")
        left = target + self._core.chunks.size - at
        self._equal("the tombstone at the end of the target", self._u32[at >> 2], TOMBSTONE | left)
        if u64[W_SOURCE_AT] and self._chain[-1] != target:
            source = self._chain[self._chain.index(target) + 1]
            self._equal("the source of compaction", u64[W_SOURCE_AT] & ~self._core.chunks.mask, source)

    def _index(self, key_hash: KeyHash) -> set[int]:
        """Each record that should be in the index is found, and nothing else is in it."""
        core, u64 = self._core, self._u64
        index = KeyIndex(core.mapping, core.chunks, core.records, key_hash)
        index.place(b"")  # raises where the directory is not sound
        entries = core.in_flight.entries()
        expected = {at for at, step in self._records if not step & TOMBSTONE}
        for entry in entries:
            marked = bool(self._u32[entry.at >> 2] & RETURNED)
            self._equal(f"the mark of the record in flight at {entry.at}", marked, bool(entry.position))
            if entry.position:
                expected.add(entry.at)
        for at in sorted(expected):
            found = index.seek(core.records.key_at(at))[1]
            self._equal("the record that is found by its key", found, at)
        buckets = [index.bucket(number) for number in range(u64[W_BUCKETS])]
        chained = [at for place in buckets if self._u32[place] for at in index.chain(place)]
        if len(chained) != len(expected) or set(chained) != expected:
            self._equal("the number of records in the key index", len(chained), len(expected))
            self._equal("the number of records of the log that are not in the key index", len(expected - {*chained}), 0)
        directory = u64[W_DIRECTORY_AT] >> 3
        return set(u64[directory : directory - (-u64[W_BUCKETS] // u64[W_BUCKETS_PER_CHUNK])].tolist())
