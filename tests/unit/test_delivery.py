"""Holding a record and being done with it by the short way: who may not, what is counted, and which way is gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kemi.queue.format import keyhash, layout
from kemi.queue.log.core import Delivery
from kemi.queue.log.keyed import KeyedLog
from kemi.queue.log.plain import PlainLog
from tests.support.crash_points import Segment
from tests.support.logs import ME, record

if TYPE_CHECKING:
    from pytest_mock import MockerFixture

ITEMS = 4


@pytest.fixture(params=[0, 1, 2])
def log(request: pytest.FixtureRequest) -> PlainLog | KeyedLog:
    """Return a log with some items, whose entries were all used once."""
    segment = Segment(request.param, capacity=ITEMS)
    log: PlainLog | KeyedLog
    if request.param:
        log = KeyedLog(segment.plain, segment, keyhash.function_of(keyhash.FORM))
    else:
        log = PlainLog(segment.plain, segment)
    assert log.format()
    for number in range(ITEMS):
        log.append(*record(b"early %d" % number))
    for held in [reserve(log) for _ in range(ITEMS)]:
        assert log.ack(held)
    for number in range(ITEMS):
        log.append(*record(b"%d" % number))
    return log


def reserve(log: PlainLog | KeyedLog) -> Delivery:
    """Reserve the next item."""
    found = log.reserve(ME, 0)
    assert found
    return found[0]


def numbers(log: PlainLog | KeyedLog) -> tuple[int, int, int, int]:
    """Return items in the log, in flight and returned, and bytes that are held."""
    u64 = log.core.mapping.u64
    return log.core.in_log(), u64[layout.W_IN_FLIGHT], u64[layout.W_RETURNED], u64[layout.W_HELD_BYTES]


def test_each_is_held_and_done_once(log: PlainLog | KeyedLog) -> None:
    length = record(b"0")[1]
    held = [reserve(log) for _ in range(ITEMS)]
    assert log.reserve(ME, 0) is None
    assert numbers(log) == (0, ITEMS, 0, ITEMS * length)
    for left, each in zip(range(ITEMS - 1, -1, -1), held):
        assert log.ack(each)
        assert numbers(log) == (0, left, 0, left * length)
        assert not log.ack(each)
    assert not log.core.mapping.u64[layout.W_FLAGS] & layout.FETCH_IN_FLIGHT


@pytest.mark.parametrize("which", range(ITEMS))
def test_what_was_given_back_is_not_done(log: PlainLog | KeyedLog, which: int) -> None:
    """Who gave it back cannot be done with it any more, whether others hold it or not."""
    held = [reserve(log) for _ in range(ITEMS)]
    assert log.nack(held[which], 0)
    before = numbers(log)
    assert not log.ack(held[which])
    again = reserve(log)
    assert again.number == held[which].number
    assert not log.ack(held[which])
    assert numbers(log)[:2] == before[:2]
    assert log.ack(again)


def test_a_delivery_that_never_was_is_not_done(log: PlainLog | KeyedLog) -> None:
    held = reserve(log)
    before = numbers(log)
    for wrong in (held._replace(seq=held.seq + 1), held._replace(turn=2), held._replace(number=held.number ^ 1)):
        assert not log.ack(wrong)
    assert numbers(log) == before


def test_what_is_done_for_another_reason_is_counted(log: PlainLog | KeyedLog) -> None:
    u64 = log.core.mapping.u64
    held = reserve(log)
    assert log.ack(held, layout.W_DROPPED)
    assert not log.ack(held, layout.W_DROPPED)
    assert u64[layout.W_DROPPED] == 1


def test_most_items_that_there_were_are_counted_when_one_is_held(log: PlainLog | KeyedLog) -> None:
    u64 = log.core.mapping.u64
    log.append(*record(b"one more"))
    assert u64[layout.W_HIGH_WATER] == ITEMS
    reserve(log)
    assert u64[layout.W_HIGH_WATER] == ITEMS + 1
    log.append(*record(b"and one"))
    reserve(log)
    assert u64[layout.W_HIGH_WATER] == ITEMS + 1


def test_what_lies_in_one_chunk_goes_the_short_way(log: PlainLog | KeyedLog, mocker: MockerFixture) -> None:
    """No plan is made for it."""
    begin = mocker.spy(log.core, "begin")
    assert log.ack(reserve(log))
    assert not begin.called
