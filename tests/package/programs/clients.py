"""What users write around a queue: relays, loaders, monitors, wrappers, pools. Run with an instance that has a, b, c."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import pickle
import sqlite3
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Protocol

from mqueue_kemi import (
    AddResult,
    Batch,
    Item,
    MqueueError,
    QueueClient,
    Refused,
    ReservedItem,
    Stop,
    Unavailable,
    UnknownQueue,
    aattach,
    attach,
    read_stats,
)


def add_all(queue: QueueClient, pairs: list[tuple[str, str]], pause: threading.Event) -> list[AddResult]:
    """Add all, through a busy lock or a server's restart; return what became of those that were refused."""
    later = (AddResult.NOT_TRIED, AddResult.CLOSED)
    refused: list[AddResult] = []
    while pairs:
        try:
            results = queue.add_many(pairs)
        except Unavailable:
            pause.wait(1)
            continue
        refused += [result for result in results if not result and result not in later]
        pairs = [pair for pair, result in zip(pairs, results) if result in later]
    return refused


def carry(source: QueueClient, target: QueueClient) -> int:
    """Carry a batch over; what the target did not take stays, in order."""
    with source.reserve_many(256, timeout=5) as batch:
        results = target.add_many(batch)
        done = batch.done(item for item, result in zip(batch, results) if result)
        batch.give_back(after=0 if all(results) else 1)
    return done


def load(queue: QueueClient, database: sqlite3.Connection) -> int:
    """Write a batch in one transaction, each item once."""
    with queue.reserve_many(500, timeout=1.0) as batch:
        if batch:
            with database:
                database.executemany("INSERT OR IGNORE INTO calls VALUES (?, ?, ?)", ((i.id, *i) for i in batch))
    return len(batch)


@dataclass(frozen=True)
class Call:
    """What the program's own queue has."""

    caller: str
    callee: str


class Two(Protocol):
    """Whatever has the two methods that are needed."""

    def add(self, key: str, value: str) -> AddResult: ...
    def consume(self, stop: Stop = None) -> Iterator[Item]: ...


class Calls:
    """A typed queue over another one."""

    def __init__(self, queue: Two) -> None:
        self._queue = queue

    def put(self, call: Call) -> None:
        self._queue.add(call.caller, json.dumps(asdict(call))).or_raise()

    def __iter__(self) -> Iterator[Call]:
        for item in self._queue.consume():
            yield Call(**json.loads(item.value))


def watch(where: str) -> dict[str, float]:
    """Return how full each queue is."""
    filled: dict[str, float] = {}
    for name, stats in read_stats(where).items():
        filled[name] = 0.0 if stats.size_limit is None else stats.size / stats.size_limit
        refusals = {reason.name: count for reason, count in stats.refusals.items()}
        json.dumps({**dataclasses.asdict(stats), "refusals": refusals})
    return filled


async def consume(queue: QueueClient, stop: asyncio.Event) -> list[str]:
    """Take each item until told to stop."""
    seen: list[str] = []
    async for reservation in queue.areserve_each(stop):
        async with reservation as item:
            seen.append(item.key)
            if item.key == "last":
                stop.set()
    return seen


async def in_a_loop(where: str) -> list[str]:
    """Add and take in asyncio."""
    async with await aattach("b", where, wait=5) as queue:
        await queue.aadd_many([("first", "1"), ("last", "2")])
        return await consume(queue, asyncio.Event())


def by_hand(queue: QueueClient) -> tuple[int, bool, bool]:
    """Settle without a block."""
    queue.add("k", b"v").or_raise()
    item: ReservedItem = queue.reserve(timeout=None).take()
    first = item.give_back(after=0.01)
    again = queue.reserve(timeout=5).take()
    assert again is not None
    assert (again.id, again.asked, again.deliveries) == (item.id, False, 2)
    if again.age > 3600 or again.left == 0.0:
        again.reject("too late")
    batch: Batch = queue.reserve_many(3).take()
    return len(batch), first, again.done()


def main(where: str) -> None:
    """Run all of it, and print what came of it."""
    results: dict[str, object] = {}
    with attach("a", where, wait=5) as a, attach("b", where) as b:
        results["refused"] = add_all(a, [("1", "x"), ("2", "y")], threading.Event())
        results["carried"] = carry(a, b)
        database = sqlite3.connect(":memory:")
        database.execute("CREATE TABLE calls (id TEXT PRIMARY KEY, key TEXT, value TEXT)")
        results["loaded"] = load(b, database)
        results["rows"] = database.execute("SELECT key, value FROM calls ORDER BY key").fetchall()
        database.close()
        calls = Calls(a)
        calls.put(Call("alice", "bob"))
        results["call"] = next(iter(calls)).callee
        results["by hand"] = by_hand(a)
        again: QueueClient = pickle.loads(pickle.dumps(a))
        pid = os.fork()
        if not pid:
            os._exit(not (again.add("from", "a child") and a.add("and", "another")))
        results["child"] = os.waitpid(pid, 0)[1]
        results["from a child"] = [item.value for item in a.fetch_many(2, timeout=5)]
        again.close()
    results["in a loop"] = asyncio.run(in_a_loop(where))
    results["filled"] = watch(where)
    with attach("c", where) as c:
        try:
            c.add("too", "much" * 100).or_raise()
        except Refused as error:
            results["full"] = error.result.name
    try:
        attach("none", where)
    except UnknownQueue as error:
        results["unknown"] = "has no queue 'none'" in str(error)
    except MqueueError:
        results["unknown"] = False
    print(json.dumps(results))


if __name__ == "__main__":
    main(*sys.argv[1:])
