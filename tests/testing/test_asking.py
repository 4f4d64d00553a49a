"""Scripts that ask, without Kamailio: a test asks, answers, lets time pass, and sees the route go on."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import pytest

from kemi.testing import BlockingRoute, IgnoredResult, Script

if TYPE_CHECKING:
    from kemi.testing import Result

INVITE = "INVITE sip:49301234@example.org"
SCRIPT = """
import time
import KSR
import mqueue_kemi
from mqueue_kemi import AnswerStatus, AskResult

mqueue_kemi.modparam("mqueue", "mqueue", "name=lookups;size=3")
mqueue_kemi.modparam("mqueue", "mqueue", "name=others")
mqueue_kemi.modparam("mqueue", "max_asked", 5)

class Script:
    def child_init(self, rank):
        return 0

    def ksr_request_route(self, msg):
        if KSR.is_CANCEL():
            if KSR.tm.t_check_trans() > 0:
                KSR.tm.t_relay()
            return 1
        KSR.pv.sets("$avp(kept)", "it is")
        queue = "others" if KSR.is_MESSAGE() else "lookups"
        asked = mqueue_kemi.ask(queue, KSR.pv.gete("$rU"), KSR.pv.gete("$fU"), then="ksr_answered", timeout=2.0)
        if not asked and asked != AskResult.CANCELLED:
            KSR.sl.send_reply(503, asked.name)
        return 1

    def ksr_answered(self, msg):
        answer = mqueue_kemi.answer()
        if answer.value == "again":
            return mqueue_kemi.ask("lookups", "second", then="ksr_answered", timeout=1.0)
        elif answer.value == "ignored":
            mqueue_kemi.ask("lookups", "second", then="ksr_answered", timeout=1.0)
        elif answer.value == "slow":
            time.sleep(0.06)
            KSR.tm.t_reply(480, "slow")
        elif answer.value == "relay":
            KSR.pv.sets("$du", "sip:10.0.0.1")
            KSR.tm.t_relay()
        elif answer.value == "nothing":
            pass
        elif answer:
            KSR.tm.t_reply(302, KSR.pv.gete("$rU") + KSR.pv.gete("$avp(kept)"))
        elif answer.status is AnswerStatus.TIMED_OUT:
            KSR.tm.t_reply(504, "No answer")
        else:
            KSR.tm.t_reply(500, answer.reason)
        return 1

    def ksr_onsend_route(self, msg):
        return 1

def mod_init():
    return mqueue_kemi.mod_init(Script())
"""


def codes(result: Result | None) -> int | None:
    """Return the code of the reply."""
    assert result is not None
    return result.code


def test_an_answer() -> None:
    """The route goes on, once, with the request and what belongs to it."""
    with Script(SCRIPT) as script:
        result = script.request(f"{INVITE}\nFrom: <sip:alice@example.org>;tag=1")
        assert result.suspended
        assert result.queues["lookups"] == [("49301234", "alice")]
        (asked,) = script.asked("lookups")
        assert (asked.key, asked.value, asked.timeout) == ("49301234", "alice", 2.0)
        answered = asked.answer("sip:gw2.example.org")
        assert codes(answered) == 302
        assert answered.replies[0].reason == "49301234it is"
        assert not answered.suspended
        assert answered.queues["lookups"] == []
        assert asked.answer("again") is None
        assert script.asked("lookups") == []
        assert script.advance(60) == []


def test_a_failure() -> None:
    """Its reason is for people."""
    with Script(SCRIPT) as script:
        script.request(INVITE)
        result = script.asked("lookups")[0].fail("unknown number")
        assert (result.code, result.replies[0].reason) == (500, "unknown number")


def test_a_result_that_is_dropped_is_told() -> None:
    """A script that forgets it replies nothing when the question is refused."""
    with Script(SCRIPT) as script:
        script.request(INVITE)
        (asked,) = script.asked("lookups")
        with pytest.warns(IgnoredResult, match=r"ask\('lookups'\): what it returns is not looked at") as told:
            asked.answer("ignored")
        assert len(told) == 1
        assert SCRIPT.splitlines()[told[0].lineno - 1].strip().startswith("mqueue_kemi.ask(")


@pytest.mark.parametrize(
    ("line", "is_told"),
    [
        ("mqueue_kemi.ask('q', 'k', then='ksr_answered', timeout=1)", True),
        ("ask('q', 'k', 'v', then='ksr_answered', timeout=1); KSR.xlog.xinfo('asked')", True),
        ("for _ in range(2): ask('nosuch', 'k', then='ksr_answered', timeout=1)", True),
        ("return ask('q', 'k', then='ksr_answered', timeout=1)", False),
        ("return 1 if ask('q', 'k', then='ksr_answered', timeout=1) else 0", False),
        ("asked = ask('q', 'k', then='ksr_answered', timeout=1); return asked", False),
        ("ask('q', 'k', then='ksr_answered', timeout=1) or KSR.sl.send_reply(503, 'Later')", False),
        ("self.kept = [ask('q', 'k', then='ksr_answered', timeout=1)]", False),
    ],
)
def test_what_counts_as_dropped(line: str, is_told: bool) -> None:
    text = f"""
