# SPDX-License-Identifier: GPL-2.0-or-later
"""KSR.pvx: variables by their names alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kemi.testing import assign, names, pvars, xavps
from kemi.testing.state import Server, Value

_NULLS: dict[str, Value] = {"get": None, "gete": "", "getw": "<null>"}
_SET, _NULL, _NOT_NULL = 1, 1, -1


def _is_null(value: Value) -> int:
    return _NULL if value is None else _NOT_NULL


# --- $var, $shv, $avp -------------------------------------------------------------------------------------------------


def _var_set(fake: Server, name: str, value: Value) -> int:
    fake.state.variables[name] = value
    return _SET


def _shv_set(fake: Server, name: str, value: Value) -> int:
    """Only what a modparam or $shv itself has made."""
    if name not in fake.state.shared:
        return -1
    fake.state.shared[name] = value
    return _SET


def _avp(fake: Server, name: str) -> Value:
    values = fake.state.avps.get(pvars.avp_name(name))
    return values[0] if values else None


def _avp_set(fake: Server, name: str, value: Value) -> int:
    fake.state.avps[pvars.avp_name(name)] = [value, *fake.state.avps.get(pvars.avp_name(name), [])]
    return _SET


def _avp_remove(fake: Server, name: str) -> int:
    values = fake.state.avps.get(pvars.avp_name(name), [])
    fake.state.avps[pvars.avp_name(name)] = values[1:]
    return 1


# --- $xavp, $xavi -----------------------------------------------------------------------------------------------------


def _tree(fake: Server, kind: str) -> xavps.Tree:
    if kind == "xavi":
        return fake.state.named_lists
    found: xavps.Tree = fake.state.xavps
    return found


def _case(kind: str, name: str) -> str:
    return name.lower() if kind == "xavi" else name


def _lists(kind: str) -> dict[str, Callable[..., Any]]:
    """The functions of $xavp, or those of $xavi."""

    def get(fake: Server, name: str, inner: str = "") -> Value:
        path = _case(kind, f"{name}=>{inner}" if inner else name)
        return xavps.get(_tree(fake, kind), path)

    def put(fake: Server, name: str, value: Value) -> int:
        xavps.put(_tree(fake, kind), _case(kind, name), value)
        return _SET

    def put_child(fake: Server, name: str, inner: str, value: Value) -> int:
        xavps.child(_tree(fake, kind), _case(kind, name), _case(kind, inner), value)
        return _SET

    def remove(fake: Server, name: str, inner: str = "") -> int:
        xavps.remove(_tree(fake, kind), _case(kind, name), None, _case(kind, inner) or None)
        return 1

    return {**_family(f"pvx.{kind}", get, put, remove), **_family(f"pvx.{kind}_child", get, put_child, remove)}


def _family(prefix: str, get: Callable[..., Value], put: Callable[..., int], remove: Callable[..., int]) -> Any:
    """get, gete, getw, sets, seti, is_null, rm of one kind of variable."""

    def reader(null: Value) -> Callable[..., Value]:
        def read(fake: Server, *path: str) -> Value:
            value = get(fake, *path)
            return null if value is None else value

        return read

    return {
        **{f"{prefix}_{name}": reader(null) for name, null in _NULLS.items()},
        f"{prefix}_sets": put,
        f"{prefix}_seti": put,
        f"{prefix}_is_null": lambda fake, *path: _is_null(get(fake, *path)),
        f"{prefix}_rm": remove,
    }


# --- $xavu ------------------------------------------------------------------------------------------------------------


def _xavu(fake: Server, *path: str) -> Value:
    return fake.state.counted.get("=>".join(path))


def _xavu_set(fake: Server, *path_and_value: Any) -> int:
    fake.state.counted["=>".join(path_and_value[:-1])] = path_and_value[-1]
    return _SET


def _xavu_remove(fake: Server, *path: str) -> int:
    fake.state.counted.pop("=>".join(path), None)
    return 1


# --- parameters -------------------------------------------------------------------------------------------------------


def _explode(fake: Server, text: str, name: str) -> int:
    """a=1;b=2 into the values of one $xavp."""
    inner: dict[str, Value] = {}
    for part in text.split(";"):
        key, _, value = part.strip().partition("=")
        if key:
            inner[key] = value.strip('"')
    if not inner:
        return -1
    fake.state.xavps.setdefault(name, []).insert(0, xavps.Item(inner=inner))
    return 1


def _implode(fake: Server, name: str, variable: str) -> int:
    items = fake.state.xavps.get(name)
    if not items or not items[0].inner:
        return -1
    text = "".join(f"{key}={value};" if value != "" else f"{key};" for key, value in items[0].inner.items())
    found, _ = names.find(variable)
    return 1 if assign.put(fake.state, found, text) else -1


COVERED: dict[str, Callable[..., Any]] = {
    "pvx.var_get": lambda fake, name: fake.state.variables.get(name, 0),
    "pvx.var_sets": _var_set,
    "pvx.var_seti": _var_set,
    "pvx.shv_get": lambda fake, name: fake.state.shared.get(name, 0),
    "pvx.shv_sets": _shv_set,
    "pvx.shv_seti": _shv_set,
    **_family("pvx.avp", _avp, _avp_set, _avp_remove),
    **_lists("xavp"),
    **_lists("xavi"),
    **_family("pvx.xavu", _xavu, _xavu_set, _xavu_remove),
    **_family("pvx.xavu_child", _xavu, _xavu_set, _xavu_remove),
    **{f"pvx.pv_{kind}_print": lambda _: 1 for kind in ("xavp", "xavu", "xavi")},
    "pvx.xavp_params_explode": _explode,
    "pvx.xavp_params_implode": _implode,
}
