"""What asking costs others: the response times of sipp's own calls, with and without questions beside them.

    python -m tests.bench.ask [--rate 1000] [--seconds 30] [--slices 10] [--calls 100]

One server, one answers process, one worker. Slices with questions and without follow one another; of each kind the
response times of all slices together are compared, and of the pairs the median of their ratios. Needs sipp.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.server import sip
from tests.server.asking import Asking
from tests.server.harness import CHECKOUT, Servers, program

WORKER = f"""
import sys
sys.path.insert(0, {str(CHECKOUT)!r})
from mqueue_kemi import attach
with attach("lookups", sys.argv[1], wait=60) as queue:
    while True:
        with queue.reserve_many(64, timeout=None) as batch:
            for question in batch:
                question.answer(question.key)
"""
MORE = """
def call(self, user):
    if KSR.is_MESSAGE():
        self.ask(user, 5.0)
    else:
        KSR.tm.t_newtran()
        KSR.tm.t_reply(480, "Busy")
    return 1
def ksr_answered(self, msg):
    KSR.tm.t_reply(202 if mqueue_kemi.answer() else 408, "Done")
    return 1
"""
SCENARIO = """<?xml version="1.0" encoding="UTF-8"?>
<scenario name="call">
  <send retrans="500" start_rtd="1"><![CDATA[
      INVITE sip:[call_number]@[remote_ip]:[remote_port] SIP/2.0
      Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
      Max-Forwards: 70
      From: <sip:bench@[local_ip]:[local_port]>;tag=[pid]-[call_number]
      To: <sip:[call_number]@[remote_ip]:[remote_port]>
      Call-ID: [call_id]
      CSeq: 1 INVITE
      Contact: <sip:bench@[local_ip]:[local_port]>
      Content-Length: 0

  ]]></send>
  <recv response="100" optional="true"/>
  <recv response="480" rtd="1"/>
  <send><![CDATA[
      ACK sip:[call_number]@[remote_ip]:[remote_port] SIP/2.0
      [last_Via:]
      Max-Forwards: 70
      From: <sip:bench@[local_ip]:[local_port]>;tag=[pid]-[call_number]
      [last_To:]
      Call-ID: [call_id]
      CSeq: 1 ACK
      Content-Length: 0

  ]]></send>
</scenario>
"""


class Questions:
    """Sends requests that ask, so many a second, and counts what comes back."""

    def __init__(self, port: int, rate: int) -> None:
        self._port, self._rate = port, rate
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        self._sock.bind((sip.HOST, 0))
        self._own = f"{sip.HOST}:{self._sock.getsockname()[1]}"
        self._over = threading.Event()
        self.sent = self.answered = self.others = 0
        self._threads = [threading.Thread(target=self._send), threading.Thread(target=self._receive)]

    def __enter__(self) -> Questions:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()
        self._sock.close()

    def _send(self) -> None:
        begin = time.monotonic()
        mark = f"{os.getpid()}x{id(self):x}"
        while not self._over.is_set():
            due = int((time.monotonic() - begin) * self._rate)
            while self.sent < due:
                self.sent += 1
                number = f"{self.sent}{mark}"
                text = (
                    f"MESSAGE sip:{self.sent}@{sip.HOST}:{self._port} SIP/2.0\r\nVia: SIP/2.0/UDP {self._own};"
                    f"branch=z9hG4bK{number}\r\nMax-Forwards: 70\r\nFrom: <sip:a@{self._own}>;tag=1\r\n"
                    f"To: <sip:b@{sip.HOST}>\r\nCall-ID: {number}\r\nCSeq: 1 MESSAGE\r\nContent-Length: 0\r\n\r\n"
                )
                self._sock.sendto(text.encode(), (sip.HOST, self._port))
            self._over.wait(0.002)

    def _receive(self) -> None:
        self._sock.settimeout(0.2)
        while not (self._over.is_set() and self.answered + self.others >= self.sent):
            try:
                text = self._sock.recv(4096)
            except socket.timeout:
                if self._over.is_set():
                    return
                continue
            if text.startswith(b"SIP/2.0 202"):
                self.answered += 1
            else:
                self.others += 1


def calls(port: int, rate: int, seconds: float) -> list[float]:
    """Make calls with sipp; their response times in milliseconds."""
    with tempfile.TemporaryDirectory(prefix="ask-bench-") as folder:
        Path(folder, "call.xml").write_text(SCENARIO, "utf-8")
        command = [program("sipp"), f"{sip.HOST}:{port}", "-i", sip.HOST, "-nostdin", "-sf", "call.xml"]
        command += ["-r", str(rate), "-m", str(int(rate * seconds)), "-trace_rtt", "-rtt_freq", "1"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=seconds + 60)
        (found,) = Path(folder).glob("*_rtt.csv")
        lines = found.read_text("utf-8").splitlines()[1:]
    return [float(line.split(";")[1]) for line in lines if line.count(";") >= 2]


def at(times: list[float], share: float) -> float:
    """Return the time that so many calls do not exceed."""
    return sorted(times)[min(len(times) - 1, int(len(times) * share))]


def measure(rate: int, seconds: float, slices: int, call_rate: int) -> dict[str, Any]:
    """Run it; return what was found."""
    each = seconds / slices
    with ExitStack() as stack:
        server = Servers(stack).start(Asking(more=MORE, workers=1, cfg="children=4\n"))
        worker = subprocess.Popen([sys.executable, "-c", WORKER, server.instance])
        stack.callback(worker.wait, 30)
        stack.callback(worker.kill)
        port = server.ports[0]
        calls(port, call_rate, 1.0)
        found: dict[bool, list[list[float]]] = {True: [], False: []}
        sent = answered = 0
        for number in range(slices):
            for asks in (True, False) if number % 2 else (False, True):
                with contextlib.ExitStack() as beside:
                    questions = beside.enter_context(Questions(port, rate)) if asks else None
                    found[asks].append(calls(port, call_rate, each))
                if questions is not None:
                    sent += questions.sent
                    answered += questions.answered
        totals = server.totals()
    result: dict[str, Any] = {"questions": sent, "answered": answered, "totals": totals._asdict()}
    for share in (0.5, 0.99):
        ratios = [at(a, share) / max(at(b, share), 0.001) for a, b in zip(found[True], found[False])]
        result[f"p{share * 100:.0f}"] = {
            "with": at([time for times in found[True] for time in times], share),
            "without": at([time for times in found[False] for time in times], share),
            "median of ratios": statistics.median(ratios),
        }
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=int, default=1000, help="questions a second")
    parser.add_argument("--seconds", type=float, default=30.0, help="with questions, and as many without")
    parser.add_argument("--slices", type=int, default=10)
    parser.add_argument("--calls", type=int, default=100, help="calls of sipp a second")
    options = parser.parse_args()
    print(json.dumps(measure(options.rate, options.seconds, options.slices, options.calls), indent=1))


if __name__ == "__main__":
    main()
