"""Calls through a server that relays and accounts (acc, dialog and acc_json beside app_python3); sipp at both ends."""

from __future__ import annotations

import contextlib
import json
import subprocess
import textwrap
from subprocess import DEVNULL
from typing import TYPE_CHECKING, Any

from tests.server import sip
from tests.server.harness import Kamailio, Server, program
from tests.server.process import wait_until
from tests.support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ACC_FLAG = 1
CALL_WITHIN = 60  # seconds
SIPP = (program("sipp"), "-i", sip.HOST, "-nostdin", "-nr")
OUTPUTS = {"acc_output_mqueue": "acc", "cdr_output_mqueue": "cdr"}

RELAY = """
    def request(self, msg):
        if KSR.is_method("INVITE"):
            KSR.setflag({flag})
            KSR.rr.record_route()
        if KSR.is_method_in("IB"):
            KSR.dialog.dlg_manage()
        KSR.pv.sets("$du", "sip:{host}:{port}")
        KSR.pv.sets("$fs", "udp:{host}:%d" % KSR.pv.get("$Rp"))  # so that its replies come to this worker too
        KSR.tm.t_relay()
        return 1

    def ksr_onsend_route(self, msg):
        return 1

    def ksr_reply_route(self, msg):
        return 1
"""


def parameters(module: str, **values: object) -> list[str]:
    """Return lines of modparam."""
    return [
        f'modparam("{module}", "{name}", {value if isinstance(value, int) else chr(34) + str(value) + chr(34)})'
        for name, value in values.items()
    ]


class Calls(Server):
    """A proxy that calls go through."""

    called_port: int

    @contextlib.contextmanager
    def called(self) -> Iterator[None]:
        """Have somebody who answers."""
        argv = [*SIPP, "-sn", "uas", "-p", str(self.called_port)]
        process = subprocess.Popen(argv, cwd=self.home, stdout=DEVNULL, stderr=DEVNULL, stdin=DEVNULL)
        try:
            yield
        finally:
            process.kill()
            process.wait()

    def caller(self, count: int = 1, worker: int = 0, pause: int = 0) -> subprocess.Popen[str]:
        """Make so many calls; each ends `pause` milliseconds after it was answered."""
        argv = [
            *SIPP,
            "-sn",
            "uac",
            "-m",
            str(count),
            "-r",
            "50",
            "-l",
            "4",
            "-d",
            str(pause),
            "-timeout",
            f"{CALL_WITHIN}s",
        ]
        argv += [f"{sip.HOST}:{self.ports[worker]}", "-p", str(free_port())]
        output = subprocess.PIPE
        return subprocess.Popen(argv, cwd=self.home, stdout=output, stderr=output, stdin=DEVNULL, text=True)

    def calls(self, count: int = 1) -> None:
        """Make so many calls by each worker at once, and wait until all are over."""
        with self.called():
            callers = [self.caller(count, worker) for worker in range(len(self.ports))]
            for caller in callers:
                out, err = caller.communicate(timeout=CALL_WITHIN + 30)
                if caller.returncode != 0:
                    self.process.fail(f"sipp: {caller.returncode}: {out[-2000:]}{err[-2000:]}")


class Accounting(Calls, Kamailio):
    """A proxy whose calls acc_json accounts to queues; `outputs` are its parameters that name them."""

    def __init__(  # noqa: PLR0913 keywords, each with a default
        self,
        definitions: Sequence[str] = ("name=acc", "name=cdr"),
        *,
        outputs: Mapping[str, object] = OUTPUTS,
        early: bool = False,
        prelude: str = "",
        more: str = "",
        workers: int = 1,
        cfg: str = "",
        user: str = "",
    ) -> None:
        """Set it up.

        early: acc_json is loaded before app_python3. prelude: lines of the script before its class, more: in the class.
        """
        self.called_port = free_port()
        self._prelude = textwrap.dedent(prelude)
        lines = [
            *([] if early else ['loadmodule "acc_json.so"']),
            # sipp gives a call up that is asked for twice, as a busy machine does it.
            *parameters("tm", retr_timer1=60_000, retr_timer2=60_000, fr_timer=90_000),
            *parameters("dialog", dlg_match_mode=2),
            *parameters("acc", cdr_enable=1, cdr_log_enable=0, log_level=3),
            *parameters("acc_json", acc_flag=ACC_FLAG, cdr_enable=1, **outputs),
            cfg,
        ]
        relay = RELAY.format(flag=ACC_FLAG, host=sip.HOST, port=self.called_port)
        super().__init__(
            definitions,
            handler=textwrap.dedent(relay) + textwrap.dedent(more),
            modules=["rr", "dialog", "acc", *(["acc_json"] if early else [])],
            cfg="\n".join(lines),
            workers=workers,
            user=user,
        )

    def write_script(self, definitions: Sequence[str], params: Sequence[tuple[str, object]] = ()) -> None:
        super().write_script(definitions, params)
        script = self.home / "script.py"
        before, start, after = script.read_text("utf-8").partition("class Script(Probe):")
        script.write_text(f"{before}{self._prelude}\n{start}{after}", "utf-8")

    def _config_text(self, timers: int, modules: Sequence[str], cfg: str) -> str:
        # What belongs to modules that are loaded later comes after them.
        text = super()._config_text(timers, modules, "")
        head, engine, _ = text.partition('cfgengine "python"')
        return f"{head}{cfg}\n{engine}\n"

    def records(self, queue: str, count: int) -> list[dict[str, Any]]:
        """Take that many records from a queue, and no more are there."""
        wait_until(lambda: self.run(f"return mq.mq_size({queue!r})") >= count, f"{count} records in {queue}")
        take = "[(mq.mq_fetch({0!r}), mq.mqk_get({0!r}), mq.mqv_get({0!r})) for _ in range({1})]"
        *found, last = self.run("return " + take.format(queue, count + 1))
        assert last == (-2, None, None)
        assert {key for _, key, _ in found} == {queue[:3]}
        return [json.loads(value) for _, _, value in found]
