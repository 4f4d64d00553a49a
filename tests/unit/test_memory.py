"""A queue's memory behind the quota of its instance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kemi.errors import NoMemory, SegmentError
from kemi.owner import this_process
from kemi.queue.catalog.memory import InstanceMemory
from kemi.queue.catalog.registry import Registry
from kemi.queue.format.layout import CHUNK
from kemi.queue.queue import Queue

if TYPE_CHECKING:
    from pytest_mock import MockerFixture

    from kemi.queue.shm.segment import Segment


@pytest.fixture
def registry(instance: str) -> Registry:
    """Return the registry of a new instance."""
    return Registry.create(instance, this_process(), 1 << 30)


@pytest.fixture
def segment(instance: str, registry: Registry) -> Segment:
    """Return the segment of a queue that is counted in it."""
    return Queue.create(instance, "q", window=1 << 20, registry=registry).segment


def test_memory_that_the_system_refuses_is_not_counted(
    registry: Registry, segment: Segment, mocker: MockerFixture
) -> None:
    """The quota is as before, and the reason is the system's."""
    before = registry.memory()
    mocker.patch.object(segment, "reserve", side_effect=NoMemory("no space left on /dev/shm"))
    memory = InstanceMemory(segment, registry)
    assert not memory.reserve(segment.size(), CHUNK)
    assert memory.refused == "no space left on /dev/shm"
    assert registry.memory() == before


def test_memory_beyond_the_quota_is_refused_with_its_numbers(registry: Registry, segment: Segment) -> None:
    """Nothing is asked of the system, and nothing is counted."""
    held, size = registry.memory(), segment.size()
    registry.set_max_memory(held)
    memory = InstanceMemory(segment, registry)
    assert not memory.reserve(size, CHUNK)
    assert f"the queues hold {held} of {held} bytes" in memory.refused
    assert (registry.memory(), segment.size()) == (held, size)


def test_memory_is_there_up_to_the_end_of_the_file(registry: Registry, segment: Segment, mocker: MockerFixture) -> None:
    """To the last byte; and where the size cannot be read, nothing speaks against it."""
    memory, size = InstanceMemory(segment, registry), segment.size()
    assert memory.has(size - 8, 8)
    assert not memory.has(size - 8, 9)
    assert not memory.has(size, 1)
    mocker.patch.object(segment, "size", side_effect=SegmentError("no descriptor"))
    assert memory.has(size, 1)
