"""A caller, a callee, and a Kamailio between them whose script writes down what calls give in each route."""

from __future__ import annotations

import json
import socket
import textwrap
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from tests.conftest import HANG
from tests.server import sip
from tests.server.harness import CHECKOUT, Server
from tests.server.process import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.testing.flows import Flow

MODULES = (
    *("ctl", "kex", "tm", "tmx", "sl", "rr", "pv", "maxfwd", "textops", "siputils", "xlog", "corex", "kemix"),
    "app_python3",
)

SCRIPT = """
import json, os, sys
sys.path.insert(0, {checkout!r})
import KSR

def outcome(expression, msg):
    try:
        return ascii(eval(expression, {{"KSR": KSR, "msg": msg}}))
    except Exception as error:
        return ascii((type(error).__name__, str(error).split("; ")[0]))

class Handler:
    def child_init(self, rank):
        return 0

    def run(self, route, msg):
        name = KSR.hdr.get("X-Case")
        if name is None:
            return None
        with open(os.path.join({home!r}, name + ".in")) as file:
            plan = json.load(file)
        outcomes = [[route, each, outcome(each, msg)] for each in plan["routes"].get(route, ())]
        with open(os.path.join({home!r}, name + ".out"), "a") as file:
            file.write("".join(json.dumps(each) + "\\n" for each in [[route, "", ""], *outcomes]))
        return plan

    def ksr_request_route(self, msg):
        if KSR.is_OPTIONS():
            KSR.sl.sl_send_reply(200, "OK")
            return 1
        if KSR.is_CANCEL():
            self.run("cancel-request", msg)
            if KSR.tm.t_check_trans() > 0:
                KSR.tm.t_relay()
            return 1
        if KSR.is_ACK():
            self.run("ack", msg)
            if KSR.tm.t_check_trans() > 0:
                KSR.tm.t_relay()
            return 1
        plan = self.run("request", msg)
        KSR.pv.sets("$du", plan["callee"])
        KSR.tm.t_on_branch("ksr_branch")
        KSR.tm.t_on_reply("ksr_onreply")
        KSR.tm.t_on_failure("ksr_failure")
        KSR.tm.t_relay()
        self.run("after", msg)
        return 1

    def ksr_branch(self, msg):
        self.run("branch", msg)
        return 1

    def ksr_onsend_route(self, msg):
        self.run("onsend", msg)
        return 1

    def ksr_reply_route(self, msg):
        self.run("reply", msg)
        return 1

    def ksr_onreply(self, msg):
        self.run("onreply", msg)
        return 1

    def ksr_failure(self, msg):
        self.run("failure", msg)
        return 1

def mod_init():
    return Handler()
"""


def script(home: Path) -> str:
    return textwrap.dedent(SCRIPT).format(checkout=str(CHECKOUT), home=str(home))


class Scripted(Server):
    """A Kamailio with one worker and a whole script, which may lie there already."""

    modules: tuple[str, ...] = MODULES
    parameters: tuple[str, ...] = ()

    def script(self) -> str:
        """Return the script."""
        return script(self.home)

    def config(self) -> Path:
        path = self.home / "kamailio.cfg"
        lines = [
            "#!KAMAILIO",
            "debug=2",
            "children=1",
            "disable_tcp=yes",
            "auto_aliases=no",
            f"listen=udp:{sip.HOST}:{self.ports[0]}",
            *(f'loadmodule "{name}.so"' for name in self.modules),
            *(f"modparam({each})" for each in self.parameters),
            f'modparam("app_python3", "load", "{self.home}/script.py")',
            'cfgengine "python"',
        ]
        path.write_text("\n".join(lines) + "\n", "ascii")
        if not (self.home / "script.py").exists():
            (self.home / "script.py").write_text(self.script(), "ascii")
        return path


