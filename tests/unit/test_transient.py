"""Which errors mean that the backend is away: by the names of their classes, their codes, and what they came from."""

from __future__ import annotations

import asyncio
import builtins
import concurrent.futures
import errno
import sqlite3
import sys
import urllib.error
from email.message import Message
from typing import Any

import psycopg
import psycopg.errors
import psycopg2
import pymysql
import pytest

from kemi.errors import LockTimeout, Unavailable, UnknownQueue
from kemi.worker.transient import TABLE, is_transient


def named(place: str, *bases: type[BaseException], **attributes: Any) -> Exception:
    """Return an error of a class that has this qualified name, of a library that is not installed here."""
    module, _, name = place.rpartition(".")
    kind = type(name, bases or (Exception,), {"__module__": module, **attributes})
    error = kind("x")
    assert isinstance(error, Exception)
    return error


def raised_from(error: Exception, cause: Exception | None, *, explicit: bool = True) -> Exception:
    """Return an error that was raised while another one was handled."""
    if explicit:
        error.__cause__ = cause
    error.__context__ = cause
    error.__suppress_context__ = explicit
    return error


AWAY: dict[str, Exception] = {
    "refused": ConnectionRefusedError(),
    "timeout": TimeoutError(),
    "asyncio": asyncio.TimeoutError(),
    "futures": concurrent.futures.TimeoutError(),
    "unreachable": OSError(errno.ENETUNREACH, "x"),
    "disk full": OSError(errno.ENOSPC, "x"),
    "url": urllib.error.URLError(ConnectionRefusedError()),
    "503": urllib.error.HTTPError("http://x", 503, "x", Message(), None),
    "psycopg": psycopg.OperationalError("connection failed"),
    "psycopg closed": psycopg.InterfaceError("the connection is closed"),
    "psycopg shutdown": psycopg.errors.AdminShutdown("x"),
    "psycopg2": psycopg2.OperationalError("x"),
    "mysql away": pymysql.err.OperationalError(2003, "Can't connect"),
    "mysql lost": pymysql.err.OperationalError(2013, "Lost connection"),
    "mysql deadlock": pymysql.err.OperationalError(1213, "Deadlock"),
    "mysql closed": pymysql.err.InterfaceError(0, ""),
    "sqlite": sqlite3.OperationalError("database is locked"),
    "redis": named("redis.exceptions.ConnectionError"),
    "requests": named(
        "requests.exceptions.ConnectTimeout", type("Timeout", (OSError,), {"__module__": "requests.exceptions"})
    ),
    "httpx": named("httpx.ConnectError", type("NetworkError", (Exception,), {"__module__": "httpx"})),
    "aiohttp": named("aiohttp.client_exceptions.ClientConnectionError"),
    "grpc": named("grpc.RpcError", code=lambda _self: type("C", (), {"name": "UNAVAILABLE"})),
    "ours": Unavailable("x"),
    "our lock": LockTimeout("x"),
    "by its cause": raised_from(ValueError(), ConnectionResetError()),
    "by its context": raised_from(ValueError(), ConnectionResetError(), explicit=False),
    "sqlalchemy's cause": raised_from(
        named("sqlalchemy.exc.OperationalError", type("DBAPIError", (Exception,), {"__module__": "sqlalchemy.exc"})),
        psycopg.OperationalError("x"),
    ),
}
OURS: dict[str, BaseException] = {
    "bug": ZeroDivisionError(),
    "no such file": FileNotFoundError(errno.ENOENT, "x"),
    "404": urllib.error.HTTPError("http://x", 404, "x", Message(), None),
    "unique": psycopg.errors.UniqueViolation("x"),
    "no column": pymysql.err.OperationalError(1054, "Unknown column"),
    "no table": sqlite3.OperationalError("no such table: x"),
    "redis wrong type": named("redis.exceptions.ResponseError"),
    "no queue": UnknownQueue("x"),
    "exit": SystemExit(1),
    "grpc": named("grpc.RpcError", code=lambda _self: type("C", (), {"name": "INVALID_ARGUMENT"})),
}


@pytest.mark.parametrize("name", AWAY)
def test_the_backend_is_away(name: str) -> None:
    assert is_transient(AWAY[name])


@pytest.mark.parametrize("name", OURS)
def test_the_item_is_to_blame(name: str) -> None:
    assert not is_transient(OURS[name])


def test_a_suppressed_context_does_not_count() -> None:
    """`raise ... from None` says that what was before is no cause."""
    error = ValueError()
    error.__context__ = ConnectionError()
    assert is_transient(error)
    error.__suppress_context__ = True
    assert not is_transient(error)


@pytest.mark.parametrize(
    ("name", "away"),
    [
        ("urllib.error.HTTPError", False),
        ("urllib.error.URLError", False),
        ("sqlalchemy.exc.DBAPIError", False),
        ("grpc.RpcError", False),
        ("psycopg.OperationalError", True),
    ],
)
def test_an_error_that_raises_when_it_is_asked_tells_nothing(name: str, away: bool) -> None:
    """As urllib's HTTPError without a body does in Python 3.9."""

    def refuse(_error: object, asked: str) -> None:
        raise KeyError(asked)

    assert is_transient(named(name, __getattr__=refuse)) is away


def test_a_circle_of_causes_ends() -> None:
    first, second = ValueError(), KeyError()
    first.__cause__, second.__cause__ = second, first
    assert not is_transient(first)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="ExceptionGroup came with Python 3.11")
def test_a_group_counts_when_each_of_it_does() -> None:
    group: Any = getattr(builtins, "ExceptionGroup")  # noqa: B009 - older Pythons have none
    assert is_transient(group("x", [ConnectionError(), TimeoutError()]))
    assert not is_transient(group("x", [ConnectionError(), ValueError()]))


def test_by_classes_and_by_a_function() -> None:
    """What a worker names counts alone; classes also where they are the cause."""
    assert is_transient(KeyError(), (LookupError,))
    assert is_transient(raised_from(ValueError(), KeyError()), (LookupError,))
    assert not is_transient(ConnectionError(), (LookupError,))
    assert is_transient(ValueError("x"), lambda error: str(error) == "x")
    assert not is_transient(ConnectionError(), lambda _error: False)


def test_the_table_has_the_names_that_libraries_give() -> None:
    """Those that are installed: a class that moves to another module would be missed in silence."""
    kinds = [psycopg.OperationalError, psycopg2.OperationalError, pymysql.err.OperationalError]
    kinds += [psycopg.InterfaceError, psycopg2.InterfaceError, pymysql.err.InterfaceError]
    for kind in (*kinds, sqlite3.OperationalError, asyncio.TimeoutError, concurrent.futures.TimeoutError):
        assert f"{kind.__module__}.{kind.__qualname__}" in TABLE
