"""`ask` on the real server: what a caller gets, what becomes of the transaction, and what is counted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from kemi.cli import metrics
from kemi.queue.catalog.view import look_at_answers
from kemi.queue.delivery import answering
from kemi.queue.format import layout
from tests.asleep import idle
from tests.server.asking import Agent, Asking, Worker
from tests.server.process import wait_until

if TYPE_CHECKING:
    from tests.server.harness import Kamailio, Servers

SAY = """
def say(self, text):
    KSR.notice(f"SAID {text}\\n")
"""


def said(server: Kamailio) -> list[str]:
    """Return what the script said, in order."""
    return [line.partition("SAID ")[2] for line in server.process.log_lines("SAID ")]


def answers_process(server: Kamailio) -> int:
    """Return the pid of the process that lets transactions go on."""
    wait_until(lambda: bool(look_at_answers(server.instance, 0)[layout.W_ASK_SERVER]), "it serves", 30)
    return int(look_at_answers(server.instance, 0)[layout.W_ASK_SERVER])


def test_an_answer_a_failure_and_the_timeout(servers: Servers) -> None:
    """The route goes on with each, once; nothing is pending, and no transaction is left."""
    server = servers.start(
        Asking(more="def call(self, user):\n    self.ask(user, 0.7 if user == 'late' else 30)\n    return 1")
    )
    worker = Worker(server)
    with Agent(server.ports[0], "alice") as alice:
        assert worker.answer("to gw1")
        assert alice.final() == (480, "ANSWERED to gw1")
    with Agent(server.ports[0], "bob") as bob:
        assert worker.fail("unknown number")
        assert bob.final() == (480, "FAILED unknown number")
    with Agent(server.ports[0], "late") as late:
        with worker.queue.reserve(30) as item:
            assert late.final() == (480, "TIMED_OUT no answer came in time")
            assert not item.answer("too late")
        assert late.replies[-1][0] >= 0.7
    with Agent(server.ports[0], "msg", "MESSAGE") as message:
        assert worker.answer("yes")
        assert message.final() == (480, "ANSWERED yes")
    found = server.wait_for(asked=4, answered=2, failed=1, timed_out=1)
    told = metrics.text(server.instance)
    assert f'mqueue_kemi_questions_pending{{mqueue_instance="{server.instance}"}} 0' in told
    assert f'mqueue_kemi_questions_ended_total{{mqueue_instance="{server.instance}",result="timed_out"}} 1' in told
    assert (found.cancelled, found.gone, found.withdrawn, found.slow) == (0, 0, 0, 0)
    lines = [line.strip() for line in server.kamcmd("mqueue.questions").splitlines()]
    assert {"asked: 4", "pending: 0", "answered: 2", "failed: 1", "timed_out: 1", "max_asked: 5000"} <= set(lines)
    wait_until(lambda: "current: 0" in server.kamcmd("tm.stats"), "no transaction is left", 30)


def test_an_answer_before_the_route_ended(servers: Servers) -> None:
    """The transaction goes on at once, in the other process."""
    more = """
def call(self, user):
    import time
    self.ask(user, 30)
    end = time.monotonic() + 20
    while not KSR.pv.get("$shv(went)") and time.monotonic() < end:
        time.sleep(0.01)
    return 1
def ksr_answered(self, msg):
    KSR.tm.t_reply(480, mqueue_kemi.answer().value)
    KSR.pv.seti("$shv(went)", 1)
    return 1
