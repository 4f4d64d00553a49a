"""Runs inside the tested server: its main process dies at a chosen moment of its way to the database or from it."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING, Any

from kemi import store

if TYPE_CHECKING:
    from collections.abc import Iterator

MOMENTS = ("before the commit", "after the commit")


def die(moment: str, table: str, lives: int) -> None:
    """Have this process killed at the end of a transaction on that table, when it lived through some before."""
    begin = store.Store.begin
    left = [lives]

    @contextlib.contextmanager
    def deadly(self: store.Store, name: str) -> Iterator[Any]:
        left[0] -= name == table
        dies = name == table and left[0] < 0
        with begin(self, name) as rows:
            yield rows
            if dies and moment == MOMENTS[0]:
                os.kill(os.getpid(), signal.SIGKILL)
        if dies:
            os.kill(os.getpid(), signal.SIGKILL)

    store.Store.begin = deadly  # type: ignore[method-assign,assignment]
