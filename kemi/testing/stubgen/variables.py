# SPDX-License-Identifier: GPL-2.0-or-later
"""What variables hold: text or numbers, for the overloads of KSR.pv.get and its relatives.

Seen in 5.6.3 and 6.0.1, in a request, a reply and a transaction; both gave the same. What has a name of its own in
parentheses, as $var(x) or $hdr(X), may hold either; so may what is not here.
"""

from __future__ import annotations

# In every message that has what SIP demands, in the routes where a script asks for them.
TEXT = (
    *("rm", "ru", "rd", "rz", "ou", "od", "fu", "fd", "ft", "tu", "td", "ci", "cs", "csb", "si", "siz", "su", "sut"),
    *("sas", "src_ip", "Ri", "Ru", "Rut", "Ras", "RAi", "RAu", "RAut", "pr", "proto", "rv", "mb", "mbu", "mts", "rb"),
    *("mF", "bF", "sF", "Tf", "TF", "ruri", "ouri", "from", "to", "from.domain", "to.domain", "ruri.domain"),
    *("T_reply_ruid", "ksr(ver)", "version(num)", "version(full)"),
)
NUMBER = (
    *("sp", "Rp", "RAp", "rs", "rsi", "bs", "ml", "mt", "mf", "bf", "sf", "fUl", "tUl", "rmid", "pp", "prid", "fsp"),
    *("sid", "Ts", "TS", "Tb", "true", "T_reply_code", "T_branch_idx", "TV(s)", "TV(u)", "T(reply_code)"),
    *("T(branch_index)", "ksr(verval)"),
)
# Null where the message has none.
TEXT_OR_NULL = (
    *("rU", "rp", "rP", "oU", "op", "oP", "fU", "fn", "tU", "tn", "tt", "ct", "cT", "ua", "rr", "re", "rt", "du", "dd"),
    *("dp", "dP", "ds", "duri", "fs", "fsn", "Rn", "di", "dip", "dir", "pu", "pU", "pd", "pn", "aU", "au", "ad", "ar"),
    *("ruri.user", "from.user", "to.user", "Au", "AU"),
)
NUMBER_OR_NULL = (
    *("cl", "rUl", "oUl", "T(id_index)", "T(id_label)", "T(id_index_n)", "T(id_label_n)", "T(reply_type)"),
    *("expires(min)", "expires(max)"),
)
