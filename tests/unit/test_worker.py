"""`@worker`: what may be written there; and what becomes of an item, in a queue in memory and in a real one."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import pickle
import re
import threading
import time
from itertools import count
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

import mqueue_kemi
from kemi.errors import ConfigError
from kemi.owner import this_process
from kemi.queue.catalog.registry import Registry
from kemi.queue.queue import Queue
from kemi.testing import FakeItem, MemoryQueue, item
from mqueue_kemi import Failure, Reject, ReservedItem, Retry, Tally, Worker, worker
from tests.support.waits import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

SOON = 30.0  # seconds that something may take on a busy machine


def nothing(_item: ReservedItem) -> None:
    """Do nothing."""


# --- what may be written ----------------------------------------------------------------------------------------------

WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "processes": ({"processes": 0}, "processes=0: write a whole number from 1 to 1024"),
    "bool": ({"processes": True}, "processes=True"),
    "concurrency": ({"concurrency": 1.5}, "concurrency=1.5"),
    "product": ({"processes": 64, "concurrency": 64}, "lower one of the two"),
    "timeout": ({"timeout": 0}, "timeout=0: write seconds, more than 0"),
    "nan": ({"timeout": float("nan")}, "timeout=nan"),
    "text": ({"timeout": "5"}, "timeout='5'"),
    "retries": ({"retries": -1}, "retries=-1"),
    "pause": ({"pause": 1}, r"pause=1: write \(first, longest\)"),
    "pause order": ({"pause": (2, 1)}, "the first must be"),
    "max_age": ({"max_age": 0}, "max_age=0"),
    "transient list": ({"transient": [OSError]}, "write a tuple of exception classes"),
    "transient class": ({"transient": OSError}, "write a tuple of exception classes"),
    "transient BaseException": ({"transient": (KeyboardInterrupt,)}, "write a tuple of exception classes"),
    "on_error": ({"on_error": 1}, "on_error must be a function"),
    "async on_error": ({"on_error": asyncio.sleep}, "on_error must be a plain function"),
    "resource": ({"resource": contextlib.nullcontext()}, "resource must be a function that gives a context"),
    "signature": ({"resource": contextlib.nullcontext}, r"\(item, resource\), because it has resource="),
    "unknown": ({"retry": 3}, "no option 'retry'; there are concurrency, max_age"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_option_is_named(name: str) -> None:
    options, text = WRONG[name]
    decorate: Any = worker
    with pytest.raises(ConfigError, match=text):
        decorate("q", **options)(nothing)


def test_a_wrong_place_is_named() -> None:
    """No parentheses, no function, a class, a generator, two decorators, no argument for the item."""
    wrong: Any = worker
    with pytest.raises(ConfigError, match=r'write @worker\("nothing"\)'):
        wrong(nothing)
    for queue in ("", None, 3):
        with pytest.raises(ConfigError, match="write the name of a queue"):
            wrong(queue)
    cases: list[tuple[Any, str]] = [
        (3, "must stand above a function, not int"),
        (dict, "is a class"),
        (worker("q")(nothing), "is a worker already"),
        (lambda: None, r"will be called with \(item\)"),
        (lambda a, b: None, r"will be called with \(item\)"),  # noqa: ARG005
    ]
    for function, text in cases:
        with pytest.raises(ConfigError, match=text):
            worker("q")(function)

    def generator(_item: ReservedItem) -> Iterator[str]:
        yield "x"

    async def async_generator(_item: ReservedItem) -> AsyncIterator[str]:
        yield "x"

    for function in (generator, async_generator):
        with pytest.raises(ConfigError, match="has a yield in it"):
            worker("q")(function)  # type: ignore[type-var]


@pytest.mark.parametrize("after", [float("nan"), "5", True])
def test_retry_takes_seconds(after: Any) -> None:
    with pytest.raises(ConfigError, match="Retry\\(after=\\)"):
        Retry(after=after)


def test_retry_and_reject_pickle() -> None:
    retry = pickle.loads(pickle.dumps(Retry("busy", after=2)))  # noqa: S301
    assert (retry.reason, retry.after, str(retry)) == ("busy", 2.0, "busy")
    assert pickle.loads(pickle.dumps(Reject("no"))).reason == "no"  # noqa: S301


def test_a_worker_is_its_function() -> None:
    """It has its name and its text, and is called with a fake item as with a real one."""

    @worker("calls")
    def shout(question: ReservedItem) -> str:
        """Shout."""
        return question.value.upper()

    assert (shout(item("k", "v")), shout.queue, shout.__doc__, shout.__name__) == ("V", "calls", "Shout.", "shout")  # type: ignore[attr-defined]
    assert repr(shout).endswith("shout on queue 'calls'>")


def test_run_and_arun_take_workers_only() -> None:
    wrong: Any = nothing
    with pytest.raises(ConfigError, match="no worker"):
        mqueue_kemi.run()
    with pytest.raises(ConfigError, match=r'nothing is no worker: write @worker\("QUEUE"\)'):
        mqueue_kemi.run(wrong)
    with pytest.raises(ConfigError, match="grace=-1"):
        mqueue_kemi.run(worker("q")(nothing), grace=-1)
    with pytest.raises(ConfigError, match="no worker"):
        asyncio.run(mqueue_kemi.arun(wrong))

    async def inside() -> None:
        mqueue_kemi.run(worker("q")(nothing))

    with pytest.raises(ConfigError, match=r"write await arun"):
        asyncio.run(inside())
    found: list[BaseException] = []

    def elsewhere() -> None:
        try:
            mqueue_kemi.run(worker("q")(nothing))
        except ConfigError as error:
            found.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join(SOON)
    assert "needs the main thread" in str(found)


# --- what becomes of an item ------------------------------------------------------------------------------------------


@pytest.fixture(params=["memory", "real"])
def queues(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    """Give a queue and its dead letters."""
    if request.param == "memory":
        dead = MemoryQueue("dead")
        return MemoryQueue("q", max_deliveries=3, dead_letter=dead), dead
    instance = request.getfixturevalue("instance")
    registry = Registry.create(instance, this_process(), 1 << 30)
    made = [
        Queue.create(instance, name, window=16 << 20, registry=registry, lock_timeout=0.2) for name in ("dead", "q")
    ]
    made[1].set_deliveries(3, "dead")
    return made[1], made[0]


def pass_time(queue: Any, seconds: float) -> None:
    """Let what is delayed become due."""
    if isinstance(queue, MemoryQueue):
        queue.advance(seconds)
    else:
        time.sleep(2 * seconds)


class Once:
    """Of a queue, the next item alone: what was given back is not there again, however long the rest takes."""

    def __init__(self, queue: Any) -> None:
        self._queue = queue
        self._given = False

    def reserve(self, timeout: float | None = 0) -> Any:
        if self._given:
            return SimpleNamespace(take=lambda: None)
        self._given = True
        return self._queue.reserve(timeout=timeout)

    def stats(self) -> Any:
        return self._queue.stats()


def keys(queue: Any) -> list[str]:
    return [one.key for one in queue.peek(None)]


def raising(error: BaseException | None, **options: Any) -> Worker[..., Any]:
    """Return a worker whose function raises this."""

    def function(_item: ReservedItem) -> None:
        if error is not None:
            raise error

    decorate: Any = worker
    made: Worker[..., Any] = decorate("q", **options)(function)
    return made


def test_what_returns_is_done(queues: tuple[Any, Any]) -> None:
    queue, _ = queues
    queue.add_many([("1", "a"), ("2", "b")])
    assert raising(None).drain(queue) == Tally(done=2)
    assert (len(queue), queue.stats().reserved) == (0, 0)


def test_reject_goes_to_the_dead_letters(queues: tuple[Any, Any]) -> None:
    queue, dead = queues
    queue.add("1", "a")
    assert raising(Reject("no call")).drain(queue) == Tally(rejected=1)
    assert (len(queue), keys(dead)) == (0, ["1"])


def test_the_last_delivery_goes_to_the_dead_letters(queues: tuple[Any, Any]) -> None:
    """retries=1: the second failure is the last one, before the queue's three deliveries."""
    queue, dead = queues
    queue.add("1", "a")
    failures: list[Failure] = []
    failing = raising(ValueError("x"), retries=1, pause=(0.01, 0.01), on_error=failures.append)
    assert failing.drain(Once(queue)) == Tally(retried=1)  # type: ignore[arg-type]
    assert (len(dead), queue.stats().reserved) == (0, 0)
    pass_time(queue, 0.01)
    assert failing.drain(queue) == Tally(failed=1)
    assert (len(queue), keys(dead)) == (0, ["1"])
    assert [(one.action, one.item.key, one.item.deliveries) for one in failures] == [
        ("retry", "1", 1),
        ("dead letter", "1", 2),
    ]


