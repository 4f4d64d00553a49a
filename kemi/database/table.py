# SPDX-License-Identifier: GPL-2.0-or-later
"""The table of one queue: `id`, `key`, `val`, as the C module has it. Looked at, made if it is missing, and its codec.

A table that is there is used as it is. What it cannot hold is found before it is sent where that can be known, by the
server where it knows, and by the comparison after each batch (kemi.database.rows) in every case.

One that is made here has a column more, `added`: when each item was added. What the C module writes has NULL there. Its
other types are those through which both read and write the same bytes:

    sqlite       TEXT, which holds any bytes
    MySQL        LONGBLOB, which holds any bytes
    PostgreSQL   varchar: text without NUL. The C module takes what it reads from bytea or text for escaped, and loses
                 backslashes; what varchar cannot hold is kept in a table of this module (kemi.database.ledger)
"""

from __future__ import annotations

import decimal
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

from kemi.database import names
from kemi.database.faults import Place
from kemi.database.names import ADDED, Name
from kemi.database.url import MYSQL, POSTGRES, SQLITE
from kemi.errors import StoreError

COLUMNS = ("id", "key", "val")
_WIDEN = {
    MYSQL: "ALTER TABLE {table} MODIFY {column} LONGBLOB NOT NULL",
    POSTGRES: "ALTER TABLE {table} ALTER {column} TYPE varchar",
    SQLITE: "make the table anew with {column} TEXT NOT NULL",
}
_ANY_BYTES = (
    "ALTER TABLE {table} ALTER {column} DROP DEFAULT, ALTER {column} TYPE bytea USING convert_to({column}, 'UTF8')"
    " (which the C module reads and writes without its backslashes)"
)
_WIDEN_ID = {
    MYSQL: "ALTER TABLE {table} MODIFY id BIGINT AUTO_INCREMENT",
    POSTGRES: "ALTER TABLE {table} ALTER id TYPE bigint",
    SQLITE: "make the table anew with id INTEGER PRIMARY KEY AUTOINCREMENT",
}
# Bytes as a driver takes them for a column; ValueError says why it cannot hold them.
Encode = Callable[[bytes], object]


class QueueTable(NamedTuple):
    """A table and how its columns take bytes."""

    place: Place
    name: Name
    rows: Any  # SQLAlchemy's table clause, for statements
    encode: tuple[Encode, Encode]  # of key and of val
    quoted: str  # the table's name in a statement
    quote: Callable[[str], str]
    has_added: bool  # a column for when an item was added?
    unique: bool  # can no two rows have the same id?
    whole: bool  # has id nothing but whole numbers, by its type?
    transactional: bool | None  # does a rollback take rows back? None: only a trial can tell
    made: bool = False  # just now
    notes: tuple[str, ...] = ()  # what an operator should know
    known_as: str = ""  # the same for all names of one table that differ in capital letters only
    oid: int = 0  # in PostgreSQL: the same for two queues if and only if they have the same table

    def widen(self, column: str, *, any_bytes: bool = False) -> str:
        """How to make a column that holds an item. any_bytes: one that is no text."""
        if column == "id":
            form = _WIDEN_ID[self.place.url.kind]
        else:
            form = _ANY_BYTES if any_bytes and self.place.url.kind == POSTGRES else _WIDEN[self.place.url.kind]
        return form.format(table=self.quoted, column=self.quote(column))


def decode(value: Any) -> bytes:
    """The bytes of an item, from whatever a driver makes of a column; NULL is empty."""
    if type(value) is bytes:
        return value
    if value is None:
        return b""
    return bytes(value) if isinstance(value, (bytearray, memoryview)) else str(value).encode()


