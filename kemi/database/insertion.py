# SPDX-License-Identifier: GPL-2.0-or-later
"""Write items behind all rows of a queue's table, batch by batch, and see that each is there as it was given.

    a batch   SAVEPOINT; INSERT; SELECT and compare; RELEASE
    refused   ROLLBACK TO SAVEPOINT; its two halves, each like a batch; at the end a single item is the unfit one

A table refuses an item by an error, or without a word: a trigger, a rule or a conflict clause leaves it out, takes it
away, or adds rows of its own. What came to the end of the table tells all of these. An unfit item is kept in the
ledger with its place in the order; where there is no ledger, it ends the insert.

In sqlite a trigger or a conflict clause may undo the whole transaction, savepoint and all (ROLLBACK). Which items have
that done to them is found by writing each of the others too, in transactions that are undone (`find_refused`); then
the save begins anew, and keeps these in the ledger at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Callable

from kemi.database import engine as engines
from kemi.database.batches import Item
from kemi.database.ledger import Ledger
from kemi.database.statements import HIGHEST, Statements
from kemi.database.table import COLUMNS, QueueTable, decode, unfit
from kemi.database.url import MYSQL
from kemi.errors import AllUndone, ItemUnfit, StoreError

_STATEMENT = 1024  # bytes of a statement besides; names have some hundred at most
_UNDONE = "a trigger or a conflict clause of the table undid everything, not its own row alone"

_ABORT = "have it refuse the row only: ABORT in place of ROLLBACK"


class Insertion:
    """One insert of many items, inside a transaction."""

    def __init__(
        self,
        connection: Any,
        table: QueueTable,
        statements: Statements,
        ledger: Ledger | None,
        last: int,
        refused: frozenset[int],
    ) -> None:
        """last: the greatest id of the table, or LOWEST. refused: numbers of items that are not to be tried."""
        self.count = 0  # items that are done
        self.unfit = 0  # of these, kept in the ledger
        self.why_unfit = ""  # the first of them
        self._connection = connection
        self._table = table
        self._place = table.place
        self._statements = statements
        self._ledger = ledger
        self._refused = refused
        self._before = self._last = last
        self._packet = engines.longest_statement(connection, self._place.url.kind)
        self.most_bytes = self._packet // 4  # of a batch
        if ledger is not None:
            ledger.bring_back(connection, table.known_as, last)

    def add(self, batch: list[Item]) -> None:
        """Write one batch."""
        aside: list[tuple[int, bytes, bytes, float | None]] = []
        for item, number in zip(batch, self._write(batch, self.count, self._last)):
            if number is None:
                aside.append((self._last, *item))
            else:
                self._last = number
        if aside and self._ledger is not None:
            self._ledger.keep(self._connection, self._table.known_as, aside)
            self.unfit += len(aside)
        self.count += len(batch)

    def check(self) -> None:
        """See that what was written later took nothing away; in MySQL nothing can."""
        if self._table.transactional is not True or self._place.url.kind == MYSQL:
            return
        there = self._connection.execute(self._statements.behind, {"first": self._before}).scalar()
        wanted = self.count - self.unfit
        if there != wanted:
            raise self._place.error(
                f"{there} rows are at the end of the table when {wanted} were written",
                "look for a trigger, a rule or ON CONFLICT REPLACE that takes earlier rows away",
            )

    # --- a batch and its halves ---------------------------------------------------------------------------------------

    def _write(self, batch: list[Item], before: int, last: int) -> list[int | None]:
        """Insert items behind that id; returns the id of each, None for one that the table cannot hold."""
        encoded = self._encoded(batch, before)
        if self._refused:
            for number in self._refused.intersection(range(before, before + len(batch))):
                encoded[number - before] = None
                self._keep_aside(ItemUnfit(str(self._place.error(_UNDONE, _ABORT))))
        fits = [number for number, parameters in enumerate(encoded) if parameters is not None]
        ids: list[int | None] = [None] * len(batch)
        if not fits:
            return ids
        given = [encoded[number] for number in fits]
        written = batch if len(fits) == len(batch) else [batch[number] for number in fits]
        numbers = [before + number + 1 for number in fits]
        if self._table.transactional is False:
            found = self._insert(written, given, numbers, last)
        else:
            self._connection.exec_driver_sql("SAVEPOINT mqueue_kemi")
            try:
                found = self._insert(written, given, numbers, last)
            except Exception as error:
                if not self._is_unfit(error):
                    raise
                self._undo(error)
                return self._halves(batch, before, last, error)
            self._connection.exec_driver_sql("RELEASE SAVEPOINT mqueue_kemi")
        for number, row in zip(fits, found):
            ids[number] = row
        return ids

    def _halves(self, batch: list[Item], before: int, last: int, error: Exception) -> list[int | None]:
        """Write a batch that was refused in two parts; a single item is kept aside."""
        if len(batch) == 1:
            self._keep_aside(error if isinstance(error, ItemUnfit) else ItemUnfit(str(self._place.broken(error))))
            return [None]
        half = len(batch) // 2
        ids = self._write(batch[:half], before, last)
        last = next((number for number in reversed(ids) if number is not None), last)
        return ids + self._write(batch[half:], before + half, last)

    def _is_unfit(self, error: Exception) -> bool:
        if isinstance(error, ItemUnfit):
            return True
        return self._place.is_unfit(error, lambda: engines.state_of_error(self._connection))

    def _undo(self, error: Exception) -> None:
        """Take a batch back. Raises AllUndone where `error` has ended the whole transaction, as sqlite's ROLLBACK."""
        try:
            self._connection.exec_driver_sql("ROLLBACK TO SAVEPOINT mqueue_kemi")
        except Exception:  # noqa: BLE001 - the first error counts
            told = self._place.broken(error, _ABORT)
            raise AllUndone(f"{_UNDONE}: {told}") from None

    def find_refused(self, batches: Iterable[list[Item]], check: Callable[[], None]) -> frozenset[int]:
        """Which of the items that follow have the whole transaction undone? Writes nothing; it is undone already.

        batches: the one that was refused, and all behind it. check: is called now and then, and may raise.
        """
        number, found = self.count, set(self._refused)
        for batch in batches:
            check()
            self._connection.exec_driver_sql("BEGIN IMMEDIATE")
            for item in batch:
                if number not in found and self._undoes_all(item):
                    found.add(number)
                    self._connection.exec_driver_sql("BEGIN IMMEDIATE")
                number += 1
            self._connection.exec_driver_sql("ROLLBACK")
        return frozenset(found)

    def _undoes_all(self, item: Item) -> bool:
        """Does an item end the transaction that it is written in?"""
        try:
            encode_key, encode_value = self._table.encode
            encoded = encode_key(item[0]), encode_value(item[1])
            self._run([(*encoded, item[2]) if self._table.has_added else encoded])
        except Exception:  # noqa: BLE001 - whatever else is wrong with it comes again
            return not self._connection.connection.dbapi_connection.in_transaction
        return False

    def _insert(self, batch: list[Item], given: list[Any], numbers: list[int], last: int) -> list[int | None]:
        """Insert, and see that it is at the end of the table; returns the ids, None for what is kept aside.

        given: how its items are given to the driver. numbers: of the items, for an error.
        """
        changed = self._run(given)
        limit = len(batch) + 1
        found = self._statements.written.rows(self._connection, first=last + 1, last=HIGHEST, limit=limit)
        if len(found) != len(batch):
            raise self._other_rows(len(found), len(batch), changed)
        ids: list[int | None] = [int(row[0]) for row in found]
        pairs = [(row[1], row[2]) for row in found]
        like = given if str in map(type, pairs[0]) else batch  # a driver gives text as str, sqlite as bytes
        if list(map(type, pairs[0])) == list(map(type, like[0][:2])) and pairs == [item[:2] for item in like]:
            return ids
        for index, (row, item) in enumerate(zip(found, batch)):
            if decode(row[1]) != item[0] or decode(row[2]) != item[1]:
                self._keep_aside(self._changed(item, row, numbers[index]))
                number = int(row[0])
                self._connection.execute(self._statements.delete, {"first": number, "last": number})
                ids[index] = None
        return ids

    def _run(self, parameters: list[Any]) -> int:
        """Insert; returns how many rows the driver says that it made."""
        names, many = self._statements.names, self._statements.insert_many
        if many is not None:
            return many.many(self._connection, parameters, names)
        rows = [dict(zip(names, values)) for values in parameters]
        result = self._connection.execute(self._statements.insert, rows if len(rows) > 1 else rows[0])
        return int(result.rowcount)

    # --- items that the table cannot hold -----------------------------------------------------------------------------

    def _encoded(self, batch: list[Item], before: int) -> list[Any]:
        """The parameters of an INSERT for each item; None for one that a column cannot hold."""
        encode_key, encode_value = self._table.encode
        # A group of items is never so large (batches).
        if len(batch) > 1 or 2 * (len(batch[0][0]) + len(batch[0][1])) + _STATEMENT < self._packet:
            with suppress(ValueError):
                if self._table.has_added:
                    return [(encode_key(key), encode_value(value), added) for key, value, added in batch]
                return [(encode_key(key), encode_value(value)) for key, value, _ in batch]
        return [self._encoded_alone(item, number) for number, item in enumerate(batch, before + 1)]

    def _encoded_alone(self, item: Item, number: int) -> Any:
        encode_key, encode_value = self._table.encode
        column = "key"
        try:
            key = encode_key(item[0])
            column = "val"
            value = encode_value(item[1])
        except ValueError as error:
            self._keep_aside(ItemUnfit(str(unfit(self._table, number, column, f"it has {error}"))))
            return None
        if 2 * (len(item[0]) + len(item[1])) + _STATEMENT > self._packet:
            self._check_packet(key, value, number)
        return (key, value, item[2]) if self._table.has_added else (key, value)

    def _check_packet(self, key: object, value: object, number: int) -> None:
        """Refuse an item whose statement the server would not even read: it would break off the connection."""
        size = _STATEMENT + sum(engines.length_in_statement(self._connection, part) for part in (key, value))
        if size > self._packet:
            raise self._place.error(
                f"item {number} takes {size} bytes in a statement, the server takes {self._packet}",
                "raise max_allowed_packet of the server",
            )

    def _keep_aside(self, why: StoreError) -> None:
        """Note that an item is to be kept in the ledger. Raises the error when there is none."""
        if self._ledger is None:
            raise why from None
        self.why_unfit = self.why_unfit or str(why)

    def _changed(self, item: Item, row: Any, number: int) -> StoreError:
        """How an item did not come back as it was given."""
        column, wanted, got = next(
            (column, wanted, decode(value))
            for column, wanted, value in zip(COLUMNS[1:], item[:2], row[1:])
            if decode(value) != wanted
        )
        what = "other bytes" if len(got) == len(wanted) else f"{len(got)} bytes"
        return unfit(self._table, number, column, f"its {len(wanted)} bytes came back as {what}")

    def _other_rows(self, found: int, written: int, changed: int) -> ItemUnfit:
        """More or fewer rows came to the end of the table. changed: as the driver says."""
        if found > written:
            cure = "look for a trigger or a rule that adds rows of its own"
        elif not changed:
            cure = "look for a trigger, a rule or a conflict clause that leaves items out without an error"
        else:
            cure = (
                "its column id must give each row a greater number than all before: set the next automatic number "
                "behind the greatest id; and no trigger or policy may take a row away or hide it"
            )
        reason = f"{found} rows came to the end of the table when {written} were written"
        return ItemUnfit(str(self._place.error(reason, cure)))
