"""What is reserved, and what nobody waits for any more: a question whose time is over goes before it is delivered."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kemi.queue.catalog import header
from kemi.queue.delivery import holding, letters
from kemi.queue.format.item import item_id, key_of, record_of
from kemi.queue.format.layout import W_CREATED, W_EXPIRED
from kemi.queue.format.question import Envelope, Name, question_record
from kemi.queue.queue import Queue
from tests.support.lock_times import at_a_time

if TYPE_CHECKING:
    from pytest_mock import MockerFixture

NOW = 1 << 60  # monotonic ns


@pytest.fixture(params=[0, 1, 2])
def queue(instance: str, request: pytest.FixtureRequest, mocker: MockerFixture) -> Queue:
    """Return a queue, at a moment of a test's own, where nothing takes any time."""
    at_a_time(mocker, 1000)
    for module in (holding, letters):
        mocker.patch.object(module, "_now", return_value=NOW)
    return Queue.create(instance, "q", window=16 << 20, addmode=request.param)


def ask(queue: Queue, key: str, deadline: int) -> None:
    """Add a question that somebody waits for until then."""
    record = question_record(key.encode(), b"v", 0, Envelope(1, Name(2, 3, 4), deadline, 5, 6))
    assert queue.add_question(record)


def ask_six_in_vain(queue: Queue) -> None:
    """Add six questions that nobody waits for any more, and one more in time."""
    for number in range(6):
        ask(queue, str(number), NOW - 1)
    ask(queue, "in time", NOW + 1)


def delivered(queue: Queue) -> str | None:
    """Take what `reserve` delivers, under the lock."""
    queue.handle.holding.begin()
    found = queue.handle.work(queue.handle.holding.reserve)
    return None if found is None else key_of(found[1])


def expired(queue: Queue) -> int:
    """Return how many were dropped because nobody waits."""
    return int(queue.segment.words[W_EXPIRED])


@pytest.mark.python_code
def test_a_question_is_delivered_before_its_deadline_only(queue: Queue) -> None:
    """At the very moment nobody waits any more; what is no question has no deadline."""
    ask(queue, "long over", NOW - 1_000_000_000)
    ask(queue, "over", NOW)
    ask(queue, "in time", NOW + 1)
    assert queue.add("no question", "v")
    ask(queue, "last", NOW - 1)
    assert delivered(queue) == "in time"
    assert expired(queue) == 2
    assert delivered(queue) == "no question"
    assert delivered(queue) is None
    assert expired(queue) == 3


@pytest.mark.python_code
def test_no_more_questions_go_with_one_lock(queue: Queue, mocker: MockerFixture) -> None:
    """The lock is free for a moment, and the next call goes on with the rest."""
    at_a_time(mocker, 4)
    ask_six_in_vain(queue)
    assert delivered(queue) is None
    assert queue.handle.holding.letters.is_behind
    assert expired(queue) == 4
    assert delivered(queue) == "in time"
    assert expired(queue) == 6


@pytest.mark.python_code
def test_who_reserves_passes_all_of_them(queue: Queue, mocker: MockerFixture) -> None:
    """However often the lock is free in between."""
    at_a_time(mocker, 1)
    ask_six_in_vain(queue)
    with queue.reserve() as item:
        assert item is not None
        assert item.key == "in time"
    assert expired(queue) == 6


@pytest.mark.python_code
def test_an_item_that_was_given_back_is_looked_at_first(queue: Queue, mocker: MockerFixture) -> None:
    """Its asker may have waited in vain meanwhile."""
    ask(queue, "asked", NOW + 5)
    assert queue.add_record(record_of(b"other", b"v", 1.0))
    with queue.reserve() as item:
        assert item is not None
        assert item.key == "asked"
        item.give_back()
    mocker.patch.object(holding, "_now", return_value=NOW + 5)
    assert delivered(queue) == "other"
    assert expired(queue) == 1


@pytest.mark.python_code
@pytest.mark.parametrize("dead_letter", ["", "dead"])
def test_an_item_is_too_old_when_it_is_older_than_that(queue: Queue, mocker: MockerFixture, dead_letter: str) -> None:
    """Of exactly that age it is delivered, whether there is a queue for dead letters or not."""
    mocker.patch.object(letters, "_time", return_value=1000.0)
    queue.set_max_age(10)
    header.set_dead_letter(queue.segment, dead_letter)
    assert queue.add_record(record_of(b"too old", b"v", 989.5))
    assert queue.add_record(record_of(b"just in time", b"v", 990.0))
    assert delivered(queue) == "just in time"
    assert queue.handle.holding.letters.is_behind is False


@pytest.mark.python_code
def test_some_of_the_old_items_become_dead_letters_with_one_lock(queue: Queue, mocker: MockerFixture) -> None:
    """The rest with the next one, the oldest first, and each of them once."""
    mocker.patch.object(letters, "_time", return_value=1000.0)
    queue.set_max_age(10)
    header.set_dead_letter(queue.segment, "dead")
    at_a_time(mocker, 24)
    names = [b"%07d" % number for number in range(26)]
    for name in names:
        assert queue.add_record(record_of(name, b"v", 900.0))
    assert queue.add_record(record_of(b"younger", b"v", 999.0))
    found = queue.handle.holding
    found.begin()
    assert delivered(queue) is None
    assert found.letters.is_behind
    moved = queue.handle.work(found.letters.aged)
    assert len(moved) == 24
    found.letters.is_behind = False
    assert delivered(queue) == "younger"
    assert not found.letters.is_behind
    moved += queue.handle.work(found.letters.aged)
    assert [key_of(letter.record) for letter in moved] == [name.decode() for name in names]
    assert queue.handle.work(found.letters.aged) == []


@pytest.mark.python_code
def test_what_came_back_is_not_reserved_the_quick_way(queue: Queue) -> None:
    """It comes before the oldest one of the log, to which that way leads: this is looked at once more with the lock."""
    for key in "abc":
        queue.add(key, "v")
    found = queue.handle.holding
    with queue.reserve_many(2) as batch:
        assert found.is_quick()
        batch[0].give_back()
        assert not found.is_quick()
        assert queue.handle.work(found.reserve_quickly) is None
        assert delivered(queue) == "a"


def test_an_item_keeps_its_id(queue: Queue) -> None:
    """It is made of when the queue was, and of the item's number."""
    queue.add("a", "v")
    with queue.reserve() as item:
        assert item is not None
        assert item.id == item_id(queue.segment.words[W_CREATED], item._hold.token.seq)
