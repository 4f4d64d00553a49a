"""What all logs have in common: counters and cursors, limits, positions, and what leaves at the head."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kemi.errors import CorruptedError
from kemi.queue.format import layout
from kemi.queue.format.layout import C_DETACHED, C_HELD, WAITED_BOUNDS
from kemi.queue.log import core
from kemi.queue.log.core import Core, Delivery, Position
from tests.support.crash_points import Segment
from tests.support.logs import ME, ROOM, add, held, make, record, reserve, waiting

if TYPE_CHECKING:
    from kemi.queue.log.keyed import KeyedLog
    from kemi.queue.log.plain import PlainLog


@pytest.fixture(params=[0, 1, 2])
def log(request: pytest.FixtureRequest) -> PlainLog | KeyedLog:
    """Return a log of each kind."""
    return make(request.param, chunks=14)


def test_a_segment_whose_parts_do_not_fit_is_refused() -> None:
    segment = Segment()
    segment.u64[layout.W_HEAP_AT] += 8
    with pytest.raises(CorruptedError, match="its parts lie at"):
        Core(segment.plain, segment)


def test_a_number_of_records_that_cannot_be_is_corruption(log: PlainLog | KeyedLog) -> None:
    u64 = log.core.mapping.u64
    most = log.core.chunks.count * log.core.chunks.room >> 3
    u64[layout.W_ADDED] = most
    assert log.core.in_log() == most
    for added, popped in ((most + 1, 0), (0, 1)):
        u64[layout.W_ADDED], u64[layout.W_POPPED] = added, popped
        with pytest.raises(CorruptedError, match="records are said to be in the log"):
            log.core.in_log()


def test_the_size_is_possible_whatever_the_counters_say(log: PlainLog | KeyedLog) -> None:
    """It is asked without the lock, between the stores of another process."""
    u64 = log.core.mapping.u64
    u64[layout.W_POPPED] = 5
    assert log.core.size() == 0
    u64[layout.W_ADDED] = 1 << 40
    assert log.core.size() == log.core.chunks.count << log.core.chunks.bits


def test_the_size_is_without_what_is_held_and_with_what_was_returned(log: PlainLog | KeyedLog) -> None:
    add(log, b"a", b"b", b"c")
    reserve(log)
    assert (log.core.size(), log.core.in_log()) == (2, 2)
    log.nack(held(log))
    assert (log.core.size(), log.core.in_log()) == (3, 2)


def test_the_bytes_are_those_of_all_records_that_are_not_done(log: PlainLog | KeyedLog) -> None:
    """In the log and in flight, also in several chunks; never those of their heads."""
    assert log.core.used_bytes() == 0
    add(log, b"a", size=40)
    add(log, b"b", size=ROOM - 40)
    add(log, b"c", size=2 * ROOM + 64)
    assert log.core.used_bytes() == 3 * ROOM + 64
    reserve(log)
    reserve(log)
    assert log.core.used_bytes() == 3 * ROOM + 64
    log.ack(held(log))
    assert log.core.used_bytes() == 3 * ROOM + 64 - 40


def test_it_is_full_when_more_would_be_beyond_the_byte_limit(log: PlainLog | KeyedLog) -> None:
    add(log, b"a", size=40)
    assert not log.core.is_full(1 << 30)
    log.core.mapping.u64[layout.W_BYTE_LIMIT] = 100
    assert not log.core.is_full(60)
    assert log.core.is_full(61)


def test_the_excess_is_what_the_size_limit_leaves_no_place_for(log: PlainLog | KeyedLog) -> None:
    add(log, b"a", b"b", b"c")
    assert log.core.excess(9) == 0
    log.core.mapping.u64[layout.W_SIZE_LIMIT] = 4
    assert [log.core.excess(more) for more in (0, 1, 2, 3)] == [0, 0, 1, 2]


def test_an_empty_log_starts_over_when_nothing_in_its_chunk_is_in_flight(log: PlainLog | KeyedLog) -> None:
    assert log.core.can_start_over()
    add(log, b"a", b"b")
    assert not log.core.can_start_over()
    reserve(log)
    log.pop()
    assert not log.core.can_start_over()
    log.ack(held(log))
    assert log.core.can_start_over()


# --- streams ----------------------------------------------------------------------------------------------------------


def test_a_position_counts_with_the_item_that_came_from_there(log: PlainLog | KeyedLog) -> None:
    assert log.core.position_of(7) == Position(0, 7, 0, 0)
    log.append_with(*record(b"a"), Position(0, 7, 5, 6))
    assert log.core.position_of(7) == Position(0, 7, 5, 6)
    assert log.core.position_of(8) == Position(1, 8, 0, 0)
    assert log.core.positions() == [Position(0, 7, 5, 6)]


def test_where_all_places_are_taken_another_stream_has_none(log: PlainLog | KeyedLog) -> None:
    for place in range(layout.POSITIONS):
        log.append_with(*record(b"%d" % place), Position(place, 100 + place, 1, place))
    assert log.core.position_of(99) is None
    assert log.core.position_of(100) == Position(0, 100, 1, 0)


@pytest.mark.parametrize("place", [-1, layout.POSITIONS])
def test_a_place_that_is_none_is_refused(log: PlainLog | KeyedLog, place: int) -> None:
    plan = log.core.begin()
    with pytest.raises(ValueError, match=f"place={place}: a queue has the positions of 16 streams"):
        log.core.position(plan, Position(place, 1, 1, 1))


# --- how long items were in the queue ---------------------------------------------------------------------------------


def waited(log: PlainLog | KeyedLog) -> list[int]:
    """Return how many items were counted for each bound, and beyond the last one."""
    return [int(log.core.mapping.u64[layout.W_WAITED + number]) for number in range(len(WAITED_BOUNDS) + 1)]


@pytest.mark.parametrize("number", range(len(WAITED_BOUNDS) + 1))
def test_a_time_in_the_queue_is_counted_at_its_bound(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bound is the longest time of its own count."""
    log = make()
    seconds = WAITED_BOUNDS[number] if number < len(WAITED_BOUNDS) else 2 * WAITED_BOUNDS[-1]
    add(log, b"a", b"b", b"c")
    monkeypatch.setattr(core, "_now", lambda: seconds)
    for _ in range(3):
        log.core.mapping.u64[layout.W_POPPED] += 1
    log.core.measure(record(b"a")[0])
    log.core.measure(record(b"a")[0])  # nothing has left since
    assert waited(log) == [3 * (each == number) for each in range(len(WAITED_BOUNDS) + 1)]
    assert log.core.mapping.u64[layout.W_WAITED_SUM] == int(seconds * 1e6) * 3


