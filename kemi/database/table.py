"""The table of one queue: `id`, `key`, `val`, as the C module has it. Looked at, made if it is missing, and its codec.

A table that is there is used as it is. What it cannot hold is refused before it is sent where that can be known, by
the server where it knows, and by the comparison after each batch (kemi.store) in every case.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

from kemi.database.faults import Place
from kemi.database.url import MYSQL, POSTGRES, SQLITE
from kemi.errors import StoreError

COLUMNS = ("id", "key", "val")
# PostgreSQL counts bytes, MySQL characters.
_LONGEST_NAME = {MYSQL: 64, POSTGRES: 63}
_WIDEN = {
    MYSQL: "ALTER TABLE {table} MODIFY {column} LONGBLOB NOT NULL",
    POSTGRES: "ALTER TABLE {table} ALTER {column} DROP DEFAULT,"
    " ALTER {column} TYPE bytea USING convert_to({column}, 'UTF8')",
    SQLITE: "make the table anew with {column} TEXT NOT NULL",
}
# Bytes as a driver takes them for a column; ValueError says why it cannot hold them.
Encode = Callable[[bytes], object]


class QueueTable(NamedTuple):
    """A table and how its columns take bytes."""

    place: Place
    rows: Any  # SQLAlchemy's table clause, for statements
    encode: tuple[Encode, Encode]  # of key and of val
    quote: Callable[[str], str]

    def widen(self, column: str) -> str:
        """How to make a column that holds every item."""
        form = _WIDEN[self.place.url.kind]
        return form.format(table=self.quote(self.place.table), column=self.quote(column))


def decode(value: Any) -> bytes:
    """The bytes of an item, from whatever a driver makes of a column; NULL is empty."""
    if type(value) is bytes:
        return value
    if value is None:
        return b""
    return bytes(value) if isinstance(value, (bytearray, memoryview)) else str(value).encode()


def open_table(connection: Any, place: Place) -> QueueTable:
    """Look at the table of a queue, make it if there is none. Raises StoreError when it cannot serve."""
    import sqlalchemy as sa

    check_name(place)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", sa.exc.SAWarning)  # a type that it does not know; the check here decides
        inspector = sa.inspect(connection)
        if not inspector.has_table(place.table):
            _create(connection, place)
            inspector = sa.inspect(connection)
        types = {str(column["name"]).lower(): column["type"] for column in inspector.get_columns(place.table)}
        unique = _unique(inspector, place.table)
    _check(connection, place, set(types), unique=unique)
    kinds = [_column(place, name, types[name]) for name in COLUMNS[1:]]
    rows = sa.table(
        sa.sql.quoted_name(place.table, quote=True),
        sa.column("id", sa.BigInteger),
        *(sa.column(sa.sql.quoted_name(name, quote=True), kind[0]) for name, kind in zip(COLUMNS[1:], kinds)),
    )
    preparer = connection.dialect.identifier_preparer
    return QueueTable(place, rows, (kinds[0][1], kinds[1][1]), preparer.quote_identifier)


def check_name(place: Place) -> None:
    """Refuse a queue whose name no table can have: PostgreSQL would cut it without a word."""
    name, kind = place.table, place.url.kind
    cure = "give the queue another name, or no dbmode"
    try:
        encoded = name.encode()
    except UnicodeEncodeError:
        raise place.error("the name is not UTF-8", cure) from None
    longest = _LONGEST_NAME.get(kind, 1 << 10)
    if (len(encoded) if kind == POSTGRES else len(name)) > longest:
        raise place.error(f"a table's name has at most {longest} characters there", cure)
    bad = not name or "\0" in name
    bad = bad or (kind == SQLITE and name.lower().startswith("sqlite_"))
    bad = bad or (kind == MYSQL and (name.endswith(" ") or max(name) > "\uffff"))
    if bad:
        raise place.error("no table can have that name there", cure)


def _create(connection: Any, place: Place) -> None:
    """Make the table with types that hold every item, and that Kamailio's own drivers read and write."""
    import sqlalchemy as sa
    from sqlalchemy.dialects import mysql

    # sqlite: text, which holds bytes as well; the others have binary types, which convert nothing.
    kind = {SQLITE: sa.Text, MYSQL: mysql.LONGBLOB, POSTGRES: sa.LargeBinary}[place.url.kind]
    number = sa.Integer if place.url.kind == SQLITE else sa.BigInteger
    table = sa.Table(
        sa.sql.quoted_name(place.table, quote=True),
        sa.MetaData(),
        sa.Column("id", number, primary_key=True, autoincrement=True),
        *(sa.Column(sa.sql.quoted_name(name, quote=True), kind, nullable=False) for name in COLUMNS[1:]),
        sqlite_autoincrement=True,
        mysql_engine="InnoDB",
        mysql_charset="utf8mb4",
    )
    connection.execute(sa.schema.CreateTable(table, if_not_exists=True))


def _unique(inspector: Any, table: str) -> bool:
    """Whether no two rows can have the same id; pages of rows could not be told apart otherwise."""
    groups = [inspector.get_pk_constraint(table).get("constrained_columns")]
    groups += [index["column_names"] for index in inspector.get_indexes(table) if index.get("unique")]
    groups += [constraint["column_names"] for constraint in inspector.get_unique_constraints(table)]
    return any([str(name).lower() for name in group or ()] == ["id"] for group in groups)


def _check(connection: Any, place: Place, columns: set[str], *, unique: bool) -> None:
    missing = [name for name in COLUMNS if name not in columns]
    if missing:
        cure = "correct it, or move it away and it is made anew"
        raise place.error(f"the table has no column {' and no column '.join(missing)}", cure)
    if not unique:
        raise place.error("its column id is not its primary key", "make it one, with automatic numbers")
    if place.url.kind == MYSQL and not _transactional(connection, place.table):
        raise place.error("its storage engine has no transactions", "ALTER TABLE ... ENGINE=InnoDB")


def _transactional(connection: Any, table: str) -> bool:
    """Whether a rollback takes rows back: MyISAM and Aria would keep them."""
    import sqlalchemy as sa

    query = sa.text(
        "SELECT e.transactions FROM information_schema.tables t"
        " JOIN information_schema.engines e ON e.engine = t.engine"
        " WHERE t.table_schema = DATABASE() AND t.table_name = :name"
    )
    return str(connection.execute(query, {"name": table}).scalar()).upper() == "YES"


def _column(place: Place, name: str, kind: Any) -> tuple[Any, Encode]:
    """The type with which a column is read and written, and its codec."""
    import sqlalchemy as sa

    if place.url.kind == SQLITE:  # any column takes anything
        return sa.Text, _text_or_bytes
    try:
        python = kind.python_type
    except NotImplementedError:
        python = None
    if python is bytes:
        return sa.LargeBinary, bytes
    if python is not str:
        raise place.error(f"its column {name} is of the type {kind}, not text or binary", "make it binary")
    return sa.Text, _text_without_nul if place.url.kind == POSTGRES else _text


def _text_or_bytes(value: bytes) -> object:
    """Text where it is text, which a person can read in the file, and bytes otherwise."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return value
    return value if "\0" in text else text


def _text(value: bytes) -> object:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise ValueError("bytes that are not UTF-8") from None


def _text_without_nul(value: bytes) -> object:
    if b"\0" in value:
        raise ValueError("a NUL")
    return _text(value)


def unfit(table: QueueTable, number: int, column: str, what: str) -> StoreError:
    """What to raise for an item that a column cannot hold."""
    return table.place.error(f'its column "{column}" cannot hold item {number}: {what}', table.widen(column))
