# SPDX-License-Identifier: GPL-2.0-or-later
"""Pseudo-variables that few scripts ask for: by their whole name, as $TV(s) and $T(reply_code)."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable

from kemi.testing import uri
from kemi.testing.state import State, Value

Getter = Callable[[State, str], Value]
Setter = Callable[[State, Value], bool]

_STARTED = int(time.time())
_METHODS = {"INVITE": 1, "CANCEL": 2, "ACK": 4, "BYE": 8, "INFO": 16, "REGISTER": 32, "SUBSCRIBE": 64, "NOTIFY": 128}
_MORE_METHODS = {"MESSAGE": 256, "OPTIONS": 512, "PRACK": 1024, "UPDATE": 2048, "REFER": 4096, "PUBLISH": 8192}
_VERSIONS = {"5.6": "5.6.3", "6.0": "6.0.1"}


def at(state: State, name: str, place: int) -> Value:
    """Name or value where an iterator is."""
    iterator = state.memory.iterators.get(name)
    return iterator.item[place] if iterator and iterator.item else None


# --- the message ------------------------------------------------------------------------------------------------------


def _part_of(header: str, part: str) -> Getter:
    def give(state: State, _: str) -> Value:
        address = state.message.address(header)
        parsed = uri.parse(address.uri) if address else None
        return getattr(parsed, part, None) or None

    return give


def _uri_of(header: str) -> Getter:
    def give(state: State, _: str) -> Value:
        address = state.message.address(header)
        return address.uri if address else None

    return give


def _identity(state: State, _: str) -> Value:
    """Who sends: of From, where there are no credentials."""
    address = state.message.address("From")
    parsed = uri.parse(address.uri) if address else None
    return f"{parsed.user}@{parsed.host}" if parsed and parsed.user else None


def _identified(state: State, _: str) -> Value:
    address = state.message.address("From")
    parsed = uri.parse(address.uri) if address else None
    return parsed.user if parsed else None


def _method_id(state: State, _: str) -> Value:
    method = state.message.method or (state.message.first("CSeq") or "").split()[-1]
    return {**_METHODS, **_MORE_METHODS}.get(method, 32768)


def _code(state: State, _: str) -> Value:
    return 0 if state.message.is_request else state.message.status


def _first(header: str) -> Getter:
    return lambda state, _: state.message.first(header)


def _via(place: int) -> Callable[[str], Getter]:
    def of(part: str) -> Getter:
        def give(state: State, _: str) -> Value:
            vias = [one.strip() for body in state.message.all("Via") for one in body.split(",")]
            if not -len(vias) <= place < len(vias):
                return None
            sent, *params = vias[place].split(";")
            host, _, port = sent.split()[-1].partition(":")
            known = dict(each.strip().partition("=")[::2] for each in params)
            if part == "port":
                return int(port) if port else 0
            return host if part == "host" else known.get(part) or None

        return give

    return of


def _address(where: str, transport: bool = False) -> Getter:
    """The source or the receiving socket, as a URI."""

    def give(state: State, _: str) -> Value:
        host, port = getattr(state.message, where)
        return f"sip:{host}:{port}" + (f";transport={state.message.proto}" if transport else "")

    return give


def _socket(where: str) -> Getter:
    return lambda state, _: f"{state.message.proto}:{':'.join(map(str, getattr(state.message, where)))}"


def _bits(which: str) -> Getter:
    return lambda state, _: sum(1 << flag for flag in getattr(state, which))


def _in_hex(which: str) -> Getter:
    return lambda state, _: f"{sum(1 << flag for flag in getattr(state, which)):08X}"


def _expires(choose: Callable[[list[int]], int]) -> Getter:
    def give(state: State, _: str) -> Value:
        found = [uri.address(body).params.get("expires") for body in state.message.all("Contact")]
        numbers = [int(each) for each in found if each and each.isdigit()]
        return choose(numbers) if numbers else None

    return give


# --- where it goes ----------------------------------------------------------------------------------------------------


def _next_hop(part: str) -> Getter:
    """Of $du where it is set, else of $ru."""

    def give(state: State, _: str) -> Value:
        text = state.destination or state.request_uri
        parsed = uri.parse(text)
        if part == "u":
            return text or None
        if parsed is None:
            return None
        if part == "p":
            return parsed.port or ("5061" if parsed.scheme.lower() == "sips" else "5060")
        if part == "P":
            return parsed.param("transport") or "UDP"
        return (parsed.host if part == "d" else parsed.user) or None

    return give


# --- transactions -----------------------------------------------------------------------------------------------------


def _reply_code(state: State, _: str) -> Value:
    """Of the message in a reply's routes; of the transaction elsewhere, where tm knows it."""
    if state.route_kind in ("core_onreply", "onreply"):
        return state.message.status
    return 0 if state.route_kind == "onsend" else state.transaction.status


