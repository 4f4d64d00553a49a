"""End to end: the real Kamailio under sipp at rising rates, with no queue, with the C module and with ours.

Each MESSAGE makes a transaction, an item, and a 202; one timer process takes the items out. The three servers run side
by side, and each rate is tried on all of them in turn. A rate is sustained when at most one call in a thousand failed
or had to be sent again, and sipp kept the rate. CPU is that of the SIP workers, as the kernel counts it.
"""

from __future__ import annotations

import contextlib
import csv
import re
import statistics
import subprocess
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.bench.crew import cpu_of
from tests.bench.tables import Part, bars, lines, machine, markdown, number, ratio
from tests.server.harness import CHECKOUT, Kamailio, Servers, program
from tests.server.process import wait_until
from tests.server.sip import NoReplyError, send

if TYPE_CHECKING:
    from collections.abc import Sequence

NONE, THEIRS, OURS = "no queue", "C module", "ours"
VARIANTS = (NONE, THEIRS, OURS)
MODULE = {NONE: "None", THEIRS: "KSR.mqueue", OURS: "mqueue_kemi"}
WORKERS = 2
FIRST, RISE, FINEST = 250.0, 1.4, 1.03  # calls a second; the search ends when two rates are that close
MOST_BAD = 0.001
TRIES = 3  # what else goes on for a moment is not the server's limit
KEPT = 0.95  # of the rate that was asked for
_DRAINED_WITHIN = 30.0  # seconds, as all these
_PROBE_EVERY, _PROBE_WITHIN = 0.005, 2.0
_PAUSE = 0.5  # after a failure, in which what was sent again dies away
_START = 0.5  # that sipp may take to start and to end

HANDLER = """
    queue = {module}

    def request(self, msg):
        if KSR.pv.get("$rm") != "MESSAGE":
            KSR.sl.send_reply(200, "OK")
            return 1
        key, value = KSR.pv.gete("$rU"), "call from " + KSR.pv.gete("$fU")
        if KSR.tm.t_newtran() <= 0:
            return 1
        added = self.queue.mq_add("q", key, value) if self.queue else 1
        KSR.tm.t_reply(202 if added == 1 else 503, "Accepted")
        return 1

    def ksr_consume(self, msg, event):
        queue = self.queue
        while queue and queue.mq_fetch("q") == 1:
            queue.mqk_get("q")
            queue.mqv_get("q")
        return 1
"""


class Loaded(Kamailio):
    """A server of one variant."""

    def __init__(self, variant: str) -> None:
        self.variant = variant
        cfg = f"children={WORKERS}"
        modules = ["mqueue"] if variant == THEIRS else []
        if modules:
            cfg += '\nmodparam("mqueue", "mqueue", "name=q")'
        handler = HANDLER.format(module=MODULE[variant])
        super().__init__(
            handler=handler, timers=1, modules=modules, cfg=cfg if modules else cfg.split("\n", maxsplit=1)[0]
        )

    def options(self) -> list[str]:
        return ["-m", "512"]

    def pids(self, what: str) -> list[int]:
        """The processes whose description has this in it."""
        found = re.findall(r"(\d+)\s+([^\n]*)", self.kamcmd("core.ps"))
        return [int(pid) for pid, description in found if what in description]

    def size(self) -> int:
        """Items in the queue."""
        if self.variant == NONE:
            return 0
        return max(0, int(self.run(f"return {MODULE[self.variant].replace('mqueue_kemi', 'mq')}.mq_size('q')")))


@dataclass
class Step:
    """What came of one rate."""

    rate: float
    kept: float  # calls a second that sipp made
    bad: float  # part of the calls that failed, or were sent again
    cpu: float  # microseconds of the workers for a call
    consumer: float  # the same of the timer process
    p99: float  # milliseconds from the request to the answer
    sustained: bool = field(init=False)

    def __post_init__(self) -> None:
        self.sustained = self.bad <= MOST_BAD and self.kept >= KEPT * self.rate


