"""What the tests that break things get: seeds that are said, and everything ended with the test."""

from __future__ import annotations

import os
import random
from typing import Callable

import pytest

from tests.processes.conftest import children, serve
from tests.server.conftest import _no_process_is_left, _reaper, pytest_runtest_makereport, servers

__all__ = ["_no_process_is_left", "_reaper", "children", "pytest_runtest_makereport", "serve", "servers"]


@pytest.fixture
def seed(record_property: Callable[[str, object], None]) -> int:
    """Return where the random numbers of this run begin: MQUEUE_SEED, the same ones on every CI run, or new ones."""
    new = 1 if os.environ.get("CI") else random.randrange(1 << 32)  # noqa: S311 no secret
    chosen = int(os.environ.get("MQUEUE_SEED") or new)
    record_property("seed", chosen)
    return chosen


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Return what prints a line about a long run, whether it fails or not."""

    def print_it(text: str) -> None:
        with capsys.disabled():
            print(f"\n{text}", flush=True)  # noqa: T201 the figures of a run

    return print_it
