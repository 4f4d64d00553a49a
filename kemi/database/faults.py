# SPDX-License-Identifier: GPL-2.0-or-later
"""What a database refuses, in one line: which database, which table, why, and what to do.

The texts of SQLAlchemy hold the statement and the values, so only the driver's own reason is taken, and neither the
password nor more of an item than the server itself quotes can get into a log.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from kemi.database import advice
from kemi.database.clock import Clock
from kemi.database.url import POSTGRES, SQLITE, DbUrl
from kemi.errors import Contended, DatabaseAway, MqueueError, StoreError
from kemi.text import one_line as escaped

_LONGEST = 400  # characters of each part of an error

# What MySQL and MariaDB answer to a COMMIT that they undo: a lock, a conflict in a cluster, a server that only reads.
_MYSQL_REFUSALS = (1205, 1213, 1290, 1792, 1836)
_POSTGRES_CONNECTION = "08"  # class of errors; a pooler between here and the server has them, too

# What one item is to blame for, and another item may be accepted: MySQL's codes, those for users' own triggers, and
# states. Classes from I on, and from 5 on without those of the server itself, are for the users' own triggers.
_MYSQL_UNFIT = (1062, 1118, 1265, 1300, 1366, 1369, 1406, 1452, 1526, 1643, 1644, 1748, 3140, 3819, 4025)
_MYSQL_OWN = 20_000  # no server has greater codes; PyMySQL makes those beyond 32767 negative
_MYSQL_UNFIT_STATES = re.compile("22...|23...|44...|45...|(?!70|72|HY|HZ|S1|XA)[5-9I-Z]....")
_POSTGRES_UNFIT = re.compile(
    "22...|23503|23505|23514|23P01|44000|54000|P0001|P0004|(?!53|54|55|57|58|72|HV|P0|XX)[5-9I-Z]...."
)
_SQLITE_UNFIT = re.compile("malformed JSON|JSON path|integer overflow|string or blob too big")
# What it says may be in any language: that a policy is the cause, its own function tells.
_POSTGRES_DENIED, _ROW_POLICY = "42501", "ExecWithCheckOptions"
_POSTGRES_TWICE = "23505"  # which columns it is, stands in its detail: (column)=(value)
_POSTGRES_FULL = ("22003", "2200H")  # a number, not an item, is too large: the id
_CONTENDED = (1020, 1213, "40001", "40P01")  # another transaction came first; the same once more may succeed
_LONG_PASSWORD = 8  # characters; as long a text is in no message by chance


class Place(NamedTuple):
    """A table in a database, and how what goes wrong there is told."""

    url: DbUrl
    table: str
    runs_as: str = ""  # for advice: " (name)" where it is known as whom the server will run
    clock: Clock = Clock()

    def error(self, reason: str, advice: str) -> StoreError:
        """What to raise. Both texts are parts of one sentence."""
        where = f'database {one_line(str(self.url))}, table "{one_line(self.table)}"'
        return StoreError(f"{where}: {one_line(reason)}: {one_line(advice)}")

    def broken(self, error: BaseException, otherwise: str = "nothing was changed") -> StoreError:
        """What to raise for what a driver or SQLAlchemy raised. otherwise: the advice where there is no better one."""
        reason = self._without_password(reason_of(self.clock.explained(error)))
        code = _code_of(error)
        known = advice.find(reason, code, {"user": self.url.user, "runs_as": self.runs_as})
        told = self.error(reason, known or otherwise)
        return Contended(str(told)) if code in _CONTENDED else told

    def away(self, error: BaseException) -> DatabaseAway:
        """What to raise when there was no connection."""
        return DatabaseAway(str(self.broken(error, "look at db_url, and at what this user and this host may do there")))

    def _without_password(self, reason: str) -> str:
        """No driver is known to repeat it; this makes sure. A short one may be a letter: only where it stands alone."""
        password = self.url.password
        if not password:
            return reason
        pattern = re.escape(password)
        if len(password) < _LONG_PASSWORD:
            pattern = rf"(?<!\w){pattern}(?!\w)"
        return re.sub(pattern, "***", reason)

    def is_unfit(self, error: BaseException, state: Callable[[], str] = lambda: "") -> bool:
        """Raised by an INSERT: is one item to blame, so that others may be accepted?

        state: asks MySQL for the SQLSTATE.
        """
        cause = getattr(error, "orig", None)
        if cause is None or getattr(error, "connection_invalidated", False):
            return False
        reason = reason_of(error)
        if self.url.kind == SQLITE:
            return _is_unfit_for_sqlite(cause, reason)
        if self.url.kind == POSTGRES:
            return _is_unfit_for_postgres(cause)
        return _is_unfit_for_mysql(cause, reason, state)

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


def _is_unfit_for_sqlite(cause: BaseException, reason: str) -> bool:
    if type(cause).__name__ == "IntegrityError":
        return not re.match(r"NOT NULL|UNIQUE constraint failed: \S+\.id\b", reason)
    return bool(_SQLITE_UNFIT.search(reason))


def _is_unfit_for_postgres(cause: BaseException) -> bool:
    code = _code_of(cause) or ""
    diagnosis = getattr(cause, "diag", None)
    if code == _POSTGRES_DENIED:
        return getattr(diagnosis, "source_function", "") == _ROW_POLICY
    columns = re.search(r"\((.*?)\)=\(", getattr(diagnosis, "message_detail", None) or "")
    if code in _POSTGRES_FULL or (code == _POSTGRES_TWICE and columns and columns[1] == "id"):
        return False
    return bool(_POSTGRES_UNFIT.fullmatch(str(code)))


def _is_unfit_for_mysql(cause: BaseException, reason: str, state: Callable[[], str]) -> bool:
    if advice.NO_NUMBER.search(reason):
        return False
    code = _code_of(cause)
    if code in _MYSQL_UNFIT or (isinstance(code, int) and not 0 <= code < _MYSQL_OWN):
        return True
    return bool(_MYSQL_UNFIT_STATES.fullmatch(state()))


def _code_of(error: BaseException) -> object:
    """What the server calls it: PostgreSQL's five letters, MySQL's number; None where it has not answered."""
    cause = getattr(error, "orig", None) or error
    if cause.args and isinstance(cause.args[0], int):
        return cause.args[0]
    return getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)


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
