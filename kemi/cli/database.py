"""The commands save and load: what a dead server left, to the database and from it."""

from __future__ import annotations

from collections.abc import Callable

from kemi import orphans
from kemi.cli.call import Call, Failure
from kemi.cli.codes import DONE, USAGE
from kemi.cli.output import say
from kemi.names import DB_URL_VARIABLE
from kemi.store import Store


def save(call: Call) -> int:
    """`save Q`."""
    return _cross(call, orphans.save, "saved {} items of", anybody=True)


def load(call: Call) -> int:
    """`load Q`."""
    return _cross(call, orphans.load, "loaded {} rows into")


def _cross(call: Call, cross: Callable[[str, str, str, orphans.Say], int], done: str, *, anybody: bool = False) -> int:
    url = call.arguments.db_url
    if not url:
        raise Failure(
            USAGE, f"which database? --db-url sqlite:////path, or ${DB_URL_VARIABLE} (which no process list shows)"
        )
    name: str = call.arguments.queue
    Store.open(url).close()  # what it imports may lie where only root can read
    call.become_owner(anybody=anybody)
    count = cross(call.instance, name, url, say)
    call.tell(f"{done.format(count)} queue {name!r} of instance {call.instance!r}", items=count)
    return DONE
