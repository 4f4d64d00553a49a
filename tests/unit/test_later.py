"""Items that are given back for later, items that are too old, and what comes from a stream."""

from __future__ import annotations

import logging
import math
import os
import time
from typing import TYPE_CHECKING, Any

import pytest

from kemi import timens
from kemi.errors import MqueueError
from kemi.owner import this_process
from kemi.queue import queue as queues
from kemi.queue.catalog.registry import Registry
from kemi.queue.catalog.view import look_at_queue
from kemi.queue.delivery import hold as hold_module
from kemi.queue.delivery import holding, letters
from kemi.queue.delivery.hold import DONE, GIVE_BACK, Settlement
from kemi.queue.delivery.reserved import ReservedItem, settle
from kemi.queue.format import layout
from kemi.queue.format.item import Item
from kemi.queue.format.outcome import CLOSED, NOT_TRIED
from kemi.queue.log import core
from kemi.queue.log.core import ADDED, FULL, KEPT
from kemi.queue.queue import Queue
from kemi.queue.sync import clock
from tests.asleep import asleep
from tests.conftest import HANG
from tests.support.lock_times import at_a_time
from tests.support.waits import until
from tests.unit.children import fork, killed_after

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_mock import MockerFixture

UNCOUNTED = Settlement("give back", counted=False)
ADDMODES = pytest.mark.parametrize("addmode", [0, 1, 2])


class Times:
    """The two clocks that a queue reads, as a test sets them."""

    def __init__(self) -> None:
        self.ahead = 0.0  # seconds

    def monotonic(self) -> int:
        return time.monotonic_ns() + int(self.ahead * 1e9)

    def wall(self) -> float:
        return time.time() + self.ahead


@pytest.fixture
def times(mocker: MockerFixture) -> Times:
    """Give the clocks."""
    found = Times()
    for module in (holding, letters):
        mocker.patch.object(module, "_now", found.monotonic)
    for module in (queues, hold_module):
        mocker.patch.object(module, "now", found.monotonic)
    mocker.patch.object(letters, "_time", found.wall)
    mocker.patch.object(core, "_now", found.wall)
    return found


@pytest.fixture
def make(instance: str) -> Iterator[Callable[..., Queue]]:
    """Give a way to make queues of one instance."""
    registry = Registry.create(instance, this_process(), 64 << 20)
    made: dict[str, Queue] = {}

    def make(name: str = "q", count: int = 0, **properties: Any) -> Queue:
        made[name] = queue = Queue.create(instance, name, registry=registry, **{"window": 16 << 20, **properties})
        queue.set_siblings(made.get)
        for number in range(count):
            assert queue.add(str(number), "v") == ADDED
        return queue

    yield make
    for queue in made.values():
        queue.remove()


def take(queue: Queue, timeout: float = 0.0) -> ReservedItem | None:
    """Reserve an item, to be settled by hand."""
    return queue.reserve(timeout).take()


def took(queue: Queue) -> ReservedItem:
    """Reserve an item, to be settled by hand; there must be one."""
    item = take(queue)
    assert item is not None
    return item


def keys(queue: Queue) -> list[str]:
    """Return the keys of what can be taken."""
    return [item.key for item in queue.peek(10_000)]


def fetched(queue: Queue) -> list[str]:
    """Take everything."""
    return [item.key for item in iter(queue.fetch, None)]


# --- later


@ADDMODES
def test_what_is_given_back_for_later_comes_when_it_is_due(
    make: Callable[..., Queue], times: Times, addmode: int, instance: str
) -> None:
    """Not before; then before all others; meanwhile it counts as due, in no length, and for every reader."""
    queue = make(count=3, addmode=addmode)
    assert took(queue).give_back(after=30)
    stats = queue.stats()
    assert (len(queue), keys(queue), stats.size, stats.due, stats.reserved) == (2, ["1", "2"], 2, 1, 0)
    assert (queue.held(), [item.key for item in queue.undone()]) == (3, ["0", "1", "2"])
    assert look_at_queue(instance, "q").stats.due == 1
    first = took(queue)
    assert first.key == "1"
    times.ahead = 31
    assert (len(queue), keys(queue), queue.stats().due) == (2, ["0", "2"], 0)
    found = took(queue)
    assert (found.key, found.deliveries) == ("0", 2)
    assert fetched(queue) == ["2"]
    assert first.done()
    assert found.done()