def test_max_deliveries_is_smaller(queues: tuple[Any, Any]) -> None:
    """retries=9, and the queue delivers three times."""
    queue, dead = queues
    queue.add("1", "a")
    failing = raising(ValueError("x"), retries=9, pause=(0.001, 0.001))
    for _ in range(2):
        assert failing.drain(Once(queue)) == Tally(retried=1)  # type: ignore[arg-type]
        pass_time(queue, 0.001)
    assert failing.drain(Once(queue)) == Tally(failed=1)  # type: ignore[arg-type]
    pass_time(queue, 0.001)
    with queue.reserve(timeout=0) as one:  # who takes items next moves it
        assert one is None
    assert keys(dead) == ["1"]


@pytest.mark.parametrize("error", [ConnectionResetError("x"), Retry("x", after=0.001)])
def test_what_is_no_failure_is_not_counted(queues: tuple[Any, Any], error: Exception) -> None:
    """Ten times, where three deliveries are the most."""
    queue, dead = queues
    queue.add("1", "a")
    seen: list[int] = []

    @worker("q", retries=0, pause=(0.001, 0.001))
    def function(one: ReservedItem) -> None:
        seen.append(one.deliveries)
        raise error

    while len(seen) < 10:
        tally = function.drain(queue)
        assert (tally.retried >= 1, tally.failed) == (True, 0)  # it may be due again while drain still looks
        pass_time(queue, 0.001)
    assert set(seen) == {1}
    assert len(dead) == 0


