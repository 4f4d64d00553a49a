"""Reserving an item: at least once, in order, whoever dies with it; and batches."""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
from dataclasses import astuple
from itertools import count as numbers_from
from typing import TYPE_CHECKING, Any

import pytest

from kemi.errors import ClientClosed, ItemError, LockTimeout, MqueueError, QueueClosed, SegmentError
from kemi.owner import this_process
from kemi.queue import adding, waiting
from kemi.queue import handle as handles
from kemi.queue.catalog.registry import Registry
from kemi.queue.delivery import holding, letters
from kemi.queue.format import layout
from kemi.queue.format.layout import CHUNK
from kemi.queue.format.outcome import CLOSED, NOT_TRIED
from kemi.queue.log.core import ADDED, FULL, KEPT, TOO_LARGE
from kemi.queue.log.plain import PlainLog
from kemi.queue.queue import Queue
from tests.conftest import HANG
from tests.locked import reserve_for_good
from tests.support.lock_times import at_a_time
from tests.support.waits import until
from tests.unit.children import child, fork, kill, killed_after

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_mock import MockerFixture

ADDMODES = pytest.mark.parametrize("addmode", [0, 1, 2])


class BrokenError(Exception):
    """What a consumer's own code raises."""


@pytest.fixture
def make(instance: str) -> Iterator[Callable[..., Queue]]:
    """Give a way to make queues of one instance."""
    registry = Registry.create(instance, this_process(), 64 << 20)
    made = []

    def make(name: str = "q", count: int = 0, **properties: Any) -> Queue:
        queue = Queue.create(instance, name, registry=registry, **{"window": 16 << 20, **properties})
        made.append(queue)
        for number in range(count):
            assert queue.add(str(number), "v") == ADDED
        return queue

    yield make
    for queue in made:
        queue.remove()


def keys(queue: Queue) -> list[str]:
    """Return the keys of what can be taken."""
    return [item.key for item in queue.peek(10_000)]


def reserved_by_the_dead(queue: Queue, count: int) -> None:
    """Let a process reserve some items, and be killed."""

    def reserve() -> None:
        for _ in range(count):
            reserve_for_good(queue)

    killed_after(reserve)


def fail(queue: Queue) -> str | None:
    """Reserve an item, and raise; return its key."""
    key = None
    try:
        with queue.reserve() as item:
            if item is not None:
                key = item.key
                raise BrokenError
    except BrokenError:
        pass
    return key


@ADDMODES
def test_an_item_is_done_when_the_block_ends(make: Callable[..., Queue], addmode: int) -> None:
    """Meanwhile it is in `stats`, and not in the length; afterwards it is nowhere."""
    queue = make(count=3, addmode=addmode)
    with queue.reserve() as item:
        assert item is not None
        assert (item.key, item.value, item.deliveries) == ("0", "v", 1)
        assert len(queue) == 2
        assert keys(queue) == ["1", "2"]
        stats = queue.stats()
        assert (stats.size, stats.reserved, stats.fetched, stats.bytes) == (2, 1, 0, 96)
        assert [item.key for item in queue.undone()] == ["0", "1", "2"]
        other = queue.fetch()
        assert other is not None
        assert other.key == "1"
    stats = queue.stats()
    assert (stats.size, stats.reserved, stats.fetched, stats.bytes) == (1, 0, 2, 32)


@ADDMODES
def test_an_exception_gives_it_back(make: Callable[..., Queue], addmode: int) -> None:
    """It comes again, before all others, as its second delivery."""
    queue = make(count=3, addmode=addmode)
    with pytest.raises(BrokenError), queue.reserve():
        raise BrokenError
    assert keys(queue) == ["0", "1", "2"]
    assert (len(queue), queue.stats().reserved) == (3, 0)
    with queue.reserve() as item:
        assert item is not None
        assert (item.key, item.deliveries) == ("0", 2)
    assert queue.stats().fetched == 1


