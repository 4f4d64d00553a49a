"""What public KEMI scripts in Python do, condensed to single expressions: each must run on the fake as in the server.

They were collected from Kamailio's own example and documentation and from scripts on public code hosts, and written
anew. `SERVICES` need something beside the server, a media proxy or an accounting table: what the fake gives is what
they give when that answers.
"""

from __future__ import annotations

from tests.testing.agreement import INVITE, REGISTER, REPLY, ROUTED, Case

NATED = """\
INVITE sip:bob@127.0.0.1:{port};transport=udp SIP/2.0
Via: SIP/2.0/UDP 192.168.1.5:5066;branch=z9hG4bK{mark};rport
Max-Forwards: 70
Route: <sip:127.0.0.1:{port};lr>
From: "Alice" <sip:alice@wonder.land>;tag=ft1
To: <sip:bob@example.org>
Call-ID: {mark}@host
CSeq: 7 INVITE
Contact: "A" <sip:alice@192.168.1.5:5066;transport=udp;ob>;expires=60
User-Agent: friendly-scanner
P-Asserted-Identity: "Alice" <sip:+49301234@wonder.land;user=phone>
Diversion: <sip:carol@example.org>;reason=unconditional
Refer-To: "Bob" <sip:+4930567@example.org;home=10.0.0.3>
Supported: timer, path, 100rel
Allow: INVITE, ACK, CANCEL
X-Json: {{"a": 1}}
X-Case: {mark}
Content-Type: application/sdp
Content-Length: 133

v=0
o=- 1 1 IN IP4 192.168.1.5
s=-
c=IN IP4 192.168.1.5
t=0 0
m=audio 4000 RTP/AVP 0 8 101
a=rtpmap:101 telephone-event/8000
a=sendrecv
"""


PLAIN = INVITE.replace('From: "Alice W." <sip:alice@wonder.land:5090;u=1>', "From: sip:alice@wonder.land:5090").replace(
    "t: Bob <sip:bob@example.org>", "To: sip:bob@example.org"
)


def _case(message: str, text: str) -> Case:
    return Case(message, tuple(line.strip() for line in text.strip().splitlines() if line.strip()))


