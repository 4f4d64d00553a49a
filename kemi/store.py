# SPDX-License-Identifier: GPL-2.0-or-later
"""The items of queues in a database: one table a queue, rows in the order of `id`, one transaction at a time.

Knows rows and bytes; no queue, no shared memory, no Kamailio. Nothing is ever stored other than it was given: each
batch is read again before the commit. Whatever fails, the tables are as they were.

    store = Store.open("sqlite:////var/lib/kamailio/mqueue.db")
    with store.begin("myq") as rows:
        rows.insert([(b"key", b"value")])

A transaction is proved to be committed by its token (`Transaction.note`, `Store.is_committed`), where the tables of
kemi.database.ledger can be made.
"""

from __future__ import annotations

import pwd
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from typing import Any, Callable, NamedTuple

from kemi.database import clock as clocks
from kemi.database import drivers, trial
from kemi.database import engine as engines
from kemi.database import url as urls
from kemi.database.clock import Clock
from kemi.database.engine import Options
from kemi.database.faults import Place
from kemi.database.ledger import TRANSFERS, Ledger
from kemi.database.rows import Row, Rows
from kemi.database.table import QueueTable, open_table
from kemi.database.transaction import Commit, Transaction
from kemi.errors import DatabaseAway, StoreError

__all__ = ["Options", "Row", "Rows", "Store", "Transaction", "Wanted"]

_ANY = Options()
_LOOKS = 5  # at a table that another server makes at the same time
_RETRY_EVERY = 1.0  # seconds between two attempts to reach a database that is away
_TELL_EVERY = 10.0

Say = Callable[[str], None]


class Wanted(NamedTuple):
    """A table that is going to be used."""

    table: str
    reads: bool = True
    writes: bool = True
    keyed: bool = False  # are its items' keys unique?


