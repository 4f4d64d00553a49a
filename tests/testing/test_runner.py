"""The runner: how a script is loaded, what its routes are given, what is left afterwards."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kemi import app
from kemi.instance import queues
from kemi.testing import FakeKSR, Script, ScriptError, SilentMistake, release, run_route
from tests.conftest import SHM

if TYPE_CHECKING:
    from collections.abc import Iterator

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


def test_a_route_that_returns_none() -> None:
    """In 5.6 it breaks the next one; in 6.0 it is -1."""
    with pytest.raises(SilentMistake, match="breaks the next route"):
        run_route(ROUTES, "INVITE sip:none@b", kamailio="5.6")
    assert run_route(ROUTES, "INVITE sip:none@b", kamailio="6.0").returned == -1


def test_a_missing_onsend_route_fails_as_in_the_server() -> None:
    """In 5.6, with the cause in the message; in 6.0 it does not."""
    text = ROUTES.replace("ksr_onsend_route", "ksr_other")
    why = "t_relay.* the cause: 'Handler' object has no attribute 'ksr_onsend_route'"
    with pytest.raises(SystemError, match=why) as caught:
        run_route(text, "INVITE sip:bob@b", kamailio="5.6")
    assert isinstance(caught.value.__cause__, AttributeError)
    assert len(run_route(text, "INVITE sip:bob@b", kamailio="6.0").relayed) == 1


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
        return set(SHM.glob(f"mqk.test-{os.getpid()}-ksr*"))

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
    """kamailio-basic-kemi-python.py as it is, and nothing that the test says of any function."""

    @pytest.fixture(params=release.known())
    def script(self, request: pytest.FixtureRequest) -> Iterator[Script]:
        ksr = FakeKSR(kamailio=request.param)
        ksr.onsend_route = None  # it has none, and 5.6 fails in a server that asks for it
        with Script(EXAMPLE, ksr) as loaded:
            yield loaded

    def test_a_call_to_a_registered_user(self, script: Script) -> None:
        script.ksr.register("bob", "sip:bob@10.0.0.9:5070")
        result = script.request("INVITE sip:bob@127.0.0.1\nFrom: <sip:alice@example.org>;tag=1")
        assert [each.uri for each in result.relayed] == ["sip:bob@10.0.0.9:5070"]
        assert ("add", "Record-Route") in result.relayed[0].changes
        assert script.ksr.called("tm.t_on_failure") == [("ksr_failure_manage",)]
        assert [reply.code for reply in script.reply(180).replies] == [180]
        assert [reply.code for reply in script.reply(200).replies] == [200]

    def test_it_is_busy(self, script: Script) -> None:
        script.ksr.register("bob", "sip:bob@10.0.0.9:5070")
        script.request("INVITE sip:bob@127.0.0.1\nFrom: <sip:alice@example.org>;tag=1")
        result = script.reply(486)
        assert [(reply.code, reply.reason) for reply in result.replies] == [(486, "Busy Here")]
        assert ("tm.t_is_canceled", (), -1) in result.calls

    def test_it_is_canceled(self, script: Script) -> None:
        script.ksr.register("bob", "sip:bob@10.0.0.9:5070")
        script.request("INVITE sip:bob@127.0.0.1\nFrom: <sip:alice@example.org>;tag=1")
        script.reply(180)
        assert [reply.code for reply in script.request("CANCEL sip:bob@127.0.0.1").replies] == [200]
        assert ("tm.t_is_canceled", (), 1) in script.reply(487).calls

    def test_from_outside_and_behind_nat(self, script: Script) -> None:
        """All of the checks of a request from another address."""
        script.ksr.register("bob", "sip:bob@10.0.0.9:5070")
        text = "INVITE sip:bob@127.0.0.1\nFrom: <sip:alice@example.org>;tag=1\nContact: <sip:alice@192.168.0.2>"
        result = script.request(text, ("10.1.1.1", 6000))
        assert script.ksr.called("pike.pike_check_req") == [()]
        assert script.ksr.called("rtpproxy.rtpproxy_manage") == [("co",)]
        assert len(result.relayed) == 1

    def test_nobody_there(self, script: Script) -> None:
        result = script.request("INVITE sip:bob@127.0.0.1\nFrom: <sip:alice@example.org>;tag=1")
        assert [(reply.code, reply.reason) for reply in result.replies] == [(404, "Not Found")]

    def test_too_many_hops(self, script: Script) -> None:
        result = script.request("INVITE sip:bob@127.0.0.1\nMax-Forwards: 0")
        assert [reply.code for reply in result.replies] == [483]

    @pytest.mark.parametrize(
        ("method", "code"), [("REGISTER", 401), ("INVITE", 407), ("OPTIONS", 200), ("CANCEL", None), ("ACK", None)]
    )
    def test_what_is_asked_for_and_what_is_not(self, script: Script, method: str, code: int | None) -> None:
        result = script.request(f"{method} sip:127.0.0.1")
        assert [reply.code for reply in result.replies if code] == ([] if code is None else [code])

    def test_within_a_dialog(self, script: Script) -> None:
        route = "Route: <sip:127.0.0.1;lr;ftag=1>\nFrom: <sip:a@b>;tag=1\nTo: <sip:b@c>;tag=2"
        for method in ("BYE", "ACK"):
            result = script.request(f"{method} sip:bob@10.0.0.9\n{route}")
            assert [each.uri for each in result.relayed] == ["sip:bob@10.0.0.9"]
            assert result.replies == ()
        assert [reply.code for reply in script.request("BYE sip:bob@10.0.0.9\nTo: <sip:b@c>;tag=2").replies] == [404]

    def test_a_reply_of_its_own(self, script: Script) -> None:
        assert script.reply("SIP/2.0 200 OK").text == "response handling - python script\n"


def test_a_script_of_several_files(tmp_path: Path) -> None:
    """Routes of a class come out of modules beside the script, by exec; a reload imports them anew."""
    parts = {
        "settings": "FLAGS = {'FLT_NATS': 5}\n",
        "request_route": (
            "import KSR\ndef ksr_request_route(self, msg):\n    KSR.setflag(self.FLAGS['FLT_NATS'])\n"
            "    if self.ksr_route_reqinit() == -255:\n        return 1\n    return self.ksr_route_relay()\n"
        ),
        "reqinit": (
            "import KSR\nimport nat\ndef ksr_route_reqinit(self):\n    if nat.behind() and KSR.is_OPTIONS():\n"
            "        KSR.sl.sl_send_reply(200, 'Keepalive')\n        return -255\n    return 1\n"
        ),
        "nat": "import KSR\ndef behind():\n    return KSR.nathelper.nat_uac_test(19) > 0\n",
        "relay": "import KSR\ndef ksr_route_relay(self):\n    KSR.tm.t_relay()\n    return -255\n",
        "main": (
            "import sys\nsys.path.append('/nowhere/at/all')\nimport KSR\n"
            "ROUTES = {'settings': ['FLAGS'], 'request_route': ['ksr_request_route'],\n"
            "          'reqinit': ['ksr_route_reqinit'], 'relay': ['ksr_route_relay']}\n"
            "def mod_init():\n    return kamailio()\n"
            "class kamailio:\n"
            "    def __init__(self):\n        for name in ROUTES:\n            if name in sys.modules:\n"
            "                del sys.modules[name]\n                exec('import ' + name)\n"
            "    def child_init(self, rank):\n        return 0\n"
            "    def ksr_onsend_route(self, msg):\n        return 1\n"
            "    for filename in ROUTES:\n        for route in ROUTES[filename]:\n"
            "            exec('from {} import {}'.format(filename, route))\n"
        ),
    }
    for name, text in parts.items():
        (tmp_path / f"{name}.py").write_text(text, "utf-8")
    with Script(tmp_path / "main.py") as script:
        assert len(script.request("INVITE sip:bob@example.org").relayed) == 1
        assert [reply.reason for reply in script.request("OPTIONS sip:a@b", ("10.0.0.1", 9)).replies] == ["Keepalive"]
        script.reload()
        assert len(script.request("INVITE sip:bob@example.org").relayed) == 1
    assert not parts.keys() & sys.modules.keys()


# --- app_python3s

SINGLE = """
import sys
import KSR
import mqueue_kemi
mqueue_kemi.modparam("mqueue", "mqueue", "name=q")
from mqueue_kemi import mod_init as imported, mq_add

