"""The mutation pass over the queue's rooms: each chosen mutant is found by a test, or is listed with the reason.

`equivalent.txt` has the mutants that no test can find, since they do the same: module, key, and why.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.stress.mutation import CHECKOUT, TESTS, chosen, mutants, mutated, path_of, survives

EQUIVALENT = Path(__file__).with_name("equivalent.txt")
COUNT = 12  # of each module
ROOMS = sorted(TESTS)
MODULES = sorted(
    f"kemi.queue.{room}.{path.stem}"
    for room in ROOMS
    for path in (CHECKOUT / "kemi" / "queue" / room).glob("*.py")
    if path.stem not in ("__init__", "claims", "unlocked")
)


def listed() -> dict[tuple[str, str], str]:
    """Return why a mutant cannot be found, by module and key."""
    found = {}
    for line in EQUIVALENT.read_text("utf-8").splitlines():
        if line and not line.startswith("#"):
            module, key, why = line.split(" | ")
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
    known = listed()
    alive = [mutant for mutant in chosen(module, COUNT) if (module, mutant.key) not in known and survives(mutant)]
    assert [f"{mutant.number}: {mutant.key}" for mutant in alive] == []
