# SPDX-License-Identifier: GPL-2.0-or-later
"""The demo of a worker: calls go in, a worker is killed in the middle of writing them, and each is in the table once.

demo.sh --worker starts it, in the project's root. The worker is cdr_worker.py, the server kamailio-cdr.cfg.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from conf.demo import (
    CONF,
    DRAIN_WITHIN,
    HOST,
    INSTANCE,
    REQUESTS,
    SAMPLE_EVERY,
    SEND_WITHIN,
    STOP_WITHIN,
    DemoError,
    Senders,
    Server,
    kill_group,
    main,
    pause,
    remove_segments,
    start,
)
from conf.demo_report import bar_line
from mqueue_kemi import MqueueError, attach

if TYPE_CHECKING:
    from pathlib import Path

    from conf.demo_report import Sender

QUEUE = "cdr"
CALLS = dict.fromkeys(("s1", "s2", "s3", "s4"), "INVITE")  # by sender
ALL = len(CALLS) * REQUESTS
KILL_AT = (ALL // 4, ALL // 2)  # rows
AWAY = 0.8  # seconds between a kill and the next start
FULL_BAR = 250  # items


class Worker:
    """cdr_worker.py with a database in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._database = folder / "cdr.sqlite"
        self._environment = {**os.environ, "CDR_DATABASE": str(self._database)}
        self._log = folder / "worker.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> int:
        command = [sys.executable, "-B", "-m", "mqueue_kemi", "work", "conf.cdr_worker:write", "--where", INSTANCE]
        self._process = start(command, self._log, self._environment)
        return self._process.pid

    def kill(self) -> None:
        """Kill -9, in the middle of whatever it does."""
        if self._process is not None:
            kill_group(self._process)
            self._process = None

    def check(self) -> None:
        """Raise DemoError if it has ended by itself."""
        if self._process is not None and self._process.poll() is not None:
            raise DemoError(f"the worker ended by itself: {self._log.read_text(errors='replace')}")

    def stop(self) -> list[str]:
        """End it as systemd does; gives what was not as it should be."""
        if self._process is None:
            return []
        self._process.terminate()
        try:
            code = self._process.wait(STOP_WITHIN)
        except subprocess.TimeoutExpired:
            code = None
        self.kill()
        return [] if code == 0 else [f"the worker did not stop as it should (exit code {code})"]

    def rows(self) -> list[tuple[str, int]]:
        """Caller and number of each call in the table."""
        return [(caller, int(callee)) for caller, callee in self._read("SELECT caller, callee FROM cdr")]

    def _read(self, query: str) -> list[Any]:
        if not self._database.exists():
            return []
        database = sqlite3.connect(self._database)
        try:
            return database.execute(query).fetchall()
        except sqlite3.OperationalError:  # its tables are being made
            return []
        finally:
            database.close()


def watch(server: Server, senders: Senders, worker: Worker) -> int:
    """Show queue and table until all is sent and written; kill the worker on the way.

    Gives how many records were none that the worker knows.
    """
    began = time.monotonic()
    kills = list(KILL_AT)
    start_at = 0.0
    with attach(QUEUE, INSTANCE) as queue:
        while time.monotonic() < began + SEND_WITHIN + DRAIN_WITHIN:
            server.check()
            worker.check()
            now = time.monotonic()
            done, size, rows = senders.done(), len(queue), len(worker.rows())
            print(f"{bar_line(now - began, size, FULL_BAR):<64} {rows:4d} rows", flush=True)
            if kills and rows >= kills[0]:
                del kills[0]
                worker.kill()
                start_at = now + AWAY
                print(f"          kill -9 of the worker; {len(worker.rows())} rows")
            elif start_at and now >= start_at:
                start_at = 0.0
                print(f"          it starts again, pid {worker.start()}")
            if done and not size and not start_at and not kills:
                return queue.stats().dead_lettered
            pause(SAMPLE_EVERY)
    raise DemoError("not all calls were written in time")


def problems_of(senders: list[Sender], rows: list[tuple[str, int]], rejected: int) -> list[str]:
    """Compare what was sent with what is in the table, and show it."""
    times = Counter(rows)
    expected = {(sender.name, number) for sender in senders for number in range(1, sender.sent + 1)}
    missing = sorted(expected - times.keys())
    twice = sorted(call for call, count in times.items() if count > 1)
    foreign = sorted(times.keys() - expected)
    print(f"{'sender':>9}{'sent':>9}{'rows':>9}")
    for sender in senders:
        print(f"{sender.name:>9}{sender.sent:>9}{sum(name == sender.name for name, _ in rows):>9}")
    print(f"\nsent {len(expected)} / rows {len(rows)} / missing {len(missing)} / twice {len(twice)}\n")
    found = [
        f"{sender.name}: {sender.sent} of {REQUESTS} calls were answered as they should be"
        for sender in senders
        if sender.failed or sender.sent != REQUESTS
    ]
    for calls, what in ((missing, "missing"), (twice, "there twice"), (foreign, "nobody's")):
        if calls:
            found.append(f"{len(calls)} {what}, the first: {calls[0]}")
    return found + ([f"{rejected} records were rejected"] if rejected else [])


def run(folder: Path) -> list[str]:
    """Show it all, from start to end; gives what was wrong."""
    problems: list[str] = []
    server = Server(CONF / "kamailio-cdr.cfg", folder)
    worker = Worker(folder)
    try:
        server.wait_until_ready()
        print(
            f"Kamailio runs with conf/kamailio-cdr.cfg on {HOST}:{server.port} (UDP), queue {QUEUE!r} of {INSTANCE!r}."
        )
        print(f"The worker is pid {worker.start()}. {len(CALLS)} senders, {REQUESTS} calls each.\n")
        print("   time  items in the queue")
        senders = Senders(folder, CALLS)
        try:
            senders.start(server.port)
            rejected = watch(server, senders, worker)
        finally:
            senders.stop()
        problems += worker.stop()
        print()
        problems += problems_of(senders.results(), worker.rows(), rejected)
    except (DemoError, MqueueError) as error:
        problems.append(str(error))
    finally:
        worker.kill()
        problems += server.stop()
        problems += [f"Kamailio left {name} in /dev/shm; it is removed" for name in remove_segments()]
    return problems


if __name__ == "__main__":
    sys.exit(main(run, "the worker was killed twice, and every call is in the table exactly once"))
