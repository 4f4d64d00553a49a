# SPDX-License-Identifier: GPL-2.0-or-later
"""What each driver is told before it waits, so that the clock holds for every one of them.

sqlite     waits for locks only, by its own time-out; statements are short
PyMySQL    a time-out of its socket, set anew before each statement
psycopg2   waits through a function that can be replaced
psycopg    waits through a method of its connection
"""

from __future__ import annotations

import importlib
import math
import select
import socket
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

from kemi.database import clock as clocks
from kemi.database.clock import Clock
from kemi.database.url import MYSQL, SQLITE

# Seconds between two statements of a transaction, until the database undoes it: who began it is not reachable any more.
IDLE_TIMEOUT = 300
_WITH_TRANSACTION_TIMEOUT = (17,)  # PostgreSQL
_READ, _WRITE = 1, 2  # psycopg's words for what a wait is for, and for what came
# Strict: what a column cannot hold is an error, not a shorter item. No other mode of the server's: one takes an empty
# item for NULL, one has SHOW CREATE TABLE leave out what SQLAlchemy reads there. And MariaDB from 11.6.2 on refuses by
# default what touches a row that others have changed since the transaction began; a load beside a writer would fail.
# A server whose completion_type is RELEASE ends the connection behind each COMMIT. Reasons are told in English,
# because what to do is looked up by them.
_MYSQL_SESSION = (
    "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', sql_quote_show_create = 1,"
    " sql_safe_updates = 0, sql_big_selects = 1, sql_auto_is_null = 0, lc_messages = 'en_US',"
    " character_set_client = utf8mb4, character_set_connection = utf8mb4, character_set_results = utf8mb4,"
    " innodb_lock_wait_timeout = {lock}, lock_wait_timeout = {lock}, wait_timeout = {idle}, completion_type = 0"
    " /*M!110602 , innodb_snapshot_isolation = OFF */"
)


def listen(engine: Any, kind: str, driver: str, clock: Clock) -> None:
    """Have the engine's connections keep to the clock."""
    import sqlalchemy as sa

    listen_for = sa.event.listen
    if kind == SQLITE:
        listen_for(engine, "do_connect", lambda *call: call[3].update(timeout=clock.lock_wait()))
    elif kind == MYSQL:
        listen_for(engine, "do_connect", lambda *call: _mysql_connect(call[3], clock))
        listen_for(engine, "before_cursor_execute", lambda *call: _limit_mysql(call[1].connection, clock))
        for event in ("commit", "rollback"):
            listen_for(engine, event, lambda connection: _limit_mysql_end(connection, clock))
    else:
        listen_for(engine, "do_connect", lambda *call: call[3].update(connect_timeout=_connect_timeout(clock)))
        if driver.endswith("+psycopg"):
            listen_for(engine, "connect", lambda connection, _: _limit_psycopg(connection, clock))


@contextmanager
def bounded(engine: Any, clock: Clock) -> Iterator[None]:
    """All waits of psycopg2 inside keep to the clock. It has one function for the process and all its threads."""
    if engine.dialect.driver != "psycopg2":
        yield
        return
    extensions = importlib.import_module("psycopg2.extensions")
    outer = getattr(_this_thread, "clock", None)
    _this_thread.clock = clock
    with _users.lock:
        if not _users.count:
            _users.before = extensions.get_wait_callback()
            extensions.set_wait_callback(lambda connection: _wait_for_psycopg2(connection, extensions))
        _users.count += 1
    try:
        yield
    finally:
        _this_thread.clock = outer
        with _users.lock:
            _users.count -= 1
            if not _users.count:
                extensions.set_wait_callback(_users.before)