@pytest.mark.parametrize("how", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_so_does_whatever_ends_the_block(make: Callable[..., Queue], how: type[BaseException]) -> None:
    """Also what is no error."""
    queue = make(count=1)
    with pytest.raises(how), queue.reserve():
        raise how
    assert keys(queue) == ["0"]


def test_the_order_is_that_of_adding(make: Callable[..., Queue]) -> None:
    """Whoever gives back first, the items come as they were added."""
    queue = make(count=5)
    blocks = [queue.reserve() for _ in range(4)]
    assert [item.key for item in (block.__enter__() for block in blocks) if item] == ["0", "1", "2", "3"]
    for number in (1, 3, 0, 2):
        blocks[number].__exit__(BrokenError)
    assert keys(queue) == ["0", "1", "2", "3", "4"]
    assert [item.key for item in queue.fetch_many(9)] == ["0", "1", "2", "3", "4"]


def test_the_order_where_entries_are_used_again(make: Callable[..., Queue]) -> None:
    """An item that was reserved later may have the lower slot."""
    queue = make(count=4)
    blocks = [queue.reserve() for _ in range(3)]
    blocks[0].__enter__()
    blocks[1].__enter__()
    blocks[0].__exit__(None)
    blocks[2].__enter__()
    for number in (2, 1):
        blocks[number].__exit__(BrokenError)
    assert keys(queue) == ["1", "2", "3"]
    assert [item.key for item in queue.fetch_many(9)] == ["1", "2", "3"]


def test_nothing_there(make: Callable[..., Queue]) -> None:
    """None, after the time; the block runs all the same."""
    queue = make()
    with queue.reserve() as item:
        assert item is None
    begin = time.monotonic()
    with queue.reserve(0.05) as item:
        assert item is None
    assert time.monotonic() - begin >= 0.05
    with pytest.raises(ValueError, match="number of seconds"), queue.reserve(float("nan")):
        pass


def test_a_reservation_is_for_one_use(make: Callable[..., Queue]) -> None:
    """A second block, in the first one and after it, is refused, and takes nothing; it tells its state."""
    queue = make(count=2)
    block = queue.reserve()
    assert "holds nothing" in repr(block)
    with block as item:
        assert "deliveries=1" in repr(item)
        assert "holds 1 item>" in repr(block)
        with pytest.raises(RuntimeError, match="for each block"), block:
            pass
    with pytest.raises(RuntimeError, match="for each block"), block:
        pass
    assert keys(queue) == ["1"]


@ADDMODES
@pytest.mark.parametrize("how", ["fetch", "fetch_many", "reserve", "wait"])
def test_what_a_killed_process_held_comes_first(make: Callable[..., Queue], addmode: int, how: str) -> None:
    """The next one who takes an item, in whatever way, gets it."""
    queue = make(count=5, addmode=addmode)
    reserved_by_the_dead(queue, 3)
    assert queue.stats().reserved == 3
    if how == "fetch":
        found = queue.fetch()
    elif how == "wait":
        found = queue.fetch(1.0)
    elif how == "fetch_many":
        found = queue.fetch_many(1)[0]
    else:
        with queue.reserve() as item:
            found = item
    assert found is not None
    assert found.key == "0"
    assert keys(queue) == ["1", "2", "3", "4"]
    assert queue.stats().reserved == 0
    with queue.reserve() as item:
        assert item is not None
        assert item.deliveries == 2


def until_one_sleeps(queue: Queue) -> None:
    """Return when somebody is counted as a sleeper: from then on an item that comes calls him."""
    until(lambda: queue.segment.words[layout.W_WAITERS])


def test_a_sleeper_learns_of_a_death(make: Callable[..., Queue]) -> None:
    """Who waits in an empty queue gets what the killed one held, within the time of a look."""
    queue = make(count=1)
    with child(lambda: reserve_for_good(queue)):
        results: list[tuple[str, float]] = []

        def wait() -> None:
            item = queue.fetch(HANG)
            assert item is not None
            results.append((item.key, time.monotonic()))

        thread = threading.Thread(target=wait)
        thread.start()
        until_one_sleeps(queue)
        assert not results
    killed = time.monotonic()
    thread.join()
    assert results[0][0] == "0"
    assert results[0][1] - killed < HANG / 2


@pytest.mark.usefixtures("only_called")
def test_a_sleeper_is_woken_by_what_comes_back(make: Callable[..., Queue]) -> None:
    """At once, not by its own look."""
    queue = make(count=1)
    results: list[float] = []

    def wait() -> None:
        assert queue.fetch(HANG) is not None
        results.append(time.monotonic())

    thread = threading.Thread(target=wait)
    block = queue.reserve()
    assert block.__enter__() is not None
    thread.start()
    until_one_sleeps(queue)
    back = time.monotonic()
    block.__exit__(BrokenError)
    thread.join()
    assert results[0] - back < HANG / 2


def test_a_living_holder_keeps_it(make: Callable[..., Queue]) -> None:
    """Nobody else gets it, however long it takes."""
    queue = make(count=1)
    with child(lambda: reserve_for_good(queue)):
        for _ in range(3):
            assert queue.fetch(0.1) is None
        assert queue.stats().reserved == 1


def test_a_forked_process_does_not_hold_it(make: Callable[..., Queue]) -> None:
    """Born in the block, it leaves the block, and the item is still its parent's."""
    queue = make(count=2)
    with queue.reserve() as item:
        assert item is not None
        pid = os.fork()
        if not pid:
            break_out = 0
        else:
            break_out = 1
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
            assert queue.stats().reserved == 1
    if not break_out:
        os._exit(0 if queue.stats().reserved == 1 else 1)
    assert queue.stats().reserved == 0


def test_many_threads(make: Callable[..., Queue]) -> None:
    """Each item is done once."""
    queue = make(count=400)
    done: list[str] = []

    def work() -> None:
        while len(queue) or queue.stats().reserved:
            with contextlib.suppress(BrokenError), queue.reserve() as item:
                if item is not None and item.deliveries == 1 and int(item.key) % 3 == 0:
                    raise BrokenError
                if item is not None:
                    done.append(item.key)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done, key=int) == [str(number) for number in range(400)]


