"""What `check` finds in a script, a definitions file and a kamailio.cfg, and where it says that it is."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kemi.check.judge import CONFIG, DEFINITIONS, SCRIPT, Verdict, judge

if TYPE_CHECKING:
    from collections.abc import Callable

CHECKOUT = Path(__file__).parents[2]

SCRIPT_TEXT = '''
import os
import KSR
import mqueue_kemi as mq
from mqueue_kemi import modparam, mq_add as put

NAME = "calls"
modparam("mqueue", "mqueue", f"name={NAME};size=100")
mq.modparam("mqueue", "mqueue", "name=" + "bad")
mq.modparam("mqueue", "instance", os.environ.get("INSTANCE", "one"))


class Base:
    def child_init(self, rank):
        return 0


class Script(Base):
    """Uses $mqk(nothing) in prose only."""

    def ksr_request_route(self, msg):
        put(NAME, KSR.pv.gete("$ci"), "v")
        KSR.mqueue.mq_size("bad")
        KSR.xlog.xinfo("$mqk(calls) $(mqv(bad){s.len}) $mqk($var(q))")
        KSR.tm.t_on_failure("ksr_failure")
        return 1

    def ksr_failure(self, msg):
        return 1

    def ksr_timer(self, msg, event):
        while mq.mq_fetch("calls", 0.5) == 1:
            pass
        return 1


def mod_init():
    return mq.mod_init(Script())
'''
CONFIG_TEXT = """
#!KAMAILIO
#!ifdef WITH_TWO
loadmodule "nothing.so"
modparam("rtimer", "exec", "timer=a;route=ksr_two")
#!else
loadmodule "rtimer.so"
#!endif
include_file "more.cfg"
loadmodule "/usr/lib/app_python3.so"
modparam("app_python3", "load", "script.py")
modparam("rtimer", "timer", "name=a;interval=1;mode=1;")
modparam("rtimer", "exec", "timer=a;route=ksr_timer")
cfgengine "python"
"""


@pytest.fixture
def check(tmp_path: Path) -> Callable[..., list[str]]:
    """Return how to judge these files, the first one: its problems, without folders."""

    def check(files: dict[str, str | bytes], defines: dict[str, str] | None = None) -> list[str]:
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape"))
        verdict = judge(str(tmp_path / next(iter(files))), defines or {})
        return [str(problem).replace(f"{tmp_path}/", "") for problem in verdict.problems]

    return check


def test_nothing_wrong(check: Callable[..., list[str]], tmp_path: Path) -> None:
    """A script with names of all kinds, and a kamailio.cfg that loads it."""
    files: dict[str, str | bytes] = {"kamailio.cfg": CONFIG_TEXT, "more.cfg": "", "script.py": SCRIPT_TEXT}
    assert check(files) == []
    verdict = judge(str(tmp_path / "kamailio.cfg"), {})
    assert (verdict.kind, verdict.queues) == (CONFIG, ["calls", "bad"])
    assert verdict.callbacks == ["ksr_request_route", "ksr_timer"]
    assert [Path(file).name for file in verdict.files] == ["kamailio.cfg", "more.cfg", "script.py"]
    assert judge(str(tmp_path / "script.py"), {}).kind == SCRIPT


def test_nothing_is_executed(check: Callable[..., list[str]], tmp_path: Path) -> None:
    """Neither the script nor what it imports."""
    touch = f"open({str(tmp_path / 'touched')!r}, 'w')\n"
    assert check({"script.py": touch + "import beside\n" + SCRIPT_TEXT, "beside.py": touch}) == []
    assert not (tmp_path / "touched").exists()
    assert not list(tmp_path.rglob("__pycache__"))


# What is put in place of what in the script, and the problem.
SCRIPTS = {
    "syntax": (
        "return 1\n\n    def ksr_failure",
        "return (1\n\n    def ksr_failure",
        r"script.py:\d+: error: no Python: ",
    ),
    "attribute": ('size=100"', 'size=100;colour=red"', r'script.py:8: error: .*unknown attribute "colour"'),
    "size": ("size=100", "size=many", r'script.py:8: error: .*"many" is no whole number'),
    "redefined": (
        '+ "bad")',
        '+ "bad"); modparam("mqueue", "mqueue", "name=bad;size=1")',
        "script.py:9: error: .*mqueue redefined.*",
    ),
    "parameter": ('"instance"', '"instanz"', r"script.py:10: error: .*no such parameter; there are"),
    "module": ('mq.modparam("mqueue", "i', 'mq.modparam("queue", "i', r'script.py:10: error: .*the module is "mqueue"'),
    "arguments of modparam": (
        '"name=" + "bad")',
        '"name=bad", 1)',
        r"script.py:9: error: modparam takes three arguments",
    ),
    "dead letter": (
        "size=100",
        "max_deliveries=1;dead_letter=no",
        r"script.py:1: error: .*dead_letter=no: there is no such",
    ),
    "add": (
        "put(NAME,",
        "put('cals',",
        r'script.py:22: error: mq_add: queue "cals" is not defined; defined are calls, bad',
    ),
    "ksr": ('mq_size("bad")', 'mq_size("x")', r'script.py:23: error: mq_size: queue "x" is not defined'),
    "variable": ("$mqk(calls)", "$mqk(cals)", r'script.py:24: error: \$mqk\(cals\): queue "cals" is not defined'),
    "too few": ('"$ci"), "v")', '"$ci"))', r"script.py:22: error: put\(.*\): mq_add takes 3 arguments"),
    "too many": ("0.5)", "0.5, 1)", r"script.py:32: error: .* mq_fetch takes 1 or 2 arguments"),
    "number": ('mq_size("bad")', "mq_size(7)", r"script.py:23: error: 7 should be a text"),
    "route": (
        "def ksr_failure",
        "def ksr_fail",
        r"script.py:25: error: KSR.tm.t_on_failure: the script has no method ksr_f",
    ),
    "child_init": (
        "def child_init(self, rank)",
        "def child(self, rank)",
        r"script.py:1: error: .* has no method child_init",
    ),
    "rank": (
        "child_init(self, rank)",
        "child_init(self)",
        r"error: .*child_init is called with 1 arguments.*, and takes 0",
    ),
    "mod_init": (
        "return mq.mod_init(Script())",
        "return Script()",
        r"script.py:37: error: mod_init never calls mqueue_kemi",
    ),
    "unknown": ("name={NAME};", "name={os.sep};", r"script.py:8: warning: only a run would show what this sets"),
}


@pytest.mark.parametrize(("old", "new", "problem"), SCRIPTS.values(), ids=SCRIPTS.keys())
def test_a_script(check: Callable[..., list[str]], old: str, new: str, problem: str) -> None:
    """One mistake is one problem, with its line."""
    assert SCRIPT_TEXT.count(old) == 1
    (found,) = check({"script.py": SCRIPT_TEXT.replace(old, new)})
    assert re.match(problem, found) or re.search(f": {problem}", found)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"\0", "script.py:1: error: no Python: "),
        (b"# coding: nonsense\n", "script.py:1: error: no Python: "),
        (b"'\xff'", "script.py:1: error: no Python: "),
        (b"(" * 5000, "error: no Python: "),
        (b"", "script.py:1: error: there is no function mod_init"),
    ],
)
def test_what_is_no_script(check: Callable[..., list[str]], data: bytes, problem: str) -> None:
    """Whatever is in the file, it is judged."""
    (found,) = check({"script.py": data})
    assert problem in found


@pytest.mark.parametrize("file", ["mqueue_kemi.cfg", "script.py"])
def test_a_name_that_no_file_can_have(check: Callable[..., list[str]], file: str) -> None:
    """As the start refuses it; and of a very long one the beginning is told."""
    line = f'modparam("mqueue", "mqueue", "name={"q" * 100_000}")\n'
    imported = "from mqueue_kemi import mod_init, modparam\n" if file == "script.py" else ""
    (problem, *_) = check({file: imported + line})
    assert "is too long: its file in /dev/shm would have 1000" in problem
    assert len(problem) < 1000


def test_what_is_no_line_is_told_in_short(check: Callable[..., list[str]]) -> None:
    (problem,) = check({"mqueue_kemi.cfg": "modparam(" * 100_000})
    assert 'expected modparam("mqueue", "...", ...), found: modparam(' in problem
    assert len(problem) < 1000


def test_definitions_in_two_branches(check: Callable[..., list[str]]) -> None:
    """Only one of them is run, so that a name may be in both."""
    text = SCRIPT_TEXT.replace(
        'mq.modparam("mqueue", "mqueue", "name=" + "bad")',
        'if os.sep:\n    modparam("mqueue", "mqueue", "name=bad")\n'
        'else:\n    modparam("mqueue", "mqueue", "name=bad;size=2")',
    )
    assert check({"script.py": text}) == []


@pytest.mark.parametrize("base", ["routes.Base", "object, Other", "Later"])
def test_a_handler_that_cannot_be_seen_whole(check: Callable[..., list[str]], base: str) -> None:
    """What it may have from elsewhere is a warning, not an error."""
    files = {"kamailio.cfg": CONFIG_TEXT, "more.cfg": "", "script.py": SCRIPT_TEXT.replace("(Base)", f"({base})")}
    found = check({**files, "script.py": files["script.py"].replace("def ksr_timer", "def other")})
    assert found
    assert all("warning: " in line and "only a run would show whether" in line for line in found)


@pytest.mark.parametrize(
    "made", ["        self.ksr_timer = print\n", "        setattr(self, 'ksr_' + 'timer', print)\n"]
)
def test_a_method_that_is_made(check: Callable[..., list[str]], made: str) -> None:
    """A method may come to be when the object is made."""
    text = SCRIPT_TEXT.replace("def ksr_timer", "def other").replace(
        "    def ksr_failure", f"    def __init__(self):\n{made}\n    def ksr_failure"
    )
    found = check({"kamailio.cfg": CONFIG_TEXT, "more.cfg": "", "script.py": text})
    assert not [line for line in found if "error" in line]


@pytest.mark.parametrize("name", ["kemi.py", "mqueue_kemi.py"])
def test_a_name_that_hides_ours(check: Callable[..., list[str]], name: str) -> None:
    """As the script's own name, and beside the script."""
    (found,) = check({name: SCRIPT_TEXT})
    assert found == f"{name}:1: error: a script may not be named {name}, which hides ours: rename it"
    assert check({"script.py": SCRIPT_TEXT}) == [f"{name}:1: error: hides the {name} of mqueue_kemi: rename it"]


