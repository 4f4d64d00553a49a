"""Every step at which a process may die, and what the next one finds.

What a queue does by itself (add, fetch, growth, key index, recovery) is struck in tests/processes/test_every_store.py,
by the cases of tests/processes/cases.py. Here: that those cases leave no store of the source out, and the way of items
to the database and from it. Reservations: their operations belong into those cases, their modules into `STORING`.
"""

from __future__ import annotations

import ast
import json
import select
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

import pytest

from kemi.queue.log import compaction, core, delivery, keyed, keyed_head, plain, plain_head
from kemi.queue.shm.naming import SHM_DIR
from kemi.queue.store import chunks, inflight, journal, keyindex
from tests.processes.children import CHECKOUT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

# All that writes into a segment while in use.
STORING = (core, plain, plain_head, keyed, keyed_head, delivery, compaction, chunks, inflight, journal, keyindex)
CROSSINGS = [
    "load",
    "load before what a crash left",
    "load of nothing",
    "load that is not saved",
    "load into unique keys",
    "load and another addmode",
    "another addmode",
    "take over",
    "save",
    "save behind rows",
    "save of what came from rows too",
    "save without recover",
    "save of unique keys",
]
CHOSEN = ["load before what a crash left", "save of what came from rows too", "another addmode"]
VIEWS = {"u64", "u32", "self._u64", "self._u32", "self._bytes", "self.mapping.bytes", "mapping.bytes", "mapping.u32"}
SOME, ALL = 12, 100_000  # moments


# --- every store of the source ----------------------------------------------------------------------------------------

# A store that no case reaches, with the reason.
NOT_STRUCK = {
    ("plain", "u64[W_HEAD_ODD - odd] = end"): "queue.py spells it out; tests/unit/test_plain.py strikes it",
    ("journal", "self._bytes[where - U8] = value"): "no operation stores a byte by the journal",
}


def stores_in(module: ModuleType) -> set[tuple[str, str]]:
    """Return module and text of each line that stores into a segment."""
    path = Path(str(module.__file__))
    text = path.read_text("utf-8")
    found = set()
    for node in ast.walk(ast.parse(text)):
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        names = {
            ast.unparse(part.value)
            for target in targets
            if isinstance(node, (ast.Assign, ast.AugAssign)) and target is not None
            for part in getattr(target, "elts", [target])
            if isinstance(part, ast.Subscript)
        }
        if names & VIEWS:
            assert isinstance(node, ast.stmt)
            found.add((path.stem, text.splitlines()[node.lineno - 1].strip()))
    return found


def test_every_store_is_struck() -> None:
    """The cases of test_every_store go through each line of the source that writes into a segment."""
    argv = [sys.executable, "-m", "tests.stress.stores_struck"]
    done = subprocess.run(argv, cwd=CHECKOUT, capture_output=True, text=True, timeout=200, check=True)
    struck = {(str(module), str(line)) for module, line in json.loads(done.stdout)}
    there = {store for module in STORING for store in stores_in(module)}
    assert len(there) > 40
    assert there - struck - NOT_STRUCK.keys() == set()
    assert set(NOT_STRUCK) <= there - struck, "a reason that is not needed any more"


# --- to the database and from it --------------------------------------------------------------------------------------


class Engine:
    """The process that does it (see `every_crossing`)."""

    def __init__(self, folder: Path) -> None:
        argv = [sys.executable, "-m", "tests.stress.every_crossing", str(folder)]
        self._process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=CHECKOUT, text=True
        )

    def __call__(self, case: str, most: int, how: str = "", timeout: float = 250.0) -> tuple[int, int]:
        """Return how many moments there were and how often a process was killed."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps([case, most, how]) + "\n")
        process.stdin.flush()
        assert select.select([process.stdout], [], [], timeout)[0], f"no answer within {timeout} s"
        answer: Any = json.loads(process.stdout.readline())
        moments, kills, wrong = answer
        assert wrong == [], f"{moments} moments, {kills} kills, {len(wrong)} wrong"
        return moments, kills

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()
        for path in Path(SHM_DIR).glob(f"mqk.processes-{self._process.pid}-*"):
            path.unlink()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """Return the function that walks through a case."""
    started = Engine(tmp_path)
    yield started
    started.end()


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=() if case in CHOSEN else pytest.mark.stress) for case in CROSSINGS]
)
def test_killed_between_queue_and_table(engine: Engine, case: str, stress: bool, say: Callable[[str], None]) -> None:
    """Statements, commits, stores, renames: wherever it died, the next start has every item once, in order."""
    moments, kills = engine(case, ALL if stress else SOME, timeout=1800)
    if stress:
        say(f"{case}: {moments} moments, {kills} killed")
    assert moments > 10
    assert kills == (moments if stress else len(range(0, moments, -(-moments // SOME))))


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=() if case in CHOSEN else pytest.mark.stress) for case in CROSSINGS]
)
def test_killed_and_others_go_on(engine: Engine, case: str, stress: bool, say: Callable[[str], None]) -> None:
    """Others take and add until the next start: nothing they took comes again, nothing they added is lost."""
    moments, kills = engine(case, ALL if stress else SOME, "meddle", timeout=1800)
    if stress:
        say(f"{case}, and others go on: {moments} moments, {kills} killed")


@pytest.mark.stress
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("case", CROSSINGS)
def test_killed_again_at_the_next_start(engine: Engine, case: str, say: Callable[[str], None]) -> None:
    """The server that finds out where the items are is killed, too; the third one has them all."""
    moments, kills = engine(case, 30, "twice", timeout=3000)
    say(f"{case}, and the next start: {kills} killed")
    assert kills > moments
