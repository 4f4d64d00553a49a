# SPDX-License-Identifier: GPL-2.0-or-later
"""The rows of one queue's table, inside one transaction: add, read, delete, and see that nothing changes on the way.

save   insert       each batch is read again and compared (kemi.database.insertion)
load   drain        a page: SELECT; then the kept items that stand before its rows; at the end DELETE all of it
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any, Callable, NamedTuple, Optional

from kemi.database.batches import Given, Item, KeptItems, batches
from kemi.database.clock import Clock
from kemi.database.insertion import Insertion
from kemi.database.ledger import Kept, Ledger
from kemi.database.statements import EARLIEST, HIGHEST, LATEST, LOWEST, MYSQL_SECOND, Statements
from kemi.database.table import QueueTable, decode
from kemi.database.url import MYSQL
from kemi.errors import AllUndone, Contended, StoreError

BATCH_ROWS = 1000
BATCH_BYTES = 1 << 20  # of one INSERT, and of the rows that are read at once
DELETE_ROWS = 10_000
PROGRESS_EVERY = 5.0  # seconds

Progress = Optional[Callable[[int], None]]


class Row(NamedTuple):
    """One item with its place in the order."""

    id: int
    key: bytes
    value: bytes
    added: float | None = None


class Span(NamedTuple):
    """Some rows that follow one another."""

    first: int
    last: int
    rows: int

    def limits(self) -> dict[str, int]:
        """The parameters of a statement that reads them."""
        return {"first": self.first, "last": self.last, "limit": self.rows}


class Rows:
    """The rows of one table, inside one transaction."""

    def __init__(self, connection: Any, table: QueueTable, clock: Clock, ledger: Ledger | None = None) -> None:
        """ledger: where items are kept that the table cannot hold; None refuses them."""
        self.table = table
        self.unfit = 0  # items that were kept aside
        self.why_unfit = ""  # the first of them
        self.first, self.last = 0, 0  # the ids of the rows that `drain` has read
        self._connection = connection
        self._place = table.place
        self._clock = clock
        self._ledger = ledger
        kind = self._place.url.kind
        self._statements = Statements(connection, table.rows, kind, table.quoted, whole=table.whole)
        self._failed = False

    def without_ledger(self) -> None:
        """It turned out that this user may not use it."""
        self._ledger = None

    def last_id(self) -> int:
        """The greatest id, 0 when there is no row."""
        with self._guard():
            return self._greatest() or 0

    def wait_for_others(self, first: int) -> None:
        """Wait until no other transaction is changing rows from this id on. Look for its outcome in a new one."""
        with self._guard():
            if self._statements.lock is not None:
                self._run(self._statements.lock, first=first)

    # --- load ---------------------------------------------------------------------------------------------------------

    def is_empty(self) -> bool:
        """Is there nothing to load? Raises StoreError when there is a row that no load would find."""
        with self._guard():
            self._check_range()
        return next(self._spans(), None) is None and not self._kept_behind(0, 1)

    def read(self) -> Iterator[Row]:
        """Every row in the order of id, a bounded number of bytes at a time."""
        for span in self._spans():
            for row in self._rows_with_ids(span):
                yield Row(int(row[0]), *self._items([row[1:]])[0])

    def drain(self) -> Iterator[Item]:
        """Take every item out, in order. All are deleted when the last one has been given.

        Raises StoreError when another process took rows meanwhile, or when rows cannot be told apart.
        """
        with self._guard():
            self._check_range()
            self._check_ids()
        kept, count = KeptItems(self._kept_behind), 0
        for span in self._spans():
            self.first = self.first if count else span.first
            self.last = span.last
            count += span.rows
            if kept.stand_before(self.last) or not self.table.whole:
                for row in self._rows_with_ids(span):
                    yield from kept.before(int(row[0]))
                    yield from self._items([row[1:]])
            else:
                with self._guard():
                    found = self._statements.items.rows(self._connection, **span.limits())
                yield from self._items(found)
        yield from kept.before(HIGHEST + 1)
        deleted = self.delete(self.first, self.last) if count else 0
        with self._guard():
            if kept.count and self._ledger is not None:
                deleted += self._ledger.drop(self._connection, self.table.known_as, kept.last)
        if deleted != count + kept.count:
            raise self._not_deleted()

    def _not_deleted(self) -> StoreError:
        """Fewer rows were deleted than read."""
        left = None if self._place.url.kind == MYSQL else self._run(self._statements.greatest).scalar()
        if left is not None and left >= self.first:  # what others deleted meanwhile would not be there, or end all
            return self._place.error("rows that were deleted are there still", "look for a trigger, a rule or a policy")
        return Contended(f"table {self._place.table}: another process took rows of it meanwhile; start again")

    def _spans(self) -> Iterator[Span]:
        """The rows in parts."""
        first = LOWEST
        while first <= HIGHEST:
            with self._guard():
                self._clock.check()
                span = self._span(first)
            if span is None:
                return
            yield span
            first = span.last + 1

    def _span(self, first: int) -> Span | None:
        """The next rows from that id on: as many as BATCH_ROWS and BATCH_BYTES allow, one at least."""
        limit = BATCH_ROWS
        while True:
            extent = self._statements.extent.rows(self._connection, first=first, last=HIGHEST, limit=limit)
            first_id, last_id, size, count = extent[0]
            if last_id is None:
                return None
            if count == 1 or size <= BATCH_BYTES:
                if not self.table.whole:
                    self._check_whole(first_id, last_id)
                return Span(int(first_id), int(last_id), count)
            limit = max(1, min(count - 1, count * BATCH_BYTES // int(size)))

    def _rows_with_ids(self, span: Span) -> list[Any]:
        with self._guard():
            found = list(self._statements.rows.rows(self._connection, **span.limits()))
            if not self.table.whole:
                self._check_whole(*(row[0] for row in found))
        return found

    def _check_whole(self, *ids: Any) -> None:
        for number in ids:
            if number != int(number):
                raise self._place.error(f"id {number} is no whole number", self.table.widen("id"))

    def _items(self, rows: list[Any]) -> list[Item]:
        """What is behind the ids."""
        if not self.table.has_added:
            return [(decode(key), decode(value), None) for key, value in rows]
        if self._place.url.kind == MYSQL:
            return [(decode(key), decode(value), added and added / MYSQL_SECOND) for key, value, added in rows]
        return [(decode(key), decode(value), _time(added)) for key, value, added in rows]

    def delete(self, first: int, last: int) -> int:
        """Delete the rows with these ids and all between; returns how many they were.

        Fewer than were read means that another process took some meanwhile.
        """
        count = 0
        with self._guard():
            while True:
                end, found = self._run(self._statements.end, first=first, last=last, limit=DELETE_ROWS).one()
                if end is None:
                    return count
                deleted = int(self._run(self._statements.delete, first=first, last=end).rowcount)
                count += deleted or self._deleted_by_trigger(first, end, found)
                if end >= last:
                    return count
                first = int(end) + 1

    def _deleted_by_trigger(self, first: int, last: int, found: int) -> int:
        """How many of so many rows are gone, though the database counted none: those of a view in sqlite."""
        if self._place.url.kind == MYSQL:  # it would still show what others deleted
            return 0
        left = self._run(self._statements.end, first=first, last=last, limit=found).one()[1]
        return int(found - left)

    def _kept_behind(self, behind: int, most: int = 100) -> list[Kept]:
        if self._ledger is None:
            return []
        with self._guard():
            return self._ledger.kept(self._connection, self.table.known_as, most, behind)

    def _check_range(self) -> None:
        for statement in self._statements.outside:
            row = self._run(statement).first()
            if row is not None and row[0] is None:
                raise self._place.error("a row has no id", self._cure_of_ids())
            if row is not None:
                shown = decode(row[0]).decode("utf-8", "backslashreplace")
                raise self._place.error(f"the id {shown} is not within 64 bits with a sign", "give that row another id")

    def _cure_of_ids(self) -> str:
        return f"make id its primary key, with automatic numbers: {self.table.widen('id')}"

    def _check_ids(self) -> None:
        if self.table.unique:
            return
        rows, different = self._run(self._statements.odd_ids).one()
        if rows != different:
            raise self._place.error("two of its rows have the same id", self._cure_of_ids())

    # --- save ---------------------------------------------------------------------------------------------------------

    def insert(self, items: Iterable[Given], progress: Progress = None, refused: frozenset[int] = frozenset()) -> int:
        """Add items behind all rows, in their order; returns how many they were, those kept in the ledger too.

        Each batch is read again and compared with what was given. `progress` is called now and then with the number
        that is done. Raises StoreError when the table cannot hold an item as it is, and there is no ledger.

        refused: what AllUndone said at the last try.
        """
        said = time.monotonic()
        with self._guard():
            last = self._greatest()
            if last == HIGHEST:
                reason = "its greatest id is the last number that there is"
                raise self._place.error(reason, "give that row a smaller id")
            last = LOWEST if last is None else last
            insertion = Insertion(self._connection, self.table, self._statements, self._ledger, last, refused)
        with self._mark():
            groups = batches(items, BATCH_ROWS, min(BATCH_BYTES, insertion.most_bytes))
            for batch in groups:
                with self._place.faults():
                    self._clock.check()
                    try:
                        insertion.add(batch)
                    except AllUndone as undone:
                        undone.refused = insertion.find_refused(chain([batch], groups), self._clock.check)
                        raise
                if progress is not None and time.monotonic() - said >= PROGRESS_EVERY:
                    progress(insertion.count)
                    said = time.monotonic()
            with self._place.faults():
                insertion.check()
        self.unfit += insertion.unfit
        self.why_unfit = self.why_unfit or insertion.why_unfit
        return insertion.count

    def _greatest(self) -> int | None:
        greatest = self._run(self._statements.greatest).scalar()
        return None if greatest is None else int(greatest)

    def _run(self, statement: Any, **parameters: int) -> Any:
        return self._connection.execute(statement, parameters)

    # --- when something went wrong ------------------------------------------------------------------------------------

    def may_commit(self) -> bool:
        """Whether nothing has failed; PostgreSQL takes a commit after an error for a rollback, and says nothing."""
        return not self._failed

    @contextmanager
    def _mark(self) -> Iterator[None]:
        """What raises inside may have been done by half: see that it is never committed."""
        try:
            yield
        except BaseException:
            self._failed = True
            raise

    @contextmanager
    def _guard(self) -> Iterator[None]:
        with self._mark(), self._place.faults():
            yield


def _time(added: Any) -> float | None:
    """When an item was added, if the column says so: anybody may write there what is no time."""
    return added if type(added) is float and EARLIEST <= added <= LATEST else None
