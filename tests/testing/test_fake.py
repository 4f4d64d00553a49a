"""What a test can ask of the fake and tell it, and how it fails."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kemi.testing import Call, FakeKSR, Line, NotCovered, SilentMistake, api, release
from kemi.testing.functions import COVERED
from kemi.testing.functions.regex import search
from kemi.testing.message import Message
from kemi.testing.uri import address, parse
from tests.support.with_plugin import with_plugin

if TYPE_CHECKING:
    from pytest_mock import MockerFixture

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture
def KSR(ksr: FakeKSR) -> Any:  # noqa: N802 the server's name
    """What a script imports."""
    return ksr.module


# --- calls


def test_import_gives_the_fake(ksr: FakeKSR) -> None:
    import KSR

    assert KSR is ksr.module


def test_calls_are_recorded(ksr: FakeKSR, KSR: Any) -> None:
    KSR.sl.sl_send_reply(404, "Not Found")
    KSR.hdr.get("To")
    assert ksr.calls[0] == Call("sl.sl_send_reply", (404, "Not Found"), 1)
    assert ksr.called("hdr.get") == [("To",)]
    assert ksr.called("tm.t_relay") == []


@pytest.mark.parametrize("path", ["tm.t_rely", "nope.x", "nope"])
def test_a_name_that_a_test_misspells(ksr: FakeKSR, path: str) -> None:
    with pytest.raises(AttributeError, match="no function"):
        ksr.stub(path, 1)
    with pytest.raises(AttributeError, match="no function"):
        ksr.called(path)


def test_a_hint_with_an_unknown_function(KSR: Any) -> None:
    with pytest.raises(AttributeError, match=r"module 'KSR.tm' has no attribute 't_rellay'; did you mean t_relay"):
        KSR.tm.t_rellay()
    with pytest.raises(AttributeError, match="mod_init"):
        KSR.mqueue.mq_add("q", "k", "v")


@pytest.mark.parametrize("kamailio", release.known())
def test_every_function_is_covered_or_says_how_to_stub_it(kamailio: str, KSR: Any) -> None:
    """No answer is made up, for none of them."""
    arguments = {"int": 1, "long": 1, "str": "x"}
    covered = 0
    for function in (each for functions in api.of(kamailio).modules().values() for each in functions.values()):
        if function.module == "mqueue":
            continue
        part = getattr(KSR, function.module) if function.module else KSR
        if function.path in COVERED:
            covered += 1
            continue
        with pytest.raises(NotCovered, match=rf'ksr.stub\("{function.path}", '):
            getattr(part, function.name)(*(arguments[kind] for kind in function.types))
    assert covered > 150


def test_everything_covered_is_a_function_of_kemi() -> None:
    assert COVERED.keys() <= {function.path for function in api.load().functions}


def test_async_is_reached_by_getattr(ksr: FakeKSR, KSR: Any) -> None:
    ksr.stub("async.task_route", 1)
    assert getattr(KSR, "async").task_route("later") == 1


# --- stubs


def test_stubs(ksr: FakeKSR, KSR: Any) -> None:
    ksr.stub("registrar.lookup", -1)
    ksr.stub("htable.sht_get", lambda table, key: f"{table}/{key}")
    ksr.stub("is_myself", True)
    assert KSR.registrar.lookup("location") == -1
    assert KSR.htable.sht_get("a", "b") == "a/b"
    assert KSR.is_myself("x") is True


@pytest.mark.parametrize("kamailio", ["5.6"])
@pytest.mark.usefixtures("kamailio")
def test_a_stub_keeps_the_signature(ksr: FakeKSR, KSR: Any) -> None:
    ksr.stub("registrar.lookup", -1)
    with pytest.raises(SystemError):
        KSR.registrar.lookup()


@pytest.mark.parametrize(
    ("path", "result"),
    [
        ("registrar.lookup", "1"),
        ("registrar.lookup", None),
        ("registrar.lookup", True),
        ("is_BYE", 1),
        ("hdr.get", 1.5),
    ],
)
def test_a_stub_gives_what_kemi_gives(ksr: FakeKSR, KSR: Any, path: str, result: object) -> None:
    with pytest.raises(TypeError, match="gives"):
        ksr.stub(path, result)
    ksr.stub(path, lambda *_: result)
    module, _, name = path.rpartition(".")
    with pytest.raises(TypeError, match="gives"):
        getattr(getattr(KSR, module) if module else KSR, name)(*(() if path == "is_BYE" else ("x",)))


def test_a_stub_for_a_whole_module(ksr: FakeKSR, KSR: Any) -> None:
    """Each function says what means success, or what the test gives where that fits; its own stub comes first."""
    ksr.stub("rtpengine.*")
    ksr.stub("htable.sht_get*", "x")
    ksr.stub("rtpengine.rtpengine_offer", -1)
    ksr.stub("sqlops.*", lambda *arguments: len(arguments))
    assert KSR.rtpengine.play_media("a") == KSR.rtpengine.rtpengine_manage("b") == 1
    assert KSR.rtpengine.rtpengine_offer("c") == -1
    assert KSR.htable.sht_get("a", "b") == KSR.htable.sht_gete("a", "b") == "x"
    assert KSR.htable.sht_inc("a", "b") == -255
    assert KSR.sqlops.sql_query("a", "b", "c") == 3
    ksr.stub("is_*", False)
    assert KSR.is_INVITE() is KSR.is_UDP() is False


def test_a_wildcard_that_fits_nothing(ksr: FakeKSR) -> None:
    with pytest.raises(AttributeError, match=r"no function 'rtpengin\.\*'"):
        ksr.stub("rtpengin.*", 1)
    with pytest.raises(AttributeError, match=r"no function 'tm\.x_\*'"):
        ksr.stub("tm.x_*", 1)
    with pytest.raises(TypeError, match=r"KSR\.rtpengine\.\w+ gives int, not '1'"):
        ksr.stub("rtpengine.*", "1")


def test_mocker_works_too(KSR: Any, mocker: MockerFixture) -> None:
    relay = mocker.patch("KSR.tm.t_relay", return_value=-1)
    assert KSR.tm.t_relay() == -1
    relay.assert_called_once_with()
    spy = mocker.spy(KSR.hdr, "get")
    KSR.hdr.get("To")
    spy.assert_called_once_with("To")


def test_queue_functions_of_the_c_module(ksr: FakeKSR, KSR: Any) -> None:
    ksr.stub("mqueue.mq_add", 1)
    assert KSR.mqueue.mq_add("q", "k", "v") == 1
    with pytest.raises(NotCovered):
        KSR.mqueue.mq_fetch("q")


def test_only_the_modules_of_kamailio_cfg() -> None:
    ksr = FakeKSR(modules=["sl", "pv"])
    ksr.module.sl.sl_send_reply(200, "OK")
    assert ksr.module.hdr.get("To") is not None
    with pytest.raises(AttributeError, match="not among those"):
        ksr.module.tm.t_relay()


# --- variables, log, replies


def test_variables_by_hand(ksr: FakeKSR, KSR: Any) -> None:
    ksr.set("$si", "10.1.2.3")
    ksr.set("$var(a)", 5)
    ksr.set("$avp(b)", "x")
    ksr.set("$sht(a=>b)", None)
    ksr.set("$(rU{s.len})", 3)
    assert KSR.pv.get("$si") == "10.1.2.3"
    assert KSR.pv.get("$var(a)") == 5
    assert KSR.pv.is_null("$sht(a=>b)")
    assert KSR.pv.get("$(rU{s.len})") == 3
    KSR.xlog.xinfo("$si $avp(b)\n")
    assert ksr.text == "10.1.2.3 x\n"
    assert ksr.get("$avp(b)") == "x"


def test_what_is_not_known_is_not_invented(KSR: Any) -> None:
    for name in ("$rdns(a)", "$(rU{s.nope})", "$DLG_count"):
        with pytest.raises(NotCovered, match=r"ksr.set"):
            KSR.pv.get(name)
    with pytest.raises(NotCovered, match=r"ksr.set"):
        KSR.xlog.xinfo("$rdns(a)\n")
    with pytest.raises(NotCovered, match=r"pv.sets"):
        KSR.pv.sets("$snd(br)", "x")


def test_another_name_for_the_caller(ksr: FakeKSR, KSR: Any) -> None:
    """It goes on with the request; a name before an address without brackets would be a broken message."""
    ksr.receive("INVITE sip:bob@example.org\nFrom: <sip:alice@example.org>;tag=1\nTo: sip:bob@example.org")
    assert KSR.pv.sets("$fn", '"Zed"') is True
    assert KSR.pv.get("$fn") is None
    assert [change.text for change in ksr.state.changes] == ['From: $fn = "Zed"']
    with pytest.raises(SilentMistake, match=r"To has no <\.\.\.>"):
        KSR.pv.sets("$tn", "Bob")


def test_a_script_cannot_hide_it(KSR: Any) -> None:
    def script() -> None:
        try:
            KSR.dialplan.dp_translate(1)
        except Exception:  # noqa: BLE001 what scripts do
            pytest.fail("hidden")

    with pytest.raises(NotCovered):
        script()


def test_the_log(ksr: FakeKSR, KSR: Any) -> None:
    KSR.info("one\n")
    KSR.xlog.xerr("two $rm\n")
    assert ksr.log == [Line("info", "one\n"), Line("err", "two OPTIONS\n")]


def test_replies(ksr: FakeKSR, KSR: Any) -> None:
    ksr.receive("INVITE sip:a@b")
    KSR.hdr.append_to_reply("X-A: 1\r\n")
    KSR.tm.t_newtran()
    KSR.sl.send_reply(486, "Busy")
    (reply,) = ksr.replies
    assert reply == (486, "Busy", ("X-A: 1\r\n",), "", "tm")


def test_a_new_message_is_a_new_beginning(ksr: FakeKSR, KSR: Any) -> None:
    ksr.receive("INVITE sip:a@b")
    KSR.setflag(1)
    KSR.seturi("sip:c@d")
    KSR.pv.sets("$avp(a)", "x")
    KSR.pv.sets("$var(a)", "kept")
    KSR.tm.t_newtran()
    ksr.receive("BYE sip:e@f")
    assert not KSR.isflagset(1)
    assert KSR.pv.get("$ru") == "sip:e@f"
    assert KSR.pv.get("$avp(a)") is None
    assert KSR.pv.get("$var(a)") == "kept"
    assert KSR.tm.t_check_trans() == -1


@pytest.mark.parametrize("method", ["ACK", "CANCEL"])
def test_what_belongs_to_no_request(ksr: FakeKSR, KSR: Any, method: str) -> None:
    ksr.receive(f"{method} sip:a@b")
    assert KSR.tm.t_check_trans() == -1
    assert KSR.tmx.t_precheck_trans() == -1


def test_routing_that_is_not_covered(ksr: FakeKSR, KSR: Any) -> None:
    ksr.receive("BYE sip:a@b\nTo: <sip:a@b>;tag=1\nRoute: <sip:other.example.org;lr>")
    with pytest.raises(NotCovered, match=r"rr.loose_route"):
        KSR.rr.loose_route()


def test_after_a_failed_relay_the_code_is_not_known(ksr: FakeKSR, KSR: Any) -> None:
    ksr.stub("tm.t_relay", -1)
    with pytest.raises(NotCovered, match="sl_reply_error"):
        KSR.sl.sl_reply_error()


def test_read_only_variables(KSR: Any) -> None:
    with pytest.raises(SilentMistake, match="cannot be set"):
        KSR.pv.sets("$ci", "x")


def test_transformations_of_what_the_test_gives(ksr: FakeKSR, KSR: Any) -> None:
    ksr.set("$si", "10.1.2.3")
    assert KSR.pv.get("$(si{s.len})") == 8
    assert KSR.pv.get("$(si{s.select,0,.}{s.int})") == 10
    with pytest.raises(SilentMistake, match="is no variable"):
        KSR.pv.get("$(si{nope})")
    with pytest.raises(SilentMistake, match="is no variable"):
        KSR.pv.get("$(si{s.len)")
    KSR.xlog.xinfo("$(si{s.select,3,.}) $(hdr(Via)[0]{s.select,0, })\n")
    assert ksr.text == "3 SIP/2.0/UDP\n"


def test_registered_users(ksr: FakeKSR, KSR: Any) -> None:
    """A REGISTER, or the test, says who is where; contacts expire only when they are taken away."""
    ksr.receive("REGISTER sip:b\nTo: <sip:bob@b>\nContact: <sip:bob@10.0.0.1>;q=0.2, <sip:bob@10.0.0.2>;q=0.9")
    assert KSR.registrar.save("location", 0) == 1
    assert [reply.code for reply in ksr.replies] == [200]
    ksr.register("carol", "sip:carol@10.0.0.3")
    ksr.receive("INVITE sip:bob@b")
    assert KSR.registrar.lookup("location") == 1
    assert KSR.tm.t_relay() == 1
    assert [each.uri for each in ksr.relayed] == ["sip:bob@10.0.0.2", "sip:bob@10.0.0.1"]
    ksr.receive("INVITE sip:carol@b")
    assert KSR.registrar.lookup("location") == 1
    assert KSR.pv.get("$ru") == "sip:carol@10.0.0.3"
    ksr.receive("REGISTER sip:b\nTo: <sip:bob@b>\nContact: *\nExpires: 0")
    assert KSR.registrar.save("location", 2) == 1
    assert KSR.registrar.registered_uri("location", "sip:bob@b") == -1


def test_digest_authentication(ksr: FakeKSR, KSR: Any) -> None:
    """The example of RFC 2617, 3.5, with SIP's words."""
    given = (
        'Digest username="Mufasa", realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", '
        'uri="/dir/index.html", qop=auth, nc=00000001, cnonce="0a4f113b", response="6629fae49393a05397450978507c4ef1"'
    )
    ksr.receive(f"GET /dir/index.html\nAuthorization: {given}")
    assert KSR.auth.has_credentials("testrealm@host.com") == 1
    assert KSR.auth.pv_auth_check("testrealm@host.com", "Circle Of Life", 0, 0) == 1
    assert KSR.auth.pv_auth_check("testrealm@host.com", "guessed", 0, 0) == -2
    assert KSR.auth.pv_auth_check("elsewhere", "Circle Of Life", 0, 0) == -5
    with pytest.raises(NotCovered, match=r"auth_db\.auth_check"):
        KSR.auth_db.auth_check("testrealm@host.com", "subscriber", 0)


