"""The operations that are struck at every store: what is in the queue before, and what is done."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Callable, NamedTuple

from kemi.queue.delivery.hold import DONE, GIVE_BACK, Settlement
from kemi.queue.format import layout
from kemi.queue.format.geometry import geometry
from kemi.queue.format.layout import CHUNK, CHUNK_ROOM, RECORD_HEAD
from kemi.queue.log.core import Delivery
from kemi.queue.sync import clock
from tests.locked import reserve_for_good

if TYPE_CHECKING:
    from kemi.queue.queue import Queue

Step = Callable[["Queue"], object]

GIANT = "g" * (2 * CHUNK + 5000)  # lies in four chunks, or three


class Case(NamedTuple):
    """One operation. `buckets`: how many the key index has in a chunk, small so that it divides early."""

    prepare: Step
    operate: Step
    addmode: int = 0
    size: int = 0
    maxbytes: int = 0
    max_memory: str = "16M"  # so little that chunks go back to the system
    buckets: int = 8

    @property
    def definition(self) -> str:
        return f"name=q;addmode={self.addmode};size={self.size};maxbytes={self.maxbytes}"


def nothing(_queue: Queue) -> None:
    """Leave the queue empty."""


def clear(queue: Queue) -> None:
    """Throw everything away."""
    queue.clear()


def some(queue: Queue) -> None:
    """Add three small items."""
    for number in range(3):
        queue.add(f"k{number}", f"v{number}")


def room_left(room: int) -> Step:
    """Add small items, and one after which exactly `room` bytes of the chunk are left."""

    def prepare(queue: Queue) -> None:
        some(queue)
        tail = queue._log.core.tail()
        queue.add("fill", "f" * ((tail & -CHUNK) + CHUNK - tail - room - RECORD_HEAD - len("fill")))

    return prepare


def adds(*pairs: tuple[str, int]) -> Step:
    """Add these: key, and length of the value."""

    def step(queue: Queue) -> None:
        for key, length in pairs:
            queue.add(key, (key * length)[:length])

    return step


def pops(count: int) -> Step:
    """Take so many items."""

    def step(queue: Queue) -> None:
        for _ in range(count):
            queue.pop()

    return step


def then(*steps: Step) -> Step:
    """Do one after the other."""

    def both(queue: Queue) -> None:
        for step in steps:
            step(queue)

    return both


def sleeper(queue: Queue) -> None:
    """Make believe that another process waits."""
    words = queue.segment.words
    words[layout.W_FLAGS] |= layout.ADD_WAITING
    words[layout.W_WAITERS] = words[layout.W_PRESENT] = 1


def add(key: str, length: int = 10) -> Step:
    """Add one item that is not like those before."""
    return lambda queue: queue.add(key, "n" * length)


def drop_aged(queue: Queue) -> None:
    """Let the oldest items be too old for whoever would take one."""
    queue.handle.work(lambda: queue._log.drop_aged(clock.now(), math.inf))


def pop(queue: Queue) -> None:
    """Take one item."""
    queue.pop()


def reserve(queue: Queue) -> None:
    """Reserve one item, for good."""
    reserve_for_good(queue)


def many(count: int) -> Step:
    """Add small items with keys of their own."""
    return adds(*((f"k{number}", 8) for number in range(count)))


_THIRD = CHUNK_ROOM // 3
_FULL = CHUNK_ROOM - RECORD_HEAD - 8  # the value of an item, with a key of up to 8, that fills a chunk

PLAIN = {
    "small item, empty queue": Case(nothing, add("new")),
    "small item": Case(some, add("new")),
    "item that crosses": Case(room_left(200), add("new", 1000)),
    "item that begins the only chunk anew": Case(then(room_left(200), pops(4)), add("new", 1000)),
    "item that goes behind what is reserved": Case(then(room_left(200), reserve, pops(3)), add("new", 1000)),
    "item that ends at the end": Case(room_left(200), add("new", 200 - RECORD_HEAD - 3)),
    "item whose head has no room": Case(room_left(16), add("new")),
    "item that begins a chunk": Case(then(room_left(200), adds(("e", 200 - RECORD_HEAD - 1))), add("new")),
    "item that crosses into a spare chunk": Case(
        then(adds(("a", _FULL), ("b", _FULL), ("c", _FULL)), pops(2), room_left(200)), add("new", 1000)
    ),
    "giant item": Case(some, lambda queue: queue.add("giant", GIANT)),
    "giant item without memory for it": Case(
        some,
        lambda queue: queue.add("giant", GIANT),
        max_memory=str(geometry(4 << 30, keyed=False).fixed_bytes() + 3 * CHUNK - 1),
    ),
    "item for one that sleeps": Case(then(some, sleeper), add("new")),
    "size exceeded": Case(some, add("new"), size=3),
    "size exceeded by a lowered limit": Case(then(some, lambda q: q.set_limits(2, 0)), add("new"), size=2),
    "size exceeded, the oldest crosses": Case(then(room_left(200), adds(("c", 1000)), pops(4)), add("new"), size=1),
    "size exceeded, the oldest is giant": Case(then(lambda q: q.add("giant", GIANT), some), add("new"), size=4),
    "maxbytes exceeded": Case(some, add("new", 200), maxbytes=200),
    "fetch": Case(some, pop),
    "clear": Case(some, clear),
    "several at once": Case(some, lambda queue: queue.add_many([("new", "1"), ("newer", "22"), ("newest", "333")])),
    "several at once, one sleeps": Case(then(some, sleeper), lambda queue: queue.add_many([("a", "1"), ("b", "2")])),
    "fetch of several at once": Case(then(many(6), pops(1)), lambda queue: queue.fetch_many(3)),
    "fetch of the last": Case(add("only"), pop),
    "from a stream": Case(some, lambda queue: queue.add_from("s", [((7, 1), "new", "v")])),
    "dropped as too old": Case(some, drop_aged),
    "a giant dropped as too old": Case(then(lambda q: q.add("giant", GIANT), some), drop_aged),
    "fetch of one that crosses": Case(then(room_left(200), adds(("c", 1000)), pops(4), some), pop),
    "fetch of one that ends at the end": Case(
        then(room_left(200), adds(("e", 200 - RECORD_HEAD - 1)), pops(4), some), pop
    ),
    "fetch behind a head without room": Case(then(room_left(16), some, pops(4)), pop),
    "fetch of a giant": Case(then(lambda q: q.add("giant", GIANT), some), pop),
    "fetch that gives chunks back": Case(
        then(lambda q: q.add("giant", GIANT), lambda q: q.add("giant", GIANT), some, pops(1)), pop
    ),
    "fetch that returns to the front": Case(then(adds(*((k, _FULL) for k in "abcd"), ("z", 9)), pops(4)), pop),
    "fetch of one that crosses, to the front": Case(
        then(adds(*((k, _FULL) for k in "abc"), ("z", _FULL + 500)), pops(3)), pop
    ),
}


def giant_next(queue: Queue) -> None:
    """Have a giant item be the next one to be taken."""
    queue.add("x", "")
    queue.add("giant", GIANT)
    queue.pop()
    queue.pop_if(lambda _: False)


def churn(count: int, small: int = 1) -> Step:
    """Leave so many chunks with one small item, or more, and much that was replaced."""
    live = ([(f"live{number}{'abc'[:more]}", 20) for more in range(small)] for number in range(count))
    return adds(*(pair for chunk in live for pair in (*chunk, ("b", _FULL - 100 * small))))


_NEIGHBOURS = adds(*((f"{letter}{number}", _THIRD - 100) for letter in "abcd" for number in range(3)))

KEYED = {
    "kept": Case(some, add("k1"), addmode=1),
    "kept, from a stream": Case(some, lambda queue: queue.add_from("s", [((7, 1), "k1", "v")]), addmode=1),
    "a key dropped as too old": Case(some, drop_aged, addmode=2),
    "new key, the oldest stays": Case(some, add("new"), addmode=1),
    "new key": Case(some, add("new"), addmode=2),
    "replaced": Case(some, add("k1"), addmode=2),
    "new key that begins the only chunk anew": Case(then(room_left(200), pops(4)), add("new", 1000), addmode=2),
    "new key that begins it anew, behind dead ones": Case(
        then(room_left(200), adds(("k1", 9)), pops(4)), add("new", 1000), addmode=2
    ),
    "the oldest replaced": Case(some, add("k0"), addmode=2),
    "the only one replaced": Case(add("k0"), add("k0", 20), addmode=2),
    "the newest replaced": Case(some, add("k2"), addmode=2),
    "replaced by one that crosses": Case(room_left(200), add("k1", 1000), addmode=2),
    "replaced behind a head without room": Case(room_left(16), add("k1"), addmode=2),
    "replaced where it crosses": Case(then(room_left(200), adds(("c", 1000)), some), add("c"), addmode=2),
    "replaced by a giant": Case(some, lambda queue: queue.add("k1", GIANT), addmode=2),
    "a giant replaced": Case(then(some, lambda q: q.add("giant", GIANT), adds(("z", 9))), add("giant"), addmode=2),
    "a giant replaced between large ones": Case(
        then(adds(("a", 90_000)), lambda q: q.add("giant", GIANT), adds(("z", 90_000), ("y", _FULL))),
        add("giant"),
        addmode=2,
    ),
    "a long key replaced where it crosses": Case(
        then(room_left(200), lambda q: q.add("K" * 1000, "old"), many(2)), lambda q: q.add("K" * 1000, "new"), addmode=2
    ),
    "a chunk dies in the middle": Case(
        then(adds(("a", _FULL), ("b", _FULL), ("c", _FULL), ("d", _FULL))), add("b"), addmode=2
    ),
    "two chunks merge": Case(
        then(_NEIGHBOURS, adds(*((key, 5) for key in ("b0", "b1", "c0", "c1")))), add("b2"), addmode=2
    ),
    "two chunks merge at the head": Case(
        then(_NEIGHBOURS, adds(*((key, 5) for key in ("a0", "a1", "b0", "b1")))), add("b2"), addmode=2
    ),
    "two chunks merge between what crosses": Case(
        then(
            adds(("a", CHUNK_ROOM - 3000), ("b", 8000), ("c", 120_000), ("d", 120_000), ("e", 20_000)),
            adds(("f", 120_000), ("g", 110_000), ("h", 30_000), ("i", _FULL)),
            adds(("c", 5), ("d", 5), ("f", 5)),
        ),
        add("g"),
        addmode=2,
    ),
    "the oldest, a giant, replaced": Case(then(giant_next, some), add("giant"), addmode=2),
    "compaction begins": Case(then(churn(5), adds(("live5", 20))), adds(("b", _FULL - 100)), addmode=2),
    "compaction moves and ends": Case(churn(9), adds(("b", 9)), addmode=2),
    "compaction moves some of a chunk": Case(then(churn(9, 3), adds(("b", 9))), adds(("b", 9)), addmode=2),
    "compaction looks further": Case(then(churn(6), many(60), churn(5)), adds(("b", 9)), addmode=2),
    "buckets divide": Case(many(8), add("new"), addmode=2),
    "buckets divide, the oldest stays": Case(many(11), add("new"), addmode=1),
    "buckets get a chunk": Case(many(16), add("new"), addmode=2),
    "buckets join": Case(then(many(40), pops(31)), pop, addmode=2),
    "buckets give a chunk back": Case(then(many(17), pops(12)), pop, addmode=2),
    "replaced and size exceeded": Case(some, add("new"), addmode=2, size=3),
    "fetch of a key": Case(some, pop, addmode=1),
    "clear of keys": Case(then(some, add("k1"), pops(1)), clear, addmode=2),
    "fetch behind dead ones": Case(then(some, add("k1"), pops(1)), pop, addmode=2),
    "fetch of the last key": Case(add("only"), pop, addmode=2),
    "fetch of a key that crosses": Case(then(room_left(200), adds(("c", 1000)), pops(4), some), pop, addmode=2),
    "fetch of a giant key": Case(then(lambda q: q.add("giant", GIANT), some), pop, addmode=2),
    "fetch of a key that returns to the front": Case(
        then(adds(*((k, _FULL) for k in "abcde"), ("z", 9)), pops(5)), pop, addmode=2
    ),
    "giant key without memory for it": Case(
        some,
        lambda q: q.add("giant", GIANT),
        addmode=2,
        max_memory=str(geometry(4 << 30, keyed=True).fixed_bytes() + 4 * CHUNK - 1),
    ),
}


def _held(queue: Queue) -> Delivery:
    """The first one that is reserved."""
    entry = next(entry for entry in queue._log.core.in_flight.entries() if not entry.position)
    return Delivery.of(entry)


def done(queue: Queue) -> None:
    """Be done with it."""
    queue.settle([_held(queue)], DONE)


def give_back_for_later(queue: Queue) -> None:
    """Give it back for a moment that will have come when it is looked for."""
    queue.settle([_held(queue)], Settlement("give back", after=1e-9, counted=False))


def give_back(queue: Queue) -> None:
    """Give it back."""
    queue.settle([_held(queue)], GIVE_BACK)


def pop_slowly(queue: Queue) -> None:
    """Take one item, as `pop` goes on where something is in flight."""
    queue.pop_if(lambda _: True)


def giant_first(queue: Queue) -> None:
    """Add a giant item, and some."""
    queue.add("giant", GIANT)
    some(queue)


RESERVED = {
    "reserve": Case(some, reserve),
    "reserve with an entry that was used": Case(then(some, reserve, done), reserve),
    "reserve with an entry that was used, more than ever": Case(then(some, reserve, done, many(6)), reserve),
    "reserve a key with an entry that was used": Case(then(some, reserve, done), reserve, addmode=2),
    "reserve the only one": Case(add("only"), reserve),
    "reserve what crosses": Case(then(room_left(200), adds(("c", 1000)), pops(4), some), reserve),
    "reserve a giant": Case(giant_first, reserve),
    "reserve what came back": Case(then(some, reserve, give_back), reserve),
    "reserve a key": Case(some, reserve, addmode=1),
    "done": Case(then(some, reserve), done),
    "done with a giant": Case(then(giant_first, reserve), done),
    "done with what was passed": Case(then(some, reserve, adds(("a", _FULL), ("b", 9)), pops(3)), done),
    "given back": Case(then(some, reserve), give_back),
    "given back for later": Case(then(some, reserve), give_back_for_later),
    "what came back dropped as too old": Case(then(some, reserve, give_back), drop_aged),
    "the key of what came back dropped as too old": Case(then(some, reserve, give_back), drop_aged, addmode=2),
    "given back for one that sleeps": Case(then(some, reserve, sleeper), give_back),
    "given back beside an older one": Case(then(some, reserve, add("k0")), give_back, addmode=1),
    "given back beside a newer one": Case(then(some, reserve, add("k0")), give_back, addmode=2),
    "fetch of what came back": Case(then(some, reserve, give_back), pop_slowly),
    "fetch of a giant that came back": Case(then(giant_first, reserve, give_back), pop_slowly),
    "replaced what came back": Case(then(some, reserve, give_back), add("k0"), addmode=2),
    "size exceeded by what came back": Case(then(some, reserve, add("n"), give_back), add("new"), size=3),
}

CASES = {**PLAIN, **KEYED, **RESERVED}
