"""The crash-point walk finds what it is for: each planted fault in the order of stores fails a walk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from kemi.errors import CorruptedError
from kemi.queue.format.layout import (
    FREE,
    JOURNAL_AT,
    LEAVING,
    PENDING,
    TAKEN,
    USED,
    W_ADDED,
    W_COMMIT,
    W_FLAGS,
    W_TAIL,
    W_TAIL_ODD,
)
from kemi.queue.log.core import ADDED, Core
from kemi.queue.log.keyed import KeyedLog
from kemi.queue.log.keyed_head import KEEP_NEWEST
from kemi.queue.log.plain import PlainLog
from kemi.queue.store import journal
from kemi.queue.store.chunks import Chunks
from kemi.queue.store.inflight import InFlight
from kemi.queue.store.journal import Journal
from kemi.queue.store.keyindex import KeyIndex
from tests.unit import test_keyed, test_plain

if TYPE_CHECKING:
    from collections.abc import Callable

    from kemi.queue.store.journal import Plan


def _commit_before_the_list(self: Journal, packed: bytes) -> None:
    self._u64[W_COMMIT] = len(packed) >> 4
    self._bytes[JOURNAL_AT : JOURNAL_AT + len(packed)] = packed


def _stores_before_the_commit(self: Journal, plan: Plan) -> None:
    pairs = [number for pair in plan.items() for number in pair]
    self._apply(pairs)
    self.store_list(journal._PACK[len(plan)](*pairs))


def _no_redo(self: Journal, has_memory: Any) -> bool:
    del self, has_memory
    return False


def _begin_without_a_mark(self: Journal) -> None:
    del self


def _close_before_the_chunks(self: Core, plan: Plan) -> None:
    self.journal.commit(plan)
    self.journal.close()
    self.chunks.settle(committed=True)
    self.journal.end()


def _trim_before_close(self: Core, plan: Plan) -> None:
    self.journal.commit(plan)
    self.chunks.trim(self.chunks.settle(committed=True))
    self.journal.close()
    self.journal.end()


def _always_forward(self: Chunks, *, committed: bool) -> None:
    del committed
    states = self.states()
    for number, state in enumerate(states):
        if state in (TAKEN, LEAVING):
            self._bytes[4096 + number] = USED if state == TAKEN else FREE


def _count_before_the_record(self: PlainLog, record: bytes, step: int) -> int:
    u64 = self._u64
    added = u64[W_ADDED]
    tail = u64[W_TAIL + (added & 1)]
    u64[W_TAIL_ODD - (added & 1)] = tail + step
    u64[W_ADDED] = added + 1
    self._bytes[tail : tail + len(record)] = record
    return ADDED


def _one_word_of_tail(self: PlainLog, record: bytes, step: int) -> int:
    u64 = self._u64
    added = u64[W_ADDED]
    tail = u64[W_TAIL + (added & 1)]
    self._bytes[tail : tail + len(record)] = record
    u64[W_TAIL + (added & 1)] = u64[W_TAIL_ODD - (added & 1)] = tail + step
    u64[W_ADDED] = added + 1
    return ADDED


_alloc = InFlight.alloc


def _entry_counts_at_once(self: InFlight, plan: Plan, at: int, seq: int, holder: Any) -> int:
    number = _alloc(self, plan, at, seq, holder)
    self._u64[self.row(number)] = at
    return number


def _no_mending(self: KeyIndex, at: int) -> None:
    del self, at


_keyed_append = KeyedLog.append


def _keyed_append_unmarked(self: KeyedLog, record: bytes, step: int) -> int:
    """Take the mark away that is stored before the commit, as if it were never there."""
    view = self._u64

    class Unmarked:
        def __getitem__(self, where: Any) -> Any:
            return view[where]

        def __setitem__(self, where: Any, value: Any) -> None:
            if where != W_FLAGS:
                view[where] = value

    self._u64 = Unmarked()
    try:
        return _keyed_append(self, record, step)
    finally:
        self._u64 = view


PLAIN: dict[str, tuple[type, str, Callable[..., object]]] = {
    "commit before the list": (Journal, "store_list", _commit_before_the_list),
    "stores before the commit": (Journal, "commit", _stores_before_the_commit),
    "no redo": (Journal, "redo", _no_redo),
    "the list is closed before the chunks are settled": (Core, "commit", _close_before_the_chunks),
    "memory is released before the list is closed": (Core, "commit", _trim_before_close),
    "chunks are settled forward without a commit": (Chunks, "recover", _always_forward),
    "the counter before the record": (PlainLog, "append", _count_before_the_record),
    "both words of TAIL at once": (PlainLog, "append", _one_word_of_tail),
    "an entry that counts before the commit": (InFlight, "alloc", _entry_counts_at_once),
}
OPERATIONS = [
    "append",
    "append over several chunks",
    "pop over several chunks",
    "reserve over several chunks",
    "reserve over several chunks with a freed entry",
    "ack over several chunks, all detached",
]


def fails(walk: Any, prepare: Any, work: Any, after: Any) -> bool:
    """Return True if the walk finds something."""
    try:
        prepare(walk.open_log(walk.segment.plain))
        walk.walk(work, after)
    except (AssertionError, CorruptedError, ValueError):
        return True
    return False


@pytest.mark.parametrize("fault", PLAIN)
def test_a_fault_of_the_plain_log_is_found(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, name, wrong = PLAIN[fault]
    monkeypatch.setattr(owner, name, wrong)
    found = [fails(test_plain.new(), *test_plain.OPERATIONS[each], test_plain.go_on) for each in OPERATIONS]
    assert any(found)


@pytest.mark.parametrize(
    ("owner", "name", "wrong"),
    [(KeyIndex, "mend", _no_mending), (KeyedLog, "append", _keyed_append_unmarked)],
    ids=["the index is not mended", "no mark while the index lacks a record"],
)
def test_a_fault_of_the_keyed_log_is_found(
    owner: type, name: str, wrong: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, name, wrong)
    walk = test_keyed.new(KEEP_NEWEST)
    prepare, work = test_keyed.OPERATIONS["append a new key"]
    if name == "append":
        # Only a next call that sees no mark goes wrong: let a look at FLAGS decide about the recovery, as a taker does.
        recover = KeyedLog.recover

        def recover_if_marked(self: KeyedLog) -> None:
            if self._u64[W_FLAGS] & PENDING:
                recover(self)

        monkeypatch.setattr(KeyedLog, "recover", recover_if_marked)
    assert fails(walk, prepare, work, test_keyed.go_on)


def test_a_journal_that_begins_without_a_mark_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    recover = PlainLog.recover

    def recover_if_marked(self: PlainLog) -> None:
        if self._u64[W_FLAGS] & PENDING:
            recover(self)

    prepare, work = test_plain.OPERATIONS["append over several chunks"]
    monkeypatch.setattr(PlainLog, "recover", recover_if_marked)
    assert not fails(test_plain.new(), prepare, work, test_plain.go_on)
    monkeypatch.setattr(Journal, "begin", _begin_without_a_mark)
    assert fails(test_plain.new(), prepare, work, test_plain.go_on)
