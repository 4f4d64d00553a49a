"""Runs inside the measured server: times calls of ours and of the C module, in turn, in the same process."""

from __future__ import annotations

import gc
import os
import platform
import random
import resource
import sys
import time
import timeit
from array import array
from typing import Any, Callable

import KSR  # noqa: TID251 it runs inside the server

import mqueue_kemi
from kemi.queue.lock import mutex

OURS, THEIRS = "ours", "C module"
KEY, VALUE = "key12345", "v" * 100
SIDES: dict[str, Any] = {OURS: mqueue_kemi, THEIRS: KSR.mqueue}

Nanoseconds = dict[str, dict[str, list[float]]]  # call → side → one number for each round

CALLS = {
    "add": "mq_add('q', KEY, VALUE)",
    "fetch": "mq_fetch('q')",
    "key and value": "mqk_get('q'); mqv_get('q')",
    "size": "mq_size('q')",
    "fetch of nothing": "mq_fetch('empty')",
    "add and fetch in turn": "mq_add('q', KEY, VALUE); mq_fetch('q')",
}


def about() -> dict[str, str]:
    """Say what is measured."""
    return {
        "python": f"{platform.python_implementation()} {sys.version.split()[0]}, {sys.executable or 'embedded'}",
        "kamailio": str(KSR.pv.get("$version(full)") or KSR.pv.get("$version(num)")),
    }


def yardsticks(instance: str, count: int) -> dict[str, float]:
    """Time what no queue can do without, so that figures of different machines can be compared: nanoseconds."""
    with mqueue_kemi.attach("q", instance) as client:
        inner: Any = getattr(client, "_current")  # noqa: B009 - what a client has is its own
        names: dict[str, Any] = {"nothing": lambda: None, "ref": inner.queue._mutex.ref, **vars(mutex)}
        texts = {"a Python call that does nothing": "nothing()", "lock and unlock": "trylock(ref); unlock(ref)"}
        return {
            what: min(timeit.repeat(text, globals=names, number=count)) / count * 1e9 for what, text in texts.items()
        }


def _timers(calls: dict[str, str]) -> dict[str, dict[str, timeit.Timer]]:
    names = {
        side: {**{name: getattr(module, name) for name in dir(module) if name.startswith("mq")}, **globals()}
        for side, module in SIDES.items()
    }
    return {call: {side: timeit.Timer(text, globals=names[side]) for side in SIDES} for call, text in calls.items()}


def calls(rounds: int, count: int) -> Nanoseconds:
    """Time each call so many times a round: as many adds, then as many fetches, both sides one after the other."""
    timers = _timers(CALLS)
    empty_loop = timeit.Timer("pass")
    times: Nanoseconds = {call: {side: [] for side in SIDES} for call in CALLS}
    for number in range(rounds):
        overhead = min(empty_loop.repeat(3, count))
        # Who comes first changes with every round.
        sides = list(SIDES) if number % 2 else list(reversed(SIDES))
        for call in CALLS:
            for side in sides:
                seconds = timers[call][side].timeit(count) - overhead
                times[call][side].append(seconds / count * 1e9)
        for module in SIDES.values():
            assert module.mq_fetch("q") == -2, "something was left"
    return times


READS = {
    "$mqk(q) of 8 bytes, KSR.pv.get": 'get("$mqk(q)")',
    "$mqv(q) of 100 bytes, KSR.pv.get": 'get("$mqv(q)")',
    "$mqk($var(q)), KSR.pv.get": 'get("$mqk($var(q))")',
    "$mq_size(q), KSR.pv.get": 'get("$mq_size(q)")',
    "$rU, KSR.pv.get (for comparison)": 'get("$rU")',
}


def reads(count: int) -> dict[str, float]:
    """Time reads of pseudo-variables in a server that has one of the modules: nanoseconds."""
    module, get = KSR.mqueue, KSR.pv.get
    KSR.pv.sets("$var(q)", "q")
    module.mq_add("q", KEY, VALUE)
    module.mq_add("q", KEY, VALUE)
    module.mq_fetch("q")
    assert get("$mqk($var(q))") == KEY
    names = {"get": get}
    times = {what: timeit.timeit(text, globals=names, number=count) / count * 1e9 for what, text in READS.items()}
    module.mq_fetch("q")
    return times


def unique_keys(rounds: int, count: int, depths: dict[str, int]) -> dict[str, list[float]]:
    """Time an add that replaces a key chosen at random (addmode 2). depths: side and depth as text → depth."""
    rng = random.Random(1)  # noqa: S311 no secret
    times: dict[str, list[float]] = {}
    for name, depth in depths.items():
        module = SIDES[name.partition("@")[0]]
        queue = f"newest{depth}"
        keys = [f"key{number:06d}" for number in range(depth)]
        for key in keys:
            module.mq_add(queue, key, VALUE)
        times[name] = []
        for _ in range(rounds):
            chosen = [rng.choice(keys) for _ in range(count)]
            add = module.mq_add
            begin = time.perf_counter_ns()
            for key in chosen:
                add(queue, key, VALUE)
            times[name].append((time.perf_counter_ns() - begin) / count)
        while module.mq_fetch(queue) == 1:
            pass
    return times


def grow(instance: str, items: int) -> dict[str, float]:
    """Let a queue grow, every add timed by itself; then drain it. Once by the clock, once by the thread's CPU time."""
    result = _grow(instance, items, time.perf_counter_ns)
    cpu = _grow(instance, items, time.thread_time_ns)
    for name in ("p99.9 add, us", "longest add, us", "adds over 1 ms"):
        result[f"{name} (CPU time)"] = cpu[name]
    return result


def _grow(instance: str, items: int, clock: Callable[[], int]) -> dict[str, float]:
    queue: Any = mqueue_kemi.attach("grow", instance)
    add = mqueue_kemi.mq_add
    times = array("Q", bytes(8 * items))
    keys = [f"{number:08d}" for number in range(items)]
    gc.disable()
    switched = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
    start = time.perf_counter()
    for number, key in enumerate(keys):
        begin = clock()
        add("grow", key, VALUE)
        times[number] = clock() - begin
    seconds = time.perf_counter() - start
    switched = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw - switched
    stats = queue.stats()
    assert stats.size == items, f"only {stats.size} of {items} items had room in /dev/shm"
    start = time.perf_counter()
    while mqueue_kemi.mq_fetch("grow") == 1:
        pass
    drained = time.perf_counter() - start
    gc.enable()
    file = os.fstat(queue._current.queue.segment.fd)
    queue.close()
    ordered = sorted(times)
    return {
        "items": items,
        "seconds to fill": seconds,
        "seconds to drain": drained,
        "median add, us": ordered[items // 2] / 1e3,
        "p99.9 add, us": ordered[items * 999 // 1000] / 1e3,
        "longest add, us": ordered[-1] / 1e3,
        "adds over 1 ms": sum(1 for one in ordered if one > 1_000_000),
        "times that it lost the CPU meanwhile": switched,
        "bytes an item": stats.memory / items,
        "of these key and value": len(KEY) + len(VALUE),
        "file after the drain, KiB": file.st_size / 1024,
        "memory after the drain, KiB": file.st_blocks / 2,
    }


def ring_for(count: int, pause: float) -> None:
    """Add items that say when they were added, for one that waits."""
    for _ in range(count):
        time.sleep(pause)
        mqueue_kemi.mq_add("wake", "", str(time.monotonic_ns()))
