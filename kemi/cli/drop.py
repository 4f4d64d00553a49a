# SPDX-License-Identifier: GPL-2.0-or-later
"""The command drop: take away what a dead server left."""

from __future__ import annotations

import os
import sys

from kemi import host
from kemi.cli import signals
from kemi.cli.call import Call, Failure
from kemi.cli.usage.codes import DONE, MISSING, USAGE
from kemi.queue.catalog.view import QueueView

_STDIN = 0


def drop(call: Call) -> int:
    """`drop [Q]`."""
    name: str | None = call.arguments.queue
    found = host.find(call.instance)
    if name is not None and name not in found.queues:
        raise Failure(MISSING, host.no_queue(call.instance, name))
    views = [found.queues[name]] if name is not None else list(found.queues.values())
    items = sum(view.stats.size for view in views if isinstance(view, QueueView))
    what = f"queue {name!r} of instance {call.instance!r}" if name is not None else f"instance {call.instance!r}"
    if not call.arguments.yes:
        _ask(f"take away {what}, {items} items")
    call.become_owner(anybody=True)
    host.drop(call.instance, name)
    call.tell(f"took away {what}, {items} items", items=items)
    return DONE


def _ask(what: str) -> None:
    if not os.isatty(_STDIN):
        raise Failure(USAGE, f"this would {what}; say --yes to do it")
    sys.stderr.write(f"{what[0].upper()}{what[1:]}? [y/N] ")
    sys.stderr.flush()
    signals.wait([_STDIN])
    if os.read(_STDIN, 100).strip().lower() not in (b"y", b"yes"):
        raise Failure(USAGE, "left as it is")
