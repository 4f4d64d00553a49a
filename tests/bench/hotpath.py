"""Where the time of a call goes: its own steps, timed one by one in this Python, and what cProfile counts.

A step is timed as the source has it. What is left is the function calls between them and the statements around.
"""

from __future__ import annotations

import cProfile
import mmap
import pstats
import statistics
import struct
import time
import timeit
from typing import Any, Callable

import mqueue_kemi
from kemi import instance
from kemi.queue import layout, mutex
from kemi.queue.item import key_of, value_of
from kemi.slots import fetched
from tests.bench.tables import Part, machine, markdown, number
from tests.processes.serve import Serve

KEY, VALUE = "key12345", "v" * 100
DEPTH = 10_000

ADD = {
    "mq_add, all of it": "mq_add('q', KEY, VALUE)",
    "mq_add: the queue of that name": "queues['q']",
    "Queue.add: the call": "nothing(KEY, VALUE)",
    "Queue.add: key and value to bytes": "KEY.encode(); VALUE.encode()",
    "Queue.add: lengths": "k = len(key); v = len(value); size = k + v + RECORD_HEAD; size + 7 & -8 > MAX_STEP",
    "Queue.add: the time of day": "now()",
    "Queue.add: the record's bytes": "pack(136, 8, 100, 0, 1.5) + key + value",
    "lock and unlock": "trylock(ref); unlock(ref)",
    "Queue.add: the tail, and its end": "tail = words[W_TAIL]; end = tail + 136; end <= tail | CHUNK_MASK",
    "Queue.add: is there a limit or a sleeper?": "words[W_WATCH]",
    "Queue.add: the record's bytes to shared memory": "memory[at : at + 132] = record",
    "Queue.add: commit": "words[FREE] = 1",
    "Queue.add: counted": "words[FREE] += 1",
}
FETCH = {
    "mq_fetch, all of it": "mq_fetch('q')",
    "mq_fetch: the queue of that name, and the slot": "queues['q']; fetched['q'] = record",
    "Queue.pop: the call": "nothing()",
    "Queue.pop: empty?": "words[W_HEAD] == words[W_TAIL]",
    "lock and unlock": "trylock(ref); unlock(ref)",
    "Queue.pop: head, tail, step": "head = words[W_HEAD]; tail = words[W_TAIL]; end = head + (halves[head >> 2] & 0)",
    "Queue.pop: may it be taken so?": "head + RECORD_HEAD <= head + 136 <= head | CHUNK_MASK",
    "Queue.pop: most items ever": "removed = words[W_REMOVED]; words[W_ADDED] - removed <= words[W_GATE]",
    "Queue.pop: the record's bytes out of shared memory": "memory[at : at + 136]",
    "Queue.pop: commit": "words[FREE] = 1",
    "Queue.pop: counted": "words[FREE] = removed + 1",
}
READ = {
    "mqk_get and mqv_get, all of it": "mqk_get('q'); mqv_get('q')",
    "the slot": "fetched['q']; fetched['q']",
    "lengths from the record": "key_length(record); lengths(record)",
    "the record's parts to str": "record[24:32].decode(); record[32:132].decode()",
    "calls of key_of and value_of": "key_of(record); value_of(record)",
}
CALLS: dict[str, dict[str, str]] = {"add": ADD, "fetch": FETCH, "key and value": READ}
KEYED = {
    "addmode 1, the key is there": ("oldest", "mq_add('oldest', next(keys), VALUE)"),
    "addmode 2, the key is there": ("newest", "mq_add('newest', next(keys), VALUE)"),
    "addmode 2, fetch and add it anew": ("newest", "mq_fetch('newest'); mq_add('newest', mqk_get('newest'), VALUE)"),
}


def _nothing(*_: object) -> None:
    return None


def _names(queue: Any) -> dict[str, Any]:
    segment = queue.segment
    record = queue._ring.record_at(next(queue._ring.scan()))
    calls = {name: getattr(mqueue_kemi, name) for name in mqueue_kemi.__all__}
    own = {
        "KEY": KEY,
        "VALUE": VALUE,
        "key": KEY.encode(),
        "value": VALUE.encode(),
        "queues": instance.queues,
        "fetched": fetched,
        "now": time.time,
        "pack": layout.RECORD.pack,
        "trylock": mutex.trylock,
        "unlock": mutex.unlock,
        "ref": queue._mutex.ref,
        "words": segment.words,
        "halves": segment.halves,
        "memory": mmap.mmap(-1, layout.PAGE),  # not the segment itself, which is in use
        "record": record[:132],
        "at": 1024,
        "head": layout.CHUNK,
        "removed": 1,
        "nothing": _nothing,
        "FREE": 62,  # a word of the header that means nothing
        "key_length": struct.Struct("=4xI").unpack_from,
        "lengths": struct.Struct("=4xII").unpack_from,
        "key_of": key_of,
        "value_of": value_of,
    }
    return {**vars(layout), **calls, **own}


