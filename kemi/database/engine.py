# SPDX-License-Identifier: GPL-2.0-or-later
"""SQLAlchemy's engine for a DbUrl: which driver, which encryption, what one transaction sees.

SQLAlchemy (1.4 and 2.x) and the drivers are imported when a database is opened, never before. No connection is kept
between two transactions: Kamailio forks, and a connection must not be shared by two processes.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any, NamedTuple

from kemi import interpreter
from kemi.database import drivers
from kemi.database.clock import Clock
from kemi.database.url import MYSQL, POSTGRES, SQLITE, DbUrl
from kemi.errors import ConfigError

if TYPE_CHECKING:
    import ssl

OFF, ON, VERIFY = "off", "on", "verify"  # what db_tls may be, besides the path of a file
_AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
_WITH_JIT = (11,)  # PostgreSQL
_FILE_MODE = 0o660  # less the umask: items are nobody else's business
# Where a server on this host listens: Debian's default, and others' defaults.
_MYSQL_SOCKETS = ("/run/mysqld/mysqld.sock", "/var/lib/mysql/mysql.sock", "/tmp/mysql.sock")  # noqa: S108


class Options(NamedTuple):
    """What an operator says about a database besides its URL."""

    timeout: float = 0.0  # seconds for all that a start or a stop does with it; 0 = any time, while it answers
    tls: str = ""  # OFF, ON, VERIFY, the path of a file with certificates of authorities; "" = as the driver does it
    inexact: bool = False  # are tables accepted that cannot take a change back?


def make_engine(url: DbUrl, options: Options, clock: Clock) -> Any:
    """Make the engine; nothing is connected yet. Raises ConfigError, which names the package that is missing."""
    sa = _module("sqlalchemy", "python3-sqlalchemy", "sqlalchemy")
    pool = importlib.import_module("sqlalchemy.pool").NullPool
    driver, how = _MAKERS[url.kind](url, options.tls)
    target = sa.engine.URL.create(
        driver,
        username=url.user or None,
        host=None if url.kind == SQLITE else url.host or None,
        port=url.port or None,
        database=url.database,
    )
    engine = sa.create_engine(target, poolclass=pool, hide_parameters=True, **how)
    drivers.listen(engine, url.kind, driver, clock)
    if url.kind == SQLITE:
        sa.event.listen(engine, "connect", _sqlite_connected)
        sa.event.listen(engine, "begin", _sqlite_begin)
    return engine


def make_file(path: str, owner: tuple[int, int] | None) -> None:
    """Make an sqlite file that only its owner (and what the umask leaves to the group) may read. Raises OSError."""
    try:
        file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, _FILE_MODE)
    except FileExistsError:
        return
    try:
        if owner is not None:
            os.fchown(file, *owner)
    finally:
        os.close(file)


def prepare_for_rows(connection: Any, kind: str) -> None:
    """Set what would disturb SQLAlchemy's look at the table, after it."""
    if kind == SQLITE:
        # The C module writes as text whatever bytes it has; and nothing is decoded to be encoded again.
        connection.connection.dbapi_connection.text_factory = bytes
    if kind == POSTGRES:
        # What is refused only at the COMMIT would keep all items out; which one it is, its own INSERT tells.
        connection.exec_driver_sql("SET CONSTRAINTS ALL IMMEDIATE")
        # It knows nothing of a table that was just filled, and would sort the whole table for each page.
        for way in ("seqscan", "bitmapscan", "sort"):
            connection.exec_driver_sql(f"SET LOCAL enable_{way} = off")
        # Where there is no other way, as in a trigger, it takes the plan for costly, and would compile it each time.
        if connection.dialect.server_version_info >= _WITH_JIT:
            connection.exec_driver_sql("SET LOCAL jit = off")


def longest_statement(connection: Any, kind: str) -> int:
    """The bytes of a statement that the server takes."""
    if kind == MYSQL:
        return int(connection.exec_driver_sql("SELECT @@max_allowed_packet").scalar())
    return 1 << 40


def state_of_error(connection: Any) -> str:
    """Ask MySQL for the SQLSTATE of the statement that has just failed, which PyMySQL does not tell; "" if unknown."""
    try:
        connection.exec_driver_sql("GET DIAGNOSTICS CONDITION 1 @mqueue_kemi = RETURNED_SQLSTATE")
        return str(connection.exec_driver_sql("SELECT @mqueue_kemi").scalar() or "")
    except Exception:  # noqa: BLE001 - the first error counts
        return ""


