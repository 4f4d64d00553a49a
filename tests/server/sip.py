"""A SIP user agent in its smallest form: one request over UDP, one reply.

It knows nothing of Kamailio. Headers and bodies are bytes where a test must send what no text can hold.
"""

from __future__ import annotations

import itertools
import os
import socket
import time
from dataclasses import dataclass

HOST = "127.0.0.1"
_serial = itertools.count(1)


class NoReplyError(Exception):
    """The server did not answer in time."""


@dataclass(frozen=True)
class Reply:
    """A final SIP reply."""

    status: int
    reason: str
    text: str


@dataclass
class Transaction:
    """A request on its way: `result` waits for the final reply."""

    sock: socket.socket
    request: bytes

    def result(self, timeout: float = 30.0) -> Reply:
        """Return the final reply; provisional ones (1xx) are passed over. Sent once: loopback loses nothing."""
        end = time.monotonic() + timeout
        with self.sock:
            while True:
                left = end - time.monotonic()
                if left <= 0:
                    break
                self.sock.settimeout(left)
                try:
                    text = self.sock.recv(65535).decode("utf-8", "surrogateescape")
                except socket.timeout:
                    break
                _, code, reason = text.split("\r\n", 1)[0].split(" ", 2)
                if int(code) >= 200:
                    return Reply(int(code), reason, text)
        msg = f"no final reply within {timeout} s to {self.request[:60]!r}"
        raise NoReplyError(msg)


def send(
    port: int,
    method: str,
    *,
    to: bytes = b"bob",
    sender: bytes = b"alice",
    body: bytes = b"",
) -> Transaction:
    """Send one request to 127.0.0.1:port and return at once."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((HOST, 0))
    own = f"{HOST}:{sock.getsockname()[1]}".encode()
    mark = f"{os.getpid()}-{next(_serial)}".encode()
    name = method.encode()
    lines = [
        b"%b sip:%b@%b:%d SIP/2.0" % (name, to, HOST.encode(), port),
        b"Via: SIP/2.0/UDP %b;branch=z9hG4bK-%b" % (own, mark),
        b"Max-Forwards: 70",
        b"From: <sip:%b@%b>;tag=%b" % (sender, own, mark),
        b"To: <sip:%b@%b:%d>" % (to, HOST.encode(), port),
        b"Call-ID: %b@%b" % (mark, HOST.encode()),
        b"CSeq: 1 %b" % name,
        b"Contact: <sip:%b>" % own,
        b"Content-Type: text/plain",
        b"Content-Length: %d" % len(body),
        b"",
        body,
    ]
    request = b"\r\n".join(lines)
    sock.sendto(request, (HOST, port))
    return Transaction(sock, request)
