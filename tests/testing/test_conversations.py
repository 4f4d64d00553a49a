"""Routes that follow when a request was sent on, as a test lets them happen: replies, time-outs, CANCEL, ACK."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kemi.testing import FakeKSR, Script, release

if TYPE_CHECKING:
    from collections.abc import Iterator

ROUTES = """
import KSR

class Handler:
    def child_init(self, rank):
        return 0

    def say(self, route, msg):
        code = KSR.pv.get("$rs")
        KSR.info(f"{route} {msg.Type} {KSR.pv.get('$rU')} {code} {KSR.pv.get('$T_reply_code')}\\n")

    def ksr_request_route(self, msg):
        if KSR.is_ACK():
            KSR.info(f"ack {KSR.tm.t_check_trans()}\\n")
            return 1
        if KSR.is_CANCEL():
            if KSR.tm.t_check_trans() > 0:
                KSR.tm.t_relay()
            return 1
        KSR.pv.sets("$avp(kept)", "yes")
        KSR.setuser("first")
        if KSR.pv.get("$fU") == "forks":
            KSR.corex.append_branch_uri("sip:second@10.0.0.2")
        KSR.tm.t_on_branch("ksr_branch")
        KSR.tm.t_on_reply("ksr_onreply")
        KSR.tm.t_on_failure("ksr_failure")
        KSR.tm.t_relay()
        return 1

    def ksr_branch(self, msg):
        self.say(f"branch {KSR.pv.get('$T_branch_idx')}", msg)
        return 1

    def ksr_reply_route(self, msg):
        self.say(f"reply {KSR.pv.get('$avp(kept)')}", msg)
        if KSR.hdr.get("X-Drop") == "here":
            KSR.set_drop()
        return 1

    def ksr_onreply(self, msg):
        self.say(f"onreply {KSR.pv.get('$avp(kept)')}", msg)
        if KSR.hdr.get("X-Drop") == "there":
            KSR.set_drop()
        return 1

    def ksr_failure(self, msg):
        timeout = KSR.tm.t_branch_timeout()
        self.say(f"failure {KSR.pv.get('$avp(kept)')} {timeout} {KSR.tm.t_is_canceled()}", msg)
        if KSR.tm.t_is_canceled() > 0:
            return 1
        if KSR.tm.t_check_status("486") > 0 and KSR.pv.get("$fU") == "serial":
            KSR.seturi("sip:voicemail@10.0.0.3")
            KSR.tm.t_on_reply("ksr_onreply")
            KSR.tm.t_on_failure("ksr_failure")
            KSR.tm.t_relay()
        elif KSR.tm.t_check_status("603") > 0:
            KSR.tm.t_reply(480, "Rather not")
        return 1

    def ksr_onsend_route(self, msg):
        return 1

def mod_init():
    return Handler()
"""


@pytest.fixture(params=release.known())
def script(request: pytest.FixtureRequest) -> Iterator[Script]:
    with Script(ROUTES, kamailio=request.param) as loaded:
        yield loaded


def invite(script: Script, user: str = "alice") -> None:
    script.request(f"INVITE sip:bob@example.org\nFrom: <sip:{user}@example.org>;tag=1")


def test_a_branch(script: Script) -> None:
    assert script.request("INVITE sip:bob@example.org").text == "branch 0 SIP_REQUEST first None 100\n"


def test_a_provisional_reply(script: Script) -> None:
    invite(script)
    result = script.reply(180)
    assert result.text == "reply None SIP_REPLY None 180 180\nonreply yes SIP_REPLY None 180 180\n"
    assert [(reply.code, reply.reason) for reply in result.replies] == [(180, "Ringing")]


def test_100_goes_no_further(script: Script) -> None:
    invite(script)
    assert script.reply(100).replies == ()


def test_a_failure(script: Script) -> None:
    """The message is the request again, with its variables; the caller gets the reply."""
    invite(script)
    result = script.reply(486, reason="Not now")
    assert result.log[-1].text == "failure yes -1 -1 SIP_REQUEST first None 486\n"
    assert [(reply.code, reply.reason) for reply in result.replies] == [(486, "Not now")]
    assert "onreply yes SIP_REPLY None 486 486\n" in result.text


def test_the_script_answers_itself(script: Script) -> None:
    invite(script)
    assert [(reply.code, reply.reason) for reply in script.reply(603).replies] == [(480, "Rather not")]


def test_one_after_the_other(script: Script) -> None:
    """A failure route sends it on again: the caller hears nothing of the first, and gets the second one's reply."""
    invite(script, "serial")
    result = script.reply(486)
    assert result.replies == ()
    assert [each.uri for each in result.relayed] == ["sip:voicemail@10.0.0.3"]
    assert [reply.code for reply in script.reply(200).replies] == [200]


