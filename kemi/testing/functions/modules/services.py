# SPDX-License-Identifier: GPL-2.0-or-later
"""Functions that need something beside the server, as where it is there and answers: media proxies, accounting, traces.

And checks that a message which the test made passes, sets of destinations that nobody has filled, and calls.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kemi.testing.errors import NotCovered
from kemi.testing.functions.plain import minus_one, noted, one
from kemi.testing.state import Reply, Server, Value

_CSEQ_DIFFERS = "CSeq method does not match request method"
_MANDATORY = ("Via", "From", "To", "Call-ID", "CSeq")


def _sanity(fake: Server, *_checks: int) -> int:
    """Has it what SIP demands? A request that has not is answered."""
    message = fake.state.message
    method = (message.first("CSeq") or "").split()[-1:]
    if all(message.first(name) for name in _MANDATORY) and (not message.is_request or method == [message.method]):
        return 1
    if message.is_request and message.method != "ACK":
        fake.state.replies.append(Reply(400, _CSEQ_DIFFERS, tuple(fake.state.reply_headers), "", "sl"))
    return -1


def _is_ruri_local(fake: Server) -> int:
    parsed = fake.state.parsed_uri()
    return 1 if parsed and fake.state.is_myself(parsed.host) else -1


# --- calls ------------------------------------------------------------------------------------------------------------


def _call_id(fake: Server) -> str:
    return fake.state.message.first("Call-ID") or ""


def _dlg_manage(fake: Server) -> int:
    fake.state.memory.dialogs.add(_call_id(fake))
    return 1


def _is_known(fake: Server) -> int:
    return 1 if _call_id(fake) in fake.state.memory.dialogs else -1


def _dlg_get(fake: Server, call_id: str, _from_tag: str, _to_tag: str) -> int:
    return 1 if call_id in fake.state.memory.dialogs else -1


def _variable(null: Value) -> Callable[[Server, str], Value]:
    def get(fake: Server, name: str) -> Value:
        value = fake.state.to_dialog.get(name)
        return null if value is None else value

    return get


def _set_variable(fake: Server, name: str, value: str) -> int:
    fake.state.to_dialog[name] = value
    return 1


def _remove_variable(fake: Server, name: str) -> int:
    fake.state.to_dialog.pop(name, None)
    return 1


def _flag(action: str) -> Callable[[Server, int], int]:
    """Flags of the call are kept beside its variables, under names that no variable has."""

    def use(fake: Server, flag: int) -> int:
        name = f"flag {flag}"
        if action == "is":
            return 1 if fake.state.to_dialog.get(name) else -1
        fake.state.to_dialog[name] = 1 if action == "set" else None
        return 1

    return use


# --- HTTP -------------------------------------------------------------------------------------------------------------


def _xhttp_reply(fake: Server, code: int, reason: str, kind: str, body: str) -> int:
    headers = (*fake.state.reply_headers, *([f"Content-Type: {kind}\r\n"] if kind else []))
    fake.state.replies.append(Reply(code, reason, headers, body, "xhttp"))
    return 1


# --- chance -----------------------------------------------------------------------------------------------------------


_CERTAIN, _USUAL = 100, 10  # percent


def _set_probability(fake: Server, percent: int) -> int:
    if not 0 <= percent <= _CERTAIN:
        return -1
    fake.state.memory.statistics["rand_prob"] = percent
    return 1


def _probability(fake: Server) -> int:
    return fake.state.memory.statistics.get("rand_prob", _USUAL)


def _reset_probability(fake: Server) -> int:
    fake.state.memory.statistics["rand_prob"] = _USUAL
    return 1


def _event(fake: Server) -> int:
    """Certain at 100 and impossible at 0."""
    percent = _probability(fake)
    if 0 < percent < _CERTAIN:
        raise NotCovered(
            f"KSR.cfgutils.rand_event at {percent} percent is not covered, it is chance: "
            'say what it gives with ksr.stub("cfgutils.rand_event", 1)'
        )
    return 1 if percent else -1


_MEDIA = (
    *("rtpproxy_manage", "rtpproxy_manage0", "rtpproxy_manage_ip", "rtpproxy_offer", "rtpproxy_offer0"),
    *("rtpproxy_answer", "rtpproxy_answer0", "rtpproxy_destroy", "rtpproxy_destroy0", "set_rtpproxy_set"),
)
_ENGINE = (
    *("rtpengine_manage", "rtpengine_manage0", "rtpengine_offer", "rtpengine_offer0", "rtpengine_answer"),
    *("rtpengine_answer0", "rtpengine_delete", "rtpengine_delete0", "set_rtpengine_set", "start_recording"),
    *("stop_recording", "rtpengine_manage2", "rtpengine_offer2", "rtpengine_answer2", "rtpengine_delete2"),
)
_TRACES = (
    *("sip_trace", "sip_trace_dst", "sip_trace_dst_cid", "sip_trace_dst_cid_type", "sip_trace_mode"),
    *("hlog", "hlog_cid"),
)
_DESTINATIONS = (
    *("ds_select_dst", "ds_select_domain", "ds_select", "ds_select_dst_limit", "ds_next_dst", "ds_next_domain"),
    *("ds_is_from_list", "ds_is_from_list_mode", "ds_is_from_list_uri", "ds_is_from_lists", "ds_mark_dst"),
    *("ds_mark_dst_state", "ds_set_dst", "ds_set_domain", "ds_list_exists", "ds_select_routes"),
)
_METERS = (
    *("statsd_incr", "statsd_decr", "statsd_gauge", "statsd_set", "statsd_histogram", "statsd_start", "statsd_stop"),
)

COVERED: dict[str, Callable[..., Any]] = {
    "sanity.sanity_check": _sanity,
    "sanity.sanity_check_defaults": _sanity,
    **{f"rtpproxy.{name}": one for name in _MEDIA},
    **{f"rtpengine.{name}": one for name in _ENGINE},
    **{f"siptrace.{name}": one for name in _TRACES},
    **{f"dispatcher.{name}": minus_one for name in _DESTINATIONS},
    **{f"statsd.{name}": one for name in _METERS},
    **{f"acc.{name}": one for name in ("acc_log_request", "acc_db_request", "acc_request")},
    **{f"presence.{name}": one for name in ("handle_subscribe", "handle_publish")},
    **{f"uac.{name}": noted("uac") for name in ("uac_replace_from", "uac_replace_from_uri")},
    **{f"uac.{name}": noted("uac") for name in ("uac_replace_to", "uac_replace_to_uri")},
    **{f"uac.{name}": minus_one for name in ("uac_auth", "uac_auth_mode", "uac_restore_from", "uac_restore_to")},
    **{f"diversion.{name}": noted("diversion") for name in ("add_diversion", "add_diversion_uri")},
    "msilo.mstore": one,
    "dmq.handle_message": one,
    "websocket.handle_handshake": one,
    "pipelimit.pl_check": one,
    "pipelimit.pl_check_limit": one,
    "ratelimit.rl_check": one,
    "ratelimit.rl_check_pipe": one,
    "alias_db.lookup": minus_one,
    "alias_db.lookup_ex": minus_one,
    "domain.is_domain_local": lambda fake, name: 1 if fake.state.is_myself(name) else -1,
    "domain.is_from_local": minus_one,
    "domain.is_uri_host_local": _is_ruri_local,
    "dialog.dlg_manage": _dlg_manage,
    "dialog.is_known_dlg": _is_known,
    "dialog.dlg_get": _dlg_get,
    "dialog.var_get": _variable(None),
    "dialog.var_gete": _variable(""),
    "dialog.var_getw": _variable("<null>"),
    "dialog.var_sets": _set_variable,
    "dialog.var_rm": _remove_variable,
    "dialog.var_is_null": minus_one,
    "dialog.dlg_setflag": _flag("set"),
    "dialog.dlg_resetflag": _flag("reset"),
    "dialog.dlg_isflagset": _flag("is"),
    "dialog.dlg_set_timeout": one,
    "dialog.dlg_set_property": one,
    "xhttp.xhttp_reply": _xhttp_reply,
    "xhttp.get_hu": lambda fake: fake.state.message.uri,
    "cfgutils.lock": one,
    "cfgutils.unlock": one,
    "cfgutils.trylock": one,
    "cfgutils.rand_set_prob": _set_probability,
    "cfgutils.rand_get_prob": _probability,
    "cfgutils.rand_reset_prob": _reset_probability,
    **{f"cfgutils.{name}": one for name in ("pkg_status", "pkg_summary", "shm_status", "shm_summary")},
    "sanity.sanity_reply": one,
    "cfgutils.rand_event": _event,
}
