"""Batches and reservations: both kernels give the same results and errors, and leave the same bytes."""

from __future__ import annotations

import gc
import os
import random
import signal
import threading
from typing import TYPE_CHECKING, Any, Callable

import pytest

from kemi.errors import LockTimeout, MqueueError, QueueClosed, SegmentError
from kemi.queue.delivery import claims
from kemi.queue.delivery.hold import DONE, GIVE_BACK, Settlement
from kemi.queue.delivery.reserved import ReservedItem
from kemi.queue.format import layout
from kemi.queue.format.item import Item
from kemi.queue.format.layout import CHUNK
from kemi.queue.format.outcome import CLOSED, NOT_TRIED, AddResult
from kemi.queue.format.question import Envelope, Name, question_record
from kemi.queue.kernel import choice
from kemi.queue.log.core import ADDED
from kemi.queue.queue import Queue
from tests.conftest import HANG
from tests.kernel.pairs import WINDOW, Pair
from tests.support.lock_times import at_a_time

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_mock import MockerFixture

PAIRS: dict[str, Any] = {
    "none": [],
    "one": [("a", "1")],
    "two": [("a", "1"), ("b", "2")],
    "a key twice": [("a", "1"), ("b", "2"), ("a", "3")],
    "many": [(f"k{number}", "v" * (number % 30)) for number in range(700)],
    "over the ends of chunks": [(f"k{number}", "v" * 60_000) for number in range(12)],
    "larger than a chunk": [("a", "1"), ("b", "2" * CHUNK), ("c", "3"), ("d", "4")],
    "too large": [("a", "1"), ("b", "2" * WINDOW), ("c", "3")],
    "a tuple": (("a", "1"), ("b", "2")),
    "bytes and str": [(b"\xff", "ä"), ("k", b"")],
    "lone surrogates": [("a", "1"), ("\udcff", "\ud800")],
    "items": [Item(b"\0" * 24)],
    "lists": [["a", "1"], ["b", "2"]],
    "a generator": None,
    "three in one": [("a", "1"), ("a", "b", "c")],
    "a number": [("a", "1"), ("a", 1)],
    "no pairs": [1, 2],
    "no sequence": 5,
}


def pairs_of(name: str) -> Any:
    return (("g", str(number)) for number in range(5)) if name == "a generator" else PAIRS[name]


def shown(found: Any) -> Any:
    """Items by what they say, but for the times and ids that two queues cannot share."""
    if isinstance(found, ReservedItem):
        return found.key, found.value, found.deliveries, found.asked, found.settled, found.deadline, found._hold.token
    if isinstance(found, Item):
        return type(found).__name__, found.key, found.value, found.deadline
    return found


def entries(queue: Any) -> object:
    """Every entry that was ever used, but for who holds it, and the way through the free ones."""
    in_flight = queue._log.core.in_flight
    fresh = queue._u64[layout.W_FRESH_ENTRY]
    rows = [in_flight._bytes[in_flight.row(n) * 8 : in_flight.row(n) * 8 + layout.ENTRY_BYTES] for n in range(fresh)]
    return [[part for at, part in enumerate(layout.ENTRY.unpack(row)) if at not in (3, 4, 5, 6)] for row in rows]


class Hands:
    """A queue, and what is reserved of it."""

    def __init__(self, queue: Queue) -> None:
        self.queue = queue
        self.items: list[ReservedItem] = []

    def reserve(self, count: int, timeout: float = 0.0) -> object:
        kept: list[ReservedItem] = []
        left = count
        while left > 0 and (some := self.queue.reserve_some(left, timeout, kept.append)):
            left -= some
        self.items += kept
        assert all(item.id == f"{self.queue._u64[layout.W_CREATED]:x}-{item._hold.token.seq:x}" for item in kept)
        assert all(claims.of(self.queue._u64[layout.W_CREATED])[item._hold.token]() is item._hold for item in kept)
        return [shown(item) for item in kept]

    def settle(self, places: list[int], how: Settlement) -> object:
        some = [self.items[place % len(self.items)] for place in places] if self.items else []
        settled = self.queue.settle([item._hold.token for item in some], how)
        for item in some:
            item._hold.end()
        return settled

    def add(self, pairs: list[tuple[str, str]]) -> object:
        return self.queue.add_many(pairs)

    def fetch(self, count: int) -> object:
        return [shown(item) for item in self.queue.fetch_many(count)]


@pytest.fixture
def hands(pair: Pair) -> tuple[Hands, Hands]:
    return Hands(pair.native), Hands(pair.pure)


def both(pair: Pair, hands: tuple[Hands, Hands], name: str, *arguments: object) -> None:
    """Call a method of each."""
    pair.both(lambda queue: getattr(hands[queue is pair.pure], name)(*arguments))
    assert entries(pair.native) == entries(pair.pure)


def calling(name: str, *arguments: object) -> Callable[[Any], object]:
    return lambda queue: getattr(queue, name)(*arguments)


@pytest.fixture(autouse=True)
def _runs(pair: Pair) -> None:
    pair.has_runs = True


