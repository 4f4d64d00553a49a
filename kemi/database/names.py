# SPDX-License-Identifier: GPL-2.0-or-later
"""Which table a queue has: the C module's, wherever that driver would look for it.

Kamailio's driver for PostgreSQL does not quote: its table for queue `CdrQueue` is `cdrqueue`, and for `a.b` it is `b`
of the schema `a`. A table with just the queue's name counts first, because it is what quoting makes. A new one is made
where the C module finds it too.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from kemi.database.faults import Place
from kemi.database.url import MYSQL, POSTGRES, SQLITE

# PostgreSQL counts bytes, MySQL characters.
_LONGEST_NAME = {MYSQL: 64, POSTGRES: 63}
ADDED = "added"  # a column of a queue's table beside the C module's
OWN = "mqueue_kemi_"  # begins the names of this module's own tables
_TABLES = "rpvfm"  # PostgreSQL's letters for tables and views; the trial tells which of them serve
_OTHERS = {"S": "a sequence", "i": "an index", "I": "an index", "c": "a type"}
_PLAIN = re.compile(r"(?:(?P<schema>[a-z_][a-z0-9_$]*)\.)?(?P<table>[a-z_][a-z0-9_$]*)")


class Name(NamedTuple):
    """A table as a database knows it."""

    table: str
    schema: str | None = None


class Found(NamedTuple):
    """Where the table of a queue is, or is to be made."""

    name: Name
    exists: bool
    note: str = ""  # what an operator should know about it


def check(place: Place) -> None:
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
    bad = bad or (kind == SQLITE and _small(name).startswith("sqlite_"))
    bad = bad or (kind == MYSQL and (name.endswith(" ") or max(name) > "\uffff"))
    if bad:
        raise place.error("no table can have that name there", cure)
    if _small(name).startswith(OWN):
        raise place.error("that is the name of a table of this module", cure)


def find(inspector: Any, place: Place) -> Found:
    """Look for the table of a queue."""
    exact = Name(place.table)
    exists = inspector.has_table(exact.table)
    plain = _PLAIN.fullmatch(_small(place.table)) if place.url.kind == POSTGRES else None
    theirs = Name(plain["table"], plain["schema"]) if plain else exact
    if theirs == exact:
        return Found(exact, exists)
    if not inspector.has_table(theirs.table, schema=theirs.schema):
        if exists or (theirs.schema and theirs.schema not in inspector.get_schema_names()):
            note = f"the C module would use the table {_small(place.table)}, which is not there" if exists else ""
            return Found(exact, exists, note)
        return Found(theirs, exists=False)
    if not exists:
        return Found(theirs, exists=True)
    other = _small(place.table)
    return Found(
        exact, exists=True, note=f"there is the table {other}, too, which the C module uses; its rows are left there"
    )


def relation(connection: Any, place: Place, name: Name) -> tuple[int, str]:
    """What PostgreSQL has of that name: its number, and what an operator should know. Raises StoreError."""
    import sqlalchemy as sa

    quoted = ".".join('"' + part.replace('"', '""') + '"' for part in (name.schema, name.table) if part)
    query = sa.text("SELECT CAST(oid AS bigint), relkind, relpersistence FROM pg_class WHERE oid = to_regclass(:name)")
    row = connection.execute(query, {"name": quoted}).first()
    if row is None:
        raise place.error("another process makes or drops it concurrently", "try again")
    kind, lasts = (value.decode() if isinstance(value, bytes) else str(value) for value in row[1:])
    if kind not in _TABLES:
        other = _OTHERS.get(kind, "something else")
        raise place.error(f"there is {other} of that name", "give the queue another name, or no dbmode")
    if lasts == "u":
        return int(row[0]), f"a crash of the database empties it: ALTER TABLE {quoted} SET LOGGED"
    return int(row[0]), ""


def is_transactional(connection: Any, table: str) -> bool | None:
    """Whether a rollback takes rows back: MyISAM and Aria would keep them. Of a view it is not known."""
    import sqlalchemy as sa

    query = sa.text(
        "SELECT t.table_type, e.transactions FROM information_schema.tables t"
        " LEFT JOIN information_schema.engines e ON e.engine = t.engine"
        " WHERE t.table_schema = DATABASE() AND t.table_name = :name"
    )
    row = connection.execute(query, {"name": table}).first()
    if row is None or "VIEW" in str(row[0]).upper():
        return None
    return str(row[1]).upper() == "YES"


def fold(connection: Any, kind: str, name: Name) -> Name:
    """The same for two names of one table: some databases do not tell capital letters from small ones."""
    if kind == SQLITE:
        return Name(_small(name.table), name.schema)
    if kind == MYSQL and int(connection.exec_driver_sql("SELECT @@lower_case_table_names").scalar()):
        return Name(_small_in_mysql(connection, name.table), name.schema)
    return name


def _small(name: str) -> str:
    """With small letters for A to Z, and those alone."""
    return "".join(char.lower() if char.isascii() else char for char in name)


def _small_in_mysql(connection: Any, name: str) -> str:
    """As the server has it: the letters that it folds are not Python's (`İ` is `i` there, and `Ⱥ` stays)."""
    import sqlalchemy as sa

    query = (
        "SELECT collation_name, character_set_name FROM information_schema.collations"
        " WHERE collation_name IN ('utf8mb3_general_ci', 'utf8_general_ci') ORDER BY collation_name DESC"
    )
    found = connection.exec_driver_sql(query).first()
    if found is None:
        return name.lower()
    collation, charset = (part.decode() if isinstance(part, bytes) else str(part) for part in found)
    small = f"SELECT LOWER(CONVERT(:name USING {charset}) COLLATE {collation})"
    folded = connection.execute(sa.text(small), {"name": name}).scalar()
    return folded.decode() if isinstance(folded, bytes) else str(folded)
