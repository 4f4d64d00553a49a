"""What users write around a queue, run; that type checkers find nothing in it is told in tests/package."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from kemi.owner import this_process
from kemi.queue.catalog.registry import Registry
from kemi.queue.queue import Queue
from tests.conftest import CHECKOUT, HANG


def test_the_programs_do_what_they_say(instance: str) -> None:
    registry = Registry.create(instance, this_process(), 64 << 20)
    for name, limits in {"a": (0, 0), "b": (10, 0), "c": (0, 64)}.items():
        Queue.create(instance, name, window=16 << 20, registry=registry, size_limit=limits[0], byte_limit=limits[1])
    program = CHECKOUT / "tests/package/programs/clients.py"
    argv = [sys.executable, "-bb", "-W", "error", str(program), instance]
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    done = subprocess.run(argv, capture_output=True, text=True, timeout=2 * HANG, check=False, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {
        "refused": [],
        "carried": 2,
        "loaded": 2,
        "rows": [["1", "x"], ["2", "y"]],
        "call": "bob",
        "by hand": [0, True, True],
        "child": 0,
        "from a child": ["a child", "another"],
        "in a loop": ["first", "last"],
        "filled": {"a": 0.0, "b": 0.0, "c": 0.0},
        "full": "FULL",
        "unknown": True,
    }
