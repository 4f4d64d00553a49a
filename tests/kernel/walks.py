"""The kernel, struck at each of its stores on plain memory: the crash-point walk of what it does in C.

`planted` does them with faults in the kernel.
"""

from __future__ import annotations

import ctypes
import os
import tempfile
from types import SimpleNamespace
from typing import Any, Callable

from kemi.errors import CorruptedError
from kemi.queue.delivery.hold import DONE
from kemi.queue.format import keyhash, layout
from kemi.queue.kernel import choice
from kemi.queue.log.core import ADDED, Delivery
from kemi.queue.queue import Queue as _Queue
from kemi.queue.store.inflight import Holder
from tests.support.crash_points import CHUNK_BITS, Killed, Raised, Strike, Walk
from tests.support.logs import record
from tests.unit import test_keyed, test_plain

_MUTEX = slice(layout.MUTEX_AT, layout.MUTEX_AT + layout.MUTEX_STRIDE)
LEFT = 640  # bytes at the end of a chunk
Call = Callable[[Any], object]


class Bare(choice.Base):
    """What a queue has of the kernel, on the memory of a walk."""

    add, pop = _Queue.add, _Queue.pop  # the kernel's
    add_many, fetch_many = _Queue.add_many, _Queue.fetch_many
    reserve_some, settle = _Queue.reserve_some, _Queue.settle

    def __init__(self) -> None:
        me = Holder(7, os.getpid(), 1, 1)
        self._holding = SimpleNamespace(_me=me, _mine={}, _late=[], _next_look=float("inf"), begin=lambda: None)

    def grow(self) -> bool:
        """Have a free chunk more, with memory that stands for the walk's."""
        with tempfile.TemporaryFile() as file:
            there = os.fstat(file.fileno())
            return bool(choice.lib.Queue.kernel_grow(self, file.fileno(), there.st_dev, there.st_ino, 0, 0, 0, 0))

    def give_back_forgotten(self) -> None:
        """Nothing: it is as dead as its process."""


class Native:
    """Lets the kernel work on a walk's memory; struck, it is as dead as a killed process."""

    def __init__(self, walk: Walk) -> None:
        self._segment = segment = walk.segment
        segment.u64[layout.W_HASH] = keyhash.FORM
        queue: Any = Bare()
        self._queue = queue
        self._whole = ctypes.c_char.from_buffer(segment.memory)
        why = queue.kernel_attach(self._whole, ctypes.addressof(self._whole), len(segment.memory))
        assert why is None, why

    def doing(self, call: Call) -> Callable[[Any], None]:
        """Work for a walk."""

        def work(_log: object) -> None:
            segment = self._segment
            segment.memory[_MUTEX] = bytes(layout.MUTEX_STRIDE)  # as the system frees it for the next one
            dead = False

            def hook() -> bool:
                nonlocal dead
                states = segment.states()
                if layout.UNSURE in states:  # its memory is reserved then
                    segment.there.add(segment.place.data + (states.index(layout.UNSURE) << CHUNK_BITS))
                try:
                    segment.strike.store(lambda: None)
                except Killed:
                    dead = True
                except Raised:
                    pass  # no Python code runs in there
                return dead

            before = choice.lib.calls()
            choice.lib.set_hook(hook)
            try:
                call(self._queue)
            finally:
                choice.lib.set_hook(None)
            segment.memory[_MUTEX] = bytes(layout.MUTEX_STRIDE)
            counted = call is not grows  # which is none of a queue's calls
            assert choice.lib.calls() == (before[0] + counted, before[1]), "it was left to Python"
            if dead:
                raise Killed

        return work


def adds(key: str, size: int = 48) -> Call:
    def call(queue: Any) -> None:
        assert queue.add(key, "v" * (size - layout.RECORD_HEAD - len(key))) is ADDED

    return call


def pops(queue: Any) -> None:
    assert queue.pop() is not None


