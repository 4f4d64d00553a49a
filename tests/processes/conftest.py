"""What the tests with processes get: an instance, and processes that are ended with the test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.processes.children import Children
from tests.processes.serve import Serve

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def serve(_no_segment_is_left: None) -> Iterator[Serve]:
    """Return the maker of this test's queues."""
    server = Serve()
    yield server
    server.stop()


@pytest.fixture
def children(serve: Serve) -> Iterator[Children]:  # noqa: ARG001 the queues go after the processes
    """Return the place where a test starts its processes."""
    started = Children()
    yield started
    started.end()
