"""A fake is a version: which one, who says so, and what differs."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from kemi.testing import FakeKSR, Script, api, release, run_route
from tests.support.with_plugin import with_plugin

CHECKOUT = Path(__file__).parents[2]
SCRIPT = """
import KSR
class A:
    def child_init(self, rank): return 0
    def ksr_request_route(self, msg):
        KSR.info(str(KSR.setflag(2 ** 40)))
        return 1
def mod_init(): return A()
"""


@pytest.fixture
def none_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(release, "installed", lambda: None)
    monkeypatch.setattr(release, "_asked", [])


# --- which one


@pytest.mark.usefixtures("none_installed")
def test_the_newest_where_none_is_installed() -> None:
    assert FakeKSR().release == "6.0" == release.known()[-1]


@pytest.mark.usefixtures("none_installed")
@pytest.mark.parametrize(
    ("installed", "chosen"),
    [("5.6.3", "5.6"), ("5.7.2", "5.6"), ("5.8.1", "5.6"), ("6.0.1", "6.0"), ("6.2.0", "6.0"), ("5.5.0", "5.6")],
)
def test_the_installed_one(monkeypatch: pytest.MonkeyPatch, installed: str, chosen: str) -> None:
    """Or the nearest that is known, not newer where there is one."""
    monkeypatch.setattr(release, "installed", lambda: installed)
    assert FakeKSR().release == chosen


@pytest.mark.parametrize(("asked", "chosen"), [("5.6", "5.6"), ("6.0", "6.0"), ("6.0.1", "6.0"), ("5.6.3", "5.6")])
def test_the_one_that_is_asked_for(asked: str, chosen: str) -> None:
    assert FakeKSR(kamailio=asked).release == chosen
    assert run_route(SCRIPT.replace("2 ** 40", "1"), "INVITE sip:a@b", kamailio=asked).ksr.release == chosen
    with Script(SCRIPT, kamailio=asked) as script:
        assert script.ksr.release == chosen


@pytest.mark.parametrize("asked", ["4.4", "5.8", "7.0", "six", "6"])
def test_one_that_is_not_known(asked: str) -> None:
    with pytest.raises(ValueError, match=rf"kamailio='{asked}': the fake can be 5\.6 or 6\.0"):
        FakeKSR(kamailio=asked)


def test_a_script_and_a_fake_that_differ() -> None:
    with pytest.raises(ValueError, match=r"kamailio='6.0', but the fake of this test is 5\.6"):
        Script(SCRIPT, FakeKSR(kamailio="5.6"), kamailio="6.0")


@pytest.mark.parametrize("kamailio", release.known())
def test_a_test_is_parametrized_with_it(ksr: FakeKSR, kamailio: str) -> None:
    assert ksr.release == kamailio


def in_a_project(folder: Path, *options: str, ini: str = "", test: str) -> str:
    """What pytest says of one test in a project that knows nothing of this one but the package."""
    (folder / "test_it.py").write_text(test, "utf-8")
    (folder / "pytest.ini").write_text(f"[pytest]\n{ini}\n", "utf-8")
    environment = {"PYTHONPATH": str(CHECKOUT), "PATH": "/usr/bin"}
    command = with_plugin(*options, str(folder))
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, check=False)
    return done.stdout + done.stderr


WHICH = """
from kemi.testing import FakeKSR
def test_it(ksr):
    assert (ksr.release, FakeKSR().release) == ({0!r}, {1!r})
