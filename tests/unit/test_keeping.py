"""What a header says of the queue's end, and of items on their way between the queue and its table."""

from __future__ import annotations

from typing import Any

import pytest

from kemi.queue.catalog.keeping import (
    AFTER_CRASH,
    ALWAYS,
    LOADED,
    NEVER,
    NONE,
    SAVING,
    UNSAVED,
    Crossing,
    Policy,
    crossing,
    is_under_way,
    policy,
    set_crossing,
    set_policy,
    settle,
)

TOKEN = (1 << 127) + 12345
CROSSINGS = [
    Crossing(NONE),
    Crossing(UNSAVED),
    Crossing(SAVING, 1, 2),
    Crossing(LOADED, -(1 << 63), (1 << 63) - 1),
    Crossing(LOADED, -1, -1),
    Crossing(SAVING, token=TOKEN),
    Crossing(LOADED, token=(1 << 128) - 1),
    Crossing(LOADED, token=1),
]


class Header(list[int]):
    """The words of a header, none of which is more than 64 bits; each store is looked at."""

    def __init__(self) -> None:
        super().__init__([0] * 512)
        self.seen: list[Crossing] = []

    def __setitem__(self, where: Any, value: Any) -> None:
        assert 0 <= value < 1 << 64
        super().__setitem__(where, value)
        self.seen.append(crossing(self))


@pytest.mark.parametrize("new", CROSSINGS)
def test_a_crossing_is_read_as_it_was_stored(new: Crossing) -> None:
    """Row ids with their sign, and all 128 bits of a token."""
    header = Header()
    set_crossing(header, new)
    assert crossing(header) == new
    assert is_under_way(header) == (new.kind in (SAVING, LOADED))


@pytest.mark.parametrize("old", CROSSINGS)
@pytest.mark.parametrize("new", CROSSINGS)
def test_a_kill_while_a_crossing_is_stored_leaves_one_of_them_or_none(old: Crossing, new: Crossing) -> None:
    """The new rows or token never go with the old kind, nor the old ones with the new kind."""
    header = Header()
    set_crossing(header, old)
    header.seen.clear()
    set_crossing(header, new)
    assert {seen for seen in header.seen if seen.kind != NONE} <= {old, new}


@pytest.mark.parametrize("before", CROSSINGS)
def test_settling_says_that_a_save_did_not_come_about(before: Crossing) -> None:
    """Whatever else was under way stays."""
    header = Header()
    set_crossing(header, before)
    settle(header)
    assert crossing(header) == (Crossing(UNSAVED) if before.kind == SAVING else before)


@pytest.mark.parametrize(("dbmode", "writes"), [(0, False), (1, True), (2, True), (3, False)])
def test_which_dbmode_saves_at_the_stop(dbmode: int, writes: bool) -> None:
    header = Header()
    set_policy(header, dbmode, ALWAYS)
    assert policy(header) == (dbmode, ALWAYS)
    assert policy(header).writes_database() is writes


@pytest.mark.parametrize(
    ("recover", "crashed", "outlives"),
    [
        (NEVER, True, False),
        (NEVER, False, False),
        (AFTER_CRASH, True, True),
        (AFTER_CRASH, False, False),
        (ALWAYS, True, True),
        (ALWAYS, False, True),
    ],
)
def test_which_items_stay_in_memory_when_the_server_ends(recover: int, crashed: bool, outlives: bool) -> None:
    assert Policy(0, recover).outlives(lambda: crashed) is outlives
