"""The logs of format 5 against a model: random programs, struck at random stores."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kemi.queue.format import keyhash, layout
from kemi.queue.log.core import ADDED, KEPT, Delivery
from kemi.queue.log.keyed import KeyedLog
from kemi.queue.log.keyed_head import KEEP_NEWEST, KEEP_OLDEST
from kemi.queue.log.plain import PlainLog
from kemi.queue.store.inflight import Entry
from kemi.queue.verify.segment import verify
from tests.support.crash_points import Killed, Raised, Segment, Strike
from tests.support.logs import ME, ROOM, pair, record

HASH = keyhash.function_of(keyhash.FORM)
Pair = tuple[bytes, bytes]
SIZES = [40, 64, 1000, ROOM // 2 & -8, ROOM - 16, ROOM, 2 * ROOM + 64]
CAPACITY = 4


@dataclass
class Model:
    """What a queue holds."""

    mode: int
    limit: int
    log: list[Pair] = field(default_factory=list)
    returned: list[tuple[int, int, Pair, int]] = field(default_factory=list)  # due, seq, item, deliveries
    held: list[tuple[int, Pair, int]] = field(default_factory=list)  # seq, item, deliveries
    popped: int = 0

    def keys(self) -> list[bytes]:
        return [key for key, _ in self.log] + [item[0] for _, _, item, _ in self.returned]

    def add(self, item: Pair, drops: int = 100) -> None:
        if self.mode == KEEP_OLDEST and item[0] in self.keys():
            return
        if self.mode == KEEP_NEWEST:
            self.log = [each for each in self.log if each[0] != item[0]]
            self.returned = [each for each in self.returned if each[2][0] != item[0]]
        self.log.append(item)
        while self.limit and drops and len(self.keys()) > self.limit:
            drops -= 1
            if self.returned:
                self.returned.remove(min(self.returned))
            else:
                self.take(-1)

    def take(self, now: int) -> tuple[int, Pair, int] | None:
        """Take the next item: its seq, itself, and how often it was delivered before."""
        first = min(self.returned, default=None)
        if first and first[0] <= now:
            self.returned.remove(first)
            return first[1], first[2], first[3]
        if not self.log:
            return None
        self.popped += 1
        return self.popped, self.log.pop(0), 0

    def reserve(self, now: int) -> None:
        full = len(self.held) + len(self.returned) >= CAPACITY
        first = min(self.returned, default=None)
        if full and not (first and first[0] <= now):
            return
        found = self.take(now)
        if found:
            self.held.append((found[0], found[1], found[2] + 1))

    def nack(self, number: int, due: int) -> None:
        seq, item, deliveries = self.held.pop(number)
        newest = self.mode == KEEP_NEWEST
        if self.mode:
            if any(key == item[0] for key, _ in self.log):
                if newest:
                    return
                self.log = [each for each in self.log if each[0] != item[0]]
            for twin in [each for each in self.returned if each[2][0] == item[0]]:
                if (twin[1] > seq) == newest:
                    return
                self.returned.remove(twin)
        self.returned.append((due, seq, item, deliveries))

    def state(self) -> Any:
        return self.log, sorted(self.returned), sorted(self.held)


def state_of(log: PlainLog | KeyedLog) -> Any:
    read = log.core.records.read
    entries = log.core.in_flight.entries()
    returned = [(e.due, e.seq, pair(read(e.at)), e.deliveries) for e in entries if e.position]
    held = [(e.seq, pair(read(e.at)), e.deliveries) for e in entries if not e.position]
    return [pair(read(at)) for at in log.scan()], sorted(returned), sorted(held)


class Program:
    """A log and its model."""

    def __init__(self, mode: int, limit: int) -> None:
        self.segment = Segment(mode, chunks=24, capacity=CAPACITY)
        self.model = Model(mode, limit)
        self.mode = mode
        assert self.open(self.segment.plain).format()
        self.segment.u64[layout.W_SIZE_LIMIT] = limit
        self.log = self.open(self.segment.watched())

    def open(self, mapping: Any) -> Any:
        return KeyedLog(mapping, self.segment, HASH) if self.mode else PlainLog(mapping, self.segment)

    def step(self, what: str, key: int, size: int, now: int, strike: Strike) -> None:
        """Do one thing to both, perhaps struck; recover; compare."""
        item, step = record(b"%d" % key, size)
        held = [entry for entry in self.log.core.in_flight.entries() if not entry.position]
        if what in ("ack", "nack") and not held:
            return
        entry = held[key % len(held)] if held else Entry(0, 0, 0, 0, ME, 0, 0, 0)
        before, allowed = copy.deepcopy(self.model), self.after(what, pair(item), entry.seq, now)
        self.segment.strike = strike
        try:
            self.do(what, (item, step), Delivery.of(entry), now)
            del allowed[1:]
        except (Killed, Raised):
            allowed.append(before)
            self.recover(strike)
        self.segment.strike = Strike()
        assert verify(self.segment.plain, HASH) == []
        found = state_of(self.open(self.segment.plain))
        self.model = next((each for each in allowed if each.state() == found), before)
        assert found == self.model.state(), what
        self.model.popped = self.segment.u64[layout.W_POPPED]

    def after(self, what: str, item: Pair, seq: int, now: int) -> list[Model]:
        """Return the model afterwards, then what may be between the commits of one call."""
        models = [copy.deepcopy(self.model) for _ in range(5)]
        for drops, model in enumerate(models):
            place = [each for each, _, _ in model.held].index(seq) if what in ("ack", "nack") else 0
            if what == "add":
                model.add(item, drops - (self.mode != 0) if drops else 100)
            elif what == "fetch":
                model.take(now)
            elif what == "reserve":
                model.reserve(now)
            elif what == "ack":
                del model.held[place]
            elif drops and self.mode:  # the twin is gone
                key = model.held[place][1][0]
                model.returned = [each for each in model.returned if each[2][0] != key]
            else:
                model.nack(place, now)
        return models

    def do(self, what: str, item: tuple[bytes, int], delivery: Delivery, now: int) -> None:
        """Do it to the log."""
        log = self.log
        if what == "add":
            add = log.append_with if self.model.limit else log.append
            assert add(*item) in (ADDED, KEPT)
        elif what == "fetch":
            log.fetch(now)
        elif what == "reserve":
            log.reserve(ME, now)
        elif what == "ack":
            assert log.ack(delivery)
        else:
            log.nack(delivery, now)

    def recover(self, strike: Strike) -> None:
        """Recover, struck once more, and then in peace."""
        if strike.kind != "raise":
            self.segment.strike = Strike()
            self.log = self.open(self.segment.watched())
        self.segment.strike = Strike((strike.at or 0) % 7, strike.kind)
        try:
            self.log.recover()
        except (Killed, Raised):
            self.segment.strike = Strike()
            self.log = self.log if strike.kind == "raise" else self.open(self.segment.watched())
            self.log.recover()


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["add", "add", "add", "fetch", "reserve", "ack", "nack"]),
        st.integers(0, 9),
        st.sampled_from(SIZES),
        st.integers(0, 3),
        st.one_of(st.none(), st.integers(0, 40)),
        st.sampled_from(["kill", "torn", "raise"]),
    ),
    max_size=30,
)


@pytest.mark.parametrize("limit", [0, 3])
@pytest.mark.parametrize("mode", [0, KEEP_OLDEST, KEEP_NEWEST])
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=STEPS)
def test_random_programs_come_to_what_the_model_has(mode: int, limit: int, steps: list[Any]) -> None:
    program = Program(mode, limit)
    for what, key, size, now, at, kind in steps:
        if len(program.segment.there) > 15 and what == "add":
            what = "fetch"  # noqa: PLW2901 - room for the largest is left
        program.step(what, key, size, now, Strike(at, kind))
