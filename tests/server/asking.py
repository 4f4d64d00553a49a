"""A server whose script asks, and an agent that calls it, for tests of `ask`."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import time
from typing import TYPE_CHECKING, Any

from kemi.answers.view import Totals, totals
from mqueue_kemi import attach
from tests.server import sip
from tests.server.harness import Kamailio, Server
from tests.server.process import wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence

TIMERS = """
modparam("rtimer", "timer", "name=answers;interval=1000u;mode={processes};")
modparam("rtimer", "exec", "timer=answers;route=ksr_mqueue_answers")
"""
# What a caller's number makes the route do before or after it asked is in `more`.
SCRIPT = """
def ksr_onsend_route(self, msg):
    return 1

def request(self, msg):
    user = KSR.pv.gete("$rU")
    if KSR.is_ACK():
        KSR.tm.t_check_trans()
    elif KSR.is_CANCEL():
        if KSR.tm.t_check_trans() > 0:
            KSR.tm.t_relay()
    elif KSR.is_INVITE() or KSR.is_MESSAGE():
        return self.call(user)
    else:
        KSR.sl.send_reply(200, "OK")
    return 1

def ask(self, user, timeout=60.0):
    asked = mqueue_kemi.ask("lookups", user, "what", then="ksr_answered", timeout=timeout, wait_for_worker=True)
    if not asked and asked != mqueue_kemi.AskResult.CANCELLED:
        KSR.sl.send_reply(503, asked.name)
    return asked

def call(self, user):
    self.ask(user)
    return 1

def ksr_answered(self, msg):
    answer = mqueue_kemi.answer()
    KSR.tm.t_reply(480, f"{answer.status.name} {answer.value}{answer.reason}")
    return 1
"""
_serial = itertools.count(1)


class Asking(Kamailio):
    """A server whose INVITEs and MESSAGEs ask in the queue `lookups`; `more` overrides methods of SCRIPT."""

    def __init__(
        self,
        definitions: Sequence[str] = ("name=lookups",),
        *,
        more: str = "",
        processes: int = 1,
        workers: int = 1,
        cfg: str = "",
        params: Sequence[tuple[str, object]] = (),
    ) -> None:
        timers = TIMERS.format(processes=processes) if processes else ""
        modules = ("tmx", "textops")
        super().__init__(
            definitions, handler=SCRIPT + more, workers=workers, modules=modules, cfg=timers + cfg, params=params
        )

    def totals(self) -> Totals:
        """What became of all questions."""
        return totals(self.instance)

    def wait_for(self, **wanted: int) -> Totals:
        """Wait until so many questions ended like that, and none is pending."""
        wait_until(lambda: self._has(wanted), f"{wanted}, and it is {self.totals()}", 30)
        return self.totals()

    def _has(self, wanted: dict[str, int]) -> bool:
        found = self.totals()._asdict()
        return all(found[name] == count for name, count in {"pending": 0, **wanted}.items())


class Worker:
    """Answers from this process."""

    def __init__(self, server: Server, queue: str = "lookups") -> None:
        self.queue: Any = attach(queue, server.instance)

    def answer(self, value: str, timeout: float = 30.0) -> bool:
        """Take one question and answer it."""
        with self.queue.reserve(timeout) as item:
            assert item is not None, "no question came"
            return bool(item.answer(value))

    def fail(self, reason: str) -> bool:
        """Take one question and say that there is no answer."""
        with self.queue.reserve(30.0) as item:
            assert item is not None, "no question came"
            return bool(item.reject(reason))


class Agent:
    """A caller with a socket of its own: sends, repeats, cancels, acknowledges, and collects what comes."""

    def __init__(self, port: int, user: str, method: str = "INVITE") -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind((sip.HOST, 0))
        self.port, self.user, self.method = port, user, method
        self.mark = f"{os.getpid()}-a{next(_serial)}"
        self.replies: list[tuple[float, int, str, str]] = []  # seconds, code, reason, method
        self.text = ""  # of the last reply
        self.begin = time.monotonic()
        self.send(method)

    def send(self, method: str, tag: str = "", port: int = 0) -> None:
        """Send the request, or what belongs to it: CANCEL, ACK."""
        own = f"{sip.HOST}:{self.sock.getsockname()[1]}"
        text = (
            f"{method} sip:{self.user}@{sip.HOST}:{self.port} SIP/2.0\r\n"
            f"Via: SIP/2.0/UDP {own};branch=z9hG4bK-{self.mark}\r\n"
            f"Max-Forwards: 70\r\nFrom: <sip:alice@{own}>;tag=1\r\nTo: <sip:{self.user}@{sip.HOST}>{tag}\r\n"
            f"Call-ID: {self.mark}\r\nCSeq: 1 {self.method if method in ('CANCEL', 'ACK') else method}\r\n"
        ).replace(f"CSeq: 1 {self.method}", f"CSeq: 1 {method if method in ('CANCEL', 'ACK') else self.method}")
        text += f"Contact: <sip:alice@{own}>\r\nContent-Length: 0\r\n\r\n"
        self.sock.sendto(text.encode(), (sip.HOST, port or self.port))

    def listen(self, seconds: float) -> bool:
        """Take what comes within that time; True if something did."""
        self.sock.settimeout(max(seconds, 0.001))
        try:
            text = self.sock.recv(65535).decode()
        except socket.timeout:
            return False
        self.text = text
        line, *lines = text.split("\r\n")
        _, code, reason = line.split(" ", 2)
        method = next(header for header in lines if header.lower().startswith("cseq:")).split()[-1]
        self.replies.append((time.monotonic() - self.begin, int(code), reason, method))
        if int(code) >= 300 and method == "INVITE":
            to = next(header for header in lines if header.lower().startswith("to:"))
            self.send("ACK", ";tag=" + to.split("tag=")[1])
        return True

    def final(self, timeout: float = 30.0) -> tuple[int, str]:
        """Wait for the final reply to the request itself."""
        end = time.monotonic() + timeout
        while True:
            for _, code, reason, method in self.replies:
                if code >= 200 and method == self.method:
                    return code, reason
            left = end - time.monotonic()
            if left <= 0 or not self.listen(left):
                msg = f"no final reply within {timeout} s; {self.replies}"
                raise sip.NoReplyError(msg)

    def quiet(self, seconds: float) -> list[int]:
        """Listen for so long; return all final codes to the request."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.listen(left)
        return [code for _, code, _, method in self.replies if code >= 200 and method == self.method]

    def __enter__(self) -> Agent:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self.sock.close()