def test_several_come_in_the_order_of_their_time(make: Callable[..., Queue], times: Times) -> None:
    queue = make(count=4)
    held = [took(queue) for _ in range(4)]
    for item, after in zip(held, (30, 10, 20, 0)):
        assert item.give_back(after=after)
    assert fetched(queue) == ["3"]
    times.ahead = 100
    assert fetched(queue) == ["1", "2", "0"]


def test_a_batch_is_given_back_for_later(make: Callable[..., Queue], times: Times) -> None:
    queue = make(count=40)
    with queue.reserve_many(40) as batch:
        assert batch.give_back(after=5) == 40
    assert (queue.fetch(), queue.stats().due) == (None, 40)
    times.ahead = 6
    assert fetched(queue) == [str(number) for number in range(40)]


@ADDMODES
def test_a_delivery_that_does_not_count(make: Callable[..., Queue], addmode: int) -> None:
    """The number of deliveries stays; the delivery itself is another one, so the old one settles nothing."""
    queue = make(count=1, addmode=addmode)
    queue.set_deliveries(2)
    old = took(queue)
    token = old._hold.token
    assert settle(old, UNCOUNTED)
    assert old.deliveries == 1
    for _ in range(5):
        item = took(queue)
        assert (item.deliveries, queue.settle([token], DONE), queue.settle([token], GIVE_BACK)) == (1, 0, 0)
        assert settle(item, UNCOUNTED)
    assert took(queue).give_back()
    item = took(queue)
    assert item.deliveries == 2
    assert queue.stats().exhausted == 0
    assert item.done()


def test_a_sleeper_wakes_up_when_an_item_is_due(make: Callable[..., Queue]) -> None:
    """It sleeps until then, not less and not much more, though nobody calls it."""
    queue = make(count=1)
    held = took(queue)
    began = time.monotonic()
    assert held.give_back(after=0.3)
    assert queue.fetch(HANG) is not None
    assert time.monotonic() - began >= 0.3


@pytest.mark.usefixtures("only_called")
def test_a_sleeper_hears_of_what_will_be_due(make: Callable[..., Queue]) -> None:
    """It slept already when the item was given back, and looks only when it is called."""
    queue = make(count=1)
    held = took(queue)
    pid = fork(lambda: queue.fetch(HANG))
    until(lambda: asleep(pid) and queue.segment.words[layout.W_WAITERS] == 1)
    held.give_back(after=0.2)
    until(lambda: queue.held() == 0)
    os.waitpid(pid, 0)


@pytest.mark.usefixtures("only_called")
def test_who_takes_something_else_hands_on_what_will_be_due(make: Callable[..., Queue]) -> None:
    """Of two sleepers, one knows of the item that is not due yet, is called for another one, and leaves."""
    queue = make(count=1)
    held = took(queue)
    pids = [fork(lambda: queue.fetch(HANG)) for _ in range(2)]
    until(lambda: all(map(asleep, pids)) and queue.segment.words[layout.W_WAITERS] == 2)
    held.give_back(after=0.5)
    queue.add("other", "")
    until(lambda: queue.held() == 0)
    for pid in pids:
        os.waitpid(pid, 0)


@pytest.fixture
def only_called(mocker: MockerFixture) -> None:
    """Nobody looks by himself before his time."""
    for name in ("kemi.queue.waiting.RECHECK", "kemi.queue.sync.eventcount.RECHECK"):
        mocker.patch(name, HANG)


