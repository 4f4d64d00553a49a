"""What is delivered no more, on a plain buffer: too old, or delivered too often; held, dropped, or delivered again."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from kemi.queue.delivery import claims, letters
from kemi.queue.delivery.holders import Holders
from kemi.queue.delivery.letters import Letters
from kemi.queue.format import keyhash
from kemi.queue.format.item import key_of
from kemi.queue.format.layout import (
    DEAD_LETTER_AT,
    FETCH_AGING,
    RECORD,
    W_CREATED,
    W_DEAD_LETTERS,
    W_EXHAUSTED,
    W_EXPIRED,
    W_FLAGS,
    W_IN_FLIGHT,
    W_MAX_AGE,
    W_MAX_DELIVERIES,
    W_RETURNED,
    W_UNMOVED,
)
from kemi.queue.log.core import ADDED, Delivery
from kemi.queue.log.keyed import KeyedLog
from kemi.queue.log.plain import PlainLog
from kemi.queue.sync.clock import LockTime
from tests.support.crash_points import Segment
from tests.support.lock_times import at_a_time

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_mock import MockerFixture

    from kemi.queue.delivery.letters import DeadLetter

HASH = keyhash.function_of(keyhash.FORM)
NOW = 5_000_000_000_000  # monotonic ns
TIME = 1000.0  # seconds since the epoch
CREATED = 123456789


class Queue:
    """A log, and its letters."""

    def __init__(self, addmode: int, capacity: int = 40) -> None:
        self.segment = Segment(addmode, capacity=capacity, chunks=20)
        self.u64 = self.segment.u64
        self.u64[W_CREATED] = CREATED
        self.log: PlainLog | KeyedLog
        if addmode:
            self.log = KeyedLog(self.segment.plain, self.segment, HASH)
        else:
            self.log = PlainLog(self.segment.plain, self.segment)
        assert self.log.format()
        self.holders = Holders(None)
        self.lock_time = LockTime()
        self.letters = Letters(self.log, self.holders, self.lock_time)

    def add(self, key: str, added: float) -> None:
        record = RECORD.pack(24 + len(key) + 7 & -8, len(key), 0, 0, added) + key.encode()
        assert self.log.append(record, len(record) + 7 & -8) == ADDED

    def deliver(self) -> Delivery:
        found = self.log.reserve(self.holders.me(), NOW)
        assert found
        return found[0]

    def give_back(self, due: int = 0) -> Delivery:
        """Deliver the next one, which comes back, due at a moment."""
        held = self.deliver()
        assert self.log.nack(held, due)
        return held

    def age(self, seconds: float) -> None:
        self.u64[W_MAX_AGE] = int(seconds * 1e9)
        self.u64[W_FLAGS] |= FETCH_AGING

    def dead_letters(self) -> None:
        """Have a queue for them: its name's length is what counts here."""
        self.u64[DEAD_LETTER_AT >> 3] = 4

    def left(self) -> list[str]:
        """Fetch all that can be taken now."""
        return [key_of(record) for record in iter(lambda: self.log.fetch(NOW), None)]


def keys(found: list[DeadLetter]) -> list[str]:
    return [key_of(letter.record) for letter in found]


@pytest.fixture(autouse=True)
def _a_moment(mocker: MockerFixture) -> Iterator[None]:
    mocker.patch.object(letters, "_now", return_value=NOW)
    mocker.patch.object(letters, "_time", return_value=TIME)
    yield
    claims.of(CREATED).clear()


@pytest.fixture(params=[0, 2])
def queue(request: pytest.FixtureRequest, mocker: MockerFixture) -> Queue:
    """Return a queue with a plain log, or a keyed one, where nothing takes any time."""
    at_a_time(mocker, 1000)
    return Queue(request.param)


# --- too old ----------------------------------------------------------------------------------------------------------


def test_without_an_age_nothing_is_too_old(queue: Queue) -> None:
    """Also where only one of the two words says so, as in the middle of a change."""
    assert queue.letters.oldest_allowed() == -math.inf
    queue.u64[W_MAX_AGE] = 10**9
    assert queue.letters.oldest_allowed() == -math.inf
    queue.age(0)
    assert queue.letters.oldest_allowed() == -math.inf
    queue.age(10.5)
    assert queue.letters.oldest_allowed() == TIME - 10.5


def test_what_is_too_old_is_dropped_and_counted(queue: Queue) -> None:
    """As far as the first one that is not; exactly that age is not too old."""
    queue.age(10)
    for key, added in (("a", 900.0), ("b", 989.9), ("c", 990.0), ("d", 900.0)):
        queue.add(key, added)
    assert queue.letters.pass_aged()
    assert queue.u64[W_EXPIRED] == 2
    assert not queue.letters.is_behind
    assert (queue.letters.aged(), claims.of(CREATED)) == ([], {})
    assert queue.left() == ["c", "d"]


def test_more_than_goes_with_one_lock_is_left_for_the_next(queue: Queue, mocker: MockerFixture) -> None:
    queue.age(10)
    for number in range(60):
        queue.add(f"{number:02}", 900.0)
    at_a_time(mocker, 8)
    rounds = []
    while not queue.letters.pass_aged():
        assert queue.letters.is_behind
        queue.letters.is_behind = False
        queue.lock_time.begin()
        rounds.append(queue.u64[W_EXPIRED])
    # A plain log drops several with one commit.
    assert rounds == (list(range(8, 61, 8)) if isinstance(queue.log, KeyedLog) else [])
    assert not queue.letters.is_behind
    assert queue.u64[W_EXPIRED] == 60
    assert queue.left() == []


