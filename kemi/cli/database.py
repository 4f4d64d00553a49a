# SPDX-License-Identifier: GPL-2.0-or-later
"""The commands save and load: what a dead server left, to the database and from it."""

from __future__ import annotations

import re
from collections.abc import Callable

from kemi import orphans
from kemi.cli.call import Call, Failure
from kemi.cli.output import say
from kemi.cli.usage.codes import DONE, UNUSABLE, USAGE
from kemi.errors import ConfigError, StoreError
from kemi.names import DB_URL_VARIABLE
from kemi.store import Options, Store

_PARAMETER = re.compile(r'modparam\("mqueue", "db_(\w+)", "?([^")]*)"?\)|\bdb_(tls|timeout|retry|inexact|url)\b')


def save(call: Call) -> int:
    """`save Q`."""
    return _cross(call, orphans.save, "saved {} items of", anybody=True)


def load(call: Call) -> int:
    """`load Q`."""
    return _cross(call, orphans.load, "loaded {} rows into")


def _cross(call: Call, cross: Callable[..., int], done: str, *, anybody: bool = False) -> int:
    arguments = call.arguments
    url, name = arguments.db_url, arguments.queue
    if not url:
        raise Failure(
            USAGE, f"which database? --db-url sqlite:////path, or ${DB_URL_VARIABLE} (which no process list shows)"
        )
    options = Options(arguments.db_timeout, arguments.db_tls or "", arguments.db_inexact)
    try:
        Store.open(url, None, options).close()  # what it imports may lie where only root can read
        call.become_owner(anybody=anybody)
        count = cross(call.instance, name, url, say, options, arguments.db_retry)
    except ConfigError as error:
        raise Failure(USAGE, _with_options(str(error))) from None
    except StoreError as error:
        raise Failure(UNUSABLE, _with_options(str(error))) from None
    call.tell(f"{done.format(count)} queue {name!r} of instance {call.instance!r}", items=count)
    return DONE


def _with_options(text: str) -> str:
    """An error's text, in which the parameters are called as the options of the command."""

    def option(found: re.Match[str]) -> str:
        name, value, alone = found.groups()
        if alone:
            return f"--db-{alone}"
        return f"--db-{name}" + ("" if value in ("...", "1") else f" {value}")

    return _PARAMETER.sub(option, text)
