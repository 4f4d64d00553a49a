"""What one item costs a SIP request: a real Kamailio under sipp, with no queue, with the C module and with ours.

One server has both modules, and the name in From says which one a request uses: so the server, its memory and what the
machine does meanwhile are the same for all. Requests of one kind come in short runs, and the kinds take turns.

Two figures. How much more CPU the worker used for a request than for one without a queue, as the kernel counts it; a
run differs from the next by more than an item costs, so the median of the runs' own differences stands with the bounds
between which it lies with a certainty of 95 % (by resampling). And how long `mq_add` itself took within the request,
by the clock, less what looking at the clock takes; the median does not feel interruptions.

The worker has a processor to itself, and priority over all else there, where that is allowed.
"""

from __future__ import annotations

import contextlib
import os
import random
import statistics
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kemi.names import KERNEL_VARIABLE
from tests.bench.endtoend import FIRST, UnderSipp, full
from tests.bench.sizes import kernels
from tests.bench.tables import KERNELS, Part, machine, markdown, number, ratio
from tests.server.harness import Servers

if TYPE_CHECKING:
    from collections.abc import Sequence

NONE, THEIRS, OURS = "no queue", "C module", "ours"
SENDERS = {NONE: "none", THEIRS: "theirs", OURS: "ours"}
_RESAMPLED = 2000

HANDLER = """
    from time import perf_counter_ns as clock
    from tests.server.remote.probe import state

    clock = staticmethod(clock)
    queues = {"none": None, "theirs": KSR.mqueue, "ours": mqueue_kemi}

    def request(self, msg):
        if KSR.pv.get("$rm") != "MESSAGE":
            KSR.sl.send_reply(200, "OK")
            return 1
        key, value = KSR.pv.gete("$rU"), "call from " + KSR.pv.gete("$fU")
        if KSR.tm.t_newtran() <= 0:
            return 1
        sender = KSR.pv.gete("$fU")
        queue = self.queues.get(sender)
        clock = self.clock
        begin = clock()
        added = queue.mq_add("q", key, value) if queue else 1
        taken = clock() - begin
        self.state.setdefault(sender, []).append(taken)
        KSR.tm.t_reply(202 if added == 1 else 503, "Accepted")
        return 1

    def ksr_consume(self, msg, event):
        for queue in (KSR.mqueue, mqueue_kemi):
            while queue.mq_fetch("q") == 1:
                queue.mqk_get("q")
                queue.mqv_get("q")
        return 1
"""


class Both(UnderSipp):
    """A server with both modules, and one worker."""

    def __init__(self, kernel: str) -> None:
        self._kernel = kernel
        cfg = 'children=1\nmodparam("mqueue", "mqueue", "name=q")'
        super().__init__(handler=HANDLER, timers=1, modules=["mqueue"], cfg=cfg)

    def env(self) -> dict[str, str]:
        return {KERNEL_VARIABLE: KERNELS[self._kernel]}

    def size(self) -> int:
        """Items in both queues."""
        return sum(max(0, int(self.run(f"return {module}.mq_size('q')"))) for module in ("KSR.mqueue", "mq"))

    def settle_down(self) -> None:
        """Give the worker a processor of its own, the other processes another one."""
        workers = self.pids("receiver")
        last = max(os.sched_getaffinity(0))
        others = os.sched_getaffinity(0) - {last} or {last}
        for pid in self.pids(""):
            with contextlib.suppress(OSError):
                os.sched_setaffinity(pid, {last} if pid in workers else others)
        for pid in workers:
            with contextlib.suppress(PermissionError):
                os.sched_setscheduler(pid, os.SCHED_RR, os.sched_param(1))

    def times(self) -> list[int]:
        """Nanoseconds around each add of this sender since the last look."""
        found: list[int] = self.run(f"return state.pop({self.sender!r}, [])")
        return found


def bounds(differences: Sequence[float]) -> tuple[float, float, float]:
    """The median, and between what it lies with a certainty of 95 %."""
    rng = random.Random(1)  # noqa: S311 no secret
    medians = sorted(statistics.median(rng.choices(differences, k=len(differences))) for _ in range(_RESAMPLED))
    return statistics.median(differences), medians[_RESAMPLED // 40], medians[-_RESAMPLED // 40]


def measure(quick: bool, only: str = "") -> dict[str, Any]:
    """All rounds. only: the name of a kernel."""
    starts, rounds, seconds = (1, 3, 0.3) if quick else (3, 40, 0.3)
    about = machine()
    cpu: dict[str, dict[str, list[float]]] = {}
    taken: dict[str, dict[str, list[float]]] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mqk-sipp-")))
        for _ in range(starts):
            for kernel in kernels():
                if only in kernel:
                    server = Servers(stack).start(Both(kernel))
                    _one_start(
                        server, rounds, seconds, folder, cpu.setdefault(kernel, {}), taken.setdefault(kernel, {})
                    )
                    server.stop()
    return {"machine": about, "starts": starts, "rounds": rounds, "seconds a run": seconds, "cpu": cpu, "taken": taken}


def _one_start(
    server: Both,
    rounds: int,
    seconds: float,
    folder: Path,
    cpu: dict[str, list[float]],
    taken: dict[str, list[float]],
) -> None:
    server.settle_down()
    server.sender = SENDERS[NONE]
    expected = full(server, FIRST, 1.0, folder).kept
    server.times()
    order = list(SENDERS)
    for _ in range(rounds):
        for name in order:
            server.sender = SENDERS[name]
            cpu.setdefault(name, []).append(full(server, expected, seconds, folder).cpu)
            taken.setdefault(name, []).append(statistics.median(server.times()))
        order = order[1:] + order[:1]


# --- the tables -------------------------------------------------------------------------------------------------------


def tables(results: dict[str, Any]) -> str:
    """What a README can show."""
    rows = []
    for kernel, cpu in results["cpu"].items():
        taken = results["taken"][kernel]
        for name in (THEIRS, OURS):
            differences = [used - without for used, without in zip(cpu[name], cpu[NONE])]
            middle, low, high = bounds(differences)
            adds = [with_it - without for with_it, without in zip(taken[name], taken[NONE])]
            beside = [with_it - without for with_it, without in zip(taken[THEIRS], taken[NONE])]
            label = f"{name}, {kernel}" if name == OURS else f"{name}, beside {kernel}"
            rows.append(
                [
                    label,
                    f"{middle:.1f}",
                    f"{low:.1f} to {high:.1f}",
                    number(statistics.median(adds)),
                    ratio(adds, beside),
                ]
            )
    without = [used for cpu in results["cpu"].values() for used in cpu[NONE]]
    intro = (
        f"{results['starts']} starts of {results['rounds']} runs of {results['seconds a run']:g} s for each; "
        f"a request without a queue takes {number(statistics.median(without))} µs of CPU."
    )
    head = ["", "CPU µs a request, above no queue", "with 95 % certainty", "mq_add in it, ns", "÷ C module"]
    return "\n".join([intro, "", *markdown(head, rows)])


def plots(results: dict[str, Any]) -> dict[str, str]:
    """None."""
    del results
    return {}


def part() -> Part:
    return Part("request", "What an item costs a SIP request", measure, tables, plots)
