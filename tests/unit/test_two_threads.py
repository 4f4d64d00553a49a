"""Two threads use a queue for the first time at once: whatever one has done so far, the other's items are its own."""

from __future__ import annotations

import sys
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

import mqueue_kemi
from kemi import app
from kemi.queue.client.attached import AttachedQueue
from kemi.queue.delivery import holders, holding
from kemi.queue.sync import lifelock, openfile
from tests.conftest import HANG

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    Take = Callable[[AttachedQueue], Any]

pytestmark = pytest.mark.python_code

ROOMS = tuple(module.__file__ for module in (holders, holding, lifelock, openfile))
BLOCKED = 0.02  # seconds; a thread that waits for the other one goes on after it


def reserve(queue: AttachedQueue) -> Any:
    """Take one item."""
    return queue.reserve().take()


def reserve_many(queue: AttachedQueue) -> Any:
    """Take one item, in a batch."""
    (item,) = queue.reserve_many(1).take()
    return item


@pytest.fixture
def name(instance: str, server: Any) -> str:  # noqa: ARG001 - its instance
    app.modparam("mqueue", "mqueue", "name=q;max_deliveries=9")
    mqueue_kemi.mod_init(object())
    return instance


class Interposed:
    """Runs `other` in a thread of its own, when the thread that is traced comes to its line of a number."""

    def __init__(self, number: int, other: Callable[[], None]) -> None:
        self.left = number
        self.thread = threading.Thread(target=other)

    def call(self, work: Callable[[], None]) -> bool:
        """Return True if `work` had so many lines; both have ended then."""

        def run() -> None:
            sys.settrace(self._trace)
            work()

        first = threading.Thread(target=run)
        first.start()
        first.join()
        if self.left > 0:
            return False
        self.thread.join()
        return True

    def _trace(self, frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code.co_filename not in ROOMS:
            return None
        if event == "line":
            self.left -= 1
            if not self.left:
                self.thread.start()
                self.thread.join(BLOCKED)
        return self._trace


@pytest.mark.parametrize("apart", [False, True], ids=["one object", "two objects"])
@pytest.mark.parametrize(("first", "second"), [(reserve, reserve), (reserve_many, reserve), (reserve, reserve_many)])
def test_a_first_reservation_in_the_middle_of_another(name: str, first: Take, second: Take, apart: bool) -> None:
    """At each line: both have an item of their own, and nobody takes either for one that was given up."""
    number, reached = 0, True
    while reached:
        number += 1
        one, looker = (AttachedQueue(name, "q", lock_timeout=HANG) for _ in range(2))
        other = AttachedQueue(name, "q", lock_timeout=HANG) if apart else one
        looker.add_many([("a", "1"), ("b", "2"), ("c", "3")])
        taken: list[Any] = []
        interposed = Interposed(number, partial(_take, second, other, taken))
        reached = interposed.call(partial(_take, first, one, taken))
        left = list(iter(looker.fetch, None))
        assert (len(left), looker.stats().reserved) == (3 - len(taken), len(taken)), f"at line {number}"
        assert len(taken) == 1 + reached
        assert all(item.done() for item in taken)
        for queue in (one, other, looker):
            queue.close()
    assert number > 20


def _take(take: Take, queue: AttachedQueue, taken: list[Any]) -> None:
    taken.append(take(queue))
