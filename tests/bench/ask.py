"""What asking costs others: the response times of sipp's own calls, with and without questions beside them.

    python -m tests.bench.ask [--rate 1000] [--seconds 30] [--slices 10] [--calls 100]

One server, one answers process, one worker. Slices of three kinds follow one another: sipp's calls alone; with as many
requests a second beside them as were asked for, each of which asks; and, as a control, with the same requests answered
in the route. So it is seen what asking costs beside what any request costs. Of each kind the times of all slices
together are told, and the median of the ratios of slices that lie beside each other.

sipp knows milliseconds only. So the times are the kernel's, of the packets of its port on the loopback interface, from
the first INVITE to the first final reply: that needs root.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import random
import select
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from tests.server import sip
from tests.server.asking import Asking
from tests.server.harness import CHECKOUT, Servers, program
from tests.support.ports import free_ports

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
    if not KSR.is_MESSAGE():
        KSR.tm.t_newtran()
        KSR.tm.t_reply(480, "Busy")
    elif user.startswith("direct"):
        KSR.tm.t_newtran()
        KSR.tm.t_reply(202, "Done")
    else:
        self.ask(user, 5.0)
    return 1
def ksr_answered(self, msg):
    KSR.tm.t_reply(202 if mqueue_kemi.answer() else 408, "Done")
    return 1
"""
SCENARIO = """<?xml version="1.0" encoding="UTF-8"?>
<scenario name="call">
  <send retrans="500"><![CDATA[
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
  <recv response="480"/>
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
KINDS = ("alone", "direct", "ask")
SETTLE = 0.5  # seconds at the end of a slice for what is on its way


# --- the requests beside ----------------------------------------------------------------------------------------------


class Beside(NamedTuple):
    """What became of the requests that were sent beside the calls."""

    sent: int = 0
    done: int = 0
    others: int = 0  # other replies
    p50: float = 0.0  # ms from the request to its reply
    p99: float = 0.0


def send_requests(kind: str, port: int, rate: int, over: int) -> Beside:
    """Send so many a second, evenly, until the descriptor `over` can be read; what came back.

    In a process of its own. Each is sent at a random moment of its share of the time, so that nothing goes in step.
    """
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    sock.bind((sip.HOST, 0))
    sock.setblocking(False)
    own = f"{sip.HOST}:{sock.getsockname()[1]}"
    mark = f"{os.getpid()}{kind}"
    before = f"MESSAGE sip:{kind}@{sip.HOST}:{port} SIP/2.0\r\nVia: SIP/2.0/UDP {own};branch=z9hG4bK"
    after = (
        f"\r\nMax-Forwards: 70\r\nFrom: <sip:a@{own}>;tag=1\r\nTo: <sip:b@{sip.HOST}>\r\nCSeq: 1 MESSAGE\r\n"
        f"Content-Length: 0\r\nCall-ID: "
    )
    begun: dict[bytes, float] = {}
    took: list[float] = []
    others = sent = 0
    begin, end = time.perf_counter(), float("inf")
    due = begin
    while time.perf_counter() < end:
        if end == float("inf") and time.perf_counter() >= due:
            number = f"{sent}x{mark}"
            begun[number.encode()] = time.perf_counter()
            sock.sendto(f"{before}{number}{after}{number}\r\n\r\n".encode(), (sip.HOST, port))
            sent += 1
            due = begin + (sent + random.random()) / rate  # noqa: S311
        pause = max(0.0, min(due, end) - time.perf_counter())
        ready = select.select([sock, over] if end == float("inf") else [sock], [], [], pause)[0]
        if over in ready:
            end = time.perf_counter() + SETTLE
            due = end
        if sock in ready:
            text = sock.recv(4096)
            number_there = text.split(b"branch=z9hG4bK", 1)[1].split(b";", 1)[0].split(b"\r", 1)[0]
            was = begun.pop(number_there, None)
            if text.startswith(b"SIP/2.0 202") and was is not None:
                took.append((time.perf_counter() - was) * 1e3)
            elif not text.startswith(b"SIP/2.0 1"):
                others += 1
    return Beside(sent, len(took), others, at(took, 0.5), at(took, 0.99))


class Requests:
    """`send_requests` in a process beside this one."""

    def __init__(self, kind: str, port: int, rate: int) -> None:
        self.result = Beside()
        self._over, self._read = os.pipe(), os.pipe()
        self._pid = os.fork()
        if not self._pid:
            os.close(self._over[1])  # so that it ends with the bench, however that ends
            try:
                os.write(self._read[1], json.dumps(send_requests(kind, port, rate, self._over[0])).encode())
            finally:
                os._exit(0)

    def stop(self) -> None:
        os.write(self._over[1], b"x")
        self.result = Beside(*json.loads(os.read(self._read[0], 65536)))
        os.waitpid(self._pid, 0)
        for number in (*self._over, *self._read):
            os.close(number)


# --- sipp's calls -----------------------------------------------------------------------------------------------------


class Tap:
    """Takes down what goes from and to one UDP port on the loopback interface, with the kernel's times."""

    SO_TIMESTAMPNS, SO_ATTACH_FILTER, SO_RCVBUFFORCE, ETH_P_IP = 35, 26, 33, 0x0800

    def __init__(self, port: int) -> None:
        self.times: list[float] = []  # ms from INVITE to its final reply
        self.again = 0  # INVITEs that were sent once more
        self._sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)  # it hears nothing until it is bound
        self._sock.setsockopt(socket.SOL_SOCKET, self.SO_RCVBUFFORCE, 1 << 24)
        self._sock.setsockopt(socket.SOL_SOCKET, self.SO_TIMESTAMPNS, 1)
        self._filter(port)
        self._sock.bind(("lo", self.ETH_P_IP))
        self._packets: list[tuple[float, bytes]] = []
        self._over = False
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _filter(self, port: int) -> None:
        """UDP of that port alone; behind 14 bytes of Ethernet and 20 of IP."""
        code = [
            (0x30, 0, 0, 23),  # the protocol
            (0x15, 0, 5, socket.IPPROTO_UDP),
            (0x28, 0, 0, 34),  # the source's port
            (0x15, 2, 0, port),
            (0x28, 0, 0, 36),  # the destination's port
            (0x15, 0, 1, port),
            (0x06, 0, 0, 0xFFFF),
            (0x06, 0, 0, 0),
        ]
        program_ = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *one) for one in code))
        head = struct.pack("HL", len(code), ctypes.addressof(program_))
        self._sock.setsockopt(socket.SOL_SOCKET, self.SO_ATTACH_FILTER, head)

    def _listen(self) -> None:
        self._sock.settimeout(0.2)
        while not self._over:
            try:
                data, extra, *_ = self._sock.recvmsg(2048, 64)
            except socket.timeout:
                continue
            if extra:
                seconds, nano = struct.unpack("qq", extra[0][2])
                self._packets.append((seconds * 1e3 + nano / 1e6, data[42:]))

    def stop(self) -> None:
        self._over = True
        self._thread.join()
        self._sock.close()
        begun: dict[bytes, float] = {}
        for when, text in self._packets:
            call = text.split(b"Call-ID: ", 1)[1].split(b"\r", 1)[0]
            if text.startswith(b"INVITE "):
                self.again += call in begun
                begun.setdefault(call, when)
            elif text.startswith(b"SIP/2.0 480") and call in begun:
                self.times.append(when - begun[call])


