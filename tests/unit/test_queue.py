"""One queue: adding, taking, limits, waiting, statistics, and what an exception leaves behind."""

from __future__ import annotations

import errno
import gc
import os
import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kemi.errors import ItemError, LockTimeout, SegmentError, SegmentMissing
from kemi.owner import this_process
from kemi.queue import hot
from kemi.queue.catalog.registry import Registry
from kemi.queue.format import layout
from kemi.queue.format.layout import (
    ADD_WAITING,
    CHUNK,
    W_COMMIT,
    W_FLAGS,
    W_PRESENT,
    W_WAITERS,
)
from kemi.queue.format.outcome import CLOSED, AddResult, Stats, Waited
from kemi.queue.log import keyed, plain
from kemi.queue.log.core import ADDED, FULL, KEPT, NO_MEMORY, TOO_LARGE
from kemi.queue.queue import Queue
from kemi.queue.sync.eventcount import EventCount
from tests.asleep import asleep
from tests.conftest import HANG, SHM
from tests.support.clients import attach
from tests.support.rewire import rewire
from tests.unit.children import child, fork, in_child, killed_after
from tests.unit.queues import ADDMODES, HUNDRED_K, contents, sound

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_mock import MockerFixture


def is_waited_for(queue: Queue) -> bool:
    """Return True if somebody is counted as waiting."""
    words = queue.segment.words
    return bool(words[W_FLAGS] & ADD_WAITING or words[W_WAITERS] or words[W_PRESENT])


# --- adding and taking ------------------------------------------------------------------------------------------------


@ADDMODES
def test_first_in_first_out(make: Callable[..., Queue], addmode: int) -> None:
    """Items come in the order in which they were added, with the time of it."""
    queue = make(addmode=addmode)
    before = time.time()
    for number in range(5):
        assert queue.add(f"key{number}", f"value{number}") == ADDED
    assert len(queue) == 5
    items = [queue.fetch() for _ in range(6)]
    assert items.pop() is None
    assert [tuple(item or ()) for item in items] == [(f"key{number}", f"value{number}") for number in range(5)]
    assert all(item and before <= item.added <= time.time() for item in items)
    assert len(queue) == 0


@ADDMODES
@pytest.mark.parametrize("text", ["", "\0", "é", "\udcff", "\ud800", "x" * 300_000, "\U0001f600" * 70_000])  # noqa: PT014
def test_texts_cross(make: Callable[..., Queue], instance: str, addmode: int, text: str) -> None:
    """Any text is the same in another process, as key and as value."""
    queue, other = make(addmode=addmode), Queue.attach(instance, "q")
    queue.add(text, text)
    item = other.fetch()
    assert item is not None
    assert (item.key, item.value) == (text, text)


@pytest.mark.parametrize("size", [1 << 20, 1 << 24])
def test_long_values(make: Callable[..., Queue], size: int) -> None:
    """Values up to 16 MiB come back exactly, and their memory is given back, all but little."""
    queue = make(window=20 << 20)
    value = os.urandom(size)
    queue.add("a", "small")
    queue.add(b"k", value)
    assert [item.value_bytes for item in queue.peek(2)] == [b"small", value]
    queue.pop()
    item = queue.fetch()
    assert item is not None
    assert item.value_bytes == value
    assert queue.stats().memory < 4 * CHUNK
    sound(queue)


@pytest.mark.parametrize(("key", "value"), [(None, "v"), ("k", 5), (5, None), ("k", ["v"])])
def test_wrong_types(make: Callable[..., Queue], key: Any, value: Any) -> None:
    """They are an ItemError, and nothing is added or locked."""
    queue = make()
    with pytest.raises(ItemError, match="must be str or bytes, not"):
        queue.add(key, value)
    assert not queue._mutex.is_mine()
    assert len(queue) == queue.stats().refused == 0


@ADDMODES
def test_an_item_that_is_too_large(make: Callable[..., Queue], mocker: MockerFixture, addmode: int) -> None:
    """It is refused and counted, whether a step cannot hold it or the window."""
    queue = make(addmode=addmode, window=4 * CHUNK)
    assert queue.add("k", "x" * 6 * CHUNK) == TOO_LARGE
    mocker.patch.object(hot, "MAX_STEP", 300_000)
    mocker.patch.object(plain, "MAX_STEP", 300_000)
    mocker.patch.object(keyed, "MAX_STEP", 300_000)
    assert queue.add("k", "x" * 300_000) == TOO_LARGE
    assert queue.stats().refused == 2
    sound(queue)


