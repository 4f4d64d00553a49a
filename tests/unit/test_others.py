"""The other queues of an instance that a queue uses: found at hand, opened once, opened anew when they are others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from kemi.errors import SegmentMissing
from kemi.queue.catalog import header
from kemi.queue.format.layout import W_CREATED
from kemi.queue.others import Others

if TYPE_CHECKING:
    from pytest_mock import MockerFixture


class FakeSegment:
    """One that may have lost its name."""

    def __init__(self, name: str, created: int = 1) -> None:
        self.name = name
        self.words = {W_CREATED: created}
        self.current = True

    def is_current(self) -> bool:
        return self.current


class FakeQueue:
    """One that notes that it was closed."""

    def __init__(self, full_name: str, name: str, created: int = 1) -> None:
        self.name = name
        self.segment = FakeSegment(full_name, created)
        self.ended = self.let_go = False

    def is_closed(self) -> bool:
        return self.ended

    def close(self) -> None:
        self.let_go = True


class Instance:
    """What a queue's others are opened in."""

    def __init__(self) -> None:
        self.letters = "dead"
        self.opened: list[FakeQueue] = []
        self.missing = False
        self.created = 1
        self.dead: set[int] = set()  # segments whose owner is
        self.others = Others(FakeSegment("mqk.i.q"), self.attach)  # type: ignore[arg-type]

    def attach(self, full_name: str, name: str) -> Any:
        if self.missing:
            raise SegmentMissing(full_name)
        self.opened.append(FakeQueue(full_name, name, self.created))
        return self.opened[-1]


@pytest.fixture
def instance(mocker: MockerFixture) -> Instance:
    """Return an instance whose queue has a dead letter queue."""
    instance = Instance()
    mocker.patch.object(header, "dead_letter_of", side_effect=lambda _segment: instance.letters)
    mocker.patch.object(header, "is_owner_dead", side_effect=lambda segment: id(segment) in instance.dead)
    return instance


def test_the_dead_letter_queue_is_opened_once(instance: Instance) -> None:
    """By its name in the same instance."""
    found = instance.others.dead_letter_queue()
    assert instance.others.dead_letter_queue() is found
    assert [(each.segment.name, each.name) for each in instance.opened] == [("mqk.i.dead", "dead")]


def test_a_queue_at_hand_is_not_opened(instance: Instance) -> None:
    at_hand = FakeQueue("mqk.i.dead", "dead")
    instance.others.sibling = {"dead": at_hand}.__getitem__
    found: object = instance.others.dead_letter_queue()
    assert found is at_hand
    assert not instance.opened


def test_another_name_is_another_queue(instance: Instance) -> None:
    """A reload may set it."""
    first = instance.others.dead_letter_queue()
    instance.letters = "later"
    second = instance.others.dead_letter_queue()
    assert second is not first
    assert instance.others.dead_letter_queue() is second
    assert [each.name for each in instance.opened] == ["dead", "later"]


@pytest.mark.parametrize(
    ("ended", "owner_dead", "kept"), [(False, False, True), (True, False, False), (False, True, False)]
)
def test_a_queue_whose_name_is_gone(instance: Instance, ended: bool, owner_dead: bool, kept: bool) -> None:
    """It is used while its server works on with it; a new one is looked for when that has ended it, or is dead."""
    first = instance.others.dead_letter_queue()
    queue = instance.opened[0]
    queue.segment.current = False
    queue.ended = ended
    if owner_dead:
        instance.dead.add(id(queue.segment))
    assert (instance.others.dead_letter_queue() is first) is kept
    assert len(instance.opened) == (1 if kept else 2)


def test_a_queue_in_its_place_is_not_judged_by_its_owner(instance: Instance) -> None:
    """Between two servers the name leads to it still, and it takes what it is given."""
    first = instance.others.dead_letter_queue()
    instance.dead.add(id(instance.opened[0].segment))
    assert instance.others.dead_letter_queue() is first


def test_an_answers_queue_is_opened_once_for_each_number(instance: Instance) -> None:
    first = instance.others.answers_queue(0, 1)
    second = instance.others.answers_queue(1, 1)
    assert first is not None
    assert first is not second
    assert (instance.others.answers_queue(0, 1), instance.others.answers_queue(1, 1)) == (first, second)
    assert len(instance.opened) == 2


def test_an_answers_queue_of_another_server_is_none(instance: Instance) -> None:
    """What was asked of the one that is gone is not answered to the next one; it is let go of."""
    instance.created = 2
    assert instance.others.answers_queue(0, 1) is None
    assert instance.opened[0].let_go
    found = instance.others.answers_queue(0, 2)
    assert found is not None
    assert not instance.opened[1].let_go
    instance.created = 3  # a server again: the same number, made anew
    assert instance.others.answers_queue(0, 3) is not found
    assert instance.others.answers_queue(0, 3) is not None


def test_an_answers_queue_that_is_gone_is_none(instance: Instance) -> None:
    instance.missing = True
    assert instance.others.answers_queue(0, 1) is None


def test_close_lets_go_of_the_dead_letter_queue(instance: Instance) -> None:
    """If it was ever opened."""
    instance.others.close()
    instance.others.dead_letter_queue()
    instance.others.close()
    assert instance.opened[0].let_go