def test_more_than_there_are_entries(make: Callable[..., Queue]) -> None:
    """One reservation too many is refused, and nothing is lost."""
    queue = make()
    queue.add_many((str(number), "") for number in range(layout.CAPACITY + 1))
    blocks = [queue.reserve() for _ in range(layout.CAPACITY)]
    for block in blocks:
        assert block.__enter__() is not None
    with pytest.raises(MqueueError, match="1024 items are reserved"), queue.reserve():
        pass
    assert len(queue) == 1
    for block in blocks:
        block.__exit__(BrokenError)
    assert len(queue) == layout.CAPACITY + 1
    assert [item.key for item in queue.fetch_many(2000)] == [str(number) for number in range(layout.CAPACITY + 1)]


def test_memory_is_kept_for_what_is_reserved_only(make: Callable[..., Queue]) -> None:
    """A chunk with a reserved item stays; all that went by does not."""
    queue = make(count=1)
    with queue.reserve():
        for _ in range(40):
            queue.add("large", "x" * 100_000)
            queue.fetch()
        assert queue.stats().memory < 6 * CHUNK
    queue.add("large", "x" * 100_000)
    queue.fetch()
    assert queue.stats().memory <= 5 * CHUNK


def test_limits_count_what_is_reserved(make: Callable[..., Queue]) -> None:
    """`maxbytes` with it, `size` without it."""
    queue = make(count=2, byte_limit=64)
    with queue.reserve():
        assert queue.add("new", "v") == FULL
    assert queue.add("new", "v") == ADDED
    sized = make("sized", count=2, size_limit=2)
    block = sized.reserve()
    assert block.__enter__() is not None
    assert sized.add("new", "v") == ADDED
    assert sized.stats().dropped == 0
    block.__exit__(BrokenError)
    assert keys(sized) == ["0", "1", "new"]
    sized.add("newer", "v")
    assert keys(sized) == ["new", "newer"]
    assert sized.stats().dropped == 2


