"""Where the time of a call goes: what each of its statements adds (`steps`), and what cProfile counts for addmode."""

from __future__ import annotations

import cProfile
import pstats
import statistics
import time
import timeit
from typing import Any, Callable

import mqueue_kemi
from tests.bench import steps
from tests.bench.tables import Part, machine, markdown, number
from tests.processes.serve import Serve

VALUE = steps.VALUE
DEPTH = 10_000

WHOLE = {
    "add": "mq_add('q', KEY, VALUE)",
    "fetch": "mq_fetch('q')",
    "key and value": "mqk_get('q'); mqv_get('q')",
}
KEYED = {
    "addmode 1, the key is there": ("oldest", "mq_add('oldest', next(keys), VALUE)"),
    "addmode 2, the key is there": ("newest", "mq_add('newest', next(keys), VALUE)"),
    "addmode 2, fetch and add it anew": ("newest", "mq_fetch('newest'); mq_add('newest', mqk_get('newest'), VALUE)"),
}


def whole(rounds: int, count: int) -> dict[str, float]:
    """Nanoseconds of CPU of the calls themselves: a queue that grows, and is drained."""
    names = {**vars(mqueue_kemi), "KEY": steps.KEY, "VALUE": VALUE}
    timers = {call: timeit.Timer(text, globals=names, timer=time.thread_time) for call, text in WHOLE.items()}
    found: dict[str, list[float]] = {call: [] for call in WHOLE}
    for _ in range(rounds):
        for call, timer in timers.items():
            found[call].append(timer.timeit(count) / count * 1e9)
    return {call: statistics.median(times) for call, times in found.items()}


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
        results["whole"] = whole(rounds, count)
        results["steps"] = steps.measure(queue._mutex, rounds, count)
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
    lengths = f"a key of {len(steps.KEY)} and a value of {len(VALUE)} bytes"
    text = [f"Nanoseconds of CPU, medians of {results['rounds']} rounds, {lengths}.", ""]
    for call, of in results["steps"].items():
        took = results["whole"][call]
        rest = took - sum(of.values())
        rows = [[step, number(value), f"{value / took:.0%}"] for step, value in of.items()]
        rows.append(["what the real call takes longer: other memory each time", number(rest), f"{rest / took:.0%}"])
        text += [*markdown([call, "ns", "of all"], [*rows, ["all of it", number(took), ""]]), ""]
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
