"""The head of a plain log: what comes next, what is dropped first, and what was held and comes back."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from kemi.errors import CorruptedError
from kemi.queue.format import layout
from kemi.queue.format.layout import TOMBSTONE
from kemi.queue.log import plain_head
from kemi.queue.log.core import Delivery
from kemi.queue.log.plain import PlainLog
from tests.support.logs import ME, OTHER, ROOM, add, held, make, pair, question, record, reserve, waiting

if TYPE_CHECKING:
    from kemi.queue.store.inflight import Entry


@pytest.fixture
def log() -> PlainLog:
    return cast("PlainLog", make(chunks=14))


def fetched(log: PlainLog, now: int = 0) -> bytes:
    """Return the key of what a fetch takes; b"" if there is nothing."""
    found = log.fetch(now)
    return pair(found)[0] if found else b""


def returned(log: PlainLog, due: int = 0) -> Entry:
    """Reserve the oldest and give it back. Return its entry."""
    delivery = reserve(log)
    assert log.nack(delivery, due)
    return next(entry for entry in log.core.in_flight.entries() if entry.number == delivery.number)


def test_nothing_comes_from_an_empty_log(log: PlainLog) -> None:
    head = log.head
    assert (head.oldest(), head.next(0), head.fetch(0), head.reserve(ME, 0)) == (None, 0, None, None)
    assert (head.reserve_oldest(ME), head.drop_aged(0, 1e12)) == (None, 0)
    plan = log.core.begin()
    head.plan_drop(plan)
    assert not plan


def test_what_was_returned_comes_first_once_it_is_due(log: PlainLog) -> None:
    add(log, b"a", b"b", b"c")
    entry = returned(log, 5)
    assert log.next(4) == log.core.head()
    assert fetched(log, 4) == b"b"
    assert log.next(5) == entry.at
    assert [fetched(log, 5) for _ in range(3)] == [b"a", b"c", b""]


def test_what_was_returned_is_held_again_without_a_new_entry(log: PlainLog) -> None:
    """And a new item is not, where there is no entry for it: that one stays in the log."""
    add(log, *(b"%d" % number for number in range(9)))
    deliveries = [reserve(log) for _ in range(log.core.in_flight.capacity)]
    assert log.reserve(ME, 0) is None
    assert log.reserve_oldest(ME) is None
    log.nack(deliveries[2])
    found = log.reserve(OTHER, 0)
    assert found
    assert (found[0].number, found[0].turn, pair(found[1])[0]) == (deliveries[2].number, 2, b"2")
    assert waiting(log) == [b"6", b"7", b"8"]


def test_a_hold_that_does_not_count_leaves_the_number_of_deliveries(log: PlainLog) -> None:
    add(log, b"a")
    assert log.hold(returned(log), ME, counted=False)[0].deliveries == 1
    assert log.nack(held(log))
    assert log.hold(log.core.in_flight.entries()[0], ME)[0].deliveries == 2


def test_only_the_present_delivery_can_be_given_back(log: PlainLog) -> None:
    add(log, b"a")
    first = reserve(log)
    for wrong in (first._replace(seq=2), first._replace(turn=2), Delivery(first.number ^ 1, 1)):
        assert not log.nack(wrong)
    assert log.nack(first)
    assert not log.nack(first)
    assert log.nack(reserve(log))


def test_the_oldest_is_dropped_before_others_and_a_returned_one_before_all(log: PlainLog) -> None:
    add(log, b"a", b"b", b"c")
    returned(log, 1000)
    for left in ([b"b", b"c"], [b"c"], []):
        plan = log.core.begin()
        log.head.plan_drop(plan)
        log.core.commit(plan)
        assert waiting(log) == left
    assert log.core.mapping.u64[layout.W_DROPPED] == 3
    assert log.core.in_flight.entries() == []


def test_what_is_too_old_goes_up_to_the_first_that_is_not(log: PlainLog) -> None:
    for number, added in enumerate([1.0, 2.0, 5.0, 3.0]):
        log.append(*record(b"%d" % number, 40, added))
    assert log.drop_aged(0, 1.0) == 0
    assert log.drop_aged(0, 5.0) == 2
    assert waiting(log) == [b"2", b"3"]
    assert log.drop_aged(0, 5.0) == 0
    u64 = log.core.mapping.u64
    assert (u64[layout.W_EXPIRED], u64[layout.W_POPPED], u64[layout.W_MEASURED]) == (2, 2, 2)


def test_what_was_returned_is_too_old_by_itself(log: PlainLog) -> None:
    """It is the next one, so it is looked at alone; what is behind it comes with the next call."""
    add(log, b"a", b"b")
    returned(log)
    assert log.drop_aged(0, 1.0) == 1
    assert waiting(log) == [b"b"]
    assert log.core.in_flight.entries() == []


def test_one_commit_drops_so_many_that_are_too_old(log: PlainLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain_head, "_MAX_AGED", 3)
    add(log, *(b"%d" % number for number in range(8)))
    assert [log.drop_aged(0, 1.0) for _ in range(4)] == [3, 3, 2, 0]


@pytest.mark.parametrize("size", [ROOM, 2 * ROOM])
def test_one_that_ends_its_chunk_and_is_too_old_goes_alone(log: PlainLog, size: int) -> None:
    add(log, b"a", size=size)
    add(log, b"b")
    assert [log.drop_aged(0, 1.0) for _ in range(3)] == [1, 1, 0]
    assert log.core.size() == 0


def test_a_question_is_not_reserved_by_the_short_way(log: PlainLog) -> None:
    log.append(*question(b"q"))
    add(log, b"a", b"b")
    assert log.reserve_oldest(ME) is None
    assert log.pop()
    found = log.reserve_oldest(ME)
    assert found
    assert (found[0], pair(found[1])[0]) == (Delivery(0, 2, 1, 1), b"a")
    assert waiting(log) == [b"b"]


def test_unused_room_is_followed_by_a_record_or_it_is_corruption(log: PlainLog) -> None:
    add(log, b"a", size=ROOM - 16)
    add(log, b"b", size=640)
    assert log.pop()
    found = log.head.oldest()
    assert found
    assert found[2] == log.core.head() & ~log.core.chunks.mask
    log.core.mapping.u32[found[0] >> 2] = TOMBSTONE | 16
    with pytest.raises(CorruptedError, match="nothing but unused room is at the head"):
        log.head.oldest()