def test_one_key(make: Callable[..., Queue]) -> None:
    """Addmode 1 keeps the oldest item of a key, addmode 2 the newest, addmode 0 all."""
    outcomes = {0: [ADDED] * 3, 1: [ADDED, ADDED, KEPT], 2: [ADDED] * 3}
    left = {
        0: [("a", "1"), ("b", "2"), ("a", "3")],
        1: [("a", "1"), ("b", "2")],
        2: [("b", "2"), ("a", "3")],
    }
    for addmode, expected in left.items():
        queue = make(addmode=addmode)
        assert [queue.add(key, value) for key, value in (("a", "1"), ("b", "2"), ("a", "3"))] == outcomes[addmode]
        assert contents(queue) == expected
        assert queue.stats().replaced == (addmode == 2)
        sound(queue)
        queue.remove()


# --- limits -----------------------------------------------------------------------------------------------------------


@ADDMODES
def test_the_oldest_goes(make: Callable[..., Queue], addmode: int) -> None:
    """When the size is exceeded, and it is counted as dropped."""
    queue = make(addmode=addmode, size_limit=3)
    for number in range(5):
        assert queue.add(str(number), "") == ADDED
    assert contents(queue) == [("2", ""), ("3", ""), ("4", "")]
    stats = queue.stats()
    assert (stats.size, stats.dropped, stats.size_limit) == (3, 2, 3)
    sound(queue)


def test_a_replacement_drops_nothing(make: Callable[..., Queue]) -> None:
    """A full queue of addmode 2 that replaces keeps all its other keys."""
    queue = make(addmode=2, size_limit=2)
    for key in "aba":
        queue.add(key, "")
    assert (contents(queue), queue.stats().dropped) == ([("b", ""), ("a", "")], 0)


def test_a_lower_size_takes_effect_step_by_step(make: Callable[..., Queue]) -> None:
    """Nothing goes before the next add, and no add has to throw away everything."""
    queue = make()
    for number in range(500):
        queue.add(str(number), "")
    queue.set_limits(10, 0)
    assert len(queue) == 500
    queue.add("new", "")
    assert 400 < len(queue) < 500
    for _ in range(10):
        queue.add("new", "")
    assert len(queue) == 10
    queue.set_limits(0, 0)
    for _ in range(10):
        queue.add("more", "")
    assert len(queue) == 20
    sound(queue)


@ADDMODES
def test_bytes_are_limited(make: Callable[..., Queue], addmode: int) -> None:
    """An add past maxbytes is refused and counted; after a fetch there is room again."""
    queue = make(addmode=addmode, byte_limit=3 * 32)
    assert [queue.add(str(number), "") for number in range(4)] == [ADDED, ADDED, ADDED, FULL]
    assert (queue.stats().refused, queue.stats().bytes, queue.stats().byte_limit) == (1, 96, 96)
    assert queue.fetch()
    assert queue.add("4", "") == ADDED
    sound(queue)


@ADDMODES
def test_memory_is_limited(make: Callable[..., Queue], instance: str, addmode: int) -> None:
    """An add over max_memory is refused, the others stay, and after a fetch of some there is room."""
    registry = Registry.create(instance, this_process(), CHUNK * 5)
    queue = make(addmode=addmode, registry=registry)
    outcomes = [queue.add(str(number), HUNDRED_K) for number in range(20)]
    count = outcomes.count(ADDED)
    assert outcomes == [ADDED] * count + [NO_MEMORY] * (20 - count)
    assert queue.stats().refused == 20 - count
    sound(queue)
    for _ in range(count - 1):
        assert queue.fetch()
    assert queue.add("again", HUNDRED_K) == ADDED
    sound(queue)


