# SPDX-License-Identifier: GPL-2.0-or-later
"""Memory for a queue's chunks: the segment, behind the quota of the instance."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import final

from kemi.errors import NoMemory, SegmentError
from kemi.queue.catalog.registry import Registry
from kemi.queue.format.layout import QUOTA_ENTRIES, W_CREATED, W_QUOTA_ENTRY
from kemi.queue.shm.segment import Segment
from kemi.queue.sync.handlers import is_from_handler, suppress


@final
class InstanceMemory:
    """Implements `store.chunks.Memory`. `registry` None: no limit but what the system has.

    What is counted in the quota may be wrong after a kill; `account` makes it right when the queue is recovered.
    """

    def __init__(self, segment: Segment, registry: Registry | None) -> None:
        self._segment = segment
        self._registry = registry
        self.refused = ""  # why `reserve` was refused last, in this process

    def open(self, length: int) -> None:
        """Open an entry for a queue that holds `length` bytes: a new one, or one that is taken over."""
        if self._registry:
            words = self._segment.words
            words[W_QUOTA_ENTRY] = self._registry.open_line(length, words[W_CREATED])

    def _account(self) -> tuple[Registry, int] | None:
        """Where this queue's memory is counted; None where it is not, or not any more."""
        words = self._segment.words
        line: int = words[W_QUOTA_ENTRY]
        if self._registry and self._registry.holder(line) == words[W_CREATED]:
            return self._registry, line
        return None

    def reserve(self, offset: int, length: int) -> bool:
        """Make memory at offset usable; False if a limit or the system does not allow it."""
        account = self._account()
        if account and not account[0].grow(account[1], length):
            self.refused = _over(account[0])
            return False
        try:
            self._segment.reserve(offset, length)
        except NoMemory as error:
            self.refused = str(error)
            if account:
                account[0].shrink(account[1], length)
            return False
        return True

    def grow_by(self, grow: Callable[..., bool | None], length: int) -> bool | None:
        """Let the native kernel reserve `length` bytes, without the queue's lock; what it returns.

        grow: called with the file's descriptor, device and inode, and the address of the quota's table, the line in it,
        how many it has, and their limit.
        """
        account = self._account()
        table, line, lines, most = (account[0].place() if account else None), 0, 0, 0
        if account:
            line, lines, most = account[1], QUOTA_ENTRIES, account[0].max_memory
        descriptor = -1  # counts a refusal
        try:
            descriptor = self._segment.allow(length)
        except NoMemory as error:
            self.refused = str(error)
        else:
            self.refused = "there is no memory, or max_memory is reached" if account is None else _over(account[0])
        address = 0 if table is None else ctypes.addressof(table)
        return grow(descriptor, *self._segment.identity(), address, line, lines, most)

    def has(self, offset: int, length: int) -> bool:
        """Return True if the file reaches so far."""
        try:
            return offset + length <= self._segment.size()
        except (OSError, SegmentError) as error:
            if is_from_handler(error):
                raise
            return True  # a library closed the descriptor: nothing can be said

    def release(self, offset: int, length: int) -> None:
        """Give memory back to the system, where that can be done; nobody uses it any more in any case."""
        with suppress(OSError, SegmentError):
            self._segment.release(offset, length)
        if account := self._account():
            account[0].shrink(account[1], length)

    def account(self, length: int) -> None:
        """Note that the queue holds `length` bytes; 0 closes its entry."""
        if account := self._account():
            account[0].set_line(account[1], length)


def _over(registry: Registry) -> str:
    """Why a quota allows no more."""
    return (
        f"max_memory is reached: the queues hold {registry.memory()} of {registry.max_memory} bytes; "
        'modparam("mqueue", "max_memory", ...) raises it'
    )
