# SPDX-License-Identifier: GPL-2.0-or-later
"""The exit codes: the one table, from which the help and the manual page are made."""

from __future__ import annotations

DONE = 0
NOTHING = 1
USAGE = 2  # argparse's own
MISSING = 3
NOT_ALLOWED = 4
REFUSED = 5
UNUSABLE = 6
NO_PACKAGE = 7
COMMAND_FAILED = 8
WRONG = 9
INTERRUPTED = 130

CODES = {
    DONE: "done",
    NOTHING: "there was no item",
    USAGE: "the command line is wrong",
    MISSING: "no such instance or queue",
    NOT_ALLOWED: "this user may not use it",
    REFUSED: "an item was not added: full, no memory, too large, or not valid",
    UNUSABLE: "it cannot be used: damaged, its lock held too long, in use, closed, or output that cannot be written",
    NO_PACKAGE: "a Python package is missing, which the message names",
    COMMAND_FAILED: "the command of --exec failed",
    WRONG: "check found something wrong: in the file, or with --live in what is running",
    INTERRUPTED: "interrupted (Ctrl-C); SIGTERM and a closed pipe end it as these signals do",
}


def as_text() -> str:
    """Return the table as the help shows it."""
    return "\n".join(["exit codes:", *(f"  {code:>3}  {meaning}" for code, meaning in CODES.items())])
