"""The journal: what is redone, what is refused, and that it is done twice as well as once."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from kemi.errors import CorruptedError
from kemi.queue.format.layout import JOURNAL_AT, MAX_PAIRS, PENDING, U8, U32, W_COMMIT, W_FLAGS
from kemi.queue.store.journal import Journal, Plan
from tests.support.crash_points import Segment

FREE_WORD = 300  # of the header, which nothing uses


def everywhere(offset: int) -> bool:
    return offset < 4096


def test_a_plan_is_stored_by_size() -> None:
    mapping = Segment().plain
    journal = Journal(mapping)
    journal.begin()
    plan = Plan(mapping)
    plan[FREE_WORD] = 1 << 63
    plan[U32 + FREE_WORD * 2 + 2] = 7
    plan[U8 + FREE_WORD * 8 + 16] = 9
    journal.commit(plan)
    assert mapping.u64[FREE_WORD : FREE_WORD + 3].tolist() == [1 << 63, 7, 9]
    assert mapping.u64[W_COMMIT] == 3
    assert journal.is_pending()
    journal.close()
    journal.end()
    assert not journal.is_pending()


def test_a_plan_reads_what_it_will_be() -> None:
    mapping = Segment().plain
    mapping.u64[FREE_WORD] = 5
    plan = Plan(mapping)
    assert plan.add(FREE_WORD, 2) == plan.u64(FREE_WORD) == 7
    assert plan.u32((FREE_WORD + 1) * 2) == 0
    plan[U32 + (FREE_WORD + 1) * 2] = 3
    assert plan.u32((FREE_WORD + 1) * 2) == 3
    assert mapping.u64[FREE_WORD] == 5
    with pytest.raises(CorruptedError, match="word 300 is 7 and cannot be 8 less"):
        plan.add(FREE_WORD, -8)


def test_a_redo_stores_what_was_committed_however_often() -> None:
    mapping = Segment().plain
    journal = Journal(mapping)
    plan = Plan(mapping)
    plan[FREE_WORD] = 42
    journal.begin()
    journal.commit(plan)
    for _ in range(3):
        mapping.u64[FREE_WORD] = 0
        assert journal.redo(everywhere)
        assert mapping.u64[FREE_WORD] == 42
    journal.close()
    mapping.u64[FREE_WORD] = 0
    assert not journal.redo(everywhere)
    assert mapping.u64[FREE_WORD] == 0


def test_what_begins_and_is_not_committed_is_seen_and_not_redone() -> None:
    mapping = Segment().plain
    journal = Journal(mapping)
    mapping.u64[W_FLAGS] = 1
    journal.begin()
    assert mapping.u64[W_FLAGS] == PENDING | 1
    assert journal.is_pending()
    assert not journal.redo(everywhere)
    journal.end()
    assert mapping.u64[W_FLAGS] == 1


def test_as_many_stores_as_fit_are_possible_and_no_more() -> None:
    mapping = Segment().plain
    journal = Journal(mapping)
    plan = Plan(mapping)
    for number in range(MAX_PAIRS):
        plan[384 + number] = number
    journal.commit(plan)
    plan[384 + MAX_PAIRS] = 1
    with pytest.raises(ValueError, match="49 stores in one operation, at most 48"):
        journal.commit(plan)


@pytest.mark.parametrize("value", [-1, 1 << 64])
def test_a_number_that_is_none_is_refused_before_the_commit(value: int) -> None:
    mapping = Segment().plain
    plan = Plan(mapping)
    plan[FREE_WORD] = value
    with pytest.raises(struct.error):
        Journal(mapping).commit(plan)
    assert mapping.u64[W_COMMIT] == 0


@pytest.mark.parametrize(
    ("commit", "where", "message"),
    [
        (MAX_PAIRS + 1, 0, "claims 49 stores"),
        (1 << 63, 0, "claims"),
        (1, 4096 // 8, "no store to memory"),
        (1, U32 + 4096 // 4, "no store to memory"),
        (1, U8 + 4096, "no store to memory"),
        (1, 3 << 60, "no store to memory"),
        (1, (1 << 60) - 1, "no store to memory"),
    ],
)
def test_a_list_that_no_operation_left_is_refused_whole(commit: int, where: int, message: str) -> None:
    mapping: Any = Segment().plain
    mapping.u64[W_COMMIT] = commit
    mapping.u64[JOURNAL_AT >> 3] = where
    before = mapping.bytes[:]
    with pytest.raises(CorruptedError, match=message):
        Journal(mapping).redo(everywhere)
    assert mapping.bytes[:] == before
