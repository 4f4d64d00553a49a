"""Wherever memory or Python's stack is at its end in a call: its lock is free afterwards, and no item is lost."""

from __future__ import annotations

import gc
import sys
import threading
from contextlib import suppress
from errno import ENOTRECOVERABLE
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from kemi.queue.lock.mutex import trylock, unlock
from kemi.queue.queue import Queue
from tests.unit.children import in_child

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Call = Callable[[Queue], object]

pytestmark = pytest.mark.python_code

KEYS = ["a", "b", "c"]


def block(queue: Queue) -> None:
    """Reserve an item, and be done with it."""
    with queue.reserve():
        pass


def given_back(queue: Queue) -> None:
    """Reserve an item, and give it back."""
    with queue.reserve() as item:
        assert item is not None
        item.give_back()


def batch(queue: Queue) -> None:
    """Reserve several items, and be done with them."""
    with queue.reserve_many(2) as items:
        assert len(items) == 2


# How many items each takes.
CALLS: dict[str, tuple[Call, int]] = {
    "add": (lambda queue: queue.add("new", "v"), 0),
    "add_many": (lambda queue: queue.add_many([("new", "v"), ("newer", "v")]), 0),
    "fetch": (lambda queue: queue.fetch(), 1),
    "fetch_many": (lambda queue: queue.fetch_many(2), 2),
    "reserve": (block, 1),
    "give_back": (given_back, 0),
    "reserve_many": (batch, 2),
    "peek": (lambda queue: queue.peek(None, reserved=True), 0),
    "stats": (lambda queue: queue.stats(), 0),
    "clear": (lambda queue: queue.clear(), 3),
}
EACH = pytest.mark.parametrize("name", CALLS)


STRESS = pytest.mark.stress


@pytest.fixture(params=[0, pytest.param(1, marks=STRESS), pytest.param(2, marks=STRESS)], ids="addmode {}".format)
def queue(instance: str, request: pytest.FixtureRequest) -> Iterator[Queue]:
    queue = Queue.create(instance, "q", window=1 << 20, addmode=request.param)
    yield queue
    queue.remove()
    queue.close()


def filled(queue: Queue, call: Call) -> None:
    """Have three items in it, and everything at hand that a call needs."""
    while queue.fetch():
        pass
    for key in KEYS:
        queue.add(key, "v")
    call(queue)
    while queue.fetch():
        pass
    for key in KEYS:
        queue.add(key, "v")


def judge(queue: Queue, taken: int, where: str) -> None:
    """The lock is free, or left for a repair; of the items at most so many are gone; nothing is half done."""
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(_try(queue)))
    thread.start()
    thread.join()
    assert codes[0] in (0, ENOTRECOVERABLE), f"{where}: the lock is held ({codes[0]})"
    queue.add("after", "v")
    assert queue.handle.verify() == [], where
    keys = [item.key for item in iter(queue.fetch, None)]
    assert keys.pop() == "after", where
    assert len(keys) == len(set(keys)), where
    assert len(set(KEYS) & set(keys)) >= len(KEYS) - taken, f"{where}: {keys}"
    assert queue.stats().reserved == 0, where


def _try(queue: Queue) -> int:
    code = trylock(queue._mutex.ref)
    if not code:
        unlock(queue._mutex.ref)
    return code


@EACH
@in_child
def test_the_stack_is_at_its_end(queue: Queue, name: str) -> None:
    """At each depth of a call; RecursionError comes also out of what puts things right after it."""
    call, taken = CALLS[name]
    room, raised = 1, 0
    while True:
        filled(queue, call)
        try:
            _deep(_depth() - room, partial(call, queue))
        except Exception as error:
            if not isinstance(error, RecursionError) and "RecursionError" not in str(error):  # ctypes' ArgumentError
                raise
            raised += 1
        else:
            assert raised
            return
        judge(queue, taken, f"{room} calls deep")
        room += 1


def _depth() -> int:
    depth = 0

    def down() -> None:
        nonlocal depth
        depth += 1
        down()

    with suppress(RecursionError):
        down()
    return depth


def _deep(number: int, call: Callable[[], object]) -> None:
    if number:
        _deep(number - 1, call)
    else:
        call()


# Seen with a function that makes another one, without anything of ours.
@pytest.mark.skipif(sys.version_info >= (3, 12), reason="CPython itself crashes where a nested function gets no memory")
@EACH
@in_child
def test_there_is_no_memory(queue: Queue, name: str) -> None:
    """For each allocation of a call by itself."""
    interpreter: Any = pytest.importorskip("_testcapi")
    call, taken = CALLS[name]
    number, raised, quiet = 0, 0, 0
    gc.disable()  # its callbacks need memory, too
    sys.settrace(None)  # what a tracer raises in a `finally` leaves the rest of it undone
    while quiet < 5:  # an allocation that C code can do without is followed by others
        number += 1
        filled(queue, call)
        try:
            try:
                interpreter.set_nomemory(number, number + 1)
                call(queue)
            finally:
                interpreter.remove_mem_hooks()
        except MemoryError:
            raised += 1
            quiet = 0
        else:
            quiet += 1
        judge(queue, taken, f"allocation {number}")
    assert raised > 2