def test_at_the_bound_reserve_waits_for_the_next_that_is_due(
    make: Callable[..., Queue], times: Times, caplog: pytest.LogCaptureFixture
) -> None:
    """Others are there, and no entry for them: it says so in the log, once a minute, and takes the one that is due."""
    queue = make(count=layout.CAPACITY + 2)
    held = [took(queue) for _ in range(layout.CAPACITY)]
    with pytest.raises(MqueueError, match="1024 items are reserved"):
        take(queue)
    for reserved in held:
        assert reserved.give_back(after=60)
    with caplog.at_level(logging.WARNING, "mqueue_kemi"):
        assert take(queue) is None
        assert take(queue, 0.05) is None
        assert not queue.reserve_many(5).take()
        assert not queue.wait_ready(0.05)
    assert len(caplog.records) == 1
    assert "1024 items are reserved or were given back for later" in caplog.text
    assert "reserve() waits for the next of these, due in " in caplog.text
    item = queue.fetch()
    assert item is not None
    assert item.key == str(layout.CAPACITY)
    times.ahead = 61
    with queue.reserve() as found:
        assert found is not None
        assert found.key == "0"


def test_the_clock_is_that_of_the_host(mocker: MockerFixture, tmp_path: Any) -> None:
    """In a time namespace it is shifted back; where nothing is told, it is not."""
    offsets = tmp_path / "offsets"
    mocker.patch.object(timens, "_OFFSETS", str(offsets))
    mocker.patch.object(timens, "_shifts", {})
    for text, expected in (("monotonic  -5  500\nboottime 0 0\n", -5 * 10**9 + 500), ("monotonic", 0)):
        offsets.write_text(text)
        timens._shifts.clear()
        before = time.monotonic_ns()
        assert before - expected <= clock.now() <= time.monotonic_ns() - expected
    offsets.unlink()
    assert timens._read("boottime") == 0
    offsets.write_text("7 3 0\n1 4 0\n")
    assert (timens._read("boottime"), timens._read("monotonic")) == (3 * 10**9, 4 * 10**9)
    mocker.patch("os.readlink", side_effect=lambda path: path)
    assert timens._read("boottime") == 0


# --- too old


@ADDMODES
def test_an_older_item_is_dropped_and_counted(make: Callable[..., Queue], times: Times, addmode: int) -> None:
    """By fetch, reserve, and batches, wherever it lies; a younger one behind it comes."""
    queue = make(count=600, addmode=addmode)
    queue.set_max_age(10)
    held = took(queue)
    assert len(queue) == 599
    times.ahead = 11
    held.give_back()
    queue._adder.add_batch([_at(time.time() + 11)], [])
    assert keys(queue) == ["young"]
    assert queue.stats().oldest is not None
    item = queue.fetch()
    assert item is not None
    assert item.key == "young"
    stats = queue.stats()
    assert (len(queue), stats.expired, stats.fetched, stats.maxage) == (0, 600, 1, 10.0)
    queue.set_max_age(0)
    assert queue.stats().maxage is None


def _at(added: float) -> bytes:
    return layout.RECORD.pack(32, 5, 0, 0, added) + b"young" + bytes(3)


def _reserved(queue: Queue) -> list[Item]:
    with queue.reserve() as item:
        return [item] if item else []


def _reserved_together(queue: Queue) -> list[Item]:
    with queue.reserve_many(7) as batch:
        return list(batch)


def _popped_if(queue: Queue) -> list[Item]:
    record = queue.pop_if(lambda _: True)
    return [Item(record)] if record else []


def _waited_for(queue: Queue) -> list[Item]:
    return queue.fetch_many(100) if queue.wait_ready(0) else []


WAYS: dict[str, Callable[[Queue], list[Item]]] = {
    "fetch": lambda queue: [item for item in [queue.fetch()] if item],
    "fetch_many": lambda queue: queue.fetch_many(7),
    "reserve": _reserved,
    "reserve_many": _reserved_together,
    "pop_if": _popped_if,
    "wait_ready": _waited_for,
}