@pytest.mark.parametrize(("addmode", "stays"), [(1, "old"), (2, "new")])
def test_a_key_that_is_reserved_may_be_added(make: Callable[..., Queue], addmode: int, stays: str) -> None:
    """What happens meanwhile is not lost; given back, one of the two stays, as the addmode says."""
    queue = make(addmode=addmode)
    queue.add("k", "old")
    block = queue.reserve()
    assert block.__enter__() is not None
    assert queue.add("k", "new") == ADDED
    block.__exit__(BrokenError)
    assert [item.value for item in queue.peek(9)] == [stays]
    assert queue.stats().replaced == 1
    assert queue.add("k", "third") == (KEPT if addmode == 1 else ADDED)
    assert [item.value for item in queue.fetch_many(9)] == ["old" if addmode == 1 else "third"]


def test_a_lock_not_had_at_the_end(make: Callable[..., Queue]) -> None:
    """The item is done, or given back, with the next one that is taken."""
    queue = make(count=2, lock_timeout=0.05)
    outcomes = []
    for kind in (None, BrokenError):
        block = queue.reserve()
        assert block.__enter__() is not None
        with child(queue._mutex.take), contextlib.nullcontext() if kind else pytest.raises(LockTimeout):
            block.__exit__(kind)
        outcomes.append(queue.stats().reserved)
    assert outcomes == [1, 1]
    item = queue.fetch()
    assert item is not None
    assert (item.key, len(queue), queue.stats().reserved) == ("1", 0, 0)


def test_what_is_late_is_not_a_childs(make: Callable[..., Queue]) -> None:
    """A process forked meanwhile does not end what its parent could not."""
    queue = make(count=2, lock_timeout=0.05)
    block = queue.reserve()
    assert block.__enter__() is not None
    with child(queue._mutex.take):
        block.__exit__(BrokenError)
    pid = fork(lambda: os._exit(0 if queue.fetch_many(5)[0].key == "1" else 9))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    item = queue.fetch()
    assert item is not None
    assert item.key == "0"


@pytest.mark.parametrize("use", [lambda block: block.__enter__(), lambda block: block.take()], ids=["with", "take"])
def test_a_reservation_whose_wait_failed_is_not_used_again(
    make: Callable[..., Queue], use: Callable[[Any], object]
) -> None:
    """It would say that nothing came, with an item there."""
    queue = make(count=1, lock_timeout=0.05)
    block = queue.reserve()
    with child(queue._mutex.take), pytest.raises(LockTimeout):
        use(block)
    with pytest.raises(RuntimeError, match="for one use"):
        use(block)
    item = queue.reserve().take()
    assert item is not None
    assert item.done()


def test_a_dead_letter_that_cannot_be_settled_costs_no_item(make: Callable[..., Queue], mocker: MockerFixture) -> None:
    """The caller has another item in hand by then, and gets it."""
    queue, dead = make(count=2), make("dead")
    queue.set_deliveries(1, "dead")
    reserved_by_the_dead(queue, 1)
    at_a_time(mocker, 1000)
    settle = mocker.patch.object(queue.handle.holding.letters, "settle", side_effect=LockTimeout("busy"))
    item = queue.fetch()
    assert item is not None
    assert (item.key, keys(dead), queue.stats().reserved) == ("1", ["0"], 1)
    mocker.stop(settle)
    assert queue.fetch() is None
    assert (len(queue), queue.stats().reserved) == (0, 0)


def test_the_server_is_taken_over(make: Callable[..., Queue]) -> None:
    """Who holds an item goes on holding it; the dead one's come back."""
    queue = make(count=3)
    with queue.reserve():
        reserved_by_the_dead(queue, 1)
        assert queue.adopt(this_process()) == 1
        assert queue.stats().reserved == 2
        item = queue.fetch()
        assert item is not None
        assert item.key == "1"
    assert keys(queue) == ["2"]


def test_a_queue_that_is_made_anew(make: Callable[..., Queue]) -> None:
    """What is reserved goes over with the others, and the old holder's end changes nothing."""
    queue, new = make(count=3), make("new")
    block = queue.reserve()
    assert block.__enter__() is not None
    with queue.moving() as records:
        for record in records:
            new.append_record(record)
    assert keys(new) == ["0", "1", "2"]
    block.__exit__(None)
    assert queue.stats().reserved == 0


