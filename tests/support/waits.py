"""Waiting in a test for what another thread or process does."""

from __future__ import annotations

import time
from typing import Any, Callable

from tests.conftest import HANG


def until(condition: Callable[[], Any], what: str = "it", seconds: float = HANG) -> Any:
    """Look now and then, until a condition is true; return what it gave. Only what hangs takes so long."""
    deadline, pause = time.monotonic() + seconds, 0.001
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(pause)
        pause = min(pause * 1.2, 0.02)
    return found