@pytest.mark.parametrize("way", WAYS)
@ADDMODES
def test_no_way_delivers_an_older_item(make: Callable[..., Queue], times: Times, addmode: int, way: str) -> None:
    """Nor one that lies between younger ones, as after a load or when the clock was set."""
    queue = make(addmode=addmode)
    times.ahead = 100
    for number in range(60):
        age = 50 if number % 3 else 5
        key = b"%05d" % number
        queue._adder.add_batch([layout.RECORD.pack(32, 5, 0, 0, times.wall() - age) + key + bytes(3)], [])
    queue.set_max_age(10)
    found = [item.key for _ in range(40) for item in WAYS[way](queue)]
    assert found == [f"{number:05d}" for number in range(0, 60, 3)]
    assert queue.stats().expired == 40


@ADDMODES
def test_older_items_go_to_the_dead_letters(make: Callable[..., Queue], times: Times, addmode: int) -> None:
    """Where there are some; more of them than one lock is for. They keep their time of adding."""
    queue, dead = make(count=70, addmode=addmode), make("dead")
    queue.set_deliveries(0, "dead")
    queue.set_max_age(10)
    before = queue.peek()[0].added
    times.ahead = 11
    assert queue.fetch() is None
    stats = queue.stats()
    assert (stats.expired, stats.dead_lettered, stats.reserved, stats.size, stats.fetched) == (0, 70, 0, 0, 0)
    assert keys(dead) == [str(number) for number in range(70)]
    assert dead.peek()[0].added == before


@pytest.mark.parametrize("take", ["reserve", "fetch", "fetch_many"])
@ADDMODES
def test_what_was_delivered_too_often_comes_due_in_the_middle_of_a_call(
    make: Callable[..., Queue], mocker: MockerFixture, addmode: int, take: str
) -> None:
    """After the look for dead letters, before the item is taken: it goes there, too, and is not delivered again."""
    queue, dead = make(count=2, addmode=addmode), make("dead")
    queue.set_deliveries(1, "dead")
    due = clock.now() + 10**12
    reads = mocker.Mock(return_value=due - 10**10)
    for module, name in ((holding, "_now"), (letters, "_now"), (hold_module, "now")):
        mocker.patch.object(module, name, reads)
    first = queue.reserve().take()
    assert first is not None
    assert first.give_back(after=10)
    assert keys(dead) == []
    reads.return_value = due
    reads.side_effect = [due - 1, *[due] * 100]
    if take == "reserve":
        with queue.reserve() as item:
            assert item is not None
            taken = item.key
    else:
        found = queue.fetch() if take == "fetch" else queue.fetch_many(1)[0]
        assert found is not None
        taken = found.key
    assert (taken, keys(dead), queue.stats().dead_lettered) == ("1", ["0"], 1)


def test_dead_letters_that_cannot_be_moved_stay(
    make: Callable[..., Queue], times: Times, caplog: pytest.LogCaptureFixture
) -> None:
    """They are not delivered, count as failed moves, are told in one line, and go later."""
    queue, dead = make(count=2), make("dead", byte_limit=8)
    queue.set_deliveries(0, "dead")
    queue.set_max_age(10)
    times.ahead = 11
    assert queue.fetch() is None
    stats = queue.stats()
    assert (stats.unmoved, stats.exhausted, stats.due, len(queue.peek(None, reserved=True))) == (2, 0, 2, 2)
    assert caplog.text.count("could not be moved to its queue for dead letters and stays (maxbytes") == 1
    dead.set_limits(0, 0)
    times.ahead = 13
    assert queue.fetch() is None
    assert (keys(dead), queue.stats().dead_lettered) == (["0", "1"], 2)


def test_what_is_given_back_for_longer_than_its_age_is_seen_in_time(make: Callable[..., Queue], times: Times) -> None:
    queue, dead = make(count=1), make("dead")
    queue.set_deliveries(0, "dead")
    queue.set_max_age(10)
    took(queue).give_back(after=3600)
    times.ahead = 11
    assert queue.fetch() is None
    assert keys(dead) == ["0"]


