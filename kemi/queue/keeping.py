"""What is to become of a queue's items when its server ends, and how far that got; kept in the queue's own header.

So the process that ends the server knows it of queues, too, that another process made or changed at a reload; and the
next server knows what the last one was about to do.

Items cross between a queue and its table in one transaction of the database. While that is under way they may be in
both places. `W_CROSSING` says so, and the ids tell afterwards on which side they are:

    NONE      nothing is under way
    SAVING    rows from W_FIRST_ROW on are these items, if there are any
    UNSAVED   the items should have been saved, and could not be
    LOADED    the rows from W_FIRST_ROW to W_LAST_ROW are among these items, and are deleted when this queue counts
"""

from __future__ import annotations

from typing import Any, NamedTuple

from kemi.queue.layout import W_CROSSING, W_DBMODE, W_FIRST_ROW, W_LAST_ROW, W_RECOVER

NONE, SAVING, UNSAVED, LOADED = range(4)

NEVER, AFTER_CRASH, ALWAYS = range(3)  # recover

_SIGN = 1 << 63


class Policy(NamedTuple):
    """dbmode and recover of the queue's definition."""

    dbmode: int
    recover: int

    def writes_database(self) -> bool:
        """Are items saved at the stop?"""
        return self.dbmode in (1, 2)

    def outlives(self, crashed: bool) -> bool:
        """Do items that are not saved stay in memory when the server ends?"""
        return self.recover == ALWAYS or (crashed and self.recover == AFTER_CRASH)


class Crossing(NamedTuple):
    """What is under way between the queue and its table."""

    kind: int
    first: int = 0
    last: int = 0


def policy(words: Any) -> Policy:
    """The policy in a header."""
    return Policy(words[W_DBMODE], words[W_RECOVER])


def set_policy(words: Any, dbmode: int, recover: int) -> None:
    """Store it."""
    words[W_DBMODE], words[W_RECOVER] = dbmode, recover


def crossing(words: Any) -> Crossing:
    """What is under way, from a header."""
    return Crossing(words[W_CROSSING], _signed(words[W_FIRST_ROW]), _signed(words[W_LAST_ROW]))


def is_under_way(words: Any) -> bool:
    """May its items be in its table, too?"""
    return crossing(words).kind in (SAVING, LOADED)


def set_crossing(words: Any, new: Crossing) -> None:
    """Store it; the kind last, which makes the others count."""
    words[W_CROSSING] = NONE
    words[W_FIRST_ROW], words[W_LAST_ROW] = new.first % (2 * _SIGN), new.last % (2 * _SIGN)
    words[W_CROSSING] = new.kind


def settle(words: Any) -> None:
    """It is known where the items are: those which are left in memory are nowhere else."""
    if crossing(words).kind == SAVING:
        set_crossing(words, Crossing(UNSAVED))


def _signed(word: int) -> int:
    return word - 2 * _SIGN if word >= _SIGN else word