"""
    server = servers.start(Asking(more=more, cfg='modparam("pv", "shvset", "went=i:0")\n'))
    worker = Worker(server)
    with Agent(server.ports[0], "early") as agent:
        assert worker.answer("early")
        assert agent.final() == (480, "early")
    server.wait_for(answered=1)


def test_a_script_that_replies_itself_afterwards(servers: Servers) -> None:
    """Its reply is the caller's; the route still runs for the answer, and its reply is refused by tm."""
    more = (
        SAY
        + """
def call(self, user):
    self.ask(user, 30)
    KSR.tm.t_reply(404, "own")
    return 1
def ksr_answered(self, msg):
    self.say(f"reply {KSR.tm.t_reply(480, 'second')}")
    return 1
"""
    )
    server = servers.start(Asking(more=more))
    worker = Worker(server)
    with Agent(server.ports[0], "own") as agent:
        assert agent.final() == (404, "own")
        assert worker.answer("x")
        server.wait_for(asked=1, answered=1)
        assert agent.quiet(0.3) == [404]
    assert said(server) == ["reply -1"]


def test_two_answers(servers: Servers) -> None:
    """The second one is dropped and counted."""
    server = servers.start(Asking())
    worker = Worker(server)
    with Agent(server.ports[0], "twice") as agent, worker.queue.reserve(30) as item:
        assert answering.answer(item._hold.source._others, item._record, "1")
        assert answering.answer(item._hold.source._others, item._record, "2")
        assert agent.final() == (480, "ANSWERED 1")
        wait_until(lambda: server.totals().late == 1, "the second is counted", 30)
    server.wait_for(asked=1, answered=1)


def test_a_route_that_asks_again(servers: Servers) -> None:
    """A transaction may be suspended again in the route that goes on."""
    more = """
def ksr_answered(self, msg):
    answer = mqueue_kemi.answer()
    if answer.value == "one":
        self.ask("again")
    else:
        KSR.tm.t_reply(480, answer.value)
    return 1
"""
    server = servers.start(Asking(more=more))
    worker = Worker(server)
    with Agent(server.ports[0], "again") as agent:
        assert worker.answer("one")
        assert worker.answer("two")
        assert agent.final() == (480, "two")
    server.wait_for(asked=2, answered=2)


def test_asking_in_a_failure_route(servers: Servers) -> None:
    """What nobody answered asks where else to go."""
    more = """
def call(self, user):
    KSR.tm.t_on_failure("ksr_failure")
    KSR.pv.sets("$du", "sip:127.0.0.1:9")
    KSR.tm.t_set_fr(300, 300)
    KSR.tm.t_relay()
    return 1
def ksr_failure(self, msg):
    self.ask("failed", 30)
    return 1
"""
    server = servers.start(Asking(more=more))
    worker = Worker(server)
    with Agent(server.ports[0], "fail") as agent:
        assert worker.answer("elsewhere")
        assert agent.final() == (480, "ANSWERED elsewhere")
    server.wait_for(asked=1, answered=1)


def test_a_caller_who_cancels(servers: Servers) -> None:
    """While he waits: 487, and the route does not run. Before he asks: CANCELLED, and nothing is asked."""
    more = (
        SAY
        + """
def call(self, user):
    import time
    KSR.tm.t_newtran()
    end = time.monotonic() + 20
    while user == "before" and KSR.tm.t_is_canceled() <= 0 and time.monotonic() < end:
        time.sleep(0.01)
    self.say(self.ask(user, 30).name)
    return 1
def ksr_answered(self, msg):
    self.say("ran")
    return 1
"""
    )
    server = servers.start(Asking(more=more, workers=2))
    worker = Worker(server)
    with Agent(server.ports[0], "while") as agent, worker.queue.reserve(30) as item:
        agent.send("CANCEL")
        assert agent.final()[0] == 487
        assert item.answer("x")
        server.wait_for(asked=1, cancelled=1, answered=0)
    with Agent(server.ports[0], "before") as agent:
        wait_until(lambda: "created: 3" in server.kamcmd("tm.stats"), "its transaction is there", 30)
        agent.send("CANCEL", port=server.ports[1])
        assert agent.final()[0] == 487
    wait_until(lambda: said(server) == ["ASKED", "CANCELLED"], "what the script got", 30)
    assert server.totals().asked == 1