def _reply_type(state: State, _: str) -> Value:
    """Whether the code was made here: 1, and 0 for one that came."""
    return None if state.route_kind == "core_onreply" else 0


def _label(place: int, *, made: bool) -> Getter:
    """made: asking for it makes the transaction."""

    def give(state: State, _: str) -> Value:
        if not state.message.is_request and not state.transaction.relayed:
            return None
        if not state.transaction.exists and not made:
            return None
        return state.transaction.identity[place]

    return give


# --- time, the server -------------------------------------------------------------------------------------------------


def _now(parts: Callable[[time.struct_time], int], clock: Callable[..., time.struct_time]) -> Getter:
    return lambda *_: parts(clock())


_CLOCK: dict[str, Callable[[time.struct_time], int]] = {
    "sec": lambda now: now.tm_sec,
    "min": lambda now: now.tm_min,
    "hour": lambda now: now.tm_hour,
    "mday": lambda now: now.tm_mday,
    "mon": lambda now: now.tm_mon,
    "year": lambda now: now.tm_year,
    "wday": lambda now: (now.tm_wday + 1) % 7 + 1,
    "yday": lambda now: now.tm_yday,
}


def _version(_: State, release: str) -> Value:
    return _VERSIONS.get(release, f"{release}.0")


def _formatted(_state: State, _: str) -> Value:
    return time.strftime("%a %b %e %H:%M:%S %Y")


