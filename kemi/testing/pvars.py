# SPDX-License-Identifier: GPL-2.0-or-later
"""Pseudo-variables: what they give; kemi.testing.assign has what can be set.

Tables say what each one gives. What is in no table is not covered, unless a test gives it a value.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from kemi.instance import queues
from kemi.queue.format.item import key_of, value_of
from kemi.slots import fetched
from kemi.testing import extended, transformations, uri, xavps
from kemi.testing.errors import NotCovered
from kemi.testing.names import InvalidName, find
from kemi.testing.state import Name, State, Value

__all__ = ["MADE_BY_SCRIPTS", "InvalidName", "avp_name", "expand", "find", "get", "inner_of", "transformed"]

# Tables that scripts make: a variable as their inner name is no variable there, but that name.
MADE_BY_SCRIPTS = frozenset({"var", "vn", "vz", "shv"})


# --- get --------------------------------------------------------------------------------------------------------------


def get(state: State, name: Name, release: str = "5.6") -> Value:
    """The value of a variable, transformed as its name says."""
    return transformed(_plain_value(state, name, release), name, release)


def transformed(value: Value, name: Name, release: str) -> Value:
    """A value after each of the name's transformations."""
    for each in name.transformations:
        try:
            value = transformations.apply(value, each, release)
        except transformations.UnknownError:
            raise _not_covered(name) from None
    return value


def _plain_value(state: State, name: Name, release: str) -> Value:
    if name.kind in _WITH_NAME:
        return _WITH_NAME[name.kind](state, inner_of(state, name), name.which)
    whole = name.kind if name.inner is None else f"{name.kind}({name.inner})"
    if whole in extended.PLAIN:
        return extended.PLAIN[whole](state, release)
    if name.kind not in _PLAIN and name.kind not in extended.PLAIN:
        raise _not_covered(name)
    if name.inner is not None:
        raise InvalidName(name.text)
    return _PLAIN[name.kind](state)


def _not_covered(name: Name) -> NotCovered:
    return NotCovered(
        f"{name.text} is not covered by the fake, or not known to the server: "
        f"say what it gives with ksr.set({name.text!r}, ...)"
    )


def inner_of(state: State, name: Name) -> str:
    """The name in parentheses, which may itself be a variable, but not for those that scripts make."""
    if not name.inner:
        raise InvalidName(name.text)
    if name.kind == "sht":
        table, arrow, key = name.inner.partition("=>")
        if not arrow:
            raise InvalidName(name.text)
        return f"{table}=>{expand(key, lambda each: get(state, each), null='')}"
    if not name.inner.startswith("$") or name.kind in MADE_BY_SCRIPTS or name.kind == "cnt":
        return name.inner
    variable, end = find(name.inner)
    if end != len(name.inner):
        raise InvalidName(name.text)
    return str(get(state, variable) or "")


def _uri_part(part: Callable[[uri.Uri], Value], whole: Callable[[State], str | None]) -> Callable[[State], Value]:
    def give(state: State) -> Value:
        text = whole(state)
        parsed = uri.parse(text) if text else None
        return part(parsed) if parsed else None

    return give


def _user(parsed: uri.Uri) -> Value:
    return parsed.user or None


def _host(parsed: uri.Uri) -> Value:
    return parsed.host


def _port(parsed: uri.Uri) -> Value:
    return parsed.port or ("5061" if parsed.scheme.lower() == "sips" else "5060")


def _proto(parsed: uri.Uri) -> Value:
    """As the URI says it; what stands for none is in capitals."""
    return parsed.param("transport") or ("TLS" if parsed.scheme.lower() == "sips" else "UDP")


def _user_length(parsed: uri.Uri) -> Value:
    return len((parsed.user or "").encode())


def _ruri(state: State) -> str | None:
    return state.request_uri or None


def _checked_ruri(state: State) -> Value:
    return _ruri(state) if state.parsed_uri() else None


def _original(state: State) -> str | None:
    return state.message.uri or None


def _whose(header: str) -> Callable[[State], str | None]:
    def give(state: State) -> str | None:
        found = state.message.address(header)
        return found.uri if found else None

    return give


def _display(header: str) -> Callable[[State], Value]:
    return lambda state: getattr(state.message.address(header), "display", None)


def _tag(header: str) -> Callable[[State], Value]:
    def give(state: State) -> Value:
        found = state.message.address(header)
        return found.params.get("tag") if found else None

    return give


def _first(header: str) -> Callable[[State], Value]:
    return lambda state: state.message.first(header)


def _cseq(state: State) -> Value:
    found = state.message.first("CSeq")
    return found.split()[0] if found else None


def _method(state: State) -> Value:
    return state.message.method or (state.message.first("CSeq") or "").split()[-1]


def _length(state: State) -> Value:
    found = state.message.first("Content-Length")
    return int(found) if found else None