def adds_many(*names: str) -> Call:
    def call(queue: Any) -> None:
        assert queue.add_many([(name, "v" * (24 - len(name))) for name in names]) == [ADDED] * len(names)

    return call


def fetches(count: int) -> Call:
    def call(queue: Any) -> None:
        assert len(queue.fetch_many(count)) == count

    return call


def reserves(count: int) -> Call:
    def call(queue: Any) -> None:
        assert queue.reserve_some(count, 0.0, lambda item: item._hold.end()) == count

    return call


def done(*seqs: int) -> Call:
    """Be done with what left the log as so many-th."""

    def call(queue: Any) -> None:
        tokens = [Delivery(seq - 1, seq) for seq in seqs]
        assert queue.settle(tokens, DONE) == len(seqs)

    return call


def ends(*tokens: tuple[int, int]) -> Call:
    """Be done with what is in flight by these entries, having left the log as so many-th."""

    def call(queue: Any) -> None:
        assert queue.settle([Delivery(*token) for token in tokens], DONE) == len(tokens)

    return call


def beside(call: Call) -> Call:
    """Call it as a thread beside the main one does."""

    def work(queue: Any) -> None:
        choice.lib.keep_to_thread(1)
        try:
            call(queue)
        finally:
            choice.lib.keep_to_thread(0)

    return work


def held(count: int) -> Callable[[Any], None]:
    """Have somebody hold the oldest items."""

    def prepare(log: Any) -> None:
        for _ in range(count):
            assert log.reserve(Holder(9, 1, 1, 1), 0)

    return prepare


def free_entries(count: int) -> Callable[[Any], None]:
    """Have entries that were used before, and are free."""

    def prepare(log: Any) -> None:
        names = [f"free{number}" for number in range(count)]
        fill(*names)(log)
        for delivery, _ in [log.reserve(Holder(9, 1, 1, 1), 0) for _ in names]:
            assert log.ack(delivery)

    return prepare


def counted(log: Any) -> None:
    """Have fetches that met as many items before."""
    log.core.mapping.u64[layout.W_HIGH_WATER] = 50


def waiting(log: Any) -> None:
    """Have two waiters."""
    u64 = log.core.mapping.u64
    u64[layout.W_WAITERS] = u64[layout.W_PRESENT] = 2
    u64[layout.W_FLAGS] |= layout.ADD_WAITING


def limited(log: Any) -> None:
    log.core.mapping.u64[layout.W_SIZE_LIMIT] = 50
    log.core.mapping.u64[layout.W_BYTE_LIMIT] = 5000
    log.core.mapping.u64[layout.W_FLAGS] |= layout.ADD_LIMITED


def fill(*names: str) -> Callable[[Any], None]:
    def prepare(log: Any) -> None:
        for name in names:
            assert log.append(*record(name.encode(), 48)) == ADDED

    return prepare


def sized(*sizes: int) -> Callable[[Any], None]:
    def prepare(log: Any) -> None:
        for size in sizes:
            assert log.append(*record(b"s", size)) == ADDED

    return prepare


def gone(count: int) -> Callable[[Any], None]:
    def prepare(log: Any) -> None:
        for _ in range(count):
            assert log.pop() is not None

    return prepare


def near_end(log: Any) -> None:
    """Add an item that leaves LEFT bytes of the chunk."""
    tail = log.core.tail()
    sized((tail | log.core.chunks.mask) + 1 - tail - LEFT)(log)


def spare(log: Any) -> None:
    """Have a free chunk."""
    then(near_end, sized(1024), gone(2))(log)
    assert log.core.mapping.u64[layout.W_FREE_CHUNKS] == 1


def then(*works: Callable[[Any], object]) -> Callable[[Any], None]:
    def do(log: Any) -> None:
        for work in works:
            work(log)

    return do


def named(*items: tuple[str, int]) -> Callable[[Any], None]:
    """Add items of these keys and lengths of their records."""

    def prepare(log: Any) -> None:
        for name, size in items:
            assert log.append(*record(name.encode(), size)) == ADDED

    return prepare


