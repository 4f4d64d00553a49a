"""A wild store into a segment of format 5 in use: an error that says what is wrong, no fault, no hang, nothing foreign.

The watched memory fails where a real segment would fault (SIGBUS), and a bound on the number of accesses is the hang.
"""

from __future__ import annotations

import contextlib
import random
import struct
import time
from typing import Any

import pytest

from kemi.errors import CorruptedError, SegmentError
from kemi.queue.format import keyhash, layout
from kemi.queue.format.geometry import find_wrong
from kemi.queue.format.layout import FETCH_FLAGS, PENDING, W_FLAGS
from kemi.queue.log import core
from kemi.queue.log.core import Delivery
from kemi.queue.log.keyed import KeyedLog
from kemi.queue.log.plain import PlainLog
from kemi.queue.queue import Queue
from kemi.queue.verify.segment import verify
from tests.support.crash_points import CHUNK_BITS, Segment
from tests.support.logs import ME, ROOM, record

HASH = keyhash.function_of(keyhash.FORM)
CALLS = 25  # after the wild store
SIZES = [40, 64, 400, ROOM // 2 & -8, ROOM, 2 * ROOM + 64]


def use(log: Any, chance: random.Random) -> None:
    """Make one call, as a queue makes it."""
    now = chance.randrange(4)
    flags = log.core.mapping.u64[W_FLAGS]
    if flags & PENDING:
        log.recover()
    what = chance.choice(["add", "add", "fetch", "reserve", "ack", "nack"])
    if what == "add":
        item = record(b"%d" % chance.randrange(12), chance.choice(SIZES))
        if log.core.mapping.u64[W_FLAGS]:
            log.append_with(*item)
        else:
            log.append(*item)
    elif what == "fetch":
        if log.core.mapping.u64[W_FLAGS] < FETCH_FLAGS:
            log.pop()
        else:
            log.fetch(now)
    elif what == "reserve":
        log.reserve(ME, now)
    else:
        held = [entry for entry in log.core.in_flight.entries() if not entry.position]
        if held:
            entry = chance.choice(held)
            delivery = Delivery.of(entry)
            log.ack(delivery) if what == "ack" else log.nack(delivery, now)


# Words that nothing goes by: who owns it, policy, statistics, and the limits, which only move a bound.
IGNORED = {*range(18, 28), *range(32, 43), *range(104, 112)}
HEADER = sorted({word for name, word in vars(layout).items() if name.startswith("W_")} - IGNORED)


def place(segment: Segment, chance: random.Random) -> Any:
    """Return a word that is in use: of the header, of an entry and the like, of a chunk's head, or of a record."""
    # Not the chunk map: it says where memory is. A chunk that it wrongly has is a hole, which tmpfs fills when touched.
    fixed = range(segment.place.entries_at >> 3, segment.place.fixed_bytes() >> 3)
    heads = [word for at in sorted(segment.there) for word in range(at >> 3, (at >> 3) + 6)]
    records = [word for at in sorted(segment.there) for word in range((at >> 3) + 8, (at >> 3) + 30)]
    words = chance.choice([HEADER, HEADER, fixed, heads, records])
    return chance.choice([word for word in words if segment.u64[word]] or HEADER)


def wild(value: int, chance: random.Random, bits: int = layout.CHUNK_BITS) -> int:
    """Return what a wild store leaves in a word, where a chunk has 1 << bits bytes."""
    return chance.choice(
        [
            chance.getrandbits(64),
            value ^ 1 << chance.randrange(64),
            (value + chance.choice([-8, 8, 1, -1, 4096, 64])) % (1 << 64),
            value & ~0xFFFFFFFF | chance.getrandbits(32),
            # The last places of a chunk, behind whose end there may be no memory; also as a link has them.
            (value | (1 << bits) - 1) - chance.choice([7, 3, 15]),
            value | (1 << bits - 3) - 1,
            0,
            (1 << 64) - 1,
        ]
    )


def strike(seed: int) -> str:
    """Use a log, hit a word, go on; returns what came of it."""
    chance = random.Random(seed)  # noqa: S311
    mode = seed % 3
    segment = Segment(mode, chunks=20, capacity=4)
    kind: Any = (lambda mapping: KeyedLog(mapping, segment, HASH)) if mode else (lambda m: PlainLog(m, segment))
    assert kind(segment.plain).format()
    log = kind(segment.watched())
    for _ in range(chance.randrange(60)):
        use(log, chance)
    word = place(segment, chance)
    segment.u64[word] = wild(segment.u64[word], chance, CHUNK_BITS)
    try:
        if chance.random() < 0.3:
            log = kind(segment.watched())  # as a process sees it that comes now
        for _ in range(CALLS):
            use(log, chance)
    except CorruptedError:
        return "error"
    except (ValueError, struct.error):
        # A counter at its end, or less than what it counts: a queue recovers then, and verifies.
        with contextlib.suppress(CorruptedError):
            kind(segment.plain).recover()
        assert verify(segment.watched(), HASH)
        return "error"
    return "found" if verify(segment.watched(), HASH) else "unnoticed"


@pytest.fixture
def keyed() -> tuple[Any, int]:
    """Return a keyed log, and where its last chunk ends, behind which there is no memory."""
    segment = Segment(1, chunks=20, capacity=4)
    assert KeyedLog(segment.plain, segment, HASH).format()
    log = KeyedLog(segment.watched(), segment, HASH)
    for number in range(6):
        log.append(*record(b"%d" % number, ROOM // 4 & -8))
    assert log.pop()
    return log, max(segment.there) + (1 << CHUNK_BITS)


@pytest.mark.parametrize("before", [8, 16])
def test_a_link_to_the_last_bytes_of_a_chunk_leads_to_no_record(keyed: tuple[Any, int], before: int) -> None:
    log, end = keyed
    index, u32 = log.index, log.core.mapping.u32
    place = index.place(b"1")
    u32[place] = index.link(end - before)
    with pytest.raises(CorruptedError, match="key index"):
        index.lead_from(place, index.link(end - (1 << CHUNK_BITS) + layout.CHUNK_HEAD))


@pytest.mark.parametrize("before", [1, 4, 5, 8, 16])
def test_a_head_in_the_last_bytes_of_a_chunk_is_no_record(keyed: tuple[Any, int], before: int) -> None:
    log, end = keyed
    for _ in range(4):  # into the last chunk
        assert log.pop()
    u64 = log.core.mapping.u64
    for at in (layout.W_HEAD, layout.W_HEAD_ODD):
        u64[at] = end - before
    with pytest.raises(CorruptedError, match="record"):
        log.pop()


LONG = [pytest.param(part, marks=pytest.mark.stress) for part in range(3, 60)]


@pytest.mark.parametrize("part", [0, 1, 2, *LONG])
def test_a_wild_store_is_an_error_or_does_no_harm(part: int) -> None:
    """What comes out is a CorruptedError, or `verify` finds something, which takes the corrupted memory, too."""
    outcomes = {"error": 0, "found": 0, "unnoticed": 0}
    slowest = 0.0
    for seed in range(part * 150, part * 150 + 150):
        began = time.thread_time()
        try:
            outcomes[strike(seed)] += 1
        except BaseException as error:
            raise AssertionError(f"seed {seed}: {error!r}") from error
        slowest = max(slowest, time.thread_time() - began)
    assert outcomes["error"] + outcomes["found"] > 30
    assert slowest < 30, "something ran nearly for ever"


@pytest.mark.parametrize("addmode", [0, 1])
@pytest.mark.parametrize("value", [0, 1, 1 << 40, 1 << 62, (1 << 64) - 1])
@pytest.mark.parametrize(
    "word", ["CHUNK_BITS", "DATA", "MAP_SIZE", "CAPACITY", "ENTRIES_AT", "HEAP_AT", "DIRECTORY_AT"]
)
def test_a_wild_store_while_it_is_attached(
    instance: str, monkeypatch: pytest.MonkeyPatch, word: str, value: int, addmode: int
) -> None:
    """It comes after the first look at where the parts lie, and before they are made."""
    queue = Queue.create(instance, "q", window=1 << 20, addmode=addmode)
    at = getattr(layout, f"W_{word}")
    wild_one = value if queue.segment.words[at] != value else 8  # without keys there is no directory: it is 0
    looks: list[str] = []

    def look(words: Any, room: int) -> str:
        looks.append(find_wrong(words, room))
        words[at] = wild_one
        return looks[-1]

    monkeypatch.setattr(core, "find_wrong", look)
    with pytest.raises(SegmentError, match=f"{instance}[.]q"):
        Queue.attach(instance, "q")
    assert looks[0] == ""
