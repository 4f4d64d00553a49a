"""Runs inside the tested server: its main process dies at a chosen moment of its way to the database or from it."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING, Any

from kemi import store

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MOMENTS = ("before the commit", "after the commit")


def die(moment: str, table: str, lives: int) -> None:
    """Have this process killed at the end of a transaction on that table, when it has committed some before."""
    transaction = store.Store.transaction
    left = [lives]

    @contextlib.contextmanager
    def deadly(self: store.Store, tables: Iterable[str], *, keeps_unfit: bool = False) -> Iterator[Any]:
        tables = list(tables)
        dies = False
        with transaction(self, tables, keeps_unfit=keeps_unfit) as work:
            yield work
            # One that only looked was undone by an exception, and does not come here.
            if table in tables:
                dies = not left[0]
                left[0] -= 1
            if dies and moment == MOMENTS[0]:
                os.kill(os.getpid(), signal.SIGKILL)
        if dies:
            os.kill(os.getpid(), signal.SIGKILL)

    store.Store.transaction = deadly  # type: ignore[method-assign]