def to_end(name: str) -> Callable[[Any], None]:
    """Add an item of this key that leaves LEFT bytes of the chunk."""

    def prepare(log: Any) -> None:
        tail = log.core.tail()
        named((name, (tail | log.core.chunks.mask) + 1 - tail - LEFT))(log)

    return prepare


def spare_keyed(log: Any) -> None:
    """Have a free chunk."""
    then(to_end("x"), named(("y", 1024)), gone(2))(log)
    assert log.core.mapping.u64[layout.W_FREE_CHUNKS] == 1


def only_dead(log: Any) -> None:
    """Have a log without an item, and with a tombstone that leaves LEFT bytes of the chunk."""
    fill("a")(log)
    delivery, _ = log.reserve(Holder(9, 1, 1, 1), 0)
    to_end("a")(log)
    log.nack(delivery)
    assert log.fetch(1 << 62)
    u64 = log.core.mapping.u64
    assert not log.core.size()
    assert u64[layout.W_DEAD] > LEFT
    assert not u64[layout.W_FLAGS]


def one_in_the_middle(log: Any) -> None:
    """Have three chunks, and one item alive in the second one."""
    then(named(("a", 64)), to_end("b"), named(("b", 1024)), to_end("c"), named(("d", 1024), ("c", 64)))(log)
    assert log.core.mapping.u64[layout.W_CHUNKS] == 3


