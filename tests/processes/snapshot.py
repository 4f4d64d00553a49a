"""A queue's memory, kept and put back, so that one operation can be done again and again from the same state."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from kemi.queue.format import geometry
from kemi.queue.format.layout import ABSENT, CHUNK, W_QUOTA_ENTRY
from tests.processes.serve import registry_of

if TYPE_CHECKING:
    from kemi.queue.queue import Queue


class Snapshot:
    """What a queue's segment holds at this moment, nobody working on it, and its entry in the instance's quota."""

    def __init__(self, queue: Queue) -> None:
        self._fd = queue.segment.fd
        self._data = os.pread(self._fd, os.fstat(self._fd).st_size, 0)
        self._table = registry_of(queue)._table
        self._line = queue.segment.words[W_QUOTA_ENTRY]
        self._held = self._table[self._line]
        chunks = queue._log.core.chunks
        reserved = [number for number, state in enumerate(chunks.states()) if state != ABSENT]
        first = geometry.read(queue.segment.words).fixed_bytes()
        self._parts = [(0, first), *((chunks.offset(number), CHUNK) for number in reserved)]

    def restore(self) -> None:
        """Put it back, and nothing else."""
        os.ftruncate(self._fd, 0)
        os.ftruncate(self._fd, len(self._data))
        for offset, length in self._parts:
            os.posix_fallocate(self._fd, offset, length)
            os.pwrite(self._fd, self._data[offset : offset + length], offset)
        self._table[self._line] = self._held
