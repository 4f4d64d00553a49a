"""What nobody sends by mistake: parameters, RPC frames and SIP requests, made by a generator from one seed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random

_WORDS = (
    "name",
    "size",
    "addmode",
    "dbmode",
    "maxbytes",
    "recover",
    "NAME",
    "colour",
    "",
    " ",
    "=",
    ";",
    "q",
    "../x",
    "a/b",
    "\0",
    "\n",
    "'",
    '"',
    "é",
    "\udc80",
    "\ud800",
    "%s%n",
    "$(id)",
    "x" * 300,
)
_NUMBERS = (
    "0",
    "1",
    "2",
    "3",
    "-1",
    "+1",
    "007",
    "1e3",
    "0x10",
    "1_0",
    " 5 ",
    "²",
    "٣",
    "1.5",
    "nan",
    "inf",
    "512k",
    "2G",
    "9" * 20,
    "9" * 400,
    "2147483647",
    "2147483648",
    "18446744073709551616",
    "0660",
    "0o660",
    "-0600",
    "777",
    "rw",
)
PARAMETERS = (
    "core",
    "db_url",
    "group",
    "instance",
    "lock_timeout",
    "max_memory",
    "mode",
    "mqueue",
    "mqueue_addmode",
    "mqueue_name",
    "mqueue_size",
)
_ODD: tuple[object, ...] = (None, True, 0, -1, 1 << 70, 1.5, float("nan"), float("inf"), b"x", [], {}, ("q",), object())
_ODD_NAMES = tuple(value for value in _ODD if not isinstance(value, bytes))
_COMMANDS = ("get_size", "get_sizes", "fetch", "add", "peek", "stats")


def text(chance: random.Random) -> str:
    """Return some text."""
    kind = chance.randrange(4)
    if kind == 0:
        return chance.choice(_NUMBERS)
    if kind == 1:
        return chance.choice(_WORDS)
    if kind == 2:
        return "".join(chr(chance.choice((chance.randrange(128), chance.randrange(0x3000)))) for _ in range(3))
    return chance.choice(_WORDS) + chance.choice(_NUMBERS)


def definition(chance: random.Random) -> str:
    """Return a definition of a queue that may be right, or nearly so."""
    parts = []
    if chance.random() < 0.9:
        parts.append("name=" + (chance.choice(("q", "a.b", "é")) if chance.random() < 0.6 else text(chance)))
    for _ in range(chance.randrange(4)):
        known = chance.choice(("size", "addmode", "dbmode", "maxbytes", "recover", "Size"))
        attribute = known if chance.random() < 0.9 else text(chance)
        parts.append(attribute + chance.choice(("=", "=", "=", "=", "", "==", " = ")) + chance.choice((*_NUMBERS, "1")))
    chance.shuffle(parts)
    return chance.choice((";", ";", ";", ";;", " ; ", ",")).join(parts) + chance.choice(("", ";"))


def parameter(chance: random.Random) -> tuple[object, object, object]:
    """Return module, name and value of a modparam."""
    module: object = "mqueue" if chance.random() < 0.98 else chance.choice(("", "tm", text(chance), *_ODD_NAMES))
    name: object = chance.choice(PARAMETERS) if chance.random() < 0.97 else chance.choice((text(chance), *_ODD_NAMES))
    if chance.random() < 0.6:
        return module, "mqueue", definition(chance)
    value = text(chance) if chance.random() < 0.8 else chance.choice(_ODD)
    return module, name, value


# --- RPC --------------------------------------------------------------------------------------------------------------


def argument(chance: random.Random) -> str | int | float | bytes:
    """Return an argument of a command."""
    kind = chance.randrange(6)
    if kind < 2:
        return chance.choice(("q", "safe", "nosuch", "", "q" * 5000))
    if kind == 2:
        return chance.choice((0, 1, -1, 100, 101, 1 << 31, -(1 << 31), (1 << 32) - 1))
    if kind == 3:
        return chance.choice((0.0, -1.5, 1e300))
    if kind == 4:
        return chance.randbytes(chance.choice((0, 1, 8, 300)))
    return text(chance)


def command(chance: random.Random) -> tuple[str, list[str | int | float | bytes]]:
    """Return a command and its arguments; nothing is taken from the queue `safe`, and nothing added."""
    name = chance.choice(_COMMANDS)
    arguments = [argument(chance) for _ in range(chance.choice((0, 1, 1, 2, 3, 3, 4, 9)))]
    if name in ("add", "fetch") and arguments and isinstance(arguments[0], str) and "safe" in arguments[0]:
        arguments[0] = "q"
    return f"mqueue.{name}", arguments


def _binrpc_value(value: str | float | bytes) -> bytes:
    if isinstance(value, int):
        data = (value % (1 << 32)).to_bytes(4, "big").lstrip(b"\0")
        return bytes([len(data) << 4]) + data
    if isinstance(value, float):
        number = int(min(max(value, -2e6), 2e6) * 1000) % (1 << 32)  # in thousandths
        data = number.to_bytes(4, "big").lstrip(b"\0")
        return bytes([len(data) << 4 | 2]) + data
    kind = 6 if isinstance(value, bytes) else 1
    data = value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass") + b"\0"
    if len(data) < 8:
        return bytes([len(data) << 4 | kind]) + data
    length = len(data).to_bytes(4, "big").lstrip(b"\0")
    return bytes([0x80 | len(length) << 4 | kind]) + length + data


def binrpc(chance: random.Random, name: str, arguments: list[str | int | float | bytes]) -> bytes:
    """Return a frame as kamcmd sends it; now and then with one bit changed, or an end missing."""
    body = b"".join(map(_binrpc_value, (name, *arguments)))
    length = len(body).to_bytes(4, "big").lstrip(b"\0") or b"\0"
    cookie = chance.randbytes(4)
    frame = bytes([0xA1, (len(length) - 1) << 2 | 3]) + length + cookie + body
    if chance.random() < 0.3:
        at = chance.randrange(len(frame))
        frame = frame[:at] + bytes([frame[at] ^ 1 << chance.randrange(8)]) + frame[at + 1 :]
    return frame[: chance.randrange(1, len(frame))] if chance.random() < 0.05 else frame


def json_call(chance: random.Random, name: str, arguments: list[str | int | float | bytes]) -> bytes:
    """Return a call in JSON, which may be none."""
    plain = [value.decode("latin-1") if isinstance(value, bytes) else value for value in arguments]
    params: object = chance.choice((plain, plain, plain, {"a": plain}, [plain], None, "q", 7))
    call: object = {"jsonrpc": "2.0", "method": name, "params": params, "id": chance.choice((1, "x", None, [1]))}
    data = json.dumps(chance.choice((call, call, call, [call], {})), ensure_ascii=chance.random() < 0.5)
    raw = data.encode("utf-8", "surrogatepass").replace(b"\n", b" ")
    if chance.random() < 0.3:
        at = chance.randrange(len(raw))
        raw = raw[:at] + chance.randbytes(chance.randrange(4)).replace(b"\n", b"") + raw[at + 1 :]
    return raw


# --- SIP --------------------------------------------------------------------------------------------------------------


def sip_request(chance: random.Random, port: int, number: int) -> bytes:
    """Return a request with something odd about it."""
    method = chance.choice((b"MESSAGE", b"INVITE", b"MESSAGE", b"ACK", b"CANCEL", b"BYE", b"OPTIONS", b"INFO", b"\xff"))
    user, caller = (
        chance.choice(
            (b"bob", b"", b"\xff\xfe", b"b\0b", b"%00", b"$(rU)", b"$var(x)", b"b" * 4000, chance.randbytes(9))
        )
        for _ in range(2)
    )
    host = b"127.0.0.1:%d" % port
    lines = [
        b"%b sip:%b@%b SIP/2.0" % (method, user, host),
        b"Via: SIP/2.0/UDP 127.0.0.1:9;branch=z9hG4bK-hostile-%d" % number,
        b"From: <sip:%b@%b>;tag=%d" % (caller, host, number),
        b"To: <sip:%b@%b>" % (user, host),
        b"Call-ID: hostile-%d" % number,
        b"CSeq: 1 %b" % method,
        b"Max-Forwards: 70",
    ]
    for _ in range(chance.choice((0, 0, 1, 3))):
        lines.insert(chance.randrange(1, len(lines)), chance.choice((b"X: ", b"Contact: ", b"")) + chance.randbytes(30))
    if chance.random() < 0.1:
        lines.append(b"X-Huge: " + b"h" * chance.choice((3000, 30_000, 60_000)))
    if chance.random() < 0.2:
        del lines[chance.randrange(len(lines))]
    data = b"\r\n".join([*lines, b"Content-Length: %d" % chance.choice((0, 0, 5, 99_999)), b"", b""])
    if chance.random() < 0.2:
        at = chance.randrange(len(data))
        data = data[:at] + chance.randbytes(3) + data[at + 3 :]
    return data[:65_000]
