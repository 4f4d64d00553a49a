"""End to end: the real Kamailio under sipp at rising rates, with no queue, with the C module and with ours.

Each MESSAGE makes a transaction, an item, and a 202; one timer process takes the items out. The three servers run side
by side, and take turns.

What is sustained is measured with so many calls under way at any time: sipp begins one whenever one is answered, so
the server decides on the rate; the table says in how many rounds a call failed or was sent again. Below that, rates
rise until one is not kept: then calls fail, or are sent again, which a moment's absence of the processor does as well,
so that this end says less.
CPU is that of the SIP workers, as the kernel counts it. What one item costs a request is less than what these rounds
differ by: see `request`.
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
from typing import Any

from kemi.names import KERNEL_VARIABLE
from tests.bench.crew import cpu_of
from tests.bench.sizes import kernels
from tests.bench.tables import KERNELS, Part, bars, lines, machine, markdown, number, ratio
from tests.server.harness import CHECKOUT, Kamailio, Servers, program
from tests.server.process import wait_until
from tests.server.sip import NoReplyError, send

NONE, THEIRS = "no queue", "C module"
OURS = {f"ours, {kernel}": kernel for kernel in kernels()}
VARIANTS = (NONE, THEIRS, *OURS)
MODULE = {NONE: "None", THEIRS: "KSR.mqueue", **dict.fromkeys(OURS, "mqueue_kemi")}
WORKERS = 2
FIRST, RISE = 500.0, 1.6  # calls a second
UNDER_WAY = 64  # calls
ANY_RATE = 100_000.0
MOST_BAD = 0.001
TRIES = 3  # what else goes on for a moment is not the server's limit
KEPT = 0.95  # of the rate that was asked for
_DRAINED_WITHIN = 30.0  # seconds, as all these
_PROBE_EVERY, _PROBE_WITHIN = 0.005, 2.0
_PAUSE = 0.5  # after a failure, in which what was sent again dies away
_ENDS_WITHIN = 60.0

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


class UnderSipp(Kamailio):
    """A server to which sipp sends requests."""

    sender = "alice"  # in From

    def options(self) -> list[str]:
        return ["-m", "512"]

    def pids(self, what: str) -> list[int]:
        """The processes whose description has this in it."""
        found = re.findall(r"(\d+)\s+([^\n]*)", self.kamcmd("core.ps"))
        return [int(pid) for pid, description in found if what in description]

    def size(self) -> int:
        """Items that are queued."""
        raise NotImplementedError


class Loaded(UnderSipp):
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

    def env(self) -> dict[str, str]:
        return {KERNEL_VARIABLE: KERNELS[OURS[self.variant]]} if self.variant in OURS else {}

    def size(self) -> int:
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


def sipp(
    server: UnderSipp, rate: float, calls: int, under_way: int, folder: Path
) -> tuple[dict[str, str], list[float]]:
    """Make so many calls at that rate, never more at a time than `under_way`.

    Returns the last line of sipp's statistics, and the milliseconds of answers, sorted: those to a client of our own,
    beside sipp, whose clock ticks in steps of some milliseconds.
    """
    statistics_file = folder / "stat.csv"
    argv = [program("sipp"), f"127.0.0.1:{server.ports[0]}", "-i", "127.0.0.1", "-nostdin"]
    argv += ["-sf", str(CHECKOUT / "conf/sipp/message.xml"), "-key", "sender", server.sender]
    argv += ["-r", f"{rate:.0f}", "-m", str(calls), "-l", str(under_way), "-timeout", f"{_ENDS_WITHIN:.0f}"]
    argv += ["-trace_stat", "-stf", str(statistics_file), "-fd", "1"]
    statistics_file.unlink(missing_ok=True)
    answers = []
    with subprocess.Popen(argv, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            time.sleep(_PROBE_EVERY)
            begin = time.perf_counter()
            with contextlib.suppress(NoReplyError):  # counts as that long
                send(server.ports[0], "MESSAGE").result(_PROBE_WITHIN)
            answers.append((time.perf_counter() - begin) * 1e3)
    with statistics_file.open(encoding="ascii") as file:
        last = list(csv.DictReader(file, delimiter=";"))[-1]
    return last, sorted(answers)


def step(server: UnderSipp, rate: float, calls: int, under_way: int, folder: Path) -> Step:
    """So many calls at one rate on one server; afterwards its queue is empty again."""
    groups = [server.pids("receiver"), server.pids("TIMER EXEC")]
    before = [cpu_of(pids) for pids in groups]
    last, answers = sipp(server, rate, calls, under_way, folder)
    used = [cpu_of(pids) - at for pids, at in zip(groups, before)]
    made = int(last["TotalCallCreated"])
    bad = int(last["FailedCall(C)"]) + int(last["Retransmissions(C)"]) + (calls - made)
    wait_until(lambda: server.size() == 0, "the queue is empty", _DRAINED_WITHIN)
    return Step(
        rate=rate,
        kept=float(last["CallRate(C)"]),
        bad=bad / calls,
        cpu=used[0] / max(1, made) * 1e6,
        consumer=used[1] / max(1, made) * 1e6,
        p99=answers[min(len(answers) - 1, len(answers) * 99 // 100)],
    )


class Rise:
    """Rates that rise until one server does not sustain them."""

    def __init__(self, server: Loaded) -> None:
        self.server = server
        self.steps: list[Step] = []

    def go_on(self, seconds: float, folder: Path) -> bool:
        """Try the next rate, again if it failed. False when it failed for good."""
        rate = self.steps[-1].rate * RISE if self.steps else FIRST
        for _ in range(TRIES):
            calls = int(rate * seconds)
            done = step(self.server, rate, calls, calls, folder)
            self.steps.append(done)
            if done.sustained:
                return True
            time.sleep(_PAUSE)
        return False


def full(server: UnderSipp, rate: float, seconds: float, folder: Path) -> Step:
    """As fast as the server answers, for some seconds. rate: what may be expected."""
    return step(server, ANY_RATE, int(rate * seconds), UNDER_WAY, folder)


def measure(quick: bool, only: str = "") -> dict[str, Any]:
    """All rounds. only: not used."""
    del only
    rounds, rises, seconds = (2, 1, 1.0) if quick else (15, 3, 3.0)
    about = machine()
    begin = time.monotonic()
    most: dict[str, list[Step]] = {variant: [] for variant in VARIANTS}
    rising: dict[str, list[Step]] = {variant: [] for variant in VARIANTS}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mqk-sipp-")))
        servers = Servers(stack)
        running = [servers.start(Loaded(variant)) for variant in VARIANTS]
        expected = full(running[0], FIRST, 1.0, folder).kept
        for turn in range(rounds):
            for server in running[turn % len(VARIANTS) :] + running[: turn % len(VARIANTS)]:
                most[server.variant].append(full(server, expected, seconds, folder))
        for turn in range(rises):
            rises_of = [Rise(server) for server in running]
            going = rises_of[turn % len(VARIANTS) :] + rises_of[: turn % len(VARIANTS)]
            while going:
                going = [rise for rise in going if rise.go_on(seconds, folder)]
            for rise in rises_of:
                rising[rise.server.variant] += rise.steps
    return {
        "machine": about,
        "rounds": rounds,
        "rises": rises,
        "seconds a rate": seconds,
        "workers": WORKERS,
        "under way": UNDER_WAY,
        "seconds": time.monotonic() - begin,
        "most": {variant: [vars(one) for one in some] for variant, some in most.items()},
        "rising": {variant: [vars(one) for one in some] for variant, some in rising.items()},
    }


# --- the tables -------------------------------------------------------------------------------------------------------


def tables(results: dict[str, Any]) -> str:
    """What a README can show."""
    rounds = f"{results['rounds']} rounds of {results['seconds a rate']:g} s"
    intro = f"sipp sends MESSAGE to {results['workers']} workers, {rounds}, {results['under way']} calls under way."
    rows = []
    for variant, steps in results["most"].items():
        of = {what: [one[what] for one in steps] for what in ("kept", "cpu", "consumer", "p99")}
        cells = [number(statistics.median(of[what])) for what in ("cpu", "consumer", "p99")]
        theirs = [one["kept"] for one in results["most"][THEIRS]]
        bad = sum(one["bad"] > 0 for one in steps)
        rows.append([variant, number(statistics.median(of["kept"])), ratio(of["kept"], theirs), *cells, str(bad)])
    head = [
        "",
        "calls/s",
        "÷ C module",
        "CPU µs of the workers a call",
        "of the consumer",
        "p99 ms",
        "rounds with a bad call",
    ]
    return "\n".join([intro, "", *markdown(head, rows), "", *_rising(results)])


def _rising(results: dict[str, Any]) -> list[str]:
    """CPU and p99 by rate, where all of them sustained it."""
    by_rate: dict[float, dict[str, list[dict[str, Any]]]] = {}
    for variant, steps in results["rising"].items():
        for one in steps:
            if one["sustained"]:
                by_rate.setdefault(one["rate"], {}).setdefault(variant, []).append(one)
    rows = [
        [
            f"{rate:,.0f}",
            *(
                number(statistics.median(one[what] for one in sides[variant])) if variant in sides else "-"
                for what in ("cpu", "p99")
                for variant in VARIANTS
            ),
        ]
        for rate, sides in sorted(by_rate.items())
    ]
    head = ["calls/s", *(f"{what}, {variant}" for what in ("CPU µs a call", "p99 ms") for variant in VARIANTS)]
    return markdown(head, rows) if rows else []


def plots(results: dict[str, Any]) -> dict[str, str]:
    """CPU by rate, and what is sustained."""
    series: dict[str, list[tuple[float, float]]] = {}
    for variant in VARIANTS:
        steps = [one for one in results["rising"][variant] if one["sustained"]]
        rates = sorted({one["rate"] for one in steps})
        series[variant] = [
            (rate, statistics.median(one["cpu"] * one["kept"] / 1e4 for one in steps if one["rate"] == rate))
            for rate in rates
        ]
    kept = {v: [statistics.median(one["kept"] for one in results["most"][v])] for v in reversed(VARIANTS)}
    drawn = {"sustained": bars("Calls a second sustained", [""], kept)}
    if all(series.values()):
        drawn["cpu"] = lines("CPU of the workers, % of one core", "calls a second", series, labels=4)
    return drawn


def part() -> Part:
    return Part("endtoend", "End to end: Kamailio under sipp", measure, tables, plots)
