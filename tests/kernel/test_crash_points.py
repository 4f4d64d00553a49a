"""The kernel is killed at each of its stores; and a wrong order of stores that is planted in it is found."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from kemi.queue.kernel import choice
from tests.conftest import CHECKOUT

if not hasattr(choice.lib, "set_hook"):
    pytest.skip("MQUEUE_KEMI_KERNEL=crash-points runs these", allow_module_level=True)

from tests.kernel import faults, walks

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


@pytest.mark.parametrize(("mode", "name"), walks.NAMES)
def test_killed_at_each_store(mode: int, name: str) -> None:
    """What is left is the state before or after, also when the repair is struck at each of its stores."""
    assert walks.strike_at_each_store(mode, name) > 3


_COUNTED = "a number that is only shown"
_UNUSED = "both are where nothing leads to before the commit"
_RECOUNTED = "the repair counts the free chunks anew"
_CALLED = "test_agreement compares it; after a kill, the repair calls all who wait"
_STORED_NEXT = "the append that follows stores it as well"
# Faults, by how they begin, that no walk can find, and why.
HARMLESS = {
    "count_wait: ": _COUNTED,
    "plain_pop: without STORE(&u64[K_W_HIGH_WATER]": _COUNTED,
    "keyed_pop: without STORE(&u64[K_W_HIGH_WATER]": _COUNTED,
    "hold_oldest: without STORE(&u64[K_W_HIGH_WATER]": _COUNTED,
    "hold_across: without STORE(&u64[K_W_HIGH_WATER]": _COUNTED,
    "plain_append: STORE(&u64[K_W_TAIL_ODD - odd], end); before write_record": _UNUSED,
    "append_new: STORE(&u64[K_W_FLAGS], flags | K_PENDING); before STORE(&q->u32[(at >> 2) + K_R_LINK]": _UNUSED,
    "append_new: STORE(&u64[K_W_TAIL_ODD - (added & 1)], at + record->step); before STORE(&u64[K_W_FLAGS]": _UNUSED,
    "replace: STORE(&u64[K_W_TAIL_ODD - (added & 1)], at + record->step); before STORE(&q->u32[(at": _UNUSED,
    "keyed_pop: STORE(&u64[K_W_HEAD_ODD - odd], end); before STORE(&q->u32[lead]": _UNUSED,
    "append_across: STORE(&u64[K_W_FREE_CHUNKS], free_chunks - 1); before STORE(mark_of": _RECOUNTED,
    "append_across: close_list(q); before STORE(&u64[K_W_FREE_CHUNKS]": _RECOUNTED,
    "do_and_free: close_list(q); before STORE(&u64[K_W_FREE_CHUNKS]": _RECOUNTED,
    "make_room: without STORE(&u64[K_W_FLAGS], flags);": _STORED_NEXT,
    "start_over: without STORE(&u64[K_W_FLAGS], flags);": _STORED_NEXT,
    "make_room: STORE(&u64[K_W_FREE_CHUNKS], free_chunks - 1); before STORE(mark_of": _RECOUNTED,
    "make_room: close_list(q); before STORE(&u64[K_W_FREE_CHUNKS]": _RECOUNTED,
    "grow: STORE(&u64[K_W_FREE_CHUNKS], free_chunks + !failed); before STORE(mark_of": _RECOUNTED,
    "leave_to_repair: ": "no walk takes the lock of somebody who died: test_lock has it",
    "notify: ": _CALLED,
}
# Which walks go through a function, by how their names begin: they come first.
FIRST = {
    "plain_pop": "pop",
    "replace": "replace",
    "keyed_pop": "pop",
    "commit_list": "reserve",
    "close_list": "reserve",
    "commit_even": "add two",
    "plain_append_run": "add one of",
    "plain_pop_run": "fetch",
    "append_anew": "add to an empty one near",
    "append_across": "add",
    "do_and_free": "pop",
    "do_list": "reserve over",
    "skip_within": "pop behind",
    "start_over": "add to an empty one near",
    "make_room": "add over",
    "hold_oldest": "reserve",
    "ack": "ack",
    "grow": "grow",
}


@pytest.fixture(scope="module")
def selectable(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Return a kernel with all faults, and their names."""
    return faults.build(tmp_path_factory.mktemp("faults"))


