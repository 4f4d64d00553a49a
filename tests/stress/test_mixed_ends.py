"""Every way to end or to break off a worker, mixed, with books that must balance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.stress.mixed_books import balance
from tests.stress.mixed_ends import Run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def _balances(seconds: float, seed: int, say: Callable[[str], None]) -> None:
    found = Run(seconds, seed).run()
    say(f"seed {seed}: {found.figures}")
    assert found.faults == []
    assert found.figures["added"] > 100
    assert found.figures["x"] > 10, "no exception ever broke a call off"
    assert found.figures["done"] > 10


def test_it_balances(seed: int, say: Callable[[str], None]) -> None:
    """12 seconds of it."""
    _balances(12, seed, say)


@pytest.mark.stress
@pytest.mark.timeout(2400)
def test_it_balances_for_long(seed: int, say: Callable[[str], None]) -> None:
    """Half an hour."""
    _balances(1800, seed, say)


CASES = {
    "all is well": (["1 add 7", "2 added 7", "3 fetch 1", "4 fetched 7"], [], []),
    "lost by a fetch that was broken off": (["1 add 7", "2 added 7", "3 fetch 1", "4 x"], [], []),
    "lost": (["1 add 7", "2 added 7"], [], ["1 items are lost"]),
    "lost in a block": (["1 add 7", "2 added 7", "3 reserve", "4 held 7", "5 x"], [], ["1 items are lost"]),
    "open at the end of a block": (["1 add 7", "2 added 7", "3 held 7", "4 ends 7", "5 x"], [], []),
    "twice": (["1 add 7", "2 added 7", "3 fetch 1", "4 fetched 7"], ["7"], ["7 came 2 times"]),
    "from nowhere": ([], ["8"], ["8 was never added"]),
    "refused and there": (["1 add 7", "2 refused 7"], ["7"], ["7 was refused"]),
    "an add that raised": (["1 add 7", "2 x"], ["7"], []),
    "an add that raised and did nothing": (["1 add 7", "2 x"], [], []),
    "a lock that is not had": (["1 LOCK LockTimeout busy"], [], ["LOCK"]),
}


@pytest.mark.parametrize("name", CASES)
def test_the_books_find_it(tmp_path: Path, name: str) -> None:
    """What the run rests on can fail."""
    lines, left, faults = CASES[name]
    log = tmp_path / "log"
    log.write_text("\n".join([*lines, "9"]))  # killed when it began to write another line
    found = balance([log], left, []).faults
    assert len(found) == len(faults)
    assert all(fault in text for fault, text in zip(faults, found))


@pytest.mark.parametrize(("restart", "faults"), [((1, 2), 1), ((4, 5), 0), ((7, 8), 0), ((10, 11), 1)])
def test_what_a_restart_may_double(tmp_path: Path, restart: tuple[int, int], faults: int) -> None:
    """What was held meanwhile, from the call on in which it was reserved."""
    log = tmp_path / "log"
    log.write_text("1 add 7\n2 added 7\n3 reserve\n6 held 7\n9 x\n12 fetch 1\n13 fetched 7\n14 fetch 1\n15 fetched 7\n")
    assert len(balance([log], [], [restart]).faults) == faults
