# SPDX-License-Identifier: GPL-2.0-or-later
"""The instance's own segment: which process it belongs to, and how much memory its queues hold together.

One line of the table for each queue, written only under that queue's lock. So two queues that grow in the same moment
may each see the other's old line; the limit can be passed by one chunk for each of them, not by more.
"""

from __future__ import annotations

from typing import Any

from kemi.errors import ConfigError
from kemi.owner import Owner
from kemi.queue.catalog import header
from kemi.queue.format import layout
from kemi.queue.lock.mutex import Mutex
from kemi.queue.lock.section import hold
from kemi.queue.shm.naming import segment_name
from kemi.queue.shm.segment import PRIVATE, Access, Segment
from kemi.queue.shm.trust import CLIENT_ADVICE, Users

_check = header.checker(layout.INSTANCE_MAGIC, "instance")
# Most instances have no more queues, and a sum of the whole table takes longer than all else that a new chunk costs.
_FIRST = 64
_MOST = (1 << 64) - 1  # what a line can hold, whatever a wild store left there
_NO_LATER = bytes(8 * (layout.QUOTA_ENTRIES - _FIRST))


class Registry:
    """What the queues of one instance share."""

    def __init__(self, segment: Segment, lock_timeout: float) -> None:
        self.segment = segment
        self._words = segment.words
        quota, ids = layout.QUOTA_AT // 8, layout.QUOTA_IDS_AT // 8
        self._table = segment.words[quota : quota + layout.QUOTA_ENTRIES]
        self._first, self._later = self._table[:_FIRST], self._table[_FIRST:]
        self._holders = segment.words[ids : ids + layout.QUOTA_ENTRIES]
        # Nothing to repair: each store is complete in itself.
        self.lock = Mutex(segment, lock_timeout, lambda: None, lambda: 0)

    @classmethod
    def create(
        cls, instance: str, owner: Owner, max_memory: int, lock_timeout: float = 1.0, access: Access = PRIVATE
    ) -> Registry:
        """Make the segment of a new instance. Raises FileExistsError when there is one."""

        def fill(segment: Segment) -> None:
            header.write(segment, layout.INSTANCE_MAGIC, owner)
            segment.words[layout.W_MAX_MEMORY] = max_memory

        size = layout.INSTANCE_BYTES
        segment = Segment.create(segment_name(instance), size, size, fill, access)
        return cls(segment, lock_timeout)

    @classmethod
    def attach(
        cls, instance: str, lock_timeout: float = 1.0, users: Users | None = None, advice: str = CLIENT_ADVICE
    ) -> Registry:
        """Map the segment of an instance that exists. Raises SegmentMissing, NotAllowed, SegmentError.

        users: whom it may belong to, see `Segment.attach`.
        """
        return cls(Segment.attach(segment_name(instance), _check, users, advice), lock_timeout)

    def owner(self) -> Owner:
        """Return the process that made the instance, or took it over from a dead one."""
        return header.owner_of(self.segment)

    def claim(self, owner: Owner, max_memory: int) -> None:
        """Take over from a dead owner. Raises InstanceInUse when it is not proved dead."""

        def claim() -> None:
            header.refuse_living(
                self.segment,
                "instance",
                'stop that server, or give this one another name with modparam("mqueue", "instance", "...")',
            )
            header.set_owner(self.segment, owner)
            self._words[layout.W_MAX_MEMORY] = max_memory
            # Each queue that is taken over opens a line anew; what is not taken over does not count.
            for line in range(layout.QUOTA_ENTRIES):
                self._table[line] = self._holders[line] = 0

        hold(self.lock, claim)

    @property
    def max_memory(self) -> int:
        """Bytes that the queues may hold together."""
        return int(self._words[layout.W_MAX_MEMORY])

    def set_max_memory(self, limit: int) -> None:
        """Change it. Queues that hold more keep what they have."""
        self._words[layout.W_MAX_MEMORY] = limit

    def memory(self) -> int:
        """Bytes that the queues hold together."""
        return sum(self._first if bytes(self._later) == _NO_LATER else self._table)

    def open_line(self, length: int, holder: int = 0) -> int:
        """Return a line of the table for a queue (known by its time of creation) that holds `length` bytes."""

        def open_line() -> int | None:
            for number, held in enumerate(self._table):
                if not held:
                    self._holders[number] = holder
                    self._table[number] = length
                    return number
            return None

        line = hold(self.lock, open_line)
        if line is not None:
            return line
        raise ConfigError(f"an instance can have {layout.QUOTA_ENTRIES} queues at most")

    def holder(self, line: int) -> int:
        """Which queue the line is for. A queue that was closed may still be drained, when another has its line.

        -1 where there is no such line: a wild store may have hit the number.
        """
        return int(self._holders[line]) if line < layout.QUOTA_ENTRIES else -1

    def grow(self, line: int, length: int) -> bool:
        """Count `length` bytes more for a queue. Return False if the limit does not allow it."""
        # First the own line, then the sum, so that of two queues at the limit one at least sees the other.
        self._table[line] = min(self._table[line] + length, _MOST)
        if self.memory() <= self.max_memory:
            return True
        self.shrink(line, length)
        return False

    def place(self) -> Any:
        """Return a C object on the table, for a call that wants its address. The mapping lives as long as it does."""
        return self.segment.reference(layout.QUOTA_AT, 8 * layout.QUOTA_ENTRIES)

    def shrink(self, line: int, length: int) -> None:
        """Note that a queue gave `length` bytes back."""
        # Less than it had: its line was cleared by a new owner, who has not yet counted it anew.
        self._table[line] = max(0, self._table[line] - length)

    def set_line(self, line: int, length: int) -> None:
        """Note that a queue holds `length` bytes; 0 closes its line."""
        self._table[line] = max(0, min(length, _MOST))