def test_a_process_killed_with_aged_items_in_its_hands(
    make: Callable[..., Queue], times: Times, mocker: MockerFixture
) -> None:
    """What it was about to move is moved by the next one."""
    at_a_time(mocker, 1000)
    queue, dead = make(count=3), make("dead")
    queue.set_deliveries(0, "dead")
    queue.set_max_age(10)
    times.ahead = 11

    def hold_them() -> None:
        queue.handle.work(queue.handle.holding.take)

    killed_after(hold_them)
    assert (queue.stats().reserved, keys(dead)) == (3, [])
    assert queue.fetch() is None
    assert (sorted(keys(dead)), queue.held()) == (["0", "1", "2"], 0)


# --- the histogram


@pytest.mark.python_code
@ADDMODES
def test_the_time_in_the_queue_is_counted(make: Callable[..., Queue], times: Times, addmode: int) -> None:
    """Of what is fetched in any way, or delivered for the first time; each item once."""
    queue = make(count=6, addmode=addmode)
    times.ahead = 40  # the bound above is a minute
    took(queue).done()
    queue.fetch(1)
    queue.fetch_many(2)
    took(queue).give_back()
    took(queue).done()
    waited = queue.stats().waited
    assert dict(zip((*waited.bounds, math.inf), waited.counts))[60.0] == sum(waited.counts) == 5
    assert 200 <= waited.total < 300
    queue.clear()
    queue.add("k", "")
    queue.fetch(1)
    assert sum(queue.stats().waited.counts) == 6


def test_hot_fetches_are_counted_with_the_next_that_is_measured(make: Callable[..., Queue]) -> None:
    """None is left out, but those since the last one; what is dropped does not count."""
    queue = make(size_limit=3000)
    for number in range(4000):
        queue.add(str(number), "v" * 80)
    for _ in range(2999):
        assert queue.pop() is not None
    counts = queue.stats().waited.counts
    assert 2000 < sum(counts) <= 2999
    assert queue.pop_wait(1) is not None
    queue.add("k", "")
    assert queue.pop_if(lambda _: True) is not None
    assert sum(queue.stats().waited.counts) == 3001


# --- what comes from a stream


@ADDMODES
def test_each_entry_of_a_stream_comes_once(make: Callable[..., Queue], addmode: int) -> None:
    """What is at or before the position was added; it tells streams apart, and is there for every process."""
    queue = make(addmode=addmode)
    entries: list[Any] = [((7, number), f"k{number}", b"v") for number in range(1, 400)]
    assert queue.position("a") is None
    assert queue.add_from("a", entries) == [ADDED] * 399
    assert (queue.position("a"), queue.position(b"b")) == ((7, 399), None)
    assert queue.add_from("a", [*entries, ((8, 0), "new", "v")]) == [KEPT] * 399 + [ADDED]
    assert queue.add_from("b", entries[:1])[0] == (ADDED if addmode != 1 else KEPT)
    assert (queue.position("a"), queue.position("b")) == ((8, 0), (7, 1))
    assert len(queue) == {0: 401, 1: 400, 2: 400}[addmode]


def test_a_refusal_ends_it_before_its_position(make: Callable[..., Queue]) -> None:
    """So the same call goes on there."""
    queue = make(byte_limit=64)
    entries: list[Any] = [((0, number), "k", "v") for number in range(1, 5)]
    assert queue.add_from("s", entries) == [ADDED, ADDED, FULL, NOT_TRIED]
    assert (queue.position("s"), queue.stats().refused) == ((0, 2), 1)
    queue.fetch()
    assert queue.add_from("s", entries) == [KEPT, KEPT, ADDED, FULL]
    queue.segment.words[layout.W_FLAGS] |= layout.ADD_CLOSED
    assert queue.add_from("s", entries[3:]) == [CLOSED]


def test_streams_beyond_the_last_place_are_refused(make: Callable[..., Queue]) -> None:
    queue = make()
    for number in range(layout.POSITIONS):
        assert queue.add_from(f"s{number}", [((1, 1), "k", "v")]) == [ADDED]
    with pytest.raises(MqueueError, match="takes items from 16 streams already"):
        queue.add_from("more", [((1, 1), "k", "v")])
    assert queue.position("more") is None
    assert queue.add_from("s3", [((1, 2), "k", "v")]) == [ADDED]