# --- parts


def test_messages() -> None:
    """A whole one is taken as it is, of a short one the rest is filled in."""
    where = ("127.0.0.1", 1), ("127.0.0.1", 2)
    whole = "INVITE sip:a@b SIP/2.0\r\nv: SIP/2.0/UDP x\r\nSubject: a\r\n b\r\n\r\nbody\n"
    message = Message(whole, *where)
    assert message.text == whole
    assert message.all("Via") == ["SIP/2.0/UDP x"]
    assert message.first("s") == "a b"
    assert message.first("To") is None
    assert message.body == "body\n"
    short = Message("\n MESSAGE sip:a@b\nFrom: <sip:c@d>;tag=1\n\nhällo", *where)
    assert short.first("Content-Length") == "6"
    assert short.first("f") == "<sip:c@d>;tag=1"
    assert short.all("From") == ["<sip:c@d>;tag=1"]
    assert short.first("CSeq") == "1 MESSAGE"
    assert (Message("SIP/2.0 200", *where).status, Message("SIP/2.0 404 Not Found", *where).reason) == (
        200,
        "Not Found",
    )
    for text in ("", "nonsense", "INVITE", "INVITE sip:a@b\nno header"):
        with pytest.raises(ValueError, match=r"no (first line|header)"):
            Message(text, *where)


