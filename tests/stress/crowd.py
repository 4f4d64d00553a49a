"""Runs numbered attempts in several processes at a time, and goes on after one that crashed or hangs."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.processes.children import CHECKOUT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MOST_FAILURES = 20


class Part:
    """A process that tries the numbers from `first` to `end`, and those after it in place of one that crashed."""

    def __init__(self, module: str, instance: str, seed: int, first: int, end: int) -> None:
        self._command = [sys.executable, "-bb", "-m", module, instance, str(seed)]
        self._end = end
        self._progress = tempfile.NamedTemporaryFile(prefix="mqk-fuzz-")  # noqa: SIM115 closed in `end`
        self._output = tempfile.TemporaryFile("w+")  # noqa: SIM115 closed in `end`
        self.crashes: list[dict[str, Any]] = []
        self._start(first)

    def _start(self, first: int) -> None:
        self._progress.seek(0)
        self._progress.write(first.to_bytes(8, sys.byteorder))
        self._progress.flush()
        argv = [*self._command, str(first), str(self._end), self._progress.name]
        self._process = subprocess.Popen(argv, cwd=CHECKOUT, stdout=self._output, stderr=subprocess.STDOUT)

    def reached(self) -> int:
        """Return the number that is being tried."""
        return int.from_bytes(Path(self._progress.name).read_bytes(), sys.byteorder)

    def wait(self) -> None:
        """Wait until all are tried."""
        while True:
            code = self._process.wait()
            if code == 0:
                return
            how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            number = self.reached()
            self.crashes.append({"number": number, "wrong": "hangs" if how == "SIGALRM" else how})
            if number + 1 >= self._end or len(self.crashes) > MOST_FAILURES:
                return
            self._start(number + 1)

    def lines(self) -> Iterator[dict[str, Any]]:
        """Return what was printed, and the crashes."""
        self._output.seek(0)
        for line in self._output.read().splitlines():
            yield json.loads(line) if line.startswith("{") else {"number": -1, "wrong": line}
        yield from self.crashes

    def end(self) -> None:
        """Kill the process if it still runs."""
        self._process.kill()
        self._process.wait()
        self._progress.close()
        self._output.close()


def run(module: str, instances: Sequence[str], seed: int, count: int) -> tuple[dict[str, int], list[dict[str, Any]]]:
    """Try the numbers 0 to `count`, divided among as many processes as there are instances.

    Returns how often each outcome came, and what failed.
    """
    share = -(-count // len(instances))
    parts: list[Part] = []
    outcomes: dict[str, int] = {}
    failures: list[dict[str, Any]] = []
    try:
        for number, instance in enumerate(instances):
            parts.append(Part(module, instance, seed, number * share, min(count, (number + 1) * share)))
        with ThreadPoolExecutor(len(parts)) as pool:
            list(pool.map(Part.wait, parts))
        for part in parts:
            for line in part.lines():
                for name, times in line.get("outcomes", {}).items():
                    outcomes[name] = outcomes.get(name, 0) + times
                if "wrong" in line:
                    failures.append(line)
    finally:
        for part in parts:
            part.end()
    return outcomes, failures