def test_a_slow_route_is_told(servers: Servers) -> None:
    """The lock of the transaction's replies is held: a worker with a retransmission waits. Counted, and in the log."""
    more = (
        SAY
        + """
def ksr_answered(self, msg):
    import os, time
    self.say("began")
    end = time.monotonic() + 25
    while not os.path.exists(self.consumed + "/go") and time.monotonic() < end:
        time.sleep(0.05)
    KSR.tm.t_reply(480, "slow")
    return 1
"""
    )
    server = servers.start(Asking(more=more))
    worker = Worker(server)
    with Agent(server.ports[0], "slow") as agent:
        assert worker.answer("x")
        wait_until(lambda: said(server) == ["began"], "the route runs", 30)
        agent.send("INVITE")
        job = server.submit("return 1")  # for the same worker, behind the retransmission
        time.sleep(0.5)
        assert not job.path.with_suffix(".out").exists()
        (server.consumed / "go").touch()
        assert job.result() == 1
        assert agent.final() == (480, "slow")
    server.wait_for(answered=1, slow=1)
    wait_until(lambda: server.process.log_lines("route ksr_answered took ", "reply lock"), "it is told", 30)
    (server.consumed / "go").unlink()


def test_the_backstop(servers: Servers) -> None:
    """If the answers process stands still, tm ends the transaction a second after the deadline, and nothing is left."""
    more = "def call(self, user):\n    self.ask(user, 0.5)\n    return 1"
    server = servers.start(Asking(more=more))
    pid = answers_process(server)
    os.kill(pid, signal.SIGSTOP)
    try:
        with Agent(server.ports[0], "stopped") as agent:
            assert agent.final()[0] == 408
            assert agent.replies[-1][0] > 1.2
    finally:
        os.kill(pid, signal.SIGCONT)
    found = server.wait_for(asked=1)
    assert found.cancelled + found.gone == 1


def test_what_the_route_sends_on_has_its_own_timers(servers: Servers) -> None:
    """The question's timeout is no timer of the callee."""
    more = """
def call(self, user):
    self.ask(user, 60)
    return 1
def ksr_answered(self, msg):
    KSR.pv.sets("$du", "sip:127.0.0.1:9")
    KSR.tm.t_relay()
    return 1
"""
    server = servers.start(Asking(more=more, cfg='modparam("tm", "fr_timer", 700)\n'))
    worker = Worker(server)
    with Agent(server.ports[0], "relay") as agent:
        assert worker.answer("x")
        assert agent.final() == (408, "Request Timeout")
        assert agent.replies[-1][0] < 30


def test_it_sleeps(servers: Servers) -> None:
    """An answers process with a question that waits does nothing until the deadline but a look a second."""
    more = "def call(self, user):\n    self.ask(user, 5)\n    return 1"
    server = servers.start(Asking(more=more))
    pid = answers_process(server)

    def switches() -> int:
        with open(f"/proc/{pid}/status", encoding="utf-8") as status:
            return int(next(line for line in status if line.startswith("voluntary")).split()[1])

    with Agent(server.ports[0], "waits") as agent:
        wait_until(lambda: server.totals().asked == 1, "it asked", 30)
        wait_until(lambda: idle(pid), "it sleeps", 30)
        before = switches()
        assert agent.final() == (480, "TIMED_OUT no answer came in time")
        assert switches() - before < 40
        assert agent.replies[-1][0] >= 5


# --- bounds -----------------------------------------------------------------------------------------------------------


