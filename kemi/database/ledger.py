# SPDX-License-Identifier: GPL-2.0-or-later
"""Two tables of this module beside those of queues: proofs that a transfer was committed, and what columns cannot hold.

    mqueue_kemi_transfers   token, instance, queue, made
        A row for each transfer between memory and a table, written in its transaction: it is there if and only if the
        transaction was committed. It is deleted when nobody can ask any more; what a kill just then leaves, after KEEP.

    mqueue_kemi_items       id, queue, after_id, item_key, item_value, added
        Items that the columns of their queue's table cannot hold, byte by byte. after_id: the row of the queue's table
        behind which they stand.

Where they cannot be made (the user may not, and nobody did), `Ledger.missing` says why: see queue.catalog.keeping
for what is promised then.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from kemi.database.faults import Place, one_line
from kemi.database.names import OWN, is_transactional
from kemi.database.url import MYSQL, POSTGRES, SQLITE

TRANSFERS, ITEMS = f"{OWN}transfers", f"{OWN}items"
KEEP = 400 * 86_400  # seconds, by the clock of the database
_LONGEST = 100  # characters of a name in a row that only people read
_NOW = {
    SQLITE: "CAST(strftime('%s', 'now') AS INTEGER)",
    MYSQL: "UNIX_TIMESTAMP()",
    POSTGRES: "CAST(extract(epoch FROM now()) AS BIGINT)",
}


class Kept(NamedTuple):
    """An item that has no row in its queue's table."""

    id: int
    after: int  # the id of the row behind which it stands
    key: bytes
    value: bytes
    added: float | None