def found(built: Path, names: list[str], numbers: Iterable[int]) -> dict[int, str]:
    """Walk with each of some faults. Returns what found it, or ""."""
    functions = {number: names[number].partition(":")[0] if 0 <= number < len(names) else "" for number in numbers}
    each = [f"{number}:{FIRST.get(function, '')}" for number, function in functions.items()]
    argv = [sys.executable, "-m", "tests.kernel.planted", str(built), *each]
    done = subprocess.run(argv, cwd=CHECKOUT, check=False, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    lines = [line.partition(" ") for line in done.stdout.splitlines()]
    return {int(number): told for number, _, told in lines}


def is_harmless(name: str) -> bool:
    return any(name.startswith(start) for start in HARMLESS)


@pytest.mark.parametrize("part", range(4))
def test_a_planted_fault_is_found(selectable: tuple[Path, list[str]], part: int) -> None:
    """Each store that is left out, and each two that come the other way round, let a walk fail."""
    built, names = selectable
    numbers = [number for number, name in enumerate(names) if not is_harmless(name)][part::4]
    assert len(numbers) > 15
    found_by = found(built, names, numbers)
    assert [*found_by] == numbers
    assert [names[number] for number, told in found_by.items() if not told] == []


def test_without_a_fault_nothing_is_found(selectable: tuple[Path, list[str]]) -> None:
    """So what is found above is the fault."""
    built, names = selectable
    assert found(built, names, [len(names)]) == {len(names): ""}


@pytest.mark.stress
def test_what_is_harmless_is(selectable: tuple[Path, list[str]]) -> None:
    """What no walk finds, and nothing else, has its reason above; and each reason is needed."""
    built, names = selectable
    numbers = [number for number, name in enumerate(names) if is_harmless(name)]
    assert {*found(built, names, numbers).values()} == {""}
    assert [start for start in HARMLESS if not any(name.startswith(start) for name in names)] == []


# Stores that a function of its own makes, or that are further apart.
LIST = "for (uint64_t each = 0; each < 2 * count; each++)\n        STORE(&list[each], pairs[each]);"
COMMITTED = "COMMIT(&q->u64[K_W_COMMIT], count);"
HOLD = "commit_list(q, pairs, sizeof pairs / sizeof *pairs / 2 - !q->addmode);"
PAIRS = "uint64_t pairs[] = {head_word,"
ENTRY = "fill_entry(q, number, holder, popped + 1, following);"
DONE = "commit_list(q, pairs, count);"
LEAVING = "for (uint64_t each = 0; each < chunks; each++)\n        STORE(mark_of(q, gone[each]), K_LEAVING);"
FREED = "for (uint64_t each = 0; each < chunks; each++)\n        STORE(mark_of(q, gone[each]), K_FREE);"
FAULTS = {
    "a list counts before it is there": [("segment/journal.h", f"{LIST}\n    {COMMITTED}", f"{COMMITTED}\n    {LIST}")],
    "an item leaves before the list that holds it": [
        ("delivery/delivery.h", PAIRS, f"COMMIT(&u64[K_W_POPPED], popped + 1);\n    {PAIRS}")
    ],
    "an entry is filled after it counts": [
        ("delivery/delivery.h", ENTRY, ""),
        ("delivery/delivery.h", HOLD, f"{HOLD}\n    {ENTRY}"),
    ],
    "a chunk is said to leave after the list": [("log/across.h", f"{LEAVING}\n    {DONE}", f"{DONE}\n    {LEAVING}")],
    "a chunk is free before the list": [("log/across.h", f"{DONE}\n    {FREED}", f"{FREED}\n    {DONE}")],
}


@pytest.mark.parametrize("fault", FAULTS)
def test_another_fault_is_found(fault: str, tmp_path: Path) -> None:
    assert found(*faults.build(tmp_path, FAULTS[fault]), [-1]) != {-1: ""}
