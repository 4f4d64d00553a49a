"""The items of queues in a database: one table a queue, rows in the order of `id`, one transaction at a time.

Knows rows and bytes; no queue, no shared memory, no Kamailio. Nothing is ever stored other than it was given: each
batch is read again before the commit, and what came back otherwise is an error. Whatever fails, the table is as it was.

    store = Store.open("sqlite:////var/lib/kamailio/mqueue.db")
    with store.begin("myq") as rows:
        rows.insert([(b"key", b"value")])
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Callable, NamedTuple, Optional

from kemi.database import engine as engines
from kemi.database import url as urls
from kemi.database.faults import Place
from kemi.database.statements import HIGHEST, LOWEST, Statements
from kemi.database.table import COLUMNS, decode, open_table, unfit
from kemi.errors import CommitUnknown, StoreError

BATCH_ROWS = 1000
BATCH_BYTES = 1 << 20  # of one INSERT, and of the rows that are read at once
DELETE_ROWS = 10_000
PROGRESS_EVERY = 5.0  # seconds
_ROW = 64  # bytes that a row costs in a statement besides key and value
_STATEMENT = 1024  # bytes of a statement besides; names have some hundred at most

Item = tuple[bytes, bytes]
Progress = Optional[Callable[[int], None]]


class Row(NamedTuple):
    """One item with its place in the order."""

    id: int
    key: bytes
    value: bytes


class Store:
    """A database for the items of queues."""

    def __init__(self, url: urls.DbUrl, engine: Any, owner: tuple[int, int] | None) -> None:
        self.url = url
        self._engine = engine
        self._owner = owner

    def __repr__(self) -> str:
        return f"Store({str(self.url)!r})"

    @classmethod
    def open(cls, url: str, owner: tuple[int, int] | None = None) -> Store:
        """Prepare for the database of a db_url, without connecting. Raises ConfigError that says what to change.

        `owner` (uid, gid) gets an sqlite file that is made: Kamailio starts as root and stops as another user.
        """
        parsed = urls.parse(url)
        return cls(parsed, engines.make_engine(parsed), owner)

    def close(self) -> None:
        """Forget the database; no connection is open outside begin."""
        self._engine.dispose()

    @contextmanager
    def begin(self, table: str) -> Iterator[Rows]:
        """One transaction on one table, made if it is missing. Commits at the end, or undoes all if anything is raised.

        Raises StoreError; what the caller raises inside comes through as it is.
        """
        place = Place(self.url, table)
        with place.faults():
            if self.url.kind == urls.SQLITE:
                engines.make_file(self.url.database, self._owner)
            connection = self._engine.connect()
        try:
            with place.faults():
                transaction = connection.begin()
                rows = Rows(connection, place)
            yield rows
            _commit(place, rows, transaction)
        finally:
            # Undoes what is not committed. The first error counts: a connection that is lost undoes by itself.
            with suppress(Exception):
                connection.close()


class Rows:
    """The rows of one table, inside one transaction."""

    def __init__(self, connection: Any, place: Place) -> None:
        """Look at the table. Raises StoreError, and whatever a driver raises."""
        engines.limit_waiting(connection, place.url.kind)
        self._connection = connection
        self._place = place
        self._table = open_table(connection, place)
        engines.prepare_for_rows(connection, place.url.kind)
        self._packet = engines.longest_statement(connection, place.url.kind)
        self._statements = Statements(self._table.rows, place.url.kind)
        self._failed = False

    def last_id(self) -> int:
        """The greatest id, 0 when there is no row."""
        with self._guard():
            return self._greatest() or 0

    def wait_for_others(self, first: int) -> None:
        """Wait until no other transaction is changing rows from this id on. Look for its outcome in a new one."""
        with self._guard():
            if self._statements.lock is not None:
                self._run(self._statements.lock, first=first)

    def read(self) -> Iterator[Row]:
        """Every row in the order of id, a bounded number of bytes at a time."""
        first = LOWEST
        while True:
            with self._guard():
                page = self._page(first)
            if not page:
                return
            yield from page
            first = page[-1].id + 1

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
                count += self._run(self._statements.delete, first=first, last=end).rowcount
                first = end + 1

    def insert(self, items: Iterable[Item], progress: Progress = None) -> int:
        """Add items behind all rows, in their order; returns how many they were.

        Each batch is read again and compared with what was given. `progress` is called now and then with the number
        that is done. Raises StoreError when the table cannot hold an item as it is.
        """
        count, said = 0, time.monotonic()
        with self._guard():
            greatest = self._greatest()
        first = LOWEST if greatest is None else greatest + 1
        with self._mark():
            for batch in _batches(items, min(BATCH_BYTES, self._packet // 4)):
                with self._place.faults():
                    first = self._write(batch, count, first) + 1
                count += len(batch)
                if progress is not None and time.monotonic() - said >= PROGRESS_EVERY:
                    progress(count)
                    said = time.monotonic()
        return count

    def may_commit(self) -> bool:
        """Whether nothing has failed; PostgreSQL takes a commit after an error for a rollback, and says nothing."""
        return not self._failed

    def _write(self, batch: list[Item], before: int, first: int) -> int:
        """Insert one batch and see that it is there; returns the last id. `first` is where its ids begin at least."""
        self._run_many(self._statements.insert, self._encoded(batch, before))
        found = self._run(self._statements.rows, first=first, last=HIGHEST, limit=len(batch) + 1).all()
        if len(found) != len(batch):
            raise self._place.error(
                f"{len(found)} rows came to the end of the table when {len(batch)} were written",
                "its column id must give each row a greater number than all before",
            )
        if [(decode(row[1]), decode(row[2])) for row in found] != batch:
            raise self._changed(batch, found, before)
        return int(found[-1][0])

    def _encoded(self, batch: list[Item], before: int) -> list[dict[str, object]]:
        """The parameters of an INSERT. Raises StoreError for an item that a column cannot hold."""
        encode_key, encode_value = self._table.encode
        number, column, encoded = before, "key", []
        try:
            for number, (key, value) in enumerate(batch, before + 1):  # noqa: B007 for the error
                column = "key"
                taken = encode_key(key)
                column = "val"
                encoded.append({"key": taken, "val": encode_value(value)})
        except ValueError as error:
            raise unfit(self._table, number, column, f"it has {error}") from None
        # A group of items is never so large (_batches).
        if len(batch) == 1 and 2 * sum(map(len, batch[0])) + _STATEMENT > self._packet:
            self._check_packet(encoded[0], before + 1)
        return encoded

    def _check_packet(self, item: dict[str, object], number: int) -> None:
        """Refuse an item whose statement the server would not even read: it would break off the connection."""
        size = _STATEMENT + sum(engines.length_in_statement(self._connection, value) for value in item.values())
        if size > self._packet:
            raise self._place.error(
                f"item {number} takes {size} bytes in a statement, the server takes {self._packet}",
                "raise max_allowed_packet of the server",
            )

    def _changed(self, batch: list[Item], found: list[Any], before: int) -> StoreError:
        """Which item did not come back as it was given, and how."""
        for number, (given, row) in enumerate(zip(batch, found), before + 1):
            for column, wanted, value in zip(COLUMNS[1:], given, row[1:]):
                got = decode(value)
                if got != wanted:
                    what = "other bytes" if len(got) == len(wanted) else f"{len(got)} bytes"
                    return unfit(self._table, number, column, f"its {len(wanted)} bytes came back as {what}")
        raise AssertionError(batch)

    def _page(self, first: int) -> list[Row]:
        """The next rows from that id on: as many as BATCH_ROWS and BATCH_BYTES allow, one at least."""
        limit = BATCH_ROWS
        while True:
            extent = self._run(self._statements.extent, first=first, last=HIGHEST, limit=limit).one()
            end, size, count = extent
            if end is None:
                return []
            if count == 1 or size <= BATCH_BYTES:
                break
            limit = max(1, min(count - 1, count * BATCH_BYTES // int(size)))
        found = self._run(self._statements.rows, first=first, last=end, limit=count).all()
        return [Row(row[0], decode(row[1]), decode(row[2])) for row in found]

    def _greatest(self) -> int | None:
        greatest = self._run(self._statements.greatest).scalar()
        return None if greatest is None else int(greatest)

    def _run(self, statement: Any, **parameters: int) -> Any:
        return self._connection.execute(statement, parameters)

    def _run_many(self, statement: Any, parameters: list[dict[str, object]]) -> None:
        self._connection.execute(statement, parameters)

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


def _commit(place: Place, rows: Rows, transaction: Any) -> None:
    if not rows.may_commit():
        raise place.error("something failed before the commit", "nothing was changed")
    try:
        transaction.commit()
    except BaseException as error:  # noqa: BLE001 - also a signal's: the answer to the commit did not get here
        if place.is_refusal(error):
            raise place.broken(error) from None
        broken = place.broken(error, "look into the database's log")
        raise CommitUnknown(f"{broken}; it broke off during the commit, so all may be done or nothing") from None


def _batches(items: Iterable[Item], limit: int) -> Iterator[list[Item]]:
    """Items in groups of BATCH_ROWS and so many bytes at most; one that is larger goes alone."""
    batch: list[Item] = []
    size = 0
    for item in items:
        needs = len(item[0]) + len(item[1]) + _ROW
        if batch and (len(batch) == BATCH_ROWS or size + needs > limit):
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += needs
    if batch:
        yield batch