# --- ask --------------------------------------------------------------------------------------------------------------

ASK = """import KSR
import mqueue_kemi
from mqueue_kemi import ask, modparam

modparam("mqueue", "mqueue", "name=lookups")

class Script:
    def child_init(self, rank):
        return 0

    def ksr_request_route(self, msg):
        if not ask("lookups", KSR.pv.gete("$rU"), then="ksr_answered", timeout=2.0):
            KSR.sl.send_reply(503, "Later")
        return 1

    def ksr_answered(self, msg):
        return 1

def mod_init():
    return mqueue_kemi.mod_init(Script())
"""
ASK_CONFIG = """#!KAMAILIO
loadmodule "tm.so"
loadmodule "tmx.so"
loadmodule "rtimer.so"
loadmodule "app_python3.so"
modparam("app_python3", "load", "script.py")
modparam("rtimer", "timer", "name=answers;interval=1000u;mode=1;")
modparam("rtimer", "exec", "timer=answers;route=ksr_mqueue_answers")
cfgengine "python"
"""
ASKS = {
    "queue": ('ask("lookups"', 'ask("lookup"', r'script.py:12: error: ask: queue "lookup" is not defined'),
    "then": (
        "def ksr_answered",
        "def ksr_answer",
        r"script.py:12: error: ask\(then=...\): the script has no method ksr_a",
    ),
    "no then": ('then="ksr_answered", ', "", r"script.py:12: error: ask\(.*\): ask needs then="),
    "no timeout": (", timeout=2.0", "", r"script.py:12: error: ask\(.*\): ask needs timeout="),
    "timeout": ("timeout=2.0", "timeout=0", r"script.py:12: error: timeout=0: write seconds"),
    "not looked at": ("if not ask(", "ask(", r"script.py:12: warning: ask\(.*what ask\(\) returns is not looked at"),
    "not read": ("if not ask(", "asked = ask(", r"script.py:12: warning: ask\(.*what ask\(\) returns is not looked at"),
    "rtimer": (
        '"timer=answers;route=ksr_mqueue_answers"',
        '"timer=answers;route=ksr_answered"',
        r"script.py:12: error: the script calls ask\(\), and kamailio.cfg has no answers process: write modparam",
    ),
    "tmx": ('loadmodule "tmx.so"', "", r"script.py:12: error: the script calls ask\(\), and .* loads no tmx.so"),
}