def test_addresses() -> None:
    assert address('"A \\" <B>" <sip:a@b;x=1>;tag=t').display == '"A \\" <B>"'
    assert address('"A \\" <B>" <sip:a@b;x=1>;tag=t').uri == "sip:a@b;x=1"
    assert address("sip:a@b;tag=t") == (None, "sip:a@b", {"tag": "t"})


@pytest.mark.parametrize("text", ["sip:a:p@b:5060;x=1;y?h=1", "sips:b", "sip:a@[::1]:5", "tel:+49;x=1"])
def test_uris_are_written_as_they_were_read(text: str) -> None:
    parsed = parse(text)
    assert parsed is not None
    if parsed.scheme != "tel":
        assert str(parsed) == text


def test_regular_expressions_are_those_of_the_c_library() -> None:
    assert search("^a[[:digit:]]+$", "A12")
    assert search("^b", "a\nb")
    assert search("a.b", "a\nb") is False
    assert search("(", "x") is None


# --- the plugin


def test_the_plugin_brings_the_fixture(tmp_path: Path) -> None:
    """In a project that knows nothing of this one but the package."""
    test = "import user\n\ndef test_it(ksr):\n    ksr.receive('INVITE sip:bob@b')\n    assert user.name() == 'bob'\n"
    (tmp_path / "test_it.py").write_text(test, "utf-8")
    (tmp_path / "user.py").write_text("def name():\n    import KSR\n    return KSR.pv.get('$rU')\n", "utf-8")
    command = with_plugin(str(tmp_path))
    environment = {"PYTHONPATH": f"{CHECKOUT}:{tmp_path}", "PATH": "/usr/bin"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_the_package_declares_the_plugin() -> None:
    """By the module's own name, so that -p and the entry point are the same plugin."""
    text = (CHECKOUT / "pyproject.toml").read_text("utf-8")
    assert '[project.entry-points.pytest11]\n"kemi.testing.plugin" = "kemi.testing.plugin"\n' in text


def test_nothing_is_left_of_the_fake() -> None:
    before = sys.modules.get("KSR")
    with FakeKSR().installed() as fake:
        assert FakeKSR.current() is fake
        with FakeKSR().installed() as inner:
            assert sys.modules["KSR"] is inner.module
        assert sys.modules["KSR"] is fake.module
    assert FakeKSR.current() is None
    assert sys.modules.get("KSR") is before
