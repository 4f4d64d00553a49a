# SPDX-License-Identifier: GPL-2.0-or-later
"""KSR.info and all that is in no module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kemi.testing import uri
from kemi.testing.state import Server

_LEVELS = ("dbg", "info", "notice", "warn", "err", "crit")
_METHODS = (
    *("INVITE", "ACK", "BYE", "CANCEL", "REGISTER", "OPTIONS", "SUBSCRIBE", "PUBLISH", "NOTIFY", "REFER", "INFO"),
    *("UPDATE", "PRACK", "MESSAGE", "KDMQ", "GET", "POST", "PUT", "DELETE"),
)
_LETTERS = {
    "I": "INVITE",
    "A": "ACK",
    "B": "BYE",
    "C": "CANCEL",
    "M": "MESSAGE",
    "R": "REGISTER",
    "E": "PRACK",
    "P": "PUBLISH",
    "S": "SUBSCRIBE",
    "N": "NOTIFY",
    "O": "OPTIONS",
    "F": "REFER",
    "G": "GET",
    "U": "UPDATE",
    "K": "KDMQ",
    "D": "DELETE",
    "T": "POST",
    "V": "PUT",
}
_PROTOS = {"E": "tls", "S": "sctp", "T": "tcp", "U": "udp", "V": "ws", "W": "wss"}
_HIGHEST_FLAG = 31
_BRANCHES = 12


def _logger(level: str) -> Callable[[Server, str], int]:
    def write(fake: Server, text: str) -> int:
        fake.state.write(level, text.partition("\0")[0])
        return 0

    return write


def _log(fake: Server, level: str, text: str) -> int:
    fake.state.write(level.lower() if level.lower() in _LEVELS else "err", text)
    return 0


# --- what the message is ----------------------------------------------------------------------------------------------


def _method(fake: Server) -> str:
    message = fake.state.message
    return message.method or (message.first("CSeq") or "").split()[-1]


def _is_a(method: str) -> Callable[[Server], bool]:
    return lambda fake: _method(fake) == method


def _is_method(fake: Server, methods: str) -> bool:
    return bool(methods) and _method(fake).upper() in methods.upper().split("|")


def _is_method_in(fake: Server, letters: str) -> bool:
    return _method(fake) in {_LETTERS.get(letter) for letter in letters.upper()}


def _is_over(*protos: str) -> Callable[[Server], bool]:
    return lambda fake: fake.state.message.proto in protos


def _is_proto(fake: Server, letters: str) -> bool:
    return fake.state.message.proto in {_PROTOS.get(letter) for letter in letters.upper()}


def _is_ipv6(fake: Server) -> bool:
    return ":" in fake.state.message.source[0]


# --- whose it is ------------------------------------------------------------------------------------------------------


def _is_myself(fake: Server, text: str) -> bool:
    if not text.startswith(("sip:", "sips:")):
        return fake.state.is_myself(text)
    parsed = uri.parse(text)
    return parsed is not None and fake.state.is_myself(parsed.host, int(parsed.port or 0))


def _is_myself_ruri(fake: Server) -> bool:
    return fake.state.message.is_request and _is_myself(fake, fake.state.request_uri)


def _is_myself_duri(fake: Server) -> bool:
    return fake.state.destination is not None and _is_myself(fake, fake.state.destination)


def _is_myself_nhuri(fake: Server) -> bool:
    return _is_myself_ruri(fake) if fake.state.destination is None else _is_myself_duri(fake)


def _is_myself_in(header: str) -> Callable[[Server], bool]:
    def look(fake: Server) -> bool:
        found = fake.state.message.address(header)
        return found is not None and _is_myself(fake, found.uri)

    return look


def _is_myself_source(fake: Server) -> bool:
    return fake.state.is_myself(*fake.state.message.source)


# --- flags ------------------------------------------------------------------------------------------------------------


def _flag(which: str, action: str) -> Callable[..., bool]:
    """A function for one of the sets of flags; flags out of range are refused."""

    def use(fake: Server, flag: int, branch: int = 0) -> bool:
        flags: set[int] = getattr(fake.state, which)
        if not 0 <= flag <= _HIGHEST_FLAG:
            return False
        if action == "is":
            return not branch and flag in flags
        if not branch:  # the other branches are not there before they are made, and the server says nothing
            {"set": flags.add, "reset": flags.discard}[action](flag)
        return True

    return use


def _flags() -> dict[str, Callable[..., Any]]:
    kinds = {"flag": "flags", "bflag": "branch_flags", "biflag": "branch_flags", "sflag": "script_flags"}
    return {
        f"{action}{kind}{'set' if action == 'is' else ''}": _flag(which, action)
        for kind, which in kinds.items()
        for action in ("set", "reset", "is")
    }


# --- where it goes ----------------------------------------------------------------------------------------------------


def _set_part(part: str) -> Callable[[Server, str], bool]:
    def change(fake: Server, text: str) -> bool:
        parsed = fake.state.parsed_uri()
        if parsed is None:
            return False
        fake.state.new_uri = str(parsed._replace(**{part: text}))
        return True

    return change


def _seturi(fake: Server, text: str) -> bool:
    fake.state.new_uri = text
    return True


def _setdsturi(fake: Server, text: str) -> bool:
    fake.state.destination = text
    return True


def _resetdsturi(fake: Server) -> bool:
    fake.state.destination = None
    return True


def _set_drop(fake: Server) -> int:
    fake.state.dropped = True
    return 0


def _true(_fake: Server) -> bool:
    return True


COVERED: dict[str, Callable[..., Any]] = {
    **{level: _logger(level) for level in _LEVELS},
    "log": _log,
    **{f"is_{method}": _is_a(method) for method in _METHODS},
    "is_method": _is_method,
    "is_method_in": _is_method_in,
    **{f"is_{proto.upper()}": _is_over(proto) for proto in _PROTOS.values()},
    "is_WSX": _is_over("ws", "wss"),
    "is_proto": _is_proto,
    "is_IPv6": _is_ipv6,
    "is_IPv4": lambda fake: not _is_ipv6(fake),
    "is_src_port": lambda fake, port: fake.state.message.source[1] == port,
    "is_dst_port": lambda fake, port: fake.state.message.received[1] == port,
    "is_myself": _is_myself,
    "is_myself_ruri": _is_myself_ruri,
    "is_myself_duri": _is_myself_duri,
    "is_myself_nhuri": _is_myself_nhuri,
    "is_myself_furi": _is_myself_in("From"),
    "is_myself_turi": _is_myself_in("To"),
    "is_myself_suri": _is_myself_source,
    "is_myself_srcip": lambda fake: fake.state.is_myself(fake.state.message.source[0]),
    **_flags(),
    "seturi": _seturi,
    "setuser": _set_part("user"),
    "sethost": _set_part("host"),
    "setdsturi": _setdsturi,
    "resetdsturi": _resetdsturi,
    "isdsturiset": lambda fake: fake.state.destination is not None,
    "set_drop": _set_drop,
    "force_rport": _true,
    "add_local_rport": _true,
    "set_reply_close": _true,
}