@ADDMODES
def test_a_full_system(make: Callable[..., Queue], mocker: MockerFixture, addmode: int) -> None:
    """Where /dev/shm is full an add is refused and nothing else happens; when there is room, it goes on."""
    queue = make(addmode=addmode)
    mocker.patch("os.posix_fallocate", side_effect=OSError(errno.ENOSPC, "No space left on device"))
    outcomes = [queue.add(str(number), HUNDRED_K) for number in range(5)]
    count = outcomes.count(ADDED)
    assert outcomes[count:] == [NO_MEMORY] * (5 - count)
    assert queue.add("small", "") == ADDED
    mocker.stopall()
    assert queue.add("large", HUNDRED_K) == ADDED
    assert [key for key, _ in contents(queue)] == [*map(str, range(count)), "small", "large"]
    sound(queue)


# --- looking ----------------------------------------------------------------------------------------------------------


def test_peek(make: Callable[..., Queue]) -> None:
    """It gives as many of the oldest as there are, and takes none."""
    queue = make(addmode=2)
    for key in "abcab":
        queue.add(key, "")
    assert [[item.key for item in queue.peek(count)] for count in (0, 1, 2, 9)] == [
        [],
        ["c"],
        ["c", "a"],
        ["c", "a", "b"],
    ]
    assert [item.key for item in queue.peek()] == ["c"]
    assert len(queue) == 3


def test_statistics(make: Callable[..., Queue]) -> None:
    """Each number is what its name says."""
    queue = make(size_limit=4, byte_limit=320)
    for number in range(6):
        queue.add(str(number), "")
    queue.add("large", "x" * 300)
    queue.fetch()
    stats = queue.stats()
    refusals = {AddResult.NO_MEMORY: 0, AddResult.TOO_LARGE: 0, AddResult.FULL: 1, AddResult.CLOSED: 0}
    assert replace(stats, memory=0, oldest=None, waited=Waited((), (), 0.0)) == Stats(
        size=3, bytes=96, memory=0, added=6, fetched=1, dropped=2, replaced=0, refused=1, recovered=0, high_water=4,
        size_limit=4, byte_limit=320, addmode=0, oldest=None, refusals=refusals, waited=Waited((), (), 0.0),
    )  # fmt: skip
    assert sum(stats.waited.counts) == stats.fetched
    assert stats.oldest == queue.peek()[0].added
    assert make_empty(queue).stats().oldest is None


def make_empty(queue: Queue) -> Queue:
    """Take everything."""
    while queue.fetch():
        pass
    return queue


@ADDMODES
def test_high_water_is_within_the_size(make: Callable[..., Queue], addmode: int) -> None:
    """The one item too many that an add throws away at once never counted; what was there before a lower limit did."""
    queue = make(addmode=addmode, size_limit=4)
    for number in range(9):
        queue.add(str(number), "")
    assert queue.stats().high_water == 4
    queue.set_limits(0, 0)
    for number in range(9, 14):
        queue.add(str(number), "")
    queue.set_limits(2, 0)
    queue.add("last", "")
    assert len(queue) == 2
    assert queue.stats().high_water == 9


def test_high_water(make: Callable[..., Queue]) -> None:
    """The most items at a time stays known after a drain, also when it is asked at the height itself."""
    queue = make()
    for _ in range(5):
        queue.add("k", "")
    assert queue.stats().high_water == 5
    make_empty(queue).add("k", "")
    assert queue.stats().high_water == 5


def test_what_it_looks_like(make: Callable[..., Queue]) -> None:
    """Its repr tells name, size, addmode and owner, and that it is closed; it is true though empty."""
    queue = make(addmode=1)
    assert repr(queue) == f"<Queue 'q' size=0 addmode=1 pid={os.getpid()}>"
    assert bool(queue)
    queue.close()
    assert repr(queue) == "<Queue 'q' closed>"


# --- waiting ----------------------------------------------------------------------------------------------------------


def test_no_wait(make: Callable[..., Queue], mocker: MockerFixture) -> None:
    """Without a timeout an empty queue is an answer, at once."""
    queue = make()
    sleep = mocker.patch.object(EventCount, "wait")
    assert [queue.fetch(), queue.fetch(0), queue.fetch(-1), queue.pop()] == [None] * 4
    sleep.assert_not_called()