IDIOMS: dict[str, Case] = {
    "requests": _case(
        INVITE,
        r"""
        KSR.info("===== request - from kamailio python script\n")
        KSR.info("===== method [%s] r-uri [%s]\n" % (KSR.pv.get("$rm"), KSR.pv.get("$ru")))
        KSR.dbg("from " + KSR.pv.get("$fu") + " (IP:" + KSR.pv.get("$si") + ":" + str(KSR.pv.get("$sp")) + ")\n")
        KSR.xlog.xinfo("INVITE from $fU:$si to $rU\n")
        KSR.xlog.xlog("L_INFO", "Call-ID $ci\n")
        KSR.pv.get("$rm") == "INVITE"
        KSR.is_method("INVITE") and KSR.is_method_in("IS")
        KSR.is_INVITE() or KSR.is_SUBSCRIBE()
        KSR.is_OPTIONS() and KSR.is_myself_ruri() and KSR.corex.has_ruri_user() < 0
        KSR.is_myself(KSR.pv.get("$si"))
        KSR.is_myself_furi(), KSR.is_myself_srcip()
        KSR.maxfwd.process_maxfwd(10)
        KSR.sanity.sanity_check(17895, 7)
        KSR.sanity.sanity_check(1511, 7)
        KSR.sanity.sanity_check_defaults()
        KSR.corex.has_user_agent() > 0
        KSR.pv.gete("$ua").find("friendly")
        KSR.corex.has_ruri_user()
        KSR.siputils.has_totag()
        KSR.tmx.t_precheck_trans() > 0
        KSR.tm.t_check_trans() == 0
        KSR.hdr.remove("Route")
        KSR.rr.record_route()
        KSR.setflag(1), KSR.isflagset(1)
        KSR.setbflag(6), KSR.setbflag(7), KSR.isbflagset(6)
        KSR.force_rport()
        KSR.siputils.is_first_hop()
        KSR.pv.is_null("$rU")
        KSR.pv.getw("$fU"), KSR.pv.getw("$tt")
        KSR.pv.get("$Rp") == 8080 and not KSR.is_WS()
        KSR.pv.getvs("$avp(none)", "default")
        KSR.pv.getvn("$avp(none)", 3)
        KSR.kx.get_method(), KSR.kx.get_ruri(), KSR.kx.get_furi(), KSR.kx.get_turi()
        KSR.kx.get_ruser(), KSR.kx.get_rhost(), KSR.kx.get_fuser(), KSR.kx.get_fhost(), KSR.kx.get_tuser(), KSR.kx.get_thost()
        KSR.kx.get_srcip(), KSR.kx.get_ua(), KSR.kx.gete_ua(), KSR.kx.getw_ua()
        KSR.kx.get_callid(), KSR.kx.get_body(), KSR.kx.get_bodylen(), KSR.kx.get_status()
        KSR.kx.get_duri(), KSR.kx.gete_duri(), KSR.kx.getw_duri()
        KSR.kx.get_ouri(), KSR.kx.get_nhuri(), KSR.kx.get_proto(), KSR.kx.get_msgtype(), KSR.kx.get_cturi()
        KSR.kx.get_rcvip(), KSR.kx.gets_status(), KSR.kx.get_au(), KSR.kx.get_def("X"), KSR.kx.ifdef("X")
        isinstance(KSR.kx.get_srcport(), int), isinstance(KSR.kx.get_rcvport(), int), isinstance(KSR.kx.get_timestamp(), int)
        KSR.pv.get("$T_branch_idx")
        str(KSR.pv.get("$T_branch_idx"))
        KSR.set_reply_no_connect(), KSR.set_forward_no_connect(), KSR.set_forward_close()
        KSR.to_UDP(), KSR.to_TCP(), KSR.to_IPv4()
        KSR.get_debug() >= -1
        """,
    ),
    "relaying": _case(
        INVITE,
        r"""
        KSR.tm.t_is_set("branch_route") < 0 and KSR.tm.t_on_branch("b")
        KSR.tm.t_is_set("onreply_route") < 0 and KSR.tm.t_on_reply("b")
        KSR.tm.t_is_set("failure_route") < 0 and KSR.tm.t_on_failure("b")
        KSR.tm.t_on_branch_failure("b"), KSR.tm.t_is_set("branch_failure_route")
        KSR.tm.t_set_fr(30000, 5000), KSR.tm.t_set_fr_inv(30000), KSR.tm.t_set_max_lifetime(0, 0)
        KSR.tm.t_set_auto_inv_100(0), KSR.tm.t_set_disable_6xx(1), KSR.tm.t_set_disable_failover(1)
        KSR.tm.t_set_disable_internal_reply(1), KSR.tm.t_set_no_e2e_cancel_reason(1), KSR.tm.t_set_retr(500, 4000)
        KSR.hdr.append("P-Hint: outbound\r\n")
        KSR.seturi("sip:bob@127.0.0.1:9"), KSR.pv.get("$ru")
        KSR.setuser("carol"), KSR.pv.get("$rU")
        KSR.sethost("127.0.0.1:9"), KSR.pv.get("$rd")
        KSR.pv.sets("$ru", "sip:bob@127.0.0.1:9"), KSR.pv.sets("$rU", "dave"), KSR.pv.get("$ru")
        KSR.pv.sets("$rd", "127.0.0.1"), KSR.pv.get("$ru")
        KSR.setdsturi("sip:127.0.0.1:9;transport=udp"), KSR.isdsturiset(), KSR.pv.get("$du"), KSR.pv.get("$dd"), KSR.pv.get("$dp"), KSR.pv.get("$dP")
        KSR.pv.sets("$du", "sip:127.0.0.1:9"), KSR.pv.get("$nh(u)"), KSR.pv.get("$nh(d)"), KSR.pv.get("$nh(p)"), KSR.pv.get("$nh(U)")
        KSR.resetdsturi(), KSR.pv.get("$du")
        KSR.corex.append_branch(), KSR.corex.append_branch_uri("sip:carol@127.0.0.1:9")
        KSR.tm.t_newtran() > 0
        KSR.pv.get("$T_reply_code")
        KSR.tm.t_get_status_code()
        KSR.tm.t_is_canceled() > 0
        KSR.tm.t_check_status("408|486")
        KSR.tm.t_any_replied(), KSR.tm.t_branch_replied(), KSR.tm.t_branch_timeout(), KSR.tm.t_any_timeout()
        KSR.tm.t_grep_status(486)
        KSR.tmx.t_is_request_route(), KSR.tmx.t_is_failure_route()
        isinstance(KSR.pv.get("$T(id_index)"), int), isinstance(KSR.pv.get("$T(id_label)"), int)
        KSR.tm.t_reply(180, "Ringing")
        KSR.sl.send_reply(404, "Not Found")
        """,
    ),
    "stateless": _case(
        INVITE,
        r"""
        KSR.sl.sl_send_reply(100, "Trying")
        KSR.hdr.append_to_reply("Retry-After: 10\r\n"), KSR.sl.sl_send_reply(503, "Service Unavailable")
        KSR.sl.sl_send_reply(int("404"), "Not here")
        KSR.sl.send_reply_mode(480, "Gone", 0)
        """,
    ),
    "forwarding": _case(INVITE, 'KSR.seturi("sip:bob@127.0.0.1:9"), KSR.forward()\nKSR.forward_uri("sip:127.0.0.1:9")'),
    "within a dialog": _case(
        ROUTED,
        r"""
        KSR.siputils.has_totag() > 0
        KSR.rr.loose_route() > 0
        KSR.is_BYE() and KSR.setflag(3)
        KSR.rr.check_route_param("nat=yes") > 0
        KSR.rr.is_direction("downstream") > 0
        KSR.isdsturiset()
        KSR.nathelper.handle_ruri_alias()
        KSR.siputils.is_request() > 0, KSR.siputils.is_reply() > 0
        KSR.rr.add_rr_param(";nat=yes")
        KSR.tm.t_relay() < 0
        """,
    ),
    "replies": _case(
        REPLY,
        r"""
        KSR.dbg("incoming reply\n")
        100 < KSR.pv.get("$rs") < 299
        KSR.pv.get("$rs"), KSR.pv.get("$rr")
        KSR.siputils.is_reply() > 0
        KSR.xlog.xinfo("Get reply $rs:$rr\n")
        KSR.sanity.sanity_check(17604, 6)
        KSR.tmx.t_is_reply_route()
        KSR.kx.get_status(), KSR.kx.gets_status()
        KSR.tm.t_check_status("4[0-9][0-9]")
        KSR.set_drop()
        """,
    ),
    "registrations": _case(
        REGISTER,
        r"""
        KSR.is_REGISTER()
        KSR.registrar.registered("location")
        KSR.pv.get("$hdr(Expires)")
        KSR.registrar.save("location", 0)
        KSR.registrar.registered("location")
        KSR.registrar.registered_uri("location", "sip:+4930@example.org")
        KSR.registrar.registered_uri("location", "sip:nobody@example.org")
        KSR.registrar.lookup("location"), KSR.pv.get("$ru")
        KSR.registrar.lookup_uri("location", "sip:+4930@example.org"), KSR.pv.get("$ru")
        KSR.registrar.unregister("location", KSR.pv.get("$tu"))
        KSR.registrar.registered_uri("location", "sip:+4930@example.org")
        KSR.registrar.lookup_uri("location", "sip:nobody@example.org")
        """,
    ),
    "nobody is registered": _case(
        INVITE,
        r"""
        KSR.registrar.lookup("location") in (-1, -3)
        KSR.registrar.registered("location") > 0
        KSR.tm.t_newtran(), KSR.sl.send_reply(404, "Not Found")
        """,
    ),
    "behind NAT": _case(
        NATED,
        r"""
        KSR.nathelper.nat_uac_test(19) > 0
        KSR.nathelper.nat_uac_test(1), KSR.nathelper.nat_uac_test(2), KSR.nathelper.nat_uac_test(8), KSR.nathelper.nat_uac_test(16)
        KSR.nathelper.nat_uac_test(64), KSR.nathelper.nat_uac_test(4)
        KSR.nathelper.is_rfc1918("192.168.1.5"), KSR.nathelper.is_rfc1918("8.8.8.8")
        KSR.nathelper.add_rcv_param(0)
        KSR.nathelper.fix_nated_register(), KSR.pv.get("$avp(RECEIVED)") is None
        KSR.nathelper.set_contact_alias()
        KSR.nathelper.handle_ruri_alias()
        KSR.rr.loose_route()
        """,
    ),
    "contacts are mended": _case(NATED, "KSR.nathelper.fix_nated_contact()"),
    "an alias is added": _case(NATED, "KSR.nathelper.add_contact_alias()"),
    "headers": _case(
        NATED,
        r"""
        KSR.hdr.is_present("P-Asserted-Identity") > 0
        KSR.hdr.get("P-Asserted-Identity"), KSR.hdr.gete("None"), KSR.hdr.getw("None")
        KSR.pv.get("$hdr(Refer-To)"), KSR.pv.gete("$hdr(None)"), KSR.pv.getw("$(hdr(Supported)[0])")
        KSR.pv.gete("$(hdr(Refer-To){nameaddr.uri})")
        KSR.pv.gete("$(hdr(Refer-To){nameaddr.uri}{uri.user})")
        KSR.pv.gete("$(hdr(Refer-To){nameaddr.name})"), KSR.pv.get("$(hdr(Refer-To){nameaddr.len})")
        KSR.pv.get("$(hdr(P-Asserted-Identity){nameaddr.uri}{uri.user}{s.substr,1,0})")
        KSR.pv.get("$(hdr(Diversion){nameaddr.uri})"), KSR.pv.get("$(hdr(Diversion){tobody.params})")
        KSR.pv.get("$(hdr(Refer-To){nameaddr.uri}{uri.param,home})")
        KSR.pv.get("$(ct{nameaddr.uri})"), KSR.pv.get("$(ct{tobody.uri})"), KSR.pv.get("$(ct{nameaddr.uri}{uri.host})")
        KSR.pv.get("$(ru{uri.host})"), KSR.pv.get("$(ru{uri.user})"), KSR.pv.get("$(ru{uri.transport})"), KSR.pv.get("$(ru{uri.scheme})")
        KSR.pv.get("$(fu{uri.user}{s.len})"), KSR.pv.get("$(fu{s.len})")
        KSR.textops.is_present_hf("Diversion"), KSR.textops.is_present_hf_re("^P-")
        KSR.textops.search("friendly"), KSR.textops.search_body("a=rtpmap"), KSR.textops.search_hf("User-Agent", "scanner", "a")
        KSR.textops.has_body(), KSR.textops.has_body_type("application/sdp")
        KSR.textops.remove_hf("P-Asserted-Identity"), KSR.textops.remove_hf_re("^X-J")
        KSR.hdr.rmappend("User-Agent", "User-Agent: new\r\n")
        KSR.hdr.append_after("X-New: 1\r\n", "CSeq"), KSR.hdr.insert("X-First: 1\r\n")
        KSR.textopsx.msg_apply_changes()
        KSR.hdr.get("X-New"), KSR.hdr.get("User-Agent"), KSR.hdr.get("P-Asserted-Identity"), KSR.hdr.get("X-Json")
        KSR.textopsx.hf_value_exists("Supported", "path"), KSR.textopsx.hf_value_exists("Supported", "nope")
        KSR.textopsx.remove_hf_value("Supported"), KSR.textopsx.append_hf_value("Allow", "BYE"), KSR.textopsx.insert_hf_value("X-Zero", "0")
        KSR.textopsx.include_hf_value("Allow", "OPTIONS"), KSR.textopsx.exclude_hf_value("Allow", "CANCEL")
        KSR.textopsx.keep_hf_re("^(X-|User-Agent)")
        KSR.hdr.match_content("Allow", "in", "invite", "a")
        KSR.pv.get("$hdrc(Via)"), KSR.pv.get("$hfl(Supported)"), KSR.pv.get("$(hfl(Supported)[1])"), KSR.pv.get("$hflc(Supported)")
        """,
    ),
    "walking through headers": _case(
        INVITE,
        r"""
        KSR.textopsx.hf_iterator_start("i"), KSR.textopsx.hf_iterator_next("i"), KSR.textopsx.hf_iterator_hname("i"), KSR.textopsx.hf_iterator_hbody("i")
        KSR.textopsx.hf_iterator_next("i"), KSR.textopsx.hf_iterator_hname("i"), KSR.textopsx.hf_iterator_end("i")
        KSR.textopsx.bl_iterator_start("b"), KSR.textopsx.bl_iterator_next("b"), KSR.textopsx.bl_iterator_value("b"), KSR.textopsx.bl_iterator_next("b")
        KSR.textopsx.bl_iterator_end("b")
        """,
    ),
    "bodies": _case(
        NATED,
        r"""
        "c=IN IP4" in KSR.pv.get("$rb")
        KSR.sdpops.sdp_content(), KSR.sdpops.sdp_with_media("audio"), KSR.sdpops.sdp_with_media("video")
        KSR.sdpops.sdp_with_codecs_by_name("PCMU"), KSR.sdpops.sdp_with_codecs_by_id("8"), KSR.sdpops.sdp_with_ice()
        KSR.sdpops.sdp_with_transport("RTP/AVP"), KSR.sdpops.sdp_with_transport_like("SAVP")
        KSR.textops.is_audio_on_hold()
        KSR.textops.replace_body("192.168.1.5", "10.0.0.1"), KSR.textops.subst_body("/sendrecv/sendonly/")
        KSR.textops.subst("/friendly/other/"), KSR.textops.subst_hf("User-Agent", "/scanner/phone/", "a"), KSR.textops.replace("friendly", "f")
        KSR.textops.subst_user("/^b/c/"), KSR.pv.get("$rU"), KSR.textops.subst_uri("/cob/rob/"), KSR.pv.get("$rU")
        KSR.textops.set_body("hello", "text/plain")
        """,
    ),
    "texts": _case(
        INVITE,
        r"""
        KSR.pv.sets("$var(s)", "Hello World"), KSR.pv.get("$(var(s){s.len})"), KSR.pv.get("$(var(s){s.tolower})"), KSR.pv.get("$(var(s){s.toupper})")
        KSR.pv.get("$(var(s){s.substr,0,5})"), KSR.pv.get("$(var(s){s.substr,6,0})"), KSR.pv.get("$(var(s){s.substr,-3,2})")
        KSR.pv.get("$(var(s){s.select,0, })"), KSR.pv.get("$(var(s){s.select,1, })"), KSR.pv.get("$(var(s){s.select,-1, })")
        KSR.pv.get("$(var(s){s.md5})"), KSR.pv.get("$(var(s){s.encode.hexa})"), KSR.pv.get("$(var(s){s.encode.base64})")
        KSR.pv.get("$(var(s){s.escape.common})"), KSR.pv.get("$(var(s){s.escape.user})"), KSR.pv.get("$(var(s){s.escape.param})")
        KSR.pv.get("$(var(s){s.rm, })"), KSR.pv.get("$(var(s){s.replace,o,0})"), KSR.pv.get("$(var(s){s.striptail,6})"), KSR.pv.get("$(var(s){s.strip,6})")
        KSR.pv.get("$(var(s){s.prefixes})"), KSR.pv.get("$(var(s){s.corehash})") is None, KSR.pv.get("$(var(s){s.sha256})")
        KSR.pv.sets("$var(p)", "a=1;b=two;c"), KSR.pv.get("$(var(p){param.value,b})"), KSR.pv.get("$(var(p){param.name,0})"), KSR.pv.get("$(var(p){param.count})")
        KSR.pv.get("$(var(p){param.valueat,1})"), KSR.pv.get("$(var(p){param.in,a})"), KSR.pv.get("$(var(p){param.value,zz})")
        KSR.pv.sets("$var(n)", "12"), KSR.pv.get("$(var(n){s.int})"), KSR.pv.sets("$var(t)", "  x  "), KSR.pv.get("$(var(t){s.trim})"), KSR.pv.get("$(var(t){s.ltrim})"), KSR.pv.get("$(var(t){s.rtrim})")
        KSR.pv.sets("$var(u)", "sip:a:p@b.c:5070;x=1;y?h=2"), KSR.pv.get("$(var(u){uri.user})"), KSR.pv.get("$(var(u){uri.host})"), KSR.pv.get("$(var(u){uri.port})"), KSR.pv.get("$(var(u){uri.passwd})")
        KSR.pv.get("$(var(u){uri.params})"), KSR.pv.get("$(var(u){uri.param,x})"), KSR.pv.get("$(var(u){uri.headers})")
        KSR.pv.get("$(var(u){re.subst,/^sip:(.*)@(.*)$/\\2/})"), KSR.pv.get("$(ru{s.ftime,%Y})") is None
        KSR.textops.cmp_str("a", "a"), KSR.textops.starts_with("sip:a", "sip:"), KSR.textops.in_list("b", "a,b", ",")
        KSR.textopsx.fnmatch("abc", "a*"), KSR.textopsx.fnmatch("abc", "b*"), KSR.textopsx.fnmatch_ex("ABC", "a*", "i")
        KSR.siputils.is_numeric("123"), KSR.siputils.is_tel_number("+49301"), KSR.siputils.is_alphanumex("a.b", ".")
        KSR.siputils.is_uri("sip:a@b"), KSR.siputils.cmp_uri("sip:a@b", "sip:a@b"), KSR.siputils.cmp_aor("sip:a@b;x", "sip:a@b")
        KSR.siputils.uri_param_any("transport"), KSR.siputils.uri_param_value("transport", "udp"), KSR.siputils.is_user("bob")
        KSR.seturi("sip:a@b"), KSR.siputils.add_uri_param("n=1"), KSR.pv.get("$ru"), KSR.siputils.uri_param_rm("n"), KSR.pv.get("$ru")
        """,
    ),
    "variables": _case(
        INVITE,
        r"""
        KSR.pv.sets("$avp(carrier)", "x"), KSR.pv.get("$avp(carrier)"), KSR.pv.seti("$avp(count)", 1), KSR.pv.get("$avp(count)")
        KSR.pv.seti("$var(i)", KSR.pv.get("$var(i)") + 1), KSR.pv.get("$var(i)")
        KSR.pv.sets("$xavp(caller=>name)", "alice"), KSR.pv.get("$xavp(caller=>name)"), KSR.pv.is_null("$xavp(caller=>nope)")
        KSR.pv.seti("$xavp(caller=>n)", 5), KSR.pv.get("$xavp(caller[0]=>n)"), KSR.pv.get("$(xavp(caller=>name){s.len})")
        KSR.pv.sets("$xavp(caller[0]=>name)", "bob"), KSR.pv.get("$xavp(caller=>name)"), KSR.pv.get("$xavp(caller[1]=>name)")
        KSR.pv.sets("$xavu(a=>b)", "c"), KSR.pv.get("$xavu(a=>b)"), KSR.pv.sets("$xavu(one)", "1"), KSR.pv.get("$xavu(one)")
        KSR.pv.sets("$xavi(Cfg=>Key)", "v"), KSR.pv.get("$xavi(cfg=>key)")
        KSR.pv.unset("$xavp(caller)"), KSR.pv.get("$xavp(caller=>name)")
        KSR.pvx.xavp_sets("p", "v"), KSR.pvx.xavp_get("p"), KSR.pvx.xavp_gete("q"), KSR.pvx.xavp_getw("q"), KSR.pvx.xavp_is_null("q"), KSR.pvx.xavp_is_null("p")
        KSR.pvx.xavp_child_sets("r", "c", "v"), KSR.pvx.xavp_child_get("r", "c"), KSR.pvx.xavp_child_seti("r", "n", 7), KSR.pvx.xavp_child_get("r", "n"), KSR.pvx.xavp_child_gete("r", "x")
        KSR.pvx.xavp_child_is_null("r", "c"), KSR.pvx.xavp_child_rm("r", "c"), KSR.pvx.xavp_child_get("r", "c"), KSR.pvx.xavp_rm("r"), KSR.pvx.xavp_rm("r")
        KSR.pvx.var_sets("v", "x"), KSR.pvx.var_get("v"), KSR.pvx.var_seti("w", 3), KSR.pvx.var_get("w"), KSR.pvx.shv_sets("s", "y"), KSR.pvx.shv_get("s"), KSR.pvx.shv_seti("t", 4), KSR.pvx.shv_get("t")
        KSR.pvx.avp_sets("a", "1"), KSR.pvx.avp_get("a"), KSR.pvx.avp_seti("b", 2), KSR.pvx.avp_get("b"), KSR.pvx.avp_is_null("zz"), KSR.pvx.avp_gete("zz"), KSR.pvx.avp_getw("zz"), KSR.pvx.avp_rm("a"), KSR.pvx.avp_get("a")
        KSR.pvx.xavu_sets("x", "1"), KSR.pvx.xavu_get("x"), KSR.pvx.xavu_child_sets("y", "z", "2"), KSR.pvx.xavu_child_get("y", "z"), KSR.pvx.xavu_is_null("x"), KSR.pvx.xavu_rm("x"), KSR.pvx.xavu_get("x")
        KSR.pvx.xavi_sets("X", "1"), KSR.pvx.xavi_get("x"), KSR.pvx.xavi_child_sets("Y", "Z", "2"), KSR.pvx.xavi_child_get("y", "z")
        KSR.pvx.xavp_params_explode("a=1;b=2", "pe"), KSR.pv.get("$xavp(pe=>a)"), KSR.pv.get("$xavp(pe=>b)")
        KSR.pvx.xavp_params_implode("pe", "$var(im)"), sorted(KSR.pv.get("$var(im)").strip(";").split(";"))
        isinstance(KSR.pv.get("$TV(s)"), int), isinstance(KSR.pv.get("$Ts"), int), isinstance(KSR.pv.get("$Tf"), str)
        isinstance(KSR.pv.get("$time(hour)"), int), len(KSR.pv.get("$timef(%Y)")), isinstance(KSR.pv.get("$RANDOM"), int)
        KSR.pv.get("$K(UDP)"), KSR.pv.get("$true"), KSR.pv.get("$null"), KSR.pv.get("$rmid"), KSR.pv.get("$mts"), KSR.pv.get("$csb")
        KSR.pv.get("$rP"), KSR.pv.get("$oP"), KSR.pv.get("$fUl"), KSR.pv.get("$rUl"), KSR.pv.get("$tUl"), KSR.pv.get("$mF"), KSR.pv.get("$bf")
        KSR.pv.get("$Au"), KSR.pv.get("$AU"), KSR.pv.get("$aU"), KSR.pv.get("$au"), KSR.pv.get("$ad"), KSR.pv.get("$ar")
        KSR.pv.get("$via0(host)"), KSR.pv.get("$via0(port)"), KSR.pv.get("$via1(host)"), KSR.pv.get("$via0(branch)") is None
        KSR.pv.get("$pu"), KSR.pv.get("$pU"), KSR.pv.get("$pd"), KSR.pv.get("$di"), KSR.pv.get("$re"), KSR.pv.get("$rt"), KSR.pv.get("$fs")
        KSR.pv.get("$su") == "sip:%s:%s" % (KSR.pv.get("$si"), KSR.pv.get("$sp")), KSR.pv.get("$Ru") == "sip:%s:%s" % (KSR.pv.get("$Ri"), KSR.pv.get("$Rp"))
        """,
    ),
    "hash tables": _case(
        INVITE,
        r"""
        KSR.htable.sht_get("a", "none")
        KSR.htable.sht_sets("a", "k", "v"), KSR.htable.sht_get("a", "k"), KSR.pv.get("$sht(a=>k)")
        KSR.htable.sht_seti("a", "n", 1), KSR.htable.sht_inc("a", "n"), KSR.htable.sht_get("a", "n"), KSR.htable.sht_dec("a", "n")
        KSR.htable.sht_inc("a", "fresh"), KSR.htable.sht_gete("a", "none"), KSR.htable.sht_getw("a", "none"), KSR.htable.sht_is_null("a", "none"), KSR.htable.sht_is_null("a", "k")
        KSR.htable.sht_setxs("a", "x", "v", 60), KSR.htable.sht_setxi("a", "y", 5, 60), KSR.htable.sht_setex("a", "x", 120), KSR.htable.sht_get("a", "y")
        KSR.pv.is_null("$sht(ipban=>$si)"), KSR.pv.seti("$sht(ipban=>$si)", 1), KSR.pv.get("$sht(ipban=>$si)"), KSR.pv.get("$sht(ipban=>127.0.0.1)")
        KSR.htable.sht_match_name("ipban", "eq", KSR.kx.get_srcip()), KSR.htable.sht_match_name("ipban", "eq", "10.9.9.9"), KSR.htable.sht_match_str_value("a", "eq", "v")
        KSR.pv.sets("$sht(a=>$ci)", "call"), KSR.pv.get("$sht(a=>$ci)"), KSR.pv.unset("$sht(a=>$ci)"), KSR.pv.get("$sht(a=>$ci)")
        KSR.htable.sht_lock("a", "k"), KSR.htable.sht_unlock("a", "k")
        KSR.htable.sht_rm_name("a", "sw", "x"), KSR.htable.sht_get("a", "x"), KSR.htable.sht_rm("a", "k"), KSR.htable.sht_rm("a", "k"), KSR.htable.sht_get("a", "k")
        KSR.htable.sht_reset("a"), KSR.htable.sht_get("a", "n"), KSR.htable.sht_sets("a", "only", "one")
        KSR.htable.sht_iterator_start("i", "a"), KSR.htable.sht_iterator_next("i"), KSR.pv.get("$shtitkey(i)"), KSR.pv.get("$shtitval(i)"), KSR.htable.sht_iterator_next("i"), KSR.htable.sht_iterator_end("i")
        KSR.htable.sht_rm_name_re("a", "^on"), KSR.pv.get("$sht(a=>only)"), KSR.htable.sht_get("no_such_table", "k")
        """,
    ),
    "addresses": _case(
        INVITE,
        r"""
        KSR.ipops.is_ip("10.0.0.1"), KSR.ipops.is_ip("x"), KSR.ipops.is_ip4("10.0.0.1"), KSR.ipops.is_ip6("::1"), KSR.ipops.is_ip6("10.0.0.1")
        KSR.ipops.is_pure_ip("10.0.0.1"), KSR.ipops.is_pure_ip("[::1]"), KSR.ipops.is_ip6_reference("[::1]"), KSR.ipops.is_ip_rfc1918("192.168.0.1"), KSR.ipops.is_ip_rfc1918("8.8.8.8"), KSR.ipops.is_ip_rfc1918("172.20.0.1")
        KSR.ipops.ip_type("10.0.0.1"), KSR.ipops.ip_type("::1"), KSR.ipops.ip_type("[::1]"), KSR.ipops.ip_type("x")
        KSR.ipops.is_in_subnet("10.0.0.1", "10.0.0.0/8"), KSR.ipops.is_in_subnet("11.0.0.1", "10.0.0.0/8"), KSR.ipops.compare_ips("10.0.0.1", "10.0.0.1"), KSR.ipops.compare_pure_ips("::1", "0:0::1"), KSR.ipops.compare_ips("10.0.0.1", "10.0.0.2")
        KSR.ipops.ip_is_in_subnet("10.0.0.1", "10.0.0.0/24"), KSR.ipops.detailed_ip_type("10.0.0.1", "$var(dt)"), KSR.pv.get("$var(dt)")
        KSR.permissions.allow_source_address(1) > 0
        KSR.permissions.allow_address_group("10.0.0.1", 0), KSR.permissions.allow_address(1, "10.0.0.1", 5060), KSR.permissions.allow_source_address_group()
        KSR.pike.pike_check_req(), KSR.pike.pike_check_ip("10.0.0.1")
        """,
    ),
    "who is it": _case(
        INVITE,
        r"""
        KSR.auth.has_credentials("example.org")
        KSR.auth.pv_auth_check("example.org", "secret", 0, 0)
        KSR.auth.consume_credentials()
        KSR.auth.auth_challenge("example.org", 0)
        """,
    ),
    "calls": _case(
        INVITE,
        r"""
        KSR.dialog.is_known_dlg() > 0
        KSR.dialog.dlg_manage()
        KSR.pv.sets("$dlg_var(k)", "v"), KSR.pv.get("$dlg_var(k)"), KSR.dialog.var_sets("a", "b"), KSR.dialog.var_get("a"), KSR.dialog.var_gete("zz"), KSR.dialog.var_is_null("zz"), KSR.dialog.var_rm("a"), KSR.dialog.var_get("a")
        KSR.dialog.dlg_setflag(1), KSR.dialog.dlg_isflagset(1), KSR.dialog.dlg_resetflag(1), KSR.dialog.dlg_isflagset(1), KSR.dialog.dlg_set_timeout(30)
        KSR.uac.uac_replace_from("Alice", "sip:a@b"), KSR.uac.uac_replace_to_uri("sip:c@d")
        KSR.path.add_path(), KSR.path.add_path_received()
        KSR.cfgutils.rand_set_prob(100), KSR.cfgutils.rand_event(), KSR.cfgutils.rand_get_prob()
        """,
    ),
    "more of the documentation": _case(
        INVITE,
        r"""
        KSR.kx.get_protoid(), KSR.kx.get_rcv_sock_name(), KSR.kx.get_send_sock(), KSR.kx.get_send_sock_name(), KSR.kx.get_send_sock_port()
        KSR.kx.get_rcvaddr_sock() == KSR.pv.get("$Ras"), KSR.kx.get_srcaddr_sock() == KSR.pv.get("$sas"), KSR.kx.get_srcuri() == KSR.pv.get("$su")
        KSR.kx.get_defn("NOPE"), KSR.kx.ifndef("NOPE")
        KSR.cfgutils.rand_get_prob(), KSR.cfgutils.rand_set_prob(0), KSR.cfgutils.rand_event(), KSR.cfgutils.rand_reset_prob(), KSR.cfgutils.rand_get_prob()
        KSR.cfgutils.pkg_status(), KSR.cfgutils.shm_summary(), KSR.sanity.sanity_reply()
        KSR.tm.t_drop_replies("all"), KSR.tm.t_drop_replies_all(), KSR.tm.t_release(), KSR.tm.t_clean(), KSR.tm.t_use_uac_headers()
        KSR.tm.t_is_retr_async_reply(), KSR.tm.t_save_lumps(), KSR.tm.t_retransmit_reply()
        KSR.tmx.t_drop(), KSR.tmx.t_flush_flags(), KSR.tmx.t_flush_xflags(), KSR.tmx.t_reuse_branch()
        KSR.pvx.pv_xavp_print(), KSR.pvx.pv_xavu_print(), KSR.pvx.pv_xavi_print()
        KSR.siputils.is_gruu(), KSR.rr.remove_record_route(), KSR.textopsx.keep_hf(), KSR.textops.set_body_multipart_mode()
        """,
    ),
    "other names for the parties": _case(
        INVITE,
        r"""
        KSR.pv.sets("$fn", '"Zed"'), KSR.pv.get("$fn"), KSR.textopsx.msg_apply_changes(), KSR.hdr.get("From"), KSR.pv.get("$fn")
        KSR.pv.sets("$fU", "zed"), KSR.pv.get("$fU"), KSR.textopsx.msg_apply_changes(), KSR.hdr.get("From"), KSR.pv.get("$fU")
        KSR.pv.sets("$fd", "example.net"), KSR.pv.get("$fd"), KSR.textopsx.msg_apply_changes(), KSR.hdr.get("From"), KSR.pv.get("$fd")
        KSR.pv.unset("$fU"), KSR.pv.get("$fU"), KSR.textopsx.msg_apply_changes(), KSR.hdr.get("From"), KSR.pv.get("$fU")
        KSR.pv.sets("$fU", "again"), KSR.pv.get("$fU"), KSR.textopsx.msg_apply_changes(), KSR.hdr.get("From"), KSR.pv.get("$fU")
        KSR.pv.unset("$fn"), KSR.pv.get("$fn"), KSR.textopsx.msg_apply_changes(), KSR.hdr.get("From"), KSR.pv.get("$fn")
        KSR.pv.sets("$fn", "Yed"), KSR.pv.get("$fn"), KSR.textopsx.msg_apply_changes(), KSR.hdr.get("From"), KSR.pv.get("$fn")
        KSR.pv.sets("$fu", "sip:new@example.com:5099;x=1"), KSR.pv.get("$fu"), KSR.textopsx.msg_apply_changes(), KSR.hdr.get("From"), KSR.pv.get("$fu")
        KSR.pv.unset("$fu"), KSR.pv.get("$fu"), KSR.textopsx.msg_apply_changes(), KSR.hdr.get("From"), KSR.pv.get("$fu")
        KSR.pv.unset("$fd"), KSR.pv.get("$fd"), KSR.textopsx.msg_apply_changes(), KSR.hdr.get("From"), KSR.pv.get("$fd")
        KSR.pv.sets("$tn", '"Zed"'), KSR.pv.get("$tn"), KSR.textopsx.msg_apply_changes(), KSR.hdr.get("To"), KSR.pv.get("$tn")
        KSR.pv.sets("$tU", "zed"), KSR.pv.get("$tU"), KSR.textopsx.msg_apply_changes(), KSR.hdr.get("To"), KSR.pv.get("$tU")
        KSR.pv.sets("$td", "example.net"), KSR.pv.get("$td"), KSR.textopsx.msg_apply_changes(), KSR.hdr.get("To"), KSR.pv.get("$td")
        KSR.pv.unset("$tU"), KSR.pv.get("$tU"), KSR.textopsx.msg_apply_changes(), KSR.hdr.get("To"), KSR.pv.get("$tU")
        KSR.pv.sets("$tU", "again"), KSR.pv.get("$tU"), KSR.textopsx.msg_apply_changes(), KSR.hdr.get("To"), KSR.pv.get("$tU")
        KSR.pv.unset("$tn"), KSR.pv.get("$tn"), KSR.textopsx.msg_apply_changes(), KSR.hdr.get("To"), KSR.pv.get("$tn")
        KSR.pv.sets("$tn", "Yed"), KSR.pv.get("$tn"), KSR.textopsx.msg_apply_changes(), KSR.hdr.get("To"), KSR.pv.get("$tn")
        KSR.pv.sets("$tu", "sip:new@example.com:5099;x=1"), KSR.pv.get("$tu"), KSR.textopsx.msg_apply_changes(), KSR.hdr.get("To"), KSR.pv.get("$tu")
        KSR.pv.unset("$tu"), KSR.pv.get("$tu"), KSR.textopsx.msg_apply_changes(), KSR.hdr.get("To"), KSR.pv.get("$tu")
        KSR.pv.unset("$td"), KSR.pv.get("$td"), KSR.textopsx.msg_apply_changes(), KSR.hdr.get("To"), KSR.pv.get("$td")
        KSR.pv.sets("$fU", "a"), KSR.pv.sets("$fd", "b.c"), KSR.pv.sets("$fn", "D"), KSR.textopsx.msg_apply_changes(), KSR.hdr.get("From")
        """,
    ),
    "parties without brackets": _case(
        PLAIN,
        r"""
        KSR.pv.sets("$fU", "zed"), KSR.pv.get("$fU"), KSR.textopsx.msg_apply_changes(), KSR.hdr.get("From"), KSR.pv.get("$fU")
        KSR.pv.sets("$tU", "zed"), KSR.pv.get("$tU"), KSR.textopsx.msg_apply_changes(), KSR.hdr.get("To"), KSR.pv.get("$tU")
        KSR.pv.sets("$fd", "example.net"), KSR.pv.get("$fd"), KSR.textopsx.msg_apply_changes(), KSR.hdr.get("From"), KSR.pv.get("$fd")
        KSR.pv.sets("$tu", "sip:new@example.com"), KSR.pv.get("$tu"), KSR.textopsx.msg_apply_changes(), KSR.hdr.get("To"), KSR.pv.get("$tu")
        """,
    ),
    "queues": _case(
        INVITE,
        r"""
        KSR.mqueue.mq_add("q", KSR.pv.get("$ci")[-4:], "v"), KSR.mqueue.mq_fetch("q"), KSR.mqueue.mqk_get("q"), KSR.pv.get("$mqv(q)"), KSR.mqueue.mq_pv_free("q")
        """,
    ),
}