def open_table(connection: Any, place: Place, *, inexact: bool = False) -> QueueTable:
    """Look at the table of a queue, make it if there is none. Raises StoreError when it cannot serve.

    inexact: accept one that cannot take changes back.
    """
    import sqlalchemy as sa

    names.check(place)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", sa.exc.SAWarning)  # a type that it does not know; the check here decides
        found = names.find(sa.inspect(connection), place)
        name = found.name
        if not found.exists:
            _create(connection, place, name)
        inspector = sa.inspect(connection)
        oid, note = names.relation(connection, place, name) if place.url.kind == POSTGRES else (0, "")
        try:
            columns = inspector.get_columns(name.table, schema=name.schema)
        except sa.exc.NoSuchTableError:
            raise place.error("another process makes or drops it concurrently", "try again") from None
        types = {_column_name(place, column): column["type"] for column in columns}
        _check(place, set(types))
        if any(_column_name(place, column) == ADDED and column.get("computed") for column in columns):
            del types[ADDED]  # a column of somebody else's
        unique = _unique(connection, inspector, place, name, oid)
        # sqlite takes NULL for a primary key of any other type.
        unique = unique and (place.url.kind != SQLITE or str(types["id"]).upper() == "INTEGER")
        transactional = names.is_transactional(connection, name.table) if place.url.kind == MYSQL else True
    if transactional is False and not inexact:
        raise place.error(
            "its storage engine has no transactions, so what breaks off leaves items in both places or in none",
            f"ALTER TABLE {_quoting(connection)(name.table)} ENGINE=InnoDB"
            '; or accept that with modparam("mqueue", "db_inexact", 1)',
        )
    _check_id(place, types["id"])
    kinds = [_column(place, column, types[column]) for column in COLUMNS[1:]]
    has_added = isinstance(types.get(ADDED), sa.Float)
    rows = sa.table(
        sa.sql.quoted_name(name.table, quote=True),
        sa.column("id", sa.BigInteger),
        *(sa.column(sa.sql.quoted_name(column, quote=True), kind[0]) for column, kind in zip(COLUMNS[1:], kinds)),
        *([sa.column(ADDED, sa.Float)] if has_added else []),
        **({"schema": sa.sql.quoted_name(name.schema, quote=True)} if name.schema else {}),
    )
    quote = _quoting(connection)
    return QueueTable(
        place,
        name,
        rows,
        (kinds[0][1], kinds[1][1]),
        ".".join(quote(part) for part in (name.schema, name.table) if part),
        quote,
        has_added,
        unique,
        unique if place.url.kind == SQLITE else isinstance(types["id"], sa.Integer),
        transactional,
        not found.exists,
        tuple(text for text in (found.note, note) if text),
        ".".join(part for part in reversed(names.fold(connection, place.url.kind, name)) if part),
        oid,
    )


def _column_name(place: Place, column: Any) -> str:
    """The name of a column as a statement has it: only PostgreSQL tells capital letters from small ones."""
    name = str(column["name"])
    return name if place.url.kind == POSTGRES else name.lower()


def _quoting(connection: Any) -> Callable[[str], str]:
    """Return what puts a name into a statement that no driver formats."""
    mark: str = connection.dialect.identifier_preparer.initial_quote
    return lambda name: mark + name.replace(mark, 2 * mark) + mark


def _create(connection: Any, place: Place, name: Name) -> None:
    """Make the table, see the types above."""
    import sqlalchemy as sa
    from sqlalchemy.dialects import mysql

    kind = {SQLITE: sa.Text, MYSQL: mysql.LONGBLOB, POSTGRES: sa.String}[place.url.kind]
    number = sa.Integer if place.url.kind == SQLITE else sa.BigInteger
    table = sa.Table(
        sa.sql.quoted_name(name.table, quote=True),
        sa.MetaData(),
        sa.Column("id", number, primary_key=True, autoincrement=True),
        *(sa.Column(sa.sql.quoted_name(column, quote=True), kind, nullable=False) for column in COLUMNS[1:]),
        sa.Column(ADDED, sa.Float(53)),
        schema=sa.sql.quoted_name(name.schema, quote=True) if name.schema else None,
        sqlite_autoincrement=True,
        mysql_engine="InnoDB",
        mysql_charset="utf8mb4",
    )
    connection.execute(sa.schema.CreateTable(table, if_not_exists=True))


def _unique(connection: Any, inspector: Any, place: Place, name: Name, oid: int) -> bool:
    """Whether no two rows can have the same id; it is counted at a load otherwise."""
    groups = []
    with suppress(Exception):  # a view has none, which some dialects say by an error
        partial = _partial(connection, place, name, oid)
        if partial is None:
            return False
        groups.append(inspector.get_pk_constraint(name.table, schema=name.schema).get("constrained_columns"))
        indexes = inspector.get_indexes(name.table, schema=name.schema)
        groups += [index["column_names"] for index in indexes if index.get("unique") and index["name"] not in partial]
        unique = inspector.get_unique_constraints(name.table, schema=name.schema)
        groups += [constraint["column_names"] for constraint in unique]
    return any([str(column).lower() for column in group or ()] == ["id"] for group in groups)