def test_a_script_that_asks(check: Callable[..., list[str]]) -> None:
    """Alone, and with its kamailio.cfg, whose timer calls what the script does not write."""
    assert check({"script.py": ASK}) == []
    assert check({"kamailio.cfg": ASK_CONFIG, "script.py": ASK}) == []


@pytest.mark.parametrize(("old", "new", "problem"), ASKS.values(), ids=ASKS.keys())
def test_a_question(check: Callable[..., list[str]], old: str, new: str, problem: str) -> None:
    """Each mistake is told where it is."""
    assert old in ASK + ASK_CONFIG
    script = ASK.replace(old, new)
    if old.startswith("if "):
        script = script.replace("timeout=2.0):", "timeout=2.0)").replace("            KSR.sl", "        KSR.sl")
    found = check({"kamailio.cfg": ASK_CONFIG.replace(old, new), "script.py": script})
    assert [line for line in found if re.search(problem, line)], found


# --- kamailio.cfg -----------------------------------------------------------------------------------------------------

CONFIGS = {
    "timer": (
        "route=ksr_timer",
        "route=ksr_tmer",
        r'kamailio.cfg:13: error: modparam\("rtimer", "exec".* method ksr_tmer',
    ),
    "event": (
        'cfgengine "python"',
        'modparam("xhttp", "event_callback", "ksr_http")\ncfgengine "python"',
        r'kamailio.cfg:14: error: modparam\("xhttp", "event_callback", ...\): the script has no method ksr_http',
    ),
    "core": (
        'cfgengine "python"',
        'kemi.received_route_callback = "ksr_in"\ncfgengine = "python"',
        r"kamailio.cfg:14: error: kemi.received_route_callback: the script has no method ksr_in",
    ),
    "python_exec": (
        'cfgengine "python"',
        'route { python_exec("ksr_x"); }',
        r"kamailio.cfg:14: error: python_exec: the script has no method ksr_x",
    ),
    "arguments": (
        "route=ksr_timer",
        "route=ksr_failure",
        r"kamailio.cfg:13: error: .*: ksr_failure is called with 2 arguments beside self, and takes 1",
    ),
    "included": (
        'include_file "more.cfg"',
        '#!include_file "wrong.cfg"',
        r"wrong.cfg:3: error: .*the script has no method ksr_y",
    ),
    "not there": ("more.cfg", "nowhere.cfg", r"kamailio.cfg:9: error: nowhere.cfg cannot be read: No such file"),
    "script": ("script.py", "nowhere.py", r"kamailio.cfg:11: error: the script nowhere.py was not found \(looked for "),
    "module": ("app_python3.so", "app_lua.so", r'kamailio.cfg:1: error: no loadmodule "app_python3.so"'),
    "load": ('"load"', '"lod"', r'kamailio.cfg:1: error: no modparam\("app_python3", "load"'),
    "mqueue": (
        'cfgengine "python"',
        'modparam("mqueue", "mqueue", "name=q")\ncfgengine "python"',
        r'kamailio.cfg:14: error: modparam\("mqueue", ...\) here is for the C module, which is not loaded',
    ),
    "child_init": (
        'cfgengine "python"',
        'modparam("app_python3", "child_init_method", "begin")\ncfgengine "python"',
        r"kamailio.cfg:14: error: .*the script has no method begin",
    ),
    "endif": ("#!endif", "", r"kamailio.cfg:15: error: #!ifdef without #!endif"),
    "ifdef": ("#!ifdef WITH_TWO", "", r"kamailio.cfg:6: error: #!else without #!ifdef"),
}


