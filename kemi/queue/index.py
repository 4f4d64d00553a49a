"""The key index of addmode 1 and 2: from a key to the one record that has it, whatever the depth.

A hash table in the segment by linear hashing: buckets lie in chunks of their own, found through a directory in front
of chunk 0; one more add splits one more bucket, one more removal joins two, so that no add ever rebuilds a table. A
bucket is the offset of a record, and records of one bucket are chained through their `link`.

The hash is keyed with a secret of the segment: callers choose keys, and must not choose which of them collide.

Called with the queue's lock held. Nothing here is committed: after a kill, `rebuild` makes it anew from the records.

`place` and `locate` spell out what small functions would say: every add of a keyed queue goes through them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import blake2b
from typing import Any

from kemi.errors import DamagedRing
from kemi.queue.chunks import Chunks
from kemi.queue.layout import (
    BUCKETS_PER_CHUNK,
    CHUNK,
    CHUNK_MASK,
    CHUNK_USED,
    DIRECTORY_ENTRIES,
    PAGE,
    R_KEY_LENGTH,
    R_LINK,
    RECORD_HEAD,
    W_ADDED,
    W_BUCKETS,
    W_BUCKETS_AT,
    W_REMOVED,
    W_SEED,
)

_MAX_BUCKETS = DIRECTORY_ENTRIES * BUCKETS_PER_CHUNK
_CHUNK_BITS = CHUNK.bit_length() - 1
_LAST_HEAD = CHUNK - RECORD_HEAD  # a record's head is never divided
_from_bytes = int.from_bytes
_JOINS = 4  # buckets joined per removal: enough to shrink faster than a drain removes


class Index:
    """The index of one segment. `key_at(record offset)` reads a key from the ring."""

    def __init__(self, buffer: Any, words: Any, halves: Any, chunks: Chunks, key_at: Callable[[int], bytes]) -> None:
        self._bytes = buffer
        self._words = words
        self._halves = halves
        self._chunks = chunks
        self._key_at = key_at
        self._directory = words[W_BUCKETS_AT] >> 3
        self._secret = bytes(buffer[W_SEED * 8 : W_SEED * 8 + 16])
        self._base = chunks.base
        self._end = chunks.count * CHUNK  # behind the last chunk, as seen from the first one

    def format(self) -> bool:
        """Make an empty index. False if there is no memory."""
        self._words[W_BUCKETS] = 0
        return self._open_chunk(0)

    def _open_chunk(self, number: int) -> bool:
        """Add chunk `number` to the directory, its buckets empty."""
        chunk = self._chunks.take()
        if not chunk:
            return False
        self._bytes[chunk : chunk + CHUNK] = bytes(CHUNK)
        self._words[self._directory + number] = chunk
        if not number:
            self._words[W_BUCKETS] = BUCKETS_PER_CHUNK
        return True

    def hash(self, key: bytes) -> int:
        """64 bits that nobody outside can foresee."""
        # The secret in front is as good as BLAKE2's own key, which is one block more to hash for every add.
        return _from_bytes(blake2b(self._secret + key, digest_size=8).digest(), "little")

    def _bucket(self, hashed: int) -> int:
        """Index, in words, of the bucket for a hash."""
        words = self._words
        count = words[W_BUCKETS]
        if not BUCKETS_PER_CHUNK <= count <= _MAX_BUCKETS:
            raise DamagedRing(f"the key index claims {count} buckets")
        size = 1 << count.bit_length() - 1
        number = hashed & (2 * size - 1)
        if number >= count:
            number -= size
        chunk: int = words[self._directory + (number // BUCKETS_PER_CHUNK)]
        at = chunk - self._base
        if at & CHUNK_MASK or not 0 <= at < self._end or self._bytes[PAGE + (at >> _CHUNK_BITS)] != CHUNK_USED:
            raise DamagedRing(f"the key index has {chunk} for its chunk {number // BUCKETS_PER_CHUNK}")
        word: int = (chunk >> 3) + (number % BUCKETS_PER_CHUNK)
        return word

    def _word(self, number: int) -> int:
        if number >= _MAX_BUCKETS:
            raise DamagedRing(f"the key index claims more than {number} buckets")
        chunk: int = self._words[self._directory + number // BUCKETS_PER_CHUNK]
        if not self._chunks.holds(chunk):
            raise DamagedRing(f"the key index has {chunk} for its chunk {number // BUCKETS_PER_CHUNK}")
        return (chunk >> 3) + number % BUCKETS_PER_CHUNK

    def _next(self, record: int) -> int:
        return int(self._halves[(record >> 2) + R_LINK]) << 3

    def _set_next(self, record: int, following: int) -> None:
        self._halves[(record >> 2) + R_LINK] = following >> 3

    def _chain(self, word: int) -> Iterator[int]:
        """The records of a bucket. Each is checked before it is read: a link may be damaged, or lead in a circle."""
        record: int = self._words[word]
        left = self._words[W_ADDED] - self._words[W_REMOVED] + 1
        while record:
            left -= 1
            in_chunk = record & CHUNK_MASK
            if left < 0 or in_chunk > _LAST_HEAD or record & 7 or not self._chunks.holds(record - in_chunk):
                raise _no_record(record)
            following = self._next(record)
            yield record
            record = following

    def find(self, hashed: int, key: bytes) -> int:
        """Offset of the record with this key; 0 if there is none."""
        return self.locate(self._bucket(hashed), key)[0]

    def place(self, key: bytes) -> int:
        """Where `locate` and `insert_at` look for a key: index, in words, of its bucket."""
        return self._bucket(self.hash(key))

    def locate(self, word: int, key: bytes) -> tuple[int, int]:
        """Offsets of the record in this bucket that has the key, and of the one before it; 0 for none."""
        words, halves, buffer, base = self._words, self._halves, self._bytes, self._base
        before, record = 0, words[word]
        if not record:
            return 0, 0
        end = self._end
        left = words[W_ADDED] - words[W_REMOVED] + 1
        length = len(key)
        while record:
            left -= 1
            if (
                left < 0
                or record & 7
                or record & CHUNK_MASK > _LAST_HEAD
                or not 0 <= record - base < end
                or buffer[PAGE + (record - base >> _CHUNK_BITS)] != CHUNK_USED
            ):
                raise _no_record(record)
            index = record >> 2
            if halves[index + R_KEY_LENGTH] == length:
                start = record + RECORD_HEAD
                inside = start + length <= record | CHUNK_MASK
                if (buffer[start : start + length] if inside else self._key_at(record)) == key:
                    return record, before
            before = record
            record = halves[index + R_LINK] << 3
        return 0, 0

    def move_at(self, word: int, before: int, record: int, moved: int) -> None:
        """`move` of what `locate` found."""
        halves = self._halves
        halves[(moved >> 2) + R_LINK] = halves[(record >> 2) + R_LINK]
        if before:
            halves[(before >> 2) + R_LINK] = moved >> 3
        else:
            self._words[word] = moved

    def remove_at(self, word: int, before: int, record: int, items: int) -> None:
        """`remove` of what `locate` found."""
        following = self._halves[(record >> 2) + R_LINK]
        if before:
            self._halves[(before >> 2) + R_LINK] = following
        else:
            self._words[word] = following << 3
        if self._words[W_BUCKETS] > BUCKETS_PER_CHUNK:
            self._shrink(items)

    def insert_at(self, word: int, record: int, items: int) -> None:
        """`insert` in a bucket that is known."""
        self._push(word, record)
        if items > self._words[W_BUCKETS]:
            self._split()

    def insert(self, hashed: int, record: int, items: int) -> None:
        """A record that is not there yet. `items`: how many the index holds with it."""
        self.insert_at(self._bucket(hashed), record, items)

    def remove(self, hashed: int, record: int, items: int) -> None:
        """A record that is there. `items`: how many the index holds without it."""
        self._replace(hashed, record, self._next(record))
        self._shrink(items)

    def _shrink(self, items: int) -> None:
        """Join buckets when there are too many for so many items."""
        for _ in range(_JOINS):
            count = self._words[W_BUCKETS]
            if count <= BUCKETS_PER_CHUNK or items * 4 > count:
                break
            self._join()

    def move(self, hashed: int, record: int, moved: int) -> None:
        """The bytes of a record are at another place now."""
        self._set_next(moved, self._next(record))
        self._replace(hashed, record, moved)

    def _replace(self, hashed: int, record: int, other: int) -> None:
        """Let what leads to `record` lead to `other`."""
        word = self._bucket(hashed)
        before = 0
        for at in self._chain(word):
            if at == record:
                if before:
                    self._set_next(before, other)
                else:
                    self._words[word] = other
                return
            before = at
        raise DamagedRing(f"the record at {record} is not in the key index")

    def _push(self, word: int, record: int) -> None:
        self._set_next(record, self._words[word])
        self._words[word] = record

    def _split(self) -> None:
        """One more bucket: divide the one whose turn it is."""
        count = self._words[W_BUCKETS]
        if count >= _MAX_BUCKETS:
            return  # chains grow instead
        if not count % BUCKETS_PER_CHUNK and not self._open_chunk(count // BUCKETS_PER_CHUNK):
            return
        size = 1 << count.bit_length() - 1
        old, new = self._word(count - size), self._word(count)
        self._words[W_BUCKETS] = count + 1
        records = list(self._chain(old))
        self._words[old] = self._words[new] = 0
        for record in records:
            self._push(self._bucket(self.hash(self._key_at(record))), record)

    def _join(self) -> None:
        """One bucket less: put the last one's records where they were before its split."""
        last = self._words[W_BUCKETS] - 1
        size = 1 << last.bit_length() - 1
        source, target = self._word(last), self._word(last - size)
        records = list(self._chain(source))
        self._words[source] = 0
        self._words[W_BUCKETS] = last
        for record in records:
            self._push(target, record)
        if not last % BUCKETS_PER_CHUNK:
            self._chunks.give(self._words[self._directory + last // BUCKETS_PER_CHUNK])


def _no_record(record: int) -> DamagedRing:
    return DamagedRing(f"the key index leads to {record}, which is no record")