def test_what_is_too_old_is_held_for_the_dead_letters(queue: Queue) -> None:
    """In order, what came back first; each is claimed, and told once."""
    queue.age(10)
    queue.dead_letters()
    for key, added in (("a", 900.0), ("b", 950.0), ("c", 990.0)):
        queue.add(key, added)
    queue.give_back()
    assert queue.letters.pass_aged()
    found = queue.letters.aged()
    assert keys(found) == ["a", "b"]
    assert {held: claim() for held, claim in claims.of(CREATED).items()} == {letter.held: letter for letter in found}
    assert queue.letters.aged() == []
    assert queue.u64[W_EXPIRED] == 0
    assert (queue.u64[W_IN_FLIGHT], queue.u64[W_RETURNED]) == (2, 0)
    assert queue.left() == ["c"]


def test_so_many_are_held_with_one_lock(queue: Queue, mocker: MockerFixture) -> None:
    at_a_time(mocker, 24)
    queue.age(10)
    queue.dead_letters()
    for number in range(25):
        queue.add(f"{number:02}", 900.0)
    assert not queue.letters.pass_aged()
    assert queue.letters.is_behind
    assert len(queue.letters.aged()) == 24
    queue.letters.is_behind = False
    queue.lock_time.begin()
    assert queue.letters.pass_aged()
    assert not queue.letters.is_behind
    assert keys(queue.letters.aged()) == ["24"]


@pytest.mark.parametrize("addmode", [0, 2])
def test_no_more_are_held_than_can_be_in_flight(addmode: int, mocker: MockerFixture) -> None:
    """The rest stays, undelivered, until an entry is free; nobody is to come again at once for it."""
    at_a_time(mocker, 1000)
    queue = Queue(addmode, capacity=2)
    queue.age(10)
    queue.dead_letters()
    for key in "abc":
        queue.add(key, 900.0)
    assert not queue.letters.pass_aged()
    assert not queue.letters.is_behind
    first, _ = found = queue.letters.aged()
    assert keys(found) == ["a", "b"]
    queue.letters.settle(first.held, moved=True)
    assert queue.letters.pass_aged()
    assert keys(queue.letters.aged()) == ["c"]


# --- delivered too often ----------------------------------------------------------------------------------------------


def test_an_item_is_over_after_so_many_deliveries(queue: Queue) -> None:
    """Of any number where there is no limit."""
    counts = [Delivery(0, 1, 1, deliveries) for deliveries in (1, 2, 3, 1000)]
    assert [queue.letters.is_over(held) for held in counts] == [False] * 4
    queue.u64[W_MAX_DELIVERIES] = 2
    assert [queue.letters.is_over(held) for held in counts] == [False, True, True, True]


def test_what_is_over_is_held_when_it_is_due(queue: Queue, mocker: MockerFixture) -> None:
    """The first that is due first, so many at most, and nothing where there is no queue for it."""
    queue.u64[W_MAX_DELIVERIES] = 1
    for key in "abcd":
        queue.add(key, TIME)
    for held, due in [(queue.deliver(), due) for due in (NOW, NOW - 1, NOW + 1)]:
        assert queue.log.nack(held, due)
        assert queue.letters.are_next(NOW) is False
    assert queue.letters.over() == []
    queue.dead_letters()
    assert queue.letters.are_next(NOW) is True
    assert queue.letters.is_behind
    at_a_time(mocker, 1)
    assert keys(queue.letters.over()) == ["b"]
    assert keys(queue.letters.over()) == ["a"]
    assert queue.letters.over() == []
    queue.letters.is_behind = False
    assert queue.letters.are_next(NOW) is False
    assert not queue.letters.is_behind
    assert claims.of(CREATED) == {}  # nobody has them in his hands any more
    assert queue.left() == ["d"]


def test_what_may_be_delivered_again_is_no_letter(queue: Queue) -> None:
    queue.u64[W_MAX_DELIVERIES] = 2
    queue.dead_letters()
    queue.add("a", TIME)
    queue.give_back()
    assert queue.letters.are_next(NOW) is False
    assert queue.letters.over() == []
    queue.give_back()
    assert queue.letters.are_next(NOW) is True
    assert keys(queue.letters.over()) == ["a"]


def test_a_letter_that_was_moved_is_done(queue: Queue) -> None:
    queue.u64[W_MAX_DELIVERIES] = 1
    queue.dead_letters()
    queue.add("a", TIME)
    queue.give_back()
    (letter,) = queue.letters.over()
    claims.of(CREATED)[letter.held] = object()
    queue.letters.settle(letter.held, moved=True)
    assert claims.of(CREATED) == {}
    assert (queue.u64[W_DEAD_LETTERS], queue.u64[W_UNMOVED], queue.u64[W_EXHAUSTED]) == (1, 0, 0)
    assert (queue.u64[W_IN_FLIGHT], queue.left()) == (0, [])


@pytest.mark.parametrize("most", [1, 0])
def test_a_letter_that_could_not_be_moved_comes_back_later(queue: Queue, most: int) -> None:
    """In a second; it counts as exhausted if it was delivered too often, and not if it is too old."""
    queue.age(10)
    queue.u64[W_MAX_DELIVERIES] = most
    queue.dead_letters()
    queue.add("a", 900.0)
    if most:
        queue.give_back()
        (letter,) = queue.letters.over()
    else:
        assert queue.letters.pass_aged()
        (letter,) = queue.letters.aged()
    claims.of(CREATED)[letter.held] = object()
    queue.letters.settle(letter.held, moved=False)
    assert claims.of(CREATED) == {}
    assert (queue.u64[W_DEAD_LETTERS], queue.u64[W_UNMOVED], queue.u64[W_EXHAUSTED]) == (0, 1, most)
    entry = queue.log.core.in_flight.first()
    assert entry
    assert entry.due == NOW + 1_000_000_000
