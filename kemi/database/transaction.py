# SPDX-License-Identifier: GPL-2.0-or-later
"""One transaction: the rows of its tables, the token that proves its commit, and the commit itself."""

from __future__ import annotations

from typing import Any

from kemi.database.clock import Clock
from kemi.database.faults import Place
from kemi.database.ledger import Ledger
from kemi.database.rows import Rows
from kemi.database.table import QueueTable
from kemi.errors import CommitUnknown


class Transaction:
    """What goes on between the beginning of a transaction and its commit."""

    def __init__(
        self, connection: Any, tables: dict[str, QueueTable], clock: Clock, ledger: Ledger, *, keeps_unfit: bool
    ) -> None:
        self._connection = connection
        self._clock = clock
        self._tables = tables
        self._all_ledger = ledger
        self._ledger = ledger if keeps_unfit and not ledger.missing else None
        self._rows: list[Rows] = []

    def rows(self, table: str) -> Rows:
        """The rows of one of the tables."""
        rows = Rows(self._connection, self._tables[table], self._clock, self._ledger)
        self._rows.append(rows)
        return rows

    def note(self, token: int, instance: str, queue: str) -> bool:
        """Write the token that proves the commit. False when there is no table for it, or none that takes it."""
        ledger = self._all_ledger
        if ledger.missing:
            return False
        with ledger.place.faults():
            self._connection.exec_driver_sql("SAVEPOINT mqueue_kemi")
            try:
                ledger.note(self._connection, token, instance, queue)
            except Exception as error:
                if getattr(error, "connection_invalidated", True):
                    raise
                self._undo(error)
                ledger.missing = str(ledger.place.broken(error))
                for rows in self._rows:
                    rows.without_ledger()
        return not ledger.missing

    def _undo(self, error: Exception) -> None:
        """Go back to the savepoint. Raises `error` where there is none any more."""
        try:
            self._connection.exec_driver_sql("ROLLBACK TO SAVEPOINT mqueue_kemi")
        except Exception:  # noqa: BLE001 - sqlite undoes the whole transaction when the disk is full
            raise error from None

    def is_noted(self, token: int) -> bool:
        """Is the token there? A transaction that has written it and goes on is waited for. To be undone."""
        ledger = self._all_ledger
        with ledger.place.faults():
            if ledger.has(self._connection, token):
                return True
            return not ledger.add(self._connection, token)

    def forget(self, tokens: list[int]) -> None:
        """Delete tokens."""
        self._all_ledger.forget(self._connection, tokens)

    def may_commit(self) -> bool:
        """Whether nothing has failed."""
        return all(rows.may_commit() for rows in self._rows)


class Commit:
    """The end of a transaction, of which it may not be known how it ended."""

    def __init__(self, place: Place) -> None:
        self.began = False
        self._place = place

    def run(self, work: Transaction, transaction: Any) -> None:
        """Commit. Raises StoreError when nothing was done, CommitUnknown when that is not known."""
        if not work.may_commit():
            raise self._place.error("something failed before the commit", "nothing was changed")
        self.began = True
        try:
            transaction.commit()
        except BaseException as error:  # noqa: BLE001 - also a signal's: the answer to the commit did not get here
            if self._place.is_refusal(error):
                raise self._place.broken(error) from None
            raise self.unknown(error) from None

    def unknown(self, error: BaseException) -> CommitUnknown:
        """What to raise for an error after the beginning."""
        broken = self._place.broken(error, "look into the database's log")
        return CommitUnknown(f"{broken}; it broke off during the commit, so all may be done or nothing")
