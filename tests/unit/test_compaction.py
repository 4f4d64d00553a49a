"""Compaction: what it keeps small, and how little of it one add does."""

from __future__ import annotations

import random

import pytest

from kemi.errors import CorruptedError
from kemi.queue.format import keyhash, layout
from kemi.queue.log import compaction
from kemi.queue.log.core import ADDED
from kemi.queue.log.keyed import KeyedLog
from kemi.queue.log.keyed_head import KEEP_NEWEST
from kemi.queue.verify.segment import verify
from tests.support.crash_points import CHUNK_BITS, Segment, Strike
from tests.support.logs import pair, record

HASH = keyhash.function_of(keyhash.FORM)


def new(chunks: int = 200) -> tuple[Segment, KeyedLog]:
    segment = Segment(KEEP_NEWEST, chunks=chunks, buckets=256)
    log = KeyedLog(segment.watched(), segment, HASH)
    assert log.format()
    return segment, log


def test_items_that_are_never_fetched_do_not_hold_the_dead_ones() -> None:
    """One cold item in each chunk, and a few hot ones that are replaced for ever."""
    segment, log = new()
    most = 0
    for number in range(12_000):
        cold = number % 20 == 0 and number < 2000
        assert log.append(*record(b"cold%d" % number if cold else b"hot%d" % (number % 3), 200)) == ADDED
        if number > 4000:
            most = max(most, segment.u64[layout.W_CHUNKS])
    alive = log.core.used_bytes()
    assert alive == 103 * 200
    factor = compaction.FACTOR + 1
    assert most <= factor * alive / log.core.chunks.room + compaction.SLACK_CHUNKS + 4
    assert verify(segment.plain, HASH) == []


def test_one_add_moves_a_few_records_only() -> None:
    """Counted in stores, which no other load on the machine changes."""
    segment, log = new()
    chance = random.Random(5)  # noqa: S311
    stores, moves = [], 0
    model: dict[bytes, bytes] = {}
    for number in range(4000):
        key = b"%d" % (number if number < 400 else chance.choice([chance.randrange(400), chance.randrange(8)]))
        item, step = record(key, chance.choice([40, 48, 400]))
        segment.strike = Strike()
        log.append(item, step)
        stores.append(segment.strike.count)
        moves += bool(segment.u64[layout.W_TARGET])
        model.pop(key, None)
        model[key] = pair(item)[1]
    assert moves > 50
    assert max(stores) < 40 + compaction._MAX_MOVES * 16
    assert sorted(stores)[len(stores) // 2] < 40
    assert [pair(log.core.records.read(at)) for at in log.scan()] == list(model.items())
    assert verify(segment.plain, HASH) == []


def test_one_add_moves_few_of_the_shortest_records(monkeypatch: pytest.MonkeyPatch) -> None:
    """A budget of bytes alone would let it move hundreds of them, each of which costs as much as a long one."""
    monkeypatch.setattr(compaction, "SLACK_CHUNKS", 0)
    monkeypatch.setattr(compaction, "FACTOR", 0)
    monkeypatch.setattr(compaction, "_MIN_BUDGET", 100_000)
    segment, log = new()
    calls: list[int] = []
    move = log.compaction._move

    def counted(at: int, length: int, target: int) -> bool:
        calls.append(at)
        return move(at, length, target)

    monkeypatch.setattr(log.compaction, "_move", counted)
    moved = []
    for number in range(6000):
        key = b"%d" % (number if number < 1000 else number % 1000 // 4 * 4)
        calls.clear()
        assert log.append(*record(key, 40)) == ADDED
        moved.append(len(calls))
    assert max(moved) == compaction._MAX_MOVES
    assert sum(moved) > 500
    assert verify(segment.plain, HASH) == []


def test_fetching_goes_on_while_records_are_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    """The order stays, also when the head comes to the target, and passes it."""
    monkeypatch.setattr(compaction, "SLACK_CHUNKS", 0)
    monkeypatch.setattr(compaction, "FACTOR", 0)
    segment, log = new()
    chance = random.Random(6)  # noqa: S311
    model: dict[bytes, bytes] = {}
    passed = 0
    for _ in range(4000):
        key = b"%d" % chance.choice([chance.randrange(300), chance.randrange(6)])
        item, step = record(key, chance.choice([48, 200]))
        log.append(item, step)
        model.pop(key, None)
        model[key] = pair(item)[1]
        if len(model) > 150 and chance.random() < 0.3:
            passed += bool(segment.u64[layout.W_TARGET])
            found = log.pop()
            oldest = next(iter(model))
            assert found
            assert pair(found) == (oldest, model.pop(oldest))
    assert passed > 20
    assert verify(segment.plain, HASH) == []


def test_without_memory_for_a_target_nothing_is_moved() -> None:
    segment, log = new(chunks=40)
    for number in range(90):
        log.append(*record(b"cold%d" % number if number % 15 == 0 else b"hot", 200))
    segment.limit = len(segment.there)
    while segment.states().count(layout.FREE):
        segment.memory[layout.CHUNK_MAP_AT + segment.states().index(layout.FREE)] = layout.USED
    log.compaction.step(10_000)
    assert segment.u64[layout.W_TARGET] == 0


@pytest.mark.parametrize("at", [8, 1 << 40, (1 << CHUNK_BITS) + 20480])
def test_a_place_in_the_source_that_is_none_is_corruption(at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "SLACK_CHUNKS", 0)
    monkeypatch.setattr(compaction, "FACTOR", 0)
    segment, log = new()
    number = 0
    while not segment.u64[layout.W_TARGET]:
        log.append(*record(b"cold%d" % number if number % 10 == 0 else b"hot", 200))
        number += 1
    segment.u64[layout.W_SOURCE_AT] = at
    with pytest.raises(CorruptedError):
        log.compaction.step(200)
