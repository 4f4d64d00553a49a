"""Claims: what this process holds and no object stands for is nobody's, and goes back."""

from __future__ import annotations

import gc
import os

import pytest

from kemi.queue.delivery import claims
from kemi.queue.lock.section import hold
from kemi.queue.log.core import Delivery
from kemi.queue.queue import Queue
from tests.unit.children import fork


@pytest.fixture
def queue(instance: str) -> Queue:
    queue = Queue.create(instance, "q", window=16 << 20)
    queue.add("k", "v")
    return queue


def test_what_nothing_claims_comes_back_with_the_next_item_taken(queue: Queue) -> None:
    """Should everything else be broken off, this process notices that it holds more than it knows of."""
    hold(queue._mutex, queue.handle.holding.reserve)
    assert queue.stats().reserved == 1
    item = queue.fetch()
    assert item is not None
    assert item.key == "k"
    assert queue.stats().reserved == 0


def test_what_is_claimed_stays(queue: Queue, instance: str) -> None:
    """Whichever handle of the same process takes the next items."""
    other = Queue.attach(instance, "q")
    with queue.reserve() as item:
        assert item is not None
        hold(other._mutex, other.handle.holding.reserve)
        assert other.fetch() is None
        assert queue.stats().reserved == 1
    assert queue.stats().reserved == 0


def test_a_claim_ends_with_what_it_is_for(queue: Queue) -> None:
    """Nothing is left of a reservation that is over."""
    created = queue.handle.holding._created
    with queue.reserve():
        assert len(claims.of(created)) == 1
    assert claims.of(created) == {}


def test_a_child_does_not_give_back_what_its_parent_holds(queue: Queue) -> None:
    block = queue.reserve()
    block.__enter__()

    def end_it() -> None:
        nonlocal block
        del block
        gc.collect()
        assert queue.fetch() is None
        assert claims.of(queue.handle.holding._created) == {}

    assert os.waitpid(fork(end_it), 0)[1] == 0
    assert queue.stats().reserved == 1
    block.__exit__(None)


class Item:
    """What may stand for a reserved item."""


def test_a_claim_lasts_as_long_as_its_object() -> None:
    item = Item()
    claims.enter(-1, Delivery(0, 1), item)
    claims.enter(-1, Delivery(1, 2), other := Item())
    assert set(claims.of(-1)) == {Delivery(0, 1), Delivery(1, 2)}
    del item
    assert set(claims.of(-1)) == {Delivery(1, 2)}
    del other
    assert claims.of(-1) == {}


def test_claims_are_of_one_queue_and_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    item = Item()
    claims.enter(-1, Delivery(0, 1), item)
    assert claims.of(-2) == {}
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: 0)
        assert claims.of(-1) == {}
    assert set(claims.of(-1)) == {Delivery(0, 1)}


def test_the_end_of_an_object_whose_claim_was_taken_back_ends_no_other_claim() -> None:
    item = Item()
    claims.enter(-1, Delivery(0, 1), item)
    claims.of(-1).clear()
    claims.enter(-1, Delivery(0, 1), other := Item())
    del item
    assert set(claims.of(-1)) == {Delivery(0, 1)}
    del other
    assert claims.of(-1) == {}
