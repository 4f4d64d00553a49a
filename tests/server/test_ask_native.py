"""`mq_ask` and `mq_answer` in a native kamailio.cfg: a transaction goes on in a route[...]."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from kemi.answers.view import totals
from tests.server.asking import Agent, Worker
from tests.server.process import wait_until
from tests.server.test_native import Native

if TYPE_CHECKING:
    from tests.server.harness import Servers

DEFINITIONS = """
modparam("mqueue", "instance", "INSTANCE")
modparam("mqueue", "mqueue", "name=lookups")
"""
ROUTES = """
modparam("rtimer", "timer", "name=answers;interval=1000u;mode=1;")
modparam("rtimer", "exec", "timer=answers;route=MQ_ANSWERS")

request_route {
    if ($rm == "OPTIONS") {
        sl_send_reply("200", "Alive");
        exit;
    }
    if ($rm == "ACK") {
        t_check_trans();
        exit;
    }
    $vn(mqk_lookups) = $rU;
    $vn(mqv_lookups) = "more";
    $var(how) = "lookups;then=ANSWERED;timeout=60;wait_for_worker=1";
    if ($rU == "late") $var(how) = "lookups;then=ANSWERED;timeout=1.5;wait_for_worker=1";
    if ($rU == "alone") $var(how) = "lookups;then=ANSWERED;timeout=2";
    if ($rU == "noroute") $var(how) = "lookups;then=NOWHERE;timeout=2";
    if ($rU == "notime") $var(how) = "lookups;then=ANSWERED;timeout=soon";
    if ($rU == "noword") $var(how) = "lookups;than=ANSWERED;timeout=1";
    if (!python_exec("mq_ask", "$var(how)")) {
        xlog("L_NOTICE", "SAID ask $rc\\n");
        send_reply("503", "Refused");
    }
}

route[ANSWERED] {
    python_exec("mq_answer");
    xlog("L_NOTICE", "SAID answer $rc $vn(mqk_lookups) $vn(mqv_lookups) $vn(mqr_lookups)\\n");
    $var(reason) = "Answered " + $vn(mqv_lookups);
    t_reply("480", "$var(reason)");
}

route[MQ_ANSWERS] {
    python_exec("mq_answers");
}
"""


class NativeAsking(Native):
    """A server that asks."""

    modules = ("tm", "tmx", "textops", "rtimer")

    def route(self) -> str:
        return ROUTES


def test_a_native_configuration_asks(servers: Servers) -> None:
    """Answer, failure, timeout, and what is refused; each is counted, and no transaction is left."""
    server = servers.start(NativeAsking(DEFINITIONS))

    def call(user: str) -> tuple[int, str]:
        with Agent(server.ports[0], user) as agent:
            return agent.final()

    assert [call(user) for user in ("alone", "noroute", "notime", "noword")] == [(503, "Refused")] * 4
    worker = Worker(server)
    with Agent(server.ports[0], "alice") as agent:
        with worker.queue.reserve(30) as item:
            assert (item.key, item.value, item.asked) == ("alice", "more", True)
            assert item.answer("to gw1")
        assert agent.final() == (480, "Answered to gw1")
    with Agent(server.ports[0], "bob") as agent:
        assert worker.fail("unknown number")
        assert agent.final() == (480, "Answered ")
    with Agent(server.ports[0], "late") as agent, worker.queue.reserve(30):
        assert agent.final() == (480, "Answered ")
    assert server.said() == [
        *("ask -3", "ask -1", "ask -1", "ask -1"),
        "answer 1 alice to gw1 ",
        "answer -1 bob  unknown number",
        "answer -2 late  no answer came in time",
    ]

    def counts() -> tuple[int, ...]:
        found = totals(server.instance)
        return found.asked, found.answered, found.failed, found.timed_out, found.pending

    # A question is counted when its route has ended, which is after its reply.
    wait_until(lambda: counts()[-1] == 0, "the last one is counted", 30)
    assert counts() == (3, 1, 1, 1, 0)
    told = [line for line in server.told() if "no worker" not in line]
    for line, text in zip(told, ("then='NOWHERE'", "timeout= must be a number", "'than=ANSWERED'")):
        assert re.search(re.escape(text), line)
    wait_until(lambda: "current: 0" in server.kamcmd("tm.stats"), "no transaction is left", 30)
