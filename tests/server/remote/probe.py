"""Runs inside the tested server: the handler that does what a test asks of one process.

An INFO request carries the path of a job file in its body. The job is run, its outcome is written beside the
file as a Python literal, and the reply says that it is there. Any other request is the script's own.
"""

from __future__ import annotations

import os
import traceback
from pathlib import Path
from typing import Any

import KSR

import mqueue_kemi

state: dict[str, Any] = {}  # what a job keeps for a later job of the same process


def run_job(path: Path) -> object:
    """Run the function `job` of that file; its globals are the two modules and this process's `state`."""
    scope: dict[str, Any] = {"KSR": KSR, "mq": mqueue_kemi, "state": state}
    exec(compile(path.read_text("ascii"), str(path), "exec"), scope)  # noqa: S102 the test wrote it
    return scope["job"]()


def outcome(path: Path) -> tuple[object, ...]:
    """Say what the job returned or raised, in plain values."""
    try:
        return ("returned", run_job(path))
    except Exception as error:  # noqa: BLE001 it is handed to the test
        return ("raised", type(error).__name__, str(error), traceback.format_exc())


class Probe:
    """A routing script whose requests and timers a test may override."""

    consumed = ""  # the folder for what the timers took; the generated script sets it

    def child_init(self, _rank: int) -> int:
        return 0

    def ksr_request_route(self, msg: object) -> int:
        if KSR.pv.get("$rm") != "INFO":
            return self.request(msg)
        path = Path(KSR.pv.get("$rb"))
        draft = path.with_suffix(".draft")
        draft.write_text(ascii(outcome(path)), "ascii")
        draft.rename(path.with_suffix(".out"))
        KSR.sl.send_reply(200, "Done")
        return 1

    def request(self, _msg: object) -> int:
        """Answer what is not a job."""
        KSR.sl.send_reply(200, "OK")
        return 1

    def ksr_consume(self, _msg: object, _event: str) -> int:
        """Take everything from the queue `q`, one line an item into this process's own file."""
        with Path(self.consumed, str(os.getpid())).open("a", encoding="ascii") as file:
            while mqueue_kemi.mq_fetch("q") == 1:
                file.write(ascii((mqueue_kemi.mqk_get("q"), mqueue_kemi.mqv_get("q"))) + "\n")
        return 1