def test_a_wait_in_vain(make: Callable[..., Queue]) -> None:
    """It lasts as long as asked, and counts nobody as waiting afterwards. (What it costs: see test_attached.py.)"""
    queue = make()
    start = time.monotonic()
    assert queue.fetch(0.3) is None
    assert 0.3 <= time.monotonic() - start < HANG / 2
    assert not is_waited_for(queue)


@ADDMODES
@pytest.mark.usefixtures("only_called")
def test_an_add_wakes_who_waits(make: Callable[..., Queue], instance: str, addmode: int) -> None:
    """Another process that sleeps has the item because it was called."""
    queue = make(addmode=addmode)

    def wait() -> None:
        item = Queue.attach(instance, "q").fetch(HANG)
        assert item
        assert item.key == "k"

    pid = fork(wait)
    while not (is_waited_for(queue) and asleep(pid)):
        time.sleep(0.001)
    start = time.monotonic()
    queue.add("k", "v")
    assert os.waitpid(pid, 0)[1] == 0
    assert time.monotonic() - start < HANG / 2
    assert not is_waited_for(queue)


def test_a_queue_that_ends_while_somebody_waits(make: Callable[..., Queue], instance: str) -> None:
    """Who sleeps is told at once; what is still there can be taken, nothing can be added."""
    queue, other = make(), Queue.attach(instance, "q")
    errors: list[BaseException] = []

    def wait() -> None:
        try:
            other.fetch(2 * HANG)
        except SegmentError as error:
            errors.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    while not is_waited_for(queue):
        time.sleep(0.001)
    queue.remove()
    thread.join(HANG)
    assert "was closed by its server" in str(errors[0])
    assert other.add("k", "v") == CLOSED
    assert other.stats().refused == 1
    assert not SHM.joinpath(queue.segment.name).exists()
    with pytest.raises(SegmentMissing):
        Queue.attach(instance, "q")


def test_what_is_left_of_a_queue_that_ended(make: Callable[..., Queue], instance: str) -> None:
    """A consumer takes the rest, and only then learns that it is over."""
    queue, other = make(), Queue.attach(instance, "q")
    queue.add("k", "v")
    queue.remove()
    item = other.fetch(5)
    assert item is not None
    assert item.key == "k"
    with pytest.raises(SegmentError, match="was closed by its server"):
        other.fetch(5)


@pytest.mark.parametrize("raises", [False, True])
def test_a_signal_while_it_waits(make: Callable[..., Queue], raises: bool) -> None:
    """A handler that returns lets the wait go on; one that raises ends it; nobody is counted as waiting then."""
    queue = make()
    waited: list[bool] = []

    def handler(*_: object) -> None:
        if is_waited_for(queue):  # not before the wait, nor after it, where it would come out of something else
            waited.append(True)
            if raises and len(waited) == 1:
                raise KeyboardInterrupt

    gc.disable()  # in its callbacks an exception is lost
    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
    try:
        if raises:
            with pytest.raises(KeyboardInterrupt):
                queue.fetch(HANG)
        else:
            start = time.monotonic()
            while not waited:
                assert queue.fetch(0.2) is None
            assert time.monotonic() - start >= 0.2
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        gc.enable()
    assert not is_waited_for(queue)
    assert not queue._mutex.is_mine()


# --- the lock ---------------------------------------------------------------------------------------------------------


def test_a_stopped_holder(make: Callable[..., Queue]) -> None:
    """Each call that needs the lock ends with LockTimeout in time, and is right again when the holder goes on."""
    queue = make(lock_timeout=0.1)
    queue.add("k", "v")
    with child(queue._mutex.take) as pid:
        os.kill(pid, signal.SIGSTOP)
        start = time.monotonic()
        calls: list[Callable[[], object]] = [lambda: queue.add("l", "w"), queue.pop, queue.peek, queue.stats]
        calls.append(lambda: queue.set_limits(1, 1))
        for call in calls:
            with pytest.raises(LockTimeout, match="lock not had within"):
                call()
        assert time.monotonic() - start < HANG / 2
        assert len(queue) == 1
    assert queue.fetch()
    sound(queue)


@ADDMODES
def test_a_holder_that_was_killed(make: Callable[..., Queue], addmode: int) -> None:
    """The next call repairs, counts that, and goes on."""
    queue = make(addmode=addmode)
    queue.add("a", "")

    def half_an_add() -> None:
        queue._mutex.take()
        queue._log.core.begin()
        queue._log.core.chunks.alloc()

    killed_after(half_an_add)
    queue.add("b", "")
    assert contents(queue) == [("a", ""), ("b", "")]
    assert queue.stats().recovered == 1
    sound(queue)


