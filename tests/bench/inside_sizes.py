"""Runs inside the measured server: one round of each call for one length of values, ours and the C module in turn.

CPU time of the thread, not the clock: nothing here waits, and whoever takes the CPU away hits the longer call more.
"""

from __future__ import annotations

import itertools
import random
import time
import timeit
from typing import Any

import KSR  # noqa: TID251 it runs inside the server

import mqueue_kemi

OURS, THEIRS = "ours", "C module"
SIDES: dict[str, Any] = {OURS: mqueue_kemi, THEIRS: KSR.mqueue}
KEY = "key12345"
GROW, DEPTHS, KEYED = "grow", (0, 100, 100_000), (10, 1000, 10_000, 100_000)
THEIR_MOST = 10_000  # their addmode looks at every item
MODES = {1: "oldest", 2: "newest"}
CHANGING = "changing"  # with the mode and the depth: queues whose keys are others in every round

Times = dict[str, dict[str, float]]  # case → side → nanoseconds a call

IN_TURN = {
    f"add and fetch in turn at {depth:,}": f"mq_add('deep{depth}', KEY, VALUE); mq_fetch('deep{depth}')"
    for depth in DEPTHS
}
ALL_FOUR = "add, fetch, key and value in turn at 100"
AT_100 = {
    ALL_FOUR: "mq_add('deep100', KEY, VALUE); mq_fetch('deep100'); mqk_get('deep100'); mqv_get('deep100')",
    "key and value": "mqk_get('deep100'); mqv_get('deep100')",
    "size": "mq_size('deep100')",
}
_fresh = itertools.count(1)
_rng = random.Random(1)  # noqa: S311 no secret


def names(side: str, size: int) -> dict[str, Any]:
    """What the timed texts use."""
    module = SIDES[side]
    calls = {name: getattr(module, name) for name in dir(module) if name.startswith("mq")}
    return {**calls, "KEY": KEY, "VALUE": "v" * size}


def prepare(size: int) -> None:
    """Fill the queues that have a depth."""
    for module in SIDES.values():
        for depth in DEPTHS:
            for _ in range(depth):
                assert module.mq_add(f"deep{depth}", KEY, "v" * size) == 1


def finish() -> None:
    """Empty them."""
    for module in SIDES.values():
        for depth in DEPTHS:
            while module.mq_fetch(f"deep{depth}") == 1:
                pass
            module.mq_pv_free(f"deep{depth}")


def one_round(size: int, count: int, number: int) -> Times:
    """Each case once. Who comes first changes with every round."""
    sides = list(SIDES) if number % 2 else list(reversed(SIDES))
    scopes = {side: names(side, size) for side in SIDES}
    empty = min(timeit.repeat("pass", number=count, repeat=3, timer=time.thread_time))
    cases = {
        "add while growing": "mq_add('grow', KEY, VALUE)",
        "fetch while draining": "mq_fetch('grow')",
        **IN_TURN,
        **AT_100,
    }
    times: Times = {case: {} for case in cases}
    for case, text in cases.items():
        for side in sides:
            seconds = timeit.timeit(text, globals=scopes[side], number=count, timer=time.thread_time) - empty
            times[case][side] = seconds / count * 1e9
    return times


# --- unique keys ------------------------------------------------------------------------------------------------------


def _keys(depth: int) -> list[str]:
    return [f"key{number:06d}" for number in range(depth)]


def prepare_keyed(size: int, most: int) -> None:
    """Fill the queues with unique keys, up to a depth of `most`."""
    for side, module in SIDES.items():
        for depth in _depths(side, most):
            for name in _queues(depth):
                for key in _keys(depth):
                    module.mq_add(name, key, "v" * size)


def finish_keyed(most: int) -> None:
    """Empty them."""
    for side, module in SIDES.items():
        for depth in _depths(side, most):
            for name in _queues(depth):
                while module.mq_fetch(name) == 1:
                    pass


def _queues(depth: int) -> list[str]:
    return [queue for mode, name in MODES.items() for queue in (f"{name}{depth}", f"{CHANGING}{mode}{depth}")]


def _depths(side: str, most: int) -> list[int]:
    return [depth for depth in KEYED if depth <= (most if side == OURS else min(most, THEIR_MOST))]


def keyed_round(size: int, count: int, most: int) -> Times:
    """Addmode 1 and 2 with keys that are there, chosen at random, with one of them again and again, and with new ones.

    And both calls in turn: the oldest item is fetched and added anew.
    """
    times: Times = {}
    value = "v" * size
    for mode, name in MODES.items():
        # Depth by depth, side by side: what the machine does meanwhile meets all.
        for depth in KEYED:
            for side, module in SIDES.items():
                if depth not in _depths(side, most):
                    continue
                # Their calls take long: a tenth as many of them.
                calls = count if side == OURS or depth < THEIR_MOST else max(20, count // 10)
                chosen = _rng.choices(_keys(depth), k=calls)
                times.setdefault(f"addmode {mode}, key is there@{depth}", {})[side] = _adds(
                    module, f"{name}{depth}", chosen, value
                )
                times.setdefault(f"addmode {mode}, the same key@{depth}", {})[side] = _adds(
                    module, f"{name}{depth}", _keys(depth)[depth // 2 : depth // 2 + 1] * calls, value
                )
                few = min(calls, max(10, depth // 10))  # so that the depth stays about what it is
                times.setdefault(f"addmode {mode}, new key@{depth}", {})[side] = _new(
                    module, f"{CHANGING}{mode}{depth}", few, value
                )
                times.setdefault(f"addmode {mode}, fetch and add it anew@{depth}", {})[side] = _turns(
                    module, f"{name}{depth}", calls, value
                )
    return times


def _adds(module: Any, queue: str, keys: list[str], value: str) -> float:
    add = module.mq_add
    begin = time.thread_time_ns()
    for key in keys:
        add(queue, key, value)
    return (time.thread_time_ns() - begin) / len(keys)


def _new(module: Any, queue: str, count: int, value: str) -> float:
    """Keys that are not there; as many of the oldest are taken out again."""
    add = module.mq_add
    keys = [f"new{number:06d}" for number in (next(_fresh) for _ in range(count))]
    begin = time.thread_time_ns()
    for key in keys:
        add(queue, key, value)
    used = time.thread_time_ns() - begin
    for _ in keys:
        module.mq_fetch(queue)
    return used / count


def _turns(module: Any, queue: str, count: int, value: str) -> float:
    """The oldest is taken and added again, so the queue keeps its keys."""
    add, fetch, taken = module.mq_add, module.mq_fetch, module.mqk_get
    begin = time.thread_time_ns()
    for _ in range(count):
        fetch(queue)
        add(queue, taken(queue), value)
    return (time.thread_time_ns() - begin) / count
