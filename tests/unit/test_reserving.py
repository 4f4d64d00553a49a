"""How reserved items are settled: who is told what, and what comes back."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from kemi.queue import reserving
from kemi.queue.delivery import answering
from kemi.queue.delivery.hold import DONE, GIVE_BACK, Settlement
from kemi.queue.delivery.reserved import ReservedItem
from kemi.queue.format.item import key_of
from kemi.queue.format.layout import W_RETURNED
from kemi.queue.queue import Queue
from tests.support.lock_times import at_a_time

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_mock import MockerFixture


@pytest.fixture(params=[0, 1])
def queue(instance: str, request: pytest.FixtureRequest) -> Queue:
    """Return a queue of some items."""
    queue = Queue.create(instance, "q", window=16 << 20, addmode=request.param)
    queue.add_many((key, "v") for key in "abcd")
    return queue


@pytest.fixture
def told(mocker: MockerFixture) -> list[tuple[Any, ...]]:
    """Return the list of what is told to those who asked. Of `a` nobody waits for an answer any more."""
    found: list[tuple[Any, ...]] = []

    def tell(how: str, record: bytes, what: Any) -> bool:
        found.append((how, key_of(record), what))
        return key_of(record) != "a"

    mocker.patch.object(answering, "answer", lambda _, record, value: tell("answer", record, value))
    mocker.patch.object(answering, "fail", lambda _, record, reason: tell("fail", record, reason))
    return found


_held: list[ReservedItem] = []


@pytest.fixture(autouse=True)
def _let_go() -> Iterator[None]:
    """Drop what a test reserved, after it."""
    yield
    _held.clear()


def tokens(queue: Queue, count: int) -> list[Any]:
    """Reserve some items; return what settles them."""
    kept: list[ReservedItem] = []
    while len(kept) < count:
        assert queue.reserve_some(count - len(kept), 0.0, kept.append)
    _held.extend(kept)
    return [item._hold.token for item in kept]


def left(queue: Queue) -> list[str]:
    """Return the keys of what is there or reserved."""
    return sorted(item.key for item in queue.undone())


def test_an_answer_goes_to_who_asked_and_the_item_is_done(queue: Queue, told: list[tuple[Any, ...]]) -> None:
    """As many are counted as were waited for."""
    held = tokens(queue, 3)
    assert queue.settle(held, Settlement("answer", value=b"yes")) == 2
    assert told == [("answer", key, b"yes") for key in "abc"]
    assert left(queue) == ["d"]


def test_a_reason_goes_to_who_asked_and_the_item_is_dropped(queue: Queue, told: list[tuple[Any, ...]]) -> None:
    """As many are counted as were this process's until then."""
    held = tokens(queue, 3)
    assert queue.settle(held, Settlement("reject", reason="no such user")) == 3
    assert told == [("fail", key, "no such user") for key in "abc"]
    assert left(queue) == ["d"]
    assert queue.stats().dropped == 3


@pytest.mark.parametrize("how", [DONE, GIVE_BACK, Settlement("give back", after=60.0)])
def test_nobody_is_told_of_anything_else(queue: Queue, told: list[tuple[Any, ...]], how: Settlement) -> None:
    held = tokens(queue, 2)
    assert queue.settle(held, how) == 2
    assert told == []
    assert left(queue) == (["c", "d"] if how is DONE else list("abcd"))
    assert len(queue) == {DONE: 2, GIVE_BACK: 4}.get(how, 2)


@pytest.mark.parametrize("kind", ["answer", "reject"])
def test_what_was_settled_before_is_told_to_nobody(queue: Queue, told: list[tuple[Any, ...]], kind: str) -> None:
    """It may be somebody else's by now."""
    held = tokens(queue, 1)
    assert queue.settle(held, GIVE_BACK) == 1
    assert queue.settle(held, Settlement(kind, value=b"yes", reason="no")) == 0
    assert told == []
    assert left(queue) == list("abcd")


def test_more_items_than_are_settled_with_one_lock(queue: Queue, mocker: MockerFixture) -> None:
    """Each of them, in order."""
    at_a_time(mocker, 7)
    queue.add_many((str(number), "v") for number in range(60))
    held = tokens(queue, 64)
    assert len(held) == 64
    assert queue.settle(held[:30], DONE) == 30
    assert queue.settle(held[20:], GIVE_BACK) == 34
    assert [item.key for item in queue.peek(None)] == [str(number) for number in range(26, 60)]


@pytest.mark.python_code
def test_that_nothing_more_can_be_reserved_is_told_once_a_minute(
    queue: Queue, mocker: MockerFixture, caplog: pytest.LogCaptureFixture
) -> None:
    moment = [100.0]
    mocker.patch.object(reserving, "time", SimpleNamespace(monotonic=lambda: moment[0]))
    for question, answer in (("is_full", True), ("is_there", True), ("seconds_to_due", 7.0)):
        mocker.patch.object(queue.handle.holding, question, return_value=answer)
    queue._u64[W_RETURNED] = 1
    for after, lines in ((0.0, 1), (59.9, 1), (60.0, 2), (119.9, 2), (120.0, 3)):
        moment[0] = 100.0 + after
        queue._reserver._refuse_full()
        assert len(caplog.records) == lines
    queue._u64[W_RETURNED] = 0