_PLAIN: dict[str, Callable[[State], Value]] = {
    "$": lambda _: "$",
    "null": lambda _: None,
    "rm": _method,
    "ru": _checked_ruri,
    "rU": _uri_part(_user, _ruri),
    "rd": _uri_part(_host, _ruri),
    "rp": _uri_part(_port, _ruri),
    "rz": _uri_part(lambda parsed: parsed.scheme, _ruri),
    "ou": _original,
    "oU": _uri_part(_user, _original),
    "od": _uri_part(_host, _original),
    "op": _uri_part(_port, _original),
    "du": lambda state: state.destination,
    "dd": _uri_part(_host, lambda state: state.destination),
    "dp": _uri_part(_port, lambda state: state.destination),
    "dP": _uri_part(_proto, lambda state: state.destination),
    "duri": lambda state: state.destination,
    "ruri": _checked_ruri,
    "ouri": _original,
    "rP": _uri_part(_proto, _ruri),
    "oP": _uri_part(_proto, _original),
    "rUl": _uri_part(_user_length, _ruri),
    "oUl": _uri_part(_user_length, _original),
    "fu": _whose("From"),
    "fU": _uri_part(_user, _whose("From")),
    "fUl": _uri_part(_user_length, _whose("From")),
    "fd": _uri_part(_host, _whose("From")),
    "fn": _display("From"),
    "ft": _tag("From"),
    "tu": _whose("To"),
    "tU": _uri_part(_user, _whose("To")),
    "tUl": _uri_part(_user_length, _whose("To")),
    "td": _uri_part(_host, _whose("To")),
    "tn": _display("To"),
    "tt": _tag("To"),
    "ci": _first("Call-ID"),
    "cs": _cseq,
    "ct": _first("Contact"),
    "cT": _first("Content-Type"),
    "ua": _first("User-Agent"),
    "cl": _length,
    "rb": lambda state: state.message.body,
    "bs": lambda state: len(state.message.body.encode("utf-8", "surrogateescape")),
    "mb": lambda state: state.message.text,
    "ml": lambda state: len(state.message.text.encode("utf-8", "surrogateescape")),
    "rv": lambda _: "SIP/2.0",
    "rs": lambda state: None if state.message.is_request else state.message.status,
    "rr": lambda state: None if state.message.is_request else state.message.reason,
    "mt": lambda state: 1 if state.message.is_request else 2,
    "si": lambda state: state.message.source[0],
    "sp": lambda state: state.message.source[1],
    "Ri": lambda state: state.message.received[0],
    "Rp": lambda state: state.message.received[1],
    "pr": lambda state: state.message.proto,
    "proto": lambda state: state.message.proto,
}


def _header(state: State, name: str, index: str | None) -> Value:
    bodies = state.message.all(name)
    if index == "*":
        return ",".join(bodies) if bodies else None
    number = int(index or 0)
    return bodies[number] if -len(bodies) <= number < len(bodies) else None


def _avp(state: State, name: str, index: str | None) -> Value:
    values = state.avps.get(avp_name(name), [])
    if index == "*":
        return ", ".join(str(value) for value in values) if values else None
    number = int(index or 0)
    return values[number] if 0 <= number < len(values) else None


def avp_name(name: str) -> str:
    """$avp(a) is $avp(s:a)."""
    return name.removeprefix("s:")


def _item(part: Callable[[bytes], str]) -> Callable[[State, str, str | None], Value]:
    def give(_state: State, name: str, _index: str | None) -> Value:
        record = fetched.get(name)
        return None if record is None else part(record) or None

    return give


def _count(state: State, text: str) -> int:
    """How many values a variable has: $cnt($avp(a))."""
    name, end = find(text if text.startswith("$") else f"${text}")
    if end != len(name.text) or name.kind not in ("avp", "xavp"):
        raise InvalidName(text)
    inner = name.inner or ""
    return len(state.avps.get(avp_name(inner), [])) if name.kind == "avp" else len(state.xavps.get(inner, []))


def _size(_state: State, name: str, _index: str | None) -> Value:
    return len(queues[name]) if name in queues else None


_WITH_NAME: dict[str, Callable[[State, str, str | None], Value]] = {
    "var": lambda state, name, _: state.variables.get(name, 0),
    "vn": lambda state, name, _: state.named.get(name),
    "vz": lambda state, name, _: state.zeroed.get(name, 0),
    "shv": lambda state, name, _: state.shared.get(name, 0),
    "hdr": _header,
    "avp": _avp,
    "hfl": _header,
    "hdrc": lambda state, name, _: len(state.message.all(name)),
    "hflc": lambda state, name, _: len(state.message.all(name)),
    "xavp": lambda state, name, _: xavps.get(state.xavps, name),
    "xavi": lambda state, name, _: xavps.get(state.named_lists, name.lower()),
    "xavu": lambda state, name, _: state.counted.get(name),
    "sht": lambda state, name, _: state.memory.table(name.partition("=>")[0]).get(name.partition("=>")[2]),
    "shtitkey": lambda state, name, _: extended.at(state, name, 0),
    "shtitval": lambda state, name, _: extended.at(state, name, 1),
    "dlg_var": lambda state, name, _: state.to_dialog.get(name),
    "def": lambda *_: None,
    "env": lambda _state, name, _: os.environ.get(name),
    "cnt": lambda state, name, _: _count(state, name),
    "mqk": _item(key_of),
    "mqv": _item(value_of),
    "mq_size": _size,
}


# --- text with variables ----------------------------------------------------------------------------------------------


def expand(text: str, give: Callable[[Name], Value], null: str = "<null>") -> str:
    """A text as xlog prints it. Raises InvalidName."""
    parts, place = [], 0
    while (dollar := text.find("$", place)) >= 0:
        parts.append(text[place:dollar])
        name, place = find(text, dollar)
        value = give(name)
        parts.append(null if value is None else str(value))
    return "".join([*parts, text[place:]])
