"""Seconds to save a queue to sqlite at the stop and to load it at the start, ours beside the C module.

The C module gets fewer items: it writes each row in a transaction of its own, and Kamailio ends a stop after a minute.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from mqueue_kemi import attach
from tests.server.harness import Kamailio, new_instance

if TYPE_CHECKING:
    from pathlib import Path

    from tests.server.harness import Server, Servers

OURS, THEIRS = "ours", "C module"
KEY, VALUE = "key12345", "v" * 92


class Ours(Kamailio):
    """A server whose queue is read at the start and written at the stop."""

    def __init__(self, database: Path, instance: str) -> None:
        params = [("db_url", f"sqlite:///{database}"), ("max_memory", "1g")]
        super().__init__(["name=q;dbmode=1"], params=params, instance=instance)

    def fill(self, count: int) -> None:
        with attach("q", self.instance) as queue:
            for _ in range(count):
                queue.add(KEY, VALUE)

    def size(self) -> int:
        return int(self.call("mq_size", "q"))


class Theirs(Kamailio):
    """The same with the C module."""

    def __init__(self, database: Path, instance: str) -> None:
        cfg = (
            f'modparam("mqueue", "db_url", "sqlite:///{database}")\nmodparam("mqueue", "mqueue", "name=q;dbmode=1")\n'
        )
        super().__init__(["name=other"], modules=["db_sqlite", "mqueue"], cfg=cfg, instance=instance)

    def options(self) -> list[str]:
        return ["-m", "2048"]

    def fill(self, count: int) -> None:
        self.submit(f"for _ in range({count}): KSR.mqueue.mq_add('q', {KEY!r}, {VALUE!r})").result(300)

    def size(self) -> int:
        return int(self.run("return KSR.mqueue.mq_size('q')"))



def stop(server: Server) -> float:
    return server.stop(limit=900)


def start(servers: Servers, server: Server) -> float:
    begin = time.monotonic()
    servers.start(server)
    return time.monotonic() - begin


def crossing(servers: Servers, folder: Path, side: str, count: int) -> dict[str, Any]:
    """What stop and start take with that many items, less what they take with none."""
    kind = {OURS: Ours, THEIRS: Theirs}[side]
    instance, database = new_instance(), folder / f"{side.split()[0]}.db"
    if side == THEIRS:
        make_table(database)
    first = kind(database, instance)
    empty_start = start(servers, first)
    empty_stop = stop(first)
    second = kind(database, instance)
    start(servers, second)
    second.fill(count)
    save = stop(second)
    third = kind(database, instance)
    load = start(servers, third)
    found = third.size()
    third.process.kill()
    return {"items": count, "found": found, "save": save - empty_stop, "load": load - empty_start}


def make_table(database: Path) -> None:
    import sqlite3

    with sqlite3.connect(database) as connection:
        connection.execute(
            "CREATE TABLE q (id INTEGER PRIMARY KEY AUTOINCREMENT, key character varying(64) DEFAULT '' NOT NULL, "
            "val character varying(4096) DEFAULT '' NOT NULL)"
        )
    connection.close()