@pytest.mark.parametrize(("old", "new", "problem"), CONFIGS.values(), ids=CONFIGS.keys())
def test_a_config(check: Callable[..., list[str]], old: str, new: str, problem: str) -> None:
    """One mistake, where it is said."""
    wrong = '\n\nmodparam("rtimer", "exec", "timer=a;route=ksr_y")\n'
    files = {
        "kamailio.cfg": CONFIG_TEXT.replace(old, new),
        "more.cfg": "",
        "wrong.cfg": wrong,
        "script.py": SCRIPT_TEXT,
    }
    found = check(files)
    assert [line for line in found if re.match(problem, line)], found


def test_a_branch(check: Callable[..., list[str]]) -> None:
    """What is off is not looked at; -A, #!define and others switch it on."""
    files: dict[str, str | bytes] = {"kamailio.cfg": CONFIG_TEXT, "more.cfg": "", "script.py": SCRIPT_TEXT}
    for defines in ({"WITH_TWO": ""}, {"WITH_TWO": "1"}):
        (found,) = check(files, defines)
        assert "ksr_two" in found
    for line in ("#!define WITH_TWO", "!!trydef WITH_TWO 1", '#!substdef "!WITH_TWO!x!g"'):
        (found,) = check({**files, "kamailio.cfg": f"{line}{CONFIG_TEXT}"})
        assert "ksr_two" in found
    nested = CONFIG_TEXT.replace("#!else", "#!ifndef X\n#!else\n#!endif\n#!else")
    assert check({**files, "kamailio.cfg": nested}) == []