def test_bounds(servers: Servers) -> None:
    """No worker, a full queue, too many questions: a code of its own at once, and no transaction that waits."""
    more = """
def call(self, user):
    asked = mqueue_kemi.ask("lookups", user, then="ksr_answered", timeout=60.0, wait_for_worker=user == "wait")
    if not asked:
        KSR.sl.send_reply(503, asked.name)
    return 1
"""
    server = servers.start(Asking(["name=lookups;size=2"], more=more, params=[("max_asked", 3)]))

    def call(user: str) -> tuple[int, str]:
        with Agent(server.ports[0], user) as agent:
            return agent.final()

    assert call("alone") == (503, "NO_WORKER")
    waiting = [Agent(server.ports[0], "wait") for _ in range(2)]
    wait_until(lambda: server.totals().asked == 2, "both wait", 30)
    assert call("wait") == (503, "FULL")
    worker = Worker(server)
    assert worker.answer("now")
    assert waiting[0].final() == (480, "ANSWERED now")
    held = worker.queue.reserve(30)
    held.__enter__()  # one is in flight, so the queue has room, and one may be asked more
    more_waiting = [Agent(server.ports[0], "with a worker".replace(" ", "-")) for _ in range(2)]
    wait_until(lambda: server.totals().asked == 4, "they wait", 30)
    assert call("one-more") == (503, "FULL")
    assert server.totals().pending == 3
    told = "\n".join(server.told())
    assert "no living process has reserved items of this queue" in told
    assert "the queue is full" in told
    held.__exit__(None, None, None)
    for agent in (*waiting, *more_waiting):
        agent.sock.close()


