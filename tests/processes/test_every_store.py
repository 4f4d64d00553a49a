"""kill -9 at every store of every operation, with the lock held; then another process goes on with the queue."""

from __future__ import annotations

import json
import select
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kemi.queue.shm.naming import SHM_DIR
from tests.processes.cases import CASES
from tests.processes.children import CHECKOUT

if TYPE_CHECKING:
    from collections.abc import Iterator

# Without the long form, the walks that take long are taken through these only.
CHOSEN = [
    "small item",
    "giant item",
    "size exceeded",
    "fetch",
    "fetch that gives chunks back",
    "fetch that returns to the front",
    "replaced",
    "reserve",
    "reserve a giant",
    "done with a giant",
    "given back",
    "given back beside a newer one",
    "fetch of a giant that came back",
    "a giant replaced",
    "a giant replaced between large ones",
]
ALL_OR_CHOSEN = [pytest.param(case, marks=() if case in CHOSEN else pytest.mark.stress) for case in CASES]
FAULTS = [
    ("append commits first", "small item"),
    ("pop wipes first", "fetch"),
    ("nothing is repaired", "size exceeded"),
    ("nothing is repaired", "reserve"),
    ("nothing is repaired", "item that crosses"),
    ("nothing is repaired", "fetch that gives chunks back"),
]


class Engine:
    """The process that does it (see `every_store`), made anew when it crashed."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def __call__(self, what: str, case: str, timeout: float = 250.0) -> list[str]:
        """Return what was wrong."""
        if self._process is None:
            argv = [sys.executable, "-m", "tests.processes.every_store"]
            self._process = subprocess.Popen(
                argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=CHECKOUT, text=True
            )
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps([what, case]) + "\n")
        process.stdin.flush()
        line = process.stdout.readline() if select.select([process.stdout], [], [], timeout)[0] else ""
        if line:
            wrong: list[str] = json.loads(line)
            return wrong
        self.end()
        return [f"the engine ended with {process.returncode}"]

    def end(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()
            for path in Path(SHM_DIR).glob(f"mqk.processes-{process.pid}-*"):
                path.unlink()


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """Return the function that walks through a case and says what was wrong."""
    started = Engine()
    yield started
    started.end()


def _needs_the_end_of_the_lock() -> None:
    """Skip what has no other moment that shows something."""
    if sys.version_info < (3, 10):
        pytest.skip("there the end of an add's or fetch's lock is the death of a token, where nothing can strike")


@pytest.mark.parametrize("case", CASES)
def test_killed_at_every_store(engine: Engine, case: str) -> None:
    """The content is that before or that after the operation, all books agree, and the queue works as ever."""
    if case == "kept":
        _needs_the_end_of_the_lock()
    assert engine("kill", case) == []


@pytest.mark.parametrize("case", ALL_OR_CHOSEN)
def test_killed_at_every_store_of_the_repair(engine: Engine, case: str) -> None:
    """Who repairs is killed too, at every store; the third process finds what the second would have made."""
    assert engine("kill the repair", case) == []


@pytest.mark.stress
@pytest.mark.parametrize("case", CASES)
def test_killed_at_every_store_and_at_every_store_of_its_repair(engine: Engine, case: str) -> None:
    """The same for every store of every operation."""
    assert engine("kill all repairs", case, timeout=1800) == []


@pytest.mark.parametrize("case", ALL_OR_CHOSEN)
def test_an_exception_at_every_store(engine: Engine, case: str) -> None:
    """A signal handler may raise anywhere: nothing half done is left, and the lock is free."""
    assert engine("raise", case) == []


@pytest.mark.parametrize(("fault", "case"), FAULTS)
def test_the_walk_finds_a_fault(engine: Engine, fault: str, case: str) -> None:
    """An order of stores that is wrong, or a repair left out, is found by the walk that finds nothing above."""
    if fault == "pop wipes first":
        _needs_the_end_of_the_lock()
    wrong = engine(fault, case)
    assert [text for text in wrong if text.startswith("killed at moment")] != []