def test_a_pause_keeps_the_order(queues: tuple[Any, Any]) -> None:
    """A worker that would pause takes no more; the item in hand comes first."""
    queue, _ = queues
    queue.add_many([("1", "a"), ("2", "b")])
    seen: list[str] = []

    @worker("q", pause=(0.001, 0.001))
    def function(one: ReservedItem) -> None:
        seen.append(one.key)
        if len(seen) == 1:
            raise ConnectionRefusedError

    assert function.drain(queue) == Tally(retried=1)
    pass_time(queue, 0.001)
    assert function.drain(queue) == Tally(done=2)
    assert seen == ["1", "1", "2"]


def test_retry_delays_that_item_only() -> None:
    queue = MemoryQueue(items=[("1", "a"), ("2", "b")])
    seen: list[str] = []

    @worker("q")
    def function(one: ReservedItem) -> None:
        seen.append(one.key)
        if seen.count("1") == 1 and one.key == "1":
            raise Retry(after=30)

    assert function.drain(queue) == Tally(done=1, retried=1)
    queue.advance(29)
    assert function.drain(queue) == Tally()
    queue.advance(1)
    assert function.drain(queue) == Tally(done=1)
    assert seen == ["1", "2", "1"]


def test_retry_without_a_time_doubles() -> None:
    queue = MemoryQueue(items=[("1", "a")])
    times: list[float] = []
    failing = raising(Retry(), pause=(1, 4), on_error=lambda failure: times.append(failure.after))
    for _ in range(5):
        failing.drain(queue)
        queue.advance(5)
    assert [round(seconds) for seconds in times[:2]] == [1, 2]
    assert all(3.2 <= seconds <= 4 for seconds in times[2:])


@pytest.mark.parametrize("error", [ConnectionError("x"), Retry("x"), ValueError("x")])
def test_max_age_ends_it(error: Exception) -> None:
    dead = MemoryQueue("dead")
    queue = MemoryQueue(items=[("1", "a")], dead_letter=dead)
    failing = raising(error, max_age=60)
    assert failing.drain(queue) == Tally(retried=1)
    queue.advance(60)
    assert failing.drain(queue) == Tally(failed=1)
    assert keys(dead) == ["1"]