NOTHING: Callable[[Any], None] = fill()
EACH: dict[str, tuple[Callable[[Any], object], Call]] = {
    "add to an empty one": (NOTHING, adds("k")),
    "add": (fill("a", "b", "c"), adds("k")),
    "add beside waiters": (then(fill("a"), waiting), adds("k")),
    "add within limits": (then(fill("a"), limited), adds("k", 400)),
    "pop": (fill("a", "b", "c"), pops),
    "pop the last": (fill("a"), pops),
    "pop beside waiters": (then(fill("a", "b"), waiting), pops),
    "add one of a batch": (fill("a"), adds_many("x")),
    "fetch one of a batch": (then(fill("a", "b"), counted), fetches(1)),
    "reserve": (then(free_entries(1), fill("a", "b")), reserves(1)),
    "reserve with a fresh entry": (fill("a", "b"), reserves(1)),
    "reserve with a fresh entry beside one in use": (then(fill("a", "b"), held(1)), reserves(1)),
    "reserve the last": (then(free_entries(1), fill("a")), reserves(1)),
    "reserve with the last free entry": (then(free_entries(2), fill("a", "b", "c"), held(1)), reserves(1)),
    "reserve beside waiters": (then(free_entries(1), fill("a", "b"), waiting), reserves(1)),
    "ack": (then(fill("a", "b"), held(1)), done(1)),
    "ack one of two": (then(fill("a", "b", "c"), held(2)), done(1)),
    "ack the other one": (then(fill("a", "b"), held(2)), done(2)),
}
# Runs that are one commit.
PLAIN = {
    **EACH,
    "add two": (fill("a"), adds_many("x", "y")),
    "add three": (fill("a"), adds_many("x", "y", "z")),
    "add two beside waiters": (then(fill("a"), waiting), adds_many("x", "y")),
    # Over the end of a chunk: into a free one, and out of one that becomes free.
    "pop over the end": (then(near_end, gone(1), sized(1024, 64)), pops),
    "pop over the end, the last": (then(near_end, gone(1), sized(1024)), pops),
    "pop over the end beside a free chunk": (then(spare, near_end, gone(1), sized(1024, 64)), pops),
    "pop over the end beside waiters": (then(near_end, gone(1), sized(1024, 64), waiting), pops),
    "pop to the end": (then(near_end, gone(1), sized(LEFT, 64)), pops),
    "pop behind a filler": (then(near_end, sized(LEFT - 16, 64, 64), gone(2)), pops),
    "fetch one of a batch over the end": (then(near_end, gone(1), sized(1024, 64), counted), fetches(1)),
    "add over the end": (then(spare, near_end), adds("k", 1024)),
    "add over the end within limits": (then(spare, near_end, limited), adds("k", 1024)),
    "add over the end beside waiters": (then(spare, near_end, waiting), adds("k", 1024)),
    "add to the end": (then(spare, near_end), adds("k", LEFT)),
    "add behind a filler": (then(spare, near_end, sized(LEFT - 16)), adds("k", 64)),
    "add one of a batch over the end": (then(spare, near_end, sized(LEFT - 40)), adds_many("x")),
    "add to an empty one near the end": (then(near_end, gone(1)), adds("k", 1024)),
    "pop over the end beside one in flight": (then(near_end, held(1), sized(1024, 64)), beside(pops)),
    "pop over the end beside the main thread": (then(near_end, gone(1), sized(1024, 64)), beside(pops)),
    "reserve over the end": (then(near_end, gone(1), sized(1024, 64)), reserves(1)),
    "reserve over the end, the last": (then(free_entries(1), near_end, gone(1), sized(1024)), reserves(1)),
    "reserve over the end beside one in flight": (then(near_end, held(1), sized(1024, 64)), reserves(1)),
    "reserve to the end": (then(near_end, gone(1), sized(LEFT, 64)), reserves(1)),
    "reserve behind a filler": (then(near_end, sized(LEFT - 16, 64, 64), gone(2)), reserves(1)),
    "reserve behind a filler beside one in flight": (then(near_end, sized(LEFT - 16, 64, 64), held(2)), reserves(1)),
    "ack over the end": (then(near_end, gone(1), sized(1024, 64), held(1)), ends((0, 2))),
    "ack over the end beside one in flight": (then(near_end, held(1), sized(1024, 64), held(1)), ends((1, 2))),
    "ack over two ends": (
        then(near_end, gone(1), sized(1024), held(1), near_end, sized(1024, 64), gone(2)),
        ends((0, 2)),
    ),
    "ack the last of a chunk": (then(near_end, held(1), sized(1024, 64), gone(1)), ends((0, 1))),
    "fetch two": (then(fill("a", "b", "c"), counted), fetches(2)),
    "fetch three": (then(fill("a", "b", "c"), counted), fetches(3)),
}
KEYED = {
    **EACH,
    # Of several in a bucket: there are 8 buckets.
    "add to long chains": (fill(*(f"k{number}" for number in range(7))), adds("k")),
    "add to a chain of two": (fill(*(f"k{number}" for number in range(7))), adds("k11")),
    "pop from long chains": (fill(*(f"k{number}" for number in range(8))), pops),
    # Over the end of a chunk: into a free one, and out of one that becomes free.
    "add over the end": (then(spare_keyed, to_end("a")), adds("k", 1024)),
    "add over the end beside items": (then(spare_keyed, fill("a", "b"), to_end("c")), adds("k", 1024)),
    "add over the end beside waiters": (then(spare_keyed, to_end("a"), waiting), adds("k", 1024)),
    "add to an empty one near the end": (then(to_end("a"), gone(1)), adds("k", 1024)),
    "pop into the next chunk": (then(to_end("a"), named(("b", 1024), ("c", 64)), gone(1)), pops),
    "pop into the next chunk, the last": (then(to_end("a"), named(("b", 1024)), gone(1)), pops),
    "pop into the next chunk beside waiters": (then(to_end("a"), named(("b", 1024)), gone(1), waiting), pops),
    "pop into the next chunk beside one in flight": (
        then(to_end("a"), named(("b", 1024), ("c", 64)), held(1)),
        beside(pops),
    ),
    "reserve in the next chunk beside one in flight": (
        then(to_end("a"), named(("b", 1024), ("c", 64)), held(1)),
        reserves(1),
    ),
    "ack the last of a chunk": (then(to_end("a"), named(("b", 1024), ("c", 64)), held(1), gone(1)), ends((0, 1))),
    "reserve in the next chunk": (
        then(free_entries(1), to_end("a"), named(("b", 1024), ("c", 64)), gone(1)),
        reserves(1),
    ),
}
OLDEST = {**KEYED, "add to an empty one near the end, beside tombstones": (only_dead, adds("k", 1024))}
NEWEST = {
    **KEYED,
    "replace": (fill("a", "b", "c"), adds("b")),
    "replace the oldest": (fill("a", "b", "c"), adds("a", 72)),
    "replace the first of a chain": (fill(*(f"k{number}" for number in range(7))), adds("k6")),
    "replace the second of a chain": (fill(*(f"k{number}" for number in range(7))), adds("k4")),
    "replace the last": (fill("a", "b", "c"), adds("c")),
    "replace the only one": (fill("a"), adds("a")),
    "replace beside waiters": (then(fill("a", "b"), waiting), adds("b")),
    "replace within limits": (then(fill("a", "b"), limited), adds("b", 400)),
    "pop, the others replaced": (fill("a", "b", "c", "b"), pops),
    "pop behind a tombstone": (fill("a", "b", "c", "a"), pops),
    "pop behind tombstones": (fill("a", "b", "c", "a", "b"), pops),
    "pop the last behind tombstones": (fill("a", "a", "a"), pops),
    "pop behind tombstones into the next chunk": (then(to_end("a"), named(("b", 1024), ("a", 64))), pops),
    "pop behind tombstones of two chunks": (then(to_end("a"), named(("b", 1024), ("a", 64), ("b", 64))), pops),
    "reserve behind tombstones": (then(free_entries(1), fill("a", "b", "a")), reserves(1)),
    "replace the last one alive of a chunk": (one_in_the_middle, adds("b")),
    "replace the last one alive of a chunk beside waiters": (then(one_in_the_middle, waiting), adds("b", 400)),
    "replace over the end": (then(spare_keyed, fill("a"), to_end("b")), adds("a", 1024)),
    "replace the last over the end": (then(spare_keyed, to_end("a")), adds("a", 1024)),
}


