"""A script that was written for the C module does the same with ours, which takes three lines more."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.server import sip
from tests.server.harness import CHECKOUT, Reachable, Server
from tests.server.process import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.server.harness import Servers

DEFINITIONS = ("name=myq;size=20;", "name=qaz", "name=small;size=2;addmode=2")

# What such scripts look like: workers add, a timer takes ten times a second.
SCRIPT = """
import KSR

class kamailio:
    def child_init(self, rank):
        return 0

    def ksr_request_route(self, msg):
        if KSR.pv.get("$rm") == "OPTIONS":
            KSR.sl.send_reply(200, "OK")
            return 1
        KSR.mqueue.mq_add("myq", KSR.pv.gete("$rU"), "call from " + KSR.pv.gete("$fU") + " $rU {s.len}")
        if KSR.mqueue.mq_size("myq") > 2:
            KSR.mqueue.mq_add("qaz", "full", str(KSR.mqueue.mq_size("myq")))
        for name in ("a", "b", "a", "c"):
            KSR.info("CODE small %d\\n" % KSR.mqueue.mq_add("small", name, KSR.pv.gete("$rU")))
        KSR.info("CODE sizes %d %d %d\\n" % tuple(KSR.mqueue.mq_size(q) for q in ("small", "empty", "nosuch")))
        KSR.info("CODE unknown %d %d %d\\n" % (KSR.mqueue.mq_add("nosuch", "k", "v"), KSR.mqueue.mq_fetch("nosuch"),
                                             KSR.mqueue.mq_pv_free("nosuch")))
        KSR.info("CODE nothing %d %d\\n" % (KSR.mqueue.mq_fetch("empty"), KSR.mqueue.mq_pv_free("empty")))
        while KSR.mqueue.mq_fetch("small") > 0:
            KSR.info("TAKEN small " + KSR.mqueue.mqk_get("small") + " " + KSR.mqueue.mqv_get("small") + "\\n")
        KSR.info("CODE after %s %s %d\\n" % (KSR.mqueue.mqk_get("small"), KSR.mqueue.mqv_get("small"),
                                           KSR.mqueue.mq_fetch("small")))
        KSR.sl.send_reply(202, "Queued")
        return 1

    def ksr_consume(self, msg, evname):
        for q in ("myq", "qaz"):
            while KSR.mqueue.mq_fetch(q) > 0:
                KSR.info("TAKEN " + KSR.pv.gete("$mqk(" + q + ")") + " - " + KSR.pv.gete("$mqv(" + q + ")") + "\\n")
                KSR.xlog.xinfo("TAKEN $mqk(" + q + ") $(mqv(" + q + "){s.len}) of $mq_size(" + q + ")\\n")
                KSR.mqueue.mq_pv_free(q)
                KSR.info("CODE freed %s %s\\n" % (KSR.pv.getw("$mqk(" + q + ")"), KSR.mqueue.mqv_get(q)))
        return 1

def mod_init():
    return kamailio()
"""


GO = """
        if KSR.pv.get("$rU") == "go":
            KSR.mqueue.mq_add("empty", "k", "v")
        KSR.sl.send_reply(202, "Queued")
