"""The key index of addmode 1 and 2: from a key to the one record that has it, whatever the depth.

A hash table in the segment by linear hashing: buckets lie in chunks of their own, found through a directory in front
of chunk 0; one more add divides two of them at most, one more removal joins a few, so that no call ever rebuilds the
table. There are two buckets for each record, memory permitting, so most of them hold one at most. A bucket is a link
to a record, and records of one bucket are chained through their `link`.

The hash is keyed with a secret of the segment: callers choose keys, and must not choose which of them collide.

Called with the queue's lock held. Nothing here is committed: after a kill, `recover` makes it anew from the records.

`place` and `seek` spell out what small functions would say: every fetch from a keyed queue and every add to it goes
through one of them. A link that leads out of the segment is an IndexError there, which also means damage.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any

from kemi.errors import DamagedRing
from kemi.queue import keyhash
from kemi.queue.chunks import Chunks
from kemi.queue.layout import (
    BUCKETS_MASK,
    BUCKETS_PER_CHUNK,
    CHUNK,
    CHUNK_BITS,
    CHUNK_MASK,
    CHUNK_USED,
    DIRECTORY_ENTRIES,
    LINK_SHIFT,
    R_KEY_LENGTH,
    R_LINK,
    RECORD_HEAD,
    W_ADDED,
    W_BUCKETS,
    W_BUCKETS_AT,
    W_HASH,
    W_REMOVED,
    W_SECRET,
)

_MAX_BUCKETS = DIRECTORY_ENTRIES * BUCKETS_PER_CHUNK
_LINK_BITS = CHUNK_BITS - LINK_SHIFT  # a link without these is the number of a chunk
_LAST_HEAD = CHUNK - RECORD_HEAD  # a record's head is never divided
_LONG_CHAIN = 8  # records in a bucket that are nothing strange
_NEVER = -1  # is what no word can be
_JOINS = 4  # buckets joined per removal: enough to shrink faster than a drain removes
_first_number = struct.Struct("=I").unpack_from


class Index:
    """The index of one segment. `key_at(record offset)` reads a key from the ring.

    `place`, where it is an argument, is what `place` gave for the record's key: where its bucket is in `halves`.
    """

    def __init__(self, buffer: Any, words: Any, halves: Any, chunks: Chunks, key_at: Callable[[int], bytes]) -> None:
        self._bytes = buffer
        self._words = words
        self._halves = halves
        self._chunks = chunks
        self._map = chunks.map
        self._key_at = key_at
        self._directory = words[W_BUCKETS_AT] >> 3
        self._hash = keyhash.function_of(words[W_HASH])
        self._secret: int = words[W_SECRET]
        self._base = chunks.base
        # W_BUCKETS at the last look, and what followed from it: buckets, the power of two not above it, the bits that
        # a number below twice that can have, the directory's changes, and where each of its chunks has bucket 0.
        self._seen = self._changes = _NEVER
        self._count = self._size = self._mask = 0
        self._tables: list[int] = []
        self._table_bits = BUCKETS_PER_CHUNK.bit_length() - 1
        self._table_mask = BUCKETS_PER_CHUNK - 1

    def format(self, items: int = 0) -> bool:
        """Make an empty index, with room for so many items where memory allows. False if there is none at all."""
        self._set_count(0)
        wanted = min(max(BUCKETS_PER_CHUNK, items * 2), _MAX_BUCKETS)
        for number in range(-(-wanted // BUCKETS_PER_CHUNK)):
            if not self._open_chunk(number):
                break
            self._set_count(min(wanted, (number + 1) * BUCKETS_PER_CHUNK))
        return self.count() > 0

    def forget(self) -> None:
        """Its chunks are about to be given back: until `format`, nothing is found in any process."""
        self._set_count(0)

    def _open_chunk(self, number: int) -> bool:
        """Add chunk `number` to the directory, its buckets empty."""
        chunk = self._chunks.take()
        if not chunk:
            return False
        self._bytes[chunk : chunk + CHUNK] = bytes(CHUNK)
        words = self._words
        words[self._directory + number] = chunk
        words[W_BUCKETS] = words[W_BUCKETS] + BUCKETS_MASK + 1 & (1 << 64) - 1
        return True

    def count(self) -> int:
        """Buckets in use."""
        return int(self._words[W_BUCKETS] & BUCKETS_MASK)

    def _set_count(self, count: int) -> None:
        self._words[W_BUCKETS] = self._words[W_BUCKETS] & ~BUCKETS_MASK | count

    # --- looking ----------------------------------------------------------------------------------------------------

    def place(self, key: bytes) -> int:
        """Where the bucket for a key is."""
        buckets = self._words[W_BUCKETS]
        if buckets != self._seen:
            self._look(buckets)
        number = _first_number(self._hash(self._secret, key))[0] & self._mask
        if number >= self._count:
            number -= self._size
        place: int = self._tables[number >> self._table_bits] + (number & self._table_mask)
        return place

    def _look(self, buckets: int) -> None:
        """Note what follows from W_BUCKETS, so that it is worked out and checked once and not for every key."""
        self._seen = _NEVER
        count, changes = buckets & BUCKETS_MASK, buckets & ~BUCKETS_MASK
        if not BUCKETS_PER_CHUNK <= count <= _MAX_BUCKETS:
            raise DamagedRing(f"the key index claims {count} buckets")
        self._count = count
        self._size = 1 << count.bit_length() - 1
        self._mask = 2 * self._size - 1
        if changes != self._changes or count > len(self._tables) << self._table_bits:
            self._tables = [self._table(number) for number in range(-(-count // BUCKETS_PER_CHUNK))]
        self._changes = changes
        self._seen = buckets

    def _table(self, number: int) -> int:
        """Where chunk `number` of the directory has its first bucket."""
        chunk: int = self._words[self._directory + number]
        if not self._chunks.holds(chunk):
            raise DamagedRing(f"the key index has {chunk} for its chunk {number}")
        return chunk >> 2

    def seek(self, key: bytes) -> tuple[int, int, int]:
        """The place of a key, the offset of the record that has it (0: none), and where the link to that one is."""
        buckets = self._words[W_BUCKETS]
        if buckets != self._seen:
            self._look(buckets)
        number = _first_number(self._hash(self._secret, key))[0] & self._mask
        if number >= self._count:
            number -= self._size
        place = self._tables[number >> self._table_bits] + (number & self._table_mask)
        halves = self._halves
        link = halves[place]
        if not link:
            return place, 0, place
        if self._map[link >> _LINK_BITS] == CHUNK_USED:
            # Nearly always it is the first record of the bucket, and its key lies in one chunk.
            record = self._base + (link << LINK_SHIFT)
            length = len(key)
            if halves[(record >> 2) + R_KEY_LENGTH] == length:
                start = record + RECORD_HEAD
                end = start + length
                if end <= record | CHUNK_MASK and self._bytes[start:end] == key:
                    return place, record, place
        return (place, *self._seek_in(place, key))

    def _seek_in(self, place: int, key: bytes) -> tuple[int, int]:
        """Offset of the record in this bucket that has the key (0: none), and where the link to it is."""
        halves, used = self._halves, self._map
        leading = place
        seen = 0
        while link := halves[leading]:
            record = self._base + (link << LINK_SHIFT)
            if used[link >> _LINK_BITS] != CHUNK_USED or record & CHUNK_MASK > _LAST_HEAD:
                raise _no_record(record)
            if halves[(record >> 2) + R_KEY_LENGTH] == len(key) and self._key_at(record) == key:
                return record, leading
            seen += 1
            if seen > _LONG_CHAIN and seen > self._words[W_ADDED] - self._words[W_REMOVED]:
                raise _no_record(record)
            leading = (record >> 2) + R_LINK
        return 0, leading

    def find(self, key: bytes) -> int:
        """Offset of the record with this key; 0 if there is none."""
        return self.seek(key)[1]

    def _chain(self, place: int) -> Iterator[int]:
        """The records of a bucket. Each is checked before it is read: a link may be damaged, or lead in a circle."""
        halves, used = self._halves, self._map
        seen = 0
        link = halves[place]
        while link:
            record = self._base + (link << LINK_SHIFT)
            if used[link >> _LINK_BITS] != CHUNK_USED or record & CHUNK_MASK > _LAST_HEAD:
                raise _no_record(record)
            link = halves[(record >> 2) + R_LINK]
            yield record
            seen += 1
            if seen > self._words[W_ADDED] - self._words[W_REMOVED]:
                raise _no_record(record)

    def _place_of(self, number: int) -> int:
        """Where bucket `number` is."""
        if number >= _MAX_BUCKETS:
            raise DamagedRing(f"the key index claims more than {number} buckets")
        return self._table(number // BUCKETS_PER_CHUNK) + number % BUCKETS_PER_CHUNK

    # --- one record -------------------------------------------------------------------------------------------------

    def insert(self, place: int, record: int, items: int) -> None:
        """A record that is not there yet. `items`: how many the index holds with it."""
        halves = self._halves
        halves[(record >> 2) + R_LINK] = halves[place]
        halves[place] = record - self._base >> LINK_SHIFT
        if items * 2 > self._count:
            self._split()
            self._split()

    def replace(self, leading: int, record: int, other: int) -> None:
        """Put another record in the place of one that `seek` found."""
        halves = self._halves
        halves[(other >> 2) + R_LINK] = halves[(record >> 2) + R_LINK]
        halves[leading] = other - self._base >> LINK_SHIFT

    def remove(self, place: int, record: int, items: int) -> None:
        """A record that is there. `items`: how many the index holds without it."""
        halves = self._halves
        leading = place if halves[place] == record - self._base >> LINK_SHIFT else self._leading_to(place, record)
        halves[leading] = halves[(record >> 2) + R_LINK]
        if self._count > BUCKETS_PER_CHUNK:
            self._shrink(items)

    def move(self, place: int, record: int, moved: int) -> None:
        """The bytes of a record are at another place now."""
        self.replace(self._leading_to(place, record), record, moved)

    def _leading_to(self, place: int, record: int) -> int:
        """Where the link to a record is."""
        leading = place
        if self._halves[place] == record - self._base >> LINK_SHIFT:
            return place
        for other in self._chain(place):
            if other == record:
                return leading
            leading = (other >> 2) + R_LINK
        raise DamagedRing(f"the record at {record} is not in the key index")

    # --- more and fewer buckets -------------------------------------------------------------------------------------

    def _split(self) -> None:
        """One more bucket: divide the one whose turn it is."""
        count = self.count()
        if count >= _MAX_BUCKETS:
            return  # chains grow instead
        if not count % BUCKETS_PER_CHUNK and not self._open_chunk(count // BUCKETS_PER_CHUNK):
            return
        size = 1 << count.bit_length() - 1
        old, new = self._place_of(count - size), self._place_of(count)
        self._set_count(count + 1)
        records = list(self._chain(old))
        self._halves[old] = self._halves[new] = 0
        for record in records:
            self.insert(self.place(self._key_at(record)), record, 0)

    def _shrink(self, items: int) -> None:
        """Join buckets when there are too many for so many items."""
        for _ in range(_JOINS):
            count = self.count()
            if count <= BUCKETS_PER_CHUNK or items * 4 > count:
                break
            self._join()

    def _join(self) -> None:
        """One bucket less: put the last one's records where they were before its split."""
        last = self.count() - 1
        size = 1 << last.bit_length() - 1
        source, target = self._place_of(last), self._place_of(last - size)
        records = list(self._chain(source))
        self._halves[source] = 0
        self._set_count(last)
        for record in records:
            self.insert(target, record, 0)
        if not last % BUCKETS_PER_CHUNK:
            self._chunks.give(self._words[self._directory + last // BUCKETS_PER_CHUNK])


def _no_record(record: int) -> DamagedRing:
    return DamagedRing(f"the key index leads to {record}, which is no record, or in a circle")