@pytest.mark.parametrize("name", PAIRS)
def test_add_many(pair: Pair, name: str) -> None:
    """On an empty queue, beside items, with waiters, and within limits."""
    for limits in ((0, 0), (0, 0), (300, 0), (0, 1 << 16)):
        pair.both(calling("set_limits", *limits))
        pair.both(lambda queue: queue.add_many(pairs_of(name)))
        pair.compare()
    pair.both(lambda queue: [shown(item) for item in queue.fetch_many(5000)])
    pair.compare()


@pytest.fixture
def failing() -> Iterator[Callable[[str, BaseException], None]]:
    """Let a function of the Python code raise, which does what the kernel does not."""
    before = dict(choice._pythons)

    def fail(name: str, error: BaseException) -> None:
        def function(*_: object) -> None:
            raise error

        choice.lib.install({name: function})

    yield fail
    choice.lib.install(before)


LARGE = ("large", "v" * (2 * CHUNK))  # more than one chunk is entered: Python's
ERRORS = [(LockTimeout("busy"), NOT_TRIED), (QueueClosed("over"), CLOSED), (SegmentError("damaged"), NOT_TRIED)]


@pytest.mark.parametrize("pair", [0], indirect=True)
@pytest.mark.parametrize(("error", "rest"), ERRORS, ids=str)
def test_an_error_in_the_middle(pair: Pair, failing: Any, error: MqueueError, rest: AddResult) -> None:
    """What was added is told, what was taken is returned; where there is nothing to tell it is raised."""
    queue = pair.native
    queue.add_many([("a", "1"), ("b", "2"), LARGE, ("c", "3")])
    failing("fetch_many", error)
    assert [item.key for item in queue.fetch_many(4)][:1] == ["a"]
    taken = queue.pop() and queue.pop()  # from here on it is the large one's turn, or its successor's
    assert taken
    with pytest.raises(type(error)):
        queue.fetch_many(4)
    failing("add_many", error)
    assert queue.add_many([("a", "1"), ("b", "2"), LARGE, ("c", "3")])[2:] == [rest, rest]
    with pytest.raises(type(error)):
        queue.add_many([LARGE, ("c", "3")])
    failing("add_many", TimeoutError("of the application"))
    with pytest.raises(TimeoutError):
        queue.add_many([("a", "1"), LARGE])


@pytest.mark.parametrize("count", [0, -1, 1, 2, 3, 255, 256, 257, 600, True, 1.5, None, "3", 1 << 70])
def test_fetch_many(pair: Pair, count: Any) -> None:
    pair.both(lambda queue: queue.add_many([(f"k{number}", "v" * 900) for number in range(700)]))
    for _ in range(4):
        pair.both(lambda queue: [shown(item) for item in queue.fetch_many(count, 0)])
        pair.compare()


@pytest.mark.parametrize("timeout", [0, 0.0, 0.01, -1, float("nan"), "1", True])
def test_fetch_many_waits(pair: Pair, timeout: Any) -> None:
    for _ in range(2):
        pair.both(lambda queue: queue.fetch_many(3, timeout) and None)
        pair.both(lambda queue: queue.add("k", "v"))
        pair.header()


def test_most_is_the_kernels(pair: Pair) -> None:
    """Of a batch nothing but what needs memory is left to Python; of reservations nothing."""
    queue = pair.native
    queue.add_many([(f"k{number}", "v") for number in range(200)])
    before = choice.lib.calls()
    with queue.reserve_many(100):
        pass
    assert pair.native.addmode or choice.lib.calls()[1] == before[1]  # else buckets go
    queue.add_many([(f"l{number}", "v") for number in range(100)])
    before = choice.lib.calls()
    with queue.reserve_many(100) as batch:
        assert len(batch) == 100
    queue.add_many([(f"m{number}", "v") for number in range(50)])
    assert len(queue.fetch_many(20)) == 20
    assert choice.lib.calls()[1] == before[1]


@pytest.mark.parametrize("seed", [*range(3), *(pytest.param(seed, marks=pytest.mark.stress) for seed in range(3, 200))])
def test_random_programs(pair: Pair, hands: tuple[Hands, Hands], seed: int) -> None:
    """Batches and reservations over the ends of chunks, settled in any order, twice, and given back."""
    chance = random.Random(seed)  # noqa: S311
    before = choice.lib.calls()[0]
    for number in range(200):
        what = chance.random()
        if what < 0.3:
            size, count = chance.choice([0, 10, 100, 5000, 30000]), chance.choice([1, 2, 3, 20])
            pairs = [(f"k{chance.randrange(60)}", "v" * size) for _ in range(count)]
            both(pair, hands, "add", pairs)
        elif what < 0.45:
            both(pair, hands, "fetch", chance.choice([1, 2, 5, 40]))
        elif what < 0.7:
            both(pair, hands, "reserve", chance.choice([1, 1, 2, 12, 30]))
        elif what < 0.95:
            places = [chance.randrange(1000) for _ in range(chance.choice([1, 1, 2, 30]))]
            both(pair, hands, "settle", places, DONE)
        else:
            how = chance.choice([GIVE_BACK, Settlement("reject"), Settlement("answer", value=b"")])
            both(pair, hands, "settle", [number], how)
        if not number % 20:
            pair.compare()
    both(pair, hands, "settle", list(range(len(hands[0].items))), DONE)
    pair.compare()
    assert choice.lib.calls()[0] - before > 30  # it was not all Python's


