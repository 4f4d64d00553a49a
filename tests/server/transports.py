"""Kamailio's own ways to RPC, each as small as it can be: what goes out and what comes back, as bytes.

The clients that operators use (kamcmd, kamctl, kamcli) run as programs, with private configurations.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import select
import socket
import subprocess
import time
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tests.server.process import SYSTEM_PATH

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

    from tests.server.harness import Server

WITHIN = 60.0  # seconds
_serial = itertools.count(1)


class NoAnswerError(Exception):
    """Nothing came back in time, or nothing that is an answer."""


class Json(Protocol):
    """A way for JSON-RPC: what comes back is the document as bytes."""

    def send(self, document: bytes) -> bytes: ...


def request(method: str, params: object = (), number: object = 1, **more: object) -> bytes:
    """Make a JSON-RPC document."""
    document = {"jsonrpc": "2.0", "method": method, "params": params, "id": number, **more}
    return json.dumps(document, ensure_ascii=False).encode()


@dataclass(frozen=True)
class Http:
    """JSON-RPC as the body of a POST; the status is left out."""

    port: int
    source: str = "127.0.0.1"  # the caller's address

    def send(self, document: bytes) -> bytes:
        connection = HTTPConnection("127.0.0.1", self.port, WITHIN, source_address=(self.source, 0))
        try:
            connection.request("POST", "/RPC", document, {"Content-Type": "application/json"})
            return connection.getresponse().read()
        except (OSError, HTTPException) as error:
            raise NoAnswerError(f"HTTP: {error!r}") from None
        finally:
            connection.close()


@dataclass(frozen=True)
class Datagram:
    """JSON-RPC in a datagram, each way one."""

    path: Path

    def send(self, document: bytes) -> bytes:
        own = self.path.with_name(f"dgram-{os.getpid()}-{next(_serial)}")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.bind(str(own))
            own.chmod(0o666)
            sock.settimeout(WITHIN)
            try:
                sock.sendto(document, str(self.path))
                return sock.recv(1 << 21)
            except OSError as error:
                raise NoAnswerError(f"datagram: {error}") from None
            finally:
                own.unlink()


@dataclass(frozen=True)
class Fifo:
    """JSON-RPC through a named pipe; the answer comes through another one beside it."""

    path: Path
    answers: Path  # the folder

    def send(self, document: bytes) -> bytes:
        own = self.answers / f"reply_{os.getpid()}_{next(_serial)}"
        os.mkfifo(own)
        own.chmod(0o666)
        reader = os.open(own, os.O_RDONLY | os.O_NONBLOCK)
        try:
            named = json.dumps({"reply_name": own.name})[1:-1].encode()
            with self.path.open("wb") as fifo:
                fifo.write(document.rstrip()[:-1] + b"," + named + b"}\n")
            return self._read(reader)
        finally:
            os.close(reader)
            own.unlink()

    @staticmethod
    def _read(reader: int) -> bytes:
        data = b""
        end = time.monotonic() + WITHIN
        while time.monotonic() < end:
            select.select([reader], [], [], 0.05)
            with contextlib.suppress(BlockingIOError):
                piece = os.read(reader, 1 << 16)
                data += piece
                if data and not piece:
                    return data
                if not piece:
                    time.sleep(0.002)  # nobody has opened it yet
        msg = f"FIFO: {len(data)} bytes and no end"
        raise NoAnswerError(msg)


@dataclass(frozen=True)
class Answer:
    """What a JSON-RPC document says."""

    result: Any = None
    code: int = 0
    message: str = ""


def ask(way: Json, method: str, *params: object) -> Answer:
    """Ask, and read the answer strictly: an error has no result, and a result no error."""
    document = json.loads(way.send(request(method, params)))
    assert document.pop("jsonrpc") == "2.0"
    assert document.pop("id") == 1
    if "error" in document:
        assert document.keys() == {"error"}
        return Answer(code=document["error"]["code"], message=document["error"]["message"])
    assert document.keys() == {"result"}
    return Answer(document["result"])


# --- BINRPC, the language of the ctl socket

_REQUEST, _REPLY, _FAULT = 0, 1, 3
_INT, _STR, _DOUBLE, _STRUCT, _MEMBER = 0, 1, 2, 3, 5


def _record(value: str | bytes | float) -> bytes:
    if isinstance(value, str):
        value = value.encode()
    if isinstance(value, bytes):
        data, kind = value + b"\0", _STR
    elif isinstance(value, int):
        data, kind = value.to_bytes(4, "big"), _INT
    else:
        data, kind = int(value * 1000).to_bytes(7, "big"), _DOUBLE
    if len(data) < 8:
        return bytes([len(data) << 4 | kind]) + data
    size = len(data).to_bytes(4, "big")
    return bytes([(len(size) | 8) << 4 | kind]) + size + data


def _records(data: bytes) -> Iterator[tuple[int, Any]]:
    """Read the kind and value of each record; None for the end of a struct."""
    at = 0
    while at < len(data):
        kind, size = data[at] & 15, data[at] >> 4
        at += 1
        ends = False
        if kind != _DOUBLE and size & 8:
            ends, wide = True, size & 7
            size, at = int.from_bytes(data[at : at + wide], "big"), at + wide
        part, at = data[at : at + size], at + size
        if kind in (_INT, _DOUBLE):
            yield kind, int.from_bytes(part, "big") / (1000 if kind == _DOUBLE else 1)
        elif kind == _STRUCT:
            yield kind, None if ends else {}
        else:
            yield kind, part[:-1]


def structs(data: bytes) -> list[dict[str, Any]]:
    """Read an answer of structs; texts are bytes."""
    found: list[dict[str, Any]] = []
    records = _records(data)
    for kind, value in records:
        if kind == _STRUCT and value is not None:
            found.append(value)
        elif kind == _MEMBER:
            found[-1][value.decode()] = next(records)[1]
    return found


class Binrpc:
    """A connection to the ctl socket; what comes back are the records as they were sent, kind and bytes."""

    def __init__(self, path: Path) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(WITHIN)
        self.sock.connect(str(path))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, *values: str | bytes | float) -> tuple[bool, bytes]:
        """Send a method and its parameters; return whether the answer is an error, and its records."""
        body = b"".join(map(_record, values))
        self.sock.sendall(b"\xa1\x0f" + len(body).to_bytes(4, "big") + b"cook" + body)
        head = self._read(2)
        assert head[0] == 0xA1
        size = int.from_bytes(self._read((head[1] >> 2 & 3) + 1), "big")
        assert self._read((head[1] & 3) + 1) == b"cook"
        kind = head[1] >> 4
        assert kind in (_REPLY, _FAULT)
        return kind == _FAULT, self._read(size)

    def ask(self, *values: str | bytes | float) -> Answer:
        """Send, and read the answer: a list of structs, or an error."""
        failed, data = self.send(*values)
        if not failed:
            return Answer(structs(data))
        (_, code), (_, message) = _records(data)
        return Answer(code=code, message=message.decode())

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = self.sock.recv(size - len(data))
            if not piece:
                msg = "ctl closed the connection"
                raise NoAnswerError(msg)
            data += piece
        return data


# --- the operators' programs


@dataclass(frozen=True)
class Printed:
    """What a program left behind."""

    status: int
    out: bytes
    err: bytes


class Client(Protocol):
    """A program that asks."""

    def run(self, method: str, *params: str | bytes) -> Printed: ...

    def fault(self) -> str:
        """Say why the system's own program cannot work, whatever the server; "" when it can."""
        return ""


