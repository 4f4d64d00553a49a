"""What several unit tests need: a name of one's own in shared memory, and a server that is not there."""

from __future__ import annotations

import gc
import os
import sys
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from kemi import app
from kemi.instance import queues
from kemi.owner import this_process
from kemi.queue.catalog import header
from kemi.queue.format import layout
from kemi.queue.queue import Queue
from kemi.queue.shm import limits, rooms
from kemi.queue.shm.segment import Segment
from kemi.slots import fetched
from kemi.spec import Settings
from tests.conftest import SHM
from tests.unit.hosts import Host
from tests.unit.locks import Repair, locked_by
from tests.unit.queues import WINDOW

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pytest_mock import MockerFixture

    from kemi.queue.lock.mutex import Mutex

_numbers = count()


@pytest.fixture
def instance(_no_segment_is_left: None) -> Iterator[str]:
    """Give the name of an instance that no other test has; what is left of it is removed."""
    name = f"unit-{os.getpid()}-{next(_numbers)}"
    yield name
    for path in SHM.glob(f"mqk.{name}*"):
        path.unlink()


@pytest.fixture
def swept() -> None:
    """Let a test count descriptors, mappings or CPU: the rubbish of earlier tests does not go away in the middle."""
    gc.collect()


@pytest.fixture
def ksr(mocker: MockerFixture) -> Any:
    """Return the KSR of a server that is not there."""
    module = mocker.MagicMock(name="KSR")
    mocker.patch.dict(sys.modules, {"KSR": module})
    return module


@pytest.fixture
def server(instance: str, mocker: MockerFixture, ksr: Any) -> Iterator[Any]:
    """Give the KSR of a server that starts with nothing defined, in an instance of its own, and ends with the test."""
    mocker.patch.object(app, "_running", None)
    mocker.patch.object(app, "_collected", Settings())
    app.modparam("mqueue", "instance", instance)
    yield ksr
    app.stop_now()
    queues.clear()
    fetched.clear()


_kept: list[Segment] = []


@pytest.fixture
def segment(instance: str) -> Segment:
    """Return a page with a lock in it."""
    return Segment.create(
        f"mqk.{instance}", 4096, 4096, lambda segment: header.write(segment, layout.MAGIC, this_process())
    )


@pytest.fixture
def repair(segment: Segment) -> Repair:
    """Return how the lock's owner repairs."""
    return Repair(segment)


@pytest.fixture
def lock(segment: Segment, repair: Repair) -> Iterator[Mutex]:
    """Give the lock."""
    lock = locked_by(segment, repair)
    yield lock
    # A lock that a test left held must not vanish with its memory: the C library walks to it later.
    _kept.append(segment)


@pytest.fixture
def make(instance: str) -> Iterator[Callable[..., Queue]]:
    """Give a way to make the queue q."""
    made = []

    def make(**properties: Any) -> Queue:
        queue = Queue.create(instance, "q", **{"window": WINDOW, **properties})
        made.append(queue.segment)
        return queue

    yield make
    for segment in made:
        segment.close()
    # A lock that a test left held must not vanish with its memory: the C library walks to it later.
    _kept.extend(made)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setattr(rooms, "PROC", str(tmp_path / "proc"))
    monkeypatch.setattr(rooms, "_found", {})
    monkeypatch.setattr(limits, "_budget", [(0.0, 0)])
    return Host(tmp_path)