def length_in_statement(connection: Any, value: object) -> int:
    """The bytes of a value as PyMySQL writes it: twice its length at most, which depends on its version."""
    return len(connection.connection.escape(value).encode("utf-8", "surrogateescape"))


def _module(name: str, package: str, pip: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(
            f"db_url: Python's {name} is missing ({error}); install Debian's package {package}, or with pip: {pip}; "
            f"{interpreter.described()}"
        ) from None


def _sqlite(url: DbUrl, _tls: str) -> tuple[str, dict[str, Any]]:
    _module("sqlite3", "libpython3-stdlib", "a Python with sqlite3")
    folder = os.path.dirname(url.database)
    if not os.path.isdir(folder):
        raise ConfigError(f"db_url {url}: there is no folder {folder}; make it, writable for the server's user")
    if os.path.isdir(url.database):
        raise ConfigError(f"db_url {url}: that is a folder; name a file in it")
    return "sqlite", {}


def _mysql(url: DbUrl, tls: str) -> tuple[str, dict[str, Any]]:
    _module("pymysql", "python3-pymysql", "PyMySQL")
    arguments: dict[str, Any] = {
        "password": url.password.encode("utf-8", "surrogateescape"),  # a str would become Latin-1
        "charset": "utf8mb4",
        "binary_prefix": True,  # bytes are bytes, whatever the connection's character set
    }
    # As MySQL's own clients do: localhost is the socket. A port asks for TCP, TLS too.
    if url.socket:
        arguments["unix_socket"] = url.socket
    elif url.host in ("", "localhost") and not url.port and tls in ("", OFF):
        arguments["unix_socket"] = next((path for path in _MYSQL_SOCKETS if os.path.exists(path)), None)
    if tls == OFF:
        arguments["ssl_disabled"] = True
    elif tls:
        arguments["ssl"] = _tls_context(url, tls)
    return "mysql+pymysql", {"connect_args": arguments, "isolation_level": "REPEATABLE READ"}


def _tls_context(url: DbUrl, tls: str) -> ssl.SSLContext:
    """Make the context for PyMySQL."""
    import ssl  # with a Python that is not the server's own first on PATH, it cannot be imported

    try:
        context = ssl.create_default_context(cafile=None if tls in (ON, VERIFY) else tls)
    except OSError as error:  # ssl.SSLError is one
        raise ConfigError(f"db_tls: {tls} cannot be used as certificates of authorities: {error}") from None
    if tls == ON or url.socket:
        context.check_hostname = False
    if tls == ON:
        context.verify_mode = ssl.CERT_NONE
    return context


def _postgres(url: DbUrl, tls: str) -> tuple[str, dict[str, Any]]:
    arguments: dict[str, Any] = {
        "application_name": "mqueue_kemi",
        "client_encoding": "utf8",
        # A host that dies in the middle is noticed.
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 4,
        **_postgres_tls(tls),
    }
    if url.socket:  # the folder is the host for libpq
        arguments["host"] = url.socket
    if url.password:
        arguments["password"] = url.password
    options = {"connect_args": arguments, "isolation_level": "REPEATABLE READ"}
    if not _has("psycopg2") and _has("psycopg") and importlib.import_module("sqlalchemy").__version__ >= "2":
        # Statements prepared in one session would be found by another one behind a pooler.
        arguments["prepare_threshold"] = None
        return "postgresql+psycopg", options
    _module("psycopg2", "python3-psycopg2", "psycopg2-binary, or psycopg with SQLAlchemy 2")
    # One round trip for many rows, not one for each.
    return "postgresql+psycopg2", {**options, "executemany_mode": "values_plus_batch"}


def _postgres_tls(tls: str) -> dict[str, str]:
    if tls in ("", OFF, ON):
        return {"sslmode": {OFF: "disable", ON: "require"}[tls]} if tls else {}
    import ssl

    authorities = ssl.get_default_verify_paths().cafile or _AUTHORITIES if tls == VERIFY else tls
    if not os.path.isfile(authorities):
        raise ConfigError(f"db_tls: there is no file {authorities} with certificates of authorities")
    return {"sslmode": "verify-full", "sslrootcert": authorities}


_MAKERS = {SQLITE: _sqlite, MYSQL: _mysql, POSTGRES: _postgres}


def _has(module: str) -> bool:
    try:
        importlib.import_module(module)
    except ImportError:
        return False
    return True


def _sqlite_connected(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # transactions begin where _sqlite_begin says, not where the driver guesses


def _sqlite_begin(connection: Any) -> None:
    """Take the write lock at once: two servers never load the same rows."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")
