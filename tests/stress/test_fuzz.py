"""Whatever lies in a segment: a clear error or a consistent queue, never a crash, a hang, or memory beyond its own."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Callable

import pytest

from kemi.queue.segment import SHM_DIR
from tests.stress import crowd

if TYPE_CHECKING:
    from collections.abc import Iterator

MUTANTS, MANY_MUTANTS = 3_000, 1_000_000


@pytest.fixture
def instances() -> Iterator[list[str]]:
    """Return one instance for each process that tries mutants; what they leave is taken away."""
    names = [f"fuzz-{os.getpid()}-{number}" for number in range(min(4, os.cpu_count() or 1))]
    yield names
    for name in names:
        for path in Path(SHM_DIR).glob(f"mqk.{name}*"):
            path.unlink()


@pytest.mark.timeout(4 * 3600)
def test_mutated_segments(instances: list[str], stress: bool, seed: int, say: Callable[[str], None]) -> None:
    """Header, map, directory, records, key index, lock and length; one process in a crowd may crash without harm."""
    count = MANY_MUTANTS if stress else MUTANTS
    begin = time.monotonic()
    outcomes, failures = crowd.run("tests.stress.mutants", instances, seed, count)
    if stress:
        say(f"{count} mutants, seed {seed}, {time.monotonic() - begin:.0f} s: {outcomes}, {len(failures)} failed")
    assert failures == [], f"seed {seed}: {len(failures)} failed:\n" + "\n".join(map(str, failures[:20]))
    # Mutants that are all refused would try nothing behind the first look.
    assert min(outcomes.values()) > count / 100, outcomes
