"""What a database refuses, in one line: which database, which table, why, and what to do.

The texts of SQLAlchemy hold the statement and the values, so only the driver's own reason is taken, and neither the
password nor more of an item than the server itself quotes can get into a log.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

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
_POSTGRES_DENIED, _ROW_POLICY = "42501", "violates row-level security policy"
_POSTGRES_FULL = ("22003", "2200H")  # a number, not an item, is too large: the id
_CONTENDED = (1020, 1213, "40001", "40P01")  # another transaction came first; the same once more may succeed
_LONG_PASSWORD = 8  # characters; as long a text is in no message by chance

_NO_NUMBER = (
    r"maximum value of sequence|integer out of range|for key '(\S+\.)?PRIMARY'|auto-?increment value"
    r"|out of range value for column 'id'|duplicate key value .*pkey|UNIQUE constraint failed: \S+\.id\b"
)
# What to do, by what is found in the reason, in any case; the first counts. {user} is db_url's.
_ADVICE = (
    (
        r"within db_timeout",
        'raise modparam("mqueue", "db_timeout", ...), and for a stop TimeoutStopSec of the service with it',
    ),
    (
        r"database is locked|lock wait timeout|lock timeout|deadlock|could not serialize|record has changed",
        "another process is using it; try again when it has ended",
    ),
    (
        r"statement timeout|max_statement_time",
        "let the user of db_url have more time for a statement there; or raise db_timeout",
    ),
    (
        r"too many connections|max_user_connections|connection slots|too many clients|connection limit exceeded",
        "it has no connection left: have it allow more, or find who holds them",
    ),
    (r"file name too long", "the server makes a file of that name: give the queue a shorter one"),
    (r"init_connect", "correct init_connect of that server"),
    (
        r"insecure transport|no encryption|ssl off|requires? (a )?secure|ssl connection is required",
        'the server demands TLS: modparam("mqueue", "db_tls", "on"), or "verify"',
    ),
    (r"certificate (has )?expired|not yet valid", "renew the certificate of the database's server; is the time right?"),
    (
        r"(hostname|ip address) mismatch|does not match host name|doesn't match",
        "write the host in db_url as the certificate has it, or give the server one for that name",
    ),
    (
        r"certificate verify failed|self.signed certificate|root certificate|server certificate",
        "name the file with the certificate of the authority that signed the server's in db_tls; or has it expired?",
    ),
    (
        r"does not support ssl|ssl is required, but|doesn't support ssl|server does not support",
        "set up TLS at the database's server, or set db_tls to off",
    ),
    (
        r"read.only (mode|option|transaction)|--read-only|super.read.only|read_only",
        "that server only reads, as a replica does: name the one that writes in db_url",
    ),
    (r"permission denied for sequence (?P<what>\S+)", 'GRANT USAGE ON SEQUENCE {what} TO "{user}"'),
    (
        r"(select|insert|delete|update|create|execute) command denied",
        "GRANT {1} ON the table TO the user of db_url; a table that is not there it makes with CREATE",
    ),
    (r"permission denied for schema (?P<what>\S+)", 'GRANT USAGE, CREATE ON SCHEMA {what} TO "{user}"'),
    (r"no schema has been selected", 'GRANT USAGE, CREATE ON SCHEMA public TO "{user}", or name a schema in its path'),
    (r"permission denied for database (?P<what>\S+)", 'GRANT CONNECT ON DATABASE {what} TO "{user}"'),
    (
        r"permission denied for (table|relation|view) (?P<what>\S+)",
        'GRANT SELECT, INSERT, DELETE ON {what} TO "{user}"',
    ),
    (
        r"access denied|authentication failed|no password supplied|no pg_hba.conf entry",
        "check user and password of db_url, and what this host may do there; if the account demands TLS, set db_tls",
    ),
    (r"unknown database|database .* does not exist", "create the database, or correct db_url"),
    (r"'cryptography' package", "install python3-cryptography (pip: cryptography), or change how the user logs in"),
    (r"max_allowed_packet", "raise max_allowed_packet of the server"),
    (
        _NO_NUMBER,
        "column id has no number left, or its automatic ones are behind the rows: make it BIGINT, and correct them",
    ),
    (
        r"null value in column \"id\"|field 'id' doesn't have a default|NOT NULL constraint failed: \S+\.id\b",
        "give column id automatic numbers",
    ),
    (
        r"null value in column|doesn't have a default value|NOT NULL constraint failed",
        "give that column a default value, or take it out of the table",
    ),
    (
        r"duplicate entry|duplicate key value|unique constraint",
        "drop the unique index: items may be equal to others",
    ),
    (
        r"generated column|non-DEFAULT value|insertable-into|join view|cannot (insert into|change) .*view|it is a view",
        "take a plain table with plain columns, or a view that can be written to",
    ),
    (r"exclusion constraint", "drop that constraint: items may be equal to others"),
    (r"foreign key", "drop the foreign key: items have any key and value"),
    (r"no partition", "have a partition for every item"),
    (r"check constraint|constraint .* failed for", "drop the CHECK that refuses items"),
    (
        r"too long|data truncated|incorrect string value|no equivalent in encoding|invalid byte sequence",
        "change the column so that it takes the item",
    ),
    (
        r"readonly database|read-only|unable to open|permission denied",
        "the file and its folder must be writable for the user as whom the server runs{runs_as}",
    ),
    (r"disk is full|no space left|is full", "make room there"),
    (r"not a database|malformed", "db_url names a file that is no sqlite database, or is damaged; move it away"),
    (
        r"can't connect|refused|timed out|timeout|gone away|lost connection|connection|terminating|could not translate",
        "the database must run and be reachable from this host",
    ),
)


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
        told = self.error(reason, self._advice(reason) or otherwise)
        return Contended(str(told)) if _code_of(error) in _CONTENDED else told

    def away(self, error: BaseException) -> DatabaseAway:
        """What to raise when there was no connection."""
        return DatabaseAway(str(self.broken(error)))

    def _advice(self, reason: str) -> str:
        for pattern, text in _ADVICE:
            if found := re.search(pattern, reason, re.IGNORECASE):
                names = {"user": self.url.user, "runs_as": self.runs_as, **found.groupdict()}
                return text.format(found[0], found[0].split()[0].upper(), **names)
        return ""

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
            return _is_unfit_for_postgres(cause, reason)
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


def _is_unfit_for_postgres(cause: BaseException, reason: str) -> bool:
    code = _code_of(cause) or ""
    detail = getattr(getattr(cause, "diag", None), "message_detail", None) or ""
    if code == _POSTGRES_DENIED:
        return _ROW_POLICY in reason
    if code in _POSTGRES_FULL or detail.startswith("Key (id)="):
        return False
    return bool(_POSTGRES_UNFIT.fullmatch(str(code)))


def _is_unfit_for_mysql(cause: BaseException, reason: str, state: Callable[[], str]) -> bool:
    if re.search(_NO_NUMBER, reason, re.IGNORECASE):
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