def sipp(port: int, rate: float, seconds: float, folder: Path) -> tuple[dict[str, str], list[float]]:
    """Send calls at that rate. Returns the last line of sipp's statistics, and the milliseconds of answers.

    The answers are those to a client of our own, beside sipp, whose clock ticks in steps of some milliseconds.
    """
    calls, statistics_file = int(rate * seconds), folder / "stat.csv"
    argv = [program("sipp"), f"127.0.0.1:{port}", "-i", "127.0.0.1", "-nostdin"]
    argv += ["-sf", str(CHECKOUT / "conf/sipp/message.xml"), "-key", "sender", "alice"]
    argv += ["-r", f"{rate:.0f}", "-m", str(calls), "-l", str(calls), "-timeout", f"{seconds * 3 + 5:.0f}"]
    argv += ["-trace_stat", "-stf", str(statistics_file), "-fd", "1"]
    statistics_file.unlink(missing_ok=True)
    answers = []
    with subprocess.Popen(argv, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            time.sleep(_PROBE_EVERY)
            begin = time.perf_counter()
            with contextlib.suppress(NoReplyError):  # counts as that long
                send(port, "MESSAGE").result(_PROBE_WITHIN)
            answers.append((time.perf_counter() - begin) * 1e3)
    with statistics_file.open(encoding="ascii") as file:
        last = list(csv.DictReader(file, delimiter=";"))[-1]
    return last, sorted(answers)


def step(server: Loaded, rate: float, seconds: float, folder: Path) -> Step:
    """One rate on one server; afterwards its queue is empty again."""
    groups = [server.pids("receiver"), server.pids("TIMER EXEC")]
    before = [cpu_of(pids) for pids in groups]
    begin = time.monotonic()
    last, answers = sipp(server.ports[0], rate, seconds, folder)
    took = time.monotonic() - begin
    used = [cpu_of(pids) - at for pids, at in zip(groups, before)]
    made = int(last["TotalCallCreated"])
    planned = int(rate * seconds)
    bad = int(last["FailedCall(C)"]) + int(last["Retransmissions(C)"]) + (planned - made)
    wait_until(lambda: server.size() == 0, "the queue is empty", _DRAINED_WITHIN)
    return Step(
        rate=rate,
        kept=made / max(seconds, took - _START),
        bad=bad / planned,
        cpu=used[0] / max(1, made) * 1e6,
        consumer=used[1] / max(1, made) * 1e6,
        p99=answers[min(len(answers) - 1, len(answers) * 99 // 100)],
    )


class Search:
    """The highest rate that one server sustains: up by RISE until it fails, then ever closer from both sides."""

    def __init__(self, server: Loaded) -> None:
        self.server = server
        self.steps: list[Step] = []
        self.good, self.failed = 0.0, 0.0

    def next_rate(self) -> float:
        """The rate to try; 0 when the search is over."""
        if not self.failed:
            return self.good * RISE or FIRST
        if self.failed / max(self.good, 1.0) <= FINEST or self.failed < FIRST / 8:
            return 0.0
        return float((max(self.good, self.failed / 2) * self.failed) ** 0.5)

    def go_on(self, seconds: float, folder: Path) -> bool:
        """Try the next rate, again if it failed. False when the search is over."""
        rate = self.next_rate()
        if not rate:
            return False
        for _ in range(TRIES):
            done = step(self.server, rate, seconds, folder)
            self.steps.append(done)
            if done.sustained:
                self.good = max(self.good, rate)
                return True
            time.sleep(_PAUSE)
        self.failed = rate
        return True


def measure(quick: bool, only: str = "") -> dict[str, Any]:
    """All rounds. only: not used."""
    del only
    rounds, seconds = (1, 1.0) if quick else (3, 4.0)
    about = machine()
    begin = time.monotonic()
    found: dict[str, list[Search]] = {variant: [] for variant in VARIANTS}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mqk-sipp-")))
        servers = Servers(stack)
        running = [servers.start(Loaded(variant)) for variant in VARIANTS]
        for turn in range(rounds):
            searches = [Search(server) for server in running]
            going = searches[turn % 3 :] + searches[: turn % 3]
            while going:
                going = [search for search in going if search.go_on(seconds, folder)]
            for search in searches:
                found[search.server.variant].append(search)
    return {
        "machine": about,
        "rounds": rounds,
        "seconds a rate": seconds,
        "workers": WORKERS,
        "seconds": time.monotonic() - begin,
        "sustained": {variant: [search.good for search in some] for variant, some in found.items()},
        "steps": {variant: [[vars(one) for one in search.steps] for search in some] for variant, some in found.items()},
    }


# --- the tables -------------------------------------------------------------------------------------------------------


def common_rate(results: dict[str, Any]) -> float:
    """The highest rate that all of them sustained in all rounds, among those that all tried."""
    rates: list[set[float]] = [
        {one["rate"] for one in steps if one["sustained"]} for some in results["steps"].values() for steps in some
    ]
    return max(set.intersection(*rates), default=0.0)


def _at(rounds: Sequence[Sequence[dict[str, Any]]], rate: float, what: str) -> list[float]:
    return [float(one[what]) for steps in rounds for one in steps if one["rate"] == rate and one["sustained"]]


def tables(results: dict[str, Any]) -> str:
    """What a README can show."""
    rate = common_rate(results)
    sustained = results["sustained"]
    rows = []
    for variant in VARIANTS:
        some = results["steps"][variant]
        cells = [_at(some, rate, what) for what in ("cpu", "consumer", "p99")]
        rows.append(
            [
                variant,
                number(statistics.median(sustained[variant])),
                ratio(sustained[variant], sustained[THEIRS]),
                *(number(statistics.median(cell)) if cell else "-" for cell in cells),
            ]
        )
    head = ["", "calls/s sustained", "÷ C module", "CPU µs of the workers a call", "of the consumer", "p99 ms"]
    intro = (
        f"sipp sends MESSAGE to {results['workers']} workers, {results['seconds a rate']:g} s at each rate, "
        f"{results['rounds']} rounds. CPU and p99 at {rate:.0f} calls/s, which all sustained."
    )
    return "\n".join([intro, "", *markdown(head, rows)])


def plots(results: dict[str, Any]) -> dict[str, str]:
    """CPU by rate, and the sustained rates."""
    series: dict[str, list[tuple[float, float]]] = {}
    for variant in VARIANTS:
        steps = [one for some in results["steps"][variant] for one in some if one["sustained"]]
        rates = sorted({one["rate"] for one in steps})
        series[variant] = [
            (rate, statistics.median(one["cpu"] * one["kept"] / 1e4 for one in steps if one["rate"] == rate))
            for rate in rates
        ]
    sustained = {variant: [statistics.median(results["sustained"][variant]) or 1.0] for variant in reversed(VARIANTS)}
    drawn = {"sustained": bars("Calls a second sustained", [""], sustained)}
    if all(series.values()):
        drawn["cpu"] = lines("CPU of the workers, % of one core", "calls a second", series, labels=4)
    return drawn


def part() -> Part:
    return Part("endtoend", "End to end: Kamailio under sipp", measure, tables, plots)
