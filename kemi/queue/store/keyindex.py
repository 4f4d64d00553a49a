# SPDX-License-Identifier: GPL-2.0-or-later
"""The key index of addmode 1 and 2: from a key to the one record that has it, whatever the depth.

A hash table by linear hashing. Buckets are u32 words in chunks of their own, which the directory leads to; a bucket is
a link to a record, and the records of one bucket are chained through their `link`. One more bucket divides one chain,
one fewer joins two, so no call ever builds the table anew. The index has the records of the log, and those that were
returned; what a process holds is not in it, so its key may be added again.

The hash is keyed with a secret of the segment: callers choose keys, and must not choose which of them collide.

`place` is the index of a bucket among the u32 words, `lead` that of the word that leads to a record: a bucket or the
link of another record. Stores go into a plan; SHAPE tells other processes that what they worked out is old. Links are
checked before they are followed. Called with the queue's lock held.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from kemi.errors import CorruptedError
from kemi.queue.format.keyhash import MAX_SECRET, KeyHash
from kemi.queue.format.layout import (
    CHUNK_HEAD,
    DIRECTORY_ENTRIES,
    LINK_SHIFT,
    MAX_PAIRS,
    R_KEY,
    R_LINK,
    RECORD_HEAD,
    U32,
    USED,
    W_ADDED,
    W_BUCKETS,
    W_BUCKETS_PER_CHUNK,
    W_BURIED,
    W_DIRECTORY_AT,
    W_POPPED,
    W_RETURNED,
    W_SECRET,
    W_SHAPE,
    Mapping,
)
from kemi.queue.store.chunks import Chunks
from kemi.queue.store.journal import Plan
from kemi.queue.store.records import Records

_NEVER = -1
_LONG_CHAIN = 16  # records in a bucket that are nothing strange
SPARSE = 2  # buckets for each item are too many when they are more than so many
_JOINS = 4  # buckets joined per removal: enough to shrink faster than a drain removes
_first_number = struct.Struct("=I").unpack_from


class KeyIndex:
    """The index of one segment."""

    def __init__(self, mapping: Mapping, chunks: Chunks, records: Records, key_hash: KeyHash) -> None:
        self._bytes, self._u64, self._u32 = mapping
        self._chunks = chunks
        self._records = records
        self._hash = key_hash
        self._secret: int = self._u64[W_SECRET]
        if self._secret > MAX_SECRET:
            raise CorruptedError(f"the secret of the key index is {self._secret}, at most {MAX_SECRET} is possible")
        self._directory: int = self._u64[W_DIRECTORY_AT] >> 3
        self._per: int = self._u64[W_BUCKETS_PER_CHUNK]
        self._base = chunks.base
        self._first_link = (self._base >> 2) + R_LINK
        self._link_bits = chunks.bits - LINK_SHIFT  # a link without these is the number of a chunk
        self._map, self._chunk_count, self._chunk_mask = chunks.map, chunks.count, chunks.mask
        # What follows from SHAPE: buckets, the power of two not above it, the bits of a number below twice that, and
        # where each chunk of the directory has its first bucket.
        self._shape = _NEVER
        self.count = self._size = self._mask = 0
        self.spare = 0  # buckets, if there are more than fit into one chunk, which stay
        self._tables: list[int] = []
        self._table_bits = self._per.bit_length() - 1
        self._table_mask = self._per - 1

    def format(self, plan: Plan) -> bool:
        """Make an empty index. False if there is no memory."""
        chunk = self._open_chunk(plan, 0)
        plan[W_BUCKETS] = self._per
        plan.add(W_SHAPE, 1)
        return bool(chunk)

    def _open_chunk(self, plan: Plan, number: int) -> int:
        chunk = self._chunks.alloc()
        if chunk:
            self._bytes[chunk : chunk + self._chunks.size] = bytes(self._chunks.size)
            plan[self._directory + number] = chunk
        return chunk

    # --- looking ------------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Work out what follows from the number of buckets."""
        self._shape = _NEVER
        u64 = self._u64
        count, shape = u64[W_BUCKETS], u64[W_SHAPE]
        if self._per & self._table_mask or not 0 < self._per <= count <= DIRECTORY_ENTRIES * self._per:
            raise CorruptedError(f"the key index claims {count} buckets, {self._per} in a chunk")
        self.count = count
        self._size = 1 << count.bit_length() - 1
        self._mask = 2 * self._size - 1
        chunks = u64[self._directory : self._directory + -(-count // self._per)].tolist()
        self._tables = [self._chunks.check_used(chunk, "a chunk of the key index") >> 2 for chunk in chunks]
        self.spare = count if count > self._per else 0
        self._shape = shape

    def place(self, key: bytes) -> int:
        """Return the bucket for a key."""
        if self._u64[W_SHAPE] != self._shape:
            self._look()
        number = _first_number(self._hash(self._secret, key))[0] & self._mask
        if number >= self.count:
            number -= self._size
        place: int = self._tables[number >> self._table_bits] + (number & self._table_mask)
        return place

    def seek(self, key: bytes) -> tuple[int, int, int]:
        """Return the bucket for a key, the offset of the record that has it (0: none), and what leads to that one."""
        if self._u64[W_SHAPE] != self._shape:
            self._look()
        number = _first_number(self._hash(self._secret, key))[0] & self._mask
        if number >= self.count:
            number -= self._size
        place: int = self._tables[number >> self._table_bits] + (number & self._table_mask)
        link = self._u32[place]
        if not link:
            return place, 0, place
        number = link >> self._link_bits
        if number < self._chunk_count and self._map[number] == USED:
            # Nearly always it is one of the bucket's first records, and its key lies in one chunk.
            at = self._base + (link << LINK_SHIFT)
            length = len(key)
            if self._u32[(at >> 2) + R_KEY] == length:
                start = at + RECORD_HEAD
                end = start + length
                if end <= at | self._chunk_mask:
                    if self._bytes[start:end] == key:
                        return place, at, place
                    return self._seek_from((at >> 2) + R_LINK, place, key)
        return self._seek_from(place, place, key)

    def _seek_from(self, lead: int, place: int, key: bytes) -> tuple[int, int, int]:
        """`seek` in a bucket, from what leads to the first record that was not looked at."""
        u32 = self._u32
        length = len(key)
        seen = 0
        while link := u32[lead]:
            at = self._base + (link << LINK_SHIFT)
            number = link >> self._link_bits
            start = at + RECORD_HEAD
            if number >= self._chunk_count or self._map[number] != USED or start > at | self._chunk_mask:
                raise _no_record(at)
            if u32[(at >> 2) + R_KEY] == length:
                end = start + length
                found = self._bytes[start:end] if end <= at | self._chunk_mask else self._records.key_at(at)
                if found == key:
                    return place, at, lead
            seen += 1
            if seen > _LONG_CHAIN and seen > self._items():
                raise _no_record(at)
            lead = (at >> 2) + R_LINK
        return place, 0, lead

    def _items(self) -> int:
        u64 = self._u64
        return int(u64[W_ADDED] - u64[W_POPPED] - u64[W_BURIED] + u64[W_RETURNED])

    def chain(self, place: int, plan: Plan | None = None) -> Iterator[int]:
        """Give the records of a bucket; with a plan, as it will be."""
        seen = 0
        link = plan.u32(place) if plan else self._u32[place]
        while link:
            at = self._base + (link << LINK_SHIFT)
            inside = at & self._chunks.mask
            there = self._chunks.has_memory(at) if plan else self._chunks.is_used(at - inside)
            if not there or not CHUNK_HEAD <= inside <= self._chunks.size - RECORD_HEAD:
                raise _no_record(at)
            yield at
            lead = (at >> 2) + R_LINK
            link = plan.u32(lead) if plan else self._u32[lead]
            seen += 1
            if seen > self._items() + 1:
                raise _no_record(at)

    def lead_of(self, at: int, plan: Plan | None = None) -> int:
        """Return what leads to a record that is in the index."""
        lead = self.place(self._records.key_at(at))
        for other in self.chain(lead, plan):
            if other == at:
                return lead
            lead = (other >> 2) + R_LINK
        raise CorruptedError(f"the record at {at} is not in the key index")

    def lead_from(self, place: int, link: int) -> int:
        """Return what leads to a record in a bucket, by the link to it."""
        u32 = self._u32
        lead, seen = place, 0
        while (found := u32[lead]) != link:
            number = found >> self._link_bits
            inside = found << LINK_SHIFT & self._chunk_mask
            if (
                not found
                or number >= self._chunks.count
                or self._chunks.map[number] != USED
                or inside > self._chunk_mask - RECORD_HEAD + 1  # behind the chunk there may be no memory
            ):
                raise CorruptedError(f"the record at {self._base + (link << LINK_SHIFT)} is not in the key index")
            seen += 1
            if seen > _LONG_CHAIN and seen > self._items():
                raise _no_record(self._base + (found << LINK_SHIFT))
            lead = self._first_link + (found << 1)
        return lead

    def way_to(self, at: int) -> tuple[int, int]:
        """Return what leads to a record, and the link behind it, which is to take its place."""
        lead = self.lead_from(self.place(self._records.key_at(at)), self.link(at))
        return lead, int(self._u32[(at >> 2) + R_LINK])

    def bucket(self, number: int) -> int:
        """Bucket `number`."""
        place: int = self._tables[number >> self._table_bits] + (number & self._table_mask)
        return place

    # --- one record ---------------------------------------------------------------------------------------------------

    def link(self, at: int) -> int:
        """Return the link to a record."""
        return at - self._base >> LINK_SHIFT

    def insert(self, plan: Plan, place: int, at: int) -> None:
        """Plan to insert a record that is not there."""
        plan[U32 + (at >> 2) + R_LINK] = plan.u32(place)
        plan[U32 + place] = self.link(at)

    def remove(self, plan: Plan, at: int) -> None:
        """Plan to remove a record that is there."""
        lead = self.lead_of(at, plan)  # which checks `at`
        plan[U32 + lead] = plan.u32((at >> 2) + R_LINK)

    def replace(self, plan: Plan, lead: int, at: int, other: int) -> None:
        """Have the way to a record lead to another one."""
        plan[U32 + (other >> 2) + R_LINK] = plan.u32((at >> 2) + R_LINK)
        plan[U32 + lead] = self.link(other)

    def mend(self, at: int) -> None:
        """Recovery: insert a record if it is not there, by stores of which each leaves a whole chain."""
        place, found, _ = self.seek(self._records.key_at(at))
        if not found:
            self._u32[(at >> 2) + R_LINK] = self._u32[place]
            self._u32[place] = self.link(at)

    # --- more and fewer buckets ---------------------------------------------------------------------------------------

    def plan_split(self, plan: Plan) -> bool:
        """One more bucket: divide the one whose turn it is. False if that cannot be: chains grow instead."""
        if self._u64[W_SHAPE] != self._shape:
            self._look()
        count = self.count
        if count >= DIRECTORY_ENTRIES * self._per:
            return False
        if count & self._table_mask:
            new = self.bucket(count)
        else:
            chunk = self._open_chunk(plan, count // self._per)
            if not chunk:
                return False
            new = chunk >> 2
        old = self.bucket(count - self._size)
        leads = {False: old, True: new}
        for at in self.chain(old):
            goes = _first_number(self._hash(self._secret, self._records.key_at(at)))[0] & self._mask == count
            plan[U32 + leads[goes]] = self.link(at)
            leads[goes] = (at >> 2) + R_LINK
        for lead in leads.values():
            plan[U32 + lead] = 0
        plan[W_BUCKETS] = count + 1
        plan[W_SHAPE] = self._shape + 1
        return len(plan) <= MAX_PAIRS

    def wanted_joins(self, items: int) -> int:
        """How many buckets should go when the index has so many items."""
        if self._u64[W_SHAPE] != self._shape:
            self._look()
        too_many = self.count - max(self._per, items * SPARSE)
        return min(max(0, too_many), _JOINS)

    def plan_join(self, plan: Plan) -> None:
        """One bucket less: put the last one's records before those that were there before its split."""
        if self._u64[W_SHAPE] != self._shape:
            self._look()
        last = self.count - 1
        source, target = self.bucket(last), self.bucket(last - (1 << last.bit_length() - 1))
        end = source
        for at in self.chain(source):
            end = (at >> 2) + R_LINK
        if end != source:
            plan[U32 + end] = self._u32[target]
            plan[U32 + target] = self._u32[source]
            plan[U32 + source] = 0
        plan[W_BUCKETS] = last
        plan[W_SHAPE] = self._shape + 1
        if not last & self._table_mask:
            self._chunks.free(self._u64[self._directory + last // self._per])


def _no_record(at: int) -> CorruptedError:
    return CorruptedError(f"the key index leads to {at}, which is no record, or in a circle")
