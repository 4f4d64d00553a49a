# SPDX-License-Identifier: GPL-2.0-or-later
"""Which errors mean that the backend is away, so that the same call may work later, and the item is not to blame.

Nearly no library raises the builtin ConnectionError or TimeoutError when its server is away, so there is a table of
qualified class names. Nothing of it is imported: what was raised is compared by name, with all its bases, and so is
what caused it. Where one class stands for lost connections and for mistakes alike, its code or text decides.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kemi.worker.spec import Transient

_ERRNOS = {
    *(errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ETIMEDOUT, errno.ECONNREFUSED),
    *(errno.ENOSPC, errno.EDQUOT, errno.ESTALE, errno.EMFILE, errno.ENFILE),
}
_HTTP = (502, 503, 504)  # a gateway without its server, an overload
# MySQL's own numbers for a server that is away, ends, only reads or is locked; what is below 2000 else is a mistake.
_MYSQL = {1040, 1053, 1129, 1152, 1158, 1159, 1160, 1161, 1203, 1205, 1213, 1290, 1792, 1836, 3024, 4031}
_MYSQL_CLIENT = range(2000, 2100)
_POSTGRES = ("08", "40", "53", "55P03", "57", "25006", "58")
_SQLITE = re.compile("locked|busy|unable to open|disk|readonly", re.IGNORECASE)


def _part(error: BaseException, name: str) -> Any:
    """What an exception has under a name, if anything: urllib's has a __getattr__ that may raise what it likes."""
    try:
        return getattr(error, name, None)
    except Exception:
        return None


def _always(_error: Any) -> bool:
    return True


def _by_errno(error: Any) -> bool:
    return error.errno in _ERRNOS


def _by_http_status(error: Any) -> bool:
    response = _part(error, "response")
    for status in (
        getattr(response, "status_code", None),
        _part(error, "status"),
        _part(error, "code"),
    ):
        if isinstance(status, int):
            return status in _HTTP
    return False


def _of_mysql(error: Any) -> bool:
    code = error.args[0] if error.args else 0
    return not isinstance(code, int) or code in _MYSQL or code in _MYSQL_CLIENT or code == 0


def _of_postgres(error: Any) -> bool:
    state = _part(error, "sqlstate") or _part(error, "pgcode")
    return state is None or str(state).startswith(_POSTGRES)


def _of_sqlite(error: Any) -> bool:
    return bool(_SQLITE.search(str(error)))


def _of_sqlalchemy(error: Any) -> bool:
    """Its own word for a lost connection; what a driver raised is looked at as the cause."""
    return bool(_part(error, "connection_invalidated"))


def _of_grpc(error: Any) -> bool:
    code = _part(error, "code")
    return callable(code) and getattr(code(), "name", "") in ("UNAVAILABLE", "DEADLINE_EXCEEDED")


def _by_reason(error: Any) -> bool:
    """What urllib could not do, as another exception; a text is a mistake in the URL."""
    reason = _part(error, "reason")
    return isinstance(reason, BaseException) and _in_table(reason)


_Test = Callable[[Any], bool]


def _rows(test: _Test, *names: str) -> dict[str, _Test]:
    return dict.fromkeys(names, test)