def _partial(connection: Any, place: Place, name: Name, oid: int) -> set[str] | None:
    """The indexes that do not have every row of the table; None where none of them has, as that of a parent table."""
    if place.url.kind == SQLITE:
        listed = connection.exec_driver_sql(f"PRAGMA index_list({_quoting(connection)(name.table)})").fetchall()
        return {row[1] for row in listed if row[4]}
    if place.url.kind != POSTGRES:
        return set()
    import sqlalchemy as sa

    children = sa.text(
        "SELECT count(*) FROM pg_inherits JOIN pg_class p ON p.oid = inhparent WHERE p.oid = :oid AND relkind <> 'p'"
    )
    if connection.execute(children, {"oid": oid}).scalar():
        return None
    some = sa.text(
        "SELECT relname FROM pg_index JOIN pg_class c ON c.oid = indexrelid"
        " WHERE indrelid = :oid AND (indpred IS NOT NULL OR NOT indisvalid)"
    )
    return {str(row[0]) for row in connection.execute(some, {"oid": oid})}


def _check(place: Place, columns: set[str]) -> None:
    missing = [column for column in COLUMNS if column not in columns]
    if missing:
        cure = "correct it, or move it away and it is made anew"
        raise place.error(f"the table has no column {' and no column '.join(missing)}", cure)


def _python_type(kind: Any) -> type | None:
    """What SQLAlchemy makes of a type; None where it does not know it."""
    try:
        found: type = getattr(kind, "data_type", kind).python_type  # of PostgreSQL's domain
    except NotImplementedError:
        return None
    return found


def _shown(kind: Any) -> str:
    """A type in an error; SQLAlchemy's own name for an ENUM is VARCHAR."""
    import sqlalchemy as sa

    if isinstance(kind, sa.types.NullType):
        return "a type that is not known here"
    return "the type ENUM" if isinstance(kind, sa.Enum) else f"the type {kind}"


def _check_id(place: Place, kind: Any) -> None:
    """In sqlite any column takes anything, and the trial tells; others compare numbers with numbers only."""
    if place.url.kind != SQLITE and _python_type(kind) not in (int, float, decimal.Decimal):
        raise place.error(f"its column id is of {_shown(kind)}, not a number", "make it BIGINT with automatic numbers")


def _column(place: Place, name: str, kind: Any) -> tuple[Any, Encode]:
    """The type with which a column is read and written, and its codec."""
    import sqlalchemy as sa

    if place.url.kind == SQLITE:  # any column takes anything; but not a STRICT one
        return sa.Text, bytes if "BLOB" in str(kind).upper() else _text_or_bytes
    python = _python_type(kind)
    kind = getattr(kind, "data_type", kind)
    if python is bytes:
        return sa.LargeBinary, bytes
    if python is not str or (place.url.kind == POSTGRES and isinstance(kind, sa.Enum)):
        raise place.error(
            f"its column {name} is of {_shown(kind)}, not text or binary",
            "make it varchar" if place.url.kind == POSTGRES else "make it binary",
        )
    longest = getattr(kind, "length", None)
    if not isinstance(longest, int) or "CHAR" not in type(kind).__name__.upper():
        longest = None
    return sa.Text, _text_of(longest, nul=place.url.kind != POSTGRES)


def _text_or_bytes(value: bytes) -> object:
    """Text where it is text, which a person can read in the file, and bytes otherwise."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return value
    return value if "\0" in text else text


def _text_of(longest: int | None, *, nul: bool) -> Encode:
    """The codec of a column of so many characters."""

    def encode(value: bytes) -> object:
        if not nul and b"\0" in value:
            raise ValueError("a NUL")
        try:
            text = value.decode()
        except UnicodeDecodeError:
            raise ValueError("bytes that are not UTF-8") from None
        if longest is not None and len(text) > longest:
            raise ValueError(f"{len(text)} characters, and the column takes {longest}")
        return text

    return encode


def unfit(table: QueueTable, number: int, column: str, what: str) -> StoreError:
    """What to raise for an item that a column cannot hold."""
    cure = table.widen(column, any_bytes="NUL" in what or "UTF-8" in what)
    return table.place.error(f'its column "{column}" cannot hold item {number}: {what}', cure)
