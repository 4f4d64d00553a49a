"""Calls inside the routes of one transaction, whose results the fake must share with the real server.

A flow is a request that is sent on to a callee who answers with these codes. In each route the expressions are
evaluated with KSR and msg as their names.
"""

from __future__ import annotations

from typing import NamedTuple

INVITE = """\
INVITE sip:bob@example.org;x=1 SIP/2.0
Via: SIP/2.0/UDP 127.0.0.1:{client};branch=z9hG4bK{mark};rport
Max-Forwards: 70
From: "Alice" <sip:alice@wonder.land>;tag=ft1
To: <sip:bob@example.org>
Call-ID: {mark}@host
CSeq: 7 INVITE
Contact: <sip:alice@127.0.0.1:{client}>
User-Agent: ua/1.0
X-Case: {mark}
Content-Type: text/plain
Content-Length: 3

hi
"""


class Flow(NamedTuple):
    """One transaction: codes are what the callee answers each time that the request reaches it."""

    message: str
    codes: tuple[tuple[int, ...], ...]
    routes: dict[str, tuple[str, ...]]
    cancel: bool = False  # the caller cancels after the first provisional reply


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.strip().splitlines() if line.strip())


WHAT = _lines(
    """
    KSR.pv.get("$rm"), KSR.pv.get("$ru"), KSR.pv.get("$rU"), KSR.pv.get("$rd"), KSR.pv.get("$ou"), KSR.pv.get("$oU")
    KSR.pv.get("$rs"), KSR.pv.get("$rr"), KSR.pv.get("$T_reply_code"), KSR.pv.get("$T_branch_idx"), KSR.pv.get("$mt")
    KSR.pv.get("$ua"), KSR.pv.get("$fU"), KSR.pv.get("$tt"), KSR.pv.get("$ci"), KSR.pv.get("$rb"), KSR.pv.get("$cs")
    KSR.pv.get("$du") is None, KSR.pv.get("$si"), KSR.hdr.get("X-New"), KSR.hdr.get("User-Agent"), KSR.pv.get("$ct") is None
    msg.Type, getattr(msg, "Method", None), getattr(msg, "RURI", None), getattr(msg, "Status", None)
    KSR.is_INVITE(), KSR.siputils.is_request(), KSR.siputils.is_reply(), KSR.siputils.has_totag(), KSR.is_myself_ruri()
    KSR.tmx.t_is_request_route(), KSR.tmx.t_is_branch_route(), KSR.tmx.t_is_failure_route(), KSR.tmx.t_is_reply_route()
    KSR.tm.t_is_set("branch_route"), KSR.tm.t_is_set("failure_route"), KSR.tm.t_is_set("onreply_route")
    KSR.tm.t_get_status_code(), KSR.tm.t_any_replied(), KSR.tm.t_branch_replied(), KSR.tm.t_any_timeout(), KSR.tm.t_branch_timeout()
    KSR.tm.t_is_canceled(), KSR.tm.t_is_expired(), KSR.tm.t_check_status("4.."), KSR.tm.t_check_status("486|603"), KSR.tm.t_check_status("[12]..")
    KSR.tm.t_get_branch_index(), KSR.pv.get("$T(branch_index)"), KSR.pv.get("$T(reply_code)"), KSR.pv.get("$T(reply_type)")
    KSR.pv.get("$avp(a)"), KSR.pv.get("$var(a)"), KSR.isflagset(3), KSR.isbflagset(4), KSR.pv.get("$xavp(x=>y)")
    KSR.corex.has_ruri_user(), KSR.corex.has_user_agent(), KSR.kx.get_status(), KSR.kx.get_method(), KSR.kx.get_ruri()
    KSR.tm.t_check_trans(), KSR.tm.t_lookup_request()
    """
)
SET = _lines(
    """
    KSR.pv.sets("$avp(a)", "1"), KSR.pv.sets("$var(a)", "v"), KSR.setflag(3), KSR.setbflag(4), KSR.pv.sets("$xavp(x=>y)", "z")
    KSR.hdr.append("X-New: 1\\r\\n"), KSR.pv.sets("$rU", "carol")
    """
)

FLOWS: dict[str, Flow] = {
    "busy": Flow(
        INVITE,
        ((180, 486),),
        {"request": SET, **dict.fromkeys(("branch", "onsend", "reply", "onreply", "failure"), WHAT)},
    ),
    "answered": Flow(INVITE, ((180, 200),), {"request": SET, **dict.fromkeys(("after", "reply", "onreply"), WHAT)}),
    "canceled": Flow(
        INVITE, ((180, 487),), {"request": SET, **dict.fromkeys(("cancel", "failure"), WHAT)}, cancel=True
    ),
}