seen = []

def script_init():
    mqueue_kemi.mod_init(sys.modules[__name__])

def script_child_init(rank):
    seen.append(rank)

def ksr_request_route():
    if KSR.is_OPTIONS():
        return None
    mq_add("q", KSR.pv.gete("$rU"), str(seen))
    KSR.tm.t_on_branch("ksr_branch")
    KSR.tm.t_on_failure("ksr_failure")
    KSR.tm.t_relay()

def ksr_branch():
    KSR.hdr.append("X-Branch: 1\\r\\n")

def ksr_failure():
    KSR.tm.t_reply(404, "Nobody")
    return 1

def ksr_timer(event):
    KSR.xlog.xinfo(event + "\\n")
    return 1
"""


def test_a_script_for_app_python3s() -> None:
    """Its routes are functions that get no message; what it imports from mqueue_kemi is not taken for its own."""
    with Script(SINGLE.replace("as imported", ""), rank=3, kamailio="6.0") as script:
        result = script.request("INVITE sip:bob@example.org")
        assert result.queues == {"q": [("bob", "[3]")]}
        assert len(result.relayed) == 1
        assert result.returned == -1
        assert [reply.code for reply in script.reply(486).replies] == [404]
        assert script.timer("ksr_timer").text == "rtimer\n"
        assert script.request("OPTIONS sip:example.org").returned == -1
        script.reload()
        assert script.request("INVITE sip:bob@example.org").queues == {"q": [("bob", "[3]"), ("bob", "[3]")]}
        with pytest.raises(ScriptError, match="the script has no function ksr_reply_route"):
            script.reply("SIP/2.0 200 OK")


def test_a_script_for_app_python3s_with_5() -> None:
    with pytest.raises(ScriptError, match=r"which Kamailio 5\.6 does not have; say kamailio='6\.0'"):
        Script(SINGLE, kamailio="5.6")


def test_the_example_for_app_python3s() -> None:
    """That of its page in docs/."""
    page = (Path(__file__).parents[2] / "docs" / "howto" / "app-python3s.md").read_text("utf-8")
    text = page.split("```python\n")[1].split("```")[0]
    with Script(text, kamailio="6.0") as script:
        result = script.request("INVITE sip:bob@example.org\nFrom: <sip:alice@example.org>;tag=1")
        assert result.queues == {"myq": [("bob", "call from alice")]}
        assert script.timer("ksr_consume").text == "bob - call from alice\n"
