"""Wild stores into a queue while processes use it: an error that names the queue, or a result; no fault, no hang."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.conftest import CHECKOUT

SECONDS = 20.0
LONG = [pytest.param(part, marks=pytest.mark.stress) for part in range(1, 16)]


@pytest.mark.parametrize("part", [0, *LONG])
def test_wild_stores_into_a_queue_in_use(part: int, stress: bool) -> None:
    """Each seed is a round with a queue of its own; what must not come is told with its seed."""
    seconds = 4 * SECONDS if stress else SECONDS
    command = [sys.executable, "-m", "tests.processes.wild", f"wild-{os.getpid()}", str(part * 100_000), str(seconds)]
    done = subprocess.run(command, cwd=CHECKOUT, check=False, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["wrong"] == []
    assert found["came"]["result"] > 100
    assert found["came"].get("SegmentError", 0) > 0, f"no store was noticed in {found['rounds']} rounds"