@ADDMODES
@in_child
def test_a_queue_that_cannot_be_repaired(make: Callable[..., Queue], addmode: int) -> None:
    """Every call is a clear error, again and again, and the bytes stay; when they are mended, it works."""
    queue = make(addmode=addmode)
    queue.add("a", "")
    killed_after(queue._mutex.take)
    queue.segment.words[W_COMMIT] = 49
    held = queue.segment.bytes[CHUNK : 2 * CHUNK]
    for _ in range(2):
        calls: list[Callable[[], object]] = [lambda: queue.add("b", ""), queue.pop, queue.peek, queue.stats]
        for call in calls:
            with pytest.raises(SegmentError, match=f"{queue.segment.name} is corrupted: the journal claims 49"):
                call()
    assert queue.segment.bytes[CHUNK : 2 * CHUNK] == held
    queue.segment.words[W_COMMIT] = 0
    assert queue.add("b", "") == ADDED
    assert contents(queue) == [("a", ""), ("b", "")]
    sound(queue)


@ADDMODES
def test_a_record_that_is_none(make: Callable[..., Queue], addmode: int) -> None:
    """Who would take it gets a clear error, each time, and the bytes stay; when they are mended, it works."""
    queue = make(addmode=addmode)
    queue.add("a", "")
    at = queue._log.core.head() >> 2
    before = queue.segment.halves[at]
    queue.segment.halves[at] = 8
    held = queue.segment.bytes[CHUNK : 2 * CHUNK]
    for _ in range(2):
        for call in (queue.pop, queue.peek, queue.stats, queue.reserve().__enter__, lambda: queue.adopt(queue.owner())):
            with pytest.raises(SegmentError, match=f"/dev/shm/{queue.segment.name} is corrupted: .*the record at"):
                call()
    assert queue.segment.bytes[CHUNK : 2 * CHUNK] == held
    queue.segment.halves[at] = before
    assert queue.add("b", "") == ADDED
    assert contents(queue) == [("a", ""), ("b", "")]
    sound(queue)


@ADDMODES
@in_child
def test_a_repair_needs_no_memory(make: Callable[..., Queue], mocker: MockerFixture, addmode: int) -> None:
    """Where there is none, all items are there after it all the same."""
    queue = make(addmode=addmode)
    for number in range(10):
        queue.add(str(number), HUNDRED_K)
    mocker.patch("os.posix_fallocate", side_effect=OSError(errno.ENOSPC, "No space left on device"))
    killed_after(queue._mutex.take)
    assert queue.add("last", "") == ADDED
    assert [key for key, _ in contents(queue)][:10] == [str(number) for number in range(10)]
    assert queue.stats().recovered == 1
    sound(queue)


DAMAGED = object()


def result_or_damage(call: Callable[[], Any], queue: Queue) -> Any:
    """Return what a call returns, or DAMAGED if it says that the queue's file is."""
    try:
        return call()
    except SegmentError as error:
        if f"{SHM}/{queue.segment.name} is corrupted" not in str(error):
            raise
        return DAMAGED


@ADDMODES
@pytest.mark.parametrize("word", [layout.W_ADDED, layout.W_POPPED, layout.W_BURIED, layout.W_RETURNED])
@pytest.mark.parametrize("value", [0, 1 << 63, (1 << 64) - 1])
def test_damaged_counters(make: Callable[..., Queue], word: int, value: int, addmode: int) -> None:
    """Counters that cannot be right are a size that can, or a clear error; who takes the queue over hears of them."""
    queue = make(addmode=addmode)
    queue.add("a", "")
    words = queue.segment.words
    # The counter of what was added is the commit: with its old value the last add was not made.
    can_be = words[word] == value or (word, value, addmode) == (layout.W_ADDED, 0, 0)
    words[word] = value
    assert 0 <= len(queue) <= sys.maxsize
    assert repr(queue).startswith("<Queue 'q' size=")
    assert (result_or_damage(lambda: queue.adopt(this_process()), queue) is not DAMAGED) == can_be
    for call in (queue.stats, lambda: queue.add("b", ""), queue.fetch, queue.peek, queue.undone, lambda: len(queue)):
        result_or_damage(call, queue)


