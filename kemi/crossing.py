# SPDX-License-Identifier: GPL-2.0-or-later
"""Items cross between queues and their tables in the database, each way in one transaction.

Whatever kills the process, or the database, and whenever: an item is on one side afterwards, or the next start finds
out on which. What may be in both places is marked before the transaction ends (see `queue.catalog.keeping`), and the
transaction has a token in the database that is there only if it was committed (see `kemi.database.ledger`):

    load    token; for each queue: rows + items of the queue -> a draft, delete the rows, name the draft ~loaded;
            COMMIT; the drafts become the queues
    save    mark the queue SAVING; token; insert its items; COMMIT; the queue ends

All queues of a start are loaded in one transaction: all or none. Each queue of a stop is saved in one of its own.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from kemi.database.trial import Undo
from kemi.errors import AllUndone, CommitUnknown, Contended
from kemi.instance import Instance, Settled
from kemi.queue.catalog import keeping
from kemi.queue.catalog.keeping import LOADED, SAVING, UNSAVED, Crossing
from kemi.queue.format.item import parts_of, record_of
from kemi.queue.queue import Queue
from kemi.replacing import Replacement, Replacing
from kemi.spec import QueueSpec
from kemi.store import Rows, Store, Transaction, Wanted

_TELL_EVERY = 5.0  # seconds
_TRIES = 10  # where other servers use the same rows at the same time: each of them ends sooner or later

Say = Callable[[str], None]
Besides = Callable[[list[str]], None]


class Load(NamedTuple):
    """A queue that gets the rows of its table."""

    spec: QueueSpec
    queue: Queue
    keep: bool = True  # the items that are in it, behind the rows?


class Saved(NamedTuple):
    """What came of a save."""

    items: int
    unfit: int = 0  # of these, kept in the table of this module
    why: str = ""  # the first of them


class Crossings:
    """The way between the queues of an instance and their tables."""

    def __init__(self, instance: Instance, store: Store, say: Say, working: Callable[[], None]) -> None:
        """working: is called now and then while something long goes on."""
        self._instance = instance
        self._store = store
        self._say = say
        self._working = working
        self._concluded: list[int] = []  # tokens of which nobody will ask

    def conclude(self) -> None:
        """Everything that crossed has its place: nobody will ask for the tokens again."""
        tokens, self._concluded = self._concluded, []
        self._store.forget(tokens)

    # --- after a server that was killed on the way --------------------------------------------------------------------

    def settle(self, spec: QueueSpec, queue: Queue) -> Settled:
        """Find out on which side the items are, before the queue is taken over. Raises StoreError."""
        loaded = self._instance.loaded_draft(spec)
        if loaded is not None:
            if self._is_committed(spec, keeping.crossing(loaded.segment.words)):
                return Settled(loaded)
            loaded.remove()
        crossing = keeping.crossing(queue.segment.words)
        if crossing.kind != SAVING:
            return Settled(queue)
        saved = self._is_committed(spec, crossing)
        if saved:
            self._say(f"queue {spec.name!r}: its items were saved before the server died")
        return Settled(queue, saved)

    def _is_committed(self, spec: QueueSpec, crossing: Crossing) -> bool:
        if crossing.token:
            self._concluded.append(crossing.token)
            return self._store.is_committed(crossing.token)
        # A transaction that the database still works on, although who began it is gone: it may have got the COMMIT.
        with self._store.begin(spec.name) as rows:
            rows.wait_for_others(crossing.first)
        committed = False
        with contextlib.suppress(Undo), self._store.begin(spec.name) as rows:
            if crossing.kind == SAVING:
                committed = rows.last_id() >= crossing.first
            else:
                committed = not rows.delete(crossing.first, crossing.last)
            raise Undo
        return committed

    # --- start --------------------------------------------------------------------------------------------------------

    def prepare(self, specs: Iterable[QueueSpec]) -> list[str]:
        """See that the tables are there and do what they will have to do. Returns what an operator should know."""
        wanted = [
            Wanted(spec.name, spec.reads_database(), spec.writes_database(), spec.addmode != 0)
            for spec in specs
            if spec.dbmode
        ]
        return self._store.prepare(wanted)

    def make_ledger(self) -> None:
        """Make the tables of this module, if they can be made; a server's start does that in `prepare`."""
        self._store.make_ledger()

    def load(self, loads: list[Load], replacing: Replacing, besides: Besides = lambda _: None) -> dict[str, int]:
        """Put the rows before the items of the queues. Returns how many rows each queue got, by name.

        The tables are empty then, and `replacing` has what is to be published. Raises StoreError or NoMemory; queues
        and tables are as before, if `replacing` is given up.

        besides: gets the names of the queues that have rows, and does what else may fail, before the commit.
        """
        for _ in range(_TRIES - 1):
            with contextlib.suppress(Contended):
                return self._load_once(loads, replacing, besides)
            replacing.give_up()
        return self._load_once(loads, replacing, besides)

    def _load_once(self, loads: list[Load], replacing: Replacing, besides: Besides) -> dict[str, int]:
        full = self._with_rows(loads)
        if not full:
            besides([])
            return {}
        token, counts = _new_token(), {}
        names = [load.spec.name for load in full]
        with self._store.transaction(names, keeps_unfit=True) as work:
            if not work.note(token, self._instance.name, ", ".join(names)):
                token = 0
            for load in full:
                replacement = replacing.begin(load.spec, load.queue)
                counts[load.spec.name] = self._fill(replacement, work.rows(load.spec.name), load, token)
            besides(names)
        self._concluded += [token] if token else []
        return counts

    def _with_rows(self, loads: list[Load]) -> list[Load]:
        names = [load.spec.name for load in loads]
        full: list[Load] = []
        if names:
            with contextlib.suppress(Undo), self._store.transaction(names, keeps_unfit=True) as work:
                full = [load for load in loads if not work.rows(load.spec.name).is_empty()]
                raise Undo
        return full

    def _fill(self, replacement: Replacement, rows: Rows, load: Load, token: int) -> int:
        draft, now, count, told = replacement.draft, time.time(), 0, time.monotonic()
        for key, value, added in rows.drain():
            draft.append_record(record_of(key, value, now if added is None else added))
            count += 1
            if not count % 1000 and time.monotonic() - told > _TELL_EVERY:
                told = time.monotonic()
                self._working()
                self._say(f"queue {draft.name!r}: {count} rows read")
        if load.keep:
            replacement.copy()
        crossing = Crossing(LOADED, token=token) if token else Crossing(LOADED, rows.first, rows.last)
        keeping.set_crossing(draft.segment.words, crossing)
        replacement.keep()
        return count

    # --- stop ---------------------------------------------------------------------------------------------------------

    def save(self, queue: Queue) -> Saved:
        """Add the items to the table; the queue is closed and empty then. Raises StoreError.

        Whatever is raised, they are all in the queue still, which knows that they were to be saved.
        """
        refused: frozenset[int] = frozenset()
        for _ in range(_TRIES - 1):
            try:
                return self._save_once(queue, refused)
            except Contended:
                pass
            except AllUndone as undone:
                if undone.refused == refused:  # it is not the items alone that it depends on
                    raise
                refused = undone.refused
        return self._save_once(queue, refused)

    def _save_once(self, queue: Queue, refused: frozenset[int]) -> Saved:
        words, token = queue.segment.words, _new_token()
        progress = self._progress(queue.name, queue.held())
        try:
            with queue.moving() as records, self._store.transaction([queue.name], keeps_unfit=True) as work:
                rows = work.rows(queue.name)
                self._mark(queue, work, rows, token)
                count = rows.insert(map(parts_of, records), progress, refused)
        except CommitUnknown:
            raise  # SAVING stays: the next start finds out
        except BaseException:
            keeping.set_crossing(words, Crossing(UNSAVED))
            raise
        self._concluded.append(token)
        return Saved(count, rows.unfit, rows.why_unfit)

    def _mark(self, queue: Queue, work: Transaction, rows: Rows, token: int) -> None:
        """Before the commit, and when it is known what proves it: nobody would answer for a token without its table."""
        noted = work.note(token, self._instance.name, queue.name)
        crossing = Crossing(SAVING, token=token) if noted else Crossing(SAVING, rows.last_id() + 1)
        keeping.set_crossing(queue.segment.words, crossing)

    def _progress(self, name: str, total: int) -> Callable[[int], None]:
        def progress(count: int) -> None:
            self._working()
            self._say(f"queue {name!r}: {count} of {total} items saved")

        return progress


def _new_token() -> int:
    """Return a number that no other transfer has or will have, on this host or another."""
    return secrets.randbits(127) + 1
