"""Two queues, one of each kernel, and what is the same of both."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kemi.queue.catalog import header
from kemi.queue.format.layout import CHUNK
from kemi.queue.kernel import choice
from tests.kernel.pairs import Pair
from tests.processes.conftest import children, serve  # noqa: F401 - fixtures
from tests.unit.conftest import instance, ksr, server  # noqa: F401 - fixtures

if TYPE_CHECKING:
    from collections.abc import Iterator

if choice.lib is None:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(params=[0, 1, 2], ids=["plain", "keep the oldest", "keep the newest"])
def pair(request: pytest.FixtureRequest, instance: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:  # noqa: F811
    """Give a queue with the native kernel, and one without, of each addmode; with few buckets, so that they divide."""
    monkeypatch.setattr(header, "_BUCKET_BYTES", CHUNK // 16)
    both = Pair(instance, request.param)
    yield both
    both.remove()
