# SPDX-License-Identifier: GPL-2.0-or-later
"""The demo itself: a Kamailio, some sipp processes, a look at the queue while they work, and an orderly end.

demo.sh installs what is missing and starts it, in the project's root. What is counted, and how that is judged, is in
demo_report.py.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Callable

from conf.demo_report import Item, Report, Sender, bar_line, consumed_items, read_sender
from kemi.queue.kernel import choice
from mqueue_kemi import MqueueError, attach

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CONF = Path(__file__).resolve().parent
ROOT = CONF.parent
HOST = "127.0.0.1"
QUEUE = "myq"
INSTANCE = f"demo{os.getpid()}"

METHODS = {"s1": "INVITE", "s2": "MESSAGE", "s3": "INVITE", "s4": "MESSAGE"}  # by sender
REQUESTS = 150  # of each sender
RATE = 50  # a second, of each sender
CONSUME_EVERY = 1  # seconds; long enough to see the queue fill
SAMPLE_EVERY = 0.2

# Seconds, all of them far more than is needed.
START_WITHIN = 15.0
SEND_WITHIN = 60
DRAIN_WITHIN = 15.0
STOP_WITHIN = 10.0

LOG_WITHIN = 5.0

LOG_TAIL = 25  # lines

signals: list[int] = []


class DemoError(Exception):
    """The demo cannot go on; says why."""


class Interrupted(Exception):
    """A signal asks the demo to end."""


def pause(seconds: float) -> None:
    """Sleep, then end the demo if a signal asked for it.

    A signal is only noted when it comes, and heeded here: so none can fall between the start of a process and
    the line that remembers it, or cut the cleaning up short.
    """
    time.sleep(seconds)
    if signals:
        raise Interrupted


class Server:
    """A Kamailio on a free port, with all its files in `folder`."""

    def __init__(
        self, config: Path, folder: Path, defines: Sequence[str] = (), environment: Mapping[str, str] | None = None
    ) -> None:
        """defines: for Kamailio's preprocessor, NAME=VALUE each."""
        self.port = free_port()
        self._log = folder / "kamailio.log"
        # kamailio.py takes the instance from the environment, a native configuration from its definitions.
        definitions = folder / "mqueue_kemi.cfg"
        instance = f'modparam("mqueue", "instance", "{INSTANCE}")\n'
        definitions.write_text((CONF / "mqueue_kemi.cfg").read_text() + instance)
        settings = {
            "MQUEUE_KEMI_INSTANCE": INSTANCE,
            "MQUEUE_KEMI_CFG": str(definitions),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        command = ["kamailio", "-f", str(config), "-w", str(ROOT), "-DD", "-E", "-Y", str(folder), "-m", "32"]
        command += ["-A", f"SIP_PORT={self.port}", "-A", f"CONSUME_INTERVAL={CONSUME_EVERY}"]
        for define in defines:
            command += ["-A", define]
        self._process = start(command, self._log, {**os.environ, **settings, **(environment or {})})

    def wait_until_ready(self) -> None:
        """Return when the server answers a keepalive."""
        keepalive = (
            f"OPTIONS sip:{HOST}:{self.port} SIP/2.0\r\nVia: SIP/2.0/UDP {HOST};rport;branch=z9hG4bK1\r\n"
            f"From: <sip:demo@{HOST}>;tag=1\r\nTo: <sip:{HOST}>\r\nCall-ID: {INSTANCE}\r\n"
            "CSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
        ).encode()
        deadline = time.monotonic() + START_WITHIN
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(SAMPLE_EVERY)
            client.connect((HOST, self.port))
            while time.monotonic() < deadline:
                self.check()
                with contextlib.suppress(OSError):  # nobody listens there yet, or is not ready to answer
                    client.send(keepalive)
                    if client.recv(4096).startswith(b"SIP/2.0 200"):
                        return
                pause(0.05)
        raise DemoError(f"Kamailio did not answer within {START_WITHIN:.0f} s")

    def check(self) -> None:
        """Raise DemoError if the server has ended."""
        if self._process.poll() is not None:
            raise DemoError(f"Kamailio ended by itself (exit code {self._process.returncode})")

    def wait_for_items(self, count: int) -> list[Item]:
        """Give the items of the log: `count` of them, or as many as come. One is logged after it has left the queue."""
        deadline = time.monotonic() + LOG_WITHIN
        while True:
            items = consumed_items(self._log.read_text(errors="replace"))
            if len(items) >= count or time.monotonic() > deadline:
                return items
            pause(SAMPLE_EVERY)

    def stop(self) -> list[str]:
        """End the server and whatever it started; gives what was not as it should be."""
        if self._process.poll() is None:
            self._process.terminate()
        try:
            self._process.wait(STOP_WITHIN)
        except subprocess.TimeoutExpired:
            kill_group(self._process)
            return [f"Kamailio did not stop within {STOP_WITHIN:.0f} s and was killed"]
        if kill_group(self._process):
            return ["Kamailio ended, but some of its processes lived on and were killed"]
        return []


class Senders:
    """One sipp for each sender. Each has one call at a time, so that the order of its requests is certain."""

    def __init__(self, folder: Path, methods: Mapping[str, str] = METHODS) -> None:
        self._folder = folder
        self._methods = methods
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, port: int) -> None:
        for name, method in self._methods.items():
            scenario = CONF / "sipp" / f"{method.lower()}.xml"
            command = ["sipp", f"{HOST}:{port}", "-i", HOST, "-ci", HOST, "-nostdin"]
            command += ["-sf", str(scenario), "-key", "sender", name]
            command += ["-l", "1", "-m", str(REQUESTS), "-r", str(RATE)]
            command += ["-timeout", str(SEND_WITHIN), "-timeout_error"]
            command += ["-trace_stat", "-stf", str(self._statistics(name))]
            self._processes.append(start(command, self._folder / f"{name}.log", dict(os.environ)))

    def done(self) -> bool:
        return all(process.poll() is not None for process in self._processes)

    def stop(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()

    def results(self) -> list[Sender]:
        return [read_sender(name, method, self._statistics(name)) for name, method in self._methods.items()]

    def _statistics(self, name: str) -> Path:
        return self._folder / f"{name}.csv"


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def start(command: Sequence[str], log: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start a program in a process group of its own.

    Ctrl-C at the terminal is for the demo alone, which then ends the others in order.
    """
    with log.open("ab") as output:  # appending: many processes write there
        return subprocess.Popen(  # noqa: S603 - our own command lines
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            start_new_session=True,
        )


def kill_group(process: subprocess.Popen[bytes]) -> bool:
    """Kill what is left of a process and of those that it started; tell whether there was anything."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    process.wait()
    return True


def remove_segments() -> list[str]:
    """Remove this demo's queues from shared memory; gives the names of those that were left there."""
    left = sorted(Path("/dev/shm").glob(f"mqk.{INSTANCE}*"))  # noqa: S108 - not a temporary file
    for segment in left:
        segment.unlink(missing_ok=True)
    return [segment.name for segment in left]


def watch(server: Server, senders: Senders) -> int:
    """Show the queue's size until all is sent and fetched; gives how many items were added."""
    full = len(METHODS) * RATE * CONSUME_EVERY
    began = time.monotonic()
    with attach(QUEUE, INSTANCE) as queue:
        while time.monotonic() < began + SEND_WITHIN + DRAIN_WITHIN:
            server.check()
            done, size = senders.done(), len(queue)  # in this order: what is sent by then is counted
            print(bar_line(time.monotonic() - began, size, full), flush=True)
            if done and not size:
                break
            pause(SAMPLE_EVERY)
        return int(queue.stats().added)


def run(config: Path, folder: Path) -> list[str]:
    """Show it all, from start to end; gives what was wrong."""
    problems: list[str] = []
    server = Server(config, folder)
    try:
        server.wait_until_ready()
        print(f"Kamailio runs with {config} on {HOST}:{server.port} (UDP), queue {QUEUE!r} of {INSTANCE!r}.")
        print(f"The queue's kernel here is {choice.description()}.")
        print(f"{len(METHODS)} senders, {REQUESTS} requests each; 2 consumers look every {CONSUME_EVERY} s.\n")
        print("   time  items in the queue")
        senders = Senders(folder)
        try:
            senders.start(server.port)
            added = watch(server, senders)
        finally:
            senders.stop()
        report = Report(senders.results(), REQUESTS, added, server.wait_for_items(added))
        print(f"\n{report.table()}\n")
        problems += report.problems()
    except (DemoError, MqueueError) as error:
        problems.append(str(error))
    finally:
        problems += server.stop()
        problems += [f"Kamailio left {name} in /dev/shm; it is removed" for name in remove_segments()]
    return problems


def main(demo: Callable[[Path], list[str]], well: str) -> int:
    """Run a demo, which gives what was wrong, in a folder of its own; say how it ended, `well` if all is well."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _frame: signals.append(number))
    folder = Path(tempfile.mkdtemp(prefix="mqueue-demo-"))
    try:
        problems = demo(folder)
    except Interrupted:
        shutil.rmtree(folder)
        print("\ninterrupted; everything is stopped", file=sys.stderr)
        return 128 + signals[0]
    if not problems:
        shutil.rmtree(folder)
        print(f"OK: {well}.")
        return 0
    sys.stdout.flush()
    log = folder / "kamailio.log"
    lines = [line for line in log.read_text(errors="replace").splitlines() if " INFO: " not in line]
    print(f"The last lines of {log}, without those of level INFO:\n", *lines[-LOG_TAIL:], sep="\n", file=sys.stderr)
    print("\nFAILED:", *problems, sep="\n  ", file=sys.stderr)
    print(
        f"\nThe first ERROR in the log is most likely the cause. The files of this run are kept in {folder};"
        "\nif nothing there explains it, report it together with them.",
        file=sys.stderr,
    )
    return 1


if __name__ == "__main__":
    configuration = Path(sys.argv[1])
    sys.exit(main(lambda folder: run(configuration, folder), "nothing lost, nothing twice, each sender's order kept"))