# --- what was delivered too often


def test_a_dead_letter(make: Callable[..., Queue]) -> None:
    """After its last delivery an item goes to the queue that is named, with its time."""
    queue, dead = make(count=2), make("dead")
    queue.set_deliveries(2, "dead")
    added = queue.peek()[0].added
    assert [fail(queue), fail(queue)] == ["0", "0"]
    assert keys(queue) == ["1"]
    assert [(item.key, item.added) for item in dead.peek(9)] == [("0", added)]
    stats = queue.stats()
    assert (stats.dead_lettered, stats.exhausted, stats.fetched, stats.reserved) == (1, 0, 0, 0)
    assert stats.max_deliveries == 2


def test_a_dead_letter_of_a_killed_process(make: Callable[..., Queue]) -> None:
    """The one who finds it moves it, and gets the next."""
    queue, dead = make(count=2), make("dead")
    queue.set_deliveries(1, "dead")
    reserved_by_the_dead(queue, 1)
    item = queue.fetch()
    assert item is not None
    assert (item.key, keys(dead)) == ("1", ["0"])


def test_a_queue_for_dead_letters_that_is_missing_or_full(make: Callable[..., Queue], mocker: MockerFixture) -> None:
    """The item stays, is not delivered again, and is counted; it goes as soon as it can."""
    at_a_time(mocker, 1000)
    queue = make(count=2)
    queue.set_deliveries(1, "dead")
    assert fail(queue) == "0"
    assert queue.stats().exhausted == 1
    item = queue.fetch()
    assert item is not None
    assert (item.key, [item.key for item in queue.undone()], queue.stats().due) == ("1", ["0"], 1)
    dead = make("dead", byte_limit=8)
    for module in (holding, letters):
        mocker.patch.object(module, "_now", return_value=time.monotonic_ns() + 2 * letters._RETRY)
    mocker.patch.object(letters, "_RETRY", 0)
    assert queue.fetch() is None
    assert (queue.stats().exhausted, queue.stats().unmoved, len(queue.undone())) == (2, 2, 1)
    dead.set_limits(0, 0)
    assert queue.fetch() is None
    assert (keys(dead), keys(queue), queue.stats().dead_lettered) == (["0"], [], 1)


def test_no_queue_for_dead_letters(make: Callable[..., Queue]) -> None:
    """Then the item is delivered on and on, and each time too many is counted."""
    queue = make(count=1)
    queue.set_deliveries(2)
    assert [fail(queue) for _ in range(5)] == ["0"] * 5
    assert queue.stats().exhausted == 4
    with queue.reserve() as item:
        assert item is not None
        assert item.deliveries == 6


# --- batches


@ADDMODES
def test_batches(make: Callable[..., Queue], addmode: int) -> None:
    """All of them, in order, whatever their number."""
    queue = make(addmode=addmode)
    pairs = [(str(number), "v" * (number % 700)) for number in range(3 * waiting.BATCH + 7)]
    assert queue.add_many(pairs) == [ADDED] * len(pairs)
    assert queue.add_many([]) == []
    assert len(queue) == len(pairs)
    assert [item.key for item in queue.fetch_many(5)] == ["0", "1", "2", "3", "4"]
    rest = queue.fetch_many(10**9)
    assert [(item.key, item.value) for item in rest] == pairs[5:]
    assert queue.fetch_many(3) == queue.fetch_many(0) == queue.fetch_many(-1) == []


