"""The chunks whose bounds a log knows: after an exception at any instruction they are those of one chunk, or none.

Bounds of two chunks would let a record be written, or read, across the end of a chunk.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

from kemi.queue.adding import record_of
from kemi.queue.queue import Queue

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

WINDOW = 16 << 20
VALUE = "v" * 70_000  # some in a chunk
_LOGS = ("kemi.queue.log.plain", "kemi.queue.log.keyed")


class Boom(Exception):
    """What comes at an instruction."""


def _broken_off(call: Callable[[], object], at: int) -> bool:
    """Raise at the `at`th instruction of a log's own code; return whether it had as many."""
    left = at

    def trace(frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal left
        if frame.f_globals.get("__name__") not in _LOGS:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            left -= 1
            if left == 0:
                sys.settrace(None)
                raise Boom
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    except Boom:
        return True
    finally:
        sys.settrace(before)
    return False


def _bounds(queue: Queue) -> list[tuple[int, int]]:
    log: Any = queue._log
    names = [("tail_low", "tail_end"), ("head_low", "head_end")]
    prefix = "_" if queue.addmode else ""
    return [(getattr(log, prefix + low), getattr(log, prefix + end)) for low, end in names]


def _add(queue: Queue, number: int) -> None:
    """Append as `add` does with most Pythons: with 3.9 it goes another way, where no bounds are known."""
    record = record_of(f"key {number}", VALUE)
    queue.handle.work(lambda: queue._log.append(record, len(record)))


CALLS: list[Callable[[Queue], object]] = []
for _number in range(3):  # through the chunks, and back to the first
    CALLS += [lambda queue, n=n: _add(queue, n) for n in range(5)]  # type: ignore[misc]
    CALLS += [lambda queue: queue.handle.work(queue._log.pop)] * 5


def _changes(instance: str, addmode: int) -> list[int]:
    """Which of the calls turn to other bounds."""
    queue = Queue.create(instance, "q", window=WINDOW, addmode=addmode)
    found = []
    for number, call in enumerate(CALLS):
        before = _bounds(queue)
        call(queue)
        if _bounds(queue) != before:
            found.append(number)
    queue.remove()
    return found


@pytest.mark.parametrize("addmode", [0, 2])
def test_they_are_those_of_one_chunk(instance: str, addmode: int) -> None:
    # Python 3.12 tells of the instructions of a function from its second traced call on.
    _broken_off(lambda: _changes(instance, addmode), 1 << 30)
    changes = _changes(instance, addmode)
    assert len(changes) > 3
    for number in changes[:6]:
        at, broken_off = 0, True
        while broken_off:
            at += 1
            queue = Queue.create(instance, "q", window=WINDOW, addmode=addmode)
            for call in CALLS[:number]:
                call(queue)
            broken_off = _broken_off(lambda: CALLS[number](queue), at)  # noqa: B023 - called at once
            size = queue._log.core.chunks.size
            for low, end in _bounds(queue):
                assert not end or low // size == (end - 1) // size, (number, at)
            queue.remove()
        assert 5 < at < 2000
