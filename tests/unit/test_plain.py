"""The plain log of format 5 on plain memory: every operation, struck at every store."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest

from kemi.queue.format import layout
from kemi.queue.log.core import ADDED, NO_MEMORY, Delivery, Position
from kemi.queue.log.plain import PlainLog
from kemi.queue.verify.segment import verify
from tests.support.crash_points import Segment, Walk
from tests.support.logs import OTHER, ROOM, give_back, held, limited, record, reserve, state, then

if TYPE_CHECKING:
    from collections.abc import Callable


def put(log: PlainLog, key: bytes, size: int = 40) -> None:
    assert log.append(*record(key, size)) == ADDED


def new(**kind: Any) -> Walk:
    segment = Segment(**kind)
    assert PlainLog(segment.plain, segment).format()
    return Walk(segment, lambda mapping: PlainLog(mapping, segment), state, lambda found: verify(found.plain))


def log_of(walk: Walk) -> PlainLog:
    log: PlainLog = walk.open_log(walk.segment.plain)
    return log


def go_on(log: PlainLog) -> None:
    """Use the log in all ways, and end with an empty one."""
    for size in (64, ROOM, 2 * ROOM + 64):
        if log.append(*record(b"x", size)) == NO_MEMORY:
            break
    for entry in log.core.in_flight.entries():
        if not entry.position:
            assert log.ack(Delivery.of(entry))
    while log.fetch(1 << 62) is not None:
        pass
    assert log.core.size() == 0


def sizes(*steps: int) -> Callable[[PlainLog], None]:
    def fill(log: PlainLog) -> None:
        for number, step in enumerate(steps):
            put(log, b"%d" % number, step)

    return fill


def shift(number: int) -> Callable[[PlainLog], None]:
    """Leave `number` bytes to the end of the first chunk, and nothing before."""

    def do(log: PlainLog) -> None:
        put(log, b"shift", ROOM - number)
        assert log.pop()

    return do


OPERATIONS: dict[str, tuple[Callable[[PlainLog], None], Callable[[PlainLog], object]]] = {
    "append": (sizes(64), lambda log: put(log, b"n")),
    "append to an empty log": (sizes(), lambda log: put(log, b"n")),
    "append to the end of a chunk": (sizes(ROOM - 640), lambda log: put(log, b"n", 640)),
    "append over the end of a chunk": (sizes(ROOM - 640), lambda log: put(log, b"n", 1024)),
    "append behind a filler": (sizes(ROOM - 16), lambda log: put(log, b"n", 640)),
    "append over several chunks": (sizes(640), lambda log: put(log, b"n", 3 * ROOM + 640)),
    "append whole chunks": (sizes(ROOM), lambda log: put(log, b"n", 2 * ROOM)),
    "append with a position": (sizes(64), lambda log: log.append_with(*record(b"n"), Position(3, 9, 8, 7))),
    "append run": (sizes(64), lambda log: log.append_run([record(b"n")[0], record(b"m")[0], record(b"o")[0]], 0)),
    "append at the limit": (then(sizes(64, 64), limited(2)), lambda log: log.append_with(*record(b"n"))),
    "append at the limit, over chunks": (
        then(sizes(ROOM - 64, 640), limited(2)),
        lambda log: log.append_with(*record(b"n", 2 * ROOM)),
    ),
    "append at the limit, one returned": (
        then(sizes(64, 64), give_back, limited(2)),
        lambda log: log.append_with(*record(b"n")),
    ),
    "pop": (sizes(64, 64), lambda log: log.pop()),
    "pop the last": (sizes(64), lambda log: log.pop()),
    "pop to the end of a chunk": (sizes(ROOM, 64), lambda log: log.pop()),
    "pop behind a filler": (then(sizes(ROOM - 16, 640, 64), PlainLog.pop), lambda log: log.pop()),
    "pop over several chunks": (sizes(3 * ROOM, 64), lambda log: log.pop()),
    "pop run": (then(sizes(64, 64, 64, 64, 64, 64), PlainLog.pop), lambda log: log.pop_run(4)),
    "drop what is too old": (sizes(64, 64), lambda log: log.drop_aged(0, math.inf)),
    "drop many that are too old": (sizes(*[64] * 7), lambda log: log.drop_aged(0, math.inf)),
    "drop one behind a filler that is too old": (
        then(sizes(ROOM - 16, 640, 64), PlainLog.pop),
        lambda log: log.drop_aged(0, math.inf),
    ),
    "drop a returned one that is too old": (
        then(sizes(64, 64), give_back),
        lambda log: log.drop_aged(0, math.inf),
    ),
    "reserve": (sizes(64, 64), reserve),
    "reserve a second one": (then(sizes(64, 64, 64), reserve), reserve),
    "reserve with a freed entry": (
        then(sizes(64, 64, 64, 64), reserve, reserve, lambda log: log.ack(held(log))),
        reserve,
    ),
    "reserve over several chunks with a freed entry": (
        then(sizes(64, 64, 3 * ROOM, 64), reserve, reserve, lambda log: log.ack(held(log))),
        reserve,
    ),
    "reserve at the end of a chunk": (sizes(ROOM, 64), reserve),
    "reserve over the end of a chunk": (then(shift(640), sizes(1024, 64)), reserve),
    "reserve over several chunks": (then(shift(640), sizes(3 * ROOM, 64)), reserve),
    "reserve behind a filler": (then(sizes(ROOM - 16, 640, 64), PlainLog.pop), reserve),
    "reserve behind a filler, one held": (then(sizes(ROOM - 16, 640, 64), reserve), reserve),
    "pop over a chunk with one held": (then(sizes(64, ROOM - 64, 64), reserve), lambda log: log.pop()),
    "ack": (then(sizes(64, 64), reserve), lambda log: log.ack(held(log))),
    "ack in a detached chunk": (then(sizes(64, ROOM, 64), reserve, PlainLog.pop), lambda log: log.ack(held(log))),
    "ack over several chunks": (
        then(shift(640), sizes(3 * ROOM, 64), reserve),
        lambda log: log.ack(held(log)),
    ),
    "ack over several chunks, all detached": (
        then(shift(640), sizes(3 * ROOM, ROOM, 64), reserve, PlainLog.pop),
        lambda log: log.ack(held(log)),
    ),
    "nack": (then(sizes(64, 64), reserve), lambda log: log.nack(held(log))),
    "nack uncounted": (then(sizes(64, 64), reserve), lambda log: log.nack(held(log), 9, counted=False)),
    "nack later": (then(sizes(64, 64), reserve), lambda log: log.nack(held(log), 1000)),
    "redeliver": (then(sizes(64, 64), give_back), lambda log: log.reserve(OTHER, 0)),
    "redeliver one of several": (
        then(sizes(*[64] * 6), *[reserve] * 5, *[lambda log: log.nack(held(log), 5)] * 5),
        lambda log: log.reserve(OTHER, 5),
    ),
    "fetch what was returned": (then(sizes(3 * ROOM, 64), give_back), lambda log: log.fetch(0)),
    "fetch what was returned, one of several": (
        then(sizes(*[64] * 6), *[reserve] * 5, *[lambda log: log.nack(held(log), 5)] * 5),
        lambda log: log.fetch(5),
    ),
}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_struck_at_any_store_it_is_done_or_not(operation: str) -> None:
    """By a kill, within a long store, by an exception, and once more inside the repair."""
    prepare, work = OPERATIONS[operation]
    walk = new()
    prepare(log_of(walk))
    assert walk.walk(work, go_on) >= 6


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_struck_where_memory_ends_it_is_not_done(limit: int) -> None:
    walk = new(limit=limit)
    put(log_of(walk), b"0", 640)
    assert walk.walk(lambda log: log.append(*record(b"n", 3 * ROOM)), go_on) > 6
    assert log_of(walk).append(*record(b"n", 3 * ROOM)) == NO_MEMORY


def test_the_first_chunk_begins_with_nothing_but_zeros() -> None:
    """No chunk comes before or behind it, nothing in it is held or dead."""
    log = log_of(new())
    chunk = log.core.head() - layout.CHUNK_HEAD
    assert log.core.mapping.bytes[chunk : chunk + layout.CHUNK_HEAD] == bytes(layout.CHUNK_HEAD)