_VALKEYS = ("ConnectionError", "TimeoutError", "ReadOnlyError", "ClusterDownError", "TryAgainError", "MasterDownError")
TABLE: dict[str, _Test] = {
    **_rows(_always, "builtins.ConnectionError", "builtins.TimeoutError", "socket.timeout", "socket.gaierror"),
    **_rows(_always, "asyncio.exceptions.TimeoutError", "concurrent.futures._base.TimeoutError"),
    **_rows(_always, "kemi.errors.Unavailable", "kemi.errors.LockTimeout"),
    **_rows(_by_errno, "builtins.OSError"),
    **_rows(_always, "ssl.SSLEOFError", "ssl.SSLZeroReturnError", "http.client.IncompleteRead"),
    **_rows(_always, "smtplib.SMTPServerDisconnected", "smtplib.SMTPConnectError"),
    **_rows(_by_reason, "urllib.error.URLError"),
    **_rows(_by_http_status, "urllib.error.HTTPError", "requests.exceptions.HTTPError", "httpx.HTTPStatusError"),
    **_rows(_by_http_status, "httpx._exceptions.HTTPStatusError", "aiohttp.client_exceptions.ClientResponseError"),
    **_rows(_always, "requests.exceptions.ConnectionError", "requests.exceptions.Timeout"),
    **_rows(_always, "requests.exceptions.ChunkedEncodingError"),
    **{
        f"{module}.{name}": _always
        for module in ("httpx", "httpx._exceptions", "httpcore", "httpcore._exceptions")
        for name in ("TimeoutException", "NetworkError", "RemoteProtocolError", "ProxyError")
    },
    **_rows(_always, "aiohttp.client_exceptions.ClientConnectionError", "aiohttp.client_exceptions.ClientPayloadError"),
    **_rows(_always, "urllib3.exceptions.MaxRetryError", "urllib3.exceptions.NewConnectionError"),
    **_rows(_always, "urllib3.exceptions.TimeoutError", "urllib3.exceptions.ProtocolError"),
    **_rows(_always, "websockets.exceptions.ConnectionClosed"),
    **_rows(_of_postgres, "psycopg.OperationalError", "psycopg.errors.OperationalError", "psycopg2.OperationalError"),
    **_rows(_of_postgres, "psycopg.InterfaceError", "psycopg.errors.InterfaceError", "psycopg2.InterfaceError"),
    **_rows(_always, "psycopg_pool.errors.PoolTimeout", "asyncpg.exceptions.PostgresConnectionError"),
    **_rows(_always, "asyncpg.exceptions.OperatorInterventionError", "asyncpg.exceptions._base.InterfaceError"),
    **_rows(_always, "asyncpg.exceptions.InsufficientResourcesError"),
    **_rows(_of_mysql, "pymysql.err.OperationalError", "pymysql.err.InterfaceError"),
    **_rows(_of_mysql, "MySQLdb.OperationalError", "MySQLdb._exceptions.OperationalError"),
    **_rows(_of_mysql, "MySQLdb.InterfaceError", "MySQLdb._exceptions.InterfaceError"),
    **_rows(_of_mysql, "mysql.connector.errors.OperationalError", "mysql.connector.errors.InterfaceError"),
    **_rows(_always, "mysql.connector.errors.PoolError", "oracledb.exceptions.OperationalError"),
    **_rows(_always, "pyodbc.OperationalError"),
    **_rows(_of_sqlite, "sqlite3.OperationalError"),
    **_rows(_of_sqlalchemy, "sqlalchemy.exc.DBAPIError"),
    **_rows(_always, "sqlalchemy.exc.TimeoutError", "sqlalchemy.exc.DisconnectionError"),
    **{f"{module}.exceptions.{name}": _always for module in ("redis", "valkey") for name in _VALKEYS},
    **_rows(_always, "pika.exceptions.AMQPConnectionError", "aiormq.exceptions.AMQPConnectionError"),
    **_rows(_always, "kafka.errors.KafkaConnectionError", "kafka.errors.NoBrokersAvailable"),
    **_rows(_always, "pymongo.errors.ConnectionFailure", "elastic_transport.ConnectionError"),
    **_rows(_always, "elastic_transport.ConnectionTimeout", "botocore.exceptions.HTTPClientError"),
    **_rows(_always, "botocore.exceptions.EndpointConnectionError", "ldap.SERVER_DOWN"),
    **_rows(_always, "ldap3.core.exceptions.LDAPSocketOpenError"),
    **_rows(_of_grpc, "grpc.RpcError"),
}


def is_transient(error: BaseException, by: Transient | None = None) -> bool:
    """Return True if the backend was away. by: a worker's own classes, or its function; None: the table."""
    if by is None:
        return any(map(_in_table, _with_causes(error)))
    if isinstance(by, tuple):
        return any(isinstance(one, by) for one in _with_causes(error))
    return isinstance(error, Exception) and bool(by(error))


def _in_table(error: BaseException) -> bool:
    """Look up the nearest class that is in the table: an HTTPError is an OSError, too, and is judged as the former."""
    if any(kind.__name__ == "BaseExceptionGroup" for kind in type(error).__mro__):
        inside = _part(error, "exceptions")
        return bool(inside) and all(any(map(_in_table, _with_causes(one))) for one in inside)
    for kind in type(error).__mro__:
        test = TABLE.get(f"{kind.__module__}.{kind.__qualname__}")
        if test is not None:
            return test(error)
    return False


def _with_causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the error, and what it came from, as a traceback would show it."""
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)
