# SPDX-License-Identifier: GPL-2.0-or-later
"""Refused adds in the log: one line a minute for each queue and reason, from all processes of the server together.

A full queue refuses thousands of items a second. Each line after the first says how many came meanwhile.
"""

from __future__ import annotations

import mmap
import time
from collections.abc import Callable, Iterable

from kemi.queue.format.outcome import AddResult
from kemi.server import log

SECONDS = 60
_QUEUES = 1024
_REASONS = 8
_WORDS = 2  # of each: when a line was written last, in seconds of the monotonic clock; how many adds had none since

# Anonymous and shared: what is forked from this process counts together with it. Only what is touched takes memory.
_memory = memoryview(mmap.mmap(-1, _QUEUES * _REASONS * _WORDS * 8)).cast("Q")
_NOTHING = memoryview(bytes(_REASONS * _WORDS * 8)).cast("Q")
_numbers: dict[str, int] = {}  # of the queues, the same in all processes for those that were there before the fork


def prepare(queues: Iterable[str]) -> None:
    """A server starts with these queues: their lines are counted in all of its processes together. Before the fork."""
    _numbers.clear()
    for name in queues:
        _memory[_number(name) * _REASONS * _WORDS : (_number(name) + 1) * _REASONS * _WORDS] = _NOTHING


def _number(queue: str) -> int:
    return _numbers.setdefault(queue, len(_numbers) % _QUEUES)


def tell(queue: str, outcome: AddResult, reason: Callable[[AddResult], str]) -> None:
    """Write a line, unless there was one of that kind within the last minute. Races between processes cost a count."""
    at = (_number(queue) * _REASONS + outcome % _REASONS) * _WORDS
    now, last = int(time.monotonic()) + 1, _memory[at]
    if last and now - last < SECONDS:
        _memory[at + 1] += 1
        return
    more, _memory[at], _memory[at + 1] = _memory[at + 1], now, 0
    rest = f" ({more} more such adds were refused in the {now - last} s before)" if more else ""
    log.error(f"mq_add({queue!r}): not added: {reason(outcome)}{rest}")
