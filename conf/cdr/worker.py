# SPDX-License-Identifier: 0BSD
"""A worker that writes calls to PostgreSQL, through its outages: no call is lost, none is there twice.

    psql "$CDR_DATABASE" -f conf/cdr/table.sql
    CDR_DATABASE=postgresql://kamailio@localhost/cdr mqueue-kemi work conf.cdr.worker:write

The server is kamailio-cdr.cfg. While the database is away the worker pauses and keeps the order; calls wait in the
queue. What is no call goes to the queue cdr_dead, and stays there for a person to look at.
"""

from __future__ import annotations

import json
import os
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import psycopg2

from mqueue_kemi import Reject, ReservedItem, worker

if TYPE_CHECKING:
    from collections.abc import Iterator

DATABASE = os.environ["CDR_DATABASE"]
INSERT = "INSERT INTO cdr VALUES (%s, %s, %s, to_timestamp(%s), %s) ON CONFLICT DO NOTHING"


@contextmanager
def table() -> Iterator[Any]:
    with closing(psycopg2.connect(DATABASE, connect_timeout=5)) as connection:
        connection.autocommit = True  # each call is committed by itself
        with connection.cursor() as cursor:
            yield cursor


@worker("cdr", resource=table, processes=2, timeout=30, retries=5)
def write(item: ReservedItem, cursor: Any) -> None:
    try:
        record = json.loads(item.value)
        row = item.key, str(record["caller"]), str(record["callee"]), float(record["at"]), item.id
        cursor.execute(INSERT, row)
    except (ValueError, LookupError, TypeError, ArithmeticError, RecursionError, psycopg2.DataError) as error:
        raise Reject(f"no call: {error!r}") from error
