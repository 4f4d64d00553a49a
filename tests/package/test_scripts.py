"""Routing scripts that were written without a thought of type checkers: they find no mistake where there is none."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.package.checkers import STANDARD, with_mypy, with_pyright
from tests.package.conftest import CHECKOUT

if TYPE_CHECKING:
    from tests.package.conftest import Environment

VERSION = "3.10"
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


@pytest.fixture
def others(tmp_path: Path) -> list[Path]:
    """Return Kamailio's own examples, where Debian has them, and one that is like them."""
    (tmp_path / "like.py").write_text(LIKE_THE_EXAMPLE, "utf-8")
    return [*EXAMPLES, tmp_path / "like.py"]


def test_scripts_of_others(environment: Environment, tmp_path: Path, others: list[Path]) -> None:
    """Nothing but that they have no annotations."""
    rules = {one.rule for one in with_mypy(environment, tmp_path, VERSION, *others)}
    assert "no-untyped-def" in rules
    assert rules <= {"no-untyped-def", "no-untyped-call"}  # the second one where Debian has Kamailio's examples


def test_our_scripts(environment: Environment, tmp_path: Path) -> None:
    assert with_mypy(environment, tmp_path, VERSION, *OURS) == []


def test_pyright(environment: Environment, tmp_path: Path, others: list[Path]) -> None:
    """In its standard mode it asks for no annotations."""
    assert with_pyright(environment, tmp_path, VERSION, *others, *OURS, settings=STANDARD) == []
