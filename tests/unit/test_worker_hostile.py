"""Functions, resources and answers that do what nobody expects: the item is to blame, and the worker goes on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from kemi.errors import ItemError
from kemi.testing import MemoryQueue
from kemi.worker import threads
from mqueue_kemi import Failure, ReservedItem, Tally, Worker, worker
from tests.support.waits import until
from tests.unit.test_worker import asked_of, keys, raising

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

BOTH = pytest.mark.parametrize("kind", ["plain", "async"])


class Silent(Exception):
    """It cannot even be shown."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class Base(BaseException):
    """Of no kind that anybody catches."""


RAISED: list[BaseException] = [
    *(SystemExit(2), SystemExit("text"), KeyboardInterrupt(), GeneratorExit(), Base("x"), Silent()),
    *(StopIteration(1), StopAsyncIteration(), asyncio.CancelledError(), MemoryError(), RecursionError()),
]


def does(kind: str, body: Any, **options: Any) -> Worker[..., Any]:
    """Return a plain or an async worker whose function does this."""
    decorate: Any = worker("q", **options)
    if kind == "plain":

        def plain(item: ReservedItem, *given: object) -> Any:
            return body(item, *given)

        made: Worker[..., Any] = decorate(plain)
        return made

    async def async_(item: ReservedItem, *given: object) -> Any:
        await asyncio.sleep(0)
        return body(item, *given)

    made = decorate(async_)
    return made  # noqa: RET504 - it has the type


@BOTH
def test_whatever_is_raised_is_the_items_failure(kind: str) -> None:
    """The next item is done by the same thread, or in the same event loop."""
    dead = MemoryQueue("dead")
    names = [str(number) for number in range(len(RAISED))]
    queue = MemoryQueue(items=[(key, what) for key in names for what in ("bad", "good")], dead_letter=dead)
    where: set[int] = set()

    def body(item: ReservedItem) -> None:
        where.add(threading.get_ident())
        if item.value == "bad":
            raise RAISED[int(item.key)]

    with does(kind, body, retries=0).start(queue) as running:
        until(lambda: not len(queue) and not queue.stats().reserved)
        tally = running.stop()
    assert (tally, len(where)) == (Tally(done=len(names), failed=len(names)), 1)
    assert keys(dead) == names


def test_ctrl_c_is_no_failure() -> None:
    """Of who runs a worker in a test or a program: the item goes back uncounted, and Python ends as always."""
    queue = MemoryQueue(items=[("1", "")])

    def interrupted(_item: ReservedItem) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            worker("q", retries=0)(interrupted).drain(queue)
    finally:
        signal.signal(signal.SIGINT, before)
    again = queue.reserve(timeout=0).take()
    assert again is not None
    assert again.deliveries == 1
    again.done()


def test_who_is_told_may_raise_anything(caplog: pytest.LogCaptureFixture) -> None:
    def broken(_: object) -> bool:
        raise SystemExit(3)

    queue = MemoryQueue(items=[("1", "a")])
    assert raising(ConnectionError(), transient=broken, retries=0, on_error=broken).drain(queue) == Tally(failed=1)
    assert "transient= raised" in caplog.text
    assert "on_error raised" in caplog.text


@BOTH
@pytest.mark.parametrize("error", [SystemExit(2), Base(), KeyboardInterrupt()], ids=lambda error: type(error).__name__)
def test_a_resource_that_raises_anything_is_away(kind: str, error: BaseException) -> None:
    """When it is entered and when it is left. The item is nobody's fault, and is done once the resource is there."""
    queue = MemoryQueue(items=[("1", "v"), ("2", "v")])
    tries: list[str] = []

    @contextlib.contextmanager
    def plain() -> Iterator[None]:
        tries.append("enter")
        if len(tries) < 3:
            raise error
        yield
        tries.append("leave")
        raise error

    @contextlib.asynccontextmanager
    async def async_() -> AsyncIterator[None]:
        with plain():
            yield

    def body(item: ReservedItem, _given: object) -> None:
        tries.append(item.key)

    one = does(kind, body, resource=plain if kind == "plain" else async_, pause=(0.001, 0.001), retries=0)
    with one.start(queue) as running:
        until(lambda: not len(queue) and not queue.stats().reserved)
        tally = running.stop()
    assert (tally.done, tally.failed) == (2, 0)
    assert tries == ["enter", "enter", "enter", "1", "2", "leave"]


def test_a_resource_that_hangs_is_tried_again() -> None:
    """An async one, where there is a time limit: it is an outage."""
    queue = MemoryQueue(items=[("1", "v")])
    entered: list[int] = []

    @contextlib.asynccontextmanager
    async def resource() -> AsyncIterator[int]:
        entered.append(1)
        if len(entered) < 3:
            await asyncio.sleep(3600)
        yield 1

    one = does("async", lambda _item, _given: None, resource=resource, timeout=0.2, pause=(0.001, 0.001))
    with one.start(queue) as running:
        until(lambda: not len(queue) and not queue.stats().reserved)
        assert running.stop().done == 1


@pytest.mark.parametrize("value", ["\ud800", 3, 1.5, ["x"], bytearray(b"x"), object(), True])
def test_what_is_no_answer_fails_the_question(value: Any) -> None:
    """At once, with a reason; where nobody asked it does not count."""
    failures: list[Failure] = []
    question = asked_of(worker("q", on_error=failures.append)(lambda _item: value))
    assert (question.outcome, len(failures)) == ("rejected", 1)
    assert "returned" in question.reason
    assert does("plain", lambda _item: value).drain(MemoryQueue(items=[("1", "v")])) == Tally(done=1)


def test_an_answer_that_is_no_text_is_named() -> None:
    queue = MemoryQueue(items=[("1", "v")])
    with queue.reserve(timeout=0) as one:
        assert one is not None
        with pytest.raises(ItemError, match="an answer must be UTF-8"):
            one.answer("\ud800")
        with pytest.raises(ItemError, match="not int"):
            one.answer(3)  # type: ignore[arg-type]
        one.done()


@BOTH
@pytest.mark.parametrize("end", ["returns", "exits", "raises"])
def test_a_fork_that_comes_back_is_ended(kind: str, end: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Two processes would settle one item and take the next ones. Its exit code is what it asked for."""
    queue = MemoryQueue(items=[("1", ""), ("2", "")])
    codes: list[int] = []

    def body(_item: ReservedItem) -> None:
        pid = os.fork()
        if pid:
            codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        elif end == "exits":
            sys.exit(7)
        elif end == "raises":
            raise ValueError("in the child")

    assert does(kind, body, retries=0).drain(queue) == Tally(done=2)
    assert codes == [7 if end == "exits" else 1] * 2
    capfd.readouterr()


def test_what_fails_in_the_worker_itself_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistake of ours that an item meets: it is not delivered for ever, to one thread after the other."""
    queue = MemoryQueue(items=[("1", "")])

    def follow(steps: Any, _carry_out: object) -> None:
        if steps.gi_code.co_name == "of":
            raise ZeroDivisionError

    monkeypatch.setattr(threads, "follow", follow)
    with worker("q")(lambda _item: None).start(queue) as running:
        until(lambda: not running._crew.is_working())  # type: ignore[union-attr]
        running.stop()
    again = queue.reserve(timeout=0).take()
    assert again is not None
    assert again.deliveries == 2
    again.done()