class _Users:
    """Who counts on psycopg2's function: it is taken away with the last of them."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.count = 0
        self.before: Any = None


_users = _Users()
_this_thread = threading.local()


def limit_waiting(connection: Any, kind: str, clock: Clock) -> None:
    """See that the database itself gives up what nobody waits for any more; MySQL has it from the connection."""
    if kind not in (SQLITE, MYSQL):
        wait, lock = (max(1, int(seconds * 1000)) for seconds in (clock.wait(), clock.lock_wait()))
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = {lock}")
        connection.exec_driver_sql(f"SET LOCAL statement_timeout = {wait}")
        connection.exec_driver_sql(f"SET LOCAL idle_in_transaction_session_timeout = '{IDLE_TIMEOUT}s'")
        connection.exec_driver_sql("SET LOCAL quote_all_identifiers = off")  # SQLAlchemy would know no type in quotes
        if connection.dialect.server_version_info >= _WITH_TRANSACTION_TIMEOUT:
            connection.exec_driver_sql("SET LOCAL transaction_timeout = 0")  # the clock counts


def _connect_timeout(clock: Clock) -> int:
    """Whole seconds, of which libpq wants two at least."""
    return max(2, math.ceil(min(clocks.CONNECT, clock.wait())))


# --- PyMySQL ----------------------------------------------------------------------------------------------------------


def _mysql_connect(arguments: dict[str, Any], clock: Clock) -> Any:
    """Connect through a socket. Else None, and SQLAlchemy goes on with the arguments. Raises the driver's errors."""
    arguments.update(_mysql_arguments(clock))
    path = arguments.get("unix_socket")
    if not path:
        return None
    driver = importlib.import_module("pymysql")
    connection = driver.connect(**arguments, defer_connect=True)
    # Made here: PyMySQL 1.2 and later leave theirs open where nobody listens.
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.settimeout(arguments["connect_timeout"])
        sock.connect(path)
        connection._secure = True  # noqa: SLF001 as it does itself: nobody else reads what goes through it
        connection.connect(sock)
    except BaseException as error:
        sock.close()
        if isinstance(error, OSError):
            raise driver.OperationalError(2003, f"Can't connect to MySQL server at {path!r} ({error})") from error
        raise
    return connection


def _mysql_arguments(clock: Clock) -> dict[str, Any]:
    wait, lock = min(clocks.CONNECT, clock.wait()), max(1, round(clock.lock_wait()))
    return {
        "connect_timeout": max(1, math.ceil(wait)),
        "read_timeout": max(1, math.ceil(wait)),
        "write_timeout": max(1, math.ceil(wait)),
        "init_command": _MYSQL_SESSION.format(lock=lock, idle=IDLE_TIMEOUT),
    }


def _limit_mysql(connection: Any, clock: Clock) -> None:
    """Only its constructor takes these officially; a version without the attributes keeps what it was given there."""
    connection._read_timeout = connection._write_timeout = clock.wait()  # noqa: SLF001


def _limit_mysql_end(connection: Any, clock: Clock) -> None:
    """The end of a transaction is waited for in any case, if only for a moment."""
    dbapi = connection.connection.dbapi_connection
    dbapi._read_timeout = dbapi._write_timeout = max(1.0, min(clocks.ANSWER, clock.left()))  # noqa: SLF001


# --- psycopg2 and psycopg ---------------------------------------------------------------------------------------------


def _wait_for_psycopg2(connection: Any, extensions: Any) -> None:
    clock: Clock | None = getattr(_this_thread, "clock", None)
    while True:
        state = connection.poll()
        if state == extensions.POLL_OK:
            return
        event = select.POLLIN if state == extensions.POLL_READ else select.POLLOUT
        if not _poll(connection.fileno(), event, clock.wait() if clock else None) and clock:
            raise clock.late()


def _limit_psycopg(connection: Any, clock: Clock) -> None:
    def wait(generator: Generator[int, int, Any], *_: Any, **__: Any) -> Any:
        try:
            wanted = next(generator)
            while True:
                events = (select.POLLIN if wanted & _READ else 0) | (select.POLLOUT if wanted & _WRITE else 0)
                came = _poll(connection.fileno(), events, clock.wait())
                if not came:
                    connection.pgconn.finish()  # nothing that was begun may end later, unseen
                    raise clock.late()
                ready = (_READ if came & ~select.POLLOUT else 0) | (_WRITE if came & ~select.POLLIN else 0)
                wanted = generator.send(ready & wanted or wanted)
        except StopIteration as done:
            return done.value

    connection.wait = wait


def _poll(descriptor: int, events: int, seconds: float | None) -> int:
    """Wait for one descriptor, of any number: `select` takes only those below 1024. None: for ever."""
    poll = select.poll()
    poll.register(descriptor, events)
    return next((event for _, event in poll.poll(None if seconds is None else seconds * 1000)), 0)
