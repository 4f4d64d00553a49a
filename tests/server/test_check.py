"""`check` and the real server agree: what it finds wrong does not start, what it passes does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kemi.check.judge import judge
from kemi.check.problems import ERROR
from tests.server.harness import Kamailio

if TYPE_CHECKING:
    from tests.server.harness import Servers

# Lines of the script, and the method that a timer calls.
SCRIPT = """
import sys
sys.path.append("CHECKOUT")
import KSR
import mqueue_kemi
mqueue_kemi.modparam("mqueue", "instance", "INSTANCE")
mqueue_kemi.modparam("mqueue", "mqueue", "name=q;size=5")
class Script:
    def child_init(self, rank):
        return 0
    def ksr_request_route(self, msg):
        mqueue_kemi.mq_add("q", "k", "v")
        KSR.sl.send_reply(200, "OK")
        return 1
def mod_init():
    return mqueue_kemi.mod_init(Script())
"""
WRONG = {
    "syntax": ("return 0", "return 0)"),
    "a wrong size": ("size=5", "size=five"),
    "an unknown attribute": ("size=5", "sise=5"),
    "a queue twice": ("class Script", 'mqueue_kemi.modparam("mqueue", "mqueue_name", "q")\nclass Script'),
    "no child_init": ("def child_init", "def child"),
    "no mod_init": ("def mod_init", "def begin"),
    "an argument too few": ("child_init(self, rank)", "child_init(self)"),
}


class Own(Kamailio):
    """A server with a script of this test."""

    text = SCRIPT

    def write_script(self, *_: object, **__: object) -> None:
        from tests.server.harness import CHECKOUT

        text = self.text.replace("CHECKOUT", str(CHECKOUT)).replace("INSTANCE", self.instance)
        (self.home / "script.py").write_text(text, "utf-8")

    def ping(self, worker: int) -> bool:
        return self.request("OPTIONS", worker).status == 200


def errors(server: Kamailio) -> list[str]:
    """Return what `check` finds wrong in the server's kamailio.cfg and script."""
    verdict = judge(str(server.config()), {})
    return [str(problem) for problem in verdict.problems if problem.level == ERROR]


def test_what_is_right_starts(servers: Servers) -> None:
    """With the queue that `check` names."""
    server = servers.add(Own())
    assert errors(server) == []
    assert judge(str(server.config()), {}).queues == ["q"]
    server.start()
    assert server.process.log_lines("is ready, with q")


@pytest.mark.parametrize(("old", "new"), WRONG.values(), ids=WRONG.keys())
def test_what_is_wrong_does_not_start(servers: Servers, monkeypatch: pytest.MonkeyPatch, old: str, new: str) -> None:
    """Each of these ends the server's start."""
    monkeypatch.setattr(Own, "text", SCRIPT.replace(old, new))
    server = servers.add(Own())
    assert errors(server)
    server.refused()
