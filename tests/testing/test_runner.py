"""The runner: how a script is loaded, what its routes are given, what is left afterwards."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from kemi import app
from kemi.instance import queues
from kemi.testing import FakeKSR, NotCovered, Script, ScriptError, SilentMistake, run_route
from tests.conftest import SHM

EXAMPLE = Path("/usr/share/doc/kamailio/examples/kemi/kamailio-basic-kemi-python.py")

ROUTES = """
import sys
import KSR

class Handler:
    def child_init(self, rank):
        KSR.pv.seti("$shv(rank)", rank)
        return 0

    def ksr_request_route(self, msg):
        KSR.info(f"{msg.Type} {msg.Method} {msg.RURI} {msg.getHeader('X-A')}\\n")
        if KSR.pv.get("$rU") == "exit":
            sys.exit()
        if KSR.pv.get("$rU") == "drop":
            KSR.set_drop()
            exit()
        if KSR.pv.get("$rU") == "none":
            return None
        if KSR.pv.get("$rU") == "fail":
            raise ValueError("in the script")
        KSR.pv.sets("$var(seen)", KSR.pv.get("$ci"))
        self.relay()
        return 1

    def relay(self):
        KSR.tm.t_on_branch("ksr_branch")
        KSR.tm.t_on_failure("ksr_failure")
        KSR.setdsturi("sip:10.0.0.9")
        KSR.hdr.append("X-New: 1\\r\\n")
        if KSR.tm.t_relay() < 0:
            KSR.sl.sl_reply_error()

    def ksr_branch(self, msg):
        KSR.info(f"branch {KSR.tmx.t_is_branch_route()}\\n")
        return 1

    def ksr_failure(self, msg):
        KSR.info(f"failure {KSR.tmx.t_is_failure_route()}\\n")
        return 1

    def ksr_onsend_route(self, msg):
        KSR.info("onsend\\n")
        return 1

    def ksr_reply_route(self, msg):
        KSR.info(f"{msg.Type} {msg.Status} {KSR.pv.get('$rs')}\\n")
        return 1

    def ksr_event(self, msg, event):
        KSR.info(f"{event} {KSR.pv.get('$ru')}\\n")
        return 1

def mod_init():
    return Handler()
