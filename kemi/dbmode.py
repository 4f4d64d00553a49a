# SPDX-License-Identifier: GPL-2.0-or-later
"""What a dbmode means: numbers as the documentation has them, words that cannot be misread, and the C code's numbers.

The C module's documentation (Kamailio 5.6.0 to 5.6.4) and its code disagree about 2 and 3, and later documentation
follows the code. Here the numbers mean what the first says, unless dbmode_compat asks for the other.
"""

from __future__ import annotations

from collections.abc import Mapping

NONE, BOTH, SAVE, LOAD = range(4)
WORDS = {"none": NONE, "both": BOTH, "save": SAVE, "load": LOAD}
_SWAPPED = {SAVE: LOAD, LOAD: SAVE}
_NAMES = {number: word for word, number in WORDS.items()}
_DOES = {SAVE: "save items at the stop and load nothing", LOAD: "load rows at the start and save nothing"}

DOCUMENTED, CODE = "documentation", "code"  # dbmode_compat


def is_ambiguous(text: str, dbmode: int) -> bool:
    """Return True for a dbmode that means two things, as it was written."""
    return dbmode in _SWAPPED and text.lower() not in WORDS


def swapped(dbmode: int) -> int:
    """Return what the C code means by that number."""
    return _SWAPPED.get(dbmode, dbmode)


def notice(ambiguous: Mapping[str, int]) -> str:
    """For the log of a server that uses such numbers and has not said what they mean. Numbers by queue."""
    queues = ", ".join(f"{name!r} (dbmode={number}: {_NAMES[number]})" for name, number in ambiguous.items())
    used = sorted({*ambiguous.values()})
    meant = "; ".join(
        f"{number} is to {_DOES[number]}, in the C module's code to {_DOES[swapped(number)]}" for number in used
    )
    words = " or ".join(f"dbmode={_NAMES[number]}" for number in (SAVE, LOAD))
    return (
        f"queue {queues}: {meant}. Write {words}, which cannot be misread, or "
        f'modparam("mqueue", "dbmode_compat", "{CODE}"), or "{DOCUMENTED}" if this is what was meant'
    )
