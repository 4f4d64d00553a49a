"""The key index: buckets that divide and join one at a time, on plain memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kemi.errors import DamagedRing
from kemi.queue import layout
from kemi.queue.index import Index
from kemi.queue.keyed import KeyedRing
from kemi.queue.layout import BUCKETS_PER_CHUNK, W_BUCKETS
from kemi.queue.ring import ADDED
from tests.unit.plain import Plain, drain, fill, put

if TYPE_CHECKING:
    from pytest_mock import MockerFixture

FEW = 4  # buckets in a chunk, so that the index grows over chunks soon


@pytest.fixture
def plain(mocker: MockerFixture) -> Plain:
    """Return memory for a queue whose index grows soon."""
    mocker.patch("kemi.queue.index.BUCKETS_PER_CHUNK", FEW)
    return Plain(2, chunks=40)


def index_of(plain: Plain) -> Index:
    """Return the index over the memory."""
    ring = plain.ring()
    assert isinstance(ring, KeyedRing)
    return ring._index


def test_it_grows_and_shrinks_by_single_buckets(plain: Plain) -> None:
    """One more item divides at most two buckets; one less joins a few; each key is found all the while."""
    ring = plain.watched()
    items = [(b"%d" % number, b"") for number in range(40)]
    before = index_of(plain).count()
    for number, item in enumerate(items, 1):
        fill(ring, item)
        assert index_of(plain).count() - before <= 2
        assert index_of(plain).count() == max(FEW, 2 * number)
        before = index_of(plain).count()
        plain.check()
    for _ in items:
        assert ring.pop()
        assert 0 <= before - index_of(plain).count() <= 4
        before = index_of(plain).count()
        plain.check()
    assert before == FEW


def test_it_comes_and_goes_at_a_chunk_border(plain: Plain) -> None:
    """Adding and taking one item where the index needs its next chunk is right every time."""
    ring = plain.watched()
    fill(ring, *((b"%d" % number, b"") for number in range(8)))
    for number in range(20):
        fill(ring, (b"more%d" % number, b""))
        plain.check()
        ring.pop()
        plain.check()


def test_without_memory_chains_grow_instead(plain: Plain) -> None:
    """Where the index gets no chunk, items are added and found just the same; with memory it grows again."""
    ring = plain.watched()
    plain.memory.limit = len(plain.memory.chunks)
    fill(ring, *((b"%d" % number, b"") for number in range(30)))
    assert index_of(plain).count() == FEW
    plain.check()
    plain.memory.limit = 40
    fill(ring, *((b"more%d" % number, b"") for number in range(20)))
    assert index_of(plain).count() > FEW
    plain.check()


def test_recover_makes_it_anew(plain: Plain) -> None:
    """Rubbish in buckets and links is gone afterwards."""
    fill(plain.ring(), *((b"%d" % number, b"") for number in range(40)))
    index = index_of(plain)
    for bucket in range(index.count()):
        plain.halves[index._place_of(bucket)] = 12345
    plain.words[W_BUCKETS] = 1
    plain.watched().recover()
    assert len(plain.check()) == 40


def test_all_keys_in_one_bucket(plain: Plain, mocker: MockerFixture) -> None:
    """Keys that collide are told apart, replaced and taken by their text."""
    mocker.patch("kemi.queue.keyhash.function_of", return_value=lambda _, __: bytes(8))
    ring = plain.watched()
    items = [(b"%d" % number, b"old") for number in range(12)]
    fill(ring, *items)
    fill(ring, (b"6", b"new"), (b"0", b"new"), (b"11", b"new"))
    left = [item for item in items if item[0] not in (b"6", b"0", b"11")]
    assert plain.check() == [*left, (b"6", b"new"), (b"0", b"new"), (b"11", b"new")]


def test_the_hash_is_secret() -> None:
    """Another secret gives other places, so nobody can choose keys that collide."""
    plain = Plain(2)
    keys = [b"%d" % number for number in range(100)]
    first = [index_of(plain).place(key) for key in keys]
    assert first == [index_of(plain).place(key) for key in keys]
    plain.words[layout.W_SECRET] += 1
    assert sum(index_of(plain).place(key) == place for key, place in zip(keys, first)) < 5


def test_a_table_that_moved_is_noticed(plain: Plain) -> None:
    """Another process has the same number of buckets as at this one's last look, but one of their chunks is new."""
    ring, other = plain.watched(), plain.ring()
    fill(ring, *((b"%d" % number, b"") for number in range(4)))
    fill(other, (b"0", b"seen"))
    assert index_of(plain).count() == 2 * FEW
    assert len(drain(ring)) == 4
    assert index_of(plain).count() == FEW
    fill(ring, (b"large", bytes(300_000)), *((b"%d" % number, b"old") for number in range(3)))
    assert index_of(plain).count() == 2 * FEW
    fill(other, *((b"%d" % number, b"new") for number in range(3)))
    assert plain.check()[1:] == [(b"%d" % number, b"new") for number in range(3)]
    other.recover()
    fill(ring, *((b"%d" % number, b"newest") for number in range(3)))
    assert plain.check()[1:] == [(b"%d" % number, b"newest") for number in range(3)]


def test_a_record_that_is_not_there_is_said_so(plain: Plain) -> None:
    """Removing what was never put in is DamagedRing, and no endless search."""
    fill(plain.ring(), (b"a", b""))
    index = index_of(plain)
    with pytest.raises(DamagedRing, match="not in the key index"):
        index.remove(index.place(b"a"), plain.words[layout.W_TAIL], 1)


def test_more_keys_than_a_chunk_has_buckets() -> None:
    """With the real size of a chunk: the index grows to a second one, and joins again while the queue drains."""
    plain = Plain(2, chunks=20)
    ring = plain.ring()
    items = [(b"%d" % number, b"") for number in range(BUCKETS_PER_CHUNK + 1000)]
    for key, value in items:
        assert put(ring, key, value) == ADDED
    assert index_of(plain).count() == 2 * len(items)
    plain.check()
    assert drain(ring) == items
    assert index_of(plain).count() == BUCKETS_PER_CHUNK
    plain.check()