def test_defines_are_put_in(check: Callable[..., list[str]]) -> None:
    """As a word, in modparamx, and as a substdef within quotes."""
    text = CONFIG_TEXT.replace('"script.py"', "FILE").replace(
        'modparam("rtimer", "exec", "timer=a;route=ksr_timer")',
        'modparamx("rtimer", "exec", "timer=a;route=$def(ROUTE)")\n'
        'modparam("rtimer", "exec", "timer=a;route=ksr_SOME")',
    )
    head = '#!define FILE "script.py"\n#!trydef ROUTE ksr_one\n#!substdef "/SOME/three/g"\n'
    found = check({"kamailio.cfg": head + text, "more.cfg": "", "script.py": SCRIPT_TEXT})
    assert [line.rpartition(" ")[2] for line in found] == ["ksr_one", "ksr_three"]


def test_comments_and_texts(check: Callable[..., list[str]]) -> None:
    """What stands in a comment is not said, and a comment's sign in a text is text."""
    comments = (
        '# modparam("rtimer", "exec", "route=x")\n/* modparam("rtimer", "exec", "route=y") */\n// loadmodule "z.so"\n'
    )
    text = comments + CONFIG_TEXT + 'log_prefix = "# /* // \\" "\n'
    assert check({"kamailio.cfg": text, "more.cfg": "", "script.py": SCRIPT_TEXT}) == []


