"""What a database refuses, in one line: which database, which table, why, and what to do.

The texts of SQLAlchemy hold the statement and the values, so only the driver's own reason is taken, and neither the
password nor more of an item than the server itself quotes can get into a log.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from kemi.database.url import DbUrl
from kemi.errors import MqueueError, StoreError

_LONGEST = 400  # characters of a driver's reason

# Searched in the reason, in this order, in any case.
_ADVICE = (
    (r"database is locked|lock wait timeout|lock timeout|deadlock|could not serialize", "another process is using it; try again when it has ended"),
    (r"access denied|authentication failed|permission denied|insufficientprivilege|command denied|no password supplied", "check user and password of db_url; the user needs SELECT, INSERT and DELETE, and CREATE for a missing table"),
    (r"unknown database|database \".*\" does not exist", "create the database, or correct db_url"),
    (r"'cryptography' package", "install python3-cryptography (pip: cryptography), or let the user log in with another method"),
    (r"max_allowed_packet|packet bigger", "raise max_allowed_packet of the server"),
    (r"data too long|too long for type|incorrect string value|out of range|invalid byte sequence|no equivalent in encoding", "make the column larger, of a binary type"),
    (r"readonly database|read-only|unable to open", "file and folder must be writable for the user that the server runs as"),
    (r"disk is full|no space left|disk full|is full", "make room there"),
    (r"not a database|malformed", "db_url names a file that is no sqlite database, or a damaged one; move it away"),
    (r"can't connect|connection refused|timed out|timeout expired|could not translate|gone away|lost connection|server closed|connection failed|connection to server|no such file", "the database must run and be reachable from this host"),
)  # fmt: skip


class Place(NamedTuple):
    """A table in a database, and how what goes wrong there is told."""

    url: DbUrl
    table: str

    def error(self, reason: str, advice: str) -> StoreError:
        """What to raise. Both texts are parts of one sentence."""
        return StoreError(one_line(f'database {self.url}, table "{self.table}": {reason}: {advice}'))

    def broken(self, error: BaseException) -> StoreError:
        """What to raise for what a driver or SQLAlchemy raised."""
        reason = reason_of(error)
        if self.url.password:
            reason = reason.replace(self.url.password, "***")
        advice = (text for pattern, text in _ADVICE if re.search(pattern, reason, re.IGNORECASE))
        return self.error(reason, next(advice, "nothing was changed"))

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
    shown = " ".join(text.split()).encode("utf-8", "backslashreplace").decode()
    shown = "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in shown)
    return shown if len(shown) <= 2 * _LONGEST else f"{shown[: 2 * _LONGEST]}..."
