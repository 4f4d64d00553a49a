"""What an add says: true only for what is in the queue."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

import pytest

import mqueue_kemi
from kemi.owner import this_process
from kemi.queue.catalog.registry import Registry
from kemi.queue.format.layout import CHUNK
from kemi.queue.queue import Queue
from mqueue_kemi import AddResult, AnswerStatus, AskResult, ItemError, MqueueError, Refused, attach

if TYPE_CHECKING:
    from collections.abc import Iterator

IN_THE_QUEUE = {AddResult.ADDED, AddResult.KEPT}


@pytest.fixture
def registry(instance: str) -> Iterator[Registry]:
    """Give the registry of an instance with room for a few chunks."""
    made = Registry.create(instance, this_process(), 6 * CHUNK)
    yield made
    made.segment.unlink()


def make(registry: Registry, instance: str, **properties: int) -> Queue:
    """Make the queue q."""
    return Queue.create(instance, "q", registry=registry, window=16 << 20, **properties)  # type: ignore[arg-type]


@pytest.mark.parametrize("result", AddResult)
def test_only_what_is_in_the_queue_is_true(result: AddResult) -> None:
    """The others are false, though none of them is 0."""
    assert bool(result) is (result in IN_THE_QUEUE)
    assert result > 0


@pytest.mark.parametrize("result", AddResult)
def test_each_has_a_reason_and_may_be_raised(result: AddResult) -> None:
    """A sentence for people; `or_raise` gives a true result back, and raises for a false one, which pickles."""
    assert result.reason
    assert pickle.loads(pickle.dumps(result)) is result  # noqa: S301 - our own
    if result:
        assert result.or_raise() is result
        return
    with pytest.raises(Refused, match=result.reason) as caught:
        result.or_raise()
    assert isinstance(caught.value, MqueueError)
    assert caught.value.result is result
    again = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - our own
    assert (type(again), again.result, str(again)) == (Refused, result, str(caught.value))


@pytest.mark.parametrize("result", [*AddResult, *AskResult, *AnswerStatus], ids=repr)
def test_each_reads_as_its_number(result: AddResult | AskResult | AnswerStatus) -> None:
    """In a log or a file, with each Python: before 3.11 an IntEnum shows its name, but its number in an f-string."""
    assert (str(result), f"{result}") == (str(int(result)),) * 2


def test_the_numbers_are_those_of_before() -> None:
    """Who compared with a number still can."""
    assert [int(result) for result in AddResult] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert {AddResult.ADDED: "found"}[1] == "found"  # type: ignore[index]


def test_they_are_exported_with_the_errors() -> None:
    """A worker needs one import."""
    assert {"AddResult", "Refused"} <= set(mqueue_kemi.__all__)


def test_every_way_to_add_gives_one(registry: Registry, instance: str) -> None:
    """The usual add, one that keeps an older item, one over a limit, a batch, one too large, one to a closed queue."""
    queue = make(registry, instance, addmode=1, byte_limit=200)
    with attach("q", instance, reattach=False) as attached:
        for one in (queue, attached):
            assert one.add("k", "v") is (AddResult.ADDED if one is queue else AddResult.KEPT)
            assert one.add("k", "w") is AddResult.KEPT
            assert one.add("l", "x" * 200) is AddResult.FULL
            assert one.add("l", "x" * (6 * CHUNK)) is AddResult.FULL
            results = one.add_many([("k", "1"), ("m", "y" * 200)])
            assert [type(result) for result in results] == [AddResult] * 2
            assert results == [AddResult.KEPT, AddResult.FULL]
            with pytest.raises(ItemError):
                one.add("k", None)  # type: ignore[arg-type]
        queue.remove()
        assert attached.add("k", "v") is AddResult.CLOSED
        assert attached.add_many([("k", "v")]) == [AddResult.CLOSED]


def test_without_memory(registry: Registry, instance: str) -> None:
    """`if not queue.add(...)` notices a full memory, and an item that is too large."""
    queue = make(registry, instance)
    results = {queue.add("k", "x" * 100_000) for _ in range(20)}
    assert results == {AddResult.ADDED, AddResult.NO_MEMORY}
    assert queue.add("k", "x" * (64 << 20)) is AddResult.TOO_LARGE
    queue.remove()
