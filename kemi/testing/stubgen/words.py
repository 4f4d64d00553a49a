# SPDX-License-Identifier: GPL-2.0-or-later
"""Names and descriptions of what no module's README has: the core's own KEMI functions."""

from __future__ import annotations

_LOG = (("text",), "Write to the log at this level; no variables are expanded, and a line's end must be given")
_IS = ((), "Whether the request has this method")
_PROTO = ((), "Whether the message came over this protocol")
_TO = ((), "Whether the message goes to such a destination")
_FLAG = "a flag of the message, 0 to 31"

# KSR.module.name → names of its arguments, description.
WORDS: dict[str, tuple[tuple[str, ...], str]] = {
    **dict.fromkeys(("dbg", "info", "notice", "warn", "err", "crit"), _LOG),
    "log": (("level", "text"), "Write to the log; level is dbg, info, notice, warn, err or crit"),
    **{
        f"is_{name}": _IS
        for name in (
            *("INVITE", "ACK", "BYE", "CANCEL", "REGISTER", "OPTIONS", "SUBSCRIBE", "PUBLISH", "NOTIFY", "REFER"),
            *("INFO", "UPDATE", "PRACK", "MESSAGE", "KDMQ", "GET", "POST", "PUT", "DELETE"),
        )
    },
    **{f"is_{name}": _PROTO for name in ("UDP", "TCP", "TLS", "WS", "WSS", "WSX", "SCTP", "IPv4", "IPv6")},
    **{f"to_{name}": _TO for name in ("UDP", "TCP", "TLS", "WS", "WSS", "WSX", "SCTP", "IPv4", "IPv6")},
    "is_method": (("method",), "Whether the request has this method"),
    "is_method_in": (
        ("letters",),
        "Whether the method is one of those: I INVITE, A ACK, B BYE, C CANCEL, R REGISTER, ...",
    ),
    "is_proto": (("letters",), "Whether the protocol is one of those: u UDP, t TCP, e TLS, s SCTP, v WS, w WSS"),
    "is_myself": (("uri",), "Whether the URI is this server's"),
    "is_myself_ruri": ((), "Whether the request URI is this server's"),
    "is_myself_duri": ((), "Whether the destination URI is this server's"),
    "is_myself_nhuri": ((), "Whether the URI of the next hop is this server's"),
    "is_myself_furi": ((), "Whether the URI in From is this server's"),
    "is_myself_turi": ((), "Whether the URI in To is this server's"),
    "is_myself_suri": ((), "Whether the source address, as a URI, is this server's"),
    "is_myself_srcip": ((), "Whether the source address is this server's"),
    "is_src_port": (("port",), "Whether the message came from this port"),
    "is_dst_port": (("port",), "Whether the message came to this port"),
    "setflag": (("flag",), f"Set {_FLAG}"),
    "resetflag": (("flag",), f"Reset {_FLAG}"),
    "isflagset": (("flag",), f"Whether it is set: {_FLAG}"),
    "setbflag": (("flag",), "Set a flag of the first branch"),
    "resetbflag": (("flag",), "Reset a flag of the first branch"),
    "isbflagset": (("flag",), "Whether a flag of the first branch is set"),
    "setbiflag": (("flag", "branch"), "Set a flag of a branch"),
    "resetbiflag": (("flag", "branch"), "Reset a flag of a branch"),
    "isbiflagset": (("flag", "branch"), "Whether a flag of a branch is set"),
    "setsflag": (("flag",), "Set a flag of the script"),
    "resetsflag": (("flag",), "Reset a flag of the script"),
    "issflagset": (("flag",), "Whether a flag of the script is set"),
    "seturi": (("uri",), "Set the request URI"),
    "setuser": (("user",), "Set the user of the request URI"),
    "sethost": (("host",), "Set the host of the request URI"),
    "setdsturi": (("uri",), "Set the destination URI: where the request goes next"),
    "resetdsturi": ((), "Reset the destination URI"),
    "isdsturiset": ((), "Whether a destination URI is set"),
    "force_rport": ((), "Answer to the port that the request came from"),
    "add_local_rport": ((), "Add rport to this server's Via"),
    "set_drop": ((), "Drop the message when the script ends"),
    "forward": ((), "Forward the request without a transaction"),
    "forward_uri": (("uri",), "Forward the request without a transaction to a URI"),
    "set_advertised_address": (("address",), "The address to show in this server's Via"),
    "set_advertised_port": (("port",), "The port to show in this server's Via"),
    "add_tcp_alias": (("port",), "Use the connection also for requests to this port of its peer"),
    "add_tcp_alias_via": ((), "Use the connection also for requests to the port in Via"),
    "get_debug": ((), "The level of the log"),
    "route": (("name",), "Run a route block of kamailio.cfg"),
    "pv.get": (("pvname",), "The value of a variable, None for null; an int when the variable is a number"),
    "pv.gete": (("pvname",), "The value of a variable, '' for null; an int when the variable is a number"),
    "pv.getw": (("pvname",), "The value of a variable, '<null>' for null; an int when the variable is a number"),
    "pv.geti": (("pvname",), "The value of a variable that is a number; 0 for null"),
    "pv.getvn": (("pvname", "default"), "The value of a variable, or the number when it is null"),
    "pv.getvs": (("pvname", "default"), "The value of a variable, or the text when it is null"),
    "pv.seti": (("pvname", "value"), "Set a variable to a number"),
    "pv.sets": (("pvname", "value"), "Set a variable to a text"),
    "pv.unset": (("pvname",), "Set a variable to null"),
    "pv.is_null": (("pvname",), "Whether a variable is null"),
    "hdr.append": (("header",), "Add a header line, with its line's end, after the last one"),
    "hdr.append_after": (("header", "name"), "Add a header line, with its line's end, after the first one of a name"),
    "hdr.insert": (("header",), "Add a header line, with its line's end, before the first one"),
    "hdr.insert_before": (("header", "name"), "Add a header line, with its line's end, before the first one of a name"),
    "hdr.remove": (("name",), "Remove all headers of a name"),
    "hdr.rmappend": (("name", "header"), "Remove all headers of a name and add a line after the last one"),
    "hdr.rminsert": (("name", "header"), "Remove all headers of a name and add a line before the first one"),
    "hdr.is_present": (("name",), "1 when the message has a header of that name, -1 otherwise"),
    "hdr.append_to_reply": (("header",), "Add a header line, with its line's end, to the replies to this request"),
    "hdr.get": (("name",), "The body of the first header of a name; None when there is none"),
    "hdr.gete": (("name",), "The body of the first header of a name; '' when there is none"),
    "hdr.getw": (("name",), "The body of the first header of a name; '<null>' when there is none"),
    "hdr.get_idx": (("name", "index"), "The body of one of the headers of a name; negative counts from the last"),
    "hdr.gete_idx": (("name", "index"), "As get_idx; '' when there is none"),
    "hdr.getw_idx": (("name", "index"), "As get_idx; '<null>' when there is none"),
    "hdr.match_content": (("name", "operator", "value", "which"), "Compare headers' bodies; which is f, l, a or o"),
    "xlog.xdbg": (("text",), "Write to the log at level dbg, variables expanded"),
    "xlog.xinfo": (("text",), "Write to the log at level info, variables expanded"),
    "xlog.xnotice": (("text",), "Write to the log at level notice, variables expanded"),
    "xlog.xwarn": (("text",), "Write to the log at level warn, variables expanded"),
    "xlog.xerr": (("text",), "Write to the log at level err, variables expanded"),
    "xlog.xcrit": (("text",), "Write to the log at level crit, variables expanded"),
    "xlog.xalert": (("text",), "Write to the log at level alert, variables expanded"),
    "xlog.xlog": (
        ("level", "text"),
        "Write to the log, variables expanded; level is dbg, info, notice, warn, err, ...",
    ),
    "mqueue.mq_size": (("queue",), "The number of items; 0 none; -1 there is no such queue"),
    **{
        f"mqueue.mq{short}_get{mode}": (("queue",), f"The {word} of the item fetched last; {null} when there is none")
        for short, word in (("k", "key"), ("v", "value"))
        for mode, null in (("", "None"), ("e", "''"), ("w", "'<null>'"))
    },
}
