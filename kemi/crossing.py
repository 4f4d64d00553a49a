"""Items cross between a queue and its table in the database, each way in one transaction.

Whatever kills the process, or the database, and whenever: an item is on one side afterwards, or the next start finds
out on which. What may be in both places is marked before the transaction ends (see `kemi.queue.keeping`):

    load    rows + items of the queue -> a draft; delete the rows; name the draft ~loaded; COMMIT; it becomes the queue
    save    mark the queue SAVING; insert its items; COMMIT; the queue ends
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable

from kemi.errors import CommitUnknown, StoreError
from kemi.instance import Instance, Settled
from kemi.queue import keeping
from kemi.queue.item import Item, record_of
from kemi.queue.keeping import LOADED, NONE, SAVING, UNSAVED, Crossing
from kemi.queue.queue import Queue
from kemi.spec import QueueSpec
from kemi.store import Row, Store

Say = Callable[[str], None]


class _Undo(Exception):
    """Ends a transaction that was only to look."""


class Crossings:
    """The way between the queues of an instance and their tables."""

    def __init__(self, instance: Instance, store: Store, say: Say, working: Callable[[], None]) -> None:
        """working: is called now and then while something long goes on."""
        self._instance = instance
        self._store = store
        self._say = say
        self._working = working

    # --- after a server that was killed on the way --------------------------------------------------------------------

    def settle(self, spec: QueueSpec, queue: Queue) -> Settled:
        """Find out on which side the items are, before the queue is taken over. Raises StoreError."""
        loaded = self._instance.loaded_draft(spec)
        if loaded is not None:
            if self._is_committed(spec, loaded):
                return Settled(loaded)
            loaded.remove()
        crossing = keeping.crossing(queue.segment.words)
        if crossing.kind != SAVING:
            return Settled(queue)
        self._wait_for_the_dead(spec, crossing)
        with self._store.begin(spec.name) as rows:
            saved = rows.last_id() >= crossing.first
        if saved:
            self._say(f"queue {spec.name!r}: its items were saved before the server died")
        return Settled(queue, saved)

    def _is_committed(self, spec: QueueSpec, loaded: Queue) -> bool:
        """Are the rows gone? Then only who made the draft did not live to give it the queue's name."""
        crossing = keeping.crossing(loaded.segment.words)
        self._wait_for_the_dead(spec, crossing)
        with contextlib.suppress(_Undo), self._store.begin(spec.name) as rows:
            if not rows.delete(crossing.first, crossing.last):
                return True
            raise _Undo
        return False

    def _wait_for_the_dead(self, spec: QueueSpec, crossing: Crossing) -> None:
        """Until a transaction has ended that the database still works on, although who began it is gone.

        It may have got the COMMIT, and takes its time. Raises StoreError when that is too long.
        """
        with self._store.begin(spec.name) as rows:
            rows.wait_for_others(crossing.first)

    # --- start --------------------------------------------------------------------------------------------------------

    def load(self, spec: QueueSpec, queue: Queue) -> tuple[Queue, int]:
        """Put the rows before the items of the queue. Returns the queue with both, and how many rows there were.

        The table is empty then. Raises StoreError or NoMemory; queue and table are as before.
        """
        with self._store.begin(spec.name) as rows:
            first = next(rows.read(), None)
        if first is None:
            return queue, 0
        draft = self._instance.draft(spec)
        committed = False
        try:
            with queue.moving() as records:
                with self._store.begin(spec.name) as rows:
                    crossing, count = self._fill(draft, rows.read())
                    for record in records:
                        draft.append_record(record)
                    if rows.delete(crossing.first, crossing.last) != count:
                        raise StoreError(f"table {spec.name}: another process took rows of it meanwhile; start again")
                    keeping.set_crossing(draft.segment.words, crossing)
                    self._instance.keep_draft(draft)
                committed = True
            self._publish(draft)
        except CommitUnknown:
            raise  # the next start finds out
        except BaseException:
            if not committed:  # the next start goes on with it otherwise: there are no rows any more
                draft.remove()
            raise
        queue.remove()
        return draft, count

    def _fill(self, draft: Queue, rows: Iterable[Row]) -> tuple[Crossing, int]:
        now, count, first, last = time.time(), 0, 0, 0
        for last, key, value in rows:
            first = first if count else last
            draft.append_record(record_of(key, value, now))
            count += 1
            if not count % 100_000:
                self._say(f"queue {draft.name!r}: {count} rows read")
                self._working()
        return Crossing(LOADED, first, last), count

    def _publish(self, draft: Queue) -> None:
        """It becomes the queue, in one step."""
        draft.publish(self._instance.name)
        keeping.set_crossing(draft.segment.words, Crossing(NONE))
        self._instance.take(draft)

    # --- stop ---------------------------------------------------------------------------------------------------------

    def save(self, queue: Queue) -> int:
        """Add the items to the table; the queue is closed and empty then. Returns how many. Raises StoreError.

        Whatever is raised, they are all in the queue still, which knows that they were to be saved.
        """
        words = queue.segment.words
        progress = self._progress(queue.name, queue.held())
        try:
            with queue.moving() as records:
                items = ((item.key_bytes, item.value_bytes) for item in map(Item, records))
                with self._store.begin(queue.name) as rows:
                    keeping.set_crossing(words, Crossing(SAVING, rows.last_id() + 1))
                    return rows.insert(items, progress)
        except CommitUnknown:
            raise  # SAVING stays: the next start finds out
        except BaseException:
            keeping.set_crossing(words, Crossing(UNSAVED))
            raise

    def _progress(self, name: str, total: int) -> Callable[[int], None]:
        def progress(count: int) -> None:
            self._working()
            self._say(f"queue {name!r}: {count} of {total} items saved")

        return progress