class Ledger:
    """Both tables of one database. What it writes belongs to the transaction of the connection that it is given."""

    def __init__(self, place: Place) -> None:
        import sqlalchemy as sa
        from sqlalchemy.dialects import mysql

        self.place = place  # of the transfers
        self.missing: str | None = None  # why it cannot be used; "" when it can, None when nobody has looked
        kind = place.url.kind
        large = mysql.LONGBLOB if kind == MYSQL else sa.LargeBinary
        number = sa.Integer if kind == SQLITE else sa.BigInteger
        how = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4"}
        data = sa.MetaData()
        self._transfers = sa.Table(
            TRANSFERS,
            data,
            sa.Column("token", sa.String(32), primary_key=True),
            sa.Column("instance", sa.String(_LONGEST), nullable=False),
            sa.Column("queue", sa.String(_LONGEST), nullable=False),
            sa.Column("made", sa.BigInteger, nullable=False),
            **how,
        )
        self.items = sa.Table(
            ITEMS,
            data,
            sa.Column("id", number, primary_key=True, autoincrement=True),
            sa.Column("queue", large, nullable=False),
            sa.Column("after_id", sa.BigInteger, nullable=False),
            sa.Column("item_key", large, nullable=False),
            sa.Column("item_value", large, nullable=False),
            sa.Column("added", sa.Float(53)),
            sqlite_autoincrement=True,
            **how,
        )
        self._now = sa.text(_NOW[kind])

    def statements_to_make(self, connection: Any) -> list[str]:
        """What an administrator can run where the server's user may not make tables, or not use them."""
        import sqlalchemy as sa

        made = (sa.schema.CreateTable(table, if_not_exists=True) for table in self._tables())
        statements = [" ".join(str(text.compile(dialect=connection.dialect)).split()) for text in made]
        user = _user(connection, self.place.url.kind)
        if user:
            statements += [f"GRANT SELECT, INSERT, DELETE ON {table.name} TO {user}" for table in self._tables()]
        if self.place.url.kind == POSTGRES:
            statements.append(f"GRANT USAGE ON SEQUENCE {ITEMS}_id_seq TO {user}")
        return statements

    def _tables(self) -> tuple[Any, Any]:
        return self._transfers, self.items

    # --- at the beginning ---------------------------------------------------------------------------------------------

    def why_not(self, connection: Any) -> str:
        """Why these tables prove nothing: one is not there, or keeps what is undone, or loses what is done. Else ""."""
        import sqlalchemy as sa

        inspector = sa.inspect(connection)
        kind, names = self.place.url.kind, [table.name for table in self._tables()]
        if not all(inspector.has_table(name) for name in names):
            return "there are no such tables"
        if kind == MYSQL:
            bad = [name for name in names if is_transactional(connection, name) is not True]
            reason, cure = "keeps what is undone", "ALTER TABLE {} ENGINE=InnoDB"
        else:
            unlogged = sa.text("SELECT relpersistence = 'u' FROM pg_class WHERE oid = to_regclass(:name)")
            bad = [name for name in names if kind == POSTGRES and connection.execute(unlogged, {"name": name}).scalar()]
            reason, cure = "is emptied by a crash of the database", "ALTER TABLE {} SET LOGGED"
        if not bad:
            return ""
        return str(self.place.error(f"{' and '.join(bad)} {reason}", "; ".join(cure.format(name) for name in bad)))

    def make(self, connection: Any) -> None:
        """Make what is missing. Raises whatever a driver raises."""
        import sqlalchemy as sa

        inspector = sa.inspect(connection)
        for table in self._tables():
            if not inspector.has_table(table.name):
                connection.execute(sa.schema.CreateTable(table, if_not_exists=True))

    def try_out(self, connection: Any) -> None:
        """Write into both and read; to be undone. Raises whatever a driver raises."""
        self.note(connection, 1, "", "")
        self.forget(connection, [1])
        self.keep(connection, "", [(0, b"\0\xff", b"\0\xff", None)])
        self.drop(connection, "")

    # --- transfers ----------------------------------------------------------------------------------------------------

    def note(self, connection: Any, token: int, instance: str, queue: str) -> None:
        """Write a transfer's token."""
        connection.execute(
            self._transfers.insert().values(made=self._now),
            {"token": f"{token:032x}", "instance": _shown(instance), "queue": _shown(queue)},
        )

    def add(self, connection: Any, token: int) -> bool:
        """Write a token; False if it is there. A transaction that has written it and goes on is waited for."""
        import sqlalchemy as sa

        try:
            self.note(connection, token, "", "")
        except sa.exc.IntegrityError:
            return False
        return True

    def has(self, connection: Any, token: int) -> bool:
        """Is a transfer's token there?"""
        import sqlalchemy as sa

        column = self._transfers.c.token
        return connection.execute(sa.select(column).where(column == f"{token:032x}")).first() is not None

    def forget(self, connection: Any, tokens: list[int]) -> None:
        """Delete tokens that nobody will ask for any more, and what was left a long time ago."""
        columns = self._transfers.c
        named = columns.token.in_([f"{token:032x}" for token in tokens])
        old = columns.made < self._literal_now() - KEEP
        connection.execute(self._transfers.delete().where(named | old))

    def _literal_now(self) -> Any:
        import sqlalchemy as sa

        return sa.literal_column(self._now.text)

    # --- items that have no row ---------------------------------------------------------------------------------------

    def keep(self, connection: Any, queue: str, items: list[tuple[int, bytes, bytes, float | None]]) -> None:
        """Add items behind those that are there: the row before each, key, value, and when it was added."""
        name = queue.encode()
        connection.execute(
            self.items.insert(),
            [
                {"queue": name, "after_id": after, "item_key": key, "item_value": value, "added": added}
                for after, key, value, added in items
            ],
        )

    def kept(self, connection: Any, queue: str, most: int, behind: int = 0) -> list[Kept]:
        """The next items of a queue behind the one with that id, in their order."""
        import sqlalchemy as sa

        table = self.items.c
        chosen = sa.select(table.id, table.after_id, table.item_key, table.item_value, table.added)
        chosen = chosen.where(table.queue == queue.encode(), table.id > behind).order_by(table.id).limit(most)
        return [
            Kept(int(row[0]), int(row[1]), bytes(row[2]), bytes(row[3]), row[4]) for row in connection.execute(chosen)
        ]

    def bring_back(self, connection: Any, queue: str, last: int) -> None:
        """Let no item stand behind a row that is gone: the next rows may get its number, when they come after it."""
        import sqlalchemy as sa

        table = self.items.c
        chosen = (table.queue == queue.encode()) & (table.after_id > last)
        greatest = connection.execute(sa.select(sa.func.max(table.id)).where(chosen)).scalar()
        if greatest is None:
            return
        chosen &= table.id <= greatest
        kept = [table.queue, sa.literal(last, sa.BigInteger), table.item_key, table.item_value, table.added]
        names = ["queue", "after_id", "item_key", "item_value", "added"]
        connection.execute(self.items.insert().from_select(names, sa.select(*kept).where(chosen).order_by(table.id)))
        connection.execute(self.items.delete().where(chosen))

    def drop(self, connection: Any, queue: str, last: int | None = None) -> int:
        """Delete the items of a queue up to that id; returns how many there were."""
        table = self.items.c
        chosen = table.queue == queue.encode()
        if last is not None:
            chosen = chosen & (table.id <= last)
        return int(connection.execute(self.items.delete().where(chosen)).rowcount)


def _user(connection: Any, kind: str) -> str:
    """Who is logged in, as a GRANT has it; "" where there are no rights to give."""
    if kind == SQLITE:
        return ""
    if kind == POSTGRES:
        return str(connection.exec_driver_sql("SELECT quote_ident(current_user)").scalar())
    user, _, host = str(connection.exec_driver_sql("SELECT CURRENT_USER()").scalar()).rpartition("@")
    return "@".join("'" + part.replace("\\", "\\\\").replace("'", "''") + "'" for part in (user, host))


def _shown(name: str) -> str:
    return one_line(name.encode("ascii", "backslashreplace").decode())[:_LONGEST]