import KSR, mqueue_kemi
from mqueue_kemi import ask
mqueue_kemi.modparam("mqueue", "mqueue", "name=q")
class Script:
    def child_init(self, rank): return 0
    def ksr_request_route(self, msg):
        {line}
        return 1
    def ksr_answered(self, msg): return 1
def mod_init(): return mqueue_kemi.mod_init(Script())
"""
    with Script(text) as script, warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        script.request(INVITE)
    assert any(warning.category is IgnoredResult for warning in told) == is_told


def test_time_passes_in_the_test_alone() -> None:
    """A question times out at its deadline, not before; several in order."""
    with Script(SCRIPT) as script:
        script.request("INVITE sip:first@example.org")
        assert script.advance(1.0) == []
        script.request("INVITE sip:second@example.org")
        assert [result.code for result in script.advance(1.0)] == [504]
        assert [asked.key for asked in script.asked("lookups")] == ["second"]
        assert [result.code for result in script.advance(5.0)] == [504]
        assert script.asked("lookups") == []


def test_one_of_several_is_answered() -> None:
    """The others stay in the queue, in order, undelivered."""
    with Script(SCRIPT) as script:
        for user in ("a", "b", "c"):
            script.request(f"INVITE sip:{user}@example.org")
        a, b, c = script.asked("lookups")
        result = b.answer("x")
        assert result.replies[0].reason == "bit is"
        assert [key for key, _ in result.queues["lookups"]] == ["a", "c"]
        assert a.answer("x").replies[0].reason == "ait is"
        assert c.answer("x").replies[0].reason == "cit is"


def test_asking_again_sending_on_and_doing_nothing() -> None:
    """What a route may do when it goes on."""
    with Script(SCRIPT) as script:
        script.request(INVITE)
        result = script.asked("lookups")[0].answer("again")
        assert result.suspended
        assert result.replies == ()
        (second,) = script.asked("lookups")
        assert (second.key, second.timeout) == ("second", 1.0)
        relayed = second.answer("relay")
        assert relayed.relayed[0].destination == "sip:10.0.0.1"
        assert script.reply(200).replies[0].code == 200
        script.request(INVITE)
        script.asked("lookups")[0].answer("nothing")
        assert script.ksr.replies[-1].code == 500  # as tm ends what nobody ends


def test_bounds() -> None:
    """Each has its code, and the call is not suspended."""
    with Script(SCRIPT) as script:
        script.no_worker("lookups")
        result = script.request(INVITE)
        assert (result.replies[0].reason, result.suspended) == ("NO_WORKER", False)
    with Script(SCRIPT) as script:
        for _ in range(3):
            assert script.request(INVITE).suspended
        full = script.request(INVITE)
        assert (full.replies[0].reason, full.suspended) == ("FULL", False)
        for _ in range(2):
            assert script.request("MESSAGE sip:x@example.org").suspended
        assert script.request("MESSAGE sip:x@example.org").replies[0].reason == "FULL"


def test_a_caller_who_cancels() -> None:
    """487, and the route does not run."""
    with Script(SCRIPT) as script:
        call = "\nCall-ID: one\nCSeq: 1 "
        script.request(INVITE + call + "INVITE")
        (asked,) = script.asked("lookups")
        cancelled = script.request("CANCEL sip:49301234@example.org" + call + "CANCEL")
        assert [reply.code for reply in cancelled.replies] == [200, 487]
        assert asked.answer("x") is None


def test_a_route_that_blocks() -> None:
    """It has the reply lock: more than 50 ms is a warning that says so, and names it."""
    with Script(SCRIPT) as script:
        script.request(INVITE)
        (asked,) = script.asked("lookups")
        with pytest.warns(BlockingRoute, match=r"ksr_answered has waited .* lock of its transaction's replies"):
            asked.answer("slow")


def test_a_worker_answers() -> None:
    """The real worker function answers all, and the routes go on."""
    from mqueue_kemi import worker

    @worker("lookups")
    def look_up(question: object) -> str:
        assert question
        return "sip:gw"

    with Script(SCRIPT) as script, warnings.catch_warnings():
        script.request("INVITE sip:a@example.org")
        script.request("INVITE sip:b@example.org")
        assert [result.code for result in script.work(look_up)] == [302, 302]
        assert script.work(look_up) == []


def test_mistakes() -> None:
    """A queue that is not there."""
    with Script(SCRIPT) as script:
        with pytest.raises(ValueError, match="no queue 'nosuch'; it has lookups, others"):
            script.asked("nosuch")
        with pytest.raises(ValueError, match="no queue 'nosuch'"):
            script.no_worker("nosuch")
