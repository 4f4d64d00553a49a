# SPDX-License-Identifier: GPL-2.0-or-later
"""Where an engine is: a URL, and what it may say.

    redis://[user[:password]@]host[:port][,host[:port]...][/db][?option=value&...]
    rediss://...   the same over TLS, whose certificate and host name are always verified
    unix://[user[:password]@]/path/of/the/socket[?db=0&...]

`valkey://` and `valkeys://` mean the same as `redis://` and `rediss://`. Of several hosts the one that is a master is
used. User and password are percent-decoded; better places for the password are a file and the environment.

No error and no text of an Address shows a password; an error does not even repeat a URL that it cannot take apart.
"""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, quote, unquote

from kemi.errors import ConfigError
from kemi.names import ENGINE_PASSWORD_VARIABLE, ENGINE_USER_VARIABLE

FORMS = "redis://host:6379/0, rediss://host:6380/0 (TLS) or unix:///run/redis/redis.sock"

_SCHEMES = {"redis": False, "rediss": True, "valkey": False, "valkeys": True, "unix": False}  # over TLS?
_PORT = 6379
_HIGHEST_PORT = 65535
_HOST = re.compile(r"(?P<host>\[[0-9A-Fa-f:.%]+\]|[^\[\]:/@,\s]+)(?::(?P<port>[0-9]{1,5}))?")
_LARGEST = 1 << 31
_FILES = ("password_file", "tls_ca", "tls_cert", "tls_key")


@dataclass(frozen=True)
class Address:
    """An engine, and how to be let in. `str` and `repr` leave the password out; `str` is a URL of the same place."""

    scheme: str
    hosts: tuple[tuple[str, int], ...] = ()  # none: a unix socket
    socket: str = ""
    db: int = 0
    user: str = ""
    password: str = field(default="", repr=False)
    password_file: str = ""
    tls_ca: str = ""  # a file of certificates; "": those that the system trusts
    tls_cert: str = ""  # this side's own, for an engine that asks for one
    tls_key: str = ""
    timeout: float = 5.0  # seconds for one reply
    lease: float = 30.0  # seconds after which another consumer gets what a dead one had reserved
    max_deliveries: int | None = None
    dead_letter: str = ""
    max_len: int | None = None  # items that an add may fill the queue up to

    @property
    def tls(self) -> bool:
        """Is the connection encrypted?"""
        return _SCHEMES[self.scheme]

    def __str__(self) -> str:
        user = f"{quote(self.user, safe='')}@" if self.user else ""
        if self.socket:
            return f"{self.scheme}://{user}{quote(self.socket)}" + (f"?db={self.db}" if self.db else "")
        return f"{self.scheme}://{user}{','.join(map(_shown, self.hosts))}/{self.db}"

    def secret(self) -> str:
        """The password, read anew: a file may have got another one. Raises ConfigError."""
        if not self.password_file:
            return self.password or os.environ.get(ENGINE_PASSWORD_VARIABLE, "")
        try:
            with open(self.password_file, encoding="utf-8") as file:
                return file.readline().rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "it is not UTF-8"
            raise ConfigError(f"password_file={self.password_file}: cannot be read: {why}") from None


def _shown(host: tuple[str, int]) -> str:
    name, port = host
    return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"


def is_engine(where: object) -> bool:
    """Is this the URL of an engine, and not the name of an instance?"""
    return isinstance(where, str) and "://" in where


def parse(text: str, **more: Any) -> Address:
    """Take an engine's URL apart. Raises ConfigError, which says what is wrong and what is allowed.

    more: options that were given elsewhere; one that is not None counts before the URL's.
    """
    scheme, slashes, rest = text.partition("://")
    if not slashes:
        raise ConfigError(f"the engine's URL is not of the form scheme://...; write {FORMS}")
    if scheme not in _SCHEMES:
        named = f'"{scheme}"' if re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*", scheme) else "what stands before ://"
        raise ConfigError(f"{named} is no engine that this version knows; write {FORMS}, or valkey://")
    place, _, query = rest.partition("?")
    credentials, at, place = place.rpartition("@")
    user, _, password = credentials.partition(":") if at else ("", "", "")
    try:
        options = _options(query)
    except ConfigError:
        if "@" not in query:
            raise
        raise ConfigError(  # which does not repeat what may be the end of a password
            "the engine's URL has, after its first ?, what is no option; in a user or a password write %3F for ?"
        ) from None
    options.update({name: _value(name, str(value)) for name, value in more.items() if value is not None})
    named_user = options.pop("user", "") or unquote(user) or os.environ.get(ENGINE_USER_VARIABLE, "")
    where = _unix(place) if scheme == "unix" else _network(scheme, place)
    for name in _FILES:
        if options.get(name) and not os.path.isabs(options[name]):
            raise ConfigError(f"{name}: write the file's whole path")  # what stands there may be the password itself
    if not _SCHEMES[scheme] and any(options.get(name) for name in ("tls_ca", "tls_cert", "tls_key")):
        raise ConfigError(
            f"{scheme}:// does not use TLS, so tls_ca, tls_cert and tls_key mean nothing: write rediss://"
        )
    return Address(scheme=scheme, user=named_user, password=unquote(password), **{**where, **options})


def _unix(place: str) -> dict[str, Any]:
    path = unquote(place)
    if not path.startswith("/"):
        raise ConfigError("unix:// names no socket; write its whole path, like unix:///run/redis/redis.sock")
    return {"socket": path}


def _network(scheme: str, place: str) -> dict[str, Any]:
    names, _, db = place.partition("/")
    hosts = []
    for name in names.split(","):
        match = _HOST.fullmatch(name)
        if not match or int(match["port"] or _PORT) not in range(1, _HIGHEST_PORT + 1):
            raise ConfigError(f"{scheme}:// names no host, or a wrong port; write {scheme}://host:{_PORT}/0")
        hosts.append((match["host"].strip("[]"), int(match["port"] or _PORT)))
    if not re.fullmatch(r"[0-9]{0,6}", db):
        raise ConfigError(f"{scheme}://...: what follows the host is the number of a database, like /0")
    return {"hosts": tuple(hosts), **({"db": int(db)} if db else {})}


def _options(query: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name in found:
            raise ConfigError(f"the engine's URL has the option {name} twice")
        found[name] = _value(name, value)
    return found


def _value(name: str, text: str) -> Any:
    if name in ("timeout", "lease"):
        try:
            seconds = float(text)
        except ValueError:
            seconds = math.nan
        if not 0 < seconds < _LARGEST:
            raise ConfigError(f"{name}={text}: write seconds, more than 0, like {name}=5")
        return seconds
    if name in ("db", "max_deliveries", "max_len"):
        least = 0 if name == "db" else 1
        if not re.fullmatch(r"[0-9]{1,12}", text) or int(text) < least:
            raise ConfigError(f"{name}={text}: write a number of {least} or more")
        return int(text)
    if name in (*_FILES, "dead_letter", "user"):
        return text
    known = ", ".join(("db", "user", "timeout", "lease", "max_deliveries", "dead_letter", "max_len", *_FILES))
    raise ConfigError(f"the engine's URL has an option {name}, which there is not; there are {known}")
