# SPDX-License-Identifier: GPL-2.0-or-later
"""What Kamailio's modules keep in shared memory while a server runs: hash tables, registered contacts, counters."""

from __future__ import annotations

from typing import NamedTuple, Union

Cell = Union[str, int]


class Contact(NamedTuple):
    """Where a user is registered."""

    uri: str
    q: float
    expires: int  # seconds
    received: str | None  # where the request came from, behind NAT
    path: str | None
    call_id: str
    ruid: str
    user_agent: str


class Memory:
    """Nothing of it goes to a database, and nothing expires."""

    def __init__(self) -> None:
        self.tables: dict[str, dict[str, Cell]] = {}  # htable
        self.contacts: dict[str, dict[str, list[Contact]]] = {}  # usrloc: table → address of record → contacts
        self.statistics: dict[str, int] = {}
        self.dialogs: set[str] = set()  # Call-IDs that dlg_manage has seen
        self.profiles: dict[str, list[str]] = {}
        self.iterators: dict[str, Iterator] = {}
        self.locks: set[str] = set()

    def table(self, name: str) -> dict[str, Cell]:
        """A hash table; every name is one."""
        return self.tables.setdefault(name, {})


class Iterator:
    """A walk through something, which a script goes on with by a name."""

    def __init__(self, items: list[tuple[str, str]], table: str = "") -> None:
        self.items = items
        self.table = table
        self.at = -1

    def move(self, step: int = 1) -> bool:
        """Go to the next one. False at the end."""
        self.at += step
        return 0 <= self.at < len(self.items)

    @property
    def item(self) -> tuple[str, str] | None:
        """Name and value where it is now."""
        return self.items[self.at] if 0 <= self.at < len(self.items) else None
