# SPDX-License-Identifier: GPL-2.0-or-later
"""The statements on the table of a queue, made once a transaction; they differ only where a database counts bytes."""

from __future__ import annotations

from itertools import chain
from typing import Any

from kemi.database.names import ADDED
from kemi.database.url import MYSQL, POSTGRES, SQLITE

# The ids that there can be, in a signed 64-bit column.
LOWEST, HIGHEST = -(1 << 63), (1 << 63) - 1
# A time of adding that lies outside of these is none, seconds since the epoch.
EARLIEST, LATEST = 0.0, float(1 << 33)
# MariaDB takes as long to write a number with a fraction as to read a row. From 2004 on a time has none in this unit.
MYSQL_SECOND = 1 << 22


class Prepared:
    """A statement as its text for a driver: run thousands of times, it costs what the driver costs."""

    def __init__(self, connection: Any, statement: Any, **how: Any) -> None:
        compiled = statement.compile(dialect=connection.dialect, **how)
        self._text = str(compiled)
        self._names: list[str] | None = compiled.positiontup if compiled.positional else None
        self._constants = {name: value for name, value in compiled.params.items() if value is not None}

    def rows(self, connection: Any, **parameters: object) -> list[Any]:
        """Run it; returns the rows as the driver makes them."""
        parameters = {**self._constants, **parameters}
        given = parameters if self._names is None else tuple(parameters[name] for name in self._names)
        found: list[Any] = connection.exec_driver_sql(self._text, given).cursor.fetchall()
        return found

    def many(self, connection: Any, parameters: list[Any], names: list[str]) -> int:
        """Run it for each of the parameters, whose values are in the order of the names; returns its rowcount."""
        if self._names is None:
            parameters = [dict(zip(names, values)) for values in parameters]
        return int(connection.exec_driver_sql(self._text, parameters).rowcount)


class OneStatement:
    """An INSERT of many rows for psycopg2, which writes all values into its text."""

    def __init__(self, quoted: str, columns: list[str]) -> None:
        """quoted: the table. columns: as a statement has them."""
        text = " ".join(("INSERT INTO", quoted, f"({', '.join(columns)})", "VALUES "))
        self._text = text.replace("%", "%%")
        self._row = f"({', '.join(['%s'] * len(columns))})"

    def many(self, connection: Any, parameters: list[Any], _names: list[str]) -> int:
        """Insert these rows; returns the rowcount."""
        text = self._text + ", ".join([self._row] * len(parameters))
        return int(connection.exec_driver_sql(text, tuple(chain.from_iterable(parameters))).rowcount)


class Statements:
    """Each takes its parameters by the names after the colon."""

    def __init__(self, connection: Any, table: Any, kind: str, quoted: str, *, whole: bool) -> None:
        """quoted: the table's name in a statement. whole: its ids are whole numbers, by their type."""
        import sqlalchemy as sa

        number = table.c.id
        first, last, limit = (sa.bindparam(name, type_=sa.BigInteger) for name in ("first", "last", "limit"))
        between = sa.and_(number >= first, number <= last)
        size = sum(sa.func.coalesce(_length(sa, column, kind), 0) for column in (table.c.key, table.c.val))
        ids = sa.select(number).where(between).order_by(number).limit(limit).subquery()
        sizes = sa.select(number, size.label("size")).where(between).order_by(number).limit(limit).subquery()

        self.insert = table.insert()
        self.names = [column.name for column in table.c if column.name != "id"]
        self.insert_many: Prepared | OneStatement | None = None  # psycopg: by SQLAlchemy's own way
        if connection.dialect.driver == "psycopg2":
            quote = connection.dialect.identifier_preparer.quote_identifier
            self.insert_many = OneStatement(quoted, [quote(name) for name in self.names])
        elif kind != POSTGRES:
            self.insert_many = Prepared(connection, self.insert, column_keys=self.names)
        self.delete = table.delete().where(between)  # :first :last
        self.behind = sa.select(sa.func.count()).where(number > first)  # :first
        self.greatest = sa.select(sa.func.max(number))
        # The greatest of the ids of so many rows, and how many they are.
        self.end = sa.select(sa.func.max(ids.c.id), sa.func.count(ids.c.id))  # :first :last :limit
        # The least and the greatest, the bytes, and the number of these rows.
        ends = sa.func.min(sizes.c.id), sa.func.max(sizes.c.id)
        extent = sa.select(*ends, sa.func.sum(sizes.c.size), sa.func.count(sizes.c.id))
        self.extent = Prepared(connection, extent)
        # What waits for other writers. sqlite has had its lock since the transaction began; MySQL locks the first row,
        # as it reads it; PostgreSQL would read what was there at the beginning, and locks the table.
        self.lock: Any = {
            MYSQL: sa.select(number).where(number >= first).order_by(number).limit(1).with_for_update(),
            POSTGRES: sa.text(f"LOCK TABLE {quoted} IN SHARE MODE".replace(":", "\\:")),
        }.get(kind)  # :first
        # Each column costs as much as the rest of a row in PyMySQL: none is read that is not used.
        columns = [_read(sa, column, kind) for column in table.c]
        self.rows, self.items, self.written = (
            Prepared(connection, sa.select(*chosen).where(between).order_by(number).limit(limit))
            for chosen in (columns, columns[1:], columns[:3])
        )  # :first :last :limit
        # A row that no page would have: without an id, or behind all numbers between LOWEST and HIGHEST.
        outside = [number.is_(None), number > HIGHEST, *([] if whole else [number < LOWEST])]
        self.outside = [sa.select(number).where(condition).limit(1) for condition in outside]
        # Whether ids tell rows apart.
        self.odd_ids = sa.select(sa.func.count(), sa.func.count(sa.distinct(number)))


def _read(sa: Any, column: Any, kind: str) -> Any:
    """A column as a statement reads it."""
    if column.name != ADDED or kind != MYSQL:
        return column
    return sa.case((column.between(EARLIEST, LATEST), sa.cast(column * MYSQL_SECOND, sa.BigInteger)))


def _length(sa: Any, column: Any, kind: str) -> Any:
    """The bytes of a column; sqlite counts characters unless it is told that they are bytes."""
    return sa.func.length(sa.cast(column, sa.LargeBinary)) if kind == SQLITE else sa.func.octet_length(column)