@pytest.mark.parametrize("tokens", [[], (), [(0, 1, 1, 1)], [None], 5, "text"])
def test_wrong_tokens(pair: Pair, tokens: Any) -> None:
    pair.both(lambda queue: queue.settle(tokens, DONE))
    pair.compare()


def test_what_was_forgotten_goes_back(pair: Pair, mocker: MockerFixture) -> None:
    """Nobody has the items when an exception comes while they are handed over: they are there again, at once."""
    at_a_time(mocker, 1000)
    kept: list[ReservedItem] = []

    class StruckError(Exception):
        """What a handler raises."""

    def keep(item: ReservedItem) -> None:
        if len(kept) == 2:
            raise StruckError
        kept.append(item)

    def reserve(queue: Queue) -> None:
        queue.add_many([(f"k{number}", "v") for number in range(6)])
        with queue.reserve_many(6) as batch:  # from here on entries are free that were used
            batch.give_back()
        with queue.reserve_many(6):
            pass
        queue.add_many([(f"k{number}", "v") for number in range(6)])
        kept.clear()
        queue.reserve_some(6, 0.0, keep)

    assert pair.both(reserve)[0] == "StruckError"
    for queue in (pair.native, pair.pure):
        assert queue.stats().reserved <= 2
    kept.clear()
    gc.collect()
    for queue in (pair.native, pair.pure):
        assert [item.key for item in queue.fetch_many(9)] == [f"k{number}" for number in range(6)]
        assert queue.stats().reserved == 0


@pytest.mark.parametrize("pair", [0], indirect=True)
def test_threads_never_hold_an_item_twice(pair: Pair) -> None:
    """While one reserves, the others look for what is forgotten: nothing that is being handed over."""
    queue = pair.native
    queue._mutex.timeout = HANG
    total, threads = 3000, 4
    queue.add_many([(f"k{number}", "v") for number in range(total)])
    with queue.reserve_many(100) as batch:
        batch.give_back()
    seen: list[str] = []

    def work() -> None:
        while len(seen) < total:
            with queue.reserve_many(7) as batch:
                seen.extend(item.key for item in batch if item.deliveries <= 2)

    before = gc.get_threshold()
    gc.set_threshold(5)
    gc.callbacks.append(_switch)
    try:
        workers = [threading.Thread(target=work) for _ in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(HANG)
    finally:
        gc.callbacks.remove(_switch)
        gc.set_threshold(*before)
    assert sorted(seen) == sorted(f"k{number}" for number in range(total))


def _switch(_phase: str, _about: object) -> None:
    """Let other threads run in the middle of an allocation."""
    os.sched_yield()


@pytest.mark.parametrize("pair", [0], indirect=True)
def test_questions_and_aging_are_left_to_python(pair: Pair) -> None:
    """A question that nobody waits for is not delivered, with either."""

    def ask(queue: Queue) -> object:
        queue.add("a", "1")
        with queue.reserve() as item:
            assert item is not None
        late = Envelope(answers=1, name=Name(1, 1, 1), deadline=1, asked=1, shard=1)
        queue.add_record(question_record(b"q", b"v", 0, late))
        queue.add("b", "2")
        with queue.reserve() as item:
            return shown(item)

    pair.both(ask)
    pair.both(lambda queue: queue.set_max_age(3600))
    pair.both(lambda queue: queue.add("c", "3"))
    pair.both(lambda queue: queue.reserve_some(1, 0.0, print))
    pair.header()


@pytest.mark.parametrize("kind", [QueueClosed, LockTimeout, KeyboardInterrupt])
@pytest.mark.parametrize("call", ["add_many", "fetch_many"])
def test_what_a_handler_raises_comes_out(instance: str, call: str, kind: type[BaseException]) -> None:
    """In the midst of a batch, where the kernel has left an item to Python: of our own kinds, too."""

    def handler(_number: int, _frame: object) -> None:
        raise kind("by a handler")

    def struck(*_arguments: object) -> None:
        signal.raise_signal(signal.SIGUSR1)

    queue = Queue.create(instance, "q", window=WINDOW)
    before = signal.signal(signal.SIGUSR1, handler)
    large = LARGE
    python = choice._pythons[call]
    try:
        if call == "fetch_many":
            assert queue.add_many([("a", "1"), large]) == [ADDED, ADDED]
        choice.lib.install({call: struck})
        with pytest.raises(kind, match="by a handler"):
            queue.fetch_many(5) if call == "fetch_many" else queue.add_many([("a", "1"), large])
        assert len(queue) == 1
    finally:
        choice.lib.install({call: python})
        signal.signal(signal.SIGUSR1, before)
        queue.remove()