def test_who_died_too_often_is_not_run() -> None:
    dead = MemoryQueue("dead")
    queue = MemoryQueue(items=[("1", "a")], dead_letter=dead)
    for _ in range(2):
        queue.reserve(timeout=None).take().give_back()  # as its holder's death does
    ran: list[str] = []

    @worker("q", retries=1)
    def function(one: ReservedItem) -> None:
        ran.append(one.key)

    assert function.drain(queue) == Tally(failed=1)
    assert (ran, keys(dead)) == ([], ["1"])


def test_transient_may_raise(caplog: pytest.LogCaptureFixture) -> None:
    """Then it counts as False; and on_error may raise, too."""

    def broken(_error: Any) -> bool:
        raise ZeroDivisionError

    queue = MemoryQueue(items=[("1", "a")])
    assert raising(ConnectionError(), transient=broken, retries=0, on_error=broken).drain(queue) == Tally(failed=1)
    assert "transient= raised" in caplog.text
    assert "on_error raised" in caplog.text


def test_sys_exit_is_a_failure() -> None:
    """It ends neither a test, nor a process with the items of other threads."""
    queue = MemoryQueue(items=[("1", "a")])
    assert raising(SystemExit(3), retries=0).drain(queue) == Tally(failed=1)


def test_a_plain_function_that_returns_a_coroutine_is_told() -> None:
    async def inner() -> None:
        """Never run."""

    queue = MemoryQueue(items=[("1", "a")])
    failures: list[Failure] = []
    worker("q", retries=0, on_error=failures.append)(lambda _item: inner()).drain(queue)
    assert "write async def" in str(failures[0].error)


def test_an_item_may_be_settled_by_the_function() -> None:
    queue = MemoryQueue(items=[("1", "a")])

    @worker("q")
    def settled(one: ReservedItem) -> None:
        one.give_back(after=5)

    assert settled.drain(queue) == Tally(done=1)
    assert queue.stats().due == 1


# --- the breaker ------------------------------------------------------------------------------------------------------


def test_five_in_a_row_pause_the_worker_and_count_nothing() -> None:
    """An outage that no table knows: nothing is counted, and nothing is lost."""
    dead = MemoryQueue("dead")
    queue = MemoryQueue(items=[(str(number), "v") for number in range(8)], max_deliveries=1, dead_letter=dead)
    away = [True]
    seen: list[tuple[str, int]] = []

    @worker("q", retries=0)
    def function(one: ReservedItem) -> None:
        seen.append((one.key, one.deliveries))
        if away[0]:
            raise RuntimeError("backend")

    for _ in range(3):
        tally = function.drain(queue)
        assert (tally.failed, tally.done) == (0, 0)
        queue.advance(10)
    assert len(dead) == 0
    away[0] = False
    del seen[:]
    assert function.drain(queue) == Tally(done=8)
    assert sorted(seen) == [(str(number), 1) for number in range(8)]


def test_a_success_between_them_says_who_is_to_blame() -> None:
    """Four that fail, and one that does not, again and again: each of the four is counted."""
    dead = MemoryQueue("dead")
    queue = MemoryQueue(items=[(str(number), "v") for number in range(50)], dead_letter=dead)

    @worker("q", retries=0)
    def function(one: ReservedItem) -> None:
        if int(one.key) % 5:
            raise RuntimeError("bad")

    assert function.drain(queue) == Tally(done=10, failed=40)
    assert len(dead) == 40


def test_one_bad_item_does_not_hold_up_others_for_ever() -> None:
    """Five bad ones in a row, then good ones, in threads: all good ones are done, and the bad ones are dead letters."""
    dead = MemoryQueue("dead")
    queue = MemoryQueue(
        items=[(str(number), "bad" if number < 5 else "good") for number in range(20)], dead_letter=dead
    )
    done: list[str] = []

    @worker("q", retries=0, pause=(0.001, 0.002))
    def function(one: ReservedItem) -> None:
        if one.value == "bad":
            raise RuntimeError("bad")
        done.append(one.key)

    with function.start(queue) as running:
        until(lambda: len(done) == 15 and len(dead) == 5)
        tally = running.stop()
    assert (tally.done, tally.failed) == (15, 5)


# --- resources --------------------------------------------------------------------------------------------------------


class Pool:
    """Counts how often it is entered and left."""

    def __init__(self) -> None:
        self.entered = self.left = 0
        self.broken = False

    @contextlib.contextmanager
    def plain(self) -> Iterator[int]:
        if self.broken:
            raise ConnectionRefusedError
        self.entered += 1
        try:
            yield self.entered
        finally:
            self.left += 1

    @contextlib.asynccontextmanager
    async def async_(self) -> AsyncIterator[int]:
        with self.plain() as number:
            yield number


