# SPDX-License-Identifier: GPL-2.0-or-later
"""One way to Kamailio's log. Outside of Kamailio (a test, an interactive Python) lines go to `logging`."""

from __future__ import annotations

import logging
from typing import Any

from kemi.text import one_line

_logger = logging.getLogger("mqueue_kemi")


def _ksr() -> Any:
    """The KSR of the server around this interpreter; None where there is none."""
    try:
        import KSR
    except ImportError:
        return None
    return KSR


def _line(text: str) -> str:
    # KSR takes C strings: what is no UTF-8, and a NUL, would raise. And a line end would begin a line of its own.
    return "mqueue_kemi: " + one_line(text)


def error(text: str) -> None:
    """Something failed that an operator should know."""
    if (ksr := _ksr()) is not None:
        ksr.err(_line(text) + "\n")
    else:
        _logger.error("%s", _line(text))


def warning(text: str) -> None:
    """Something is slow or odd, and an operator should look at it."""
    if (ksr := _ksr()) is not None:
        ksr.warn(_line(text) + "\n")
    else:
        _logger.warning("%s", _line(text))


def started(text: str) -> None:
    """All is well at the start: a line that an operator looks for, and nobody outside of a server."""
    if (ksr := _ksr()) is not None:
        ksr.notice(_line(text) + "\n")
    else:
        _logger.info("%s", _line(text))


def notice(text: str) -> None:
    """Something happened that an operator may want to know."""
    if (ksr := _ksr()) is not None:
        ksr.notice(_line(text) + "\n")
    else:
        _logger.warning("%s", _line(text))