"""


def test_a_request_is_sent_on() -> None:
    """With the routes that the server runs meanwhile."""
    result = run_route(ROUTES, "INVITE sip:bob@example.org\nX-A: b", rank=3)
    assert result.text == "SIP_REQUEST INVITE sip:bob@example.org b\nbranch 1\nonsend\n"
    assert [(each.uri, each.destination) for each in result.relayed] == [("sip:bob@example.org", "sip:10.0.0.9")]
    assert ("add", "X-New: 1\r\n") in result.relayed[0].changes
    assert result.get("$shv(rank)") == 3
    assert result.get("$var(seen)") == "test@127.0.0.1"
    assert result.returned == 1


def test_each_kind_of_route(ksr: FakeKSR) -> None:
    with Script(ROUTES, ksr) as script:
        script.request("INVITE sip:bob@example.org")
        assert script.route("ksr_failure").text == "failure 1\n"
        assert script.reply("SIP/2.0 404 Not Found").text == "SIP_REPLY 404 404\n"
        assert script.timer("ksr_event").text == "rtimer sip:you@kamailio.org\n"
        assert script.event("ksr_event", "xhttp:request").text == "xhttp:request sip:you@kamailio.org\n"
        assert script.onsend().text == "onsend\n"


def test_the_ends_of_a_route() -> None:
    assert run_route(ROUTES, "INVITE sip:exit@b").returned is None
    assert run_route(ROUTES, "INVITE sip:drop@b").dropped
    with pytest.raises(ValueError, match="in the script"):
        run_route(ROUTES, "INVITE sip:fail@b")
    with pytest.raises(SilentMistake, match="breaks the next route"):
        run_route(ROUTES, "INVITE sip:none@b")


def test_a_missing_onsend_route_fails_as_in_the_server() -> None:
    with pytest.raises(SystemError) as caught:
        run_route(ROUTES.replace("ksr_onsend_route", "ksr_other"), "INVITE sip:bob@b")
    assert isinstance(caught.value.__cause__, AttributeError)


def test_a_server_that_asks_for_no_onsend_route(ksr: FakeKSR) -> None:
    """With kemi.onsend_route_callback="none" in kamailio.cfg."""
    ksr.onsend_route = None
    result = run_route(ROUTES.replace("ksr_onsend_route", "ksr_other"), "INVITE sip:bob@b")
    assert len(result.relayed) == 1


def test_an_error_path(ksr: FakeKSR) -> None:
    """A t_relay that fails is what a test says."""
    ksr.stub("tm.t_relay", -1)
    ksr.stub("sl.sl_reply_error", 1)
    assert run_route(ROUTES, "INVITE sip:bob@b").relayed == ()
    assert ksr.called("sl.sl_reply_error") == [()]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("x = 1\n", "no function mod_init"),
        ("def mod_init():\n    pass\n", "has returned None"),
        ("def mod_init():\n    return 1\n", "no method child_init"),
        ("class A:\n    def child_init(self, rank): pass\ndef mod_init():\n    return A()\n", "must return an int"),
        ("class A:\n    def child_init(self, rank): return -1\ndef mod_init():\n    return A()\n", "returned -1"),
    ],
)
def test_scripts_that_do_not_start(text: str, why: str) -> None:
    with pytest.raises(ScriptError, match=why):
        run_route(text, "INVITE sip:a@b")
    assert "KSR" not in sys.modules


def test_no_such_script(tmp_path: Path) -> None:
    with pytest.raises(ScriptError, match="no Python file"):
        run_route(tmp_path / "none.py", "INVITE sip:a@b")


def test_no_such_route() -> None:
    with Script(ROUTES) as script, pytest.raises(ScriptError, match="ksr_nope"):
        script.timer("ksr_nope")


def test_the_wrong_kind_of_message() -> None:
    with Script(ROUTES) as script:
        with pytest.raises(ValueError, match="reply"):
            script.request("SIP/2.0 200 OK")
        with pytest.raises(ValueError, match="request"):
            script.reply("INVITE sip:a@b")
        with pytest.raises(ValueError, match="no first line"):
            script.request("nonsense")


def test_modules_beside_the_script(tmp_path: Path) -> None:
    """They are found, and hold no old KSR for the next test."""
    (tmp_path / "beside_it.py").write_text("import KSR\ndef user(): return KSR.pv.get('$rU')\n", "utf-8")
    script = tmp_path / "routing.py"
    text = ROUTES.replace("import sys", "import sys\nimport beside_it").replace(
        "self.relay()", "KSR.info(beside_it.user())"
    )
    script.write_text(text, "utf-8")
    path = list(sys.path)
    for user in ("a", "b"):
        assert run_route(script, f"INVITE sip:{user}@example.org").log[-1].text == user
    assert sys.path == path
    assert not {"beside_it", "routing", "KSR"} & sys.modules.keys()


def test_queues_are_private_and_gone() -> None:
    """Whatever instance the script names; and no database is touched."""
    text = """
    import mqueue_kemi
    from tests.testing.test_runner import Plain
    mqueue_kemi.modparam("mqueue", "instance", "kamailio")
    mqueue_kemi.modparam("mqueue", "db_url", "sqlite:////nowhere/at/all.db")
    mqueue_kemi.modparam("mqueue", "mqueue", "name=q;dbmode=1")
    def mod_init():
        return mqueue_kemi.mod_init(Plain())
    """

    def own() -> set[Path]:
        return {path for path in SHM.iterdir() if str(os.getpid()) in path.name}

    before = own()
    with Script(text) as script:
        (_made,) = [path for path in own() - before if path.name.endswith(".q")]
        assert not (SHM / "mqk.kamailio.q").exists()
        assert script.request("INVITE sip:a@b").queues == {"q": [("k", "v")]}
    assert own() == before
    assert queues == {}
    assert app._running is None


class Plain:
    """A handler that adds through KSR.mqueue, as a script for the C module does."""

    def child_init(self, _rank: int) -> int:
        return 0

    def ksr_request_route(self, _msg: Any) -> int:
        ksr = sys.modules["KSR"]
        assert ksr.mqueue.mq_add("q", "k", "v") == 1
        return 1


def test_what_was_started_before_goes_on(server: None) -> None:
    """A fake inside of a test that has queues of its own changes nothing of them."""
    del server
    import mqueue_kemi

    mqueue_kemi.modparam("mqueue", "mqueue", "name=mine")
    mqueue_kemi.mod_init(object())
    mqueue_kemi.mq_add("mine", "k", "v")
    mqueue_kemi.mq_fetch("mine")
    run_route(ROUTES, "INVITE sip:a@b")
    assert mqueue_kemi.mqk_get("mine") == "k"
    assert mqueue_kemi.mq_add("mine", "k", "v") == 1


@pytest.mark.skipif(not EXAMPLE.exists(), reason="Kamailio's documentation is not installed")
class TestKamailiosOwnExample:
    """kamailio-basic-kemi-python.py as it is: a class, helper methods, KSR.tm.t_relay."""

    @pytest.fixture
    def script(self, ksr: FakeKSR) -> Script:
        ksr.onsend_route = None  # it has none, and fails in a server that asks for it
        ksr.stub("nathelper.nat_uac_test", -1)
        ksr.stub("corex.has_user_agent", -1)
        ksr.stub("corex.has_ruri_user", 1)
        ksr.stub("sanity.sanity_check", 1)
        ksr.stub("permissions.allow_source_address", 1)
        ksr.stub("pike.pike_check_req", 1)
        ksr.set("$sht(ipban=>$si)", None)
        ksr.set("$T_branch_idx", 0)
        return Script(EXAMPLE, ksr)

    def test_a_call_to_a_registered_user(self, script: Script, ksr: FakeKSR) -> None:
        ksr.stub("registrar.lookup", 1)
        result = script.request("INVITE sip:bob@127.0.0.1")
        assert [each.uri for each in result.relayed] == ["sip:bob@127.0.0.1"]
        assert ("add", "Record-Route") in result.relayed[0].changes
        assert ksr.called("registrar.lookup") == [("location",)]
        assert ksr.called("tm.t_on_failure") == [("ksr_failure_manage",)]

    def test_nobody_there(self, script: Script, ksr: FakeKSR) -> None:
        ksr.stub("registrar.lookup", -1)
        result = script.request("INVITE sip:bob@127.0.0.1")
        assert [(reply.code, reply.reason) for reply in result.replies] == [(404, "Not Found")]

    def test_too_many_hops(self, script: Script) -> None:
        result = script.request("INVITE sip:bob@127.0.0.1\nMax-Forwards: 0")
        assert [reply.code for reply in result.replies] == [483]

    def test_a_registration(self, script: Script, ksr: FakeKSR) -> None:
        ksr.stub("auth_db.auth_check", 1)
        ksr.stub("registrar.save", 1)
        script.request("REGISTER sip:127.0.0.1")
        assert ksr.called("registrar.save") == [("location", 0)]

    def test_what_is_not_told_fails(self, script: Script) -> None:
        with pytest.raises(NotCovered, match=r'ksr.stub\("registrar.lookup", 1\)'):
            script.request("INVITE sip:bob@127.0.0.1")
