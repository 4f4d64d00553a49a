# SPDX-License-Identifier: GPL-2.0-or-later
"""What is to become of a queue's items when its server ends, and how far that got; kept in the queue's own header.

So the process that ends the server knows it of queues, too, that another process made or changed at a reload; and the
next server knows what the last one was about to do.

Items cross between a queue and its table in one transaction of the database. While that is under way they may be in
both places. `W_TRANSFER_STATE` says so:

    NONE      nothing is under way
    SAVING    these items are in the table if the transaction was committed
    UNSAVED   the items should have been saved, and could not be
    LOADED    rows are among these items, and are not in the table if the transaction was committed

Whether it was committed says the transaction's token: a random number that is in a table of ours if it was, and in
W_FIRST_ROW and W_LAST_ROW here (the kind has the bit BY_TOKEN then). Where that table cannot be made, these words have
row ids, and the rows say it: from W_FIRST_ROW on they are the items that were saved; from W_FIRST_ROW to W_LAST_ROW
they are gone when they were loaded. That is true only while nobody else writes to the table.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from kemi.queue.format.layout import W_DBMODE, W_FIRST_ROW, W_LAST_ROW, W_RECOVER, W_TRANSFER_STATE

NONE, SAVING, UNSAVED, LOADED = range(4)
BY_TOKEN = 8  # added to a kind

NEVER, AFTER_CRASH, ALWAYS = range(3)  # recover

_WORD = (1 << 64) - 1


class Policy(NamedTuple):
    """dbmode and recover of the queue's definition."""

    dbmode: int
    recover: int

    def writes_database(self) -> bool:
        """Return True if items are saved at the stop."""
        return self.dbmode in (1, 2)

    def outlives(self, crashed: Callable[[], bool]) -> bool:
        """Return True if items that are not saved stay in memory when the server ends."""
        return self.recover == ALWAYS or (self.recover == AFTER_CRASH and crashed())


class Crossing(NamedTuple):
    """What is under way between the queue and its table."""

    kind: int
    first: int = 0
    last: int = 0
    token: int = 0  # 128 bits; 0: there is none, the rows from `first` to `last` say what became of it


def policy(words: Any) -> Policy:
    """Return the policy in a header."""
    return Policy(words[W_DBMODE], words[W_RECOVER])


def set_policy(words: Any, dbmode: int, recover: int) -> None:
    """Store it."""
    words[W_DBMODE], words[W_RECOVER] = dbmode, recover


def crossing(words: Any) -> Crossing:
    """Return what is under way, from a header."""
    kind, first, last = words[W_TRANSFER_STATE], words[W_FIRST_ROW], words[W_LAST_ROW]
    if kind & BY_TOKEN:
        return Crossing(kind & ~BY_TOKEN, token=first << 64 | last)
    return Crossing(kind, _signed(first), _signed(last))


def is_under_way(words: Any) -> bool:
    """Return True if its items may be in its table, too."""
    return crossing(words).kind in (SAVING, LOADED)


def set_crossing(words: Any, new: Crossing) -> None:
    """Store it; the kind last, which makes the others count."""
    words[W_TRANSFER_STATE] = NONE
    if new.token:
        words[W_FIRST_ROW], words[W_LAST_ROW] = new.token >> 64, new.token & _WORD
        words[W_TRANSFER_STATE] = new.kind | BY_TOKEN
    else:
        words[W_FIRST_ROW], words[W_LAST_ROW] = new.first & _WORD, new.last & _WORD
        words[W_TRANSFER_STATE] = new.kind


def settle(words: Any) -> None:
    """Note that it is known where the items are: those which are left in memory are nowhere else."""
    if crossing(words).kind == SAVING:
        set_crossing(words, Crossing(UNSAVED))


def _signed(word: int) -> int:
    return word - (1 << 64) if word >= 1 << 63 else word
