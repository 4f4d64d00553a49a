"""Memory for a queue's chunks: the segment, behind the limit of the instance."""

from __future__ import annotations

from kemi.errors import NoMemory
from kemi.queue.layout import W_SLOT
from kemi.queue.registry import Registry
from kemi.queue.segment import Segment


class InstanceMemory:
    """Implements `chunks.Memory`. `registry` None: no limit but what the system has."""

    def __init__(self, segment: Segment, registry: Registry | None) -> None:
        self._segment = segment
        self._registry = registry

    @property
    def _line(self) -> int:
        # Read anew: the line changes when a queue is taken over.
        return int(self._segment.words[W_SLOT])

    def reserve(self, offset: int, length: int) -> bool:
        """Make memory at offset usable; False if a limit or the system does not allow it."""
        if self._registry and not self._registry.grow(self._line, length):
            return False
        try:
            self._segment.reserve(offset, length)
        except NoMemory:
            if self._registry:
                self._registry.shrink(self._line, length)
            return False
        return True

    def release(self, offset: int, length: int) -> None:
        """Give memory back to the system."""
        self._segment.release(offset, length)
        if self._registry:
            self._registry.shrink(self._line, length)

    def truncate(self, length: int) -> None:
        """Make the file shorter, if it is longer."""
        if self._segment.size() > length:
            self._segment.truncate(length)

    def account(self, length: int) -> None:
        """After a repair: the queue holds `length` bytes."""
        if self._registry:
            self._registry.set_line(self._line, length)