class Store:
    """A database for the items of queues."""

    def __init__(
        self, url: urls.DbUrl, engine: Any, owner: tuple[int, int] | None, options: Options, clock: Clock
    ) -> None:
        self.url = url
        self.clock = clock
        self._engine = engine
        self._owner = owner
        self._options = options
        self._runs_as = f", uid {owner[0]}" if owner else ""
        if owner:
            with suppress(KeyError):
                self._runs_as = f", {pwd.getpwuid(owner[0]).pw_name}"
        self.ledger = Ledger(self._place(TRANSFERS))

    def __repr__(self) -> str:
        return f"Store({str(self.url)!r})"

    @classmethod
    def open(cls, url: str, owner: tuple[int, int] | None = None, options: Options = _ANY) -> Store:
        """Prepare for the database of a db_url, without connecting. Raises ConfigError that says what to change.

        `owner` (uid, gid) gets an sqlite file that is made: Kamailio starts as root and stops as another user. The
        time of `options` begins now.
        """
        parsed = urls.parse(url)
        clock = Clock(options.timeout) if options.timeout else Clock()
        return cls(parsed, engines.make_engine(parsed, options, clock), owner, options, clock)

    def close(self) -> None:
        """Forget the database; no connection is open outside of a transaction."""
        self._engine.dispose()

    # --- transactions -------------------------------------------------------------------------------------------------

    @contextmanager
    def begin(self, table: str, *, keeps_unfit: bool = False) -> Iterator[Rows]:
        """One transaction on one table, made if it is missing. Commits at the end, or undoes all if anything is raised.

        keeps_unfit: items that the table cannot hold go into the ledger. Raises StoreError; what the caller raises
        inside comes through as it is.
        """
        with self.transaction([table], keeps_unfit=keeps_unfit) as work:
            yield work.rows(table)

    @contextmanager
    def transaction(self, tables: Iterable[str], *, keeps_unfit: bool = False) -> Iterator[Transaction]:
        """One transaction on tables, which are made before it if they are missing. As `begin`."""
        tables = list(tables)
        place = self._place(tables[0] if tables else self.ledger.place.table)
        commit = Commit(place)
        try:
            with self._connected(place) as connection:
                found = {table: self._look(connection, table) for table in tables}
                with place.faults():
                    if not tables:
                        with connection.begin() as looking:
                            self._look_for_ledger(connection)
                            looking.rollback()
                    transaction = connection.begin()
                    drivers.limit_waiting(connection, self.url.kind, self.clock)
                    engines.prepare_for_rows(connection, self.url.kind)
                    work = Transaction(connection, found, self.clock, self.ledger, keeps_unfit=keeps_unfit)
                yield work
                commit.run(work, transaction)
        except StoreError:
            raise
        except BaseException as error:
            if commit.began:  # a signal's exception: nobody may take it for a transaction that is undone
                raise commit.unknown(error) from None
            raise

    @contextmanager
    def _connected(self, place: Place) -> Iterator[Any]:
        with ExitStack() as undo:
            with place.faults():
                if self.url.kind == urls.SQLITE:
                    engines.make_file(self.url.database, self._owner)
                undo.enter_context(drivers.bounded(self._engine, self.clock))
            try:
                with self.clock.at_most(clocks.CONNECT):
                    connection = self._engine.connect()
            except Exception as error:  # noqa: BLE001 - as in Place.faults
                raise place.away(error) from None
            undo.callback(self._end, connection)
            yield connection

    def _end(self, connection: Any) -> None:
        """Undo what is not committed. The first error counts: a connection that is lost undoes by itself."""
        with suppress(Exception):
            if not self.clock.left():
                connection.invalidate()  # the database undoes it without us
        with suppress(Exception):
            connection.close()

    def _place(self, table: str) -> Place:
        return Place(self.url, table, self._runs_as, self.clock)

    def _look(self, connection: Any, table: str) -> QueueTable:
        """Look at a table, make it if it is missing, in a transaction of its own: MySQL would end one that goes on."""
        place = self._place(table)
        for left in range(_LOOKS, 0, -1):
            try:
                with place.faults():
                    transaction = connection.begin()
                    drivers.limit_waiting(connection, self.url.kind, self.clock)
                    found = open_table(connection, place, inexact=self._options.inexact)
                    self._look_for_ledger(connection)
                    transaction.commit() if found.made else transaction.rollback()
            except StoreError as error:
                with suppress(Exception):  # the first error counts
                    if connection.in_transaction():
                        connection.get_transaction().rollback()
                if left == 1 or not _is_race(error):
                    raise
            else:
                return found
        raise AssertionError(table)

    def _look_for_ledger(self, connection: Any) -> None:
        """Once. Whether this user may use what is there, is found out by `make_ledger`, or when it is used."""
        if self.ledger.missing is None:
            try:
                self.ledger.missing = self.ledger.why_not(connection)
            except Exception as error:  # noqa: BLE001 - MySQL shows only tables that the user may use
                self.ledger.missing = str(self.ledger.place.broken(error))

    # --- a start ------------------------------------------------------------------------------------------------------

    def wait_until_there(self, seconds: float, say: Say) -> None:
        """Try to connect for so many seconds. Raises DatabaseAway with the last reason."""
        begin, told = time.monotonic(), -_TELL_EVERY
        while True:
            self.clock.restart()
            try:
                with self._connected(self._place(self.ledger.place.table)):
                    pass
            except DatabaseAway as error:
                passed = time.monotonic() - begin
                if passed + _RETRY_EVERY > seconds or self.url.kind == urls.SQLITE:
                    raise
                if passed - told >= _TELL_EVERY:
                    say(f"{error}; tried again, {seconds - passed:.0f} s more (db_retry)")
                    told = passed
                time.sleep(_RETRY_EVERY)
            else:
                break
        self.clock.restart()

    def prepare(self, wanted: list[Wanted]) -> list[str]:
        """Make what is missing for these tables, and try what a stop will do with them.

        Returns what an operator should know. Raises StoreError when one of them cannot serve.
        """
        notes = []
        place = self._place(wanted[0].table)
        with self._connected(place) as connection:
            found = {want.table: self._look(connection, want.table) for want in wanted}
            self._refuse_shared(found)
            self._make_ledger(connection)
        if self.ledger.missing:
            notes.append(self._why_inexact())
        for want in wanted:
            notes += [f"queue {want.table!r}: {note}" for note in found[want.table].notes]
            if want.writes:
                note = self._try(want)
                notes += [f"queue {want.table!r}: {note}"] if note else []
        return notes

    def _try(self, want: Wanted) -> str:
        keyed, inexact = want.keyed, self._options.inexact
        user = trial.as_user(self._owner) if self.url.kind == urls.SQLITE else nullcontext()
        with user:
            return trial.write(lambda: self.begin(want.table), keyed=keyed, inexact=inexact)

    def _refuse_shared(self, found: dict[str, QueueTable]) -> None:
        """Two queues in one table would mix their items."""
        seen: dict[str, str] = {}
        for queue, table in found.items():
            other = seen.setdefault(str(table.oid or table.known_as), queue)
            if other != queue:
                raise self._place(queue).error(
                    f"queue {other!r} has the same table there", "give one of them another name, or no dbmode"
                )

    def make_ledger(self) -> None:
        """Make the ledger's tables; `Ledger.missing` says why when they cannot be made. Raises DatabaseAway."""
        with self._connected(self.ledger.place) as connection:
            self._make_ledger(connection)

    def _make_ledger(self, connection: Any) -> None:
        """Make its tables and try them. What stands in the way is no error: see `_why_inexact`."""
        for left in range(_LOOKS, 0, -1):
            try:
                with self.ledger.place.faults():
                    with connection.begin():
                        drivers.limit_waiting(connection, self.url.kind, self.clock)
                        self.ledger.make(connection)
                    with suppress(trial.Undo), connection.begin():
                        self.ledger.try_out(connection)
                        self.ledger.missing = self.ledger.why_not(connection)
                        raise trial.Undo
            except StoreError as error:
                self.ledger.missing = str(error)
                if left == 1 or not _is_race(error):
                    return
            else:
                return

    def _why_inexact(self) -> str:
        place = self.ledger.place
        with suppress(StoreError), self._connected(place) as connection, place.faults():
            statements = "; ".join(self.ledger.statements_to_make(connection))
            return (
                f"{self.ledger.missing}. Without these tables a save or load that is interrupted is judged by the "
                "rows, which is right only while nobody else writes to the table, and an item that a column cannot "
                f"hold keeps its whole queue in memory. Let an administrator run: {statements}"
            )
        return str(self.ledger.missing)

    # --- proofs -------------------------------------------------------------------------------------------------------

    def is_committed(self, token: int) -> bool:
        """Return True if the transaction with this token was committed; wait while it goes on. Raises StoreError."""
        committed = False
        with suppress(trial.Undo), self.transaction([]) as work:
            if self.ledger.missing:
                raise self.ledger.place.error(
                    "that table says whether a transfer was completed that a kill interrupted; it is not there, or not "
                    f"for this user ({self.ledger.missing})",
                    "was it dropped, or db_url changed? Restore it; or make it anew and what is in memory counts",
                )
            committed = work.is_noted(token)
            raise trial.Undo
        return committed

    def forget(self, tokens: list[int]) -> None:
        """Delete tokens that nobody will ask for. What goes wrong is no matter: they are deleted some day."""
        if tokens and not self.ledger.missing:
            with suppress(StoreError), self.transaction([]) as work, self.ledger.place.faults():
                work.forget(tokens)


def _is_race(error: StoreError) -> bool:
    """Return True if another server made the same table at this moment. PostgreSQL says it by its catalogue."""
    return any(word in str(error) for word in ("pg_type_typname", "pg_class_relname", "already exists", "concurrently"))
