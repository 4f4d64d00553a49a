"""The statements on the table of a queue, made once a transaction; they differ only where a database counts bytes."""

from __future__ import annotations

from typing import Any

from kemi.database.url import MYSQL, POSTGRES, SQLITE

# The ids that there can be, in a signed 64-bit column.
LOWEST, HIGHEST = -(1 << 63), (1 << 63) - 1


class Statements:
    """Each takes its parameters by the names after the colon."""

    def __init__(self, table: Any, kind: str, quoted: str = "", more: Any = None) -> None:
        """quoted: the table's name in a statement. more: what must be true of every row besides."""
        import sqlalchemy as sa

        number = table.c.id
        first, last, limit = (sa.bindparam(name, type_=sa.BigInteger) for name in ("first", "last", "limit"))
        between = sa.and_(number >= first, number <= last, *([] if more is None else [more]))
        size = sum(sa.func.coalesce(_length(sa, column, kind), 0) for column in (table.c.key, table.c.val))
        ids = sa.select(number).where(between).order_by(number).limit(limit).subquery()
        sizes = sa.select(number, size.label("size")).where(between).order_by(number).limit(limit).subquery()

        self.insert = table.insert()
        self.delete = table.delete().where(between)  # :first :last
        self.greatest = sa.select(sa.func.max(number))
        # The greatest of the ids of so many rows.
        self.end = sa.select(sa.func.max(ids.c.id))  # :first :last :limit
        # The same, with the bytes and the number of these rows.
        self.extent = sa.select(sa.func.max(sizes.c.id), sa.func.sum(sizes.c.size), sa.func.count(sizes.c.id))
        # What waits for other writers. sqlite has had its lock since the transaction began; MySQL locks the first row,
        # as it reads it; PostgreSQL would read what was there at the beginning, and locks the table.
        self.lock: Any = {
            MYSQL: sa.select(number).where(number >= first).order_by(number).limit(1).with_for_update(),
            POSTGRES: sa.text(f"LOCK TABLE {quoted} IN SHARE MODE".replace(":", "\\:")),
        }.get(kind)  # :first
        self.rows = sa.select(*table.c).where(between).order_by(number).limit(limit)
        # Ids by which rows cannot be told apart: none, the same twice, or not whole.
        self.odd_ids = sa.select(sa.func.count(), sa.func.count(number), sa.func.count(sa.distinct(number)))


def _length(sa: Any, column: Any, kind: str) -> Any:
    """The bytes of a column; sqlite counts characters unless it is told that they are bytes."""
    return sa.func.length(sa.cast(column, sa.LargeBinary)) if kind == SQLITE else sa.func.octet_length(column)