def test_without_the_python_engine(check: Callable[..., list[str]]) -> None:
    """Then a timer's route is one of kamailio.cfg."""
    text = CONFIG_TEXT.replace("ksr_timer", "OTHER").replace('cfgengine "python"', "request_route { exit; }")
    assert check({"kamailio.cfg": text, "more.cfg": "", "script.py": SCRIPT_TEXT}) == []


def test_routes_that_the_core_looks_for(check: Callable[..., list[str]]) -> None:
    """A script that relays gets replies: without a method for them 5.6 leaves an exception behind."""
    files = {"kamailio.cfg": CONFIG_TEXT, "more.cfg": "", "script.py": SCRIPT_TEXT + "\nKSR.tm.t_relay()\n"}
    found = check(files)
    assert [("warning" in line, re.findall(r"no method (\w+)", line)) for line in found] == [
        (True, ["ksr_reply_route"]),
        (True, ["ksr_onsend_route"]),
    ]
    quiet = 'kemi.reply_route_callback = "none"\nkemi.onsend_route_callback = "none"\ncfgengine "python"'
    assert check({**files, "kamailio.cfg": CONFIG_TEXT.replace('cfgengine "python"', quiet)}) == []


def test_a_file_that_includes_itself(check: Callable[..., list[str]]) -> None:
    """It ends."""
    found = check({"kamailio.cfg": CONFIG_TEXT.replace("more.cfg", "kamailio.cfg"), "script.py": SCRIPT_TEXT})
    assert any("includes itself" in line for line in found)


# --- definitions ------------------------------------------------------------------------------------------------------


def test_definitions(check: Callable[..., list[str]], tmp_path: Path) -> None:
    """Every line is looked at, not only up to the first that is wrong."""
    text = """
        modparam("mqueue", "mqueue", "name=a")
        modparam("mqueue", "mqueue", "name=b;size=x")
        modparam("mqueue", "mqueue", "name=a")
        modparam("mqueue", "mqueue", "name=c;max_deliveries=2;dead_letter=d")
        #!ifdef X
    """
    found = check({"queues.cfg": textwrap.dedent(text)})
    assert [line.partition(": ")[0] for line in found] == [f"queues.cfg:{number}" for number in (1, 3, 4, 6)]
    words = (
        "dead_letter=d: there is no such queue",
        "no whole number",
        "mqueue redefined",
        "#!ifdef X: this file is not",
    )
    for line, word in zip(found, words):
        assert word in line
    assert judge(str(tmp_path / "queues.cfg"), {}).kind == DEFINITIONS