def calls(port: int, rate: int, seconds: float) -> Tap:
    """Make calls with sipp."""
    (own,) = free_ports(1)
    tap = Tap(own)
    try:
        with tempfile.TemporaryDirectory(prefix="ask-bench-") as folder:
            Path(folder, "call.xml").write_text(SCENARIO, "utf-8")
            command = [program("sipp"), f"{sip.HOST}:{port}", "-i", sip.HOST, "-p", str(own), "-nostdin"]
            command += ["-sf", "call.xml", "-r", str(rate), "-m", str(int(rate * seconds))]
            subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=seconds + 60)
    finally:
        tap.stop()
    return tap


def at(times: list[float], share: float) -> float:
    """Return the time that so many of them do not exceed."""
    if not times:
        sys.exit("nothing came back")
    return sorted(times)[min(len(times) - 1, int(len(times) * share))]


# --- the whole --------------------------------------------------------------------------------------------------------


class Roomy(Asking):
    """A server with memory for 1,000 transactions a second: tm keeps each for 5 s (wt_timer) after its end.

    With the 64 MB of Kamailio's default, which the other tests have, it refuses one in ten from the sixth second on,
    and what sipp then measures is its own wait of 500 ms before it sends again.
    """

    def options(self) -> list[str]:
        return ["-m", "256"]


