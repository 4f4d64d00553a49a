"""`ask` where and how nobody should: an answer to the script at once, a line in the log, and a server that goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.server.asking import Agent, Asking, Worker
from tests.server.process import wait_until

if TYPE_CHECKING:
    from tests.server.harness import Servers

SAY = """
def say(self, text):
    KSR.notice(f"SAID {text}\\n")
"""
NO_TRANSACTION = "no transaction is left"


def said(server: Asking) -> list[str]:
    """Return what the script said, in order."""
    return [line.partition("SAID ")[2] for line in server.process.log_lines("SAID ")]


def goes_on(server: Asking, worker: Worker) -> None:
    """The next call is answered, and no transaction is left of any."""
    with Agent(server.ports[0], "next") as agent:
        assert worker.answer("fine")
        assert agent.final() == (480, "ANSWERED fine")
    server.wait_for()
    wait_until(lambda: "current: 0" in server.kamcmd("tm.stats"), NO_TRANSACTION, 30)


def test_twice_in_one_route(servers: Servers) -> None:
    """The second question is refused, and the first one answered. Suspended twice, it would never be freed by tm."""
    more = (
        SAY
        + """
def call(self, user):
    asked = [
        mqueue_kemi.ask("lookups", user, then="ksr_answered", timeout=30.0, wait_for_worker=True).name
        for _ in range(2 if user == "twice" else 1)
    ]
    self.say(asked)
    return 1
"""
    )
    server = servers.start(Asking(more=more))
    worker = Worker(server)
    with Agent(server.ports[0], "twice") as agent:
        wait_until(lambda: len(said(server)) == 1, "the route ended", 30)
        assert worker.answer("once")
        assert agent.final() == (480, "ANSWERED once")
    assert said(server) == ["['ASKED', 'FAILED']"]
    assert "the transaction waits for an answer already" in server.told()[0]
    server.wait_for(asked=1, answered=1)
    goes_on(server, worker)


def test_a_route_that_raises(servers: Servers) -> None:
    """It is told, the others' answers go on, and the transaction ends by tm's own timers."""
    more = """
def ksr_answered(self, msg):
    answer = mqueue_kemi.answer()
    if answer.value == "raise":
        raise ValueError("in the route")
    KSR.tm.t_reply(480, f"{answer.status.name} {answer.value}{answer.reason}")
    return 1
"""
    server = servers.start(Asking(more=more, cfg='modparam("tm", "fr_timer", 1000)\n'))
    worker = Worker(server)
    with Agent(server.ports[0], "raises") as agent:
        assert worker.answer("raise")
        assert agent.final()[0] == 500  # by app_python3 and tm
    assert server.process.log_lines("ValueError: in the route")
    goes_on(server, worker)


def test_elsewhere(servers: Servers) -> None:
    """In a branch, a reply, a route of a timer, and when a process begins."""
    more = (
        SAY
        + """
def tell(self, where):
    asked = mqueue_kemi.ask("lookups", where, then="ksr_answered", timeout=1.0, wait_for_worker=True)
    self.say(f"{where} {asked.name}")
def child_init(self, rank):
    if rank == 1:
        self.tell("child_init")
    return 0
def ksr_tick(self, *_):
    if not KSR.pv.get("$shv(ticked)"):
        KSR.pv.seti("$shv(ticked)", 1)
        self.tell("timer")
    return 1
def ksr_branch(self, msg):
    self.tell("branch")
    return 1
def ksr_onreply(self, msg):
    self.tell("reply")
    return 1
def call(self, user):
    if user == "next":
        self.ask(user)
    elif user == "callee":
        KSR.sl.send_reply(486, "Busy")
    else:
        KSR.tm.t_on_branch("ksr_branch")
        KSR.tm.t_on_reply("ksr_onreply")
        KSR.pv.sets("$ru", "sip:callee@127.0.0.1:" + str(KSR.pv.get("$Rp")))
        KSR.tm.t_relay()
    return 1
"""
    )
    cfg = """
modparam("pv", "shvset", "ticked=i:0")
modparam("rtimer", "timer", "name=tick;interval=1;mode=1;")
modparam("rtimer", "exec", "timer=tick;route=ksr_tick")
"""
    server = servers.start(Asking(more=more, cfg=cfg))
    with Agent(server.ports[0], "route") as agent:
        assert agent.final() == (486, "Busy")
    wait_until(lambda: len(said(server)) >= 4, f"all were tried: {said(server)}", 30)
    assert sorted(said(server)) == ["branch FAILED", "child_init FAILED", "reply FAILED", "timer FAILED"]
    told = [line.partition("ask('lookups'): ")[2] for line in server.told() if "ask('lookups')" in line]
    assert sorted(line.partition(";")[0].partition(":")[0] for line in told) == [
        *["a reply or a branch cannot be suspended here"] * 2,
        *["there is no request here"] * 2,
    ]
    assert server.totals().asked == 0
    worker = Worker(server)
    goes_on(server, worker)