class Callee:
    """Answers each INVITE with the next tuple of codes."""

    def __init__(self, codes: tuple[tuple[int, ...], ...], *, cancel: bool) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind((sip.HOST, 0))
        self.sock.settimeout(0.2)
        self.uri = f"sip:{sip.HOST}:{self.sock.getsockname()[1]}"
        self._codes = list(codes)
        self._held: list[bytes] = []
        self._seen: set[tuple[bytes, bytes]] = set()
        self._cancel = cancel
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Callee:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        self._thread.join()
        self.sock.close()

    def _serve(self) -> None:
        while not self._stop.is_set():
            try:
                request, source = self.sock.recvfrom(65535)
            except socket.timeout:
                continue
            once = (request.split(b" ", 1)[0], request.split(b"branch=")[1].split()[0])
            if once not in self._seen:  # else asked again, before our answer came there
                self._seen.add(once)
                self._answer(request, source)

    def _answer(self, request: bytes, source: tuple[str, int]) -> None:
        method = request.split(b" ", 1)[0]
        if method == b"CANCEL":
            self.sock.sendto(answer(request, 200), source)
            for reply in self._held:
                self.sock.sendto(reply, source)
        elif method != b"ACK" and self._codes:
            for code in self._codes.pop(0):
                if self._cancel and code >= 200:
                    self._held.append(answer(request, code))
                else:
                    self.sock.sendto(answer(request, code), source)


REASONS = {100: "Trying", 180: "Ringing", 200: "OK", 486: "Busy Here", 487: "Request Terminated", 603: "Decline"}


def answer(request: bytes, code: int) -> bytes:
    """A reply as a user agent makes it."""
    head = request.decode().split("\r\n\r\n")[0].split("\r\n")[1:]
    kept = [line for line in head if line.split(":")[0] in ("Via", "From", "Call-ID", "CSeq", "X-Case", "Record-Route")]
    to = next(line for line in head if line.startswith("To:"))
    if ";tag=" not in to and code > 100:
        to += ";tag=callee"
    lines = [f"SIP/2.0 {code} {REASONS[code]}", *kept, to, "Server: callee/1", "Content-Length: 0"]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def really(server: Scripted, flow: Flow, mark: str) -> list[list[str]]:
    """Let one flow happen; return route, expression and outcome of each call, in order."""
    with ExitStack() as stack:
        callee = stack.enter_context(Callee(flow.codes, cancel=flow.cancel))
        caller = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        caller.bind((sip.HOST, 0))
        caller.settimeout(HANG)
        plan = {"routes": flow.routes, "callee": callee.uri}
        (server.home / f"{mark}.in").write_text(json.dumps(plan), "ascii")
        text = flow.message.format(mark=mark, client=caller.getsockname()[1])
        head, _, body = text.partition("\n\n")
        request = (head.replace("\n", "\r\n") + "\r\n\r\n" + body).encode()
        there = (sip.HOST, server.ports[0])
        caller.sendto(request, there)
        canceled = False
        while True:
            reply = caller.recv(65535).decode()
            code = int(reply.split(" ", 2)[1])
            if code >= 200 and "INVITE" in reply.split("CSeq:")[1].split("\r\n")[0]:
                break
            if flow.cancel and code >= 180 and not canceled:
                canceled = True
                caller.sendto(request_in(request, "CANCEL"), there)
        caller.sendto(request_in(request, "ACK"), there)
        out = server.home / f"{mark}.out"
        final = "failure" if code >= 300 else "onreply"
        wait_until(lambda: any(row[0] == final for row in rows(out)), "the last route has run")
        return rows(out)


def request_in(request: bytes, method: str) -> bytes:
    """A CANCEL or an ACK for a request."""
    lines = request.decode().split("\r\n\r\n")[0].split("\r\n")
    kept = [line for line in lines[1:] if line.split(":")[0] in ("Via", "From", "To", "Call-ID", "X-Case")]
    uri = lines[0].split(" ")[1]
    made = [f"{method} {uri} SIP/2.0", *kept, f"CSeq: 7 {method}", "Max-Forwards: 70", "Content-Length: 0"]
    return ("\r\n".join(made) + "\r\n\r\n").encode()


def rows(path: Path) -> list[Any]:
    """What was written down so far."""
    return [json.loads(line) for line in path.read_text("ascii").splitlines()] if path.exists() else []
