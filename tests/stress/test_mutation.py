"""The mutation pass over the queue's rooms: each chosen mutant is found by a test, or is listed with the reason.

`equivalent.txt` has the mutants that no test can find, since they do the same: module, key, and why.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.stress.mutation import CHECKOUT, ROOT, TESTS, chosen, mutants, mutated, path_of

EQUIVALENT = Path(__file__).with_name("equivalent.txt")
COUNT = 6  # of each module
ROOMS = sorted(TESTS.keys() - {ROOT})
MODULES = sorted(
    f"kemi.queue.{room}.{path.stem}"
    for room in ROOMS
    for path in (CHECKOUT / "kemi" / "queue" / room).glob("*.py")
    if path.stem not in ("__init__", "claims", "unlocked")
) + sorted(f"kemi.queue.{path.stem}" for path in (CHECKOUT / "kemi" / "queue").glob("*.py") if path.stem != "__init__")


def listed() -> dict[tuple[str, str], str]:
    """Return why a mutant cannot be found, by module and key."""
    found = {}
    for line in EQUIVALENT.read_text("utf-8").splitlines():
        if line and not line.startswith("#"):
            module, _, rest = line.partition(" | ")
            key, _, why = rest.rpartition(" | ")  # a key may have one, too
            found[module, key] = why
    return found


@pytest.mark.parametrize("module", MODULES)
def test_each_mutant_is_one_change(module: str) -> None:
    """Of what `chosen` takes: each is another tree, and the same one each time."""
    before = ast.unparse(ast.parse(path_of(module).read_text("utf-8")))
    some = chosen(module, 3)
    texts = [ast.unparse(mutated(module, mutant.number)) for mutant in some]
    assert before not in texts
    assert texts == [ast.unparse(mutated(module, mutant.number)) for mutant in chosen(module, 3)]


def test_what_is_listed_is_there() -> None:
    """A line of the list that no mutant has any more is to be taken off."""
    keys = {(module, mutant.key) for module in {module for module, _ in listed()} for mutant in mutants(module)}
    assert listed().keys() - keys == set()


@pytest.mark.stress
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("module", MODULES)
def test_mutants_are_found(module: str) -> None:
    """In a process of its own, which has loaded nothing of the queue."""
    argv = [sys.executable, "-m", "tests.stress.mutation", str(COUNT), module]
    done = subprocess.run(argv, cwd=CHECKOUT, check=True, capture_output=True, text=True, timeout=7000)
    lines = [line.split(None, 1)[1] for line in done.stdout.splitlines() if line.startswith("survives ")]
    known = {f"{where} | {key}" for where, key in listed()}
    assert set(lines) - known == set()
