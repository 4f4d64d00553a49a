# SPDX-License-Identifier: GPL-2.0-or-later
"""Taking items so that an exception loses none.

An item that was taken and then not delivered goes back to the queue: by `Queue.reserve` to its head, where the queue
has that, else as a new item at its end.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

from kemi.cli import signals
from kemi.cli.lines import json_line
from kemi.cli.output import say
from kemi.errors import MqueueError
from kemi.queue.format.item import Item

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Optional

    from kemi.cli.call import AnyQueue

    Taking = Callable[[Optional[float]], AbstractContextManager[Optional[Item]]]

_SLICE = 1.0  # seconds


def taking(queue: AnyQueue, reserve: bool) -> Taking:
    """How to take one item: a context manager for a time to wait, seconds. An exception in its block puts it back.

    reserve: the item stays in shared memory until the block ends, so that not even the death of this process loses it.
    """
    return queue.reserve if reserve else lambda timeout: _fetched(queue, timeout)


@contextmanager
def _fetched(queue: AnyQueue, timeout: float | None) -> Iterator[Item | None]:
    item = queue.fetch(timeout)
    try:
        yield item
    except BaseException:
        if item is not None:
            put_back(queue, [item])
        raise


@contextmanager
def waiting(take: Taking, timeout: float) -> Iterator[Item | None]:
    """Take an item within `timeout` seconds (math.inf: for ever), or give None.

    In slices: a signal that is noted just before a sleep would else be heeded only at the end of it.
    """
    deadline = time.monotonic() + timeout
    while True:
        signals.check()
        left = deadline - time.monotonic()
        with take(max(0.0, min(left, _SLICE))) as item:
            if item is not None or left <= _SLICE:
                yield item
                return


def put_back(queue: AnyQueue, items: Sequence[Item]) -> None:
    """Add again what was taken and not delivered; what the queue does not take any more is told on stderr."""
    for item in items:
        try:
            outcome = queue.add(item.key, item.value)
            why = None if outcome else queue.reason(outcome)
        except MqueueError as error:
            why = str(error)
        if why is not None:
            say(f"taken and not put back ({why}): ", json_line(item).decode())


def add_all(queue: AnyQueue, pairs: Sequence[tuple[str | bytes, str | bytes]]) -> tuple[int, str | None]:
    """Add pairs. Returns how many were added before the first that was not, and why that one was not."""
    try:
        outcomes = queue.add_many(pairs)
    except MqueueError as error:
        return 0, str(error)
    refused = next((number for number, outcome in enumerate(outcomes) if not outcome), None)
    return (len(pairs), None) if refused is None else (refused, queue.reason(outcomes[refused]))
