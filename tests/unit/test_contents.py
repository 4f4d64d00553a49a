"""What a log has as a whole: what may be taken, what is not done, and throwing it all away."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kemi.queue.format import layout
from kemi.queue.log import contents
from kemi.queue.log.keyed_head import KEEP_NEWEST, KEEP_OLDEST
from kemi.queue.verify.segment import verify
from tests.support.crash_points import Segment, Walk
from tests.support.logs import HASH, ROOM, add, held, log_in, make, record, reserve, state

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kemi.queue.log.keyed import KeyedLog
    from kemi.queue.log.plain import PlainLog


@pytest.fixture(params=[0, KEEP_OLDEST, KEEP_NEWEST])
def log(request: pytest.FixtureRequest) -> PlainLog | KeyedLog:
    """Return a log of each kind."""
    return make(request.param, chunks=14)


def keys(log: PlainLog | KeyedLog, offsets: Iterable[int]) -> list[bytes]:
    return [log.core.records.key_at(at) for at in offsets]


def test_what_waits_is_what_was_returned_and_is_due_then_the_log(log: PlainLog | KeyedLog) -> None:
    """By when it is due, and of those by what left the log first; what is held or not due yet does not wait."""
    add(log, *(b"%d" % number for number in range(6)))
    for delivery, due in zip([reserve(log) for _ in range(4)], (9, 5, 5, None)):
        if due is not None:
            assert log.nack(delivery, due)
    assert keys(log, contents.waiting(log, 4)) == [b"4", b"5"]
    assert keys(log, contents.waiting(log, 5)) == [b"1", b"2", b"4", b"5"]
    assert keys(log, contents.waiting(log, 9)) == [b"1", b"2", b"0", b"4", b"5"]


def test_what_is_not_done_is_what_is_in_flight_and_the_log(log: PlainLog | KeyedLog) -> None:
    assert list(contents.undone(log)) == list(contents.waiting(log, 0)) == []
    add(log, b"a", b"b", b"c")
    first, _ = reserve(log), reserve(log)
    log.nack(first, 1000)
    assert keys(log, contents.undone(log)) == [b"a", b"b", b"c"]


def test_a_log_is_thrown_away_with_what_processes_hold(log: PlainLog | KeyedLog) -> None:
    """In one commit; who held something is told that it is not theirs any more."""
    add(log, b"a", b"b", b"c", size=ROOM // 2 & -8)
    mine, _ = reserve(log), reserve(log)
    log.nack(mine)
    theirs = held(log)
    contents.clear(log)
    u64 = log.core.mapping.u64
    assert (u64[layout.W_DROPPED], u64[layout.W_FLAGS], u64[layout.W_CHUNKS]) == (3, 0, 1)
    chunk = log.core.head() & ~log.core.chunks.mask
    head = log.core.mapping.bytes[chunk : chunk + layout.CHUNK_HEAD]
    assert list(memoryview(head).cast("Q")) == [0, 0, 0, chunk + layout.CHUNK_HEAD, 0, 0, 0, 0]
    assert u64[layout.W_MEASURED] == u64[layout.W_POPPED], "what was thrown away was not waited for"
    assert not log.ack(theirs)
    assert not log.nack(theirs)
    assert list(contents.undone(log)) == []
    assert verify(log.core.mapping, HASH) == []
    add(log, b"n")
    assert keys(log, contents.waiting(log, 0)) == [b"n"]


@pytest.mark.parametrize("mode", [0, KEEP_NEWEST])
def test_a_log_is_thrown_away_bit_by_bit_where_there_is_no_memory_for_another(mode: int) -> None:
    segment = Segment(mode, chunks=14)
    log = log_in(segment)
    assert log.format()
    add(log, b"a", b"b", b"c", size=ROOM - 64)
    reserve(log)
    log.nack(reserve(log), 1000)
    segment.limit = len(segment.there)
    while layout.FREE in segment.states():
        segment.memory[layout.CHUNK_MAP_AT + segment.states().index(layout.FREE)] = layout.ABSENT
    segment.there = {at for at in segment.there if log.core.chunks.is_used(at)}
    segment.limit = len(segment.there)
    segment.u64[layout.W_FREE_CHUNKS] = 0
    contents.clear(log)
    assert (list(contents.undone(log)), segment.u64[layout.W_DROPPED]) == ([], 3)
    assert verify(segment.plain, HASH) == []


@pytest.mark.parametrize("where", ["in the log", "returned", "held"])
def test_where_no_memory_ever_comes_all_goes_one_by_one(log: PlainLog | KeyedLog, where: str) -> None:
    """What lies in one chunk leaves none when it goes."""
    add(log, b"a", b"b", b"c")
    deliveries = [] if where == "in the log" else [reserve(log) for _ in range(3)]
    for delivery in deliveries if where == "returned" else []:
        log.nack(delivery, 1000)
    log.core.chunks._memory.limit = 0  # type: ignore[attr-defined]
    contents.clear(log)
    assert (list(contents.undone(log)), log.core.mapping.u64[layout.W_DROPPED]) == ([], 3)
    assert verify(log.core.mapping, HASH) == []


def test_an_empty_log_is_thrown_away_without_memory_too(log: PlainLog | KeyedLog) -> None:
    """There is nothing to drop that would make room: it ends all the same."""
    log.core.chunks._memory.limit = 0  # type: ignore[attr-defined]
    contents.clear(log)
    assert (list(contents.undone(log)), log.core.mapping.u64[layout.W_DROPPED]) == ([], 0)
    assert verify(log.core.mapping, HASH) == []


@pytest.mark.parametrize("mode", [0, KEEP_OLDEST, KEEP_NEWEST])
def test_struck_at_any_store_all_is_thrown_away_or_nothing(mode: int) -> None:
    segment = Segment(mode, chunks=14)
    log = log_in(segment)
    assert log.format()
    add(log, b"a", b"b", b"c", size=ROOM // 2 & -8)
    reserve(log)
    walk = Walk(segment, lambda m: log_in(segment, m), state, lambda found: verify(found.plain, HASH))
    assert walk.walk(contents.clear) > 10


@pytest.mark.parametrize("mode", [KEEP_OLDEST, KEEP_NEWEST])
def test_a_log_is_thrown_away_with_what_was_replaced_in_it(mode: int) -> None:
    """Nothing is left, and the counters go on from there."""
    log = make(mode, chunks=14)
    for name in (b"a", b"b", b"a", b"c", b"b"):
        log.append(*record(name))
    items = log.core.size()
    contents.clear(log)
    u64 = log.core.mapping.u64
    assert (log.core.size(), log.core.used_bytes(), u64[layout.W_DROPPED]) == (0, 0, items)
    assert list(contents.undone(log)) == []
    assert log.core.in_log() == 0
    assert verify(log.core.mapping, HASH) == []
    add(log, b"a")
    assert keys(log, log.scan()) == [b"a"]
