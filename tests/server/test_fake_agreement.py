"""The fake KSR and the real one: the same calls, the same results, log lines and replies."""

from __future__ import annotations

import json
import re
import socket
import textwrap
from typing import TYPE_CHECKING, Any

import pytest

from kemi.testing import FakeKSR, Script
from tests.conftest import HANG
from tests.server import sip
from tests.server.conversation import Scripted
from tests.server.harness import CHECKOUT
from tests.server.process import wait_until
from tests.testing.agreement import CASES, ROUTED, Case
from tests.testing.idioms import IDIOMS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from tests.server.harness import Servers

MODULES = ("ctl", "kex", "tm", "tmx", "sl", "rr", "pv", "maxfwd", "textops", "siputils", "xlog", "app_python3")

# What both run: expressions of a file, named by the request, and their outcomes into another one.
SCRIPT = """
import json, os, sys
sys.path.insert(0, {checkout!r})
import KSR
import mqueue_kemi

mqueue_kemi.modparam("mqueue", "instance", {instance!r})
mqueue_kemi.modparam("mqueue", "mqueue", "name=q")

def outcome(expression):
    try:
        return ascii(eval(expression, {{"KSR": KSR}}))
    except Exception as error:
        cause = error.__cause__
        text = str(error).split("; ")[0]
        return ascii((type(error).__name__, text, type(cause).__name__, str(cause)))

class Handler:
    def child_init(self, rank):
        return 0

    def ksr_request_route(self, msg):
        name = KSR.hdr.get("X-Case")
        if name is None:
            KSR.sl.sl_send_reply(200, "OK")
            return 1
        path = os.path.join({home!r}, name)
        with open(path + ".in") as file:
            expressions = json.load(file)
        KSR.info("BEGIN " + name + "\\n")
        outcomes = [outcome(each) for each in expressions]
        KSR.info("END " + name + "\\n")
        with open(path + ".part", "w") as file:
            json.dump(outcomes, file)
        os.rename(path + ".part", path + ".out")
        return 1

    def ksr_reply_route(self, msg):
        return self.ksr_request_route(msg)

    def ksr_onsend_route(self, msg):
        return 1

    def b(self, msg):
        return 1

def mod_init():
    return mqueue_kemi.mod_init(Handler())
"""


class Real(Scripted):
    """A Kamailio with that script."""

    modules: tuple[str, ...] = MODULES

    def script(self) -> str:
        return script(self.instance, self.home)

    def play(self, mark: str, message: bytes, client: socket.socket) -> tuple[list[str], list[bytes]]:
        """Send a message; return what the script wrote down, and the replies."""
        client.sendto(message, (sip.HOST, self.ports[0]))
        out = self.home / f"{mark}.out"
        wait_until(out.exists, "the script has run")
        outcomes: list[str] = json.loads(out.read_text("ascii"))
        # Whatever was sent before this answer has come before it.
        client.sendto(ping(mark), (sip.HOST, self.ports[0]))
        replies = []
        while b"\r\nCall-ID: ping" not in (reply := client.recv(65535)):
            replies.append(reply)
        # What a transaction of a case before sends once more is not this one's.
        own = f"\r\nCall-ID: {mark}@".encode()
        return outcomes, [reply for reply in replies if own in reply]


class Wide(Real):
    """With the modules that public scripts use."""

    modules = (
        *MODULES[:-1],
        *("usrloc", "registrar", "nathelper", "textopsx", "kemix", "corex", "ipops", "pike", "sanity", "permissions"),
        *("htable", "cfgutils", "auth", "dialog", "sdpops", "uac", "path", "app_python3"),
    )
    parameters = (
        '"htable", "htable", "a=>size=4"',
        '"htable", "htable", "ipban=>size=4"',
        '"usrloc", "preload", "location"',
        '"nathelper", "received_avp", "$avp(RECEIVED)"',
        '"registrar", "received_avp", "$avp(RECEIVED)"',
    )


