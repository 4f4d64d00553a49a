# SPDX-License-Identifier: GPL-2.0-or-later
"""URIs and name-addr headers of SIP, as far as scripts ask for their parts."""

from __future__ import annotations

import re
from typing import NamedTuple

_SIP = re.compile(
    r"(?P<scheme>sips?):"
    r"(?:(?P<user>[^@:;?]+)(?::(?P<password>[^@]*))?@)?"
    r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\[\]:;?@\s]+)"
    r"(?::(?P<port>\d+))?"
    r"(?P<params>;[^?]*)?"
    r"(?P<headers>\?.*)?",
    re.IGNORECASE | re.DOTALL,
)
_TEL = re.compile(r"(?P<scheme>tel|urn):(?P<user>[^;?]+)(?P<params>;[^?]*)?", re.IGNORECASE)
_HIGHEST_PORT = 65535


class Uri(NamedTuple):
    """Parts as they are written; None for what is not there."""

    scheme: str
    user: str | None
    password: str | None
    host: str
    port: str | None
    params: str  # ";a=1;b", or ""
    headers: str  # "?a=1", or ""

    def __str__(self) -> str:
        password = f":{self.password}" if self.password is not None else ""
        user = f"{self.user}{password}@" if self.user is not None else ""
        port = f":{self.port}" if self.port is not None else ""
        return f"{self.scheme}:{user}{self.host}{port}{self.params}{self.headers}"

    def param(self, name: str) -> str | None:
        """The value of a parameter, "" for one without; None when it is not there."""
        return params_of(self.params).get(name.lower())


def parse(text: str) -> Uri | None:
    """None for what is no URI."""
    found = _SIP.fullmatch(text)
    if found:
        parts = found.groupdict()
        if parts["port"] is not None and int(parts["port"]) > _HIGHEST_PORT:
            return None
        names = ("scheme", "user", "password", "host", "port")
        scheme, user, password, host, port = (parts[name] for name in names)
        return Uri(scheme, user, password, host, port, parts["params"] or "", parts["headers"] or "")
    found = _TEL.fullmatch(text)
    return Uri(found["scheme"], found["user"], None, "", None, found["params"] or "", "") if found else None


def params_of(text: str) -> dict[str, str]:
    """Parts like ";a=1;b" → {"a": "1", "b": ""}; the first of a name counts."""
    found: dict[str, str] = {}
    for part in text.split(";"):
        name, _, value = part.strip().partition("=")
        if name:
            found.setdefault(name.lower(), value)
    return found


class Address(NamedTuple):
    """The body of From, To, Contact, Route."""

    display: str | None
    uri: str
    params: dict[str, str]


def address(body: str) -> Address:
    """Takes '"Alice" <sip:a@b>;tag=1' and "sip:a@b;tag=1"."""
    found = re.match(r'\s*(?P<display>"(?:[^"\\]|\\.)*"|[^<"]*?)\s*<(?P<uri>[^>]*)>(?P<params>.*)', body, re.DOTALL)
    if found:
        return Address(found["display"] or None, found["uri"], params_of(found["params"]))
    uri, _, params = body.strip().partition(";")
    return Address(None, uri, params_of(params))
