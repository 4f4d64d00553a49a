"""How much is done with one lock, as a number, where the real `LockTime` looks at a clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kemi.queue.sync.clock import LockTime

if TYPE_CHECKING:
    from pytest_mock import MockerFixture


def at_a_time(mocker: MockerFixture, most: int) -> None:
    """Have so many things done with one lock, however long they take."""
    left: dict[int, int] = {}

    def begin(self: LockTime) -> None:
        left[id(self)] = most

    def is_left(self: LockTime) -> bool:
        left[id(self)] = left.get(id(self), most) - 1
        return left[id(self)] > 0

    mocker.patch.object(LockTime, "begin", begin)
    mocker.patch.object(LockTime, "is_left", is_left)
