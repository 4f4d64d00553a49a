"""A worker outside of Kamailio: writes what the server queues to a database, each call exactly once.

    python3 -m conf.cdr_worker /var/lib/kamailio/cdr.sqlite [--queue cdr] [--instance kamailio]

Exactly once is two things. An item leaves the queue only after its row is committed, so a worker that is killed at any
moment (`kill -9`) leaves the item for the next one: at least once. And the row has a key, the Call-ID, and is written
with INSERT OR IGNORE: what was committed already when the item comes again changes nothing. Together: once.

`Queue.reserve` is what keeps the item; any number of workers may run side by side. See
cdr-worker.service for how systemd runs it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sqlite3
import sys
import time
from typing import TYPE_CHECKING, Any

from mqueue_kemi import LockTimeout, MqueueError, Queue, SegmentError, UnknownQueue, attach

if TYPE_CHECKING:
    from mqueue_kemi import Item

SLICE = 0.5  # seconds of one wait; how long a stop may take
RETRY_EVERY = 1.0  # seconds, while there is no server, or no database

SCHEMA = """
CREATE TABLE IF NOT EXISTS cdr (call_id TEXT PRIMARY KEY, caller TEXT, callee TEXT, at REAL, queued REAL);
CREATE TABLE IF NOT EXISTS rejected (key BLOB, value BLOB, queued REAL, why TEXT, PRIMARY KEY (key, value))
"""

stopping: list[int] = []


class Table:
    """The rows, in sqlite. Another database needs another class with these two methods."""

    def __init__(self, path: str) -> None:
        self._database = sqlite3.connect(path, isolation_level=None)
        self._database.execute("PRAGMA journal_mode=WAL")  # readers never wait for the worker
        self._database.executescript(SCHEMA)

    def write(self, item: Item) -> None:
        """Commit the item's row; one that is there already stays as it is."""
        row: tuple[Any, ...]
        try:
            record = json.loads(item.value)
            row = item.key, record["caller"], record["callee"], float(record["at"]), item.added
            self._database.execute("INSERT OR IGNORE INTO cdr VALUES (?, ?, ?, ?, ?)", row)
        except (
            ValueError,
            KeyError,
            TypeError,
            OverflowError,
            RecursionError,
            sqlite3.InterfaceError,
            sqlite3.ProgrammingError,
        ) as error:
            # Not a call as we know it: kept for a person to look at, because it would else be in the way for ever.
            row = item.key_bytes, item.value_bytes, item.added, f"{type(error).__name__}: {error}"
            self._database.execute("INSERT OR IGNORE INTO rejected VALUES (?, ?, ?, ?)", row)

    def close(self) -> None:
        self._database.close()


def work(queue: Queue, table: Table) -> None:
    """Write what comes, until a signal asks to stop. What is begun is finished."""
    while not stopping:
        try:
            with queue.reserve(SLICE) as item:
                if item is not None:
                    table.write(item)
        except (LockTimeout, sqlite3.OperationalError) as error:  # busy, or the disk is full: the item is still there
            say(error)
            pause()


def follow(name: str, instance: str, table: Table) -> None:
    """Work for ever: wait for the server when it is not there, and go on when it was started again."""
    told = ""
    while not stopping:
        try:
            with attach(name, instance) as queue:
                say(f"works on {queue!r}")
                told = ""
                work(queue, table)
        except (UnknownQueue, SegmentError) as error:
            if told != str(error):
                told = str(error)
                say(told)
            pause()


def pause() -> None:
    """Wait before another try, unless a signal asks to stop."""
    if not stopping:
        time.sleep(RETRY_EVERY)


def say(what: object) -> None:
    print(f"cdr_worker[{os.getpid()}]: {what}", file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("database", help="file of the sqlite database; made if it is not there")
    parser.add_argument("--queue", default="cdr")
    parser.add_argument("--instance", default=os.environ.get("MQUEUE_KEMI_INSTANCE", "kamailio"))
    arguments = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _frame: stopping.append(number))
    with contextlib.ExitStack() as stack:
        try:
            table = stack.enter_context(contextlib.closing(Table(arguments.database)))
            follow(arguments.queue, arguments.instance, table)
        except (MqueueError, sqlite3.Error) as error:
            sys.exit(f"cdr_worker: {error}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
