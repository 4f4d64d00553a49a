# SPDX-License-Identifier: GPL-2.0-or-later
"""The module Router that app_python3 of 5.6 has built in beside KSR; 6.0 has none."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

from kemi.testing.state import Line, Server

NAMES = ("Router", "Router.Core", "Router.Logger", "Router.Ranks")

# As the core numbers its levels.
_LEVELS = {"ALERT": -5, "BUG": -4, "CRIT2": -3, "CRIT": -2, "ERR": -1, "WARN": 0, "NOTICE": 1, "INFO": 2, "DBG": 3}
_LOGGERS = {
    "LM_ALERT": "alert",
    "LM_CRIT": "crit",
    "LM_ERR": "err",
    "LM_WARN": "warn",
    "LM_NOTICE": "notice",
    "LM_INFO": "info",
    "LM_DBG": "dbg",
}
_RANKS = {
    "PROC_MAIN": 0,
    "PROC_TIMER": -1,
    "PROC_RPC": -2,
    "PROC_FIFO": -2,
    "PROC_TCP_MAIN": -4,
    "PROC_UNIXSOCK": -5,
    "PROC_ATTENDANT": -10,
    "PROC_INIT": -127,
    "PROC_NOCHLDINIT": -128,
    "PROC_SIPINIT": 1,
    "PROC_SIPRPC": 127,
    "PROC_MIN": -128,
}


def modules(fake: Server) -> dict[str, ModuleType]:
    """Return what such a server puts into sys.modules beside KSR."""
    if fake.release != "5.6":
        return {}
    top = ModuleType("Router")
    parts = {"Core": {}, "Logger": _logger(fake), "Ranks": dict(_RANKS)}
    made = {"Router": top}
    for name, content in parts.items():
        part = ModuleType(f"Router.{name}")
        vars(part).update(content)
        setattr(top, name, part)
        made[part.__name__] = part
    return made


def _logger(fake: Server) -> dict[str, Any]:
    found: dict[str, Any] = {f"L_{name}": number for name, number in _LEVELS.items()}
    found["DEFAULT_FACILITY"] = 0
    found.update({name: _writer(fake, level) for name, level in _LOGGERS.items()})
    found["LM_GEN1"] = lambda level, text: _write(fake, level, text)
    found["LM_GEN2"] = lambda _facility, level, text: _write(fake, level, text)
    return found


def _writer(fake: Server, level: str) -> Callable[[str], None]:
    return lambda text: fake.state.log.append(Line(level, text))


def _write(fake: Server, number: int, text: str) -> None:
    level = next((name for name, value in _LEVELS.items() if value == number), "ERR")
    fake.state.log.append(Line({"CRIT2": "crit", "BUG": "crit"}.get(level, level.lower()), text))
