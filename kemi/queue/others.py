# SPDX-License-Identifier: GPL-2.0-or-later
"""Other queues of the same instance that a queue needs: the one for its dead letters, and those for answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Protocol, final

from kemi.errors import SegmentMissing
from kemi.queue.catalog import header
from kemi.queue.format.item import Data
from kemi.queue.format.layout import W_CREATED
from kemi.queue.format.outcome import AddResult
from kemi.queue.shm.naming import answers_name, sibling_name
from kemi.queue.shm.segment import Segment


class OtherQueue(Protocol):
    """What is done with another queue."""

    name: str
    segment: Segment

    def add(self, key: Data, value: Data) -> AddResult:
        """Append an item."""

    def add_record(self, record: bytes) -> AddResult:
        """Append an item as its record."""

    def is_closed(self) -> bool:
        """Return True if nothing may be added."""

    def close(self) -> None:
        """Let go of it."""


@final
class Others:
    """The other queues of one queue, opened when they are needed."""

    def __init__(self, segment: Segment, attach: Callable[[str, str], OtherQueue]) -> None:
        """attach: makes one of its segment's name, and its own ("" as in that). Raises SegmentMissing, SegmentError."""
        self._segment = segment
        self._attach = attach
        # One by its name, in a process that has all of the instance at hand.
        self.sibling: Callable[[str], Any] = _none
        self._dead_letters: OtherQueue | None = None
        self._answers: Mapping[int, OtherQueue] = MappingProxyType({})  # by shard

    def dead_letter_queue(self) -> OtherQueue:
        """Return the queue for dead letters. Raises SegmentMissing, SegmentError."""
        name = header.dead_letter_of(self._segment)
        own: OtherQueue | None = self.sibling(name)
        if own is not None:
            return own
        present = self._dead_letters
        if present is None or present.name != name or not (present.segment.is_current() or _works_on(present)):
            present = self._dead_letters = self._attach(sibling_name(self._segment.name, name), name)
        return present

    def answers_queue(self, shard: int, created: int) -> OtherQueue | None:
        """Return the answers queue with that number and time of making; None if it is gone, as with its server."""
        present = self._answers.get(shard)
        if present is not None and present.segment.words[W_CREATED] == created:
            return present
        try:
            found = self._attach(answers_name(self._segment.name, shard), "")
        except SegmentMissing:
            return None
        if found.segment.words[W_CREATED] != created:
            found.close()
            return None
        self._answers = {**self._answers, shard: found}
        return found

    def close(self) -> None:
        """Let go of the queue for dead letters."""
        if self._dead_letters is not None:
            self._dead_letters.close()


def _works_on(queue: OtherQueue) -> bool:
    """Return True if its server lives, and works on with what it mapped: the file was removed or replaced under it."""
    return not queue.is_closed() and not header.is_owner_dead(queue.segment)


def _none(_name: str) -> None:
    return None
