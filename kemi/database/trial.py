# SPDX-License-Identifier: GPL-2.0-or-later
"""The start tries what the stop will do: write into a queue's table, read it, delete it; then all is undone.

So what is wrong with a table is said while somebody looks, not when the items have no other place to go: a right that
is missing, a column more that needs a value, an id without automatic numbers or with numbers behind the rows, a type
that changes text, an index or a CHECK that refuses.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import time
from collections.abc import Iterator
from typing import Callable

from kemi.database.batches import Item
from kemi.database.rows import Rows
from kemi.database.table import QueueTable
from kemi.errors import AllUndone, ItemUnfit, StoreError

# Text that a column of numbers would change; and what a CHECK may accept: the first that the table takes is enough.
_VALUES = (b"1e3", b"", b"{}", b"[]")
_KEYS = (b"007", b"008", b"009")

Begin = Callable[[], contextlib.AbstractContextManager[Rows]]


class Undo(Exception):
    """Ends a transaction that was only to try."""


def write(begin: Begin, *, keyed: bool, inexact: bool) -> str:
    """Try a save, in transactions that are undone; returns what an operator should know, mostly nothing.

    begin: begins a transaction without a ledger. keyed: no two items have the same key. inexact: a table that takes
    nothing back is accepted. Raises StoreError when no save could succeed.
    """
    refused = StoreError("nothing was tried")
    told = ""
    for value in _VALUES:
        items: list[Item] = [(key, value, time.time()) for key in (_KEYS[0], _KEYS[keyed], _KEYS[2])]
        try:
            found, before = _write(begin, items)
        except (ItemUnfit, AllUndone) as error:
            refused = refused if told else error
            told = f"not every item has room there: {refused}"
            continue
        if found.transactional is not True:
            _take_back(begin, found, before, inexact=inexact)
        return told
    raise refused


def _write(begin: Begin, items: list[Item]) -> tuple[QueueTable, int]:
    """Returns the table, and its last id before."""
    with contextlib.suppress(Undo), begin() as rows:
        table, before = rows.table, rows.last_id()
        rows.insert(items[:2])
        rows.insert(items[2:])  # once more behind them: numbers may go down, or round
        last = rows.last_id()
        if rows.delete(last, last) != 1:
            raise table.place.error(
                "a row that was written could not be deleted", "look for a trigger, a rule or a policy"
            )
        raise Undo
    return table, before


def _take_back(begin: Begin, table: QueueTable, before: int, *, inexact: bool) -> None:
    """See whether it was undone: a view may stand before a table without transactions."""
    with begin() as rows:
        left = [row.id for row in rows.read() if row.id > before and row.key in _KEYS]
        for number in left:
            rows.delete(number, number)
    if left and not inexact:
        raise table.place.error(
            "what was written there stays when it is undone, so what breaks off leaves items in both places or in none",
            'make it a table with transactions, or accept that with modparam("mqueue", "db_inexact", 1)',
        )


@contextlib.contextmanager
def as_user(owner: tuple[int, int] | None) -> Iterator[None]:
    """Have files opened as the user as whom the server will run, where this process is root and may change it."""
    if owner is None or os.geteuid() != 0 or owner[0] <= 0:
        yield
        return
    uid, gid = owner
    groups, group = os.getgroups(), os.getegid()
    try:
        with contextlib.suppress(KeyError):
            os.initgroups(pwd.getpwuid(uid).pw_name, gid)
        os.setegid(gid)
        os.seteuid(uid)
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(groups)
