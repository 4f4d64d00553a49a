"""Thousands of damaged segments, each used in another process: always a clear error or a queue that works."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from tests.unit.children import CHECKOUT

COUNT, STRESS_COUNT = 200, 5_000
SECONDS = 3  # that a process may need for one of them, measured or on a busy machine; a call that hangs ends by itself
REGIONS = ["header", "journal", "in flight", "cursors", "lock", "map", "chunks", "records", "length"]


def failures(instance: str, where: str, addmode: int, count: int) -> list[str]:
    """Try mutations; return what each one that failed was, and how."""
    found = []
    first = 0
    while first < count:
        command = [sys.executable, "-bb", "-m", "tests.unit.mutate", instance, where]
        try:
            result = subprocess.run(
                [*command, *map(str, (addmode, first, count))],
                cwd=CHECKOUT,
                capture_output=True,
                text=True,
                timeout=30 + SECONDS * count,
                check=False,
            )
            output, code = result.stdout, result.returncode
            how = signal.Signals(-code).name if code < 0 else result.stderr[-500:]
        except subprocess.TimeoutExpired as error:
            output, code, how = (error.stdout or b"").decode(), 1, "hangs"
        lines = output.splitlines()
        found += [f"{before}{line}" for before, line in zip(lines, lines[1:]) if line.startswith("!")]
        if code == 0:
            break
        assert lines, how
        last = next(line for line in reversed(lines) if not line.startswith("!"))
        found.append(f"{last}! {how}")
        first = int(last.split()[0]) + 1
        if len(found) > 20:
            break
    return found


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("addmode", [0, 2])
@pytest.mark.parametrize("where", REGIONS)
def test_no_damage_crashes_or_hangs(instance: str, where: str, addmode: int, stress: bool) -> None:
    """Whatever is damaged, there is no crash, no endless loop, and no error that does not name the segment."""
    found = failures(instance, where, addmode, STRESS_COUNT if stress else COUNT)
    assert not found, f"{len(found)} failed:\n" + "\n".join(found[:40])