@pytest.mark.parametrize("now", [-5.0, 1e12, float("nan")])
def test_a_time_by_a_clock_that_was_set_counts_as_none(now: float, monkeypatch: pytest.MonkeyPatch) -> None:
    log = make()
    monkeypatch.setattr(core, "_now", lambda: now)
    log.core.mapping.u64[layout.W_POPPED] = 1
    log.core.measure(record(b"a")[0])
    assert (waited(log)[0], log.core.mapping.u64[layout.W_WAITED_SUM]) == (1, 0)


# --- operations, and what leaves at the head --------------------------------------------------------------------------


def test_what_was_abandoned_was_never_there(log: PlainLog | KeyedLog) -> None:
    add(log, b"a")
    before = log.core.chunks.states().count(layout.USED)
    plan = log.core.begin()
    assert log.core.chunks.alloc()
    plan[layout.W_DROPPED] = 9
    log.core.abandon()
    assert log.core.chunks.states().count(layout.USED) == before
    assert (log.core.mapping.u64[layout.W_DROPPED], log.core.mapping.u64[layout.W_FLAGS]) == (0, 0)
    assert waiting(log) == [b"a"]


def test_a_recovery_is_counted(log: PlainLog | KeyedLog) -> None:
    log.core.begin()
    log.core.redo()
    log.core.end_recovery()
    u64 = log.core.mapping.u64
    assert (u64[layout.W_RECOVERED], u64[layout.W_FLAGS], u64[layout.W_COMMIT]) == (1, 0, 0)


def test_a_chunk_that_head_has_left_is_in_use_while_a_record_of_it_is_held(log: PlainLog | KeyedLog) -> None:
    add(log, b"a", size=ROOM - 64)
    add(log, b"b", b"c", size=48)
    chunk = log.core.head() & ~log.core.chunks.mask
    words = log.core.mapping.u64[chunk >> 3 : (chunk >> 3) + 8]
    reserve(log)
    assert (words[C_HELD], words[C_DETACHED]) == (1, 0)
    while log.pop():
        pass
    assert (words[C_HELD], words[C_DETACHED]) == (1, 1)
    assert log.core.chunks.is_used(chunk)
    assert log.ack(held(log))
    assert not log.core.chunks.is_used(chunk)


def test_a_delivery_is_what_its_entry_says(log: PlainLog | KeyedLog) -> None:
    """Those that do not count are none of its deliveries; each of them is another turn."""
    add(log, b"a")
    assert log.nack(reserve(log), counted=False)
    again = reserve(log)
    assert (again.seq, again.turn, again.deliveries) == (1, 2, 1)
    assert Delivery.of(log.core.in_flight.entries()[0]) == again
    assert log.core.in_flight.entries()[0].holder == ME
