"""The rows of one queue's table, inside one transaction: add, read, delete, and see that nothing changes on the way.

Each batch that is inserted is read again and compared. An item that a column cannot hold is kept in the ledger, where
there is one, with the place in the order that it has; otherwise the insert is refused.

    save   insert       a batch: SAVEPOINT; INSERT; SELECT and compare; RELEASE; what is refused is cut in halves
    load   drain        a page: SELECT; then the kept items that stand before its rows; at the end DELETE all of it
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Callable, NamedTuple, Optional

from kemi.database import engine as engines
from kemi.database.batches import Given, Item, KeptItems, batches
from kemi.database.clock import Clock
from kemi.database.ledger import Kept, Ledger
from kemi.database.statements import HIGHEST, LOWEST, Statements
from kemi.database.table import COLUMNS, QueueTable, decode, unfit
from kemi.errors import Contended, ItemUnfit, StoreError

BATCH_ROWS = 1000
BATCH_BYTES = 1 << 20  # of one INSERT, and of the rows that are read at once
DELETE_ROWS = 10_000
PROGRESS_EVERY = 5.0  # seconds
_STATEMENT = 1024  # bytes of a statement besides; names have some hundred at most

Progress = Optional[Callable[[int], None]]


class Row(NamedTuple):
    """One item with its place in the order."""

    id: int
    key: bytes
    value: bytes
    added: float | None = None


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
        self._packet = engines.longest_statement(connection, self._place.url.kind)
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
        return next(self.read(), None) is None and not self._kept_behind(0, 1)

    def read(self) -> Iterator[Row]:
        """Every row in the order of id, a bounded number of bytes at a time."""
        for page in self._pages():
            for row in page:
                yield Row(int(row[0]), *self._item(row))

    def drain(self) -> Iterator[Item]:
        """Take every item out, in order. All are deleted when the last one has been given.

        Raises StoreError when another process took rows meanwhile, or when rows cannot be told apart.
        """
        with self._guard():
            self._check_range()
            self._check_ids()
        kept, count = KeptItems(self._kept_behind), 0
        for page in self._pages():
            self.first = self.first if count else int(page[0][0])
            self.last = int(page[-1][0])
            count += len(page)
            if kept.stand_before(self.last):
                for row in page:
                    yield from kept.before(int(row[0]))
                    yield self._item(row)
            else:
                yield from map(self._item, page)
        yield from kept.before(HIGHEST + 1)
        deleted = self.delete(self.first, self.last) if count else 0
        with self._guard():
            if kept.count and self._ledger is not None:
                deleted += self._ledger.drop(self._connection, self._place.table, kept.last)
        if deleted != count + kept.count:
            raise Contended(f"table {self._place.table}: another process took rows of it meanwhile; start again")

    def _pages(self) -> Iterator[list[Any]]:
        first = LOWEST
        while True:
            with self._guard():
                self._clock.check()
                page = self._page(first)
            if not page:
                return
            yield page
            first = int(page[-1][0]) + 1
            if first > HIGHEST:
                return

    def _item(self, row: Any) -> Item:
        return decode(row[1]), decode(row[2]), row[3] if self.table.has_added else None

    def delete(self, first: int, last: int) -> int:
        """Delete the rows with these ids and all between; returns how many they were.

        Fewer than were read means that another process took some meanwhile.
        """
        count = 0
        with self._guard():
            while True:
                end = self._run(self._statements.end, first=first, last=last, limit=DELETE_ROWS).scalar()
                if end is None:
                    return count
                count += int(self._run(self._statements.delete, first=first, last=end).rowcount)
                if end >= last:
                    return count
                first = int(end) + 1

    def _kept_behind(self, behind: int, most: int = 100) -> list[Kept]:
        if self._ledger is None:
            return []
        with self._guard():
            return self._ledger.kept(self._connection, self._place.table, most, behind)

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

    def _page(self, first: int) -> list[Any]:
        """The next rows from that id on: as many as BATCH_ROWS and BATCH_BYTES allow, one at least."""
        limit = BATCH_ROWS
        while True:
            extent = self._statements.extent.rows(self._connection, first=first, last=HIGHEST, limit=limit)
            end, size, count = extent[0]
            if end is None:
                return []
            if count == 1 or size <= BATCH_BYTES:
                break
            limit = max(1, min(count - 1, count * BATCH_BYTES // int(size)))
        found = list(self._statements.rows.rows(self._connection, first=first, last=end, limit=count))
        if not self.table.whole:
            self._check_whole(found)
        return found

    def _check_whole(self, found: list[Any]) -> None:
        for row in found:
            if row[0] != int(row[0]):
                raise self._place.error(f"id {row[0]} is no whole number", self.table.widen("id"))

    # --- save ---------------------------------------------------------------------------------------------------------

    def insert(self, items: Iterable[Given], progress: Progress = None) -> int:
        """Add items behind all rows, in their order; returns how many they were, those kept in the ledger too.

        Each batch is read again and compared with what was given. `progress` is called now and then with the number
        that is done. Raises StoreError when the table cannot hold an item as it is, and there is no ledger.
        """
        count, said = 0, time.monotonic()
        with self._guard():
            last = self._greatest()
        if last == HIGHEST:
            raise self._place.error("its greatest id is the last number that there is", "give that row a smaller id")
        last = LOWEST if last is None else last
        with self._mark():
            for batch in batches(items, BATCH_ROWS, min(BATCH_BYTES, self._packet // 4)):
                with self._place.faults():
                    self._clock.check()
                    last = self._add(batch, count, last)
                count += len(batch)
                if progress is not None and time.monotonic() - said >= PROGRESS_EVERY:
                    progress(count)
                    said = time.monotonic()
        return count

    def _add(self, batch: list[Item], before: int, last: int) -> int:
        """Add one batch; returns the greatest id."""
        aside: list[tuple[int, bytes, bytes, float | None]] = []
        for item, number in zip(batch, self._write(batch, before, last)):
            if number is None:
                aside.append((last, *item))
            else:
                last = number
        if aside and self._ledger is not None:
            self._ledger.keep(self._connection, self._place.table, aside)
            self.unfit += len(aside)
        return last

    def _write(self, batch: list[Item], before: int, last: int) -> list[int | None]:
        """Insert items behind that id; returns the id of each, None for one that the table cannot hold."""
        encoded = self._encoded(batch, before)
        ids: list[int | None] = [None] * len(batch)
        fits = [number for number, parameters in enumerate(encoded) if parameters is not None]
        if not fits:
            return ids
        given = [parameters for parameters in encoded if parameters is not None]
        takes_back = self.table.transactional is not False
        if takes_back:
            self._connection.exec_driver_sql("SAVEPOINT mqueue_kemi")
        try:
            self._run_many(given)
        except Exception as error:
            if not takes_back or not self._place.is_unfit(error):
                raise
            self._undo(error)
            if len(batch) == 1:
                self._keep_aside(ItemUnfit(str(self._place.broken(error))))
                return ids
            half = len(batch) // 2
            ids = self._write(batch[:half], before, last)
            last = next((number for number in reversed(ids) if number is not None), last)
            return ids + self._write(batch[half:], before + half, last)
        if takes_back:
            self._connection.exec_driver_sql("RELEASE SAVEPOINT mqueue_kemi")
        written = batch if len(fits) == len(batch) else [batch[number] for number in fits]
        for number, row in zip(fits, self._read_again(written, given, before, last)):
            ids[number] = row
        return ids

    def _undo(self, error: Exception) -> None:
        """Take a batch back. Raises `error` where it has ended the whole transaction, as sqlite's ROLLBACK does."""
        try:
            self._connection.exec_driver_sql("ROLLBACK TO SAVEPOINT mqueue_kemi")
        except Exception:  # noqa: BLE001 - the first error counts
            raise error from None

    def _read_again(self, batch: list[Item], given: list[Any], before: int, last: int) -> list[int | None]:
        """See that a batch is at the end of the table; returns the ids, None for what is kept aside.

        given: how its items were given to the driver.
        """
        limit = len(batch) + 1
        found = self._statements.rows.rows(self._connection, first=last + 1, last=HIGHEST, limit=limit)
        if len(found) != len(batch):
            raise self._place.error(
                f"{len(found)} rows came to the end of the table when {len(batch)} were written",
                "its column id must give each row a greater number than all before: set the next automatic number "
                "behind the greatest id",
            )
        ids: list[int | None] = [int(row[0]) for row in found]
        pairs = [(row[1], row[2]) for row in found]
        like = given if str in map(type, pairs[0]) else batch  # a driver gives text as str, sqlite as bytes
        if list(map(type, pairs[0])) == list(map(type, like[0][:2])) and pairs == [item[:2] for item in like]:
            return ids
        for number, (row, item) in enumerate(zip(found, batch)):
            if decode(row[1]) != item[0] or decode(row[2]) != item[1]:
                self._keep_aside(self._changed(item, row, before + number + 1))
                self.delete(int(row[0]), int(row[0]))
                ids[number] = None
        return ids

    def _encoded(self, batch: list[Item], before: int) -> list[Any]:
        """The parameters of an INSERT for each item; None for one that a column cannot hold."""
        encode_key, encode_value = self.table.encode
        # A group of items is never so large (batches).
        if len(batch) > 1 or 2 * (len(batch[0][0]) + len(batch[0][1])) + _STATEMENT < self._packet:
            with suppress(ValueError):
                if self.table.has_added:
                    return [(encode_key(key), encode_value(value), added) for key, value, added in batch]
                return [(encode_key(key), encode_value(value)) for key, value, _ in batch]
        return [self._encoded_alone(item, number) for number, item in enumerate(batch, before + 1)]

    def _encoded_alone(self, item: Item, number: int) -> Any:
        encode_key, encode_value = self.table.encode
        column = "key"
        try:
            key = encode_key(item[0])
            column = "val"
            value = encode_value(item[1])
        except ValueError as error:
            self._keep_aside(ItemUnfit(str(unfit(self.table, number, column, f"it has {error}"))))
            return None
        if 2 * (len(item[0]) + len(item[1])) + _STATEMENT > self._packet:
            self._check_packet(key, value, number)
        return (key, value, item[2]) if self.table.has_added else (key, value)

    def _keep_aside(self, why: StoreError) -> None:
        """Note that an item is to be kept in the ledger. Raises the error when there is none."""
        if self._ledger is None:
            raise why from None
        self.why_unfit = self.why_unfit or str(why)

    def _check_packet(self, key: object, value: object, number: int) -> None:
        """Refuse an item whose statement the server would not even read: it would break off the connection."""
        size = _STATEMENT + sum(engines.length_in_statement(self._connection, part) for part in (key, value))
        if size > self._packet:
            raise self._place.error(
                f"item {number} takes {size} bytes in a statement, the server takes {self._packet}",
                "raise max_allowed_packet of the server",
            )

    def _changed(self, item: Item, row: Any, number: int) -> StoreError:
        """How an item did not come back as it was given."""
        column, wanted, got = next(
            (column, wanted, decode(value))
            for column, wanted, value in zip(COLUMNS[1:], item[:2], row[1:])
            if decode(value) != wanted
        )
        what = "other bytes" if len(got) == len(wanted) else f"{len(got)} bytes"
        return unfit(self.table, number, column, f"its {len(wanted)} bytes came back as {what}")

    def _greatest(self) -> int | None:
        greatest = self._run(self._statements.greatest).scalar()
        return None if greatest is None else int(greatest)

    def _run(self, statement: Any, **parameters: int) -> Any:
        return self._connection.execute(statement, parameters)

    def _run_many(self, parameters: list[Any]) -> None:
        names = self._statements.names
        if self._statements.insert_many is None:
            self._connection.execute(self._statements.insert, [dict(zip(names, values)) for values in parameters])
        else:
            self._statements.insert_many.many(self._connection, parameters, names)

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
