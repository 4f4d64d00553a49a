"""Seconds to save a queue to sqlite at the stop and to load it at the start, ours beside the C module.

The C module gets fewer items: it writes each row in a transaction of its own, and Kamailio ends a stop after a minute.
"""

from __future__ import annotations

import sqlite3
import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from mqueue_kemi import attach
from tests.bench.tables import Part, bars, machine, markdown, number
from tests.server.harness import Kamailio, Server, Servers, new_instance

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
        cfg = f'modparam("mqueue", "db_url", "sqlite:///{database}")\nmodparam("mqueue", "mqueue", "name=q;dbmode=1")\n'
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


def crossing(servers: Servers, folder: Path, side: str, count: int) -> dict[str, float]:
    """What stop and start take with that many items, less what they take with none."""
    kind: type[Ours | Theirs] = Ours if side == OURS else Theirs
    instance, database = new_instance(), folder / f"{side.split(maxsplit=1)[0]}.db"
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
    assert found == count, f"{found} of {count} items came back"
    third.process.kill()
    return {"items": count, "found": found, "save": save - empty_stop, "load": load - empty_start}


def make_table(database: Path) -> None:
    """The table that the C module wants to find."""
    with sqlite3.connect(database) as connection:
        connection.execute(
            "CREATE TABLE q (id INTEGER PRIMARY KEY AUTOINCREMENT, key character varying(64) DEFAULT '' NOT NULL, "
            "val character varying(4096) DEFAULT '' NOT NULL)"
        )
    connection.close()


def measure(quick: bool, only: str = "") -> dict[str, Any]:
    """Both sides in turn. only: one of them."""
    rounds, counts = (1, {OURS: 20_000, THEIRS: 300}) if quick else (3, {OURS: 1_000_000, THEIRS: 1000})
    results: dict[str, Any] = {"machine": machine(), "rounds": rounds, "sides": {}}
    for _ in range(rounds):
        for side, count in counts.items():
            if only not in side:
                continue
            with ExitStack() as stack:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mqk-db-")))
                done = crossing(Servers(stack), folder, side, count)
            results["sides"].setdefault(side, []).append(done)
    return results


def _medians(some: list[dict[str, float]]) -> dict[str, float]:
    return {what: statistics.median(one[what] for one in some) for what in some[0]}


def tables(results: dict[str, Any]) -> str:
    """What a README can show."""
    rows = []
    for side, some in results["sides"].items():
        one = _medians(some)
        # Of few items, the difference may be lost in the time that a start takes anyway.
        seconds = [max(0.0, one[what]) for what in ("save", "load")]
        each = [second / one["items"] * 1e6 for second in seconds]
        rows.append([side, f"{one['items']:,.0f}", *map(number, (*seconds, *each))])
    head = ["sqlite, dbmode=1", "items", "save s", "load s", "save µs an item", "load µs an item"]
    intro = "Seconds that a stop takes longer with the items than without, and the start after it."
    return "\n".join([intro, "", *markdown(head, rows)])


def plots(results: dict[str, Any]) -> dict[str, str]:
    """Microseconds an item."""
    drawn = {}
    for side, some in results["sides"].items():
        one = _medians(some)
        drawn[side] = [max(0.1, one[what] / one["items"] * 1e6) for what in ("save", "load")]
    return {"items": bars("Microseconds to save and to load an item (sqlite)", ["save", "load"], drawn)}


def part() -> Part:
    return Part("database", "Save and load", measure, tables, plots)