def steps(queue: Any, rounds: int, count: int) -> dict[str, dict[str, float]]:
    """Nanoseconds of CPU of each step: medians of rounds in which all of them take turns."""
    names = _names(queue)
    empty_loop = timeit.Timer("pass", timer=time.thread_time)
    found: dict[str, dict[str, list[float]]] = {call: {step: [] for step in of} for call, of in CALLS.items()}
    for _ in range(rounds):
        empty = min(empty_loop.repeat(3, count))
        for call, of in CALLS.items():
            for step, text in of.items():
                seconds = timeit.Timer(text, globals=names, timer=time.thread_time).timeit(count) - empty
                found[call][step].append(seconds / count * 1e9)
        assert not queue.stats().recovered, "a measured step damaged the queue"
    return {call: {step: statistics.median(some) for step, some in of.items()} for call, of in found.items()}


def profiled(action: Callable[[], object], count: int) -> list[dict[str, Any]]:
    """The functions of a call by their own time: name, calls an action, share of all."""
    profile = cProfile.Profile(time.thread_time)
    profile.enable()
    for _ in range(count):
        action()
    profile.disable()
    stats: Any = pstats.Stats(profile)
    total = sum(own for _, _, own, _, _ in stats.stats.values())
    rows = [
        {"function": f"{where[2]} ({where[0].rpartition('/')[2]})", "calls": calls / count, "share": own / total}
        for where, (_, calls, own, _, _) in stats.stats.items()
    ]
    return sorted(rows, key=lambda row: -row["share"])[:14]


def measure(quick: bool, only: str = "") -> dict[str, Any]:
    """Take all of it. only: not used."""
    del only
    rounds, count = (5, 2000) if quick else (21, 10_000)
    results: dict[str, Any] = {"machine": machine(), "rounds": rounds, "calls a round": count}
    serve = Serve()
    try:
        queue = serve("name=q", "name=oldest;addmode=1", "name=newest;addmode=2")
        mqueue_kemi.mq_add("q", KEY, VALUE)
        results["steps"] = steps(queue, rounds, count)
        queue.clear()
        results["keyed"] = _keyed_profiles(count)
    finally:
        serve.stop()
    return results


def _keyed_profiles(count: int) -> dict[str, list[dict[str, Any]]]:
    for name in ("oldest", "newest"):
        for number_ in range(DEPTH):
            mqueue_kemi.mq_add(name, f"key{number_:06d}", VALUE)
    found = {}
    for what, (_, text) in KEYED.items():
        names: dict[str, Any] = {name: getattr(mqueue_kemi, name) for name in mqueue_kemi.__all__}
        names.update(VALUE=VALUE, keys=iter([f"key{at * 7919 % DEPTH:06d}" for at in range(count)]))
        code = compile(text, what, "exec")
        found[what] = profiled(lambda code=code, names=names: exec(code, names), count)  # type: ignore[misc] # noqa: S102
    return found


# --- the tables -------------------------------------------------------------------------------------------------------


def tables(results: dict[str, Any]) -> str:
    """What a README can show."""
    lengths = f"a key of {len(KEY)} and a value of {len(VALUE)} bytes"
    text = [f"Nanoseconds of CPU, medians of {results['rounds']} rounds, {lengths}.", ""]
    for call, steps_of in results["steps"].items():
        whole, *parts = steps_of.items()
        shown = [[name, number(value), f"{value / whole[1]:.0%}"] for name, value in parts]
        rest = whole[1] - sum(value for _, value in parts)
        rows = [[whole[0], number(whole[1]), "100%"], *shown]
        if call != "key and value":  # there the last row holds those before it
            rows.append(
                ["calls, names and statements between", number(max(0.0, rest)), f"{max(0.0, rest) / whole[1]:.0%}"]
            )
        text += [*markdown([call, "ns", "of all"], rows), ""]
    for what, rows_of in results["keyed"].items():
        rows = [[row["function"], f"{row['calls']:.2f}", f"{row['share']:.0%}"] for row in rows_of]
        text += [*markdown([f"{what}, {DEPTH:,} items (cProfile)", "calls", "own time"], rows), ""]
    return "\n".join(text)


def plots(results: dict[str, Any]) -> dict[str, str]:
    """None: the tables say it."""
    del results
    return {}


def part() -> Part:
    return Part("hotpath", "Where the time goes", measure, tables, plots)