PLAIN: dict[str, Getter] = {
    "from": _uri_of("From"),
    "to": _uri_of("To"),
    "from.user": _part_of("From", "user"),
    "from.domain": _part_of("From", "host"),
    "to.user": _part_of("To", "user"),
    "to.domain": _part_of("To", "host"),
    "Au": _identity,
    "AU": _identified,
    **dict.fromkeys(("aU", "au", "ad", "ar", "aa", "adu"), lambda *_: None),
    "csb": _first("CSeq"),
    "re": _first("Remote-Party-ID"),
    "rt": _first("Refer-To"),
    "di": _uri_of("Diversion"),
    "pu": _uri_of("P-Preferred-Identity"),
    "pU": _part_of("P-Preferred-Identity", "user"),
    "pd": _part_of("P-Preferred-Identity", "host"),
    "ai": _uri_of("P-Asserted-Identity"),
    "rmid": _method_id,
    "rsi": _code,
    "mts": lambda state, _: "rq" if state.message.is_request else "rp",
    "mbu": lambda state, _: state.message.text,
    "msg(len)": lambda state, _: len(state.message.text.encode("utf-8", "surrogateescape")),
    **{
        f"{name}({part})": _via(place)(part)
        for name, place in (("via0", 0), ("via1", 1), ("viaZ", -1))
        for part in ("host", "port", "branch", "received", "rport")
    },
    "su": _address("source"),
    "sut": _address("source", transport=True),
    "sas": _socket("source"),
    "siz": lambda state, _: state.message.source[0],
    "src_ip": lambda state, _: state.message.source[0],
    "Ru": _address("received"),
    "Rut": _address("received", transport=True),
    "Ras": _socket("received"),
    "RAi": lambda state, _: state.message.received[0],
    "RAp": lambda state, _: state.message.received[1],
    "RAu": _address("received"),
    "RAut": _address("received", transport=True),
    "Rn": lambda *_: None,
    "bf": _bits("branch_flags"),
    "bF": _in_hex("branch_flags"),
    "sf": _bits("script_flags"),
    "sF": _in_hex("script_flags"),
    "mf": _bits("flags"),
    "mF": _in_hex("flags"),
    "expires(min)": _expires(min),
    "expires(max)": _expires(max),
    "fs": lambda state, _: state.sockets.get("fs"),
    "fsn": lambda state, _: state.sockets.get("fsn"),
    **{f"nh({part})": _next_hop(part) for part in ("u", "d", "p", "P", "U")},
    **dict.fromkeys(("T(reply_code)", "T_reply_code"), _reply_code),
    "T(reply_type)": _reply_type,
    **dict.fromkeys(("T(branch_index)", "T_branch_idx"), lambda state, _: state.branch),
    "T(id_index)": _label(0, made=False),
    "T(id_label)": _label(1, made=False),
    "T(id_index_n)": _label(0, made=True),
    "T(id_label_n)": _label(1, made=True),
    "T_reply_ruid": lambda *_: "",
    "true": lambda *_: 1,
    "K(UDP)": lambda *_: 1,
    "K(TCP)": lambda *_: 2,
    "K(TLS)": lambda *_: 3,
    "K(IPv4)": lambda *_: 2,
    "K(IPv6)": lambda *_: 10,
    "Ts": lambda *_: int(time.time()),
    "TS": lambda *_: int(time.time()),
    "Tb": lambda *_: _STARTED,
    "Tf": _formatted,
    "TF": _formatted,
    "TV(s)": lambda *_: int(time.time()),
    "TV(u)": lambda *_: int(time.time() * 1e6) % 1_000_000,
    "TV(Sn)": lambda *_: f"{time.time():.6f}",
    **{f"time({name})": _now(parts, time.localtime) for name, parts in _CLOCK.items()},
    **{f"utime({name})": _now(parts, time.gmtime) for name, parts in _CLOCK.items()},
    "timef(%Y)": lambda *_: time.strftime("%Y"),
    "RANDOM": lambda *_: random.randrange(1 << 31),  # noqa: S311 no secret
    "pp": lambda *_: os.getpid(),
    "version(num)": _version,
    "ksr(ver)": _version,
}


# --- set --------------------------------------------------------------------------------------------------------------


def _put_uri(state: State, value: Value) -> bool:
    if value is None:
        return False
    state.new_uri = str(value)
    return True


def _put_destination(state: State, value: Value) -> bool:
    state.destination = None if value is None else str(value)
    return True


def _put_bits(which: str) -> Setter:
    def put(state: State, value: Value) -> bool:
        if not isinstance(value, int):
            return False
        setattr(state, which, {flag for flag in range(32) if value >> flag & 1})
        return True

    return put


def _put_socket(name: str) -> Setter:
    """Where it is sent from; a socket that the server has not is none."""

    def put(state: State, value: Value) -> bool:
        host, port = state.listening
        if value is None or str(value).lower() == f"udp:{host}:{port}" or name == "fsn":
            state.sockets[name] = str(value)
        return True

    return put


SETTERS: dict[str, Setter] = {
    "ru": _put_uri,
    "ruri": _put_uri,
    "du": _put_destination,
    "duri": _put_destination,
    "mf": _put_bits("flags"),
    "bf": _put_bits("branch_flags"),
    "sf": _put_bits("script_flags"),
    "fs": _put_socket("fs"),
    "fsn": _put_socket("fsn"),
}