@pytest.mark.parametrize(
    "name", ["kamailio.cfg", "kamailio-native.cfg", "kamailio-cdr.cfg", "kamailio.py", "mqueue_kemi.cfg"]
)
def test_the_examples(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What we show is right."""
    monkeypatch.chdir(CHECKOUT)
    monkeypatch.delenv("MQUEUE_KEMI_CFG", raising=False)
    verdict: Verdict = judge(f"conf/{name}", {})
    assert (verdict.problems, bool(verdict.queues)) == ([], True)


def test_a_native_config(check: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Our own module as the script: its methods, its queues, and the definitions file."""
    monkeypatch.delenv("MQUEUE_KEMI_CFG", raising=False)
    text = f"""loadmodule "app_python3.so"
modparam("app_python3", "load", "{CHECKOUT}/mqueue_kemi.py")
request_route {{
    python_exec("mq_add", "q");
    python_exec("mq_ad", "q");
    python_exec("mq_fetch", "nosuch");
    python_exec("mq_fetch", "$var(q)");
    python_exec("mq_ask", "q;then=ANSWERED;timeout=2");
}}
"""
    found = check({"kamailio.cfg": text, "mqueue_kemi.cfg": 'modparam("mqueue", "mqueue", "name=q")'})
    assert found == [
        (
            'kamailio.cfg:5: error: python_exec("mq_ad"): there are mq_add, mq_answer, mq_answers, mq_ask, mq_fetch, '
            "mq_pv_free, mq_size"
        ),
        'kamailio.cfg:6: error: python_exec("mq_fetch", ...): queue "nosuch" is not defined; defined are q',
    ]


def test_a_native_config_without_definitions(
    check: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error is the server's."""
    monkeypatch.delenv("MQUEUE_KEMI_CFG", raising=False)
    text = f"""loadmodule "app_python3.so"
modparam("app_python3", "load", "{tmp_path}/mqueue_kemi.py")
"""
    found = check({"kamailio.cfg": text, "mqueue_kemi.py": ""})
    assert len(found) == 1
    assert found[0].startswith("kamailio.cfg:1: error: no queues are defined: there is no mqueue_kemi.cfg in ")
    assert found[0].endswith("; MQUEUE_KEMI_CFG may name a file of modparam lines")


FUNCTIONS_TEXT = """
import sys
import mqueue_kemi
mqueue_kemi.modparam("mqueue", "mqueue", "name=q")
def script_init():
    mqueue_kemi.mod_init(sys.modules[__name__])
def ksr_request_route():
    return mqueue_kemi.mq_add("q", "k", "v")
def ksr_timer(event):
    return 1
"""


def test_a_script_of_functions(check: Callable[..., list[str]]) -> None:
    """As app_python3s wants it: functions of the script, without a message."""
    config = CONFIG_TEXT.replace("app_python3", "app_python3s").replace(
        "cfgengine", 'modparam("app_python3s", "script_init", "script_init")\ncfgengine'
    )
    files: dict[str, str | bytes] = {"kamailio.cfg": config, "more.cfg": "", "script.py": FUNCTIONS_TEXT}
    assert check(files) == []
    assert check({"script.py": FUNCTIONS_TEXT}) == []
    (found,) = check({**files, "script.py": FUNCTIONS_TEXT.replace("ksr_timer(event)", "ksr_timer(msg, event)")})
    assert found.endswith("ksr_timer is called with 1 arguments, and takes 2")
    (found,) = check({**files, "script.py": FUNCTIONS_TEXT.replace("def script_init", "def init")})
    assert found.endswith("the script has no function script_init")


def test_no_mod_init(check: Callable[..., list[str]]) -> None:
    """app_python3 calls it, and nothing else."""
    files: dict[str, str | bytes] = {"kamailio.cfg": CONFIG_TEXT, "more.cfg": ""}
    (found,) = check({**files, "script.py": SCRIPT_TEXT.replace("def mod_init", "def init")})
    assert found == "script.py:1: error: there is no function mod_init, which Kamailio calls first"


def test_definitions_in_a_loop(check: Callable[..., list[str]], tmp_path: Path) -> None:
    """Over values that stand there; each is looked at."""
    loop = 'for name in ("a", NAME):\n    modparam("mqueue", "mqueue", f"name={name};size=9")\n'
    text = SCRIPT_TEXT.replace('modparam("mqueue", "mqueue", f"name={NAME};size=100")', loop)
    assert check({"script.py": text}) == []
    assert judge(str(tmp_path / "script.py"), {}).queues == ["a", "calls", "bad"]
    both = check({"script.py": text.replace(";size=9", ";size=x")})
    assert [line.partition(": ")[0] for line in both] == ["script.py:9", "script.py:9"]
    (found,) = check({"script.py": text.replace('("a", NAME)', "open(NAME)")})
    assert "warning: only a run would show what this sets" in found


def test_everything_imported_by_a_star(check: Callable[..., list[str]]) -> None:
    """The names are ours then, too."""
    text = SCRIPT_TEXT.replace("import modparam, mq_add as put", "import *").replace("put(NAME", 'mq_add("cals"')
    (found,) = check({"script.py": text})
    assert 'mq_add: queue "cals" is not defined; defined are calls, bad' in found
