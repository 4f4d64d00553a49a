"""The keyed log of format 5 on plain memory: every operation, struck at every store."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest

from kemi.queue.format import layout
from kemi.queue.log import compaction
from kemi.queue.log.core import ADDED, FULL, KEPT, NO_MEMORY, Delivery, Position
from kemi.queue.log.keyed import KeyedLog
from kemi.queue.log.keyed_head import KEEP_NEWEST, KEEP_OLDEST
from kemi.queue.verify.segment import verify
from tests.support.crash_points import Segment, Walk
from tests.support.logs import HASH, OTHER, ROOM, give_back, held, limited, record, reserve, then
from tests.support.logs import state as plain_state

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_mock import MockerFixture

MODES = pytest.mark.parametrize("mode", [KEEP_OLDEST, KEEP_NEWEST])
Work = "Callable[[KeyedLog], object]"


def put(log: KeyedLog, key: bytes, size: int = 40) -> None:
    assert log.append(*record(key, size)) in (ADDED, KEPT)


def state(log: KeyedLog) -> Any:
    """Return all that counts, as of a plain log, and what gave way to another item of its key."""
    u64 = log.core.mapping.u64
    return *plain_state(log), u64[layout.W_BURIED] + u64[layout.W_DISCARDED]


def new(mode: int, **kind: Any) -> Walk:
    segment = Segment(mode, **{"chunks": 14, **kind})
    assert KeyedLog(segment.plain, segment, HASH).format()
    return Walk(
        segment, lambda mapping: KeyedLog(mapping, segment, HASH), state, lambda found: verify(found.plain, HASH)
    )


def log_of(walk: Walk) -> KeyedLog:
    log: KeyedLog = walk.open_log(walk.segment.plain)
    return log


def go_on(log: KeyedLog) -> None:
    """Use the log in all ways, and end with an empty one."""
    for number in range(6):
        if log.append(*record(b"x%d" % number, ROOM // 3 & -8)) == NO_MEMORY:
            break
    for key in [log.core.records.key_at(at) for at in log.scan()][::2]:
        log.append(*record(key, 48))
    for entry in log.core.in_flight.entries():
        if not entry.position:
            assert log.ack(Delivery.of(entry))
    while log.fetch(1 << 62) is not None:
        pass
    assert log.core.size() == 0


def keys(*names: bytes, size: int = 40) -> Callable[[KeyedLog], None]:
    def fill(log: KeyedLog) -> None:
        for name in names:
            put(log, name, size)

    return fill


def adding(key: bytes, size: int = 48) -> Callable[[KeyedLog], object]:
    return lambda log: log.append(*record(key, size))


HALF = ROOM // 2 & -8
A_B = keys(b"a", b"b")
OPERATIONS: dict[str, tuple[Callable[[KeyedLog], None], Callable[[KeyedLog], object]]] = {
    "append a new key": (A_B, adding(b"n")),
    "append to an empty log": (keys(), adding(b"n")),
    "append a key that is there": (A_B, adding(b"a")),
    "replace in the middle": (keys(b"a", b"b", b"c"), adding(b"b")),
    "replace the last": (keys(b"a", b"b", b"c"), adding(b"c")),
    "replace the only one": (keys(b"a"), adding(b"a")),
    "append over the end of a chunk": (keys(b"a", size=HALF), adding(b"b", HALF)),
    "append over the end of a chunk that is dead": (
        then(keys(b"a", size=ROOM - 64), keys(b"b", size=40), adding(b"b", 16 + 40), KeyedLog.pop),
        adding(b"n", HALF),
    ),
    "replace empties a chunk": (keys(b"a", b"b", b"c", b"d", size=ROOM - 64), adding(b"b", 64)),
    "replace empties the first chunk": (keys(b"a", b"b", b"c", size=ROOM - 64), adding(b"a", 64)),
    "append a long one": (A_B, adding(b"n", 3 * ROOM + 64)),
    "append a long one that fills chunks": (A_B, adding(b"n", 2 * ROOM)),
    "append behind a long one": (keys(b"a", b"b", size=2 * ROOM + 64), adding(b"n")),
    "replace a long one": (then(A_B, keys(b"n", size=2 * ROOM + 64), keys(b"c")), adding(b"n")),
    "replace a long one by a long one": (
        then(A_B, keys(b"n", size=2 * ROOM + 64), keys(b"c")),
        adding(b"n", 2 * ROOM + 64),
    ),
    "replace a long one at the head": (then(keys(b"n", size=2 * ROOM + 64), A_B), adding(b"n")),
    "replace a long one that ends with chunks": (
        then(A_B, keys(b"n", size=2 * ROOM), keys(b"c", b"d", size=HALF)),
        adding(b"n"),
    ),
    "append with a position": (A_B, lambda log: log.append_with(*record(b"n"), Position(3, 9, 8, 7))),
    "append a key that is there with a position": (
        A_B,
        lambda log: log.append_with(*record(b"a"), Position(3, 9, 8, 7)),
    ),
    "append at the limit": (then(A_B, limited(2)), lambda log: log.append_with(*record(b"n"))),
    "append at the limit, replacing": (then(A_B, limited(2)), lambda log: log.append_with(*record(b"a"))),
    "append at the limit, over chunks": (
        then(keys(b"a", size=ROOM - 64), keys(b"b", size=640), limited(2)),
        lambda log: log.append_with(*record(b"n", 2 * ROOM)),
    ),
    "append at the limit, one returned": (then(A_B, give_back, limited(2)), lambda log: log.append_with(*record(b"n"))),
    "pop": (A_B, KeyedLog.pop),
    "pop the only one": (keys(b"a"), KeyedLog.pop),
    "pop behind tombstones": (then(keys(b"a", b"b", b"c"), adding(b"a"), adding(b"b")), KeyedLog.pop),
    "pop over the end of a chunk": (then(keys(b"a", b"b", size=ROOM - 64), KeyedLog.pop), KeyedLog.pop),
    "pop a long one": (then(keys(b"n", size=2 * ROOM + 64), A_B), KeyedLog.pop),
    "drop what is too old": (A_B, lambda log: log.drop_aged(0, math.inf)),
    "drop a long one that is too old": (
        then(keys(b"n", size=2 * ROOM + 64), A_B),
        lambda log: log.drop_aged(0, math.inf),
    ),
    "drop a returned one that is too old": (then(A_B, give_back), lambda log: log.drop_aged(0, math.inf)),
    "reserve": (A_B, reserve),
    "reserve with a freed entry": (
        then(keys(b"a", b"b", b"c", b"d"), reserve, reserve, lambda log: log.ack(held(log))),
        reserve,
    ),
    "reserve behind tombstones": (then(keys(b"a", b"b", b"c"), adding(b"a"), adding(b"b")), reserve),
    "reserve a long one": (then(keys(b"n", size=2 * ROOM + 64), A_B), reserve),
    "leave a chunk with one held": (then(keys(b"a", b"b", size=HALF), reserve, keys(b"c")), KeyedLog.pop),
    "ack": (then(A_B, reserve), lambda log: log.ack(held(log))),
    "ack a long one": (then(keys(b"n", size=2 * ROOM + 64), A_B, reserve), lambda log: log.ack(held(log))),
    "nack": (then(A_B, reserve), lambda log: log.nack(held(log))),
    "nack uncounted": (then(A_B, reserve), lambda log: log.nack(held(log), 9, counted=False)),
    "nack the only one": (then(keys(b"a"), reserve), lambda log: log.nack(held(log), 1000)),
    "nack when the key is there anew": (then(A_B, reserve, keys(b"a")), lambda log: log.nack(held(log))),
    "nack when the key is there anew, long": (
        then(A_B, reserve, keys(b"a", size=2 * ROOM + 64), keys(b"c")),
        lambda log: log.nack(held(log)),
    ),
    "redeliver": (then(A_B, give_back), lambda log: log.reserve(OTHER, 0)),
    "fetch what was returned": (then(A_B, give_back), lambda log: log.fetch(0)),
    "append a key that was returned": (then(A_B, give_back), adding(b"a")),
    "append a key that was returned, one of several": (
        then(keys(b"a", b"b", b"c", b"d", b"e", b"f"), *[reserve] * 5, *[lambda log: log.nack(held(log), 5)] * 5),
        adding(b"b"),
    ),
}


# Where addmode 1 and 2 are not the same.
BOTH_MODES = [name for name in OPERATIONS if "there" in name or "a key that was returned" in name]
CASES = [(name, KEEP_NEWEST) for name in OPERATIONS] + [(name, KEEP_OLDEST) for name in BOTH_MODES]


@pytest.mark.parametrize(("operation", "mode"), CASES)
def test_struck_at_any_store_it_is_done_or_not(operation: str, mode: int) -> None:
    """By a kill, within a long store, by an exception, and once more inside the repair."""
    prepare, work = OPERATIONS[operation]
    walk = new(mode)
    prepare(log_of(walk))
    walk.walk(work, go_on)


def test_an_item_is_replaced_where_the_byte_limit_is_met() -> None:
    """Only what it is longer than the old one is more."""
    log = log_of(new(KEEP_NEWEST))
    for name in (b"a", b"b"):
        put(log, name, 48)
    log.core.mapping.u64[layout.W_BYTE_LIMIT] = log.core.used_bytes()
    assert log.append_with(*record(b"a", 48)) == ADDED
    assert log.append_with(*record(b"a", 56)) == FULL
    assert log.append_with(*record(b"c", 48)) == FULL
    assert log.append_with(*record(b"a", 40)) == ADDED
    assert log.append_with(*record(b"a", 48)) == ADDED


@pytest.mark.parametrize("items", [3, 4, 7, 8, 15, 16])
def test_struck_at_any_store_of_a_split_the_index_is_whole(items: int) -> None:
    walk = new(KEEP_NEWEST, chunks=24)
    for number in range(items):
        put(log_of(walk), b"%d" % number)
    assert walk.walk(adding(b"new"), go_on) > 20


def test_struck_at_any_store_of_a_join_the_index_is_whole() -> None:
    walk = new(KEEP_NEWEST, chunks=24)
    for number in range(40):
        put(log_of(walk), b"%d" % number)
    while (size := log_of(walk).core.size()) > 2:
        if size in (3, 4, 8, 9, 10):
            walk.walk(KeyedLog.pop)
        else:
            log_of(walk).pop()
    assert walk.segment.u64[layout.W_BUCKETS] < 40


def test_struck_at_any_store_of_compaction_nothing_is_lost(mocker: MockerFixture) -> None:
    mocker.patch.object(compaction, "FACTOR", 0)
    mocker.patch.object(compaction, "SLACK_CHUNKS", 0)
    walk = new(KEEP_NEWEST, chunks=30, buckets=64)
    log = log_of(walk)
    for number in range(40):
        put(log, b"cold%d" % number, 200)
        for hot in range(4):
            put(log, b"hot%d" % hot, 320)
    worked = 0
    for number in range(40):
        work = adding(b"hot%d" % (number % 4), 320)
        if number % 4:
            work(log_of(walk))
        else:
            worked += bool(walk.segment.u64[layout.W_TARGET])
            walk.walk(work)
    assert worked > 3
    assert walk.segment.u64[layout.W_CHUNKS] < 12


@pytest.mark.parametrize("limit", [2, 3, 4])
def test_struck_where_memory_ends_it_is_not_done(limit: int) -> None:
    walk = new(KEEP_NEWEST, limit=limit)
    put(log_of(walk), b"0", 640)
    walk.walk(adding(b"n", 3 * ROOM), go_on)
    assert log_of(walk).append(*record(b"n", 3 * ROOM)) == NO_MEMORY