"""


class Either(Server):
    """A server with that script, and the C module or ours."""

    def __init__(self, theirs: bool, script: str = SCRIPT) -> None:
        super().__init__()
        definitions = [*DEFINITIONS, "name=empty"]
        if not theirs:
            lines = ["import sys", f"sys.path.insert(0, {str(CHECKOUT)!r})", "import mqueue_kemi"]
            lines += [f"mqueue_kemi.modparam('mqueue', 'mqueue', {text!r})" for text in definitions]
            lines.append(f"mqueue_kemi.modparam('mqueue', 'instance', {self.instance!r})")
            script = "\n".join(lines) + script.replace("return kamailio()", "return mqueue_kemi.mod_init(kamailio())")
        (self.home / "script.py").write_text(script, "utf-8")
        modules = ["ctl", "kex", "pv", "sl", "tm", "xlog", "rtimer", *(["mqueue"] if theirs else []), "app_python3"]
        self.config().write_text(
            "\n".join(
                [
                    "#!KAMAILIO",
                    "debug=2\nchildren=1\ndisable_tcp=yes\nauto_aliases=no",
                    f"listen=udp:{sip.HOST}:{self.ports[0]}",
                    *(f'loadmodule "{name}.so"' for name in modules),
                    *(f'modparam("mqueue", "mqueue", "{text}")' for text in definitions if theirs),
                    f'modparam("app_python3", "load", "{self.home}/script.py")',
                    'modparam("rtimer", "timer", "name=ta;interval=100000u;mode=1;")',
                    'modparam("rtimer", "exec", "timer=ta;route=ksr_consume")',
                    'cfgengine "python"\n',
                ]
            ),
            "utf-8",
        )

    def config(self) -> Path:
        return self.home / "kamailio.cfg"

    def said(self) -> list[str]:
        """Return what the script wrote, without pids and places."""
        return [found[0] for line in self.process.log().splitlines() if (found := re.search("(TAKEN|CODE) .*", line))]


def calls(server: Either, names: list[bytes]) -> None:
    """Send a message to each of them."""
    for name in names:
        assert sip.send(server.ports[0], "MESSAGE", to=name).result().status == 202


def test_the_same_script(servers: Servers) -> None:
    """Every code and every text that it writes is the same, in the same order."""
    names = [*(b"user%d" % number for number in range(12)), b"%C3%BC", b"a.b"]
    story = []
    for server in (servers.start(Either(theirs)) for theirs in (True, False)):

        def taken(server: Either = server) -> bool:
            return server.said()[-1] == "CODE freed <null> None"

        for name in names:
            calls(server, [name])
            wait_until(taken, "the timer takes it")
        story.append(server.said())
        server.stop()
    assert story[1] == story[0]
    assert len([line for line in story[0] if line.startswith("TAKEN ")]) == 4 * len(names)
    assert "CODE sizes 2 0 -1" in story[0]
    assert "CODE unknown -1 -1 1" in story[0]
    assert "CODE nothing -2 1" in story[0]
    assert "TAKEN user3 - call from alice $rU {s.len}" in story[0]


def test_a_burst(servers: Servers) -> None:
    """Both drop the oldest when the size is reached; the rest is taken in order."""
    script = SCRIPT.replace(
        'for q in ("myq", "qaz"):', 'for q in ("myq", "qaz") if KSR.mqueue.mq_size("empty") > 0 else ():'
    ).replace('        KSR.sl.send_reply(202, "Queued")', GO)
    story = []
    for server in (servers.start(Either(theirs, script)) for theirs in (True, False)):
        calls(server, [*(b"u%d" % number for number in range(25)), b"go"])

        def taken(server: Either = server) -> bool:
            return server.said()[-1:] == ["CODE freed <null> None"] and server.said()[-2] == "TAKEN full 2 of 0"

        wait_until(taken, "the timer takes all")
        story.append(server.said())
    assert story[1] == story[0]
    first = [line for line in story[0] if " - call from" in line]
    assert [line.split()[1] for line in first] == [*(f"u{number}" for number in range(6, 25)), "go"]


GETTERS = [f"mq{part}_get{way}" for part in "kv" for way in ("", "e", "w")]
NAMES = ["mq_add", "mq_fetch", "mq_pv_free", "mq_size", *GETTERS]
CALLS = {
    "mq_add": [("q", "k", "v"), ("nosuch", "k", "v"), ("", "", "")],
    "mq_fetch": [("q",), ("empty",), ("nosuch",), ("",)],
    "mq_pv_free": [("q",), ("empty",), ("nosuch",), ("",)],
    "mq_size": [("q",), ("empty",), ("nosuch",), ("",)],
    "mqk_get": [("q",), ("empty",), ("nosuch",), ("",)],
    "mqv_get": [("q",), ("empty",), ("nosuch",), ("",)],
}


@pytest.mark.parametrize("fetched", [False, True])
def test_the_ten_functions(servers: Servers, fetched: bool) -> None:
    """KSR.mqueue has the names of KEMI's reference, and each gives the C module's code in each case."""
    code = f"""
        m, found = KSR.mqueue, {{"names": sorted(name for name in dir(KSR.mqueue) if name.startswith("mq"))}}
        m.mq_add("q", "key", "value")
        if {fetched}:
            m.mq_fetch("q")
        for name, calls in {CALLS}.items():
            found[name] = [getattr(m, name)(*arguments) for arguments in calls]
        return found
    """
    theirs, ours = (servers.start(Reachable(["name=q", "name=empty"], theirs=theirs)) for theirs in (True, False))
    wanted, found = theirs.run(code), ours.run(code)
    assert found == wanted
    assert found["names"] == sorted(NAMES)
    assert len(NAMES) == 10
    convention = f"""
        m = KSR.mqueue
        nothing = [getattr(m, name)("empty") for name in {GETTERS}]
        m.mq_add("q", "k", "v")
        m.mq_fetch("q")
        return nothing, [getattr(m, name)("q") for name in {GETTERS}]
    """
    assert ours.run(convention) == ([None, "", "<null>"] * 2, ["k"] * 3 + ["v"] * 3)
    assert theirs.run(convention) == ([None] * 6, ["k"] * 3 + ["v"] * 3), "the documented difference"