def test_a_worker_that_dies_is_none(servers: Servers) -> None:
    """The kernel tells: after a kill -9 the next question fails at once."""
    more = """
def call(self, user):
    asked = mqueue_kemi.ask("lookups", user, then="ksr_answered", timeout=60.0)
    if not asked:
        KSR.sl.send_reply(503, asked.name)
    return 1
"""
    server = servers.start(Asking(more=more))
    code = (
        f"from mqueue_kemi import attach\nqueue = attach('lookups', {server.instance!r})\n"
        "with queue.reserve(0): pass\nprint('ready', flush=True)\nwith queue.reserve(60): import time; time.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    try:
        assert child.stdout.readline() == "ready\n"
        with Agent(server.ports[0], "first") as agent:
            wait_until(lambda: server.totals().asked == 1, "it asked", 30)
            child.kill()
            child.wait(30)
            with Agent(server.ports[0], "second") as second:
                assert second.final() == (503, "NO_WORKER")
            worker = Worker(server)  # takes over what the dead one had
            assert worker.answer("taken over")
            assert agent.final() == (480, "ANSWERED taken over")
    finally:
        child.kill()
        child.wait(30)
        child.stdout.close()


def test_an_expired_question_is_skipped(servers: Servers) -> None:
    """A worker never sees what nobody waits for any more."""
    more = "def call(self, user):\n    self.ask(user, 0.3 if user == 'short' else 60)\n    return 1"
    server = servers.start(Asking(more=more))
    with Agent(server.ports[0], "short") as short, Agent(server.ports[0], "long") as long:
        assert short.final()[1].startswith("TIMED_OUT")
        worker = Worker(server)
        with worker.queue.reserve(30) as item:
            assert item.key == "long"
            assert item.answer("x")
        assert long.final() == (480, "ANSWERED x")
        assert len(worker.queue) == 0


# --- start, stop ------------------------------------------------------------------------------------------------------


def test_several_answers_processes(servers: Servers) -> None:
    """Each has its own questions; all are answered once."""
    server = servers.start(Asking(processes=3))
    wait_until(lambda: server.totals().processes == 3, "all serve", 30)
    worker = Worker(server)
    agents = [Agent(server.ports[0], f"user{number}") for number in range(30)]
    for _ in agents:
        assert worker.answer("yes")
    assert [agent.final() for agent in agents] == [(480, "ANSWERED yes")] * 30
    server.wait_for(asked=30, answered=30)
    for agent in agents:
        agent.sock.close()


def test_after_a_kill_nothing_stale_comes(servers: Servers) -> None:
    """The next server's questions are its own; an answer to the last one's is dropped by whoever gives it."""
    server = servers.start(Asking(params=[]))
    worker = Worker(server)
    with Agent(server.ports[0], "old"), worker.queue.reserve(30) as item:
        server.process.kill()
        server.start()
        assert not item.answer("stale")
        assert server.totals().asked == 0
        with Agent(server.ports[0], "new") as agent:
            assert worker.answer("fresh")
            assert agent.final() == (480, "ANSWERED fresh")
        server.wait_for(asked=1, answered=1, late=0)


@pytest.mark.parametrize(
    ("cfg", "missing"),
    [
        ("", "2 lines are missing"),
        ('modparam("rtimer", "timer", "name=answers;interval=1000u;mode=1;")', "2 lines are"),
    ],
)
def test_without_an_answers_process(servers: Servers, cfg: str, missing: str) -> None:
    """Told at the start, and at each ask, with what to write."""
    server = servers.start(Asking(processes=0, cfg=cfg))
    with Agent(server.ports[0], "alone") as agent:
        assert agent.final() == (503, "FAILED")
    told = server.told()
    assert "the script calls ask()" in told[0]
    assert all(missing in line and "route=ksr_mqueue_answers" in line for line in told)
    assert len(told) == 2


def test_an_answers_timer_without_a_process_of_its_own(servers: Servers) -> None:
    """mode=0 would stop Kamailio's timers, and a long interval keeps answers waiting: both are told at the start."""
    cfg = """
modparam("rtimer", "timer", "name=lazy;interval=1;mode=1;")
modparam("rtimer", "exec", "timer=lazy;route=ksr_mqueue_answers")
"""
    server = servers.start(Asking(processes=0, cfg=cfg))
    assert "rtimer 'lazy' pauses for more than 0.1 s" in server.told()[0]


# --- misuse -----------------------------------------------------------------------------------------------------------


def test_bad_input_is_refused_and_told(servers: Servers) -> None:
    """FAILED and one line that says what to change; no transaction is made."""
    server = servers.start(Asking(["name=lookups", "name=keyed;addmode=2"]))
    wrong = {
        "'nosuch', 'k', then='ksr_answered', timeout=1": "mqueue not found; defined are: keyed, lookups",
        "'keyed', 'k', then='ksr_answered', timeout=1": "addmode=2",
        "'lookups', 'k', then='ksr_nosuch', timeout=1": "then='ksr_nosuch': the script has no such route",
        "'lookups', 'k', then='', timeout=1": "then=''",
        "'lookups', 'k', then=None, timeout=1": "then=None",
        "'lookups', 'k', then='ksr_answered', timeout=0": "timeout=0: write seconds",
        "'lookups', 'k', then='ksr_answered', timeout=-1": "timeout=-1",
        "'lookups', 'k', then='ksr_answered', timeout=float('nan')": "timeout=nan",
        "'lookups', 'k', then='ksr_answered', timeout=float('inf')": "timeout=inf",
        "'lookups', 'k', then='ksr_answered', timeout=True": "timeout=True",
        "'lookups', 'k', then='ksr_answered', timeout='2'": "timeout='2'",
        "'lookups', 5, then='ksr_answered', timeout=1, wait_for_worker=True": "key must be str or bytes, not int",
        "7, 'k', then='ksr_answered', timeout=1": "must be str, not int",
    }
    for arguments, text in wrong.items():
        before = len(server.told())
        assert server.run(f"return int(mq.ask({arguments}))") == -1
        told = server.told()[before:]
        assert len(told) == 1
        assert text in told[0]
    assert server.run("a = mq.answer(); return (bool(a), a.status.name, a.value)") == (False, "NONE", "")
    assert server.totals().asked == 0
    assert "current: 0" in server.kamcmd("tm.stats")


def test_a_reload_keeps_what_waits(servers: Servers) -> None:
    """The script is executed again in each process; questions of before go on."""
    server = servers.start(Asking())
    worker = Worker(server)
    with Agent(server.ports[0], "before") as agent:
        wait_until(lambda: server.totals().asked == 1, "it asked", 30)
        server.reload()
        assert worker.answer("after")
        assert agent.final() == (480, "ANSWERED after")
    with Agent(server.ports[0], "next") as agent:
        assert worker.answer("again")
        assert agent.final() == (480, "ANSWERED again")
    server.wait_for(asked=2, answered=2)
