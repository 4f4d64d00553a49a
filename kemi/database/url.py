# SPDX-License-Identifier: GPL-2.0-or-later
"""Kamailio's database URLs, `scheme://[user[:password]@]host[:port]/database`, as plain values.

In place of the host `unix(/path)` names a socket.

Read as Kamailio reads them (src/lib/srdb1/db_id.c), so that the `db_url` of the C module means the same here: the
password ends at the last `@`, and nothing is percent-decoded. No error and no text of a DbUrl ever shows the password:
an error does not even repeat a URL that it cannot take apart.
"""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass, field

from kemi.errors import ConfigError

SQLITE, MYSQL, POSTGRES = "sqlite", "mysql", "postgres"
_KINDS = {"sqlite": SQLITE, "mysql": MYSQL, "mariadb": MYSQL, "postgres": POSTGRES, "postgresql": POSTGRES}
_FORMS = "sqlite:////folder/file, mysql://user:password@host/database, postgres://user:password@host/database"
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")
_PLACE = re.compile(
    r"(?:unix\((?P<socket>[^()]*)\)|(?P<host>\[[^]]*\]|[^][:/@]*))(?::(?P<port>[0-9]*))?/(?P<database>.*)", re.DOTALL
)
_HIGHEST_PORT = 65535


@dataclass(frozen=True)
class DbUrl:
    """Where a database is. `str` and `repr` leave the password out."""

    kind: str  # SQLITE, MYSQL or POSTGRES
    scheme: str  # as it was written
    database: str  # its name; the absolute path of an sqlite file
    host: str = ""
    port: int = 0  # 0 = the usual one
    user: str = ""
    password: str = field(default="", repr=False)
    socket: str = ""  # a path: MySQL's socket, or the folder of PostgreSQL's

    def __str__(self) -> str:
        user = f"{self.user}@" if self.user else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        host = f"unix({self.socket})" if self.socket else host
        port = f":{self.port}" if self.port else ""
        return f"{self.scheme}://{user}{host}{port}/{self.database}"


def parse(text: str) -> DbUrl:
    """Take a db_url apart. Raises ConfigError, which says what is wrong and what is allowed."""
    scheme, slashes, rest = text.partition("://")
    if not slashes:
        raise ConfigError(f"db_url: not of the form scheme://...; write {_FORMS}")
    kind = _KINDS.get(scheme)
    if kind is None:
        known = ", ".join(_KINDS)
        named = f'"{scheme}"' if _SCHEME.fullmatch(scheme) else "what stands before ://"  # it may be a password
        raise ConfigError(f"db_url: {named} is no database that this module knows; there are {known}")
    if "\0" in rest:
        raise ConfigError("db_url: it has a NUL in it")
    return _sqlite(scheme, rest) if kind == SQLITE else _server(kind, scheme, rest)


def _sqlite(scheme: str, rest: str) -> DbUrl:
    """Two slashes, an empty host, one slash, and the path, as it is: four slashes make it absolute."""
    path = rest[1:]
    if not rest.startswith("/") or not path or path == ":memory:":
        raise ConfigError("db_url: an sqlite database is a file; write sqlite:////folder/file")
    if "?" in path:
        raise ConfigError("db_url: nothing may follow the file's name, and no ? may be in it")
    # The server may change its folder before it stops.
    return DbUrl(SQLITE, scheme, os.path.abspath(path))


def _server(kind: str, scheme: str, rest: str) -> DbUrl:
    credentials, _, place = rest.rpartition("@")
    user, _, password = credentials.partition(":")
    match = _PLACE.fullmatch(place)
    if not match:
        raise ConfigError(f"db_url: not of the form {scheme}://user:password@host:port/database")
    if "?" in match["database"]:
        raise ConfigError("db_url: nothing may follow the database's name, and no ? may be in it")
    if not match["database"]:
        raise ConfigError(f"db_url: it names no database; write {scheme}://user:password@host/database")
    if match["socket"] is not None and not match["socket"].startswith("/"):
        raise ConfigError(f"db_url: write the whole path of the socket, {scheme}://user@unix(/run/...)/database")
    host, port = _host(match["host"] or ""), int((match["port"] or "0")[:6])
    if port > _HIGHEST_PORT:
        raise ConfigError(f"db_url: a port is at most {_HIGHEST_PORT}")
    return DbUrl(kind, scheme, match["database"], host, port, user, password, match["socket"] or "")


def _host(text: str) -> str:
    """A host without the brackets of an IPv6 address."""
    if not text.startswith("["):
        return text
    try:
        return str(ipaddress.IPv6Address(text[1:-1]))
    except ValueError:
        raise ConfigError(
            "db_url: in brackets stands an IPv6 address; groups of my.cnf are not read, write user, password and host"
        ) from None
