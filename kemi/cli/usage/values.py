# SPDX-License-Identifier: GPL-2.0-or-later
"""What an argument may be: each function makes a value of its text, or says what to write."""

from __future__ import annotations

import argparse
import math
import os
import re

_PORTS = 65536
_LONGEST = 86400.0 * 365  # seconds


def text(argument: str) -> str:
    """Names are bytes on the command line, and UTF-8 in a queue."""
    return os.fsencode(argument).decode("utf-8", "surrogateescape")


def count(argument: str) -> int:
    """A number of 1 or more."""
    if not re.fullmatch(r"[0-9]{1,12}", argument) or not int(argument):
        raise argparse.ArgumentTypeError(f"{argument!r} is no number of 1 or more")
    return int(argument)


def seconds(argument: str) -> float:
    """Seconds, a year at most."""
    try:
        number = float(argument)
    except ValueError:
        number = math.nan
    if not 0 <= number <= _LONGEST:
        raise argparse.ArgumentTypeError(f"{argument!r} is no number of seconds")
    return number


def more_than_0(argument: str) -> float:
    """Seconds that are a limit."""
    number = seconds(argument)
    if not number:
        raise argparse.ArgumentTypeError("write seconds, more than 0; without it there is no limit")
    return number


def tls(argument: str) -> str:
    """How a database's server is known."""
    if argument not in ("off", "on", "verify") and not argument.startswith("/"):
        raise argparse.ArgumentTypeError("write off, on, verify, or the whole path of a file with certificates")
    return argument


def address(argument: str) -> tuple[str, int]:
    """Where to listen: HOST:PORT."""
    match = re.fullmatch(r"(?:\[(?P<six>[0-9A-Fa-f:.%\w]+)\]|(?P<host>[^:\[\]]+)):(?P<port>[0-9]{1,5})", argument)
    if not match or not 0 <= int(match["port"]) < _PORTS:
        raise argparse.ArgumentTypeError(
            f"{argument!r} is no HOST:PORT; write for instance 127.0.0.1:9130 or [::1]:9130 (port 0: one that is free)"
        )
    return match["six"] or match["host"], int(match["port"])