def ping(mark: str) -> bytes:
    lines = [
        "OPTIONS sip:127.0.0.1 SIP/2.0",
        f"Via: SIP/2.0/UDP 127.0.0.1;rport;branch=z9hG4bKping{mark}",
        "From: <sip:a@b>;tag=1",
        "To: <sip:a@b>",
        f"Call-ID: ping{mark}",
        "CSeq: 1 OPTIONS",
        "Content-Length: 0",
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def script(instance: str, home: Path) -> str:
    return textwrap.dedent(SCRIPT).format(checkout=str(CHECKOUT), instance=instance, home=str(home))


def bytes_of(case: Case, mark: str, port: int) -> bytes:
    head, _, body = case.message.format(mark=mark, port=port).partition("\n\n")
    return (head.replace("\n", "\r\n") + "\r\n\r\n" + body).encode()


_BY_CORE = r"<core> \[core/kemi\.c:\d+\]: sr_kemi_core_(?:err|info|warn|notice|crit|log)\(\)"
_WRITTEN = re.compile(rf"^ *\d+\(\d+\) ?([A-Z]*): (?:<script>|{_BY_CORE}): (.*)$")
_LEVELS = {"": "crit", "CRITICAL": "crit", "ERROR": "err", "WARNING": "warn"}


def lines_of(log: str, mark: str) -> list[tuple[str, str]]:
    """Level and text of what the script wrote for one case."""
    found = [match.groups() for match in map(_WRITTEN.match, log.splitlines()) if match]
    begin, end = found.index(("INFO", f"BEGIN {mark}")), found.index(("INFO", f"END {mark}"))
    return [(_LEVELS.get(level, level.lower()), text) for level, text in found[begin + 1 : end]]


def reply_of(data: bytes) -> tuple[int, str, list[str], str]:
    """Code, reason, the script's own headers, body."""
    head, _, body = data.decode().partition("\r\n\r\n")
    first, *headers = head.split("\r\n")
    _, code, reason = first.split(" ", 2)
    return int(code), reason, own_headers(headers), body


def own_headers(headers: Iterable[str]) -> list[str]:
    return [header.strip() for header in headers if header.startswith(("X-", "Content-Type"))]


@pytest.fixture
def client() -> Iterator[socket.socket]:
    """The user agent of all cases."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((sip.HOST, 0))
        sock.settimeout(HANG)
        yield sock


def marks(cases: dict[str, Case]) -> dict[str, str]:
    """Names of cases as they go into a header."""
    return {name: f"c{number}" for number, name in enumerate(cases)}


def really(server: Real, client: socket.socket, cases: dict[str, Case]) -> dict[str, Any]:
    played = {}
    for name, mark in marks(cases).items():
        (server.home / f"{mark}.in").write_text(json.dumps(cases[name].expressions), "ascii")
        message = bytes_of(cases[name], mark, server.ports[0])
        played[name] = server.play(mark, message, client)
    log = server.process.log()
    return {
        name: {
            **dict(zip(cases[name].expressions, outcomes, strict=True)),
            "log": lines_of(log, marks(cases)[name]),
            "replies": [reply_of(reply) for reply in replies],
        }
        for name, (outcomes, replies) in played.items()
    }


def faked(server: Real, client: socket.socket, home: Path, cases: dict[str, Case]) -> dict[str, Any]:
    """The same cases through the runner, with the same ports; the fake is the release that is installed."""
    ksr = FakeKSR()
    ksr.state.listening = (sip.HOST, server.ports[0])
    results = {}
    with Script(script("ignored", home), ksr) as loaded:
        for name, mark in marks(cases).items():
            (home / f"{mark}.in").write_text(json.dumps(cases[name].expressions), "ascii")
            text = bytes_of(cases[name], mark, server.ports[0]).decode()
            play = loaded.reply if text.startswith("SIP/") else loaded.request
            result = play(text, client.getsockname())
            outcomes = json.loads((home / f"{mark}.out").read_text("ascii"))
            results[name] = {
                **dict(zip(cases[name].expressions, outcomes, strict=True)),
                "log": [(line.level, line.text.rstrip("\n")) for line in result.log[1:-1] if line.level != "dbg"],
                "replies": [
                    (reply.code, reply.reason, own_headers(reply.headers), reply.body) for reply in result.replies
                ],
            }
    return results


def differences(real: dict[str, Any], fake: dict[str, Any]) -> list[str]:
    return [
        f"{name}: {key}\n  server: {real[name][key]}\n  fake:   {fake[name][key]}"
        for name in real
        for key in real[name]
        if real[name][key] != fake[name][key]
    ]


@pytest.mark.parametrize(("kind", "cases"), [(Real, CASES), (Wide, IDIOMS)], ids=["calls", "idioms"])
def test_the_fake_agrees_with_the_server(
    kind: type[Real], cases: dict[str, Case], servers: Servers, client: socket.socket, tmp_path: Path
) -> None:
    """Every case, expression by expression."""
    server = servers.start(kind())
    found = differences(really(server, client, cases), faked(server, client, tmp_path, cases))
    assert not found, "\n".join(found)


ONE = "KSR.rr.loose_route(), KSR.tm.t_relay()"


def test_a_script_without_an_onsend_route(servers: Servers, client: socket.socket, tmp_path: Path) -> None:
    """In 5.6 its t_relay raises SystemError, and only there; in 6.0 it goes on."""
    server = servers.add(Real())  # a script of its own is there before it starts
    for path in (server.home, tmp_path):
        (path / "c0.in").write_text(json.dumps([ONE]), "ascii")
        text = script(server.instance if path == server.home else "ignored", path)
        (path / "script.py").write_text(text.replace("ksr_onsend_route", "ksr_other"), "ascii")
    server.start()
    message = bytes_of(Case(ROUTED, ()), "c0", server.ports[0])
    ((outcome,), _) = server.play("c0", message, client)
    ksr = FakeKSR()
    ksr.state.listening = (sip.HOST, server.ports[0])
    with Script(tmp_path / "script.py", ksr) as loaded:
        loaded.request(message.decode(), client.getsockname())
    (faked,) = json.loads((tmp_path / "c0.out").read_text("ascii"))
    assert ("no attribute 'ksr_onsend_route'" in outcome) == (ksr.release == "5.6")
    assert faked == outcome


def test_there_are_enough_cases() -> None:
    assert len(CASES) >= 60