def resourceful(
    pool: Pool, kind: str, calls: list[int], fails: Callable[[int], BaseException | None]
) -> Worker[..., Any]:
    """Return a worker that takes its resource as second argument."""
    options: dict[str, Any] = {"pause": (0.001, 0.001), "retries": 0}
    if kind == "plain":

        @worker("q", resource=pool.plain, **options)
        def plain(_item: ReservedItem, number: int) -> None:
            calls.append(number)
            if error := fails(len(calls)):
                raise error

        return plain

    @worker("q", resource=pool.async_, **options)
    async def async_(_item: ReservedItem, number: int) -> None:
        calls.append(number)
        await asyncio.sleep(0)
        if error := fails(len(calls)):
            raise error

    return async_


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_a_resource_is_entered_once_and_anew_after_a_pause(kind: str) -> None:
    queue = MemoryQueue(items=[(str(number), "v") for number in range(4)])
    pool, calls = Pool(), []  # type: ignore[var-annotated]
    one = resourceful(pool, kind, calls, lambda call: ConnectionError() if call == 2 else None)
    with one.start(queue) as running:
        until(lambda: len(calls) == 5 and not len(queue))
        running.stop()
    assert calls == [1, 1, 2, 2, 2]
    assert (pool.entered, pool.left) == (2, 2)


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_a_resource_that_is_away_is_nobodys_fault(kind: str) -> None:
    queue = MemoryQueue(items=[("1", "v")])
    pool, calls = Pool(), []  # type: ignore[var-annotated]
    pool.broken = True
    one = resourceful(pool, kind, calls, lambda _call: None)
    with one.start(queue) as running:
        until(lambda: queue.stats().reserved)
        pool.broken = False
        until(lambda: calls == [1])
        tally = running.stop()
    assert (tally.done, tally.failed) == (1, 0)


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_a_resource_that_is_none_is_named(kind: str) -> None:
    queue = MemoryQueue(items=[("1", "v")])
    wrong: Any = lambda: 3  # noqa: E731
    if kind == "plain":
        one = worker("q", resource=wrong)(lambda _item, _given: None)
    else:

        @worker("q", resource=wrong)
        async def one(_item: ReservedItem, _given: int) -> None:
            """Never run."""

    with pytest.raises(ConfigError, match=f"int has no __{'a' if kind == 'async' else ''}enter__"):
        one.drain(queue)
    running = one.start(queue)
    with pytest.raises(ConfigError, match="resource= must give a context"):
        wait_and_stop(running)
    assert (len(queue), queue.stats().reserved) == (1, 0)


def wait_and_stop(running: mqueue_kemi.Running) -> None:
    running.stop()


# --- answers ----------------------------------------------------------------------------------------------------------


def asked_of(function: Worker[..., Any], **options: Any) -> FakeItem:
    """Let a worker work on one question, and return it."""
    question = item("1", "a", asked=True, **options)

    class Once:
        """A queue of one item."""

        def __init__(self) -> None:
            self.left = [question]

        def reserve(self, timeout: float | None = 0) -> Any:  # noqa: ARG002
            taken = self.left.pop() if self.left else None
            return type("R", (), {"take": lambda _self: taken})()

    function.drain(Once())  # type: ignore[arg-type]
    return question


@pytest.mark.parametrize("value", ["sip:a", b"sip:a"])
def test_what_is_returned_is_the_answer(value: Any) -> None:
    question = asked_of(worker("q")(lambda _item: value))
    assert (question.outcome, question.answer_bytes) == ("answered", b"sip:a")


@pytest.mark.parametrize(
    ("function", "outcome", "reason"),
    [
        (lambda _item: None, "done", ""),
        (lambda _item: 3, "rejected", "an answer is str or bytes"),
        (lambda _item: 1 / 0, "rejected", "ZeroDivisionError"),
        (raising(Reject("unknown")), "rejected", "unknown"),
    ],
)
def test_a_question_fails_at_once(function: Any, outcome: str, reason: str) -> None:
    """With the reason that the script is told."""
    question = asked_of(function if isinstance(function, Worker) else worker("q")(function))
    assert question.outcome == outcome
    assert reason in question.reason