def processor(pids: list[int]) -> float:
    """Seconds of a processor that these took."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def dropped(port: int) -> int:
    """Packets that found no room in the receive buffer of the server."""
    for line in Path("/proc/net/udp").read_text("utf-8").splitlines()[1:]:
        fields = line.split()
        if int(fields[1].split(":")[1], 16) == port:
            return int(fields[-1])
    return 0


def measure(rate: int, seconds: float, slices: int, call_rate: int) -> dict[str, Any]:
    """Run it; return what was found."""
    each = seconds / slices
    with ExitStack() as stack:
        server = Servers(stack).start(Roomy(more=MORE, workers=1, cfg="children=4\n"))
        worker = subprocess.Popen([sys.executable, "-c", WORKER, server.instance])
        stack.callback(worker.wait, 30)
        stack.callback(worker.send_signal, signal.SIGKILL)
        port = server.ports[0]
        calls(port, call_rate, 1.0)
        taps: dict[str, list[Tap]] = {kind: [] for kind in KINDS}
        beside: dict[str, list[Beside]] = {kind: [] for kind in KINDS}
        used: dict[str, float] = dict.fromkeys(KINDS, 0.0)
        for number in range(slices):
            turn = number % len(KINDS)
            for kind in KINDS[turn:] + KINDS[:turn]:
                pids = [*server.process.pids(), worker.pid]
                before = processor(pids)
                requests = None if kind == "alone" else Requests(kind, port, rate)
                taps[kind].append(calls(port, call_rate, each))
                if requests:
                    requests.stop()
                    beside[kind].append(requests.result)
                used[kind] += processor(pids) - before
        totals = server.totals()
        lost = dropped(port)
    result: dict[str, Any] = {"questions": totals._asdict(), "packets dropped": lost}
    for kind in KINDS:
        result[kind] = {
            "calls": sum(len(tap.times) for tap in taps[kind]),
            "sent again": sum(tap.again for tap in taps[kind]),
            "cpu ms/s": round(used[kind] / seconds * 1e3),
        }
        if beside[kind]:
            sent, done, others = (sum(numbers) for numbers in list(zip(*beside[kind]))[:3])
            result[kind] |= {
                "requests": sent,
                "done": done,
                "others": others,
                "request p50 ms": round(statistics.median(one.p50 for one in beside[kind]), 3),
                "request p99 ms": round(statistics.median(one.p99 for one in beside[kind]), 3),
            }
        for share in (0.5, 0.99):
            name = f"p{share * 100:.0f}"
            together = [time for tap in taps[kind] for time in tap.times]
            result[kind][f"{name} ms"] = round(at(together, share), 3)
            if kind != "alone":
                pairs = zip(taps[kind], taps["alone"])
                ratios = [at(mine.times, share) / at(alone.times, share) for mine, alone in pairs]
                result[kind][f"{name} / alone"] = round(statistics.median(ratios), 3)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=int, default=1000, help="questions a second")
    parser.add_argument("--seconds", type=float, default=30.0, help="of each kind")
    parser.add_argument("--slices", type=int, default=10)
    parser.add_argument("--calls", type=int, default=100, help="calls of sipp a second")
    options = parser.parse_args()
    for name, value in measure(options.rate, options.seconds, options.slices, options.calls).items():
        print(f"{name}: {json.dumps(value)}")


if __name__ == "__main__":
    main()
