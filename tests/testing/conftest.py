"""The plugin's fixture, which an installed package brings by itself; and that of a test with queues of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kemi import app
from kemi.instance import queues
from kemi.testing.plugin import kamailio, ksr
from tests.unit.conftest import instance

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["instance", "kamailio", "ksr"]


@pytest.fixture
def server(instance: str) -> Iterator[None]:
    """Nothing is started yet; what starts ends with the test."""
    app.modparam("mqueue", "instance", instance)
    yield
    app.stop_now()
    queues.clear()
