"""The pytest plugin: the fixture `ksr`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kemi.testing.fake import FakeKSR

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def ksr() -> Iterator[FakeKSR]:
    """A fake KSR, which `import KSR` gives during the test; queues are private to the test and end with it."""
    with FakeKSR().installed() as fake:
        yield fake
