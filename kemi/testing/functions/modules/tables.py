# SPDX-License-Identifier: GPL-2.0-or-later
"""KSR.htable: hash tables in memory; and the counters of KSR.statistics. Every name is a table; nothing expires."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from kemi.testing import regex
from kemi.testing.functions.plain import one
from kemi.testing.memory import Cell, Iterator
from kemi.testing.state import Server, Value

_NONE = -255  # of a counter that is not there


def _getter(null: Value) -> Callable[[Server, str, str], Value]:
    def get(fake: Server, table: str, key: str) -> Value:
        return fake.state.memory.table(table).get(key, null)

    return get


def _set(fake: Server, table: str, key: str, value: Cell, _expires: int = 0) -> int:
    fake.state.memory.table(table)[key] = value
    return 1


def _set_number(fake: Server, table: str, key: str, value: int, _expires: int = 0) -> int:
    """Its result is 0, that of the others 1."""
    _set(fake, table, key, value)
    return 0


def _step(step: int) -> Callable[[Server, str, str], int]:
    def change(fake: Server, table: str, key: str) -> int:
        cells = fake.state.memory.table(table)
        value = cells.get(key)
        if not isinstance(value, int):
            return _NONE
        cells[key] = value + step
        return value + step

    return change


def _remove(fake: Server, table: str, key: str) -> int:
    fake.state.memory.table(table).pop(key, None)
    return 1


def _reset(fake: Server, table: str) -> int:
    fake.state.memory.table(table).clear()
    return 0


def _matching(operator: str, wanted: str) -> Callable[[str], bool]:
    """eq, ne, sw, ew, in, re; what is none of them matches nothing."""
    return {
        "eq": lambda text: text == wanted,
        "ne": lambda text: text != wanted,
        "sw": lambda text: text.startswith(wanted),
        "ew": lambda text: text.endswith(wanted),
        "in": lambda text: wanted in text,
        "re": lambda text: bool(regex.search(wanted, text)),
    }.get(operator.lower(), lambda _: False)


def _by_name(fake: Server, table: str, operator: str, wanted: str) -> int:
    matches = _matching(operator, wanted)
    return 1 if any(matches(name) for name in fake.state.memory.table(table)) else -1


def _by_value(fake: Server, table: str, operator: str, wanted: str) -> int:
    matches = _matching(operator, wanted)
    return 1 if any(isinstance(cell, str) and matches(cell) for cell in fake.state.memory.table(table).values()) else -1


def _remove_where(fake: Server, table: str, chosen: Callable[[str, Cell], bool]) -> int:
    cells = fake.state.memory.table(table)
    for name in [name for name, cell in cells.items() if chosen(name, cell)]:
        del cells[name]
    return 1


def _remove_names(fake: Server, table: str, operator: str, wanted: str) -> int:
    matches = _matching(operator, wanted)
    return _remove_where(fake, table, lambda name, _: matches(name))


def _remove_values(fake: Server, table: str, operator: str, wanted: str) -> int:
    matches = _matching(operator, wanted)
    return _remove_where(fake, table, lambda _, cell: isinstance(cell, str) and matches(cell))


# --- iterators --------------------------------------------------------------------------------------------------------


def _start(fake: Server, name: str, table: str) -> int:
    items = [(key, str(cell)) for key, cell in fake.state.memory.table(table).items()]
    fake.state.memory.iterators[name] = Iterator(items, table)
    return 1


def _next(fake: Server, name: str) -> int:
    found = fake.state.memory.iterators.get(name)
    return 1 if found and found.move() else -1


def _end(fake: Server, name: str) -> int:
    return 1 if fake.state.memory.iterators.pop(name, None) else -1


def _at(fake: Server, name: str, change: Callable[[dict[str, Cell], str], Any]) -> int:
    """Change the cell where an iterator is."""
    found = fake.state.memory.iterators.get(name)
    if found is None or found.item is None:
        return -1
    change(fake.state.memory.table(found.table), found.item[0])
    return 1


def _set_at(fake: Server, name: str, value: Cell) -> int:
    return _at(fake, name, lambda cells, key: cells.__setitem__(key, value))


# --- counters ---------------------------------------------------------------------------------------------------------


def _update(fake: Server, name: str, value: int = 1) -> int:
    fake.state.memory.statistics[name] = fake.state.memory.statistics.get(name, 0) + value
    return 1


def _update_text(fake: Server, name: str, value: Any) -> int:
    """A number, or a text that is one with its sign."""
    found = re.fullmatch(r"[+-]?\d+", str(value))
    return _update(fake, name, int(found[0])) if found else -1


def _zero(fake: Server, name: str) -> int:
    fake.state.memory.statistics[name] = 0
    return 1


COVERED: dict[str, Callable[..., Any]] = {
    "htable.sht_get": _getter(None),
    "htable.sht_gete": _getter(""),
    "htable.sht_getw": _getter("<null>"),
    "htable.sht_is_null": lambda fake, table, key: -1 if key in fake.state.memory.table(table) else 1,
    "htable.sht_sets": _set,
    "htable.sht_seti": _set,
    "htable.sht_setxs": _set,
    "htable.sht_setxi": _set_number,
    "htable.sht_setex": one,
    "htable.sht_inc": _step(1),
    "htable.sht_dec": _step(-1),
    "htable.sht_rm": _remove,
    "htable.sht_reset": _reset,
    "htable.sht_match_name": _by_name,
    "htable.sht_match_str_value": _by_value,
    "htable.sht_rm_name": _remove_names,
    "htable.sht_rm_name_re": lambda fake, table, pattern: _remove_names(fake, table, "re", pattern),
    "htable.sht_rm_value": _remove_values,
    "htable.sht_rm_value_re": lambda fake, table, pattern: _remove_values(fake, table, "re", pattern),
    "htable.sht_lock": one,
    "htable.sht_unlock": one,
    "htable.sht_iterator_start": _start,
    "htable.sht_iterator_next": _next,
    "htable.sht_iterator_end": _end,
    "htable.sht_iterator_rm": lambda fake, name: _at(fake, name, lambda cells, key: cells.pop(key, None)),
    "htable.sht_iterator_sets": _set_at,
    "htable.sht_iterator_seti": _set_at,
    "htable.sht_iterator_setex": one,
    "statistics.update_stat": _update_text,
    "statistics.reset_stat": _zero,
    "counters.inc": _update,
    "counters.add": _update,
    "counters.reset": _zero,
}
