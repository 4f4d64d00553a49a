"""Both kernels give the same results, the same errors, and leave the same bytes."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Any, Callable

import pytest

import mqueue_kemi
from kemi.instance import queues
from kemi.queue.format.item import Item
from kemi.queue.format.layout import CHUNK, FREE_SHIFT, MAX_FREE, W_FLAGS
from kemi.queue.kernel import choice
from kemi.queue.log.core import ADDED, KEPT
from kemi.slots import fetched
from tests.kernel.pairs import WINDOW, Pair, outcome

if TYPE_CHECKING:
    from kemi.queue.queue import Queue

TEXTS: list[Any] = [
    "",
    "a",
    "key",
    "ä€𐍈",
    "\x00",
    "x" * 300,
    "\udc80",
    "\ud800",
    b"",
    b"\xff\x00",
    "\udcff" * 3,
    "é" * 41,
]
WRONG: list[Any] = [None, 1, 1.5, [], ("a",), object, bytearray(b"ba"), memoryview(b"mv")]


class Text(str):
    """A str of another type."""

    __slots__ = ()


def adding(key: Any, value: Any) -> Callable[[Any], object]:
    return lambda queue: queue.add(key, value)


def waits(queue: Any) -> None:
    """Be counted as a waiter."""
    queue.handle.work(lambda: queue.handle.events.prepare_wait(None, woken=False))


CALLS: dict[str, Callable[[Any], object]] = {
    **{f"add {key!r:.9} {value!r:.9}": adding(key, value) for key in TEXTS for value in TEXTS[:6]},
    **{f"add key of a wrong type {number}": adding(wrong, "v") for number, wrong in enumerate(WRONG)},
    **{f"add value of a wrong type {number}": adding("k", wrong) for number, wrong in enumerate(WRONG)},
    "add a subclass of str": lambda q: q.add(Text("k"), Text("v")),
    "add by name": lambda q: q.add(key="k", value="v"),
    "add value by name": lambda q: q.add("k", value="v"),
    "add an unknown name": lambda q: q.add("k", other="v"),
    "add nothing": lambda q: q.add(),
    "add one": lambda q: q.add("k"),
    "add three": lambda q: q.add("k", "v", "w"),
    "add large": lambda q: q.add("k", "v" * (CHUNK - 200)),
    "add very large": lambda q: q.add("k", "v" * (2 * CHUNK)),
    "add too large": lambda q: q.add("k", "v" * WINDOW),
    "pop": lambda q: q.pop(),
    "pop with an argument": lambda q: q.pop(1),
    "pop by name": lambda q: q.pop(timeout=1),
    "len": len,
    "fetch": lambda q: q.fetch(),
}


@pytest.mark.parametrize("name", CALLS)
def test_each_call_alone(pair: Pair, name: str) -> None:
    """On an empty queue, on one with items, and twice."""
    for _ in range(2):
        pair.both(CALLS[name])
        pair.both(lambda queue: queue.add("k", "v"))
        pair.both(CALLS[name])
        pair.compare()
    while pair.both(lambda queue: queue.pop())[1] is not None:
        pair.header()


@pytest.mark.parametrize("seed", [*range(3), *(pytest.param(seed, marks=pytest.mark.stress) for seed in range(3, 200))])
def test_random_programs(pair: Pair, seed: int) -> None:
    """Long programs, over the ends of chunks, with limits that are met, and items that are reserved and come back."""
    chance = random.Random(seed)  # noqa: S311
    limits = chance.choice([0, 40]), chance.choice([0, 0, 1 << 18])
    pair.both(lambda queue: queue.set_limits(*limits))
    names = list(CALLS)
    before = choice.lib.calls()[0]
    for number in range(400):
        what = chance.random()
        if what < 0.5:
            key, size = f"k{chance.randrange(60)}", chance.choice([0, 10, 100, 5000, 30000])
            pair.both(adding(key, "v" * size))
        elif what < 0.8:
            pair.both(lambda queue: queue.pop())
        elif what < 0.85:
            pair.both(_give_back)
        else:
            name = chance.choice(names)
            if "too large" not in name:
                pair.both(CALLS[name])
        if not number % 20:
            pair.compare()
    pair.compare()
    assert choice.lib.calls()[0] - before > 60  # it was not all Python's


def _give_back(queue: Queue) -> object:
    """Reserve an item, and give it back."""
    try:
        with queue.reserve() as item:
            found = None if item is None else item.key
            raise KeyError(found)
    except KeyError as error:
        return error.args


def test_who_waits_is_notified(pair: Pair) -> None:
    """EVENT, WAITERS and FLAGS are the same after each add."""
    for queue in (pair.native, pair.pure):
        for _ in range(3):
            waits(queue)
    for number in range(5):
        flags = pair.native._u64[W_FLAGS]
        assert (flags != 0) == (number < 3)
        assert pair.both(adding(f"k{number}", "v"))[1] is ADDED
        pair.header()


@pytest.mark.parametrize("pair", [1], indirect=True)
def test_kept_wakes_nobody(pair: Pair) -> None:
    pair.both(lambda queue: queue.add("k", "v"))
    for queue in (pair.native, pair.pure):
        waits(queue)
    assert pair.both(lambda queue: queue.add("k", "w"))[1] is KEPT
    pair.header()


def test_an_item_has_its_time_of_adding(pair: Pair) -> None:
    """Also where the kernel looks at the clock only once it knows that the key is new."""
    before = time.time()
    for key in ("a", "b", "a"):
        pair.both(lambda queue: queue.add(key, "v"))  # noqa: B023 - it is called at once
    assert all(before <= item.added <= time.time() for item in pair.native.peek(3))


@pytest.mark.parametrize("pair", [2], indirect=True)
def test_replaced_items_at_the_head_are_the_kernels(pair: Pair) -> None:
    """So is the end of a chunk, of which there is a free one."""
    chance = random.Random(4)  # noqa: S311
    keys = [f"k{number}" for number in range(30)]
    for key in keys:
        pair.both(adding(key, "v" * 3000))
    for number in range(3):
        left = choice.lib.calls()[1]
        pures = 0
        for _ in range(400):
            key = chance.choice(keys)
            pair.both(adding(key, "v" * 3000))
            found = pair.both(lambda queue: queue.pop())[1]
            assert isinstance(found, bytes)
            pair.both(adding(Item(found).key, "v" * 3000))
            pures += 3
        pair.compare()
        assert number == 0 or choice.lib.calls()[1] - left == pures


def test_a_burst_that_comes_again_is_the_kernels(instance: str) -> None:
    """Chunks that a burst left, up to what is kept, are taken and left without Python and the system."""
    pair = Pair(instance, 0, window=MAX_FREE * CHUNK << FREE_SHIFT)
    value = "v" * 20_000
    count = MAX_FREE * CHUNK // len(value) - 20
    for number in range(3):
        left = choice.lib.calls()[1]
        for call in (adding("k", value), lambda queue: queue.pop()):
            for _ in range(count):
                pair.both(call)
            pair.header()
        pair.compare()
        assert number == 0 or choice.lib.calls()[1] == left + 2 * count, "beside those of the one without a kernel"
    pair.remove()


FUNCTIONS = ("mq_add", "mq_fetch", "mq_size", "mq_pv_free")
PARTS = ("mqk_get", "mqk_gete", "mqk_getw", "mqv_get", "mqv_gete", "mqv_getw")
ARGUMENTS: list[tuple[Any, ...]] = [
    *((), ("q",), ("none",), (None,), (1,), (b"q",), ([],), ("q", 0), ("q", -1.0), ("q", "k")),
    *(("q", "k", "v"), ("q", None, "v"), ("q", "k", 5), ("q", "\udc80", "\ud800"), ("q", "", ""), ("none", "k", "v")),
]


def script(name: str, arguments: tuple[Any, ...]) -> Callable[[], object]:
    return lambda: getattr(mqueue_kemi, name)(*arguments)


SCRIPT: dict[str, Callable[[], object]] = {
    **{f"{name} {each!r:.40}": script(name, each) for name in (*FUNCTIONS, *PARTS) for each in ARGUMENTS},
    "mq_add by name": lambda: mqueue_kemi.mq_add(queue="q", key="k", value="v"),
    "mq_fetch by name": lambda: mqueue_kemi.mq_fetch(queue="q", timeout=0),
    "mq_size by name": lambda: mqueue_kemi.mq_size(queue="q"),
    "mqk_get by name": lambda: mqueue_kemi.mqk_get(queue="q"),
}


def test_the_functions_of_a_script(pair: Pair, server: Any, mocker: Any) -> None:
    """Each of them with each of these arguments, with items and without: also what is told in the log."""
    del server
    rng = random.Random(1)  # noqa: S311
    told = mocker.patch("kemi.server.log.error")
    order = [rng.choice(list(SCRIPT)) for _ in range(1500)]
    found = []
    for queue in (pair.native, pair.pure):
        queues["q"] = queue
        fetched.clear()
        told.reset_mock()
        seen = []
        for name in order:
            slot = fetched.get("q")
            seen.append((name, outcome(SCRIPT[name]), slot and len(slot), [str(call) for call in told.mock_calls]))
            told.reset_mock()
        found.append(seen)
    del queues["q"]
    for native, pure in zip(*found):
        assert native == pure
    pair.compare()


def test_the_time_in_the_queue_is_measured(pair: Pair) -> None:
    """Now and then, for all that left since the last time."""
    for number in range(2000):
        pair.both(adding(f"k{number}", "v" * 200))
    for _ in range(1999):
        pair.both(lambda queue: queue.pop())
    for queue in (pair.native, pair.pure):
        waited = queue.stats().waited
        assert 1000 < sum(waited.counts) <= 1999
        assert waited.total > 0