def test_a_question_that_nobody_waits_for_is_not_run() -> None:
    ran: list[str] = []
    question = asked_of(worker("q")(lambda one: ran.append(one.key)), deadline=time.time() - 1)
    assert (ran, question.outcome) == ([], "done")


def test_a_question_fails_when_the_next_try_would_be_too_late() -> None:
    question = asked_of(raising(ConnectionError("down"), pause=(2 * SOON, 2 * SOON)), deadline=time.time() + SOON)
    assert (question.outcome, question.reason) == ("rejected", "ConnectionError: down")


# --- threads and tasks ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_concurrency(kind: str) -> None:
    """So many at a time, and no more."""
    queue = MemoryQueue(items=[(str(number), "v") for number in range(12)])
    inside: list[int] = []
    most: list[int] = []
    lock = threading.Lock()

    def enter(change: int) -> None:
        with lock:
            inside.append(change)
            most.append(sum(inside))

    if kind == "plain":

        @worker("q", concurrency=4)
        def one(_item: ReservedItem) -> None:
            enter(1)
            until(lambda: max(most) == 4)
            enter(-1)

    else:

        @worker("q", concurrency=4)
        async def one(_item: ReservedItem) -> None:
            enter(1)
            while max(most) < 4:
                await asyncio.sleep(0.001)
            enter(-1)

    with one.start(queue) as running:
        until(lambda: len(inside) == 24)
        tally = running.stop()
    assert (max(most), tally) == (4, Tally(done=12))


def held_up(kind: str, began: threading.Event, go_on: threading.Event) -> Worker[..., Any]:
    """Return a worker that says that it began, and waits until it may go on."""
    if kind == "plain":

        @worker("q")
        def plain(_item: ReservedItem) -> None:
            began.set()
            go_on.wait(SOON)

        return plain

    @worker("q")
    async def async_(_item: ReservedItem) -> None:
        began.set()
        while not go_on.is_set():
            await asyncio.sleep(0.001)

    return async_


@contextlib.contextmanager
def when_told(text: str | re.Pattern[str], act: Callable[[], object]) -> Iterator[None]:
    """Act as soon as a worker logs this; it must."""
    logger = logging.getLogger("mqueue_kemi.worker")
    told: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if re.search(text, record.getMessage()):
                told.append(record.getMessage())
                act()

    handler, level = Handler(), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    assert told


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_a_stop_gives_back_what_is_not_done_in_time(kind: str) -> None:
    """The item goes back uncounted, and what the function makes of it later changes nothing."""
    queue = MemoryQueue(items=[("1", "v")])
    began, go_on = threading.Event(), threading.Event()
    running = held_up(kind, began, go_on).start(queue, grace=0.05)
    assert began.wait(SOON)
    running.stop()
    go_on.set()
    again = queue.reserve(timeout=None).take()
    assert (again.key, again.deliveries) == ("1", 1)
    again.done()


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_a_stop_lets_what_is_in_hand_be_done(kind: str) -> None:
    queue = MemoryQueue(items=[("1", "v"), ("2", "v")])
    began, go_on = threading.Event(), threading.Event()
    running = held_up(kind, began, go_on).start(queue, grace=SOON)
    assert began.wait(SOON)
    with when_told("stops: 1 item in hand", go_on.set):
        assert running.stop() == Tally(done=1)
    assert len(queue) == 1


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_what_comes_while_it_stops_goes_back(kind: str) -> None:
    """A thread or task that waited for an item when the stop came has it, and does not begin with it."""
    queue = MemoryQueue(items=[("1", "v")])
    stopped = threading.Event()

    class Late:
        """Gives an item when it is told to stop."""

        def stats(self) -> Any:
            return queue.stats()

        def reserve(self, timeout: float | None = 0) -> Any:
            assert stopped.wait(SOON)
            return queue.reserve(timeout=timeout)

        def areserve(self, timeout: float | None = 0) -> Any:
            async def take() -> Any:
                while not stopped.is_set():
                    with contextlib.suppress(asyncio.CancelledError):
                        await asyncio.sleep(0.001)
                return queue.reserve(timeout=timeout).take()

            return SimpleNamespace(take=take)

    running = held_up(kind, threading.Event(), threading.Event()).start(Late(), grace=SOON)  # type: ignore[arg-type]
    if kind == "plain":
        with when_told("stops: nothing in hand", stopped.set):
            assert running.stop() == Tally()
    else:
        running._loop.call_soon_threadsafe(running._tasks.stop)  # type: ignore[union-attr]
        running._loop.call_soon_threadsafe(stopped.set)  # type: ignore[union-attr]
        assert running.stop() == Tally()
    assert (len(queue) + queue.stats().due, queue.stats().reserved) == (1, 0)


