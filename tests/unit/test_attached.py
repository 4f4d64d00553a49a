"""A queue as a process outside of the server uses it: when its server ends, and in asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from kemi.errors import LockTimeout, QueueClosed, UnknownQueue
from kemi.queue.client import aio
from kemi.queue.format.layout import W_WAITERS
from kemi.queue.format.outcome import CLOSED, AddResult
from kemi.queue.kernel import choice
from kemi.queue.log.core import ADDED
from kemi.queue.queue import Queue
from kemi.queue.sync.eventcount import EventCount
from tests.conftest import HANG
from tests.support.clients import attach, inner
from tests.unit import servers
from tests.unit.children import child, fork, killed_after
from tests.unit.servers import Server, later

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pytest_mock import MockerFixture

    from kemi.queue.client.attached import AttachedQueue
    from kemi.queue.format.item import Item


server, queue = servers.server, servers.queue


# --- the server ends


def test_each_call_goes_on_with_the_next_server(server: Server, queue: AttachedQueue) -> None:
    """Whatever is called first after the new one has started."""
    calls: list[Callable[[], object]] = [
        lambda: queue.add("k", "v") == ADDED,
        lambda: queue.add_many([("k", "v")]) == [ADDED],
        queue.fetch,
        lambda: queue.fetch_many(3),
        lambda: queue.reserve().__enter__(),
        lambda: len(queue) == 1,
        queue.peek,
        lambda: queue.peek(None, reserved=True),
        lambda: queue.stats().added == 1,
        lambda: not queue.is_closed(),
        queue.owner,
    ]
    for call in calls:
        queue.fetch_many(9)  # what is left in the old queue would be taken first
        server.stop()
        server.start()
        server.queue.add("new", "v")
        assert call()
        assert inner(queue).segment.is_current()


def test_what_is_left_is_taken_first(server: Server, queue: AttachedQueue) -> None:
    """The items of the old queue, then those of the new one."""
    queue.add("old", "")
    server.stop()
    server.start()
    server.queue.add("new", "")
    assert [item.key for item in (queue.fetch(), queue.fetch()) if item] == ["old", "new"]


@pytest.mark.parametrize("how", ["fetch", "fetch_many", "reserve", "consume"])
def test_a_waiting_call_goes_on(server: Server, queue: AttachedQueue, how: str) -> None:
    """Its server ends, a while nobody is there, then the next one adds."""
    thread = later(0.2, server.stop, lambda: time.sleep(0.4), server.start, lambda: server.queue.add("k", "v"))
    if how == "fetch":
        found = queue.fetch(20)
    elif how == "fetch_many":
        (found,) = queue.fetch_many(2, 20)
    elif how == "consume":
        found = next(queue.consume())
    else:
        with queue.reserve(20) as found:
            pass
    thread.join()
    assert found is not None
    assert found.key == "k"
    assert len(queue) == 0


def test_while_no_server_runs(server: Server, queue: AttachedQueue) -> None:
    """Nothing is there, in time; an add says so; the state is told."""
    server.stop()
    refused = server.queue.stats().refusals
    assert queue.add("k", "v") == CLOSED
    assert server.queue.stats().refusals == {**refused, CLOSED: refused[CLOSED] + 1}
    assert queue.add_many([("k", "v")]) == [CLOSED]
    assert queue.fetch() is None
    begin = time.monotonic()
    assert queue.fetch(0.3) is None
    assert 0.3 <= time.monotonic() - begin < HANG / 2
    assert queue.is_closed()
    assert "its server has ended" in repr(queue)
    server.start()
    assert queue.add("k", "v") == ADDED
    assert repr(queue) == f"<Queue 'q' of instance '{server.instance}', size=1 addmode=0 server={os.getpid()}>"


def test_an_error_where_it_is_asked_for(server: Server) -> None:
    """At once, and also in the middle of a wait."""
    with attach("q", server.instance, reattach=False) as queue:
        queue.add("last", "")
        thread = later(0.2, server.stop)
        items = queue.consume()
        assert next(items).key == "last"
        with pytest.raises(QueueClosed):
            next(items)
        thread.join()
        server.start()
        for call in (queue.fetch, lambda: queue.fetch_many(2, 1), lambda: queue.reserve().__enter__()):
            with pytest.raises(QueueClosed):
                call()
        assert queue.add("k", "v") == CLOSED


def test_a_batch_that_fails_after_a_restart_says_what_became_of_each(
    server: Server, queue: AttachedQueue, mocker: MockerFixture
) -> None:
    """Some are in the queue that was ended; of the rest another call with it says what is wrong."""
    sizes = []

    def add_many(_: Queue, pairs: list[Any]) -> list[AddResult]:
        sizes.append(len(pairs))
        if len(sizes) == 1:
            server.stop()
            server.start()
            return [ADDED] * 2 + [CLOSED] * 3
        raise LockTimeout("held")

    mocker.patch.object(Queue, "add_many", add_many)
    assert queue.add_many([("k", "v")] * 5) == [ADDED] * 2 + [AddResult.NOT_TRIED] * 3
    assert sizes == [5, 3]
    with pytest.raises(LockTimeout, match="held"):
        queue.add_many([("k", "v")] * 3)


def test_completion_shows_what_works_here(queue: AttachedQueue) -> None:
    """And what Python itself asks for; nothing that is for the package alone."""
    shown = dir(queue)
    assert {"add", "fetch", "reserve", "peek", "name", "__len__", "__enter__", "__class__"} <= set(shown)
    assert not [name for name in shown if name[0] == "_" and name[:2] != "__"]
    assert not {"reserve_some", "areserve_some", "add_from", "position"} & set(shown)


def test_an_old_name_is_told_where_it_is_used(queue: AttachedQueue) -> None:
    """With the line of the caller, who is to change it."""
    with pytest.warns(DeprecationWarning, match="peek") as told:
        assert queue.undone() == []
    assert [warning.filename for warning in told] == [__file__]


@pytest.mark.python_code
def test_a_batch_over_a_restart(server: Server, queue: AttachedQueue) -> None:
    """What the old queue took is not added again."""
    used = inner(queue)
    add_batch = used._adder.add_batch
    counts = [0]

    def stop_after_one(records: list[bytes], outcomes: list[AddResult]) -> None:
        add_batch(records, outcomes)
        counts[0] += 1
        if counts[0] == 1:
            server.stop()
            server.start()

    used._adder.add_batch = stop_after_one  # type: ignore[method-assign]
    assert queue.add_many((str(number), "") for number in range(600)) == [ADDED] * 600
    assert [item.key for item in queue.fetch_many(1000)] == [str(number) for number in range(256, 600)]
    assert len(used) == 256


def test_done_goes_where_the_item_came_from(server: Server, queue: AttachedQueue) -> None:
    """The server was started again in the block: the new queue is not touched."""
    queue.add("old", "")
    with queue.reserve():
        server.stop()
        server.start()
        queue.add("new", "")
        with queue.reserve() as item:
            assert item is not None
            assert item.key == "new"
    assert (len(queue), queue.stats().reserved, queue.stats().fetched) == (0, 0, 1)


def test_it_can_be_closed(server: Server) -> None:
    """Then every call says so."""
    queue = attach("q", server.instance)
    queue.close()
    queue.close()
    for call in (queue.fetch, queue.stats, queue.peek, lambda: queue.add("k", "v"), queue.is_closed):
        with pytest.raises(ValueError, match="is closed in this process"):
            call()
    assert "closed in this process" in repr(queue)


@pytest.mark.parametrize("call", ["fetch", "fetch_many", "reserve", "consume"])
def test_what_a_handler_raises_that_closes_the_queue(queue: AttachedQueue, mocker: MockerFixture, call: str) -> None:
    """The handler of a worker that ends closes its queue, and raises: that is what comes out, no error of ours."""

    def handler(*_: object) -> None:
        queue.close()
        raise SystemExit(3)

    calls: dict[str, Callable[[], object]] = {
        "fetch": lambda: queue.fetch(None),
        "fetch_many": lambda: queue.fetch_many(5, None),
        "reserve": lambda: queue.reserve(None).__enter__(),
        "consume": lambda: next(iter(queue.consume())),
    }
    choice.detach(queue._current.queue)  # whose sleep is not this one
    mocker.patch.object(EventCount, "wait", handler)
    with pytest.raises(SystemExit):
        calls[call]()
    assert queue.closed


def test_what_is_not_there(instance: str) -> None:
    """Neither instance nor queue: the error names it."""
    with pytest.raises(UnknownQueue, match="is its server running"):
        attach("q", instance)


# --- asyncio


def run(coroutine: Awaitable[Any]) -> Any:
    """Run one, in an event loop that complains about who blocks it."""

    async def watched() -> Any:
        loop = asyncio.get_running_loop()
        late = 0.0
        ended = False

        async def tick() -> None:
            nonlocal late
            while not ended:
                before = loop.time()
                await asyncio.sleep(0.01)
                late = max(late, loop.time() - before - 0.01)

        ticker = asyncio.ensure_future(tick())
        try:
            return await coroutine
        finally:
            ended = True
            await ticker
            assert late < HANG / 2, f"the event loop stood still for {late} s"

    return asyncio.run(watched())


def test_afetch(queue: AttachedQueue) -> None:
    """What is there at once; what comes later; nothing, in time."""

    async def work() -> None:
        assert await queue.afetch() is None
        queue.add("a", "1")
        item = await queue.afetch()
        assert item is not None
        assert item.key == "a"
        begin = time.monotonic()
        assert await queue.afetch(0.2) is None
        assert 0.2 <= time.monotonic() - begin < HANG / 2
        thread = later(0.2, lambda: queue.add("b", "2"))
        item = await queue.afetch(None)
        assert item is not None
        assert item.key == "b"
        thread.join()
        with pytest.raises(ValueError, match="number of seconds"):
            await queue.afetch(float("nan"))

    run(work())


def test_afetch_many_takes_as_many_as_it_is_asked_for(queue: AttachedQueue, mocker: MockerFixture) -> None:
    """For none it does not even look."""
    queue.add_many([("a", ""), ("b", "")])
    look_for = mocker.spy(queue._current, "look_for")

    async def work() -> None:
        assert await queue.afetch_many(0, None) == []
        assert not look_for.called
        assert [item.key for item in await queue.afetch_many(1)] == ["a"]
        assert [item.key for item in await queue.afetch_many(5)] == ["b"]

    run(work())


@pytest.mark.parametrize("kind", ["thread", "asyncio", "function"])
def test_aconsume(queue: AttachedQueue, kind: str) -> None:
    """All items in order, until it is stopped."""

    async def work() -> list[str]:
        taken: list[str] = []
        stop: Any = threading.Event() if kind == "thread" else asyncio.Event()
        thread = later(0.1, lambda: queue.add_many((str(number), "") for number in range(50)))
        async for item in queue.aconsume(stop.is_set if kind == "function" else stop):
            taken.append(item.key)
            if len(taken) == 50:
                stop.set()
        thread.join()
        return taken

    assert run(work()) == [str(number) for number in range(50)]


@pytest.mark.usefixtures("only_called")
def test_many_coroutines_wait_on_one_thread(queue: AttachedQueue) -> None:
    """Each item wakes one of them, and there is one thread more, not one for each."""

    async def work() -> None:
        before = threading.active_count()
        tasks = [asyncio.ensure_future(queue.afetch(HANG)) for _ in range(20)]
        await asyncio.sleep(0.2)
        assert threading.active_count() <= before + 1
        begin = time.monotonic()
        for number in range(20):
            assert await asyncio.get_running_loop().run_in_executor(None, queue.add, str(number), "") == ADDED
        items = await asyncio.gather(*tasks)
        assert sorted(int(item.key) for item in items if item) == list(range(20))
        assert time.monotonic() - begin < HANG / 2

    run(work())


def test_close_ends_the_thread(server: Server, mocker: MockerFixture) -> None:
    """It does not stay for a coroutine that may come."""
    mocker.patch.object(aio, "_IDLE", 300.0)
    before = set(threading.enumerate())
    with attach("q", server.instance) as queue:
        assert run(queue.afetch(0.05)) is None
        (thread,) = set(threading.enumerate()) - before
    thread.join(30)
    assert not thread.is_alive()


def test_a_coroutine_that_waits_for_a_closed_queue(server: Server, mocker: MockerFixture) -> None:
    """It hears of it, and the thread ends after it."""
    mocker.patch.object(aio, "_IDLE", 300.0)

    async def work() -> None:
        queue = attach("q", server.instance)
        task = asyncio.ensure_future(queue.afetch(20))
        await asyncio.sleep(0.05)
        queue.close()
        with pytest.raises(ValueError, match="is closed in this process"):
            await task

    before = set(threading.enumerate())
    run(work())
    for thread in set(threading.enumerate()) - before:
        thread.join(30)
        assert not thread.is_alive()


def test_a_cancelled_call_takes_nothing(queue: AttachedQueue, stress: bool) -> None:
    """Cancelled at any moment around the coming of an item: it is the result, or still in the queue."""

    async def work() -> int:
        lost = 0
        for number in range(2000 if stress else 200):
            task = asyncio.ensure_future(queue.afetch(5))
            for _ in range(number % 5):
                await asyncio.sleep(0)
            thread = later(0, lambda: queue.add("k", ""))
            await asyncio.sleep(number % 7 * 0.0004)
            task.cancel()
            try:
                item = await task
            except asyncio.CancelledError:
                item = None
            thread.join()
            lost += (item is None) == (queue.fetch() is None)
        return lost

    assert run(work()) == 0


def fetch_soon(queue: AttachedQueue) -> int:
    """Start a process that waits for an item, and ends well if it was called for one (see `only_called`)."""

    def wait() -> None:
        begin = time.monotonic()
        item = queue.fetch(HANG)
        os._exit(0 if item is not None and time.monotonic() - begin < HANG / 2 else 9)

    before = inner(queue).segment.words[W_WAITERS]
    pid = fork(wait)
    while inner(queue).segment.words[W_WAITERS] < before + 1:
        time.sleep(0.001)
    return pid


@pytest.mark.usefixtures("only_called")
def test_a_cancelled_call_passes_its_wake_up_on(queue: AttachedQueue) -> None:
    """Called, and cancelled before it could take: another process gets the item at once."""

    async def work() -> int:
        task = asyncio.ensure_future(queue.afetch(HANG))
        await asyncio.sleep(0.05)
        pid = fetch_soon(queue)
        queue.add("k", "")
        time.sleep(0.05)  # the thread has called the coroutine now
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await asyncio.sleep(0.1)
        return pid

    assert os.waitstatus_to_exitcode(os.waitpid(run(work()), 0)[1]) == 0


@pytest.mark.usefixtures("only_called")
def test_an_abandoned_wait_wakes_another_process(queue: AttachedQueue) -> None:
    """A coroutine waited and is gone; the thread that slept for it does not keep the call for itself."""

    async def work() -> int:
        task = asyncio.ensure_future(queue.afetch(HANG))
        await asyncio.sleep(0.05)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        pid = fetch_soon(queue)
        queue.add("k", "")
        await asyncio.sleep(0.1)
        return pid

    assert os.waitstatus_to_exitcode(os.waitpid(run(work()), 0)[1]) == 0


@pytest.mark.usefixtures("only_called")
def test_a_second_coroutine_takes_what_a_cancelled_one_did_not(queue: AttachedQueue) -> None:
    """At once."""

    async def work() -> None:
        for _ in range(10):
            first = asyncio.ensure_future(queue.afetch(HANG))
            await asyncio.sleep(0.02)
            second = asyncio.ensure_future(queue.afetch(HANG))
            await asyncio.sleep(0.02)
            queue.add("k", "")
            time.sleep(0.01)  # the thread has called the first one now
            first.cancel()
            begin = time.monotonic()
            assert await second is not None
            assert time.monotonic() - begin < HANG / 2

    run(work())


def test_a_lock_that_is_held_does_not_stop_the_loop(server: Server) -> None:
    """It waits in a thread, and gives up after lock_timeout."""
    queue = attach("q", server.instance)
    queue.add_many([("a", ""), ("b", "")])

    async def work(holder: int) -> Item | None:
        waits = asyncio.ensure_future(queue.afetch())
        for _ in range(20):
            await asyncio.sleep(0.005)
        assert not waits.done()
        os.kill(holder, signal.SIGKILL)  # which a loop that stands still cannot do
        return await waits

    with child(inner(queue)._mutex.take) as pid:
        assert run(work(pid)) is not None
    inner(queue)._mutex.timeout = 0.1
    with child(inner(queue)._mutex.take), pytest.raises(LockTimeout):
        run(queue.afetch())
    inner(queue)._mutex.timeout = HANG
    killed_after(inner(queue)._mutex.take)
    assert run(queue.afetch()) is not None
    queue.close()


def test_areserve(queue: AttachedQueue) -> None:
    """Done at the end; given back by an exception, and by a cancellation."""
    queue.add_many([("a", ""), ("b", "")])

    async def fail(error: BaseException) -> None:
        async with queue.areserve(1) as item:
            assert item is not None
            assert item.key == "a"
            raise error

    async def work() -> None:
        with pytest.raises(ValueError, match="why"):
            await fail(ValueError("why"))
        with pytest.raises(asyncio.CancelledError):
            await fail(asyncio.CancelledError())
        async with queue.areserve() as item:
            assert item is not None
            assert (item.key, item.deliveries, len(queue)) == ("a", 3, 1)
        async with queue.areserve(0.05) as item, queue.areserve(0.05) as nothing:
            assert item is not None
            assert nothing is None
            assert "delivery 1" in repr(queue.areserve()) or "nothing" in repr(queue.areserve())

    run(work())
    stats = queue.stats()
    assert (stats.size, stats.reserved, stats.fetched) == (0, 0, 2)


def test_a_coroutine_goes_on_with_the_next_server(server: Server, queue: AttachedQueue) -> None:
    """As a thread does."""

    async def work() -> str:
        thread = later(0.2, server.stop, lambda: time.sleep(0.4), server.start, lambda: server.queue.add("k", "v"))
        async for item in queue.aconsume():
            thread.join()
            return item.key
        return ""

    assert run(work()) == "k"


def test_after_a_fork(queue: AttachedQueue) -> None:
    """The child has a thread of its own."""

    async def wait() -> Any:
        return await queue.afetch(0.1)

    run(wait())

    def work() -> None:
        thread = later(0.1, lambda: queue.add("k", ""))
        assert asyncio.run(queue.afetch(HANG)) is not None
        thread.join()

    assert os.waitstatus_to_exitcode(os.waitpid(fork(work), 0)[1]) == 0


@pytest.mark.usefixtures("swept")
@pytest.mark.parametrize("how", ["fetch", "consume", "afetch", "no server"])
def test_waiting_costs_no_cpu(server: Server, queue: AttachedQueue, stress: bool, how: str) -> None:
    """Measured for the whole process, threads included."""
    seconds = 10.0 if stress else 2.0
    stop = threading.Event()
    if how == "no server":
        server.stop()
    timer = threading.Timer(seconds, stop.set)
    timer.start()
    gc.disable()
    before = resource.getrusage(resource.RUSAGE_SELF)
    if how == "consume":
        assert list(queue.consume(stop)) == []
    elif how == "afetch":
        asyncio.run(queue.afetch(seconds))
    else:
        assert queue.fetch(seconds) is None
    after = resource.getrusage(resource.RUSAGE_SELF)
    gc.enable()
    timer.join()
    used = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    if how == "no server":
        server.start()
    assert used < seconds * (0.01 if stress else 0.1), f"{used:.4f} s of CPU in {seconds} s"