# --- exceptions in the middle -----------------------------------------------------------------------------------------


class Interrupting:
    """Numbers of the memory that raise KeyboardInterrupt at one of their stores."""

    def __init__(self, view: Any, last: list[int]) -> None:
        self._view = view
        self._last = last

    def __getattr__(self, name: str) -> Any:
        return getattr(self._view, name)

    def __len__(self) -> int:
        return len(self._view)

    def __getitem__(self, where: Any) -> Any:
        return self._view[where]

    def __setitem__(self, where: Any, value: Any) -> None:
        self._last[0] -= 1
        if not self._last[0]:
            raise KeyboardInterrupt
        self._view[where] = value


def interruptible(queue: Queue) -> list[int]:
    """Let a queue's ring raise at a store whose number can be set in the list that is returned."""
    last = [0]
    rewire(queue, lambda view: Interrupting(view, last))
    return last


CALLS: dict[str, Callable[[Queue], object]] = {
    "add": lambda queue: queue.add("new", ""),
    "add across": lambda queue: queue.add("new", "x" * 300_000),
    "replace": lambda queue: queue.add("1", "new"),
    "pop": lambda queue: queue.pop(),
    "wait": lambda queue: queue.fetch(5),
}


@ADDMODES
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_an_exception_between_any_two_stores(
    make: Callable[..., Queue], mocker: MockerFixture, addmode: int, call: Callable[[Queue], object]
) -> None:
    """A signal handler's exception leaves the queue sound, unlocked, and with the items of before or after."""
    for number in range(1, 200):
        queue = make(addmode=addmode)
        for key in range(5):
            queue.add(str(key), HUNDRED_K)
        before = [item.key for item in queue.peek(10)]
        if call is CALLS["wait"]:
            # As if the quick look that a wait begins with had come before the items.
            mocker.patch.object(queue, "pop", return_value=None)
        last = interruptible(queue)
        last[0] = number
        try:
            call(queue)
        except KeyboardInterrupt:
            last[0] = 0
        else:
            last[0] = 0
            queue.remove()
            return
        assert not queue._mutex.is_mine()
        sound(queue)
        after = [item.key for item in queue.peek(10)]
        assert after in (before, before[1:], [*before, "new"], [*before, "1"], ["0", "2", "3", "4", "1"])
        queue.remove()
    pytest.fail("it never ended")


# --- closing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("items", [0, 1])
def test_a_closed_queue(make: Callable[..., Queue], items: int) -> None:
    """Every use says that it is closed, and nothing crashes; closing twice is no error; others may go on."""
    queue = make()
    if items:
        queue.add("k", "v")
    queue.close()
    queue.close()
    calls: list[Callable[[], object]] = [lambda: queue.add("k", "v"), queue.pop, queue.fetch, lambda: queue.fetch(1)]
    calls += [queue.peek, queue.stats, queue.__len__, lambda: queue.set_limits(1, 1)]
    for call in calls:
        with pytest.raises(ValueError, match="queue 'q' is closed in this process"):
            call()


def test_with_closes(make: Callable[..., Queue], instance: str) -> None:
    """The end of a block closes, also by an exception; the queue itself stays."""
    queue = make()
    other = Queue.attach(instance, "q")
    with pytest.raises(ZeroDivisionError), other:
        other.add("k", str(1 // 0))
    assert repr(other) == "<Queue 'q' closed>"
    assert len(queue) == 0


def opened() -> tuple[int, int]:
    """Return how many descriptors and mappings of segments this process has."""
    return len(list(Path("/proc/self/fd").iterdir())), Path("/proc/self/maps").read_text().count("mqk.")


@pytest.mark.usefixtures("swept")
def test_nothing_stays_open(make: Callable[..., Queue], instance: str) -> None:
    """Attaching and closing many times leaves no descriptor and no mapping."""
    registry = Registry.create(instance, this_process(), 1 << 30)
    make(registry=registry)
    before = opened()
    for _ in range(20):
        attach("q", instance).close()
    assert opened() == before
