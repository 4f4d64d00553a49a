# SPDX-License-Identifier: GPL-2.0-or-later
"""A SIP message out of text, with what a test does not care about filled in."""

from __future__ import annotations

import re
from typing import NamedTuple

from kemi.testing import uri

# What a server uses where there is no message: in mod_init, child_init and timers.
FAKED = (
    "OPTIONS sip:you@kamailio.org SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1\r\nFrom: <sip:you@kamailio.org>;tag=123\r\n"
    "To: <sip:you@kamailio.org>\r\nCall-ID: 123\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
)

_COMPACT = {
    "v": "via",
    "f": "from",
    "t": "to",
    "m": "contact",
    "i": "call-id",
    "e": "content-encoding",
    "k": "supported",
    "l": "content-length",
    "c": "content-type",
    "s": "subject",
    "o": "event",
    "x": "session-expires",
    "r": "refer-to",
    "b": "referred-by",
    "a": "accept-contact",
    "u": "allow-events",
    "j": "reject-contact",
}


class Header(NamedTuple):
    """One header as it is written, its body without the space around it."""

    name: str
    body: str


def canonical(name: str) -> str:
    """The name by which headers are the same: F and from."""
    lower = name.strip().lower()
    return _COMPACT.get(lower, lower)


class Message:
    """A request or a reply. Nothing changes it: what a script adds or removes is for the message that is sent."""

    def __init__(self, text: str, source: tuple[str, int], received: tuple[str, int], proto: str = "udp") -> None:
        """text: the whole message, with a Via, or only its first lines; then what is missing is filled in."""
        self.text = complete(text)
        self.source = source
        self.received = received
        self.proto = proto
        head, _, self.body = self.text.partition("\r\n\r\n")
        first, *lines = re.sub(r"\r\n[ \t]+", " ", head).split("\r\n")
        self.headers = [
            Header(name.rstrip(), body.lstrip()) for name, _, body in (line.partition(":") for line in lines)
        ]
        self.is_request = not first.startswith("SIP/2.0 ")
        parts = first.split(" ", 2)
        self.method = parts[0] if self.is_request else ""
        self.uri = parts[1] if self.is_request else ""
        self.status = 0 if self.is_request else int(parts[1])
        self.reason = "" if self.is_request else parts[2]

    def all(self, name: str) -> list[str]:
        """The bodies of all headers of a name."""
        wanted = canonical(name)
        return [header.body for header in self.headers if canonical(header.name) == wanted]

    def first(self, name: str) -> str | None:
        """The body of the first header of a name."""
        return next(iter(self.all(name)), None)

    def address(self, name: str) -> uri.Address | None:
        """From or To, in its parts."""
        body = self.first(name)
        return None if body is None else uri.address(body)


def complete(text: str) -> str:
    """A whole message out of its beginning; one that has a Via is taken as it is. Raises ValueError."""
    head, *rest = re.split(r"\r?\n\r?\n", text.lstrip(), maxsplit=1)
    body = rest[0] if rest else ""
    first, *lines = [line for line in re.split(r"\r?\n", head) if line.strip()] or [""]
    first, method, to = _first_line(first.strip())
    broken = [line for line in lines if ":" not in line and not line.startswith((" ", "\t"))]
    if broken:
        raise ValueError(f"no header: {broken[0]!r}")
    present = {canonical(line.partition(":")[0]) for line in lines}
    if "via" not in present:
        for name, value in _missing(method, to, body):
            if name.lower() not in present:
                lines.append(f"{name}: {value}")
    return "\r\n".join([first, *lines]) + "\r\n\r\n" + body


def _first_line(line: str) -> tuple[str, str, str]:
    """The line, the method, and whom the message is for."""
    if re.match(r"SIP/2\.0 \d{3} ", line + " "):
        return line if line.count(" ") > 1 else line + " ", "INVITE", "sip:callee@127.0.0.1"
    found = re.fullmatch(r"([A-Z]+) (\S+)(?: SIP/2\.0)?", line)
    if not found:
        raise ValueError(f'no first line of a SIP message: {line!r}; it is like "INVITE sip:bob@example.org SIP/2.0"')
    return f"{found[1]} {found[2]} SIP/2.0", found[1], found[2]


def _missing(method: str, to: str, body: str) -> list[tuple[str, str]]:
    """What every message has, in its order."""
    return [
        ("Via", "SIP/2.0/UDP 127.0.0.1:5062;branch=z9hG4bK-test"),
        ("Max-Forwards", "70"),
        ("From", "<sip:caller@127.0.0.1>;tag=caller"),
        ("To", f"<{to}>"),
        ("Call-ID", "test@127.0.0.1"),
        ("CSeq", f"1 {method}"),
        ("Content-Length", str(len(body.encode("utf-8", "surrogateescape")))),
    ]