def test_what_fails_last_is_settled_too() -> None:
    """An item that fails after the stop, when the other thread, which was the first to be made, has ended."""
    queue = MemoryQueue(items=[("1", "v"), ("2", "v")])
    both, go_on = threading.Barrier(3), threading.Event()

    @worker("q", concurrency=2)
    def one(_item: ReservedItem) -> None:
        both.wait(SOON)
        if not threading.current_thread().name.endswith(" 0"):
            go_on.wait(SOON)
            raise ValueError

    running = one.start(queue, grace=SOON)
    both.wait(SOON)
    with when_told(re.compile("stops: [12] items? in hand"), go_on.set):
        assert running.stop() == Tally(done=1, retried=1)
    assert (queue.stats().reserved, len(queue) + queue.stats().due) == (0, 1)


def test_a_time_limit_ends_the_task() -> None:
    dead = MemoryQueue("dead")
    queue = MemoryQueue(items=[("1", "hang"), ("2", "v")], dead_letter=dead)
    ended: list[str] = []

    @worker("q", timeout=0.05, retries=0)
    async def one(question: ReservedItem) -> None:
        try:
            await asyncio.sleep(SOON if question.value == "hang" else 0)
        finally:
            ended.append(question.key)

    assert one.drain(queue) == Tally(done=1, failed=1)
    assert (ended, keys(dead)) == (["1", "2"], ["1"])


def test_a_time_out_of_the_functions_own_is_an_outage() -> None:
    """`asyncio.wait_for` in the function: what it called does not answer."""
    queue = MemoryQueue(items=[("1", "v")])

    @worker("q", timeout=SOON)
    async def one(_item: ReservedItem) -> None:
        await asyncio.wait_for(asyncio.sleep(SOON), 0.01)

    assert one.drain(queue) == Tally(retried=1)
    assert queue.stats().due == 1


def test_drain_in_an_event_loop_is_refused() -> None:
    @worker("q")
    async def one(_item: ReservedItem) -> None:
        """Never run."""

    async def inside() -> None:
        with pytest.raises(ConfigError, match="to_thread"):
            one.drain(MemoryQueue())
        assert await asyncio.to_thread(one.drain, MemoryQueue(items=[("1", "v")])) == Tally(done=1)

    asyncio.run(inside())


def test_one_success_wakes_those_that_pause() -> None:
    """Four threads pause for a minute; the first that succeeds ends it for all."""
    queue = MemoryQueue(items=[(str(number), "v") for number in range(8)])
    numbers = count(1)  # each thread has one of its own, also where they begin in the same moment
    pauses: list[float] = []

    def told(failure: Failure) -> None:
        pauses.append(failure.after)

    @worker("q", concurrency=4, pause=(60, 60), on_error=told)
    def one(_item: ReservedItem) -> None:
        number = next(numbers)
        if number <= 3:
            raise ConnectionError
        if number == 4:
            until(lambda: len(pauses) == 3)

    with one.start(queue) as running:
        until(lambda: not len(queue) and not queue.stats().reserved)
        assert running.stop().done == 8


def test_a_queue_that_raises_is_tried_again(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    from kemi.errors import LockTimeout
    from kemi.worker import threads

    monkeypatch.setattr(threads, "TROUBLE", 0.01)
    queue = MemoryQueue(items=[("1", "v")])
    one = raising(None)
    queue.fail_next(LockTimeout("held"))  # by most_deliveries
    queue.fail_next(LockTimeout("held"))
    with caplog.at_level(logging.WARNING), one.start(queue) as running:
        until(lambda: not len(queue) and not queue.stats().reserved)
        assert running.stop() == Tally(done=1)
    assert "no item from queue 'q': LockTimeout: held" in caplog.text
