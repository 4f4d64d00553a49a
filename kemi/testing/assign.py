# SPDX-License-Identifier: GPL-2.0-or-later
"""Sets pseudo-variables, as pv.sets, pv.seti and pv.unset do."""

from __future__ import annotations

from collections.abc import Callable

from kemi.testing import extended, parties, xavps
from kemi.testing.errors import NotCovered, SilentMistake
from kemi.testing.pvars import avp_name, inner_of
from kemi.testing.state import Name, State, Value


def put(state: State, name: Name, value: Value) -> bool:
    """Set a variable; None sets it to null. False when the server refuses."""
    if name.kind in _TABLES:
        table, null = _TABLES[name.kind]
        table(state)[inner_of(state, name)] = null if value is None else value
        return True
    if name.kind in _SETTERS:
        return _SETTERS[name.kind](state, inner_of(state, name), name.which, value)
    if name.kind in _URI_PARTS:
        return _put_part(state, _URI_PARTS[name.kind], value)
    if name.kind in parties.KINDS:
        return parties.put(state, name.kind, value)
    if name.kind in extended.SETTERS:
        return extended.SETTERS[name.kind](state, value)
    if name.kind in _READ_ONLY:
        raise SilentMistake(f"{name.text} cannot be set; the server says that it was, and changes nothing")
    raise NotCovered(f"to set {name.text} is not covered by the fake: stub pv.sets, pv.seti or pv.unset for this test")


_TABLES: dict[str, tuple[Callable[[State], dict[str, Value]], Value]] = {
    "var": (lambda state: state.variables, 0),
    "vn": (lambda state: state.named, None),
    "vz": (lambda state: state.zeroed, 0),
    "shv": (lambda state: state.shared, ""),
}

_URI_PARTS = {"rU": "user", "rd": "host", "rp": "port"}

_READ_ONLY = frozenset(
    {
        *("ci", "cs", "ct", "cT", "ua", "cl", "rb", "bs", "mb", "ml", "rm", "rv", "rs", "rr", "rz", "mt", "si", "sp"),
        *("Ri", "Rp", "pr", "proto", "ou", "oU", "od", "op", "ft", "tt", "hdr", "mqk", "mqv", "mq_size"),
    }
)


def _put_part(state: State, part: str, value: Value) -> bool:
    parsed = state.parsed_uri()
    if parsed is None:
        return False
    text = None if value is None else str(value)
    changed = parsed._replace(**{part: text})  # type: ignore[arg-type]
    state.new_uri = str(changed._replace(password=None) if part == "user" and text is None else changed)
    return True


def _put_avp(state: State, name: str, index: str | None, value: Value) -> bool:
    """A value goes before the others; null takes the first one away; [*] is for all of them."""
    values = state.avps[avp_name(name)] = list(state.avps.get(avp_name(name), []))
    if index == "*":
        values.clear()
    elif index not in (None, "0"):
        raise NotCovered("to set one of several values of an $avp is not covered by the fake")
    elif value is None or index == "0":
        del values[:1]
    if value is not None:
        values.insert(0, value)
    return True


def _put_xavp(state: State, name: str, index: str | None, value: Value) -> bool:
    """$(xavp(a)[*]) is none that the server can set."""
    if index is not None:
        return False
    state.xavps = {each: list(items) for each, items in state.xavps.items()}
    return xavps.put(state.xavps, name, value)


def _put_xavi(state: State, name: str, _index: str | None, value: Value) -> bool:
    return xavps.put(state.named_lists, name.lower(), value)


def _put_xavu(state: State, name: str, _index: str | None, value: Value) -> bool:
    if value is None:
        state.counted.pop(name, None)
    else:
        state.counted[name] = value
    return True


def _put_cell(state: State, name: str, _index: str | None, value: Value) -> bool:
    """$sht(table=>key)."""
    table, _, key = name.partition("=>")
    if value is None:
        state.memory.table(table).pop(key, None)
    else:
        state.memory.table(table)[key] = value
    return True


def _put_dialog(state: State, name: str, _index: str | None, value: Value) -> bool:
    state.to_dialog[name] = value
    return True


_SETTERS: dict[str, Callable[[State, str, str | None, Value], bool]] = {
    "avp": _put_avp,
    "xavp": _put_xavp,
    "xavi": _put_xavi,
    "xavu": _put_xavu,
    "sht": _put_cell,
    "dlg_var": _put_dialog,
}
