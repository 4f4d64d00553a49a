"""An exception that Kamailio leaves behind, as 5.6 does for a callback that the script lacks, is not ours.

It comes up in whatever runs next in that process. It is told once, and the work is done.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

import pytest

from tests.server.harness import LEAVES_EXCEPTIONS, Kamailio
from tests.server.process import wait_until

if TYPE_CHECKING:
    from tests.server.harness import Servers

# A timer process runs both, each time the missing one first, so that an exception waits for the other.
MISSING = """
modparam("rtimer", "timer", "name=both;interval=20000u;mode=1;")
modparam("rtimer", "exec", "timer=both;route=ksr_missing")
modparam("rtimer", "exec", "timer=both;route=ksr_after")
"""
TOLD = ("Kamailio left an exception behind", "AttributeError", "no attribute 'ksr_missing'")

# What a turn does first is our call; what came out of it is written down. A call that looked at nothing (a fetch from
# an empty queue) leaves the exception to what comes next.
HANDLER = """
def ksr_after(self, msg, event):
    result = {call}
    try:
        open(self.consumed + "/results", "a").close()
    except SystemError:
        pass
    with open(self.consumed + "/results", "a") as file:
        file.write(ascii(result) + "\\n")
    return 1
"""


def results(server: Kamailio) -> list[object]:
    """Return what the turns wrote down."""
    path = server.consumed / "results"
    text = path.read_text("ascii") if path.exists() else ""
    return [ast.literal_eval(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def start(servers: Servers, call: str, **more: object) -> Kamailio:
    """Start a server whose timer makes this call."""
    return servers.start(Kamailio(handler=HANDLER.replace("{call}", call), cfg=MISSING, **more))  # type: ignore[arg-type]


def test_a_consumer_goes_on(servers: Servers) -> None:
    """Everything that is added is consumed, in order, by a process in which each turn leaves an exception."""
    server = start(servers, "(mqueue_kemi.mq_fetch('q'), mqueue_kemi.mqk_get('q'))")
    for number in range(20):
        assert server.call("mq_add", "q", str(number), "v") == 1
    all_items: list[object] = [(1, str(number)) for number in range(20)]
    wait_until(lambda: [row for row in results(server) if row != (-2, None)] == all_items, "all is consumed")
    assert len(server.process.log_lines(*TOLD)) == (1 if LEAVES_EXCEPTIONS else 0)
    assert server.process.log_lines("mq_fetch('q')") == []


CALLS = {
    "mqueue_kemi.mq_add('q', 'k', 'v')": 1,
    "KSR.mqueue.mq_add('q', 'k', 'v')": 1,
    "mqueue_kemi.mq_size('full')": 1,
    "mqueue_kemi.mq_fetch('empty', 0.01)": -2,
    "mqueue_kemi.mq_pv_free('full')": 1,
    "mqueue_kemi.mq_add('q', b'k', '\\udc00')": 1,
}


@pytest.mark.parametrize("call", CALLS)
def test_every_function_does_its_work(servers: Servers, call: str) -> None:
    """Whichever comes first after the exception."""
    server = start(servers, call, definitions=["name=q", "name=full", "name=empty"])
    assert server.call("mq_add", "full", "k", "v") == 1
    before = len(results(server)) + 1  # and one that had begun
    wait_until(lambda: len(results(server)) > before + 5, "some turns")
    found = results(server)[before:]
    assert set(map(repr, found)) == {repr(CALLS[call])}
    assert len(server.process.log_lines(*TOLD)) <= 1
    told = server.process.log_lines(TOLD[0])  # before it, perhaps, one of which Python has dropped the words
    assert len(told) <= 2
    assert server.process.log_lines("mqueue_kemi:", "ERROR") == told
    assert server.process.log_lines("mqueue_kemi:", "'Queue'") == []


@pytest.mark.parametrize(
    ("call", "value"),
    [
        ("mqueue_kemi.mqk_get('q')", "key"),
        ("mqueue_kemi.mqv_gete('q')", "value"),
        ("KSR.mqueue.mqv_getw('q')", "value"),
        ("mqueue_kemi.mqk_get('empty')", None),
    ],
)
def test_what_was_fetched_is_given(servers: Servers, call: str, value: str | None) -> None:
    """The item that a former turn fetched is there."""
    once = f"{call} if mqueue_kemi.mqk_get('q') else ('fetched', mqueue_kemi.mq_fetch('q'))"
    server = start(servers, once, definitions=["name=q", "name=empty"])
    assert server.call("mq_add", "q", "key", "value") == 1
    wait_until(lambda: ("fetched", 1) in results(server), "it is fetched")
    server.write_script(["name=q", "name=empty"])
    text = (server.home / "script.py").read_text("utf-8").replace(once, call)
    (server.home / "script.py").write_text(text, "utf-8")
    server.reload()
    count = len(results(server))
    wait_until(lambda: len(results(server)) > count + 30, "some turns after the reload")
    assert set(results(server)[count + 5 :]) == {value}
    assert len(server.process.log_lines(*TOLD)) <= 1