# What the fake gives where the real one has a service that answers.
SERVICES: dict[str, tuple[str, object]] = {
    'KSR.rtpproxy.rtpproxy_manage("co")': ("INVITE", 1),
    'KSR.rtpproxy.rtpproxy_destroy("")': ("BYE", 1),
    'KSR.rtpengine.rtpengine_manage("replace-origin replace-session-connection")': ("INVITE", 1),
    "KSR.rtpengine.rtpengine_manage0()": ("INVITE", 1),
    'KSR.rtpengine.rtpengine_offer("RTP/AVP ICE=remove")': ("INVITE", 1),
    'KSR.rtpengine.rtpengine_answer("RTP/AVP")': ("INVITE", 1),
    'KSR.rtpengine.rtpengine_delete("")': ("BYE", 1),
    "KSR.rtpengine.rtpengine_delete0()": ("BYE", 1),
    'KSR.auth_db.auth_check("example.org", "subscriber", 1)': ("INVITE", -5),
    'KSR.auth_db.is_subscriber("sip:a@b", "subscriber", 3)': ("INVITE", -1),
    'KSR.acc.acc_log_request("started")': ("INVITE", 1),
    'KSR.acc.acc_db_request("started", "acc")': ("INVITE", 1),
    "KSR.siptrace.sip_trace()": ("INVITE", 1),
    'KSR.siptrace.sip_trace_mode("t")': ("INVITE", 1),
    "KSR.dispatcher.ds_select_dst(1, 4)": ("INVITE", -1),
    "KSR.dispatcher.ds_is_from_list(0)": ("INVITE", -1),
    "KSR.dispatcher.ds_next_dst()": ("INVITE", -1),
    'KSR.dispatcher.ds_mark_dst_state("ip")': ("INVITE", -1),
    "KSR.uac.uac_auth()": ("INVITE", -1),
    "KSR.rr.loose_route_preloaded()": ("BYE", -1),
    'KSR.tm.t_relay_to_proto_addr("udp", "127.0.0.1", 9)': ("INVITE", 1),
    'KSR.tm.t_replicate("sip:127.0.0.1:9")': ("INVITE", 1),
    "KSR.tmx.t_suspend()": ("INVITE", 1),
    "KSR.msilo.mstore()": ("MESSAGE", 1),
    'KSR.statsd.statsd_incr("calls")': ("INVITE", 1),
    'KSR.xhttp.xhttp_reply(200, "OK", "text/plain", "fine")': ("GET", 1),
    "KSR.xhttp.get_hu()": ("GET", "/"),
    "KSR.websocket.handle_handshake()": ("GET", 1),
    "KSR.presence.handle_subscribe()": ("SUBSCRIBE", 1),
    "KSR.presence.handle_publish()": ("PUBLISH", 1),
    'KSR.pipelimit.pl_check("calls")': ("INVITE", 1),
    "KSR.ratelimit.rl_check()": ("INVITE", 1),
    'KSR.domain.is_domain_local("127.0.0.1")': ("INVITE", 1),
    "KSR.domain.is_from_local()": ("INVITE", -1),
    'KSR.alias_db.lookup("dbaliases")': ("INVITE", -1),
    'KSR.diversion.add_diversion("user-busy")': ("INVITE", 1),
    "KSR.dmq.handle_message()": ("KDMQ", 1),
}
