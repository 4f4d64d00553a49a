# SPDX-License-Identifier: GPL-2.0-or-later
"""The demo of ask: the same calls with a route that waits for each look-up, and with one that asks a worker.

demo.sh --ask starts it, in the project's root. The server and its worker are those of conf/ask.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from conf.demo import (
    CONF,
    HOST,
    INSTANCE,
    DemoError,
    Server,
    free_port,
    kill_group,
    main,
    pause,
    remove_segments,
    start,
)

if TYPE_CHECKING:
    from pathlib import Path

CALLS = 200  # at once
TAKES = 0.2  # seconds, of each look-up
CHILDREN = 2  # SIP workers, as kamailio.cfg says
WITHIN = 90.0  # seconds


class Calls:
    """Callers that all call at the same moment, and wait for where they are sent."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._sock.bind((HOST, 0))
        self._own = f"{HOST}:{self._sock.getsockname()[1]}"
        self._mark = f"{os.getpid()}-{port}"

    def run(self, count: int) -> float:
        """Make the calls; returns the seconds until the last one knows where to go. Raises DemoError."""
        began = time.monotonic()
        for number in range(1, count + 1):
            self._send("INVITE", number)
        done: set[int] = set()
        while len(done) < count:
            if time.monotonic() > began + WITHIN:
                raise DemoError(f"{count - len(done)} of {count} calls were not answered within {WITHIN:.0f} s")
            self._sock.settimeout(0.2)
            try:
                text = self._sock.recv(65535).decode()
            except socket.timeout:
                pause(0)
                continue
            code = int(text.split(" ", 2)[1])
            number = int(text.split("Call-ID: ", 1)[1].split("-", 1)[0])
            if code >= 200:  # noqa: PLR2004 - a final reply
                self._send("ACK", number, text.split("To: ", 1)[1].split("\r\n", 1)[0])
                if code != 302:  # noqa: PLR2004 - moved
                    raise DemoError(f"call {number} got {text.splitlines()[0]}")
                done.add(number)
        return time.monotonic() - began

    def _send(self, method: str, number: int, to: str = "") -> None:
        lines = [
            f"{method} sip:{number}@{HOST}:{self._port} SIP/2.0",
            f"Via: SIP/2.0/UDP {self._own};branch=z9hG4bK-{number}-{self._mark}",
            "Max-Forwards: 70",
            f"From: <sip:demo@{self._own}>;tag={number}",
            f"To: {to or f'<sip:{number}@{HOST}>'}",
            f"Call-ID: {number}-{self._mark}",
            f"CSeq: 1 {method}",
            f"Contact: <sip:demo@{self._own}>",
            "Content-Length: 0",
        ]
        self._sock.sendto("\r\n".join([*lines, "", ""]).encode(), (HOST, self._port))

    def close(self) -> None:
        self._sock.close()


def seconds(folder: Path, script: str, *, url: str) -> tuple[float, list[str]]:
    """Run the calls with one of the scripts; gives their time, and what was wrong with the server's end."""
    environment = {"LOOKUP_URL": url}
    server = Server(CONF / "ask" / "kamailio.cfg", folder, [f"SCRIPT=conf/ask/{script}"], environment)
    problems: list[str] = []
    try:
        server.wait_until_ready()
        with ExitStack() as stack:
            if script == "routing.py":
                command = [sys.executable, "-B", "-m", "mqueue_kemi", "work", "conf.ask.lookup:look_up"]
                command += ["--instance", INSTANCE]
                worker = start(command, folder / "worker.log", {**os.environ, **environment})
                stack.callback(kill_group, worker)
            calls = Calls(server.port)
            stack.callback(calls.close)
            warm_up(server, calls)
            return calls.run(CALLS), problems
    finally:
        problems += server.stop()
        problems += [f"Kamailio left {name} in /dev/shm; it is removed" for name in remove_segments()]


def warm_up(server: Server, calls: Calls) -> None:
    """Make one call, again until a worker is there."""
    end = time.monotonic() + WITHIN
    while True:
        server.check()
        try:
            calls.run(1)
        except DemoError:
            if time.monotonic() > end:
                raise
            pause(0.1)
        else:
            return


def run(folder: Path) -> list[str]:
    """Show it all; gives what was wrong."""
    port = free_port()
    command = [sys.executable, "-B", "-m", "conf.ask.directory", str(port), str(TAKES)]
    directory = start(command, folder / "directory.log", dict(os.environ))
    try:
        url = f"http://{HOST}:{port}/"
        print(f"{CALLS} calls at once, a look-up of {TAKES} s each, children={CHILDREN} ...", flush=True)
        waiting, problems = seconds(folder, "blocking.py", url=url)
        asking, more = seconds(folder, "routing.py", url=url)
        print(f"{waiting:.2f} s when the route waits for each look-up, {asking:.2f} s with ask()")
        return problems + more
    except DemoError as error:
        return [str(error)]
    finally:
        kill_group(directory)


if __name__ == "__main__":
    sys.exit(main(run, "each call got its answer"))