"""


def test_options_of_pytest(tmp_path: Path) -> None:
    """The command line before the ini file; a fixture of the project before both."""
    assert "1 passed" in in_a_project(tmp_path, "--kamailio", "6.0", test=WHICH.format("6.0", "6.0"))
    assert "1 passed" in in_a_project(tmp_path, "--kamailio=5.6.3", test=WHICH.format("5.6", "5.6"))
    assert "1 passed" in in_a_project(tmp_path, ini="kamailio = 6.0", test=WHICH.format("6.0", "6.0"))
    both = in_a_project(tmp_path, "--kamailio", "5.6", ini="kamailio = 6.0", test=WHICH.format("5.6", "5.6"))
    assert "1 passed" in both
    own = "import pytest\n@pytest.fixture\ndef kamailio():\n    return '5.6'\n"
    assert "1 passed" in in_a_project(tmp_path, ini="kamailio = 6.0", test=own + WHICH.format("5.6", "6.0"))


def test_an_option_that_is_wrong(tmp_path: Path) -> None:
    told = in_a_project(tmp_path, "--kamailio", "4.0", test=WHICH.format("6.0", "6.0"))
    assert "ERROR: kamailio='4.0': the fake can be 5.6 or 6.0" in told


# --- what differs: tests/server proves the same of real servers


@pytest.fixture
def KSR(ksr: FakeKSR) -> Any:  # noqa: N802 the server's name
    return ksr.module


@pytest.mark.parametrize("kamailio", ["6.0"])
def test_wrong_arguments_of_6(ksr: FakeKSR, KSR: Any, kamailio: str) -> None:  # noqa: N803
    """A line in the server's log and False; what is too much is not looked at."""
    del kamailio  # the fixture ksr has it
    assert KSR.setflag("1") is False
    assert KSR.sl.sl_send_reply(200, None) is False
    assert KSR.pv.get() is False
    assert [line.text for line in ksr.server_log] == [
        "non-number parameter - func: setflag idx: 0 argc: 1\n",
        "non-string parameter - func: sl_send_reply idx: 1 argc: 2\n",
        "invalid number of parameters - idx: 0 argc: 0\n",
    ]
    assert (ksr.replies, ksr.log, ksr.calls) == ([], [], [])
    assert KSR.setflag(2**40) is True
    assert KSR.info("a", "b") == 0
    with pytest.raises(SystemError, match="too large"):
        KSR.setflag(2**70)
    with pytest.raises(UnicodeEncodeError):
        KSR.info("\udc80")


@pytest.mark.parametrize("kamailio", ["5.6"])
def test_wrong_arguments_of_5(KSR: Any, kamailio: str) -> None:  # noqa: N803
    """SystemError, and its message says the cause, which Python's own does not."""
    del kamailio  # the fixture ksr has it
    with pytest.raises(SystemError, match=r"sl_send_reply> .*; the cause: kemi-param-ns\(\) argument 2 must be str"):
        KSR.sl.sl_send_reply(200, None)
    with pytest.raises(SystemError, match="signed integer is greater than maximum"):
        KSR.setflag(2**40)


@pytest.mark.parametrize("kamailio", ["5.6"])
def test_a_function_of_the_other_release(ksr: FakeKSR, KSR: Any, kamailio: str) -> None:  # noqa: N803
    del kamailio  # the fixture ksr has it
    with pytest.raises(AttributeError, match=r"no attribute 'getl'; only Kamailio 6\.0 has it"):
        KSR.pv.getl("$sp")
    with pytest.raises(AttributeError, match=r"no attribute 'sworker'; only Kamailio 6\.0 has it"):
        KSR.sworker.task("x")
    with pytest.raises(AttributeError, match=r"no function 'pv.getl'; 6.0 has it: FakeKSR\(kamailio='6.0'\)"):
        ksr.stub("pv.getl", 1)


@pytest.mark.parametrize("kamailio", ["6.0"])
def test_long_numbers(KSR: Any, kamailio: str) -> None:  # noqa: N803
    del kamailio  # the fixture ksr has it
    assert KSR.pv.setl("$var(x)", 2**40 + 3) is True
    assert (KSR.pv.getl("$var(x)"), KSR.pv.get("$var(x)"), KSR.pv.geti("$var(x)")) == (2**40 + 3, 3, 3)


def test_the_module_router() -> None:
    """5.6 has it built in beside KSR, 6.0 has not; and what a script finds is gone after the test."""
    text = """
    import Router.Logger as Logger
    import Router
    import KSR
    class A:
        def child_init(self, rank):
            Logger.LM_INFO(f"rank {rank} {Router.Ranks.PROC_INIT}\\n")
            Logger.LM_GEN1(Logger.L_ERR, "bad\\n")
            return 0
        def ksr_request_route(self, msg):
            return 1
    def mod_init():
        return A()
    """
    with Script(text, FakeKSR(kamailio="5.6")) as script:
        assert script.ksr.log == [("info", "rank 1 -127\n"), ("err", "bad\n")]
    with pytest.raises(ModuleNotFoundError, match="Router"):
        Script(text, FakeKSR(kamailio="6.0"))


def test_both_have_what_is_covered() -> None:
    assert set(api.load().releases) == set(release.known()) == {"5.6", "6.0"}