def grows(queue: Any) -> None:
    assert queue.grow()


PLAIN["grow"] = OLDEST["grow"] = NEWEST["grow"] = (fill("a"), grows)
MODES: dict[int, dict[str, tuple[Callable[[Any], object], Call]]] = {0: PLAIN, 1: OLDEST, 2: NEWEST}
NAMES = [(mode, name) for mode, cases in MODES.items() for name in cases]


def strike_at_each_store(mode: int, name: str) -> int:
    """Walk through one of them. Returns how many strikes there were; AssertionError, if something is wrong."""
    prepare, call = MODES[mode][name]
    walk = test_keyed.new(mode) if mode else test_plain.new()
    go_on = test_keyed.go_on if mode else test_plain.go_on
    native = Native(walk)
    prepare(walk.open_log(walk.segment.plain))
    walk.segment.strike = Strike()

    def settle(log: Any) -> None:
        log.core.mapping.u64[layout.W_FLAGS] &= ~layout.ADD_LIMITED
        log.core.mapping.u64[layout.W_SIZE_LIMIT] = log.core.mapping.u64[layout.W_BYTE_LIMIT] = 0
        go_on(log)

    before = walk.sound(), walk.segment.states()
    strikes = walk.walk(native.doing(call), settle)
    assert (walk.sound(), walk.segment.states()) != before, "it did nothing"
    return strikes


def first_failure(first: str) -> str:
    """Say which walk fails, and how; "" if none does. Those whose names begin with `first` come first."""
    for mode, name in sorted(NAMES, key=lambda walk: not walk[1].startswith(first)):
        try:
            strike_at_each_store(mode, name)
        except (AssertionError, CorruptedError, ValueError) as error:
            return f"{mode} {name}: {error!r}"
    return ""
