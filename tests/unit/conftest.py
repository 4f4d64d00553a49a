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
from kemi.slots import fetched
from kemi.spec import Settings
from tests.conftest import SHM

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_mock import MockerFixture

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