@pytest.mark.parametrize("limits", [(0, 0), (50, 0), (0, 200_000)])
@ADDMODES
def test_batches_of_any_size(make: Callable[..., Queue], addmode: int, limits: tuple[int, int]) -> None:
    """Short and long items, few and many at a time, over the ends of chunks: as one by one."""
    queue, other = make(addmode=addmode), make("other", addmode=addmode)
    for each in (queue, other):
        each.set_limits(*limits)
    chance = random.Random(addmode * 100 + limits[0])  # noqa: S311 no secret
    for turn in range(150):
        lengths = (chance.choice((0, 1, 7, 8, 300, 5000, CHUNK // 2, CHUNK + 9)) for _ in range(chance.randrange(40)))
        pairs = [(f"{turn}-{number % 30}", "v" * length) for number, length in enumerate(lengths)]
        assert queue.add_many(pairs) == [other.add(*pair) for pair in pairs]
        assert len(queue) == len(other)
        count = chance.choice((1, 2, 20, 500))
        assert queue.fetch_many(count) == [item for item in (other.fetch() for _ in range(count)) if item]
        if turn % 50 == 25:
            queue.adopt(this_process())  # reads all of it
    assert astuple(queue.stats())[:6] == astuple(other.stats())[:6]


def test_a_batch_wakes_as_many_as_it_is_for(make: Callable[..., Queue]) -> None:
    """Two items wake two of three sleepers."""
    queue = make()
    words = queue.segment.words
    words[layout.W_FLAGS] |= layout.ADD_WAITING
    words[layout.W_WAITERS] = words[layout.W_PRESENT] = 3
    assert queue.add_many([("a", ""), ("b", "")]) == [ADDED, ADDED]
    assert words[layout.W_WAITERS] == 1


def test_a_batch_says_what_became_of_each(make: Callable[..., Queue], mocker: MockerFixture) -> None:
    """One outcome for each pair, in order."""
    queue = make(addmode=1)
    mocker.patch.object(adding, "MAX_STEP", 1 << 20)
    assert queue.add_many([("a", "1"), ("a", "2"), ("b", "x" * (1 << 20)), (b"c", b"3")]) == [
        ADDED,
        KEPT,
        TOO_LARGE,
        ADDED,
    ]
    assert queue.stats().refused == 1
    with pytest.raises(ItemError):
        queue.add_many([("d", "4"), ("e", None)])  # type: ignore[list-item]
    assert keys(queue) == ["a", "c"]
    queue.remove()
    assert queue.add_many([("x", "y")]) == [CLOSED]


@pytest.mark.python_code
def test_a_batch_is_bounded(make: Callable[..., Queue], mocker: MockerFixture) -> None:
    """The lock is let go after so many items, or bytes."""
    at_a_time(mocker, 10**6)
    queue = make()
    locks = mocker.spy(handles, "hold")
    queue.add_many([("k", "")] * (2 * waiting.BATCH))
    assert locks.call_count == 2
    queue.add_many([("k", "x" * (waiting.BATCH_BYTES // 2))] * 5)
    assert locks.call_count == 2 + 3
    locks.reset_mock()
    assert len(queue.fetch_many(10**6)) == 2 * waiting.BATCH + 5
    assert locks.call_count >= 2 + 3


def fails_at(mocker: MockerFixture, queue: Queue, number: int, error: BaseException) -> None:
    """Let the lock's section of that number fail, counted from here; the others are as they were."""
    work = type(queue.handle).work.__get__(queue.handle)
    numbers = numbers_from(1)

    def work_or_fail(function: Callable[[], Any]) -> Any:
        if next(numbers) == number:
            raise error
        return work(function)

    mocker.patch.object(queue.handle, "work", work_or_fail)


ERRORS = [LockTimeout("busy"), QueueClosed("over"), SegmentError("damaged"), ClientClosed("closed here")]


@pytest.mark.python_code
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_batch_that_meets_an_error(make: Callable[..., Queue], mocker: MockerFixture, error: MqueueError) -> None:
    """What was taken is returned, and what was added is told; an error is raised when there is nothing to tell."""
    at_a_time(mocker, 10**6)
    queue = make()
    size = waiting.BATCH
    fails_at(mocker, queue, 2, error)
    rest = CLOSED if isinstance(error, QueueClosed) else NOT_TRIED
    assert queue.add_many([("k", "")] * (size + 3)) == [ADDED] * size + [rest] * 3
    mocker.stopall()
    at_a_time(mocker, 10**6)
    assert len(queue) == size
    queue.add_many([("l", "")] * 5)
    fails_at(mocker, queue, 2, error)
    assert [item.key for item in queue.fetch_many(size + 5)] == ["k"] * size
    fails_at(mocker, queue, 1, error)
    for call in (lambda: queue.fetch_many(5), lambda: queue.add_many([("k", "")])):
        with pytest.raises(type(error)):
            call()
        fails_at(mocker, queue, 1, error)
    mocker.stopall()
    assert [item.key for item in queue.fetch_many(100)] == ["l"] * 5


@pytest.mark.python_code
def test_a_batch_that_meets_an_error_in_the_middle(make: Callable[..., Queue], mocker: MockerFixture) -> None:
    """Also within one section of the lock: what was taken before it is returned, what was added is told."""
    queue = make()
    queue.add_many([(str(number), "v" * 3000) for number in range(40)])
    assert isinstance(queue._log, PlainLog)
    run = queue._log.pop_run
    results = iter([run(10), SegmentError("damaged")])
    mocker.patch.object(queue._log, "pop_run", side_effect=lambda _: raise_or_return(next(results)))
    found = queue.fetch_many(30)
    mocker.stopall()
    assert [item.key for item in found] == [str(number) for number in range(len(found))]
    assert len(found) + len(queue) == 40
    assert found
    append = queue._adder._add_run
    calls = numbers_from(1)

    def add_run(records: list[bytes], first: int) -> Any:
        if next(calls) == 2:
            raise SegmentError("damaged")
        return append(records, first)

    before = len(queue)
    mocker.patch.object(queue._adder, "_add_run", add_run)
    outcomes = queue.add_many([("k", "v" * 30_000)] * 30)  # less than a batch, and more than a chunk
    mocker.stopall()
    assert 0 < outcomes.count(ADDED) < 30
    assert outcomes.count(ADDED) + outcomes.count(NOT_TRIED) == 30
    assert len(queue) == before + outcomes.count(ADDED)


def raise_or_return(what: Any) -> Any:
    """Raise an exception, or return anything else."""
    if isinstance(what, BaseException):
        raise what
    return what


@pytest.mark.python_code
def test_a_batch_that_is_broken_off_by_a_handler(make: Callable[..., Queue], mocker: MockerFixture) -> None:
    """Its exception is the application's own, and is never kept back for the sake of a result."""
    queue = make()
    queue.add_many([("k", "")] * (2 * waiting.BATCH))
    fails_at(mocker, queue, 2, TimeoutError("of the application"))
    with pytest.raises(TimeoutError, match="of the application"):
        queue.fetch_many(2 * waiting.BATCH)


@pytest.mark.python_code
def test_a_batch_that_loses_the_lock(make: Callable[..., Queue], mocker: MockerFixture) -> None:
    """What was done is told; what was not is told too."""
    queue = make()
    mocker.patch.object(adding, "BATCH", 2)
    fails_at(mocker, queue, 2, LockTimeout("busy"))
    assert queue.add_many([("k", "")] * 5) == [ADDED, ADDED, NOT_TRIED, NOT_TRIED, NOT_TRIED]
    assert len(queue) == 2
    fails_at(mocker, queue, 1, LockTimeout("busy"))
    with pytest.raises(LockTimeout):
        queue.add_many([("k", "")])
    mocker.stopall()
    with child(queue._mutex.take), pytest.raises(LockTimeout):
        queue.fetch_many(1, 0.1)


@pytest.mark.usefixtures("only_called")
def test_a_batch_wakes_as_many_as_there_are_items(make: Callable[..., Queue]) -> None:
    """Three sleep, two items come: two wake, and the third one sleeps on."""
    queue = make()
    pids = {fork(lambda: os._exit(0 if queue.fetch(10 * HANG) else 9)) for _ in range(3)}
    while queue.segment.words[layout.W_WAITERS] < 3:
        time.sleep(0.001)
    queue.add_many([("a", ""), ("b", "")])
    awake = 0
    while awake < 2:
        pid, status = os.wait()
        if pid not in pids:  # an orphan of another test that came to this process
            continue
        awake += 1
        pids.remove(pid)
        assert status == 0
    assert queue.segment.words[layout.W_WAITERS] == 1
    kill(pids.pop())
