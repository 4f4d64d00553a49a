"""Calls whose results the fake must share with the real server: by name, a message and expressions, in order.

Each case is one request of its own. An expression is evaluated with KSR as its only name; what it gives, or the error
that it raises, what it logs and which replies leave are compared.
"""

from __future__ import annotations

from typing import NamedTuple

INVITE = """\
INVITE sip:bob:pw@example.org:5070;transport=udp;x=1?h=2 SIP/2.0
Via: SIP/2.0/UDP 10.0.0.1:5066;branch=z9hG4bK{mark};rport
Max-Forwards: 70
From: "Alice W." <sip:alice@wonder.land:5090;u=1>;tag=ft1
t: Bob <sip:bob@example.org>
Call-ID: {mark}@host
CSeq: 7 INVITE
Contact: <sip:alice@10.0.0.1:5066;ob>
User-Agent: ua/1.0
X-One: first
X-One: second
x-one:   third
Subject: hello
X-Case: {mark}
Content-Type: text/plain
Content-Length: 9

hi there
"""

BYE = """\
BYE sip:127.0.0.1:{port} SIP/2.0
Via: SIP/2.0/UDP 10.0.0.1:5066;branch=z9hG4bK{mark};rport
Via: SIP/2.0/UDP 10.0.0.9;branch=z9hG4bKbefore
Max-Forwards: 0
From: sip:alice@wonder.land;tag=ft1
To: <sip:bob@example.org>;tag=tt1
Call-ID: {mark}@host
CSeq: 8 BYE
X-Case: {mark}
Content-Length: 0

"""

REGISTER = """\
REGISTER sip:example.org SIP/2.0
Via: SIP/2.0/UDP 10.0.0.1:5066;branch=z9hG4bK{mark};rport
From: <sip:+4930@example.org;user=phone>;tag=ft1
To: <sip:+4930@example.org;user=phone>
Call-ID: {mark}@host
CSeq: 1 REGISTER
Contact: <sip:+4930@10.0.0.1>;expires=60
Expires: 120
X-Case: {mark}
Content-Length: 0

"""

ROUTED = """\
BYE sip:bob@127.0.0.1:9 SIP/2.0
Via: SIP/2.0/UDP 10.0.0.1:5066;branch=z9hG4bK{mark};rport
Route: <sip:127.0.0.1:{port};lr;nat=yes;ftag=ft1>
Max-Forwards: 16
From: <sip:alice@wonder.land>;tag=ft1
To: <sip:bob@example.org>;tag=tt1
Call-ID: {mark}@host
CSeq: 9 BYE
X-Case: {mark}
Content-Length: 0

"""

ROUTED_TWICE = """\
BYE sip:alice@10.0.0.7:5080 SIP/2.0
Via: SIP/2.0/UDP 10.0.0.1:5066;branch=z9hG4bK{mark};rport
Route: <sip:127.0.0.1:{port};lr;ftag=tt1>,<sip:10.0.0.8;lr>
Max-Forwards: 16
From: <sip:bob@example.org>;tag=ft1
To: <sip:alice@wonder.land>;tag=tt1
Call-ID: {mark}@host
CSeq: 9 BYE
X-Case: {mark}
Content-Length: 0

"""

REPLY = """\
SIP/2.0 404 Not Here
Via: SIP/2.0/UDP 127.0.0.1:{port};branch=z9hG4bK{mark}
Via: SIP/2.0/UDP 10.0.0.1:5066;branch=z9hG4bK{mark}1
From: <sip:alice@wonder.land>;tag=ft1
To: <sip:bob@example.org>;tag=tt1
Call-ID: {mark}@host
CSeq: 9 INVITE
User-Agent: ua/2
X-Case: {mark}
Content-Length: 0

"""

PARAMS = INVITE.replace("bob:pw@example.org:5070;transport=udp;x=1?h=2", "bob@example.org;x=1;lr;transport=udp")
TEN_HOPS = INVITE.replace("Max-Forwards: 70", "Max-Forwards: 10")


class Case(NamedTuple):
    """One request and what is done with it."""

    message: str
    expressions: tuple[str, ...]


def case(message: str, text: str) -> Case:
    """Expressions, one a line."""
    return Case(message, tuple(line.strip() for line in text.strip().splitlines() if line.strip()))


def _variables(message: str, names: str) -> Case:
    return case(message, "\n".join(f'KSR.pv.get("${name}")' for name in names.split()))


_PLAIN = """
rm ru rU rd rp rz ou oU od op du dd fu fU fd fn ft tu tU td tn tt ci cs ct cT ua cl rb bs rs rr rv mt mf si Ri Rp pr proto
"""

