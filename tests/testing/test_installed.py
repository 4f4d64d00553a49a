"""What type checkers say of scripts against the package as pip installs it."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
EXAMPLES = sorted(Path("/usr/share/doc/kamailio/examples/kemi").glob("*.py"))
OURS = [CHECKOUT / "conf" / name for name in ("kamailio.py", "kamailio_cdr.py", "cdr_worker.py")]

# In the fashion of Kamailio's own example, which not every system has.
LIKE_THE_EXAMPLE = """
import KSR as KSR

FLT_NATS = 5


def mod_init():
    return kamailio()


class kamailio:
    def child_init(self, rank):
        KSR.info("===== kamailio.child_init(%d)\\n" % rank)
        return 0

    def ksr_request_route(self, msg):
        if not KSR.is_myself(KSR.pv.get("$si")):
            if not KSR.pv.is_null("$sht(ipban=>$si)"):
                KSR.dbg("blocked " + KSR.pv.get("$rm") + " from " + KSR.pv.get("$fu") + " (IP:"
                        + KSR.pv.get("$si") + ":" + str(KSR.pv.get("$sp")) + ")\\n")
                return -255
        ua = KSR.pv.gete("$ua")
        if ua.find("friendly") != -1 or KSR.pv.get("$rm") == "INVITE":
            KSR.setflag(FLT_NATS)
        if KSR.auth_db.auth_check(KSR.pv.get("$fd"), "subscriber", 1) < 0:
            KSR.auth.auth_challenge(KSR.pv.get("$fd"), 0)
        name = KSR.pv.gete("$var(name)") + KSR.pv.gete("$hdr(X-Name)")
        if KSR.pv.get("$var(n)") == 3 or KSR.pv.get("$avp(a)") == "x" or KSR.hdr.get("X") == name:
            KSR.seturi("sip:" + KSR.pv.getw("$avp(a)") + "@" + KSR.pv.get("$rd"))
        return 1

    def ksr_onreply_manage(self, msg):
        scode = KSR.pv.get("$rs")
        if scode > 100 and scode < 299:
            KSR.dbg("new branch [" + str(KSR.pv.get("$T_branch_idx")) + "] to " + KSR.pv.get("$ru") + "\\n")
        return 1
"""

# Line → the code of mypy's error.
WRONG = {
    'KSR.pv.get("$rs") == "200"': "comparison-overlap",
    'KSR.pv.get("$sp") == "5060"': "comparison-overlap",
    'KSR.pv.get("$T(id_index)") == "5"': "comparison-overlap",
    'KSR.pv.get("$T(reply_code)") == "486"': "comparison-overlap",
    'KSR.pv.getw("$T_branch_idx") == "0"': "comparison-overlap",
    'KSR.pv.getvs("$Rp", "none") == "none"': "comparison-overlap",
    'KSR.pv.get("$rU") == 100': "comparison-overlap",
    '"a" + KSR.pv.get("$rU")': "operator",
    '"a" + KSR.pv.get("$avp(x)")': "operator",
    '"a" + KSR.pv.gete("$sp")': "operator",
    'KSR.pv.seti("$var(a)", "5")': "arg-type",
    'KSR.pv.setl("$var(a)", "5")': "arg-type",
    'mqueue_kemi.mq_add("q", "k", 5)': "arg-type",
    'mqueue_kemi.mq_ad("q", "k", "v")': "attr-defined",
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the package in it, and nothing else; returns its Python."""
    if importlib.util.find_spec("setuptools") is None:
        pytest.skip("setuptools is not installed; tox does it")
    folder = tmp_path_factory.mktemp("site")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True)
    (target,) = (folder / "venv").glob("lib/python*/site-packages")
    # pip builds in the folder itself, which stays as it is.
    for name in ("kemi", "mqueue_kemi.py", "pyproject.toml", "setup.py", "share", "README.md", "LICENSE"):
        source = CHECKOUT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder)
    command = ["install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target", str(target)]
    done = subprocess.run(
        [sys.executable, "-m", "pip", *command, str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "venv/bin/python"


def check(site: Path, folder: Path, *files: Path) -> list[tuple[str, int, str]]:
    """File, line and code of each error of mypy --strict."""
    strict = ["--strict", "--no-error-summary", "--show-error-codes", "--cache-dir", str(folder / "cache")]
    command = [sys.executable, "-m", "mypy", *strict, "--python-executable", str(site), *map(str, files)]
    told = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    found = [re.match(r"(\S+?):(\d+): error: .*\[([\w-]+)\]$", line) for line in told.stdout.splitlines()]
    assert not told.stderr, told.stderr
    return [(Path(each[1]).name, int(each[2]), each[3]) for each in found if each]


mypy = pytest.mark.skipif(importlib.util.find_spec("mypy") is None, reason="mypy is not installed; tox does it")
pyright = pytest.mark.skipif(importlib.util.find_spec("basedpyright") is None, reason="basedpyright is not installed")


@mypy
def test_scripts_of_others(site: Path, tmp_path: Path) -> None:
    """Nothing but that they have no annotations."""
    (tmp_path / "like.py").write_text(LIKE_THE_EXAMPLE, "utf-8")
    errors = check(site, tmp_path, *EXAMPLES, tmp_path / "like.py")
    codes = {code for _, _, code in errors}
    assert "no-untyped-def" in codes
    assert codes <= {"no-untyped-def", "no-untyped-call"}  # the second one where Debian has Kamailio's examples


@mypy
def test_our_scripts(site: Path, tmp_path: Path) -> None:
    assert check(site, tmp_path, *OURS) == []


@mypy
def test_what_is_wrong(site: Path, tmp_path: Path) -> None:
    lines = [f"print({text})" for text in WRONG]
    (tmp_path / "wrong.py").write_text("import KSR\nimport mqueue_kemi\n" + "\n".join(lines) + "\n", "utf-8")
    errors = check(site, tmp_path, tmp_path / "wrong.py")
    told: dict[str, str] = {}
    for _, line, code in errors:
        told.setdefault(list(WRONG)[line - 3], code)
    assert told == WRONG


@pyright
def test_pyright_says_the_same(site: Path, tmp_path: Path) -> None:
    """Of scripts without a mistake nothing; of the others an error where mypy has one, equality in its own words."""
    (tmp_path / "like.py").write_text(LIKE_THE_EXAMPLE, "utf-8")
    for path in (*EXAMPLES, *OURS):
        (tmp_path / path.name).write_text(path.read_text("utf-8"), "utf-8")
    lines = [f"print({text})" for text in WRONG]
    (tmp_path / "wrong.py").write_text("import KSR\nimport mqueue_kemi\n" + "\n".join(lines) + "\n", "utf-8")
    settings = {"typeCheckingMode": "standard", "reportMissingModuleSource": False, "reportUnnecessaryComparison": True}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings), "utf-8")
    command = [sys.executable, "-m", "basedpyright", "--outputjson", "--pythonpath", str(site), "-p", str(tmp_path)]
    told = json.loads(subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False).stdout)
    errors = [each for each in told["generalDiagnostics"] if each["severity"] == "error"]
    # The example compares what its own methods never return: the rule is asked only for what is wrong here.
    errors = [each for each in errors if "wrong.py" in each["file"] or each["rule"] != "reportUnnecessaryComparison"]
    assert {Path(each["file"]).name for each in errors} == {"wrong.py"}, errors
    wrong = {list(WRONG)[each["range"]["start"]["line"] - 2] for each in errors}
    assert wrong == set(WRONG)