def _run(argv: list[str | bytes], env: dict[str, str], folder: Path) -> Printed:
    home = {"PATH": SYSTEM_PATH, "LANG": "C.UTF-8", "HOME": str(folder), **env}
    done = subprocess.run(
        argv, env=home, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=False
    )
    return Printed(done.returncode, done.stdout, done.stderr)


@dataclass(frozen=True)
class Kamcmd(Client):
    """BINRPC over the ctl socket."""

    server: Server

    def run(self, method: str, *params: str | bytes) -> Printed:
        argv: list[str | bytes] = ["/usr/sbin/kamcmd", "-s", f"unix:{self.server.control}", method, *params]
        return _run(argv, {}, self.server.home)


@dataclass(frozen=True)
class Kamctl(Client):
    """A shell script over the FIFO, configured by the kamctlrc of its home folder."""

    server: Server

    def run(self, method: str, *params: str | bytes) -> Printed:
        home = self.server.home
        (home / ".kamctlrc").write_text(f"RPCFIFOPATH={home}/fifo\nCHROOT_DIR={home}\n", "ascii")
        return _run(["/usr/sbin/kamctl", "rpc", method, *params], {}, home)


@dataclass(frozen=True)
class Kamcli(Client):
    """A Python program over the datagram socket."""

    server: Server

    def run(self, method: str, *params: str | bytes) -> Printed:
        home = self.server.home
        config = home / "kamcli.ini"
        config.write_text(
            f"[main]\n[jsonrpc]\ntransport=socket\nsrvaddr={home}/dgram\nrcvaddr={home}/kamcli_rcv\noutformat=json\n",
            "ascii",
        )
        argv: list[str | bytes] = ["/usr/bin/kamcli", "--no-default-configs", "-c", str(config)]
        return _run([*argv, "rpc", method, *params], {}, home)

    def fault(self) -> str:
        """Look for the class of Python's that Debian 13's kamcli needs, and that Python 3.12 has no more."""
        printed = self.run("core.version")
        lines = [line for line in printed.err.decode().splitlines() if "has no attribute 'SafeConfigParser'" in line]
        return "".join(lines[:1]) if printed.status else ""
