"""What a database refuses, in one line: which database, which table, why, and what to do.

The texts of SQLAlchemy hold the statement and the values, so only the driver's own reason is taken, and neither the
password nor more of an item than the server itself quotes can get into a log.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from kemi.database.url import POSTGRES, SQLITE, DbUrl
from kemi.errors import MqueueError, StoreError
from kemi.text import one_line as escaped

_LONGEST = 400  # characters of each part of an error

# What MySQL and MariaDB answer to a COMMIT that they undo: a lock, a conflict in a cluster, a server that only reads.
_MYSQL_REFUSALS = (1205, 1213, 1290, 1792, 1836)
_POSTGRES_CONNECTION = "08"  # class of errors; a pooler between here and the server has them, too

# What to do, by what is found in the reason, in any case; the first counts.
_ADVICE = (
    (
        r"database is locked|lock wait timeout|lock timeout|deadlock|could not serialize",
        "another process is using it; try again when it has ended",
    ),
    (
        r"access denied|command denied|permission denied|authentication failed|no password supplied",
        "check user and password of db_url; the user needs SELECT, INSERT, DELETE, and CREATE for a missing table",
    ),
    (r"unknown database|database .* does not exist", "create the database, or correct db_url"),
    (r"'cryptography' package", "install python3-cryptography (pip: cryptography), or change how the user logs in"),
    (r"max_allowed_packet", "raise max_allowed_packet of the server"),
    (
        r"too long|incorrect string value|out of range|no equivalent in encoding|check constraint",
        "change the column so that it takes the item, best to a binary type",
    ),
    (r"readonly database|read-only|unable to open", "file and folder must be writable for the user of the server"),
    (r"disk is full|no space left|is full", "make room there"),
    (r"not a database|malformed", "db_url names a file that is no sqlite database, or is damaged; move it away"),
    (
        r"can't connect|refused|timed out|timeout|gone away|lost connection|connection|terminating",
        "the database must run and be reachable from this host",
    ),
)


class Place(NamedTuple):
    """A table in a database, and how what goes wrong there is told."""

    url: DbUrl
    table: str

    def error(self, reason: str, advice: str) -> StoreError:
        """What to raise. Both texts are parts of one sentence."""
        where = f'database {one_line(str(self.url))}, table "{one_line(self.table)}"'
        return StoreError(f"{where}: {one_line(reason)}: {one_line(advice)}")

    def broken(self, error: BaseException, otherwise: str = "nothing was changed") -> StoreError:
        """What to raise for what a driver or SQLAlchemy raised. otherwise: the advice where there is no better one."""
        reason = reason_of(error)
        advice = (text for pattern, text in _ADVICE if re.search(pattern, reason, re.IGNORECASE))
        if self.url.password:  # no driver is known to repeat it; this makes sure
            reason = reason.replace(self.url.password, "***")
        return self.error(reason, next(advice, otherwise))

    def is_refusal(self, error: BaseException) -> bool:
        """Raised by a COMMIT: did the database itself answer, so that it is known that nothing was done?

        Whatever else is raised there may come from a connection, a proxy, or a server that was ended in the middle.
        """
        cause = getattr(error, "orig", None)
        if cause is None or getattr(error, "connection_invalidated", False):
            return False
        if self.url.kind == SQLITE:
            return True
        if self.url.kind == POSTGRES:
            state = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None) or _POSTGRES_CONNECTION
            severity = getattr(getattr(cause, "diag", None), "severity_nonlocalized", None)
            return severity == "ERROR" and not state.startswith(_POSTGRES_CONNECTION)
        return bool(cause.args) and cause.args[0] in _MYSQL_REFUSALS

    @contextmanager
    def faults(self) -> Iterator[None]:
        """Turn whatever the database raises inside into StoreError."""
        try:
            yield
        except (MqueueError, MemoryError):
            raise
        except Exception as error:  # noqa: BLE001 drivers raise OSError, RuntimeError and UnicodeError besides their own
            # Without the cause, which holds the statement with its values.
            raise self.broken(error) from None


def reason_of(error: BaseException) -> str:
    """The server's or driver's own words, without statement and values."""
    cause: BaseException = getattr(error, "orig", None) or error
    primary = getattr(getattr(cause, "diag", None), "message_primary", None)  # psycopg
    if primary:
        return one_line(str(primary))
    if len(cause.args) > 1 and isinstance(cause.args[0], int):  # PyMySQL, OSError
        return one_line(f"{cause.args[1]} ({cause.args[0]})")
    return one_line(str(cause)) or type(cause).__name__


def one_line(text: str) -> str:
    """A text for a log: no line breaks, nothing that is no character, not without end."""
    shown = escaped(" ".join(text.split()))
    return shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}..."