def test_all_at_once(script: Script) -> None:
    """The failure route comes when the last branch has failed; the lowest code goes to the caller."""
    script.request("INVITE sip:bob@example.org\nFrom: <sip:forks@example.org>;tag=1")
    assert [each.uri for each in script.ksr.relayed] == ["sip:first@example.org", "sip:second@10.0.0.2"]
    first = script.reply(404, branch=0)
    assert "failure" not in first.text
    assert first.replies == ()
    last = script.reply(486)
    assert "failure yes -1 -1 SIP_REQUEST first None 404" in last.text
    assert [reply.code for reply in last.replies] == [404]


def test_a_time_out(script: Script) -> None:
    invite(script)
    result = script.timeout()
    assert result.text == "failure yes 1 -1 SIP_REQUEST first None 408\n"
    assert [reply.code for reply in result.replies] == [408]


def test_a_cancel(script: Script) -> None:
    invite(script)
    script.reply(180)
    assert [reply.reason for reply in script.request("CANCEL sip:bob@example.org").replies] == ["canceling"]
    assert "failure yes -1 1 SIP_REQUEST first None 487" in script.reply(487).text


def test_an_ack(script: Script) -> None:
    """Of a 2xx it goes on, of a failure it ends here, and of nothing it is unknown."""
    assert script.request("ACK sip:bob@example.org").text == "ack -1\n"
    invite(script)
    script.reply(200)
    assert script.request("ACK sip:bob@example.org").text == "ack 1\n"
    invite(script)
    script.reply(404)
    assert script.request("ACK sip:bob@example.org").text == "ack 0\n"


@pytest.mark.parametrize("where", ["here", "there"])
def test_a_reply_that_is_dropped(script: Script, where: str) -> None:
    """By ksr_reply_route any; by the transaction's route a provisional one."""
    invite(script)
    assert script.reply(180, more=f"X-Drop: {where}").replies == ()
    assert [reply.code for reply in script.reply(183).replies] == [183]


def test_headers_and_a_body(script: Script) -> None:
    invite(script)
    result = script.reply(200, more="Contact: <sip:bob@10.0.0.9>\nContent-Type: application/sdp\n\nv=0\n")
    assert result.replies[0].body == "v=0\n"
    assert script.ksr.get("$ct") == "<sip:bob@10.0.0.9>"


# --- one route by itself


def test_a_route_by_itself(script: Script) -> None:
    """With the message that the server gives it, whatever came last; a code may be said."""
    invite(script)
    script.reply("SIP/2.0 404 Not Found")
    assert script.route("ksr_failure").text == "failure yes 1 -1 SIP_REQUEST first None 408\n"
    assert script.route("ksr_failure", code=603).text == "failure yes -1 -1 SIP_REQUEST first None 603\n"
    assert script.route("ksr_onreply", "onreply").text.startswith("onreply yes SIP_REPLY None ")
    assert script.route("ksr_onreply", "onreply", code=183).text == "onreply yes SIP_REPLY None 183 183\n"
    assert script.route("ksr_branch", "branch").text.startswith("branch 0 SIP_REQUEST first None")


# --- what cannot be


def test_nothing_to_reply_to(script: Script) -> None:
    with pytest.raises(ValueError, match=r"reply\(486\): there is nothing to reply to, for no request was sent on yet"):
        script.reply(486)
    with pytest.raises(ValueError, match=r"timeout\(\): there is nothing to reply to"):
        script.timeout()
    script.ksr.stub("tm.t_relay", 1)
    invite(script)
    with pytest.raises(ValueError, match="there is nothing to reply to"):
        script.reply(486)


def test_everybody_has_replied(script: Script) -> None:
    invite(script)
    script.reply(486)
    with pytest.raises(ValueError, match=r"nothing to reply to, for each branch .* has had its final reply \(486\)"):
        script.reply(200)
    with pytest.raises(ValueError, match="has had its final reply"):
        script.timeout()


def test_what_is_no_code_and_no_branch(script: Script) -> None:
    invite(script)
    for code in (0, 99, 700):
        with pytest.raises(ValueError, match="no code"):
            script.reply(code)
    with pytest.raises(ValueError, match="1 branches, none number 1"):
        script.reply(200, branch=1)


def test_a_script_without_these_routes() -> None:
    """The server goes on; a reply needs none of them."""
    text = (
        "import KSR\nclass A:\n    def child_init(self, rank): return 0\n    def ksr_request_route(self, msg):\n"
        "        KSR.tm.t_on_failure('nowhere')\n        KSR.tm.t_relay()\n        return 1\n"
        "def mod_init(): return A()\n"
    )
    ksr = FakeKSR(kamailio="6.0")
    with Script(text, ksr) as script:
        script.request("INVITE sip:a@b")
        assert [reply.code for reply in script.reply(404).replies] == [404]
    assert "nowhere not found or is not callable" in ksr.server_log[1].text