CASES: dict[str, Case] = {
    # First: its code is that of the last error.
    "sl_reply_error": case(INVITE, "KSR.sl.sl_reply_error()"),
    # --- pv
    "variables of an INVITE": _variables(INVITE, _PLAIN),
    "variables of a BYE": _variables(BYE, _PLAIN),
    "variables of a REGISTER": _variables(REGISTER, _PLAIN),
    "variables of a reply": _variables(REPLY, "rm ru rs rr fU tU tt ci cs mt ua"),
    "$var": case(
        INVITE,
        """
        KSR.pv.get("$var(a)"), KSR.pv.gete("$var(a)"), KSR.pv.getvs("$var(a)", "d"), KSR.pv.getvn("$var(a)", 3)
        KSR.pv.seti("$var(a)", 5), KSR.pv.get("$var(a)"), KSR.pv.geti("$var(a)")
        KSR.pv.sets("$var(a)", "x"), KSR.pv.get("$var(a)"), KSR.pv.geti("$var(a)"), KSR.pv.is_null("$var(a)")
        KSR.pv.sets("$var(a)", ""), KSR.pv.get("$var(a)"), KSR.pv.is_null("$var(a)")
        KSR.pv.unset("$var(a)"), KSR.pv.get("$var(a)"), KSR.pv.is_null("$var(a)")
        KSR.pv.sets("$var(n)", "b"), KSR.pv.sets("$var($var(n))", "by name"), KSR.pv.get("$var(b)")
        KSR.pv.sets("$var(n)", "c"), KSR.pv.get("$var($var(n))")
        KSR.pv.sets("$vn(h)", "X-One"), KSR.pv.get("$hdr($vn(h))"), KSR.pv.get("$(hdr($vn(h))[1])")
        KSR.pv.sets("$avp($vn(h))", "a"), KSR.pv.get("$avp(X-One)"), KSR.pv.get("$avp($vn(h))")
        KSR.pv.sets("$vn($vn(h))", "a"), KSR.pv.get("$vn(X-One)"), KSR.pv.get("$vn($vn(h))")
        KSR.pv.sets("$shv($vn(h))", "a"), KSR.pv.get("$shv(X-One)"), KSR.pv.get("$shv($vn(h))")
        """,
    ),
    "$var that keeps its value for the next request": case(INVITE, 'KSR.pv.get("$var(b)")'),
    "$vn": case(
        INVITE,
        """
        KSR.pv.get("$vn(a)"), KSR.pv.gete("$vn(a)"), KSR.pv.getw("$vn(a)"), KSR.pv.is_null("$vn(a)")
        KSR.pv.getvs("$vn(a)", "d"), KSR.pv.getvn("$vn(a)", 3), KSR.pv.geti("$vn(a)")
        KSR.pv.seti("$vn(a)", -5), KSR.pv.get("$vn(a)"), KSR.pv.getvs("$vn(a)", "d")
        KSR.pv.sets("$vn(a)", "x"), KSR.pv.get("$vn(a)"), KSR.pv.getvn("$vn(a)", 3)
        KSR.pv.unset("$vn(a)"), KSR.pv.get("$vn(a)")
        """,
    ),
    "$vz": case(
        INVITE, 'KSR.pv.get("$vz(a)")\nKSR.pv.sets("$vz(a)", "x")\nKSR.pv.get("$vz(a)")\nKSR.pv.unset("$vz(a)")'
    ),
    "$shv": case(
        INVITE,
        """
        KSR.pv.get("$shv(a)"), KSR.pv.seti("$shv(a)", 7), KSR.pv.get("$shv(a)"), KSR.pv.is_null("$shv(a)")
        KSR.pv.sets("$shv(a)", "x"), KSR.pv.get("$shv(a)"), KSR.pv.unset("$shv(a)"), KSR.pv.get("$shv(a)")
        """,
    ),
    "$avp": case(
        INVITE,
        """
        KSR.pv.get("$avp(a)"), KSR.pv.is_null("$avp(a)")
        KSR.pv.sets("$avp(a)", "1"), KSR.pv.sets("$avp(a)", "2"), KSR.pv.seti("$avp(a)", 3)
        KSR.pv.get("$avp(a)"), KSR.pv.get("$(avp(a)[1])"), KSR.pv.get("$(avp(a)[2])"), KSR.pv.get("$(avp(a)[3])")
        KSR.pv.get("$(avp(a)[*])"), KSR.pv.get("$avp(s:a)"), KSR.pv.get("$avp(i:5)"), KSR.pv.get("$(avp(a)[-1])")
        KSR.pv.unset("$avp(a)"), KSR.pv.get("$avp(a)"), KSR.pv.unset("$(avp(a)[*])"), KSR.pv.get("$avp(a)")
        KSR.pv.sets("$(avp(a)[*])", "n"), KSR.pv.sets("$avp(a)", "m"), KSR.pv.get("$(avp(a)[*])")
        """,
    ),
    "$avp is gone with its request": case(INVITE, 'KSR.pv.get("$avp(a)")'),
    "numbers in texts": case(
        INVITE,
        """
        KSR.pv.geti("$rU"), KSR.pv.geti("$rp"), KSR.pv.geti("$cs"), KSR.pv.geti("$hdr(nope)"), KSR.pv.geti("$bs")
        KSR.pv.sets("$var(c)", "12x"), KSR.pv.geti("$var(c)"), KSR.pv.sets("$var(c)", "-12"), KSR.pv.geti("$var(c)")
        KSR.pv.sets("$var(c)", "x12"), KSR.pv.geti("$var(c)"), KSR.pv.sets("$var(c)", "+7"), KSR.pv.geti("$var(c)")
        """,
    ),
    "$hdr": case(
        INVITE,
        """
        KSR.pv.get("$hdr(X-One)"), KSR.pv.get("$(hdr(X-One)[1])"), KSR.pv.get("$(hdr(X-One)[-1])")
        KSR.pv.get("$(hdr(X-One)[9])"), KSR.pv.get("$(hdr(X-One)[*])"), KSR.pv.get("$(hdr(X-One)[-3])")
        KSR.pv.get("$hdr(nope)"), KSR.pv.gete("$hdr(nope)"), KSR.pv.getw("$hdr(nope)")
        KSR.pv.get("$hdr(To)"), KSR.pv.get("$hdr(t)"), KSR.pv.get("$hdr(f)"), KSR.pv.get("$hdr(x-ONE)")
        KSR.pv.get("$(rU)"), KSR.pv.get("$$")
        """,
    ),
    "parts of $ru are set": case(
        INVITE,
        """
        KSR.pv.sets("$ru", "sip:r@s.t:99;p=1"), KSR.pv.get("$rU"), KSR.pv.get("$ou")
        KSR.pv.sets("$rU", "new"), KSR.pv.get("$ru"), KSR.pv.sets("$rd", "dom"), KSR.pv.get("$ru")
        KSR.pv.sets("$rp", "77"), KSR.pv.get("$ru"), KSR.pv.seti("$rp", 78), KSR.pv.get("$ru"), KSR.pv.get("$rp")
        KSR.pv.unset("$rU"), KSR.pv.get("$ru"), KSR.pv.get("$rU")
        KSR.pv.sets("$du", "sip:q.r:5"), KSR.pv.get("$du"), KSR.pv.get("$dd"), KSR.pv.unset("$du"), KSR.pv.get("$du")
        KSR.pv.sets("$ru", "nonsense"), KSR.pv.get("$ru"), KSR.pv.sets("$rU", "z"), KSR.pv.get("$rU")
        """,
    ),
    "$mqk and $mqv": case(
        INVITE,
        """
        KSR.pv.get("$mqk(q)"), KSR.pv.get("$mqv(q)"), KSR.pv.get("$mq_size(q)")
        KSR.mqueue.mq_add("q", "k", "v"), KSR.mqueue.mq_add("q", "k2", ""), KSR.pv.get("$mq_size(q)")
        KSR.mqueue.mq_fetch("q"), KSR.pv.get("$mqk(q)"), KSR.pv.get("$mqv(q)"), KSR.pv.get("$mq_size(q)")
        KSR.xlog.xinfo("$mqk(q) - $mqv(q)\\n")
        KSR.mqueue.mq_fetch("q"), KSR.pv.get("$mqk(q)"), KSR.mqueue.mqk_get("q")
        KSR.mqueue.mq_fetch("q"), KSR.pv.get("$mqk(q)"), KSR.pv.gete("$mqv(q)")
        """,
    ),
    "KSR.mqueue": case(
        INVITE,
        """
        KSR.mqueue.mq_size("q"), KSR.mqueue.mq_size("none"), KSR.mqueue.mq_add("none", "k", "v")
        KSR.mqueue.mq_add("q", "key", "value"), KSR.mqueue.mq_size("q")
        KSR.mqueue.mqk_get("q"), KSR.mqueue.mqk_gete("q"), KSR.mqueue.mqk_getw("q")
        KSR.mqueue.mq_fetch("q"), KSR.mqueue.mqk_get("q"), KSR.mqueue.mqv_get("q")
        KSR.mqueue.mq_pv_free("q"), KSR.mqueue.mqv_get("q"), KSR.mqueue.mq_fetch("q"), KSR.mqueue.mq_fetch("none")
        """,
    ),
    # --- xlog and the log
    "xlog": case(
        INVITE,
        r"""
        KSR.xlog.xinfo("$rU $var(zz) $hdr(nope) $$ $(hdr(X-One)[1]) end\n")
        KSR.xlog.xlog("L_INFO", "i\n"), KSR.xlog.xlog("L_ERR", "$rm\n"), KSR.xlog.xlog("L_WARN", "w\n")
        KSR.xlog.xlog("L_NOTICE", "n\n"), KSR.xlog.xlog("L_CRIT", "c\n"), KSR.xlog.xlog("L_ALERT", "a\n")
        KSR.xlog.xlog("info", "x\n"), KSR.xlog.xlog("nope", "y\n"), KSR.xlog.xlog("L_DBG", "d\n")
        KSR.xlog.xerr("$fU-$tU\n"), KSR.xlog.xwarn("100% $vn(zz)\n"), KSR.xlog.xnotice("n\n"), KSR.xlog.xdbg("d\n")
        KSR.xlog.xcrit("c\n"), KSR.xlog.xalert("a\n"), KSR.xlog.xinfo("plain\n")
        """,
    ),
    "the log": case(
        INVITE,
        r"""
        KSR.info("i $rU\n"), KSR.err("e\n"), KSR.warn("w\n"), KSR.crit("c\n"), KSR.notice("n\n"), KSR.dbg("d\n")
        KSR.log("info", "x\n"), KSR.log("WARN", "y\n"), KSR.log("nope", "z\n"), KSR.log("crit", "z\n")
        """,
    ),
    # --- core
    "method of an INVITE": case(
        INVITE,
        """
        KSR.is_INVITE(), KSR.is_BYE(), KSR.is_method("INVITE"), KSR.is_method("invite"), KSR.is_method("BYE")
        KSR.is_method("NOPE"), KSR.is_method("INVITE|BYE"), KSR.is_method("ACK|BYE")
        KSR.is_method_in("IAB"), KSR.is_method_in("AB"), KSR.is_method_in("i"), KSR.is_method_in("IS")
        """,
    ),
    "method of a BYE": case(BYE, 'KSR.is_BYE(), KSR.is_INVITE(), KSR.is_method_in("IB"), KSR.is_method_in("FRES")'),
    "method of a reply": case(REPLY, 'KSR.is_INVITE(), KSR.is_BYE(), KSR.is_method("INVITE"), KSR.is_method_in("I")'),
    "transport": case(
        INVITE,
        """
        KSR.is_UDP(), KSR.is_TCP(), KSR.is_TLS(), KSR.is_WS(), KSR.is_WSX(), KSR.is_IPv4(), KSR.is_IPv6()
        KSR.is_proto("u"), KSR.is_proto("UT"), KSR.is_proto("t"), KSR.is_dst_port(1)
        """,
    ),
    "flags": case(
        INVITE,
        """
        KSR.isflagset(1), KSR.setflag(1), KSR.isflagset(1), KSR.pv.get("$mf"), KSR.resetflag(1), KSR.isflagset(1)
        KSR.setflag(32), KSR.setflag(-1), KSR.isflagset(99), KSR.setflag(31), KSR.setflag(True), KSR.isflagset(1)
        """,
    ),
    "flags of branches": case(
        INVITE,
        """
        KSR.setbflag(5), KSR.isbflagset(5), KSR.isbiflagset(5, 0), KSR.isbflagset(6), KSR.resetbflag(5), KSR.isbflagset(5)
        KSR.setbiflag(3, 1), KSR.isbiflagset(3, 1), KSR.setbiflag(6, 0), KSR.isbflagset(6), KSR.setbflag(32)
        KSR.setbiflag(33, 0), KSR.isbflagset(-1)
        """,
    ),
    "flags of the script": case(
        INVITE, "KSR.setsflag(1), KSR.issflagset(1), KSR.resetsflag(1), KSR.issflagset(1), KSR.setsflag(32)"
    ),
    "flags are gone with their request": case(INVITE, "KSR.isflagset(31), KSR.isbflagset(6)"),
    "whose": case(
        INVITE,
        """
        KSR.is_myself("127.0.0.1"), KSR.is_myself("sip:127.0.0.1"), KSR.is_myself("sip:x@127.0.0.1:1")
        KSR.is_myself("sip:u@127.0.0.1:%d" % KSR.pv.get("$Rp")), KSR.is_myself("example.org"), KSR.is_myself("sip:example.org")
        KSR.is_myself_ruri(), KSR.is_myself_furi(), KSR.is_myself_turi(), KSR.is_myself_srcip(), KSR.is_myself_suri()
        KSR.is_myself_duri(), KSR.is_myself_nhuri(), KSR.setdsturi("sip:127.0.0.1"), KSR.is_myself_duri(), KSR.is_myself_nhuri()
        """,
    ),
    "whose, of a BYE to the server": case(BYE, "KSR.is_myself_ruri(), KSR.is_myself_nhuri(), KSR.is_myself_turi()"),
    "URIs are set": case(
        INVITE,
        """
        KSR.setuser("carol"), KSR.pv.get("$ru"), KSR.sethost("h.org"), KSR.pv.get("$ru"), KSR.pv.get("$rd"), KSR.pv.get("$rp")
        KSR.sethost("h.org:7"), KSR.pv.get("$ru")
        KSR.seturi("sip:x@y.z"), KSR.pv.get("$ru"), KSR.pv.get("$ou"), KSR.pv.get("$rU"), KSR.pv.get("$oU")
        KSR.isdsturiset(), KSR.setdsturi("sip:1.2.3.4"), KSR.isdsturiset(), KSR.pv.get("$du"), KSR.pv.get("$dd")
        KSR.resetdsturi(), KSR.pv.get("$du"), KSR.isdsturiset()
        KSR.seturi("foo"), KSR.setuser("u"), KSR.sethost("h"), KSR.pv.get("$ru")
        """,
    ),
    "what only says yes": case(
        INVITE, "KSR.force_rport(), KSR.add_local_rport(), KSR.set_reply_close(), KSR.set_drop()"
    ),
    # --- hdr, textops
    "hdr.get": case(
        INVITE,
        """
        KSR.hdr.get("X-One"), KSR.hdr.get_idx("X-One", 1), KSR.hdr.get_idx("X-One", -1), KSR.hdr.get_idx("X-One", -3)
        KSR.hdr.get_idx("X-One", -4), KSR.hdr.get_idx("X-One", 5), KSR.hdr.gete_idx("X-One", 5), KSR.hdr.getw_idx("X-One", 5)
        KSR.hdr.get("nope"), KSR.hdr.gete("nope"), KSR.hdr.getw("nope"), KSR.hdr.get("To"), KSR.hdr.get("T")
        KSR.hdr.is_present("x-one"), KSR.hdr.is_present("no"), KSR.hdr.is_present("t"), KSR.hdr.get("x-ONE")
        """,
    ),
    "what is changed is not seen": case(
        INVITE,
        r"""
        KSR.hdr.append("X-New: 1\r\n"), KSR.hdr.get("X-New"), KSR.hdr.is_present("X-New"), KSR.hdr.insert("X-I: 2\r\n")
        KSR.hdr.remove("X-One"), KSR.hdr.get("X-One"), KSR.hdr.remove("nope"), KSR.hdr.append("")
        KSR.hdr.append_after("X-A: 3\r\n", "Subject"), KSR.hdr.append_after("X-A: 3\r\n", "nope")
        KSR.hdr.insert_before("X-B: 4\r\n", "Subject"), KSR.hdr.rmappend("Subject", "Subject: new\r\n")
        KSR.hdr.rminsert("User-Agent", "User-Agent: new\r\n"), KSR.pv.get("$ua"), KSR.pv.get("$hdr(Subject)")
        KSR.textops.remove_hf("Subject"), KSR.textops.remove_hf("nope"), KSR.hdr.get("Subject")
        KSR.textops.remove_hf_re("^X-O"), KSR.textops.remove_hf_re("^Zz")
        KSR.textops.set_body("new body", "text/new"), KSR.pv.get("$rb")
        """,
    ),
    "headers in a reply": case(
        INVITE,
        r"""
        KSR.hdr.append_to_reply("X-R: 1\r\n"), KSR.hdr.append_to_reply("X-S: 2\r\n")
        KSR.sl.sl_send_reply(200, "OK"), KSR.sl.sl_send_reply(200, "OK")
        """,
    ),
    "body of a reply": case(INVITE, 'KSR.textops.set_reply_body("rb", "a/b"), KSR.sl.sl_send_reply(200, "OK")'),
    "hdr.match_content": case(
        INVITE,
        """
        KSR.hdr.match_content("X-One", "eq", "first", "f"), KSR.hdr.match_content("X-One", "eq", "FIRST", "o")
        KSR.hdr.match_content("X-One", "eq", "second", "f"), KSR.hdr.match_content("X-One", "eq", "third", "l")
        KSR.hdr.match_content("X-One", "in", "ir", "a"), KSR.hdr.match_content("X-One", "ne", "zz", "a")
        KSR.hdr.match_content("X-One", "sw", "th", "l"), KSR.hdr.match_content("nope", "eq", "n", "a")
        KSR.hdr.match_content("X-One", "SW", "se", "one"), KSR.hdr.match_content("nope", "ne", "n", "l")
        """,
    ),
    "textops searches headers": case(
        INVITE,
        """
        KSR.textops.is_present_hf("Subject"), KSR.textops.is_present_hf("subject"), KSR.textops.is_present_hf("To")
        KSR.textops.is_present_hf("nope"), KSR.textops.is_present_hf_re("^X-"), KSR.textops.is_present_hf_re("^x-O")
        KSR.textops.is_present_hf_re("^Z-"), KSR.textops.search_hf("Subject", "h.l", "a")
        KSR.textops.search_hf("X-One", "third", "f"), KSR.textops.search_hf("X-One", "third", "l")
        KSR.textops.search_hf("X-One", "third", "a"), KSR.textops.search_hf("nope", "third", "a")
        """,
    ),
    "textops searches the message": case(
        INVITE,
        """
        KSR.textops.search("hi there"), KSR.textops.search("zzz"), KSR.textops.search("HI"), KSR.textops.search("^Subject")
        KSR.textops.search_body("there"), KSR.textops.search_body("^hi"), KSR.textops.search_body("Subject")
        KSR.textops.search_body("there$"), KSR.textops.search_body("(hi|ho) t"), KSR.textops.search_body("[[:digit:]]")
        """,
    ),
    "a body": case(
        INVITE,
        """
        KSR.textops.has_body(), KSR.textops.has_body_type("text/plain"), KSR.textops.has_body_type("TEXT/plain")
        KSR.textops.has_body_type("application/sdp")
        """,
    ),
    "no body": case(
        BYE, 'KSR.textops.has_body(), KSR.textops.has_body_type("text/plain"), KSR.textops.search_body("a")'
    ),
    "textops.search_str": case(
        INVITE,
        """
        KSR.textops.search_str("abc", "b."), KSR.textops.search_str("abc", "^b"), KSR.textops.search_str("ABC", "abc")
        KSR.textops.search_str("", "abc"), KSR.textops.search_str("abc", ""), KSR.textops.search_str("a1", "[0-9]+$")
        KSR.textops.search_str("a", "("), KSR.textops.search_str("a b", "a[[:space:]]b"), KSR.textops.search_str("ab", "a\\\\w")
        """,
    ),
    "textops compares": case(
        INVITE,
        """
        KSR.textops.cmp_str("a", "a"), KSR.textops.cmp_str("b", "a"), KSR.textops.cmp_str("a", "b"), KSR.textops.cmp_str("a", "ab")
        KSR.textops.cmp_str("", ""), KSR.textops.cmp_str("", "a"), KSR.textops.cmp_istr("b", "A"), KSR.textops.cmp_istr("a", "A")
        KSR.textops.cmp_istr("a", "B"), KSR.textops.cmp_str("B", "a"), KSR.textops.cmp_istr("B", "a")
        """,
    ),
    "textops: beginnings and ends": case(
        INVITE,
        """
        KSR.textops.starts_with("", ""), KSR.textops.starts_with("", "a"), KSR.textops.starts_with("abc", "ab")
        KSR.textops.starts_with("abc", "Ab"), KSR.textops.starts_with("abc", "b"), KSR.textops.starts_with("a", "ab")
        KSR.textops.starts_with("a", ""), KSR.textops.ends_with("abc", "bc"), KSR.textops.ends_with("abc", "b")
        KSR.textops.ends_with("a", "ab"), KSR.textops.ends_with("", ""), KSR.textops.ends_with("abc", "d")
        """,
    ),
    "textops: lists": case(
        INVITE,
        """
        KSR.textops.in_list("b", "a,b,c", ","), KSR.textops.in_list("d", "a,b,c", ","), KSR.textops.in_list("b", "a, b ,c", ",")
        KSR.textops.in_list("a", "", ","), KSR.textops.in_list("", "", ","), KSR.textops.in_list(" a", "a", ",")
        KSR.textops.in_list("A", "a", ","), KSR.textops.in_list("a", "a;b", ";,"), KSR.textops.in_list("a", "a;b", "")
        KSR.textops.in_list_prefix("bcd", "a,b,c", ","), KSR.textops.in_list_prefix("dcd", "a,b,c", ",")
        KSR.textops.in_list_prefix("a", "ab", ","), KSR.textops.in_list_prefix("ab", "x,,a", ",")
        """,
    ),
    "textops: places": case(
        INVITE,
        """
        KSR.textops.str_find("hello", "ll"), KSR.textops.str_find("hello", "LL"), KSR.textops.str_ifind("hello", "LL")
        KSR.textops.str_find("hello", "zz"), KSR.textops.str_find("", "a"), KSR.textops.str_find("aa", "a")
        KSR.textops.str_find("a", "aa"), KSR.textops.str_ifind("hello", "LO"), KSR.textops.str_find("h\u00e9llo", "l")
        """,
    ),
    # --- siputils
    "siputils: the message": case(
        INVITE,
        "KSR.siputils.has_totag(), KSR.siputils.is_request(), KSR.siputils.is_reply(), KSR.siputils.is_first_hop()",
    ),
    "siputils: a BYE": case(BYE, "KSR.siputils.has_totag(), KSR.siputils.is_first_hop(), KSR.siputils.is_request()"),
    "siputils: a reply": case(REPLY, "KSR.siputils.has_totag(), KSR.siputils.is_request(), KSR.siputils.is_reply()"),
    "siputils: URIs": case(
        INVITE,
        "\n".join(
            f"KSR.siputils.is_uri({text!r})"
            for text in (
                *(
                    "sip:a@b",
                    "foo",
                    "sip:a@",
                    "sip:@b",
                    "",
                    "SIP:a@b",
                    "sip:a@[::1]:5060",
                    "sip:a@b:5060;x",
                    "sip:a@b:x",
                ),
                *("http://x", "urn:x", "tel:abc", "tel:+1", "sip:b", "sip:", "sips:a@b:5061;t=1", "sip:a@b:99999"),
                *("sip:a:p@b", "sip:a@b?h=1", "mailto:x@y"),
            )
        ),
    ),
    "siputils: kinds of texts": case(
        INVITE,
        """
        KSR.siputils.is_numeric("123"), KSR.siputils.is_numeric("12a"), KSR.siputils.is_numeric(""), KSR.siputils.is_numeric("-1")
        KSR.siputils.is_alphanum("a1"), KSR.siputils.is_alphanum("a-"), KSR.siputils.is_alphanum(""), KSR.siputils.is_alphanum("Z")
        KSR.siputils.is_alphanumex("a-", "-"), KSR.siputils.is_alphanumex("a_", "-"), KSR.siputils.is_alphanumex("", "-")
        KSR.siputils.is_tel_number("+49123"), KSR.siputils.is_tel_number("49-1"), KSR.siputils.is_tel_number("+")
        KSR.siputils.is_tel_number(""), KSR.siputils.is_tel_number("0"), KSR.siputils.is_tel_number("01a")
        """,
    ),
    "siputils: addresses compared": case(
        INVITE,
        """
        KSR.siputils.cmp_aor("sip:a@b;x=1", "sip:a@b"), KSR.siputils.cmp_aor("sip:a@b:5060", "sip:a@b")
        KSR.siputils.cmp_aor("sip:a@b:5061", "sip:a@b"), KSR.siputils.cmp_aor("sip:a@b", "sip:A@b")
        KSR.siputils.cmp_aor("sips:a@b", "sip:a@b"), KSR.siputils.cmp_aor("foo", "sip:a@b"), KSR.siputils.cmp_aor("sip:a@b", "sip:a@B")
        KSR.siputils.cmp_aor("sips:a@b:5061", "sip:a@b"), KSR.siputils.cmp_aor("sip:a@b:5061", "sip:a@b:5061")
        KSR.siputils.cmp_hdr_name("From", "f"), KSR.siputils.cmp_hdr_name("X-A", "x-a"), KSR.siputils.cmp_hdr_name("X-A", "x-b")
        """,
    ),
    "siputils: parameters of the URI": case(
        PARAMS,
        """
        KSR.siputils.uri_param("x"), KSR.siputils.uri_param("zz"), KSR.siputils.uri_param("lr"), KSR.siputils.uri_param("transport")
        KSR.siputils.uri_param_value("x", "1"), KSR.siputils.uri_param_value("x", "2"), KSR.siputils.uri_param_value("lr", "")
        KSR.siputils.uri_param_any("x"), KSR.siputils.uri_param_any("lr"), KSR.siputils.uri_param_any("zz")
        """,
    ),
    # --- maxfwd
    "Max-Forwards": case(
        INVITE,
        """
        KSR.maxfwd.is_maxfwd_lt(10), KSR.maxfwd.is_maxfwd_lt(70), KSR.maxfwd.is_maxfwd_lt(71), KSR.maxfwd.is_maxfwd_lt(-1)
        KSR.maxfwd.process_maxfwd(10), KSR.hdr.get("Max-Forwards"), KSR.maxfwd.process_maxfwd(10), KSR.hdr.get("Max-Forwards")
        KSR.maxfwd.is_maxfwd_lt(69), KSR.maxfwd.process_maxfwd(-1), KSR.maxfwd.process_maxfwd(300)
        """,
    ),
    "Max-Forwards of two digits becomes one": case(
        TEN_HOPS, 'KSR.maxfwd.process_maxfwd(10), KSR.hdr.get("Max-Forwards"), KSR.maxfwd.is_maxfwd_lt(10)'
    ),
    "Max-Forwards is 0": case(
        BYE, "KSR.maxfwd.is_maxfwd_lt(1), KSR.maxfwd.is_maxfwd_lt(0), KSR.maxfwd.process_maxfwd(10)"
    ),
    "no Max-Forwards": case(
        REGISTER,
        """
        KSR.maxfwd.is_maxfwd_lt(1), KSR.maxfwd.process_maxfwd(10), KSR.hdr.get("Max-Forwards"), KSR.maxfwd.process_maxfwd(10)
        """,
    ),
    # --- rr
    "rr without Route": case(
        INVITE,
        """
        KSR.rr.is_direction("downstream"), KSR.rr.is_direction("upstream"), KSR.rr.loose_route()
        KSR.rr.check_route_param("nat=yes"), KSR.rr.add_rr_param(";nat=yes"), KSR.rr.record_route(), KSR.rr.record_route()
        KSR.hdr.get("Record-Route"), KSR.rr.is_direction("x")
        """,
    ),
    "rr with Route": case(
        ROUTED,
        """
        KSR.rr.check_route_param("nat=yes"), KSR.rr.loose_route(), KSR.rr.check_route_param("nat=yes")
        KSR.rr.check_route_param("nat=no"), KSR.rr.check_route_param("^lr"), KSR.rr.is_direction("downstream")
        KSR.rr.is_direction("upstream"), KSR.pv.get("$du"), KSR.pv.get("$ru"), KSR.pv.get("$hdr(Route)"), KSR.rr.loose_route()
        """,
    ),
    "rr with a second Route, from the callee": case(
        ROUTED_TWICE,
        """
        KSR.rr.loose_route(), KSR.pv.get("$du"), KSR.pv.get("$ru"), KSR.rr.is_direction("downstream")
        KSR.rr.is_direction("UPSTREAM"), KSR.rr.check_route_param("ftag=tt1")
        """,
    ),
    "rr of a BYE to the server": case(BYE, 'KSR.rr.loose_route(), KSR.pv.get("$ru")'),
    # --- sl
    "two stateless replies": case(INVITE, 'KSR.sl.sl_send_reply(202, "Fine"), KSR.sl.sl_send_reply(203, "Again")'),
    "an odd code": case(INVITE, 'KSR.sl.sl_send_reply(700, "x")'),
    "an empty reason": case(INVITE, 'KSR.sl.sl_send_reply(200, "")'),
    "send_reply, provisional and final": case(
        INVITE, 'KSR.sl.send_reply(100, "Trying"), KSR.sl.send_reply(486, "Busy")'
    ),
    # --- tm
    "tm without a transaction": case(
        INVITE,
        """
        KSR.tm.t_check_trans(), KSR.tm.t_lookup_request(), KSR.tm.t_get_status_code(), KSR.tm.t_any_replied()
        KSR.tm.t_is_canceled(), KSR.tm.t_is_expired(), KSR.tm.t_reply(480, "x"), KSR.tm.t_set_fr(1000, 2000), KSR.tm.t_reset_fr()
        KSR.tmx.t_precheck_trans(), KSR.tmx.t_is_request_route(), KSR.tmx.t_is_failure_route(), KSR.tmx.t_is_branch_route()
        KSR.tmx.t_is_reply_route(), KSR.pv.get("$T_reply_code")
        """,
    ),
    "routes of tm": case(
        INVITE,
        """
        KSR.tm.t_is_set("branch_route"), KSR.tm.t_is_set("failure_route"), KSR.tm.t_is_set("onreply_route"), KSR.tm.t_is_set("x")
        KSR.tm.t_on_branch("b"), KSR.tm.t_on_failure("f"), KSR.tm.t_on_reply("r")
        KSR.tm.t_is_set("branch_route"), KSR.tm.t_is_set("failure_route"), KSR.tm.t_is_set("onreply_route")
        KSR.tm.t_newtran(), KSR.tm.t_is_set("branch_route"), KSR.tm.t_is_set("failure_route"), KSR.tm.t_is_set("onreply_route")
        KSR.tm.t_reply(480, "x")
        """,
    ),
    "replies of a transaction": case(
        INVITE,
        """
        KSR.tm.t_newtran(), KSR.tm.t_newtran(), KSR.tm.t_lookup_request(), KSR.tm.t_check_trans(), KSR.tm.t_get_status_code()
        KSR.tm.t_is_canceled(), KSR.tm.t_any_replied(), KSR.tm.t_reply(180, "Ringing"), KSR.tm.t_get_status_code()
        KSR.tm.t_reply(480, "Busy"), KSR.tm.t_get_status_code(), KSR.tm.t_reply(486, "b"), KSR.tm.t_get_status_code()
        KSR.sl.send_reply(487, "x"), KSR.tmx.t_precheck_trans(), KSR.tmx.t_is_request_route()
        """,
    ),
    "t_reply needs a transaction": case(
        INVITE, 'KSR.tm.t_reply(480, "X"), KSR.tm.t_newtran(), KSR.tm.t_reply(480, "X")'
    ),
    "t_send_reply makes a transaction": case(
        INVITE, 'KSR.tm.t_send_reply(480, "X"), KSR.tm.t_send_reply(481, "X"), KSR.tm.t_get_status_code()'
    ),
    "send_reply in a transaction": case(
        INVITE,
        """
        KSR.tm.t_newtran(), KSR.sl.send_reply(487, "x"), KSR.sl.send_reply(488, "y"), KSR.sl.sl_send_reply(489, "z")
        """,
    ),
    "a transaction of a BYE": case(BYE, 'KSR.tm.t_check_trans(), KSR.tm.t_newtran(), KSR.tm.t_reply(481, "No")'),
    "t_relay": case(
        ROUTED,
        """
        KSR.rr.loose_route(), KSR.tm.t_relay(), KSR.tm.t_relay(), KSR.tm.t_check_trans(), KSR.tm.t_lookup_request()
        """,
    ),
    # --- calls that fail
    "no such function": case(
        INVITE, 'KSR.inf("x")\nKSR.sl.send("x")\nKSR.nope.x()\nKSR.x.exit()\nKSR.x.drop()\nKSR.pv.set("a", "b")'
    ),
    "wrong number of arguments": case(
        INVITE,
        'KSR.info()\nKSR.info("a\\n", "b")\nKSR.sl.sl_send_reply(200)\nKSR.hdr.match_content("a", "b", "c")\nKSR.pv.get()',
    ),
    "wrong types of arguments": case(
        INVITE,
        """
        KSR.info(1)
        KSR.info(None)
        KSR.info(b"x")
        KSR.sl.sl_send_reply("200", "OK")
        KSR.sl.sl_send_reply(200, None)
        KSR.setflag(1.0)
        KSR.setflag(None)
        KSR.pv.seti("$var(a)", "5")
        KSR.pv.sets("$var(a)", 5)
        """,
    ),
    "arguments out of range": case(
        INVITE,
        'KSR.setflag(2**40)\nKSR.setflag(-2**40)\nKSR.info("a\\n\\0b")\nKSR.info("\\udc80")\nKSR.info("\u00e9\\n")',
    ),
    "no keywords": case(INVITE, 'KSR.info(text="x")\nKSR.sl.sl_send_reply(code=200, reason="x")'),
}
