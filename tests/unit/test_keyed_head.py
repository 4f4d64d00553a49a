"""The head of a keyed log: tombstones that it goes past, what comes back, and of two items of one key one."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, cast

import pytest

from kemi.errors import CorruptedError
from kemi.queue.format import layout
from kemi.queue.format.layout import RETURNED, TOMBSTONE
from kemi.queue.log.core import Delivery
from kemi.queue.log.keyed_head import KEEP_NEWEST, KEEP_OLDEST
from tests.support.logs import ME, ROOM, add, held, make, pair, question, record, reserve, waiting
from tests.unit.test_keyed import MODES, go_on, log_of, new, put

if TYPE_CHECKING:
    from kemi.queue.log.keyed import KeyedLog


@MODES
@pytest.mark.parametrize("first", [0, 1])
def test_of_two_held_items_of_one_key_one_comes_back(mode: int, first: int) -> None:
    """Whichever is given back first; a strike between the two commits leaves the other one held."""
    walk = new(mode)
    log = log_of(walk)
    put(log, b"a")
    reserve(log)
    put(log, b"a", 48)
    put(log, b"b")
    reserve(log)
    assert log.nack(held(log, first))
    before = [pair(log.core.records.read(entry.at)) for entry in log.core.in_flight.entries()]

    def work(log: KeyedLog) -> None:
        log.nack(held(log))

    def without_twin(found: Any) -> Any:
        items, entries, holders, positions, dropped, expired, size, used, gone = found
        left = [entry for entry in entries if not entry[4]]
        return items, left, holders, positions, dropped, expired, size - 1, used - [40, 48][first], gone + 1

    walk.walk(work, go_on, without_twin)
    (entry,) = log_of(walk).core.in_flight.entries()
    assert pair(log_of(walk).core.records.read(entry.at)) == before[0 if mode == KEEP_OLDEST else 1]


@pytest.fixture
def log() -> KeyedLog:
    return cast("KeyedLog", make(KEEP_NEWEST, chunks=14))


def test_the_head_goes_past_tombstones_and_out_of_a_chunk_that_has_nothing_else(log: KeyedLog) -> None:
    add(log, b"a", b"b", size=1344)
    add(log, b"c", size=ROOM - 8 - 2 * 1344)
    first = log.core.head() & ~log.core.chunks.mask
    add(log, b"d")
    add(log, b"a", b"b")
    assert not log.head.leaves_chunk()
    assert log.core.records.key_at(log.core.head()) == b"c"
    add(log, b"c")
    assert log.head.leaves_chunk()
    assert not log.core.chunks.is_used(first)
    assert log.core.records.key_at(log.core.head()) == b"d"
    assert log.core.mapping.u64[layout.W_DEAD] == 0


@pytest.mark.parametrize("word", [layout.W_DEAD, None])
def test_tombstones_that_are_not_counted_are_corruption(log: KeyedLog, word: int | None) -> None:
    """In the whole log, or in their chunk: nothing has changed."""
    add(log, b"a", b"b", b"a")
    head, u64 = log.core.head(), log.core.mapping.u64
    u64[word or (log.core.head() & ~log.core.chunks.mask) // 8 + layout.C_DEAD] = 0
    with pytest.raises(struct.error):
        log.pop()
    assert (log.core.head(), u64[layout.W_COMMIT]) == (head, 0)


def test_in_an_empty_log_the_head_stays(log: KeyedLog) -> None:
    at = log.core.head()
    log.head.skip_tombstones()
    assert (log.core.head(), log.head.oldest(), log.next(0), log.fetch(0)) == (at, None, 0, None)
    plan = log.core.begin()
    log.head.plan_drop(plan)
    assert not plan


@pytest.mark.parametrize(
    ("step", "words"),
    [(TOMBSTONE | ROOM + 8, "reaches over the end"), (40 | RETURNED, "has the step"), (TOMBSTONE, "has 0 bytes")],
)
def test_a_step_at_the_head_that_cannot_be_is_corruption(log: KeyedLog, step: int, words: str) -> None:
    add(log, b"a", b"b")
    log.core.mapping.u32[log.core.head() >> 2] = step
    with pytest.raises(CorruptedError, match=words):
        log.head.oldest()


def test_what_was_returned_comes_first_once_it_is_due(log: KeyedLog) -> None:
    add(log, b"a", b"b", b"c")
    assert log.nack(reserve(log), 5)
    assert [pair(log.fetch(now) or b"")[0] for now in (4, 5, 5)] == [b"b", b"a", b"c"]


def test_the_oldest_is_dropped_before_others_and_a_returned_one_before_all(log: KeyedLog) -> None:
    add(log, b"a", b"b", b"c", b"d")
    assert log.nack(reserve(log), 1000)
    add(log, b"b")  # a tombstone is then at the head
    log.head.drop(1)
    assert waiting(log) == [b"c", b"d", b"b"]
    log.head.drop(2)
    assert waiting(log) == [b"b"]
    log.head.drop(5)
    u64 = log.core.mapping.u64
    assert (log.core.size(), u64[layout.W_DROPPED], log.core.in_flight.entries()) == (0, 4, [])


def test_what_is_too_old_goes_one_by_one(log: KeyedLog) -> None:
    for number, added in enumerate([1.0, 2.0, 5.0]):
        log.append(*record(b"%d" % number, 40, added))
    assert log.nack(reserve(log))
    assert [log.drop_aged(0, 3.0) for _ in range(3)] == [1, 1, 0]
    assert (waiting(log), log.core.mapping.u64[layout.W_EXPIRED]) == ([b"2"], 2)


def test_a_question_is_not_reserved_by_the_short_way(log: KeyedLog) -> None:
    log.append(*question(b"q"))
    add(log, b"a", b"b")
    assert log.reserve_oldest(ME) is None
    assert log.pop()
    found = log.reserve_oldest(ME)
    assert found
    assert (found[0], pair(found[1])[0]) == (Delivery(0, 2), b"a")


def test_without_an_entry_nothing_is_held(log: KeyedLog) -> None:
    add(log, *(b"%d" % number for number in range(9)))
    deliveries = [reserve(log) for _ in range(log.core.in_flight.capacity)]
    assert log.reserve(ME, 0) is None
    assert log.reserve_oldest(ME) is None
    assert log.core.in_log() == 3
    assert log.nack(deliveries[0])
    assert reserve(log).turn == 2


def test_only_the_present_delivery_can_be_given_back(log: KeyedLog) -> None:
    add(log, b"a")
    first = reserve(log)
    for wrong in (first._replace(seq=2), first._replace(turn=2), Delivery(first.number ^ 1, 1)):
        assert not log.nack(wrong)
    assert log.nack(first)
    assert not log.nack(first)


@MODES
def test_an_item_that_comes_back_finds_a_newer_one_of_its_key(mode: int) -> None:
    """Addmode 1 keeps the one that comes back, addmode 2 the newer one."""
    log = make(mode, chunks=14)
    add(log, b"a")
    first = reserve(log)
    add(log, b"b")
    add(log, b"a", size=48)
    assert log.nack(first) == (mode == KEEP_OLDEST)
    u64 = log.core.mapping.u64
    counted = (u64[layout.W_DISCARDED], u64[layout.W_BURIED])
    assert (waiting(log), counted) == (([b"b"], (0, 1)) if mode == KEEP_OLDEST else ([b"b", b"a"], (1, 0)))


def test_buckets_are_closed_when_few_items_are_left(log: KeyedLog) -> None:
    add(log, *(b"%d" % number for number in range(60)))
    u64 = log.core.mapping.u64
    most = u64[layout.W_BUCKETS]
    while log.core.size() > 2:
        assert log.fetch(0)
    assert u64[layout.W_BUCKETS] < most // 2
    assert waiting(log) == [b"58", b"59"]
