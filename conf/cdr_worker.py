# SPDX-License-Identifier: 0BSD
"""A worker outside of Kamailio: writes what the server queues to a database, each call exactly once.

    CDR_DATABASE=/var/lib/kamailio/cdr.sqlite mqueue-kemi work conf.cdr_worker:write

Exactly once is two things. An item leaves the queue only after its row is committed: a worker that is killed at any
moment leaves it for the next one. And the row's key is the Call-ID: what was written already changes nothing.
cdr-worker.service runs it under systemd; cdr/worker.py does the same with PostgreSQL.
"""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from mqueue_kemi import Reject, ReservedItem, worker

if TYPE_CHECKING:
    from collections.abc import Iterator

DATABASE = os.environ.get("CDR_DATABASE", "cdr.sqlite")
NO_CALL = (ValueError, LookupError, TypeError, ArithmeticError, RecursionError)
TABLE = "CREATE TABLE IF NOT EXISTS cdr (call_id TEXT PRIMARY KEY, caller TEXT, callee TEXT, at REAL, queued REAL)"


@contextmanager
def table() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(DATABASE, isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode=WAL")  # readers never wait for the worker
        database.execute(TABLE)
        yield database


@worker("cdr", resource=table, retries=5)
def write(item: ReservedItem, database: sqlite3.Connection) -> None:
    try:
        record = json.loads(item.value)
        row = item.key, record["caller"], record["callee"], float(record["at"]), item.added
        database.execute("INSERT OR IGNORE INTO cdr VALUES (?, ?, ?, ?, ?)", row)
    except (*NO_CALL, sqlite3.InterfaceError, sqlite3.ProgrammingError) as error:  # also what sqlite has no type for
        raise Reject(f"no call: {error!r}") from error
