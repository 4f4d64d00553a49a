"""KSR of Kamailio 5.6.3 and 6.0.1: every function of KEMI that its modules have.

Written by python3 -m kemi.testing.stubgen; not to be edited. A note says which functions only one of them has. The
classes are only here: at run time KSR.sl and the others are modules made by the server. Arguments have no keywords
there. Functions without a result give None here; 5.6 gives 0. What a variable holds is known for many, $rs for one; $rs
and what every SIP message has are taken to be there. $var(x) and its like may hold a text or a number: int or str.
KSR.async cannot be written in Python; getattr(KSR, "async") is an object of the class _async.
"""

from typing import Any, Literal, overload

_Text = Literal[
    "$rm", "$ru", "$rd", "$rz", "$ou", "$od", "$fu", "$fd", "$ft", "$tu", "$td", "$ci", "$cs", "$csb",
    "$si", "$siz", "$su", "$sut", "$sas", "$src_ip", "$Ri", "$Ru", "$Rut", "$Ras", "$RAi", "$RAu", "$RAut",
    "$pr", "$proto", "$rv", "$mb", "$mbu", "$mts", "$rb", "$mF", "$bF", "$sF", "$Tf", "$TF", "$ruri",
    "$ouri", "$from", "$to", "$from.domain", "$to.domain", "$ruri.domain", "$T_reply_ruid", "$ksr(ver)",
    "$version(num)", "$version(full)",
]
_TextOrNull = Literal[
    "$rU", "$rp", "$rP", "$oU", "$op", "$oP", "$fU", "$fn", "$tU", "$tn", "$tt", "$ct", "$cT", "$ua", "$rr",
    "$re", "$rt", "$du", "$dd", "$dp", "$dP", "$ds", "$duri", "$fs", "$fsn", "$Rn", "$di", "$dip", "$dir",
    "$pu", "$pU", "$pd", "$pn", "$aU", "$au", "$ad", "$ar", "$ruri.user", "$from.user", "$to.user", "$Au",
    "$AU",
]
_Number = Literal[
    "$sp", "$Rp", "$RAp", "$rs", "$rsi", "$bs", "$ml", "$mt", "$mf", "$bf", "$sf", "$fUl", "$tUl", "$rmid",
    "$pp", "$prid", "$fsp", "$sid", "$Ts", "$TS", "$Tb", "$true", "$T_reply_code", "$T_branch_idx",
    "$TV(s)", "$TV(u)", "$T(reply_code)", "$T(branch_index)", "$ksr(verval)",
]
_NumberOrNull = Literal[
    "$cl", "$rUl", "$oUl", "$T(id_index)", "$T(id_label)", "$T(id_index_n)", "$T(id_label_n)",
    "$T(reply_type)", "$expires(min)", "$expires(max)",
]

def add_local_rport() -> bool:
    """Add rport to this server's Via."""

def add_tcp_alias(port: int, /) -> int:
    """Use the connection also for requests to this port of its peer."""

def add_tcp_alias_via() -> int:
    """Use the connection also for requests to the port in Via."""

def crit(text: str, /) -> None:
    """Write to the log at this level; no variables are expanded, and a line's end must be given."""

def dbg(text: str, /) -> None:
    """Write to the log at this level; no variables are expanded, and a line's end must be given."""

def err(text: str, /) -> None:
    """Write to the log at this level; no variables are expanded, and a line's end must be given."""

def force_rport() -> bool:
    """Answer to the port that the request came from."""

def forward() -> int:
    """Forward the request without a transaction."""

def forward_uri(uri: str, /) -> int:
    """Forward the request without a transaction to a URI."""

def get_debug() -> int:
    """The level of the log."""

def info(text: str, /) -> None:
    """Write to the log at this level; no variables are expanded, and a line's end must be given."""

def is_ACK() -> bool:
    """Whether the request has this method."""

def is_BYE() -> bool:
    """Whether the request has this method."""

def is_CANCEL() -> bool:
    """Whether the request has this method."""

def is_DELETE() -> bool:
    """Whether the request has this method."""

def is_GET() -> bool:
    """Whether the request has this method."""

def is_INFO() -> bool:
    """Whether the request has this method."""

def is_INVITE() -> bool:
    """Whether the request has this method."""

def is_IPv4() -> bool:
    """Whether the message came over this protocol."""

def is_IPv6() -> bool:
    """Whether the message came over this protocol."""

def is_KDMQ() -> bool:
    """Whether the request has this method."""

def is_MESSAGE() -> bool:
    """Whether the request has this method."""

def is_NOTIFY() -> bool:
    """Whether the request has this method."""

def is_OPTIONS() -> bool:
    """Whether the request has this method."""

def is_POST() -> bool:
    """Whether the request has this method."""

def is_PRACK() -> bool:
    """Whether the request has this method."""

def is_PUBLISH() -> bool:
    """Whether the request has this method."""

def is_PUT() -> bool:
    """Whether the request has this method."""

def is_REFER() -> bool:
    """Whether the request has this method."""

def is_REGISTER() -> bool:
    """Whether the request has this method."""

def is_SCTP() -> bool:
    """Whether the message came over this protocol."""

def is_SUBSCRIBE() -> bool:
    """Whether the request has this method."""

def is_TCP() -> bool:
    """Whether the message came over this protocol."""

def is_TLS() -> bool:
    """Whether the message came over this protocol."""

def is_UDP() -> bool:
    """Whether the message came over this protocol."""

def is_UPDATE() -> bool:
    """Whether the request has this method."""

def is_WS() -> bool:
    """Whether the message came over this protocol."""

def is_WSS() -> bool:
    """Whether the message came over this protocol."""

def is_WSX() -> bool:
    """Whether the message came over this protocol."""

def is_dst_port(port: int, /) -> bool:
    """Whether the message came to this port."""

def is_method(method: str, /) -> bool:
    """Whether the request has this method."""

def is_method_in(letters: str, /) -> bool:
    """Whether the method is one of those: I INVITE, A ACK, B BYE, C CANCEL, R REGISTER, ..."""

def is_myself(uri: str, /) -> bool:
    """Whether the URI is this server's."""

def is_myself_duri() -> bool:
    """Whether the destination URI is this server's."""

def is_myself_furi() -> bool:
    """Whether the URI in From is this server's."""

def is_myself_nhuri() -> bool:
    """Whether the URI of the next hop is this server's."""

def is_myself_ruri() -> bool:
    """Whether the request URI is this server's."""

def is_myself_srcip() -> bool:
    """Whether the source address is this server's."""

def is_myself_suri() -> bool:
    """Whether the source address, as a URI, is this server's."""

def is_myself_turi() -> bool:
    """Whether the URI in To is this server's."""

def is_proto(letters: str, /) -> bool:
    """Whether the protocol is one of those: u UDP, t TCP, e TLS, s SCTP, v WS, w WSS."""

def is_src_port(port: int, /) -> bool:
    """Whether the message came from this port."""

def isbflagset(flag: int, /) -> bool:
    """Whether a flag of the first branch is set."""

def isbiflagset(flag: int, branch: int, /) -> bool:
    """Whether a flag of a branch is set."""

def isdsturiset() -> bool:
    """Whether a destination URI is set."""

def isflagset(flag: int, /) -> bool:
    """Whether it is set: a flag of the message, 0 to 31."""

def issflagset(flag: int, /) -> bool:
    """Whether a flag of the script is set."""

def log(level: str, text: str, /) -> None:
    """Write to the log; level is dbg, info, notice, warn, err or crit."""

def notice(text: str, /) -> None:
    """Write to the log at this level; no variables are expanded, and a line's end must be given."""

def resetbflag(flag: int, /) -> bool:
    """Reset a flag of the first branch."""

def resetbiflag(flag: int, branch: int, /) -> bool:
    """Reset a flag of a branch."""

def resetdsturi() -> bool:
    """Reset the destination URI."""

def resetflag(flag: int, /) -> bool:
    """Reset a flag of the message, 0 to 31."""

def resetsflag(flag: int, /) -> bool:
    """Reset a flag of the script."""

def route(name: str, /) -> int:
    """Run a route block of kamailio.cfg."""

def set_advertised_address(address: str, /) -> int:
    """The address to show in this server's Via."""

def set_advertised_port(port: str, /) -> int:
    """The port to show in this server's Via."""

def set_drop() -> None:
    """Drop the message when the script ends."""

def set_forward_close() -> bool: ...

def set_forward_no_connect() -> bool: ...

def set_reply_close() -> bool: ...

def set_reply_no_connect() -> bool: ...

def setbflag(flag: int, /) -> bool:
    """Set a flag of the first branch."""

def setbiflag(flag: int, branch: int, /) -> bool:
    """Set a flag of a branch."""

def setdsturi(uri: str, /) -> bool:
    """Set the destination URI: where the request goes next."""

def setflag(flag: int, /) -> bool:
    """Set a flag of the message, 0 to 31."""

def sethost(host: str, /) -> bool:
    """Set the host of the request URI."""

def setsflag(flag: int, /) -> bool:
    """Set a flag of the script."""

def seturi(uri: str, /) -> bool:
    """Set the request URI."""

def setuser(user: str, /) -> bool:
    """Set the user of the request URI."""

def to_IPv4() -> bool:
    """Whether the message goes to such a destination."""

def to_IPv6() -> bool:
    """Whether the message goes to such a destination."""

def to_SCTP() -> bool:
    """Whether the message goes to such a destination."""

def to_TCP() -> bool:
    """Whether the message goes to such a destination."""

def to_TLS() -> bool:
    """Whether the message goes to such a destination."""

def to_UDP() -> bool:
    """Whether the message goes to such a destination."""

def to_WS() -> bool:
    """Whether the message goes to such a destination."""

def to_WSS() -> bool:
    """Whether the message goes to such a destination."""

def to_WSX() -> bool:
    """Whether the message goes to such a destination."""

def warn(text: str, /) -> None:
    """Write to the log at this level; no variables are expanded, and a line's end must be given."""

class _acc:
    """KSR.acc, of acc."""

    @staticmethod
    def acc_db_request(comment: str, table: str, /) -> int:
        """Like acc_log_request, acc_db_request reports on a request."""

    @staticmethod
    def acc_log_request(comment: str, /) -> int:
        """acc_request reports on a request, for example, it can be used to report on missed calls to off-line users who ..."""

    @staticmethod
    def acc_request(comment: str, table: str, /) -> int:
        """Wrapper around acc_log_request and acc_db_request functions, writing the accounting record to LOG and ..."""

acc: _acc

class _acc_radius:
    """KSR.acc_radius, of acc_radius."""

    @staticmethod
    def request(arg1: str, /) -> int: ...

acc_radius: _acc_radius

class _alias_db:
    """KSR.alias_db, of alias_db."""

    @staticmethod
    def lookup(arg1: str, /) -> int: ...

    @staticmethod
    def lookup_ex(arg1: str, arg2: str, /) -> int: ...

alias_db: _alias_db

class _app_jsdt:
    """KSR.app_jsdt, of app_jsdt."""

    @staticmethod
    def dofile(arg1: str, /) -> int: ...

    @staticmethod
    def dostring(arg1: str, /) -> int: ...

    @staticmethod
    def run(arg1: str, /) -> int: ...

    @staticmethod
    def run_p1(arg1: str, arg2: str, /) -> int: ...

    @staticmethod
    def run_p2(arg1: str, arg2: str, arg3: str, /) -> int: ...

    @staticmethod
    def run_p3(arg1: str, arg2: str, arg3: str, arg4: str, /) -> int: ...

    @staticmethod
    def runstring(arg1: str, /) -> int: ...

app_jsdt: _app_jsdt

class _app_lua:
    """KSR.app_lua, of app_lua."""

    @staticmethod
    def dofile(arg1: str, /) -> int: ...

    @staticmethod
    def dostring(arg1: str, /) -> int: ...

    @staticmethod
    def run(arg1: str, /) -> int: ...

    @staticmethod
    def run_p1(arg1: str, arg2: str, /) -> int: ...

    @staticmethod
    def run_p2(arg1: str, arg2: str, arg3: str, /) -> int: ...

    @staticmethod
    def run_p3(arg1: str, arg2: str, arg3: str, arg4: str, /) -> int: ...

    @staticmethod
    def runstring(arg1: str, /) -> int: ...

app_lua: _app_lua

class _app_python3:
    """KSR.app_python3, of app_python3."""

    @staticmethod
    def exec(arg1: str, /) -> int: ...

    @staticmethod
    def exec_p1(arg1: str, arg2: str, /) -> int: ...

    @staticmethod
    def execx(arg1: str, /) -> int: ...

app_python3: _app_python3

class _app_python3s:
    """KSR.app_python3s, of app_python3s. Only in 6.0."""

    @staticmethod
    def exec(arg1: str, /) -> int:
        """Only in 6.0."""

    @staticmethod
    def exec_p1(arg1: str, arg2: str, /) -> int:
        """Only in 6.0."""

    @staticmethod
    def execx(arg1: str, /) -> int:
        """Only in 6.0."""

app_python3s: _app_python3s

class _app_ruby:
    """KSR.app_ruby, of app_ruby."""

    @staticmethod
    def run(arg1: str, /) -> int: ...

    @staticmethod
    def run_p1(arg1: str, arg2: str, /) -> int: ...

    @staticmethod
    def run_p2(arg1: str, arg2: str, arg3: str, /) -> int: ...

    @staticmethod
    def run_p3(arg1: str, arg2: str, arg3: str, arg4: str, /) -> int: ...

app_ruby: _app_ruby

class _app_sqlang:
    """KSR.app_sqlang, of app_sqlang. Only in 5.6."""

    @staticmethod
    def dofile(arg1: str, /) -> int:
        """Only in 5.6."""

    @staticmethod
    def dostring(arg1: str, /) -> int:
        """Only in 5.6."""

    @staticmethod
    def run(arg1: str, /) -> int:
        """Only in 5.6."""

    @staticmethod
    def run_p1(arg1: str, arg2: str, /) -> int:
        """Only in 5.6."""

    @staticmethod
    def run_p2(arg1: str, arg2: str, arg3: str, /) -> int:
        """Only in 5.6."""

    @staticmethod
    def run_p3(arg1: str, arg2: str, arg3: str, arg4: str, /) -> int:
        """Only in 5.6."""

    @staticmethod
    def runstring(arg1: str, /) -> int:
        """Only in 5.6."""

app_sqlang: _app_sqlang

class _async:
    """KSR.async, of async."""

    @staticmethod
    def get_data() -> str | None: ...

    @staticmethod
    def get_gname() -> str | None: ...

    @staticmethod
    def ms_route(arg1: str, arg2: int, /) -> int: ...

    @staticmethod
    def route(arg1: str, arg2: int, /) -> int: ...

    @staticmethod
    def task_data(arg1: str, arg2: str, /) -> int: ...

    @staticmethod
    def task_group_data(arg1: str, arg2: str, arg3: str, /) -> int: ...

    @staticmethod
    def task_group_route(arg1: str, arg2: str, /) -> int: ...

    @staticmethod
    def task_route(arg1: str, /) -> int: ...

class _auth:
    """KSR.auth, of auth."""

    @staticmethod
    def auth_algorithm(algorithm: str, /) -> int:
        """Set hash algorithm used for digest authentication thus overriding algorithm parameter. Only in 6.0."""

    @staticmethod
    def auth_challenge(realm: str, flags: int, /) -> int:
        """The function challenges a user agent for authentication."""

    @staticmethod
    def auth_get_www_authenticate(realm: str, flags: int, pvdest: str, /) -> int:
        """Build WWW-Authentication header and set the resulting value in 'pvdest' pseudo-variable parameter. Only in 6.0."""

    @staticmethod
    def consume_credentials() -> int:
        """This function removes previously authorized credential headers from the message being processed by the server."""

    @staticmethod
    def has_credentials(realm: str, /) -> int:
        """This function returns true if the request has Authorization or Proxy-Authorization header with provided realm."""

    @staticmethod
    def proxy_challenge(realm: str, flags: int, /) -> int:
        """The function challenges a user agent. Only in 6.0."""

    @staticmethod
    def pv_auth_check(realm: str, passwd: str, flags: int, checks: int, /) -> int:
        """The function combines the functionalities of pv_www_authenticate and pv_proxy_authenticate, first being ..."""

    @staticmethod
    def pv_proxy_authenticate(realm: str, passwd: str, flags: int, /) -> int:
        """The function verifies credentials according to RFC2617. Only in 6.0."""

    @staticmethod
    def pv_www_authenticate(realm: str, passwd: str, flags: int, /) -> int:
        """The function verifies credentials according to RFC2617. Only in 6.0."""

    @staticmethod
    def pv_www_authenticate_method(arg1: str, arg2: str, arg3: int, arg4: str, /) -> int:
        """Only in 6.0."""

    @staticmethod
    def www_challenge(realm: str, flags: int, /) -> int:
        """The function challenges a user agent. Only in 6.0."""

auth: _auth

class _auth_db:
    """KSR.auth_db, of auth_db."""

    @staticmethod
    def auth_check(realm: str, table: str, flags: int, /) -> int:
        """The function combines the functionalities of www_authenticate and proxy_authenticate, first being executed if ..."""

    @staticmethod
    def is_subscriber(uri: str, dbtable: str, flags: int, /) -> int:
        """The function checks if there is a subscriber corresponding to the AoR in uri parameter."""

    @staticmethod
    def www_authenticate(realm: str, table: str, /) -> int:
        """Name alias: www_authorize(realm, table). Only in 6.0."""

    @staticmethod
    def www_authenticate_method(arg1: str, arg2: str, arg3: str, /) -> int:
        """Only in 6.0."""

auth_db: _auth_db

class _auth_ephemeral:
    """KSR.auth_ephemeral, of auth_ephemeral."""

    @staticmethod
    def autheph_authenticate(username: str, password: str, /) -> int:
        """This function performs non-digest ephemeral authentication."""

    @staticmethod
    def autheph_check(realm: str, /) -> int:
        """This function combines the functionalities of autheph_www and autheph_proxy, the first being executed if the ..."""

    @staticmethod
    def autheph_proxy(realm: str, /) -> int:
        """This function performs proxy authentication."""

    @staticmethod
    def autheph_www(realm: str, /) -> int:
        """This function performs WWW digest authentication."""

    @staticmethod
    def autheph_www_method(arg1: str, arg2: str, /) -> int: ...

auth_ephemeral: _auth_ephemeral

class _auth_radius:
    """KSR.auth_radius, of auth_radius."""

    @staticmethod
    def proxy_authorize(arg1: str, /) -> int: ...

    @staticmethod
    def proxy_authorize_user(arg1: str, arg2: str, /) -> int: ...

    @staticmethod
    def www_authorize(arg1: str, /) -> int: ...

    @staticmethod
    def www_authorize_user(arg1: str, arg2: str, /) -> int: ...

auth_radius: _auth_radius

class _auth_xkeys:
    """KSR.auth_xkeys, of auth_xkeys."""

    @staticmethod
    def auth_xkeys_add(hdr: str, kid: str, alg: str, data: str, /) -> int:
        """Add a header computed with the first key in the group kid, hashing with algorithm alg over the content of ..."""

    @staticmethod
    def auth_xkeys_check(hdr: str, kid: str, alg: str, data: str, /) -> int:
        """Check if the value of header hdr matches the value computed with the first key in the group kid, hashing with ..."""

auth_xkeys: _auth_xkeys

class _avpops:
    """KSR.avpops, of avpops."""

    @staticmethod
    def avp_check(name: str, op_value: str, /) -> int:
        """Checks the value of the AVP(s) against an operator and value."""

    @staticmethod
    def avp_copy(old_name: str, new_name: str, /) -> int:
        """Copy / move an avp under a new name."""

avpops: _avpops

class _benchmark:
    """KSR.benchmark, of benchmark."""

    @staticmethod
    def bm_log_timer(name: str, /) -> int:
        """This function logs the timer with the given ID."""

    @staticmethod
    def bm_start_timer(name: str, /) -> int:
        """Start timer “name”."""

benchmark: _benchmark

class _blst:
    """KSR.blst, of blst."""

    @staticmethod
    def blst_add(timeout: int, /) -> int:
        """Adds the source of the current message to the blocklist for timeout seconds."""

    @staticmethod
    def blst_add_default() -> int: ...

    @staticmethod
    def blst_add_retry_after(min: int, max: int, /) -> int:
        """Adds the source of the current message to the blocklist for the time interval specified in the Retry-After ..."""

    @staticmethod
    def blst_clear_ignore(flags: int, /) -> int:
        """Clears blocklist ignore flags previously set by the corresponding blst_set_ignore(...) or ..."""

    @staticmethod
    def blst_clear_ignore_all() -> int: ...

    @staticmethod
    def blst_del() -> int:
        """Removes the source of the current message from the blocklist."""

    @staticmethod
    def blst_is_blocklisted() -> int:
        """Returns true if the source of the current message is blocklisted."""

    @staticmethod
    def blst_rpl_clear_ignore(flags: int, /) -> int:
        """See function blst_clear_ignore([flags])."""

    @staticmethod
    def blst_rpl_clear_ignore_all() -> int: ...

    @staticmethod
    def blst_rpl_set_ignore(flags: int, /) -> int:
        """See function blst_set_ignore([flags])."""

    @staticmethod
    def blst_rpl_set_ignore_all() -> int: ...

    @staticmethod
    def blst_set_ignore(flags: int, /) -> int:
        """Set errors that will not be taken into account when deciding whether to blocklist a destination for the ..."""

    @staticmethod
    def blst_set_ignore_all() -> int: ...

blst: _blst

class _call_control:
    """KSR.call_control, of call_control."""

    @staticmethod
    def call_control() -> int:
        """Trigger the use of callcontrol for the dialog started by the INVITE for which this function is called (the ..."""

call_control: _call_control

class _call_obj:
    """KSR.call_obj, of call_obj."""

    @staticmethod
    def free(arg1: int, /) -> int: ...

    @staticmethod
    def get() -> int: ...

call_obj: _call_obj

class _carrierroute:
    """KSR.carrierroute, of carrierroute. Only in 6.0."""

    @staticmethod
    def cr_next_domain(carrier: str, domain: str, prefix_matching: str, host: str, reply_code: str, dstavp: str, /) -> int:
        """This function searches for the longest match for the user given in prefix_matching with the given domain in ... Only in 6.0."""

    @staticmethod
    def cr_nofallback_route(arg1: str, arg2: str, arg3: str, arg4: str, arg5: str, /) -> int:
        """Only in 6.0."""

    @staticmethod
    def cr_nofallback_route_info(arg1: str, arg2: str, arg3: str, arg4: str, arg5: str, arg6: str, /) -> int:
        """Only in 6.0."""

    @staticmethod
    def cr_route(arg1: str, arg2: str, arg3: str, arg4: str, arg5: str, /) -> int:
        """Only in 6.0."""

    @staticmethod
    def cr_route_info(arg1: str, arg2: str, arg3: str, arg4: str, arg5: str, arg6: str, /) -> int:
        """Only in 6.0."""

    @staticmethod
    def cr_user_carrier(user: str, domain: str, dstvar: str, /) -> int:
        """This function loads the carrier and stores it in a config variable. Only in 6.0."""

carrierroute: _carrierroute

class _cdp:
    """KSR.cdp, of cdp. Only in 6.0."""

    @staticmethod
    def cdp_check_peer(fqdn: str, /) -> int:
        """The method checks, if a specific peer is connected and ready. Only in 6.0."""

    @staticmethod
    def cdp_has_app(vendorid: str, /) -> int:
        """The method checks, if any peer with this specific application has connected. Only in 6.0."""

    @staticmethod
    def cdp_has_app2(arg1: str, arg2: str, /) -> int:
        """Only in 6.0."""

cdp: _cdp

class _cfgutils:
    """KSR.cfgutils, of cfgutils."""

    @staticmethod
    def abort() -> int:
        """Debugging function that aborts the server."""

    @staticmethod
    def check_route_exists(route: str, /) -> int:
        """Check if a route block exists."""

    @staticmethod
    def core_hash(string1: str, string2: str, size: int, /) -> int:
        """Exported function that enables the core_hash() function to be used from the configuration file."""

    @overload
    @staticmethod
    def lock(key: str, /) -> int:
        """Lock the key. Only in 5.6."""
    @overload
    @staticmethod
    def lock(key: str, key2: str, /) -> int:
        """Lock the key. Only in 6.0."""

    @staticmethod
    def pkg_status() -> int:
        """Debugging function that dumps the status for the private (PKG) memory."""

    @staticmethod
    def pkg_summary() -> int:
        """Debugging function that dumps the summary for the private (PKG) memory usage."""

    @staticmethod
    def rand_event() -> int:
        """Return true or false, depending on a random value and a probability value."""

    @staticmethod
    def rand_get_prob() -> int:
        """Return the current probability setting, e.g. for logging purposes."""

    @staticmethod
    def rand_reset_prob() -> int:
        """Reset the probability back to the initial value."""

    @staticmethod
    def rand_set_prob(probability: int, /) -> int:
        """Set the “probability” of the decision."""

    @staticmethod
    def route_if_exists(route: str, /) -> int:
        """Execute a routing block only if it is defined."""

    @staticmethod
    def shm_status() -> int:
        """Debugging function that dumps the status for the shared (SHM) memory."""

    @staticmethod
    def shm_summary() -> int:
        """Debugging function that dumps the summary for the shared (SHM) memory usage."""

    @staticmethod
    def sleep(time: int, /) -> int:
        """Waits 'time' seconds."""

    @overload
    @staticmethod
    def trylock(key: str, /) -> int:
        """Try to lock the key. Only in 5.6."""
    @overload
    @staticmethod
    def trylock(key: str, key2: str, /) -> int:
        """Try to lock the key. Only in 6.0."""

    @overload
    @staticmethod
    def unlock(key: str, /) -> int:
        """Unlock the key. Only in 5.6."""
    @overload
    @staticmethod
    def unlock(key: str, key2: str, /) -> int:
        """Unlock the key. Only in 6.0."""

    @staticmethod
    def usleep(time: int, /) -> int:
        """Waits 'time' micro-seconds."""

cfgutils: _cfgutils

class _cnxcc:
    """KSR.cnxcc, of cnxcc."""

    @staticmethod
    def get_channel_count(arg1: str, arg2: str, /) -> int: ...

    @staticmethod
    def set_max_channels(arg1: str, arg2: int, /) -> int: ...

    @staticmethod
    def set_max_credit(arg1: str, arg2: str, arg3: str, arg4: str, arg5: int, arg6: int, /) -> int: ...

    @staticmethod
    def set_max_time(arg1: str, arg2: int, /) -> int: ...

    @staticmethod
    def terminate_all(arg1: str, /) -> int: ...

    @staticmethod
    def update_max_time(arg1: str, arg2: int, /) -> int: ...

cnxcc: _cnxcc

class _corex:
    """KSR.corex, of corex."""

    @staticmethod
    def append_branch() -> int:
        """Append a new branch to the destination set, useful to build the set of destination addresses for parallel ..."""

    @staticmethod
    def append_branch_uri(arg1: str, /) -> int: ...

    @staticmethod
    def append_branch_uri_q(arg1: str, arg2: str, /) -> int: ...

    @staticmethod
    def file_read(arg1: str, /) -> str | None: ...

    @staticmethod
    def file_write(fpath: str, content: str, /) -> int:
        """Write content of parameter to a text file."""

    @staticmethod
    def forward_uac() -> int:
        """Forward received request with a single Via header, the one added by Kamailio, the other ones being removed. Only in 6.0."""

    @staticmethod
    def forward_uac_uri(vuri: str, /) -> int:
        """Similar to forward_uac() with the posibility to provide the target address as a SIP URI via the parameter vuri. Only in 6.0."""

    @staticmethod
    def has_ruri_user() -> int: ...

    @staticmethod
    def has_user_agent() -> int: ...

    @staticmethod
    def is_faked_msg() -> int:
        """Returns 1 (native config true) if the SIP message under processing is the internal faked msg structure."""

    @staticmethod
    def is_socket_name(sockname: str, /) -> int:
        """Returns 1 (native config true) if the parameter matches a local socket name, otherwise -1 (native config ..."""

    @staticmethod
    def isxflagset(flag: int, /) -> int:
        """Return true if the extended message (transaction) flag is set."""

    @staticmethod
    def resetxflag(flag: int, /) -> int:
        """Reset the extended message (transaction) flag."""

    @staticmethod
    def send_data(uri: str, data: str, /) -> int:
        """Send the data to address specified by uri."""

    @staticmethod
    def sendx(uri: str, sock: str, data: str, /) -> int:
        """Send the data to address specified by uri using a specific local socket."""

    @staticmethod
    def set_recv_socket(saddr: str, /) -> int:
        """Switch local socket used for receiving the message."""

    @staticmethod
    def set_recv_socket_name(sname: str, /) -> int:
        """Switch local socket used for receiving the message."""

    @staticmethod
    def set_send_socket(saddr: str, /) -> int:
        """Set the socket for sending out."""

    @staticmethod
    def set_send_socket_name(sname: str, /) -> int:
        """Set the socket for sending out."""

    @staticmethod
    def set_source_address(saddr: str, /) -> int:
        """Set the source address for the message."""

    @staticmethod
    def setxflag(flag: int, /) -> int:
        """Set the extended message (transaction) flag."""

    @staticmethod
    def via_add_srvid(flags: int, /) -> int:
        """Control if srvid parameter is added or not to local Via."""

    @staticmethod
    def via_add_xavp_params(flags: int, /) -> int:
        """Control if fields of the xavp with the name specified by xavp_via_params global parameter are added or not to ..."""

    @staticmethod
    def via_reply_add_xavp_params(flags: int, /) -> int:
        """Control if fields of the xavp with the name specified by xavp_via_reply_params global parameter are added or ... Only in 6.0."""

    @staticmethod
    def via_use_xavp_fields(flags: int, /) -> int:
        """Control if fields of the xavp with the name specified by xavp_via_fields global parameter are used or not to ..."""

corex: _corex

class _counters:
    """KSR.counters, of counters."""

    @staticmethod
    def add(arg1: str, arg2: int, /) -> int: ...

    @staticmethod
    def inc(arg1: str, /) -> int: ...

    @staticmethod
    def reset(arg1: str, /) -> int: ...

counters: _counters

class _crypto:
    """KSR.crypto, of crypto."""

    @staticmethod
    def aes_decrypt(arg1: str, arg2: str, arg3: str, /) -> int: ...

    @staticmethod
    def aes_encrypt(arg1: str, arg2: str, arg3: str, /) -> int: ...

    @staticmethod
    def hmac_sha256(arg1: str, arg2: str, arg3: str, /) -> int: ...

crypto: _crypto

class _debugger:
    """KSR.debugger, of debugger."""

    @staticmethod
    def dbg_pv_dump() -> int:
        """Prints the content of pv_cache on json format."""

    @staticmethod
    def dbg_pv_dump_ex(arg1: int, arg2: int, /) -> int: ...

debugger: _debugger

class _dialog:
    """KSR.dialog, of dialog."""

    @staticmethod
    def dlg_bridge(from_: str, to: str, op: str, /) -> int:
        """Bridge 'from' SIP address to 'to' SIP address via outbound proxy 'op'."""

    @staticmethod
    def dlg_bye(side: str, /) -> int:
        """Send BYE to parties of a dialog or - if in early stage - a CANCEL to the B-Party and a SIP response to the ..."""

    @staticmethod
    def dlg_db_load_callid(cival: str, /) -> int:
        """Load dialog record from database matching on Call-Id provided as parameter."""

    @staticmethod
    def dlg_db_load_extra() -> int:
        """Load all dialog records from database that are not in memory of the current Kamailio instance."""

    @staticmethod
    def dlg_get(callid: str, ftag: str, ttag: str, /) -> int:
        """Search and set current dialog based on Call-ID, From-Tag and To-Tag parameters."""

    @staticmethod
    def dlg_get_var(arg1: str, arg2: str, arg3: str, arg4: str, /) -> str | None:
        """Only in 6.0."""

    @staticmethod
    def dlg_isflagset(flag: int, /) -> int:
        """Check if the dialog flag is set or not."""

    @staticmethod
    def dlg_manage() -> int:
        """Process current SIP request with dialog module."""

    @staticmethod
    def dlg_reset_property(attr: str, /) -> int:
        """Reset a dialog property - an attribute that enable/disable various behaviours (e.g., sending keep alive ..."""

    @staticmethod
    def dlg_resetflag(flag: int, /) -> int:
        """Reset the dialog flag."""

    @staticmethod
    def dlg_set_property(attr: str, /) -> int:
        """Set a dialog property - an attribute that enable/disable various behaviours (e.g., sending keep alive ..."""

    @staticmethod
    def dlg_set_state(newstate: str, /) -> int:
        """Set the state for dialog matching current message. Only in 6.0."""

    @staticmethod
    def dlg_set_timeout(timeout: int, /) -> int:
        """Set the dialog timeout."""

    @staticmethod
    def dlg_set_timeout_id(arg1: int, arg2: int, arg3: int, /) -> int: ...

    @staticmethod
    def dlg_set_var(callid: str, ftag: str, ttag: str, name: str, value: str, /) -> int:
        """Set dlg_var of another dialog value based on Call-ID, From-Tag and To-Tag parameters. Only in 6.0."""

    @staticmethod
    def dlg_setflag(flag: int, /) -> int:
        """Set a dialog flag."""

    @staticmethod
    def dlg_update_state() -> int:
        """Only in 6.0."""

    @staticmethod
    def get_profile_size(profile: str, value: str, size: str, /) -> int:
        """Returns the number of dialogs belonging to a profile."""

    @staticmethod
    def get_profile_size_static(arg1: str, arg2: str, /) -> int: ...

    @staticmethod
    def is_in_profile(profile: str, value: str, /) -> int:
        """Checks if the current dialog belongs to a profile."""

    @staticmethod
    def is_in_profile_static(arg1: str, /) -> int: ...

    @staticmethod
    def is_known_dlg() -> int:
        """This function checks if the current SIP message being processed belongs to any transaction within an active ..."""

    @staticmethod
    def set_dlg_profile(profile: str, value: str, /) -> int:
        """Inserts the current dialog into a profile."""

    @staticmethod
    def set_dlg_profile_static(arg1: str, /) -> int: ...

    @staticmethod
    def unset_dlg_profile(profile: str, value: str, /) -> int:
        """Removes the current dialog from a profile."""

    @staticmethod
    def unset_dlg_profile_static(arg1: str, /) -> int: ...

    @staticmethod
    def var_get(arg1: str, /) -> str | None: ...

    @staticmethod
    def var_gete(arg1: str, /) -> str: ...

    @staticmethod
    def var_getw(arg1: str, /) -> str: ...

    @staticmethod
    def var_is_null(arg1: str, /) -> int: ...

    @staticmethod
    def var_rm(arg1: str, /) -> int: ...

    @staticmethod
    def var_sets(arg1: str, arg2: str, /) -> int: ...

dialog: _dialog

class _dialplan:
    """KSR.dialplan, of dialplan."""

    @staticmethod
    def dp_match(dpid: int, inval: str, /) -> int:
        """The function matches the input value 'inval' using the rules with dialplan id 'dpid'."""

    @staticmethod
    def dp_replace(dpid: int, inval: str, outvar: str, /) -> int:
        """The function translates the input value 'inval' using the rules with dialplan id 'dpid', storing the value in ..."""

    @staticmethod
    def dp_translate(id: int, /) -> int:
        """Will try to translate “src” into “dest” according to the translation rules in the dialplan identified by “id”."""

    @staticmethod
    def dp_translate_vars(arg1: int, arg2: str, arg3: str, /) -> int: ...

dialplan: _dialplan

class _dispatcher:
    """KSR.dispatcher, of dispatcher."""

    @staticmethod
    def ds_is_active(groupid: int, /) -> int:
        """This function returns true, if there is an active URI in the destination group; otherwise false."""

    @staticmethod
    def ds_is_active_uri(arg1: int, arg2: str, /) -> int: ...

    @staticmethod
    def ds_is_from_list(groupid: int, /) -> int:
        """This function returns true, if there is a match of source address or uri with an address in the given group ..."""

    @staticmethod
    def ds_is_from_list_mode(arg1: int, arg2: int, /) -> int: ...

    @staticmethod
    def ds_is_from_list_uri(arg1: int, arg2: int, arg3: str, /) -> int: ...

    @staticmethod
    def ds_is_from_lists() -> int: ...

    @staticmethod
    def ds_list_exists(groupid: int, /) -> int:
        """Function alias: ds_list_exist(groupid)."""

    @staticmethod
    def ds_load_unset() -> int:
        """Remove the call load for the destination that routed the call."""

    @staticmethod
    def ds_load_update() -> int:
        """Updates the load state: * if it is a BYE or CANCEL - remove the load from destination address used to forward ..."""

    @staticmethod
    def ds_mark_dst() -> int:
        """Mark the last used address from destination set as inactive ('i'/'I'), active ('a'/'A'), disabled ('d'/'D') ..."""

    @staticmethod
    def ds_mark_dst_state(arg1: str, /) -> int: ...

    @staticmethod
    def ds_next_domain() -> int:
        """Takes the next destination address from the corresponding XAVPs and sets the domain part of the request URI."""

    @staticmethod
    def ds_next_dst() -> int:
        """Takes the next destination address from the corresponding XAVPs and sets the dst_uri (outbound proxy address)."""

    @staticmethod
    def ds_reload() -> int:
        """Reloads the groups and included destinations."""

    @staticmethod
    def ds_select(set: int, alg: int, /) -> int:
        """The method selects a destination from addresses set and adds it in the XAVP specified for this module."""

    @staticmethod
    def ds_select_domain(set: int, alg: int, /) -> int:
        """The method selects a destination from addresses set and rewrites the host and port from R-URI."""

    @staticmethod
    def ds_select_domain_limit(arg1: int, arg2: int, arg3: int, /) -> int: ...

    @staticmethod
    def ds_select_dst(set: int, alg: int, /) -> int:
        """The method selects a destination from addresses set."""

    @staticmethod
    def ds_select_dst_limit(arg1: int, arg2: int, arg3: int, /) -> int: ...

    @staticmethod
    def ds_select_limit(arg1: int, arg2: int, arg3: int, /) -> int: ...

    @staticmethod
    def ds_select_routes(rules: str, mode: str, /) -> int:
        """The method selects destinations following the rules combining groups add algorithms, controlling where the ..."""

    @staticmethod
    def ds_select_routes_limit(arg1: str, arg2: str, arg3: int, /) -> int: ...

    @staticmethod
    def ds_set_domain() -> int:
        """Takes the current destination address from the corresponding XAVPs and sets the domain part of the request URI."""

    @staticmethod
    def ds_set_dst() -> int:
        """Takes the current destination address from the corresponding XAVPs and sets the dst_uri (outbound proxy ..."""

dispatcher: _dispatcher

class _diversion:
    """KSR.diversion, of diversion."""

    @staticmethod
    def add_diversion(reason: str, /) -> int:
        """The function adds a new diversion header field before any other existing Diversion header field in the ..."""

    @staticmethod
    def add_diversion_uri(arg1: str, arg2: str, /) -> int: ...

diversion: _diversion

class _dlgs:
    """KSR.dlgs, of dlgs. Only in 6.0."""

    @staticmethod
    def dlgs_count(field: str, op: str, data: str, /) -> int:
        """Return the number of dialogs matching the filter specified by the parameters. Only in 6.0."""

    @staticmethod
    def dlgs_init(src: str, dst: str, data: str, /) -> int:
        """Start track the dialog corresponding to the current SIP message. Only in 6.0."""

    @staticmethod
    def dlgs_tags_add(vtag: str, /) -> int:
        """Add a tag to current dialog. Only in 6.0."""

    @staticmethod
    def dlgs_tags_count(vtag: str, /) -> int:
        """Count all tags for ongoing dialogs matching the parameter. Only in 6.0."""

    @staticmethod
    def dlgs_tags_rm(vtag: str, /) -> int:
        """Remove a tag from current dialog. Only in 6.0."""

    @staticmethod
    def dlgs_update() -> int:
        """Update dialog state. Only in 6.0."""

dlgs: _dlgs

class _dmq:
    """KSR.dmq, of dmq."""

    @staticmethod
    def bcast_message(arg1: str, arg2: str, arg3: str, /) -> int: ...

    @staticmethod
    def handle_message() -> int: ...

    @staticmethod
    def handle_message_rc(arg1: int, /) -> int: ...

    @staticmethod
    def is_from_node() -> int: ...

    @staticmethod
    def process_message() -> int: ...

    @staticmethod
    def process_message_rc(arg1: int, /) -> int: ...

    @staticmethod
    def send_message(arg1: str, arg2: str, arg3: str, arg4: str, /) -> int: ...

    @staticmethod
    def t_replicate() -> int: ...

    @staticmethod
    def t_replicate_mode(arg1: int, /) -> int: ...

dmq: _dmq

class _domain:
    """KSR.domain, of domain."""

    @staticmethod
    def is_domain_local(domain: str, /) -> int:
        """This function checks if the domain contained in the parameter is local."""

    @staticmethod
    def is_from_local() -> int:
        """Checks based on domain table if host part of From header uri is one of the local domains that the proxy is ..."""

    @staticmethod
    def is_uri_host_local() -> int:
        """If called from route or failure route block, checks based on domain table if host part of Request-URI is one ..."""

    @staticmethod
    def lookup_domain(domain: str, /) -> int:
        """This function checks if domain given in domain argument is local and, if so, adds attributes associated with ..."""

    @staticmethod
    def lookup_domain_prefix(arg1: str, arg2: str, /) -> int: ...

domain: _domain

class _drouting:
    """KSR.drouting, of drouting."""

    @staticmethod
    def do_routing(groupid: int, /) -> int:
        """Function to trigger routing of the message according to the rules in the database table and the configured ..."""

    @staticmethod
    def do_routing_furi() -> int: ...

    @staticmethod
    def goes_to_gw() -> int:
        """Function returns true if the destination of the current request (destination URI or Request URI) points (as ..."""

    @staticmethod
    def goes_to_gw_type(arg1: int, /) -> int: ...

    @staticmethod
    def is_from_gw() -> int:
        """The function checks if the sender of the message is a gateway from a group in drouting rules."""

    @staticmethod
    def is_from_gw_type(arg1: int, /) -> int: ...

    @staticmethod
    def is_from_gw_type_flags(arg1: int, arg2: int, /) -> int: ...

    @staticmethod
    def next_routing() -> int:
        """The function takes the next available destination (set by do_routing, as alternative destinations) and push ..."""

    @staticmethod
    def use_next_gw() -> int:
        """Same as next_routing()."""

drouting: _drouting

class _enum:
    """KSR.enum, of enum."""

    @staticmethod
    def enum_i_query_suffix(arg1: str, /) -> int: ...

    @staticmethod
    def enum_pv_query(pvar: str, /) -> int:
        """The function performs an enum query on E.164 number stored in its first argument and rewrites the Request-URI ..."""

    @staticmethod
    def enum_pv_query_suffix(arg1: str, arg2: str, /) -> int: ...

    @staticmethod
    def enum_pv_query_suffix_service(arg1: str, arg2: str, arg3: str, /) -> int: ...

    @staticmethod
    def enum_query() -> int:
        """The function performs an enum query and rewrites the Request-URI with the result of the query."""

    @staticmethod
    def enum_query_suffix(arg1: str, /) -> int: ...

    @staticmethod
    def enum_query_suffix_service(arg1: str, arg2: str, /) -> int: ...

    @staticmethod
    def i_enum_query() -> int:
        """The function performs an enum query and rewrites the Request-URI with the result of the query."""

    @staticmethod
    def i_enum_query_suffix_service(arg1: str, arg2: str, /) -> int: ...

    @staticmethod
    def is_from_user_enum() -> int:
        """Checks if the user part of from URI is found in an enum lookup."""

    @staticmethod
    def is_from_user_enum_suffix(arg1: str, /) -> int: ...

    @staticmethod
    def is_from_user_enum_suffix_service(arg1: str, arg2: str, /) -> int: ...

enum: _enum

class _evapi:
    """KSR.evapi, of evapi."""

    @staticmethod
    def async_multicast(arg1: str, arg2: str, /) -> int: ...

    @staticmethod
    def async_relay(arg1: str, /) -> int: ...

    @staticmethod
    def async_unicast(arg1: str, arg2: str, /) -> int: ...

    @staticmethod
    def close() -> int: ...

    @staticmethod
    def relay(arg1: str, /) -> int: ...

    @staticmethod
    def relay_multicast(arg1: str, arg2: str, /) -> int: ...

    @staticmethod
    def relay_unicast(arg1: str, arg2: str, /) -> int: ...

    @staticmethod
    def set_tag(arg1: str, /) -> int: ...

evapi: _evapi

class _exec:
    """KSR.exec, of exec."""

    @staticmethod
    def exec_avp(command: str, /) -> int:
        """Executes an external command."""

    @staticmethod
    def exec_cmd(command: str, /) -> int:
        """Executes an external command."""

    @staticmethod
    def exec_dset(command: str, /) -> int:
        """Executes an external command."""

    @staticmethod
    def exec_msg(command: str, /) -> int:
        """Executes an external command."""

exec: _exec

class _geoip:
    """KSR.geoip, of geoip. Only in 5.6."""

    @staticmethod
    def match(arg1: str, arg2: str, /) -> int:
        """Only in 5.6."""

geoip: _geoip

class _geoip2:
    """KSR.geoip2, of geoip2."""

    @staticmethod
    def distance(arg1: str, arg2: str, arg3: str, /) -> int:
        """Only in 6.0."""

    @staticmethod
    def match(arg1: str, arg2: str, /) -> int: ...

geoip2: _geoip2

class _group:
    """KSR.group, of group."""

    @staticmethod
    def is_user_in(uri: str, group: str, /) -> int:
        """This function is to be used for script group membership."""

group: _group

class _hdr:
    """KSR.hdr, of the core."""

    @staticmethod
    def append(header: str, /) -> int:
        """Add a header line, with its line's end, after the last one."""

    @staticmethod
    def append_after(header: str, name: str, /) -> int:
        """Add a header line, with its line's end, after the first one of a name."""

    @staticmethod
    def append_to_reply(header: str, /) -> int:
        """Add a header line, with its line's end, to the replies to this request."""

    @staticmethod
    def get(name: str, /) -> str | None:
        """The body of the first header of a name; None when there is none."""

    @staticmethod
    def get_idx(name: str, index: int, /) -> str | None:
        """The body of one of the headers of a name; negative counts from the last."""

    @staticmethod
    def gete(name: str, /) -> str:
        """The body of the first header of a name; '' when there is none."""

    @staticmethod
    def gete_idx(name: str, index: int, /) -> str:
        """As get_idx; '' when there is none."""

    @staticmethod
    def getw(name: str, /) -> str:
        """The body of the first header of a name; '<null>' when there is none."""

    @staticmethod
    def getw_idx(name: str, index: int, /) -> str:
        """As get_idx; '<null>' when there is none."""

    @staticmethod
    def insert(header: str, /) -> int:
        """Add a header line, with its line's end, before the first one."""

    @staticmethod
    def insert_before(header: str, name: str, /) -> int:
        """Add a header line, with its line's end, before the first one of a name."""

    @staticmethod
    def is_present(name: str, /) -> int:
        """1 when the message has a header of that name, -1 otherwise."""

    @staticmethod
    def match_content(name: str, operator: str, value: str, which: str, /) -> bool:
        """Compare headers' bodies; which is f, l, a or o."""

    @staticmethod
    def remove(name: str, /) -> int:
        """Remove all headers of a name."""

    @staticmethod
    def rmappend(name: str, header: str, /) -> int:
        """Remove all headers of a name and add a line after the last one."""

    @staticmethod
    def rminsert(name: str, header: str, /) -> int:
        """Remove all headers of a name and add a line before the first one."""

hdr: _hdr

class _htable:
    """KSR.htable, of htable."""

    @staticmethod
    def sht_dec(arg1: str, arg2: str, /) -> int: ...

    @staticmethod
    def sht_get(arg1: str, arg2: str, /) -> str | None: ...

    @staticmethod
    def sht_gete(arg1: str, arg2: str, /) -> str: ...

    @staticmethod
    def sht_getw(arg1: str, arg2: str, /) -> str: ...

    @staticmethod
    def sht_inc(arg1: str, arg2: str, /) -> int: ...

    @staticmethod
    def sht_is_null(arg1: str, arg2: str, /) -> int: ...

    @staticmethod
    def sht_iterator_end(iname: str, /) -> int:
        """Close the iterator identified by iname parameter and release the hash table slot acquired by the iterator."""

    @staticmethod
    def sht_iterator_next(iname: str, /) -> int:
        """Move the iterator to the next item in hash table."""

    @staticmethod
    def sht_iterator_rm(iname: str, /) -> int:
        """Remove the current item in the iterator and move the iterator to the next one."""

    @staticmethod
    def sht_iterator_setex(iname: str, exval: int, /) -> int:
        """Set the expire of the current item to the integer in the exval."""

    @staticmethod
    def sht_iterator_seti(iname: str, ival: int, /) -> int:
        """Set the value of the current item to the integer in the ival."""

    @staticmethod
    def sht_iterator_sets(iname: str, sval: str, /) -> int:
        """Set the value of the current item to the string in the sval."""

    @staticmethod
    def sht_iterator_start(iname: str, hname: str, /) -> int:
        """Start an iterator for hash table named by the value of parameter hname."""

    @staticmethod
    def sht_lock(arg1: str, arg2: str, /) -> int: ...

    @staticmethod
    def sht_match_name(htable: str, op: str, mval: str, /) -> int:
        """Return greater than 0 (true) if the htable has an item that matches the name against the mval parameter."""

    @staticmethod
    def sht_match_str_value(htable: str, op: str, mval: str, /) -> int:
        """Return greater than 0 (true) if the htable has an item that matches the string value against the mval ..."""

    @staticmethod
    def sht_reset(htable: str, /) -> int:
        """Delete all entries in the htable."""

    @staticmethod
    def sht_rm(htname: str, itname: str, /) -> int:
        """Delete the item with the name 'itname' from hash table 'htname'."""

    @staticmethod
    def sht_rm_name(htable: str, op: str, val: str, /) -> int:
        """Delete all entries in the htable that match the name against the val parameter."""

    @staticmethod
    def sht_rm_name_re(arg1: str, arg2: str, /) -> int: ...

    @staticmethod
    def sht_rm_value(htable: str, op: str, val: str, /) -> int:
        """Delete all entries in the htable that match the value against the val parameter."""

    @staticmethod
    def sht_rm_value_re(arg1: str, arg2: str, /) -> int: ...

    @staticmethod
    def sht_setex(arg1: str, arg2: str, arg3: int, /) -> int: ...

    @staticmethod
    def sht_seti(arg1: str, arg2: str, arg3: int, /) -> int: ...

    @staticmethod
    def sht_sets(arg1: str, arg2: str, arg3: str, /) -> int: ...

    @staticmethod
    def sht_setxi(htname: str, itname: str, itval: int, exval: int, /) -> int:
        """Set the item with the name 'itname' from hash table 'htname' to integer value 'itval' and expire property to ..."""

    @staticmethod
    def sht_setxs(htname: str, itname: str, itval: str, exval: int, /) -> int:
        """Set the item with the name 'itname' from hash table 'htname' to string value 'itval' and expire property to ..."""

    @staticmethod
    def sht_unlock(arg1: str, arg2: str, /) -> int: ...

htable: _htable

class _http_async_client:
    """KSR.http_async_client, of http_async_client. Only in 6.0."""

    @staticmethod
    def query(arg1: str, arg2: str, /) -> int:
        """Only in 6.0."""

http_async_client: _http_async_client

class _http_client:
    """KSR.http_client, of http_client."""

    @staticmethod
    def curl_connect(arg1: str, arg2: str, arg3: str, /) -> int: ...

    @staticmethod
    def curl_connect_post(arg1: str, arg2: str, arg3: str, arg4: str, arg5: str, /) -> int: ...

    @staticmethod
    def get_hdrs(arg1: str, arg2: str, arg3: str, arg4: str, /) -> int: ...

    @staticmethod
    def query(arg1: str, arg2: str, /) -> int: ...

    @staticmethod
    def query_post(arg1: str, arg2: str, arg3: str, /) -> int: ...

    @staticmethod
    def query_post_hdrs(arg1: str, arg2: str, arg3: str, arg4: str, /) -> int: ...

    @staticmethod
    def query_request(arg1: str, arg2: str, arg3: str, arg4: str, arg5: str, /) -> int:
        """Only in 6.0."""

    @staticmethod
    def query_request_v2pk(arg1: str, arg2: str, arg3: str, arg4: str, arg5: str, /) -> int:
        """Only in 6.0."""

http_client: _http_client

class _imc:
    """KSR.imc, of imc."""

    @staticmethod
    def imc_manager() -> int:
        """THis function handles incoming MESSAGE requests."""

    @staticmethod
    def imc_room_active(room: str, /) -> int:
        """Return 1 (true) if the room is active, -1 (false) if the room is not found. Only in 6.0."""

    @staticmethod
    def imc_room_member(room: str, user: str, /) -> int:
        """Return 1 (true) if the user is member of the room, -1 (false) if the user is not member of the room. Only in 6.0."""

imc: _imc

class _ims_charging:
    """KSR.ims_charging, of ims_charging."""

    @staticmethod
    def Ro_CCR(route_name: str, direction: str, reservation_units: int, incoming_trunk_id: str, outgoing_trunk_id: str, /) -> int:
        """Perform a CCR on Diameter Ro interface for Charging."""

    @staticmethod
    def Ro_CCR_Stop(arg1: str, arg2: int, arg3: str, /) -> int: ...

    @staticmethod
    def Ro_set_session_id_avp() -> int:
        """Sets the Ro session ID to an AVP for use in the config file."""

ims_charging: _ims_charging

class _ims_dialog:
    """KSR.ims_dialog, of ims_dialog. Only in 6.0."""

    @staticmethod
    def get_profile_size(profile: str, value: str, size: str, /) -> int:
        """Returns the number of dialogs belonging to a profile. Only in 6.0."""

    @staticmethod
    def is_known_dlg() -> int:
        """This function is currently not supported by the ims_dialog module. Only in 6.0."""

    @staticmethod
    def set_dlg_profile(profile: str, value: str, /) -> int:
        """Inserts the current dialog into a profile. Only in 6.0."""

ims_dialog: _ims_dialog

class _ims_diameter_server:
    """KSR.ims_diameter_server, of ims_diameter_server."""

    @staticmethod
    def diameter_request(peer: str, appid: int, commandcode: int, message: str, /) -> int:
        """This method will send a Diameter Request."""

    @staticmethod
    def diameter_request_async(peer: str, appid: int, commandcode: int, message: str, /) -> int:
        """This method will send a Diameter Request asynchronously."""

ims_diameter_server: _ims_diameter_server

class _ims_qos:
    """KSR.ims_qos, of ims_qos, ims_qos_npn. Only in 6.0."""

    @overload
    @staticmethod
    def Rx_AAR(route_block: str, direction: str, subscription_id: str, subscription_id_type: int, /) -> int:
        """Perform an AAR on Diameter RX interface to request resource authorisation from a Diameter server (typically a ... Only in 6.0."""
    @overload
    @staticmethod
    def Rx_AAR(arg1: str, arg2: str, arg3: str, arg4: int, arg5: str, /) -> int:
        """Only in 6.0."""

    @staticmethod
    def Rx_AAR_Register(route_block: str, domain: str, /) -> int:
        """Perform an AAR on Diameter RX interface to subscribe to signalling status. Only in 6.0."""

ims_qos: _ims_qos

class _influxdbc:
    """KSR.influxdbc, of influxdbc. Only in 6.0."""

    @staticmethod
    def ic_long(arg1: str, arg2: int, /) -> int:
        """Only in 6.0."""

    @staticmethod
    def measure(arg1: str, /) -> int:
        """Only in 6.0."""

    @staticmethod
    def measureend() -> int:
        """Only in 6.0."""

    @staticmethod
    def push() -> int:
        """Only in 6.0."""

influxdbc: _influxdbc

class _ipops:
    """KSR.ipops, of ipops."""

    @staticmethod
    def compare_ips(ip1: str, ip2: str, /) -> int:
        """Returns TRUE if both IP addresses are the same."""

    @staticmethod
    def compare_pure_ips(ip1: str, ip2: str, /) -> int:
        """Returns TRUE if both IP's are the same."""

    @staticmethod
    def detailed_ip_type(ip: str, result: str, /) -> int:
        """Returns the detailed type of the given IP () (see ..."""

    @staticmethod
    def detailed_ipv4_type(ip: str, result: str, /) -> int:
        """Returns the detailed type of the given IP () (see RFC 5735 and RFC 6598)."""

    @staticmethod
    def detailed_ipv6_type(ip: str, result: str, /) -> int:
        """Returns the detailed type of the given IP () (see ..."""

    @staticmethod
    def dns_int_match_ip(hostname: str, ipaddr: str, /) -> int:
        """Returns TRUE if ipaddr is associated by DNS to hostname."""

    @staticmethod
    def dns_query(hostname: str, pvid: str, /) -> int:
        """Store the IP addresses and their type that correspond to hostname in a config variable $dns(pvid=>key)."""

    @staticmethod
    def dns_set_local_ttl(vttl: int, /) -> int:
        """Set local ttl for DNS query results."""

    @staticmethod
    def dns_sys_match_ip(hostname: str, ipaddr: str, /) -> int:
        """Returns TRUE if ipaddr is associated by DNS to hostname."""

    @staticmethod
    def ip_is_in_subnet(arg1: str, arg2: str, /) -> int: ...

    @staticmethod
    def ip_type(ip: str, /) -> int:
        """Returns the type of the given IP."""

    @staticmethod
    def is_in_subnet(ip: str, subnets_list: str, /) -> int:
        """Returns TRUE if the first argument is an IP address within the (CIDR notation) subnets list in the second ..."""

    @staticmethod
    def is_ip(ip: str, /) -> int:
        """Returns TRUE if the argument is a valid IPv4, IPv6 or IPv6 reference."""

    @staticmethod
    def is_ip4(arg1: str, /) -> int: ...

    @staticmethod
    def is_ip6(arg1: str, /) -> int: ...

    @staticmethod
    def is_ip6_reference(arg1: str, /) -> int: ...

    @staticmethod
    def is_ip_rfc1918(ip: str, /) -> int:
        """Returns TRUE if the argument is a private IPv4 according to RFC 1918."""

    @staticmethod
    def is_pure_ip(ip: str, /) -> int:
        """Returns TRUE if the argument is a valid IPv4 or IPv6."""

    @staticmethod
    def naptr_query(domain: str, pvid: str, /) -> int:
        """Queries DNS NAPTR records to resolve a domain name into a list of orders, preferences, flags, services, ..."""

    @staticmethod
    def ptr_query(ip: str, pvid: str, /) -> int:
        """Store the hostname that correspond to an IP address (IPv4 or IPv6) in a pseudo-variable variable ... Only in 6.0."""

    @staticmethod
    def srv_query(srvcname: str, pvid: str, /) -> int:
        """Queries DNS SRV records to resolve a service/protocol name into a list of priorities, weights, ports, and ..."""

ipops: _ipops

class _jansson:
    """KSR.jansson, of jansson."""

    @staticmethod
    def get(arg1: str, arg2: str, arg3: str, /) -> int: ...

jansson: _jansson

class _jsonrpcs:
    """KSR.jsonrpcs, of jsonrpcs."""

    @staticmethod
    def dispatch() -> int: ...

    @staticmethod
    def exec(arg1: str, /) -> int: ...

    @staticmethod
    def execx(arg1: str, /) -> int: ...

    @staticmethod
    def response() -> str | None: ...

jsonrpcs: _jsonrpcs

class _kafka:
    """KSR.kafka, of kafka. Only in 6.0."""

    @staticmethod
    def send(arg1: str, arg2: str, /) -> int:
        """Only in 6.0."""

    @staticmethod
    def send_key(arg1: str, arg2: str, arg3: str, /) -> int:
        """Only in 6.0."""

kafka: _kafka

class _kazoo:
    """KSR.kazoo, of kazoo."""

    @staticmethod
    def kazoo_publish(exchange: str, routing_key: str, json_payload: str, /) -> int:
        """The function publishes a json payload to rabbitmq."""

    @staticmethod
    def kazoo_subscribe(json_description: str, /) -> int:
        """The function takes additional parameters to the subscribe function."""

kazoo: _kazoo

class _keepalive:
    """KSR.keepalive, of keepalive."""

    @staticmethod
    def add_destination(arg1: str, arg2: str, /) -> int: ...

    @staticmethod
    def del_destination(arg1: str, arg2: str, /) -> int: ...

    @staticmethod
    def is_alive(arg1: str, /) -> int: ...

keepalive: _keepalive

class _kex:
    """KSR.kex, of kex."""

    @staticmethod
    def resetdebug() -> int:
        """Reset the local debug log level back to the value of core parameter 'debug'."""

    @staticmethod
    def setdebug(level: int, /) -> int:
        """Set the debug log level per process."""

kex: _kex

class _kx:
    """KSR.kx, of kemix."""

    @staticmethod
    def get_au() -> str | None: ...

    @staticmethod
    def get_body() -> str | None: ...

    @staticmethod
    def get_bodylen() -> int: ...

    @staticmethod
    def get_callid() -> str | None: ...

    @staticmethod
    def get_conid() -> int: ...

    @staticmethod
    def get_cturi() -> str | None: ...

    @staticmethod
    def get_def(arg1: str, /) -> str | None: ...

    @staticmethod
    def get_defn(arg1: str, /) -> int: ...

    @staticmethod
    def get_duri() -> str | None: ...

    @staticmethod
    def get_env(arg1: str, /) -> str | None: ...

    @staticmethod
    def get_envn(arg1: str, /) -> int: ...

    @staticmethod
    def get_fhost() -> str | None: ...

    @staticmethod
    def get_furi() -> str | None: ...

    @staticmethod
    def get_fuser() -> str | None: ...

    @staticmethod
    def get_method() -> str | None: ...

    @staticmethod
    def get_msgbuf() -> str | None: ...

    @staticmethod
    def get_msglen() -> int: ...

    @staticmethod
    def get_msgtype() -> int: ...

    @staticmethod
    def get_nhuri() -> str | None: ...

    @staticmethod
    def get_ouri() -> str | None: ...

    @staticmethod
    def get_proto() -> str | None: ...

    @staticmethod
    def get_protoid() -> int: ...

    @staticmethod
    def get_rcv_sock_name() -> str | None: ...

    @staticmethod
    def get_rcvaddr_sock() -> str | None: ...

    @staticmethod
    def get_rcvadvip() -> str | None: ...

    @staticmethod
    def get_rcvadvport() -> str | None: ...

    @staticmethod
    def get_rcvip() -> str | None: ...

    @staticmethod
    def get_rcvport() -> str | None: ...

    @staticmethod
    def get_rhost() -> str | None: ...

    @staticmethod
    def get_ruri() -> str | None: ...

    @staticmethod
    def get_ruser() -> str | None: ...

    @staticmethod
    def get_send_sock() -> str | None: ...

    @staticmethod
    def get_send_sock_name() -> str | None: ...

    @staticmethod
    def get_send_sock_port() -> int: ...

    @staticmethod
    def get_srcaddr_sock() -> str | None: ...

    @staticmethod
    def get_srcip() -> str | None: ...

    @staticmethod
    def get_srcport() -> str | None: ...

    @staticmethod
    def get_srcuri() -> str | None: ...

    @staticmethod
    def get_status() -> int: ...

    @staticmethod
    def get_thost() -> str | None: ...

    @staticmethod
    def get_timestamp() -> int: ...

    @staticmethod
    def get_turi() -> str | None: ...

    @staticmethod
    def get_tuser() -> str | None: ...

    @staticmethod
    def get_ua() -> str | None: ...

    @staticmethod
    def gete_au() -> str | None: ...

    @staticmethod
    def gete_body() -> str | None: ...

    @staticmethod
    def gete_cturi() -> str | None: ...

    @staticmethod
    def gete_duri() -> str | None: ...

    @staticmethod
    def gete_fhost() -> str | None: ...

    @staticmethod
    def gete_fuser() -> str | None: ...

    @staticmethod
    def gete_rhost() -> str | None: ...

    @staticmethod
    def gete_ruser() -> str | None: ...

    @staticmethod
    def gete_thost() -> str | None: ...

    @staticmethod
    def gete_tuser() -> str | None: ...

    @staticmethod
    def gete_ua() -> str | None: ...

    @staticmethod
    def gets_status() -> str | None: ...

    @staticmethod
    def getw_au() -> str | None: ...

    @staticmethod
    def getw_body() -> str | None: ...

    @staticmethod
    def getw_cturi() -> str | None: ...

    @staticmethod
    def getw_duri() -> str | None: ...

    @staticmethod
    def getw_fhost() -> str | None: ...

    @staticmethod
    def getw_fuser() -> str | None: ...

    @staticmethod
    def getw_rhost() -> str | None: ...

    @staticmethod
    def getw_ruser() -> str | None: ...

    @staticmethod
    def getw_thost() -> str | None: ...

    @staticmethod
    def getw_tuser() -> str | None: ...

    @staticmethod
    def getw_ua() -> str | None: ...

    @staticmethod
    def ifdef(arg1: str, /) -> bool: ...

    @staticmethod
    def ifndef(arg1: str, /) -> bool: ...

kx: _kx

class _lcr:
    """KSR.lcr, of lcr."""

    @staticmethod
    def defunct_gw(period: int, /) -> int:
        """Defuncts gateway denoted by lcr_id_avp and defunct_gw_avp (which were set by previuos next_gw() call) for a ..."""

    @staticmethod
    def from_any_gw() -> int:
        """Checks if request comes from IP address, transport protocol and source port specified for any gateway."""

    @staticmethod
    def from_any_gw_addr(arg1: str, arg2: int, /) -> int: ...

    @staticmethod
    def from_any_gw_addr_port(arg1: str, arg2: int, arg3: int, /) -> int: ...

    @staticmethod
    def from_gw(lcr_id: int, /) -> int:
        """Checks if request comes from IP address, transport protocol and source port specified for a gateway in LCR ..."""

    @staticmethod
    def from_gw_addr(arg1: int, arg2: str, arg3: int, /) -> int: ...

    @staticmethod
    def from_gw_addr_port(arg1: int, arg2: str, arg3: int, arg4: int, /) -> int: ...

    @staticmethod
    def inactivate_gw() -> int:
        """Inactivates the gateway denoted by lcr_id_avp and defunct_gw_avp (which were set by previous next_gw() call)."""

    @staticmethod
    def load_gws(lcr_id: int, /) -> int:
        """Loads attributes of matching gateways to gw_uri_avp (see Overview section)."""

    @staticmethod
    def load_gws_furi(arg1: int, arg2: str, arg3: str, /) -> int: ...

    @staticmethod
    def load_gws_ruser(arg1: int, arg2: str, /) -> int: ...

    @staticmethod
    def next_gw() -> int:
        """Upon first call, fetches attribute values stored in first gw_uri_avp, destroys that AVP, and rewrites ..."""

    @staticmethod
    def to_any_gw() -> int:
        """Checks if in-dialog request goes to IP address and transport protocol of any gateway."""

    @staticmethod
    def to_any_gw_addr(arg1: str, arg2: int, /) -> int: ...

    @staticmethod
    def to_gw(lcr_id: int, /) -> int:
        """Checks if in-dialog request goes to IP address and transport protocol specified for a gateway in LCR instance ..."""

    @staticmethod
    def to_gw_addr(arg1: int, arg2: str, arg3: int, /) -> int: ...

lcr: _lcr

class _ldap:
    """KSR.ldap, of ldap."""

    @staticmethod
    def result_next() -> int: ...

    @staticmethod
    def result_str(arg1: str, arg2: str, /) -> int: ...

    @staticmethod
    def search(arg1: str, /) -> int: ...

ldap: _ldap

class _lwsc:
    """KSR.lwsc, of lwsc."""

    @staticmethod
    def lwsc_notify(wsurl: str, data: str, /) -> int:
        """Send data via websockets to the address specified by wsurl."""

    @staticmethod
    def lwsc_notify_proto(wsurl: str, wsproto: str, data: str, /) -> int:
        """Send data via websockets to the address specified by wsurl, providing websocket protocol."""

    @staticmethod
    def lwsc_request(wsurl: str, data: str, /) -> int:
        """Send data via websockets to the address specified by wsurl, a response is expected and made available in ..."""

    @staticmethod
    def lwsc_request_proto(wsurl: str, wsproto: str, data: str, /) -> int:
        """Send data via websockets to the address specified by wsurl, providing websocket protocol."""

lwsc: _lwsc

class _maxfwd:
    """KSR.maxfwd, of maxfwd."""

    @staticmethod
    def is_maxfwd_lt(max_value: int, /) -> int:
        """Checks if the Max-Forward header value is less than the “max_value” parameter value."""

    @staticmethod
    def process_maxfwd(max_value: int, /) -> int:
        """Same as maxfwd_process(max_value)."""

maxfwd: _maxfwd

class _mediaproxy:
    """KSR.mediaproxy, of mediaproxy."""

    @staticmethod
    def end_media_session() -> int:
        """Will call on the dispatcher to inform the media relay to end the media session."""

    @staticmethod
    def engage_media_proxy() -> int:
        """Trigger the use of MediaProxy for all the dialog requests and replies that have an SDP body."""

    @staticmethod
    def use_media_proxy() -> int:
        """Will make a call to the dispatcher and replace the IPs and ports in the SDP body with the ones returned by ..."""

mediaproxy: _mediaproxy

class _microhttpd:
    """KSR.microhttpd, of microhttpd. Only in 6.0."""

    @staticmethod
    def mhttpd_reply(code: int, reason: str, ctype: str, body: str, /) -> int:
        """Send back a reply with content-type and body. Only in 6.0."""

microhttpd: _microhttpd

class _misc_radius:
    """KSR.misc_radius, of misc_radius."""

    @staticmethod
    def does_uri_exist() -> int: ...

    @staticmethod
    def does_uri_exist_uval(arg1: str, /) -> int: ...

    @staticmethod
    def does_uri_user_exist() -> int: ...

    @staticmethod
    def does_uri_user_exist_uval(arg1: str, /) -> int: ...

    @staticmethod
    def is_user_in(arg1: str, arg2: str, /) -> int: ...

    @staticmethod
    def load_callee_avps(arg1: str, /) -> int: ...

    @staticmethod
    def load_caller_avps(arg1: str, /) -> int: ...

misc_radius: _misc_radius

class _mqtt:
    """KSR.mqtt, of mqtt."""

    @staticmethod
    def publish(arg1: str, arg2: str, arg3: int, /) -> int: ...

    @staticmethod
    def subscribe(arg1: str, arg2: int, /) -> int: ...

    @staticmethod
    def unsubscribe(arg1: str, /) -> int: ...

mqtt: _mqtt

class _mqueue:
    """KSR.mqueue, of mqueue."""

    @staticmethod
    def mq_add(queue: str, key: str, value: str, /) -> int:
        """Add a new item (key, value) in the queue."""

    @staticmethod
    def mq_fetch(queue: str, /) -> int:
        """Take oldest item from queue and fill $mqk(queue) and $mqv(queue) pseudo variables."""

    @staticmethod
    def mq_pv_free(queue: str, /) -> int:
        """Free the item fetched in pseudo-variables."""

    @staticmethod
    def mq_size(queue: str, /) -> int:
        """The number of items; 0 none; -1 there is no such queue."""

    @staticmethod
    def mqk_get(queue: str, /) -> str | None:
        """The key of the item fetched last; None when there is none."""

    @staticmethod
    def mqk_gete(queue: str, /) -> str:
        """The key of the item fetched last; '' when there is none."""

    @staticmethod
    def mqk_getw(queue: str, /) -> str:
        """The key of the item fetched last; '<null>' when there is none."""

    @staticmethod
    def mqv_get(queue: str, /) -> str | None:
        """The value of the item fetched last; None when there is none."""

    @staticmethod
    def mqv_gete(queue: str, /) -> str:
        """The value of the item fetched last; '' when there is none."""

    @staticmethod
    def mqv_getw(queue: str, /) -> str:
        """The value of the item fetched last; '<null>' when there is none."""

mqueue: _mqueue

class _msilo:
    """KSR.msilo, of msilo."""

    @staticmethod
    def mdump() -> int: ...

    @staticmethod
    def mdump_uri(arg1: str, /) -> int: ...

    @staticmethod
    def mstore() -> int: ...

    @staticmethod
    def mstore_addrs(arg1: str, arg2: str, arg3: str, /) -> int:
        """Only in 6.0."""

    @staticmethod
    def mstore_uri(arg1: str, /) -> int: ...

msilo: _msilo

class _msrp:
    """KSR.msrp, of msrp."""

    @staticmethod
    def cmap_lookup() -> int: ...

    @staticmethod
    def cmap_save() -> int: ...

    @staticmethod
    def forward(arg1: str, arg2: str, /) -> int:
        """Only in 6.0."""

    @staticmethod
    def is_reply() -> int: ...

    @staticmethod
    def is_request() -> int: ...

    @staticmethod
    def relay() -> int: ...

    @staticmethod
    def relay_flags(arg1: int, /) -> int: ...

    @staticmethod
    def reply(arg1: str, arg2: str, arg3: str, /) -> int: ...

    @staticmethod
    def reply_flags(arg1: int, /) -> int: ...

    @staticmethod
    def set_dst(arg1: str, arg2: str, /) -> int: ...

msrp: _msrp

class _mtree:
    """KSR.mtree, of mtree."""

    @staticmethod
    def mt_match(mtree: str, pv: str, mode: int, /) -> int:
        """Match 'pv' value against 'mtree'."""

mtree: _mtree

class _nat_traversal:
    """KSR.nat_traversal, of nat_traversal."""

    @staticmethod
    def client_nat_test(type: int, /) -> int:
        """Check if the client is behind NAT."""

    @staticmethod
    def fix_contact() -> int:
        """Will replace the IP and port in the Contact header with the IP and port the SIP message was received from."""

    @staticmethod
    def nat_keepalive() -> int:
        """Trigger keepalive functionality for the source address of the request."""

nat_traversal: _nat_traversal

class _nathelper:
    """KSR.nathelper, of nathelper."""

    @staticmethod
    def add_contact_alias() -> int:
        """Adds an “;alias=ip~port~transport” parameter to the contact URI containing either received ip, port, and ..."""

    @staticmethod
    def add_contact_alias_addr(arg1: str, arg2: str, arg3: str, /) -> int: ...

    @staticmethod
    def add_rcv_param(flag: int, /) -> int:
        """Add a received parameter to the “Contact” header fields (available for all transports) or to the Contact URI ..."""

    @staticmethod
    def fix_nated_contact() -> int:
        """Rewrites the “Contact” header to contain the request's source address:port."""

    @staticmethod
    def fix_nated_register() -> int:
        """The function creates a URI consisting of the source IP, port, and protocol and stores the URI in an ..."""

    @staticmethod
    def fix_nated_sdp(flags: int, /) -> int:
        """Alters the SDP information in order to facilitate NAT traversal."""

    @staticmethod
    def fix_nated_sdp_ip(arg1: int, arg2: str, /) -> int: ...

    @staticmethod
    def handle_ruri_alias() -> int:
        """Checks if the Request URI has an “alias” parameter and if so, removes it and sets the “$du” based on its value."""

    @staticmethod
    def handle_ruri_alias_mode(arg1: int, /) -> int: ...

    @staticmethod
    def is_rfc1918(ip_address: str, /) -> int:
        """Determines if the address in the parameter is an rfc1918 or rfc6598 address."""

    @staticmethod
    def nat_uac_test(flags: int, /) -> int:
        """Tries to guess if client's request originated behind a nat."""

    @staticmethod
    def set_alias_to_pv(target_avp: str, /) -> int:
        """Reads “;alias=ip~port~transport” from Contact header then writes to target pseudo-variable as a sip uri."""

    @staticmethod
    def set_contact_alias() -> int:
        """Adds an “;alias=ip~port~transport” parameter to the contact URI containing the received ip, port, and ..."""

    @staticmethod
    def set_contact_alias_trim() -> int: ...

nathelper: _nathelper

class _nats:
    """KSR.nats, of nats."""

    @staticmethod
    def publish(arg1: str, arg2: str, /) -> int: ...

    @staticmethod
    def publish_request(arg1: str, arg2: str, arg3: str, /) -> int:
        """Only in 6.0."""

nats: _nats

class _ndb_mongodb:
    """KSR.ndb_mongodb, of ndb_mongodb."""

    @staticmethod
    def exec(arg1: str, arg2: str, arg3: str, arg4: str, arg5: str, /) -> int: ...

    @staticmethod
    def exec_simple(arg1: str, arg2: str, arg3: str, arg4: str, arg5: str, /) -> int: ...

    @staticmethod
    def execx(arg1: str, arg2: str, arg3: str, arg4: str, arg5: str, /) -> int: ...

    @staticmethod
    def find(arg1: str, arg2: str, arg3: str, arg4: str, arg5: str, /) -> int: ...

    @staticmethod
    def find_one(arg1: str, arg2: str, arg3: str, arg4: str, arg5: str, /) -> int: ...

    @staticmethod
    def free_reply(arg1: str, /) -> int: ...

    @staticmethod
    def next_reply(arg1: str, /) -> int: ...

ndb_mongodb: _ndb_mongodb

class _ndb_redis:
    """KSR.ndb_redis, of ndb_redis."""

    @staticmethod
    def redis_cmd(srvname: str, command: str, replyid: str, /) -> int:
        """Send a command to REDIS server identified by srvname."""

    @staticmethod
    def redis_cmd_p1(arg1: str, arg2: str, arg3: str, arg4: str, /) -> int: ...

    @staticmethod
    def redis_cmd_p2(arg1: str, arg2: str, arg3: str, arg4: str, arg5: str, /) -> int: ...

    @staticmethod
    def redis_cmd_p3(arg1: str, arg2: str, arg3: str, arg4: str, arg5: str, arg6: str, /) -> int: ...

    @staticmethod
    def redis_free(replyid: str, /) -> int:
        """Frees data in a previous reply from memory."""

ndb_redis: _ndb_redis

class _path:
    """KSR.path, of path."""

    @staticmethod
    def add_path() -> int:
        """This function is used to insert a Path header in the form “Path: <sip:1.2.3.4;lr>”, where “1.2.3.4” is the ..."""

    @staticmethod
    def add_path_received() -> int:
        """This function adds a Path header in the form “Path: <sip:1.2.3.4;received=sip:2.3.4.5:1234;lr>”, setting its ..."""

    @staticmethod
    def add_path_received_user(arg1: str, /) -> int: ...

    @staticmethod
    def add_path_received_user_params(arg1: str, arg2: str, /) -> int: ...

    @staticmethod
    def add_path_user(arg1: str, /) -> int: ...

    @staticmethod
    def add_path_user_params(arg1: str, arg2: str, /) -> int: ...

path: _path

class _pdt:
    """KSR.pdt, of pdt."""

    @staticmethod
    def pd_translate(sdomain: str, rewrite_mode: int, /) -> int:
        """Translate R-URI based on source domain and longest prefix matching."""

    @staticmethod
    def pprefix2domain(arg1: int, arg2: int, /) -> int: ...

pdt: _pdt

class _permissions:
    """KSR.permissions, of permissions."""

    @staticmethod
    def allow_address(group_id: int, ip_addr_pvar: str, port_pvar: int, /) -> int:
        """Returns true if the address and port given as values of pvar arguments belonging to a group given as group_id ..."""

    @staticmethod
    def allow_address_group(addr: str, port: int, /) -> int:
        """Checks if address/port is found in cached address or subnet table in any group."""

    @staticmethod
    def allow_source_address(group_id: int, /) -> int:
        """Equal to “allow_address(group_id, '$si', '$sp')”."""

    @staticmethod
    def allow_source_address_group() -> int:
        """Checks if source address/port is found in cached address or subnet table in any group."""

    @staticmethod
    def allow_trusted() -> int:
        """Checks based either on request's source address and transport protocol or source address and transport ..."""

permissions: _permissions

class _phonenum:
    """KSR.phonenum, of phonenum."""

    @staticmethod
    def match(arg1: str, arg2: str, /) -> int: ...

    @staticmethod
    def match_cn(arg1: str, arg2: str, arg3: str, /) -> int:
        """Only in 6.0."""

phonenum: _phonenum

class _pike:
    """KSR.pike, of pike."""

    @staticmethod
    def pike_check_ip(ipaddr: str, /) -> int:
        """Process the IP address parameter and return false if it was exceeding the blocking limit."""

    @staticmethod
    def pike_check_req() -> int:
        """Process the source IP of the current request and return false if the IP was exceeding the blocking limit."""

pike: _pike

class _pipelimit:
    """KSR.pipelimit, of pipelimit."""

    @staticmethod
    def pl_active(name: str, /) -> int:
        """Check the pipe 'name' was already created."""

    @staticmethod
    def pl_check(name: str, /) -> int:
        """Check the current request against the 'name' pipe."""

    @staticmethod
    def pl_check_limit(arg1: str, arg2: str, arg3: int, /) -> int: ...

    @staticmethod
    def pl_drop() -> int:
        """For the current request, a '503 - Server Unavailable' reply is sent back."""

    @staticmethod
    def pl_drop_range(arg1: int, arg2: int, /) -> int: ...

    @staticmethod
    def pl_drop_retry(arg1: int, /) -> int: ...

pipelimit: _pipelimit

class _posops:
    """KSR.posops, of posops. Only in 6.0."""

    @staticmethod
    def pos_append(idx: int, val: str, /) -> int:
        """Append the value val after the position idx in the SIP message buffer. Only in 6.0."""

    @staticmethod
    def pos_body_end() -> int:
        """Return the position in the message buffer where body ends. Only in 6.0."""

    @staticmethod
    def pos_body_start() -> int:
        """Return the position in the message buffer where body starts. Only in 6.0."""

    @staticmethod
    def pos_find_str(idx: int, val: str, /) -> int:
        """Return the position of the val in message buffer starting at idx. Only in 6.0."""

    @staticmethod
    def pos_findi_str(idx: int, val: str, /) -> int:
        """Return the position of the val (matching case insensitive) in message buffer starting at idx. Only in 6.0."""

    @staticmethod
    def pos_headers_end() -> int:
        """Return the position in the message buffer where headers end. Only in 6.0."""

    @staticmethod
    def pos_headers_start() -> int:
        """Return the position in the message buffer where headers start. Only in 6.0."""

    @staticmethod
    def pos_insert(idx: int, val: str, /) -> int:
        """Insert the value val at the position idx in the SIP message buffer. Only in 6.0."""

    @staticmethod
    def pos_rfind_str(idx: int, val: str, /) -> int:
        """Return the last position of the val in message buffer starting at idx (reverse search). Only in 6.0."""

    @staticmethod
    def pos_rfindi_str(idx: int, val: str, /) -> int:
        """Return the last position of the val (matching case insensitive) in message buffer starting at idx (reverse ... Only in 6.0."""

    @staticmethod
    def pos_rm(idx: int, len: int, /) -> int:
        """Remove len characters starting at the position idx in the SIP message buffer. Only in 6.0."""

    @staticmethod
    def pos_rsearch(idx: int, re: str, /) -> int:
        """Return the position of last match that starts matching the regular expression re in message buffer starting ... Only in 6.0."""

    @staticmethod
    def pos_search(idx: int, re: str, /) -> int:
        """Return the position that starts matching the regular expression re in message buffer starting at idx. Only in 6.0."""

    @staticmethod
    def pos_set_char(idx: int, val: str, /) -> int:
        """Set the char at position index to first character in val. Only in 6.0."""

posops: _posops

class _prefix_route:
    """KSR.prefix_route, of prefix_route."""

    @staticmethod
    def prefix_route(user: str, /) -> int:
        """This function tries to find a route from the user part of the request URI (if no parameter is provided), or ..."""

    @staticmethod
    def prefix_route_uri() -> int: ...

prefix_route: _prefix_route

class _presence:
    """KSR.presence, of presence."""

    @staticmethod
    def handle_publish() -> int:
        """Handles PUBLISH requests by storing and updating published information in memory cache and database, then ..."""

    @staticmethod
    def handle_publish_uri(arg1: str, /) -> int: ...

    @staticmethod
    def handle_subscribe() -> int:
        """The function which handles SUBSCRIBE requests."""

    @staticmethod
    def handle_subscribe_uri(arg1: str, /) -> int: ...

    @staticmethod
    def pres_auth_status(watcher_uri: str, presentity_uri: str, /) -> int:
        """The function checks if watcher URI is authorized to subscribe event 'presence' of presentity URI."""

    @staticmethod
    def pres_has_subscribers(presentity_uri: str, event: str, /) -> int:
        """Allows to check if presentity has any subscribers of event."""

    @staticmethod
    def pres_refresh_watchers(uri: str, event: str, type: int, /) -> int:
        """The function can be used in configuration to trigger notifies to watchers if a change in watchers ..."""

    @staticmethod
    def pres_refresh_watchers_file(arg1: str, arg2: str, arg3: int, arg4: str, arg5: str, /) -> int: ...

    @staticmethod
    def pres_update_watchers(uri: str, event: str, /) -> int:
        """The function can be used in configuration to trigger updates to watchers status if a change in watchers ..."""

presence: _presence

class _presence_xml:
    """KSR.presence_xml, of presence_xml."""

    @staticmethod
    def pres_check_activities(presentity_uri: str, activity: str, /) -> int:
        """Checks whether a /presence/person/activities/activity node exists in the presentity for presentity_uri."""

    @staticmethod
    def pres_check_basic(presentity_uri: str, status: str, /) -> int:
        """Checks the /presence/tuple/status/basic nodes in the presentity for presentity_uri against the value in status."""

presence_xml: _presence_xml

class _pua:
    """KSR.pua, of pua, pua_usrloc."""

    @staticmethod
    def pua_set_publish() -> int:
        """The function is used to mark REGISTER requests that have to issue a PUBLISH."""

    @staticmethod
    def pua_update_contact() -> int:
        """The remote target can be updated by the Contact of a subsequent in dialog request."""

pua: _pua

class _pua_json:
    """KSR.pua_json, of pua_json."""

    @staticmethod
    def publish(arg1: str, /) -> int: ...

pua_json: _pua_json

class _pv:
    """KSR.pv, of the core."""

    @overload
    @staticmethod
    def get(pvname: _Text, /) -> str:
        """The value of a variable, None for null; an int when the variable is a number."""
    @overload
    @staticmethod
    def get(pvname: _Number, /) -> int:
        """The value of a variable, None for null; an int when the variable is a number."""
    @overload
    @staticmethod
    def get(pvname: _TextOrNull, /) -> str | None:
        """The value of a variable, None for null; an int when the variable is a number."""
    @overload
    @staticmethod
    def get(pvname: _NumberOrNull, /) -> int | None:
        """The value of a variable, None for null; an int when the variable is a number."""
    @overload
    @staticmethod
    def get(pvname: str, /) -> str | Any | None:
        """The value of a variable, None for null; an int when the variable is a number."""

    @overload
    @staticmethod
    def gete(pvname: _Text, /) -> str:
        """The value of a variable, '' for null; an int when the variable is a number."""
    @overload
    @staticmethod
    def gete(pvname: _Number, /) -> int:
        """The value of a variable, '' for null; an int when the variable is a number."""
    @overload
    @staticmethod
    def gete(pvname: _TextOrNull, /) -> str:
        """The value of a variable, '' for null; an int when the variable is a number."""
    @overload
    @staticmethod
    def gete(pvname: _NumberOrNull, /) -> int | str:
        """The value of a variable, '' for null; an int when the variable is a number."""
    @overload
    @staticmethod
    def gete(pvname: str, /) -> str | Any:
        """The value of a variable, '' for null; an int when the variable is a number."""

    @staticmethod
    def geti(pvname: str, /) -> int:
        """The value of a variable that is a number; 0 for null."""

    @staticmethod
    def getl(arg1: str, /) -> int:
        """Only in 6.0."""

    @overload
    @staticmethod
    def getvn(pvname: _Text, default: int, /) -> str:
        """The value of a variable, or the number when it is null."""
    @overload
    @staticmethod
    def getvn(pvname: _Number, default: int, /) -> int:
        """The value of a variable, or the number when it is null."""
    @overload
    @staticmethod
    def getvn(pvname: _TextOrNull, default: int, /) -> str | int:
        """The value of a variable, or the number when it is null."""
    @overload
    @staticmethod
    def getvn(pvname: _NumberOrNull, default: int, /) -> int:
        """The value of a variable, or the number when it is null."""
    @overload
    @staticmethod
    def getvn(pvname: str, default: int, /) -> str | Any | int:
        """The value of a variable, or the number when it is null."""

    @overload
    @staticmethod
    def getvs(pvname: _Text, default: str, /) -> str:
        """The value of a variable, or the text when it is null."""
    @overload
    @staticmethod
    def getvs(pvname: _Number, default: str, /) -> int:
        """The value of a variable, or the text when it is null."""
    @overload
    @staticmethod
    def getvs(pvname: _TextOrNull, default: str, /) -> str:
        """The value of a variable, or the text when it is null."""
    @overload
    @staticmethod
    def getvs(pvname: _NumberOrNull, default: str, /) -> int | str:
        """The value of a variable, or the text when it is null."""
    @overload
    @staticmethod
    def getvs(pvname: str, default: str, /) -> str | Any:
        """The value of a variable, or the text when it is null."""

    @overload
    @staticmethod
    def getw(pvname: _Text, /) -> str:
        """The value of a variable, '<null>' for null; an int when the variable is a number."""
    @overload
    @staticmethod
    def getw(pvname: _Number, /) -> int:
        """The value of a variable, '<null>' for null; an int when the variable is a number."""
    @overload
    @staticmethod
    def getw(pvname: _TextOrNull, /) -> str:
        """The value of a variable, '<null>' for null; an int when the variable is a number."""
    @overload
    @staticmethod
    def getw(pvname: _NumberOrNull, /) -> int | str:
        """The value of a variable, '<null>' for null; an int when the variable is a number."""
    @overload
    @staticmethod
    def getw(pvname: str, /) -> str | Any:
        """The value of a variable, '<null>' for null; an int when the variable is a number."""

    @staticmethod
    def is_null(pvname: str, /) -> bool:
        """Whether a variable is null."""

    @staticmethod
    def seti(pvname: str, value: int, /) -> bool:
        """Set a variable to a number."""

    @staticmethod
    def setl(arg1: str, arg2: int, /) -> bool:
        """Only in 6.0."""

    @staticmethod
    def sets(pvname: str, value: str, /) -> bool:
        """Set a variable to a text."""

    @staticmethod
    def unset(pvname: str, /) -> bool:
        """Set a variable to null."""

pv: _pv

class _pv_headers:
    """KSR.pv_headers, of pv_headers."""

    @staticmethod
    def pvh_append_header(hname: str, hvalue: str, /) -> int:
        """Appends a new header “hname” with the value “hvalue” into the XAVP."""

    @staticmethod
    def pvh_apply_headers() -> int:
        """Applies the current XAVP headers state to the real headers."""

    @staticmethod
    def pvh_check_header(hname: str, /) -> int:
        """Checks if the header “hname” already exists in the XAVP."""

    @staticmethod
    def pvh_collect_headers() -> int:
        """Collects all headers from the message into the XAVP."""

    @staticmethod
    def pvh_header_param_exists(arg1: str, arg2: str, /) -> int: ...

    @staticmethod
    def pvh_modify_header(hname: str, hvalue: str, idx: int, /) -> int:
        """Modifies an existing header in the XAVP “hname” with the value “hvalue” into the XAVP."""

    @staticmethod
    def pvh_remove_header(hname: str, idx: int, /) -> int:
        """Removes an existing header “hname” from the XAVP."""

    @staticmethod
    def pvh_remove_header_param(hname: str, hparameter: str, /) -> int:
        """Removes an existing parameter “hparameter” in the header “hname” from the XAVP."""

    @staticmethod
    def pvh_reset_headers() -> int:
        """Collects all headers from the message into the XAVP."""

pv_headers: _pv_headers

class _pvx:
    """KSR.pvx, of pv."""

    @staticmethod
    def avp_get(arg1: str, /) -> str | None: ...

    @staticmethod
    def avp_gete(arg1: str, /) -> str: ...

    @staticmethod
    def avp_getw(arg1: str, /) -> str: ...

    @staticmethod
    def avp_is_null(arg1: str, /) -> int: ...

    @staticmethod
    def avp_rm(arg1: str, /) -> int: ...

    @staticmethod
    def avp_seti(arg1: str, arg2: int, /) -> int: ...

    @staticmethod
    def avp_sets(arg1: str, arg2: str, /) -> int: ...

    @staticmethod
    def evalx(arg1: str, arg2: str, /) -> int: ...

    @staticmethod
    def pv_var_to_xavp(varname: str, xname: str, /) -> int:
        """Copy the script variable value into an xavp."""

    @staticmethod
    def pv_xavi_print() -> int:
        """Print all XAVIs to the syslog using INFO log level."""

    @staticmethod
    def pv_xavp_print() -> int:
        """Print all XAVPs to the syslog using INFO log level."""

    @staticmethod
    def pv_xavp_to_var(xname: str, /) -> int:
        """Copy xavp values into vars."""

    @staticmethod
    def pv_xavu_print() -> int:
        """Print all XAVUs to the syslog using INFO log level."""

    @staticmethod
    def sbranch_append() -> int:
        """Use the attributes from static branch ($sbranch(key) variable) to append a new branch to destination set."""

    @staticmethod
    def sbranch_reset() -> int:
        """Reset the content of static branch ($sbranch(key) variable."""

    @staticmethod
    def sbranch_set_ruri() -> int:
        """Use the attributes from static branch ($sbranch(key) variable) to set request URI and the other fields of the ..."""

    @staticmethod
    def shv_get(arg1: str, /) -> str | None: ...

    @staticmethod
    def shv_seti(arg1: str, arg2: int, /) -> int: ...

    @staticmethod
    def shv_sets(arg1: str, arg2: str, /) -> int: ...

    @staticmethod
    def shvinc_get(arg1: str, /) -> str | None:
        """Only in 6.0."""

    @staticmethod
    def var_get(arg1: str, /) -> str | None: ...

    @staticmethod
    def var_seti(arg1: str, arg2: int, /) -> int: ...

    @staticmethod
    def var_sets(arg1: str, arg2: str, /) -> int: ...

    @staticmethod
    def xavi_child_get(arg1: str, arg2: str, /) -> str | None: ...

    @staticmethod
    def xavi_child_gete(arg1: str, arg2: str, /) -> str: ...

    @staticmethod
    def xavi_child_getw(arg1: str, arg2: str, /) -> str: ...

    @staticmethod
    def xavi_child_is_null(arg1: str, arg2: str, /) -> int: ...

    @staticmethod
    def xavi_child_rm(rname: str, cname: str, /) -> int:
        """Remove the value of $xavi(rname=>cname)."""

    @staticmethod
    def xavi_child_seti(rname: str, cname: str, ival: int, /) -> int:
        """Set the value of $xavi(rname=>cname) to integer value ival."""

    @staticmethod
    def xavi_child_sets(rname: str, cname: str, sval: str, /) -> int:
        """Set the value of $xavi(rname=>cname) to string value sval."""

    @staticmethod
    def xavi_get(arg1: str, /) -> str | None: ...

    @staticmethod
    def xavi_get_keys(arg1: str, arg2: int, /) -> str | None: ...

    @staticmethod
    def xavi_getd(arg1: str, /) -> str | None: ...

    @staticmethod
    def xavi_getd_p1(arg1: str, arg2: int, /) -> str | None: ...

    @staticmethod
    def xavi_gete(arg1: str, /) -> str: ...

    @staticmethod
    def xavi_getw(arg1: str, /) -> str: ...

    @staticmethod
    def xavi_is_null(arg1: str, /) -> int: ...

    @staticmethod
    def xavi_rm(rname: str, /) -> int:
        """Remove the value of $xavi(rname)."""

    @staticmethod
    def xavi_seti(arg1: str, arg2: int, /) -> int: ...

    @staticmethod
    def xavi_sets(arg1: str, arg2: str, /) -> int: ...

    @staticmethod
    def xavp_child_get(arg1: str, arg2: str, /) -> str | None: ...

    @staticmethod
    def xavp_child_gete(arg1: str, arg2: str, /) -> str: ...

    @staticmethod
    def xavp_child_getw(arg1: str, arg2: str, /) -> str: ...

    @staticmethod
    def xavp_child_is_null(arg1: str, arg2: str, /) -> int: ...

    @staticmethod
    def xavp_child_rm(rname: str, cname: str, /) -> int:
        """Remove the value of $xavp(rname=>cname)."""

    @staticmethod
    def xavp_child_seti(rname: str, cname: str, ival: int, /) -> int:
        """Set the value of $xavp(rname=>cname) to integer value ival."""

    @staticmethod
    def xavp_child_sets(rname: str, cname: str, sval: str, /) -> int:
        """Set the value of $xavp(rname=>cname) to string value sval."""

    @staticmethod
    def xavp_copy(source_name: str, source_index: int, destination_name: str, /) -> int:
        """Copy and append one XAVP."""

    @staticmethod
    def xavp_copy_dst(arg1: str, arg2: int, arg3: str, arg4: int, /) -> int: ...

    @staticmethod
    def xavp_get(arg1: str, /) -> str | None: ...

    @staticmethod
    def xavp_get_keys(arg1: str, arg2: int, /) -> str | None: ...

    @staticmethod
    def xavp_getd(arg1: str, /) -> str | None: ...

    @staticmethod
    def xavp_getd_p1(arg1: str, arg2: int, /) -> str | None: ...

    @staticmethod
    def xavp_gete(arg1: str, /) -> str: ...

    @staticmethod
    def xavp_getw(arg1: str, /) -> str: ...

    @staticmethod
    def xavp_is_null(arg1: str, /) -> int: ...

    @staticmethod
    def xavp_lshift(xname: str, idx: int, /) -> int:
        """Left shift with rotation of the xavps with name xname so that the one at the index idx becomes the first and ... Only in 6.0."""

    @staticmethod
    def xavp_params_explode(sparams: str, xname: str, /) -> int:
        """Convert a parameters string in xavp attributes."""

    @staticmethod
    def xavp_params_implode(xname: str, pvname: str, /) -> int:
        """Serialize the subfields in an XAVP to a parameters string format."""

    @staticmethod
    def xavp_params_implode_qval(xname: str, pvname: str, /) -> int:
        """Serialize the subfields in an XAVP to a parameters string format, enclosing string values in double quotes. Only in 6.0."""

    @staticmethod
    def xavp_push_dst(xname: str, /) -> int:
        """Set destination fields from XAVP attributes. Only in 6.0."""

    @staticmethod
    def xavp_rm(rname: str, /) -> int:
        """Remove the value of $xavp(rname)."""

    @staticmethod
    def xavp_seti(arg1: str, arg2: int, /) -> int: ...

    @staticmethod
    def xavp_sets(arg1: str, arg2: str, /) -> int: ...

    @staticmethod
    def xavp_slist_explode(slist: str, sep: str, mode: str, xname: str, /) -> int:
        """Breaks a string list in tokens by separators and stores them in XAVPs."""

    @staticmethod
    def xavp_xparams_explode(sparams: str, sep: str, xname: str, /) -> int:
        """Convert a parameters string in xavp attributes. Only in 6.0."""

    @staticmethod
    def xavu_child_get(arg1: str, arg2: str, /) -> str | None: ...

    @staticmethod
    def xavu_child_gete(arg1: str, arg2: str, /) -> str: ...

    @staticmethod
    def xavu_child_getw(arg1: str, arg2: str, /) -> str: ...

    @staticmethod
    def xavu_child_is_null(arg1: str, arg2: str, /) -> int: ...

    @staticmethod
    def xavu_child_rm(arg1: str, arg2: str, /) -> int: ...

    @staticmethod
    def xavu_child_seti(arg1: str, arg2: str, arg3: int, /) -> int: ...

    @staticmethod
    def xavu_child_sets(arg1: str, arg2: str, arg3: str, /) -> int: ...

    @staticmethod
    def xavu_get(arg1: str, /) -> str | None: ...

    @staticmethod
    def xavu_gete(arg1: str, /) -> str: ...

    @staticmethod
    def xavu_getw(arg1: str, /) -> str: ...

    @staticmethod
    def xavu_is_null(arg1: str, /) -> int: ...

    @staticmethod
    def xavu_params_explode(sparams: str, xname: str, /) -> int:
        """Convert a parameters string in xavu attributes."""

    @staticmethod
    def xavu_params_implode(xname: str, pvname: str, /) -> int:
        """Serialize the subfields in an XAUP to a parameters string format."""

    @staticmethod
    def xavu_rm(arg1: str, /) -> int: ...

    @staticmethod
    def xavu_seti(arg1: str, arg2: int, /) -> int: ...

    @staticmethod
    def xavu_sets(arg1: str, arg2: str, /) -> int: ...

pvx: _pvx

class _rabbitmq:
    """KSR.rabbitmq, of rabbitmq."""

    @staticmethod
    def publish(arg1: str, arg2: str, arg3: str, arg4: str, /) -> int: ...

    @staticmethod
    def publish_consume(arg1: str, arg2: str, arg3: str, arg4: str, arg5: str, /) -> int: ...

rabbitmq: _rabbitmq

class _ratelimit:
    """KSR.ratelimit, of ratelimit."""

    @staticmethod
    def rl_check() -> int:
        """Check the current request against the matched ratelimit algorithm."""

    @staticmethod
    def rl_check_pipe(pipe_no: int, /) -> int:
        """Check the current request against the matched ratelimit algorithm of the pipe provided as parameter."""

ratelimit: _ratelimit

class _regex:
    """KSR.regex, of regex."""

    @staticmethod
    def pcre_match(string: str, pcre_regex: str, /) -> int:
        """Matches the given string parameter against the regular expression pcre_regex, which is compiled in runtime ..."""

    @staticmethod
    def pcre_match_group(string: str, group: int, /) -> int:
        """Tries to match the given string against a specific group in the text file (see Section 6.1, “File format”)."""

regex: _regex

class _registrar:
    """KSR.registrar, of registrar."""

    @staticmethod
    def add_sock_hdr(hdr_name: str, /) -> int:
        """Adds a new header to the current REGISTER request with “hdr_name” which contains the description of the ..."""

    @staticmethod
    def lookup(domain: str, /) -> int:
        """The lookup function extracts username and/or domain from Request-URI and tries to find all contacts for the ..."""

    @staticmethod
    def lookup_branches(domain: str, /) -> int:
        """The function performs lookup(domain) on r-uri and additional branches (only branches that have no other ..."""

    @staticmethod
    def lookup_to_dset(domain: str, uri: str, /) -> int:
        """Similar to lookup(...), but push the location contacts to destination set, without changing the R-URI (first ..."""

    @staticmethod
    def lookup_uri(arg1: str, arg2: str, /) -> int: ...

    @staticmethod
    def lookup_xavp(ultable: str, uri: str, rxname: str, cxname: str, /) -> int:
        """Similar to lookup(...), but store the location record attributes in XAVPs. Only in 6.0."""

    @staticmethod
    def reg_fetch_contacts(domain: str, uri: str, profile: str, /) -> int:
        """The function fetches the contacts for 'uri' from table 'domain' to pseudo-variable $ulc(profile)."""

    @staticmethod
    def reg_free_contacts(profile: str, /) -> int:
        """The function frees the contacts from pseudo-variable $ulc(profile)."""

    @staticmethod
    def reg_from_user(ultable: str, uri: str, mode: int, /) -> int:
        """The function returns true if the SIP message comes from the user identified by 'uri' parameter by matching ... Only in 6.0."""

    @staticmethod
    def reg_send_reply() -> int:
        """The function sends the SIP reply that is normally sent by save(...), but that was skipped due to flag 0x2."""

    @staticmethod
    def registered(domain: str, /) -> int:
        """The function returns true if the AOR in the URI is registered, false otherwise."""

    @staticmethod
    def registered_action(arg1: str, arg2: str, arg3: int, arg4: int, /) -> int: ...

    @staticmethod
    def registered_flags(arg1: str, arg2: str, arg3: int, /) -> int: ...

    @staticmethod
    def registered_uri(arg1: str, arg2: str, /) -> int: ...

    @staticmethod
    def save(domain: str, flags: int, /) -> int:
        """The function processes a REGISTER message."""

    @staticmethod
    def save_uri(arg1: str, arg2: int, arg3: str, /) -> int: ...

    @staticmethod
    def set_q_override(arg1: str, /) -> int: ...

    @staticmethod
    def ulc_cget(arg1: str, arg2: str, arg3: int, /) -> str | None:
        """Only in 6.0."""

    @staticmethod
    def ulc_rget(arg1: str, arg2: str, /) -> str | None:
        """Only in 6.0."""

    @staticmethod
    def unregister(domain: str, uri: str, /) -> int:
        """The function removes contacts associated with 'uri' from the location database."""

    @staticmethod
    def unregister_ruid(arg1: str, arg2: str, arg3: str, /) -> int: ...

registrar: _registrar

class _rls:
    """KSR.rls, of rls."""

    @staticmethod
    def handle_notify() -> int: ...

    @staticmethod
    def handle_subscribe() -> int: ...

    @staticmethod
    def handle_subscribe_uri(arg1: str, /) -> int: ...

    @staticmethod
    def update_subs(arg1: str, arg2: str, /) -> int: ...

rls: _rls

class _rr:
    """KSR.rr, of rr."""

    @staticmethod
    def add_rr_param(param: str, /) -> int:
        """Adds a parameter to the Record-Route URI (param must be in “;name=value” format."""

    @staticmethod
    def check_route_param(re: str, /) -> int:
        """The function checks if the URI parameters of the local Route header (corresponding to the local server) ..."""

    @staticmethod
    def is_direction(dir: str, /) -> int:
        """The function checks the flow direction of in-dialog requests."""

    @staticmethod
    def loose_route() -> int:
        """The function performs routing of SIP requests which contain a route set."""

    @staticmethod
    def loose_route_mode(vmode: int, /) -> int:
        """The function is similar to `loose_route()`, but it does only loose routing processing if vmode==1, skipping ..."""

    @staticmethod
    def loose_route_preloaded() -> int:
        """The function is similar to `loose_route()`, but it returns 1 (true) when the Route header is preloaded (is in ..."""

    @staticmethod
    def next_hop_route() -> int: ...

    @staticmethod
    def record_route() -> int:
        """The function adds a new Record-Route header field."""

    @staticmethod
    def record_route_advertised_address(address: str, /) -> int:
        """The function adds a new Record-Route header field using the address given."""

    @staticmethod
    def record_route_params(arg1: str, /) -> int: ...

    @staticmethod
    def record_route_preset(string: str, string2: str, /) -> int:
        """This function will put the string params into Record-Route, avoid to use it unless you know what you are doing."""

    @staticmethod
    def record_route_preset_one(arg1: str, /) -> int: ...

    @staticmethod
    def remove_record_route() -> int:
        """The function removes the internal lumps added by record_route() functions."""

rr: _rr

class _rtjson:
    """KSR.rtjson, of rtjson."""

    @staticmethod
    def init_routes(arg1: str, /) -> int: ...

    @staticmethod
    def next_route() -> int: ...

    @staticmethod
    def push_routes() -> int: ...

    @staticmethod
    def update_branch() -> int: ...

rtjson: _rtjson

class _rtpengine:
    """KSR.rtpengine, of rtpengine."""

    @staticmethod
    def block_dtmf(flags: str, /) -> int:
        """This function will instruct the RTP proxy to start blocking DTMF event packets (RFC 4733)."""

    @staticmethod
    def block_dtmf0() -> int: ...

    @staticmethod
    def block_dtmf2(arg1: str, arg2: str, /) -> int:
        """Only in 6.0."""

    @staticmethod
    def block_media(flags: str, /) -> int:
        """Analogous to “block_dtmf”, but blocks media RTP packets instead of DTMF events."""

    @staticmethod
    def block_media0() -> int: ...

    @staticmethod
    def block_media2(arg1: str, arg2: str, /) -> int:
        """Only in 6.0."""

    @staticmethod
    def play_media(flags: str, /) -> int:
        """Instructs rtpengine to play a prerecorded announcement to the selected call participant, either from a local ..."""

    @staticmethod
    def play_media2(arg1: str, arg2: str, /) -> int:
        """Only in 6.0."""

    @staticmethod
    def rtpengine_answer(flags: str, /) -> int:
        """Rewrites SDP body to ensure that media is passed through an RTP proxy."""

    @staticmethod
    def rtpengine_answer0() -> int: ...

    @staticmethod
    def rtpengine_answer2(arg1: str, arg2: str, /) -> int:
        """Only in 6.0."""

    @staticmethod
    def rtpengine_delete(flags: str, /) -> int:
        """Tears down the RTP proxy session for the current call."""

    @staticmethod
    def rtpengine_delete0() -> int: ...

    @staticmethod
    def rtpengine_delete2(arg1: str, arg2: str, /) -> int:
        """Only in 6.0."""

    @staticmethod
    def rtpengine_manage(flags: str, /) -> int:
        """Manage the RTPEngine session - it combines the functionality of rtpengine_offer(), rtpengine_answer() and ..."""

    @staticmethod
    def rtpengine_manage0() -> int: ...

    @staticmethod
    def rtpengine_manage2(arg1: str, arg2: str, /) -> int:
        """Only in 6.0."""

    @staticmethod
    def rtpengine_offer(flags: str, /) -> int:
        """Rewrites SDP body to ensure that media is passed through an RTP proxy."""

    @staticmethod
    def rtpengine_offer0() -> int: ...

    @staticmethod
    def rtpengine_offer2(arg1: str, arg2: str, /) -> int:
        """Only in 6.0."""

    @staticmethod
    def rtpengine_query(flags: str, /) -> int:
        """Queries the RTP proxy about the current status and statistics of a running call."""

    @staticmethod
    def rtpengine_query0() -> int: ...

    @staticmethod
    def rtpengine_query2(arg1: str, arg2: str, /) -> int:
        """Only in 6.0."""

    @staticmethod
    def rtpengine_query_v(fmt: str, var: str, /) -> int:
        """Queries the RTP proxy about the current status and statistics of a running call, converts the response to ..."""

    @staticmethod
    def set_rtpengine_set(setid: int, /) -> int:
        """Sets the ID of the RTP proxy set to be used for the next rtpengine_delete(), rtpengine_offer(), ..."""

    @staticmethod
    def set_rtpengine_set2(arg1: int, arg2: int, /) -> int: ...

    @staticmethod
    def silence_media(flags: str, /) -> int:
        """Identical to “block_media” except that media RTP packets are not simply blocked, but instead have their audio ..."""

    @staticmethod
    def silence_media0() -> int: ...

    @staticmethod
    def silence_media2(arg1: str, arg2: str, /) -> int:
        """Only in 6.0."""

    @staticmethod
    def start_recording() -> int:
        """This function will send a signal to the RTP relay to record the RTP stream flowing through it."""

    @staticmethod
    def stop_media(flags: str, /) -> int:
        """Stops the playback of media previously started by “play_media”."""

    @staticmethod
    def stop_media0() -> int: ...

    @staticmethod
    def stop_media2(arg1: str, arg2: str, /) -> int:
        """Only in 6.0."""

    @staticmethod
    def stop_recording() -> int:
        """This function will send a signal to the RTP relay to stop recording the RTP stream flowing through it."""

    @staticmethod
    def unblock_dtmf(flags: str, /) -> int:
        """Reverses the effects of a previously issued block_dtmf call."""

    @staticmethod
    def unblock_dtmf0() -> int: ...

    @staticmethod
    def unblock_dtmf2(arg1: str, arg2: str, /) -> int:
        """Only in 6.0."""

    @staticmethod
    def unblock_media(flags: str, /) -> int:
        """Analogous to “unblock_dtmf”, but applies to media RTP packets instead of DTMF events."""

    @staticmethod
    def unblock_media0() -> int: ...

    @staticmethod
    def unblock_media2(arg1: str, arg2: str, /) -> int:
        """Only in 6.0."""

    @staticmethod
    def unsilence_media(flags: str, /) -> int:
        """Identical to “unblock_media” except that it's the counterpart to “silence_media”."""

    @staticmethod
    def unsilence_media0() -> int: ...

    @staticmethod
    def unsilence_media2(arg1: str, arg2: str, /) -> int:
        """Only in 6.0."""

rtpengine: _rtpengine

class _rtpproxy:
    """KSR.rtpproxy, of rtpproxy."""

    @staticmethod
    def rtpproxy_answer(flags: str, /) -> int:
        """Rewrites SDP body to ensure that media is passed through an RTP proxy."""

    @staticmethod
    def rtpproxy_answer0() -> int: ...

    @staticmethod
    def rtpproxy_answer_ip(arg1: str, arg2: str, /) -> int: ...

    @staticmethod
    def rtpproxy_destroy(flags: str, /) -> int:
        """Tears down the RTPProxy session for the current call."""

    @staticmethod
    def rtpproxy_destroy0() -> int: ...

    @staticmethod
    def rtpproxy_manage(flags: str, /) -> int:
        """Manage the RTPProxy session - it combines the functionality of rtpproxy_offer(), rtpproxy_answer() and ..."""

    @staticmethod
    def rtpproxy_manage0() -> int: ...

    @staticmethod
    def rtpproxy_manage_ip(arg1: str, arg2: str, /) -> int: ...

    @staticmethod
    def rtpproxy_offer(flags: str, /) -> int:
        """Rewrites SDP body to ensure that media is passed through an RTP proxy."""

    @staticmethod
    def rtpproxy_offer0() -> int: ...

    @staticmethod
    def rtpproxy_offer_ip(arg1: str, arg2: str, /) -> int: ...

    @staticmethod
    def rtpproxy_stop_stream2uac() -> int:
        """Stop streaming of announcement/prompt/MOH started previously by the respective rtpproxy_stream2xxx."""

    @staticmethod
    def rtpproxy_stop_stream2uas() -> int:
        """See function rtpproxy_stop_stream2uac()."""

    @staticmethod
    def rtpproxy_stream2uac(prompt_name: str, count: int, /) -> int:
        """Instruct the RTPproxy to stream prompt/announcement pre-encoded with the makeann command from the RTPproxy ..."""

    @staticmethod
    def rtpproxy_stream2uas(prompt_name: str, count: int, /) -> int:
        """See function rtpproxy_stream2uac(prompt_name, count)."""

    @staticmethod
    def set_rtpproxy_set(arg1: int, /) -> int: ...

    @staticmethod
    def start_recording() -> int:
        """This function will send a signal to the RTP-Proxy to record the RTP stream on the RTP-Proxy."""

rtpproxy: _rtpproxy

class _sanity:
    """KSR.sanity, of sanity."""

    @staticmethod
    def sanity_check(msg_checks: int, uri_checks: int, /) -> int:
        """This function makes a row of sanity checks over the given SIP request."""

    @staticmethod
    def sanity_check_defaults() -> int: ...

    @staticmethod
    def sanity_reply() -> int:
        """Send a SIP reply using the code and reason text set internally by the module when detecting errors while ..."""

sanity: _sanity

class _sca:
    """KSR.sca, of sca."""

    @staticmethod
    def call_info_update(arg1: int, arg2: str, arg3: str, /) -> int: ...

    @staticmethod
    def call_info_update_default() -> int: ...

    @staticmethod
    def call_info_update_mask(arg1: int, /) -> int: ...

    @staticmethod
    def call_info_update_turi(arg1: int, arg2: str, /) -> int: ...

    @staticmethod
    def handle_subscribe() -> int: ...

sca: _sca

class _sdpops:
    """KSR.sdpops, of sdpops."""

    @staticmethod
    def keep_codecs_by_id(arg1: str, arg2: str, /) -> int: ...

    @staticmethod
    def keep_codecs_by_name(arg1: str, arg2: str, /) -> int: ...

    @staticmethod
    def remove_codecs_by_id(arg1: str, arg2: str, /) -> int: ...

    @staticmethod
    def remove_codecs_by_name(arg1: str, arg2: str, /) -> int: ...

    @staticmethod
    def remove_line_by_prefix(arg1: str, arg2: str, /) -> int: ...

    @staticmethod
    def remove_media(arg1: str, /) -> int: ...

    @staticmethod
    def sdp_content() -> int:
        """Return true if the SIP message has SDP body or a SDP part in body."""

    @staticmethod
    def sdp_content_flags(arg1: int, /) -> int: ...

    @staticmethod
    def sdp_get(avpvar: str, /) -> int:
        """Store the SDP part of message body in an AVP."""

    @staticmethod
    def sdp_get_line_startswith(avpvar: str, string: str, /) -> int:
        """Store the search part of SDP body message with line beginning with 'string' in an AVP."""

    @staticmethod
    def sdp_iterator_append(iname: str, text: str, /) -> int:
        """Add text after the line at the current iterator possition. Only in 6.0."""

    @staticmethod
    def sdp_iterator_end(iname: str, /) -> int:
        """Close the iterator identified by iname parameter. Only in 6.0."""

    @staticmethod
    def sdp_iterator_insert(iname: str, text: str, /) -> int:
        """Add text before the line at the current iterator possition. Only in 6.0."""

    @staticmethod
    def sdp_iterator_next(iname: str, /) -> int:
        """Move the iterator to the next line in the body. Only in 6.0."""

    @staticmethod
    def sdp_iterator_rm(iname: str, /) -> int:
        """Remove the body line at the current iterator position. Only in 6.0."""

    @staticmethod
    def sdp_iterator_start(iname: str, /) -> int:
        """Start an iterator for lines in the body of the current SIP message. Only in 6.0."""

    @staticmethod
    def sdp_iterator_value(arg1: str, /) -> str | None:
        """Only in 6.0."""

    @staticmethod
    def sdp_print(level: int, /) -> int:
        """Print the SDP internal structure to log 'level'."""

    @staticmethod
    def sdp_transport(pv: str, /) -> int:
        """Assigns common media transport (if any) of 'm' lines to pv argument."""

    @staticmethod
    def sdp_with_active_media(type: str, /) -> int:
        """Return true if the SDP has 'media=type ...' line and the media is active."""

    @staticmethod
    def sdp_with_codecs_by_id(list: str, /) -> int:
        """Returns true if any of the codecs provided in the parameter 'list' from all media streams is found in SDP ..."""

    @staticmethod
    def sdp_with_codecs_by_name(list: str, /) -> int:
        """Returns true if any of the codecs provided in the parameter 'list' from all media streams is found in SDP ..."""

    @staticmethod
    def sdp_with_ice() -> int:
        """Return true if the SIP message has SDP body that contains ICE candidate attribute(s)."""

    @staticmethod
    def sdp_with_media(type: str, /) -> int:
        """Return true if the SDP has 'media=type ...' line."""

    @staticmethod
    def sdp_with_transport(type: str, /) -> int:
        """Return true if the SDP has 'media=media port type ...' line."""

    @staticmethod
    def sdp_with_transport_like(type: str, /) -> int:
        """Returns true if the SDP has 'media=media port type ...' line, where type contains the string in the parameter."""

sdpops: _sdpops

class _secfilter:
    """KSR.secfilter, of secfilter. Only in 6.0."""

    @staticmethod
    def secf_check_contact_hdr() -> int:
        """Do the same as secf_check_from_hdr function but with the contact header. Only in 6.0."""

    @staticmethod
    def secf_check_country(string: str, /) -> int:
        """Similar to secf_check_ua. Only in 6.0."""

    @staticmethod
    def secf_check_dst(string: str, /) -> int:
        """It checks if the destination number is blacklisted. Only in 6.0."""

    @staticmethod
    def secf_check_from_hdr() -> int:
        """It checks if any value of from header is blacklisted. Only in 6.0."""

    @staticmethod
    def secf_check_ip() -> int:
        """It checks if the source IP address is blacklisted. Only in 6.0."""

    @staticmethod
    def secf_check_sqli_all() -> int:
        """Search for illegal characters in several headers (user-agent, from, to and contact). Only in 6.0."""

    @staticmethod
    def secf_check_to_hdr() -> int:
        """Do the same as secf_check_from_hdr function but with the to header. Only in 6.0."""

    @staticmethod
    def secf_check_ua() -> int:
        """It checks if the user-agent is blacklisted. Only in 6.0."""

    @staticmethod
    def secf_sqli_hdr(arg1: str, /) -> int:
        """Only in 6.0."""

secfilter: _secfilter

class _secsipid:
    """KSR.secsipid, of secsipid."""

    @staticmethod
    def secsipid_add_identity(origtn: str, desttn: str, attest: str, origid: str, x5u: str, keypath: str, /) -> int:
        """Add Identity header using the key specified by 'keyPath' to sign the JWT body."""

    @staticmethod
    def secsipid_build_identity(origtn: str, desttn: str, attest: str, origid: str, x5u: str, keypath: str, /) -> int:
        """Build Identity value using the key specified by 'keyPath' to sign the JWT body."""

    @staticmethod
    def secsipid_build_identity_prvkey(origtn: str, desttn: str, attest: str, origid: str, x5u: str, keydata: str, /) -> int:
        """Similar to secsipid_build_identity(), but the private key data is provided as parameter instead to the file ..."""

    @staticmethod
    def secsipid_check(sidentity: str, keypath: str, /) -> int:
        """Check the validity of the 'sIdentity' parameter using the keys stored in the file specified by 'keyPath'."""

    @staticmethod
    def secsipid_check_identity(keypath: str, /) -> int:
        """Check the validity of the Identity header using the keys stored in the file specified by 'keyPath'."""

    @staticmethod
    def secsipid_check_identity_pubkey(pubkeyval: str, /) -> int:
        """Similar to secsipid_check_identity() with the public key value provided in the parameter."""

    @staticmethod
    def secsipid_get_url(arg1: str, /) -> str | None: ...

    @staticmethod
    def secsipid_get_val() -> str | None: ...

    @staticmethod
    def secsipid_sign(sheaders: str, spaypload: str, keypath: str, /) -> int:
        """Build Identity value using the key specified by 'keyPath' to sign the JWT body. Only in 6.0."""

    @staticmethod
    def secsipid_sign_prvkey(sheaders: str, spaypload: str, keydata: str, /) -> int:
        """Build Identity value using the private key given by 'keyData' to sign the JWT body. Only in 6.0."""

    @staticmethod
    def secsipid_verify(sidentity: str, keyval: str, opts: str, /) -> int:
        """Check the validity of the 'sIdentity' parameter using the key value given in the parameter 'keyVal'. Only in 6.0."""

secsipid: _secsipid

class _sipcapture:
    """KSR.sipcapture, of sipcapture."""

    @staticmethod
    def float2int(fval: str, ival: str, /) -> int:
        """Return the value of atof(fval) * atoi(ival)."""

    @staticmethod
    def report_capture(table: str, /) -> int:
        """Store the current processed HEP REPORT message in a database."""

    @staticmethod
    def report_capture_cid(arg1: str, arg2: str, /) -> int: ...

    @staticmethod
    def report_capture_data(arg1: str, arg2: str, arg3: str, /) -> int: ...

    @staticmethod
    def sip_capture() -> int:
        """Store the current processed HEP/IPIP SIP message in a database."""

    @staticmethod
    def sip_capture_forward(uri: str, /) -> int:
        """Forward the HEP packet to an address specified by the parameter uri (it has to be a sip uri format)."""

    @staticmethod
    def sip_capture_mode(arg1: str, arg2: str, /) -> int: ...

    @staticmethod
    def sip_capture_table(arg1: str, /) -> int: ...

sipcapture: _sipcapture

class _sipdump:
    """KSR.sipdump, of sipdump."""

    @staticmethod
    def get_buf() -> str | None: ...

    @staticmethod
    def get_dst_ip() -> str | None: ...

    @staticmethod
    def get_src_ip() -> str | None: ...

    @staticmethod
    def get_tag() -> str | None: ...

    @staticmethod
    def send(arg1: str, /) -> int: ...

sipdump: _sipdump

class _sipjson:
    """KSR.sipjson, of sipjson."""

    @staticmethod
    def sj_serialize(opt: str, ovar: str, /) -> int:
        """Do the serialization of SIP message attributes into a JSON document."""

sipjson: _sipjson

class _siptrace:
    """KSR.siptrace, of siptrace."""

    @staticmethod
    def hlog(correlation_id: str, /) -> int:
        """Sends a log event as a HEP3 packet to the homer host configured in duplicate_uri."""

    @staticmethod
    def hlog_cid(arg1: str, arg2: str, /) -> int: ...

    @staticmethod
    def sip_trace() -> int:
        """Store or forward the current processed SIP message/transaction/dialog in a database."""

    @staticmethod
    def sip_trace_dst(arg1: str, /) -> int: ...

    @staticmethod
    def sip_trace_dst_cid(arg1: str, arg2: str, /) -> int: ...

    @staticmethod
    def sip_trace_dst_cid_type(arg1: str, arg2: str, arg3: str, /) -> int: ...

    @staticmethod
    def sip_trace_mode(tmode: str, /) -> int:
        """Set the tracing mode: message, transaction or dialog."""

    @staticmethod
    def sip_trace_msg(vmsg: str, saddr: str, taddr: str, daddr: str, corrid: str, /) -> int:
        """Send the value of vmsg to the HEP capture server located at daddr, by setting saddr as source address and ... Only in 6.0."""

siptrace: _siptrace

class _siputils:
    """KSR.siputils, of siputils."""

    @staticmethod
    def add_uri_param(param: str, /) -> int:
        """Add to RURI a parameter (name=value)."""

    @staticmethod
    def cmp_aor(str1: str, str2: str, /) -> int:
        """The function returns true if the two parameters matches as AoR."""

    @staticmethod
    def cmp_hdr_name(str1: str, str2: str, /) -> int:
        """The function returns true (return code 1) if the two parameters matches as header names."""

    @staticmethod
    def cmp_uri(str1: str, str2: str, /) -> int:
        """The function returns true if the two parameters matches as SIP URI."""

    @staticmethod
    def contact_param_check(pname: str, /) -> int:
        """This function returns true (1) if the URI inside the Contact header contains the parameter with the name ... Only in 6.0."""

    @staticmethod
    def contact_param_decode(pname: str, /) -> int:
        """This function decodes URI inside Contact headers by building a new URI from 'pname' parameter, decoding its ..."""

    @staticmethod
    def contact_param_decode_ruri(arg1: str, /) -> int: ...

    @staticmethod
    def contact_param_encode(pname: str, saddr: str, /) -> int:
        """This function encodes URI inside Contact headers by building a new URI from 'saddr' parameter and adding a ..."""

    @staticmethod
    def contact_param_rm(pname: str, /) -> int:
        """This function removes the parameter from the URIs inside the Contact headers."""

    @staticmethod
    def decode_contact() -> int:
        """This function will decode the request URI."""

    @staticmethod
    def decode_contact_header() -> int:
        """This function will decode URIs inside Contact header."""

    @staticmethod
    def encode_contact(encoding_prefix: str, hostpart: str, /) -> int:
        """This function will encode uri-s inside Contact header in the following manner ..."""

    @staticmethod
    def has_totag() -> int:
        """Check if To header field uri contains tag parameter."""

    @staticmethod
    def hdr_date_check(tdiff: int, /) -> int:
        """Returns true if sip message has Date header and its value is lower than 'NOW() - tdiff'."""

    @staticmethod
    def is_alphanum(tval: str, /) -> int:
        """Checks if the parameter value consists solely of decimal digits or alphabetic ASCII characters."""

    @staticmethod
    def is_alphanumex(tval: str, eset: str, /) -> int:
        """Checks if the value of parameter 'tval' consists solely of decimal digits, alphabetic ASCII characters and ..."""

    @staticmethod
    def is_first_hop() -> int:
        """The function returns true if the proxy is first hop after the original sender based on a best effort ..."""

    @staticmethod
    def is_first_hop_mode(arg1: int, /) -> int: ...

    @staticmethod
    def is_gruu() -> int:
        """The function returns true if the uri is GRUU ('gr' parameter is present): 1 - pub-gruu; 2 - temp-gruu."""

    @staticmethod
    def is_http() -> int:
        """Return true if it is a HTTP message. Only in 6.0."""

    @staticmethod
    def is_numeric(tval: str, /) -> int:
        """Checks if the parameter value consists solely of decimal digits."""

    @staticmethod
    def is_reply() -> int:
        """Return true if the SIP message is a reply."""

    @staticmethod
    def is_request() -> int:
        """Return true if the SIP message is a request."""

    @staticmethod
    def is_sip() -> int:
        """Return true if it is a SIP message. Only in 6.0."""

    @staticmethod
    def is_tel_number(tval: str, /) -> int:
        """Checks if the parameter value is a telephone number: starting with one optional +, followed by digits."""

    @staticmethod
    def is_uri(variable: str, /) -> int:
        """Checks if string value of pseudo variable argument is a valid uri."""

    @staticmethod
    def is_user(username: str, /) -> int:
        """Check if the username in credentials matches the given username."""

    @staticmethod
    def options_reply() -> int:
        """This function checks if the request method is OPTIONS and if the request URI does not contain a username."""

    @staticmethod
    def sip_parse_headers() -> int:
        """Return true if parsing (fast mode) all SIP headers is successful. Only in 6.0."""

    @staticmethod
    def uri_param(param: str, /) -> int:
        """Find if Request URI has a given parameter with no value."""

    @staticmethod
    def uri_param_any(param: str, /) -> int:
        """Find if Request URI has a given parameter with or without value."""

    @staticmethod
    def uri_param_rm(param: str, /) -> int:
        """Remove parameter from Request URI."""

    @staticmethod
    def uri_param_value(arg1: str, arg2: str, /) -> int: ...

siputils: _siputils

class _sl:
    """KSR.sl, of sl."""

    @staticmethod
    def send_reply(code: int, reason: str, /) -> int:
        """For the current request, a reply is sent back having the given code and text reason."""

    @staticmethod
    def send_reply_error() -> int:
        """For the current request, the internal error code reply is sent back stateful or stateless, depending of the ... Only in 6.0."""

    @staticmethod
    def send_reply_mode(code: int, reason: str, mode: int, /) -> int:
        """Similar to send_reply() function, with additional third parameter mode, which can specify extra operations to ..."""

    @staticmethod
    def sl_forward_reply(code: str, reason: str, /) -> int:
        """Forward statelessly the current received SIP reply, with the option to change the status code and reason text."""

    @staticmethod
    def sl_reply_error() -> int:
        """Sends back an error reply describing the nature of the last internal error."""

    @staticmethod
    def sl_send_reply(code: int, reason: str, /) -> int:
        """For the current request, a reply is sent back having the given code and text reason."""

sl: _sl

class _slack:
    """KSR.slack, of slack."""

    @staticmethod
    def slack_send(format: str, /) -> int:
        """Send a formatted message to slack channel."""

slack: _slack

class _speeddial:
    """KSR.speeddial, of speeddial."""

    @staticmethod
    def lookup(arg1: str, /) -> int: ...

    @staticmethod
    def lookup_owner(arg1: str, arg2: str, /) -> int: ...

speeddial: _speeddial

class _sqlops:
    """KSR.sqlops, of sqlops."""

    @staticmethod
    def sql_is_null(arg1: str, arg2: int, arg3: int, /) -> int: ...

    @staticmethod
    def sql_num_columns(arg1: str, /) -> int: ...

    @staticmethod
    def sql_num_rows(arg1: str, /) -> int: ...

    @staticmethod
    def sql_pvquery(connection: str, query: str, result: str, /) -> int:
        """Make an SQL query using 'connection' and store data in arbitrary pseudo variables specified by 'result' ..."""

    @staticmethod
    def sql_query(connection: str, query: str, result: str, /) -> int:
        """Make an SQL query using 'connection' and store data in 'result'."""

    @staticmethod
    def sql_query_async(connection: str, query: str, /) -> int:
        """Make an async SQL query using 'connection', if implemented by db driver module (e.g., db_mysql)."""

    @staticmethod
    def sql_result_free(result: str, /) -> int:
        """Free data in SQL 'result'."""

    @staticmethod
    def sql_result_get(arg1: str, arg2: int, arg3: int, /) -> str | None: ...

    @staticmethod
    def sql_result_gete(arg1: str, arg2: int, arg3: int, /) -> str: ...

    @staticmethod
    def sql_result_getz(arg1: str, arg2: int, arg3: int, /) -> str | None: ...

    @staticmethod
    def sql_xquery(connection: str, query: str, result: str, /) -> int:
        """Make an SQL query using 'connection' and store data in 'result' xavp."""

sqlops: _sqlops

class _ss7ops:
    """KSR.ss7ops, of ss7ops."""

    @staticmethod
    def isup_to_json(arg1: int, /) -> int: ...

ss7ops: _ss7ops

class _sst:
    """KSR.sst, of sst."""

    @staticmethod
    def sst_check_min(arg1: int, /) -> int: ...

sst: _sst

class _statistics:
    """KSR.statistics, of statistics."""

    @staticmethod
    def reset_stat(variable: str, /) -> int:
        """Resets to zero the value of the statistic variable."""

    @staticmethod
    def update_stat(variable: str, value: int, /) -> int:
        """Updates the value of the statistic variable with the new value."""

statistics: _statistics

class _statsc:
    """KSR.statsc, of statsc."""

    @staticmethod
    def statsc_reset() -> int: ...

statsc: _statsc

class _statsd:
    """KSR.statsd, of statsd."""

    @staticmethod
    def statsd_decr(key: str, /) -> int:
        """Decrement a counter."""

    @staticmethod
    def statsd_gauge(key: str, value: str, /) -> int:
        """Gauges are a constant data type."""

    @staticmethod
    def statsd_histogram(key: str, value: str, /) -> int:
        """The histograms are a measure of time, but they are calculated at the server side."""

    @staticmethod
    def statsd_incr(key: str, /) -> int:
        """Increment a statsd counter."""

    @staticmethod
    def statsd_labels_decr(arg1: str, /) -> int:
        """Only in 6.0."""

    @staticmethod
    def statsd_labels_gauge(arg1: str, arg2: str, arg3: str, /) -> int:
        """Only in 6.0."""

    @staticmethod
    def statsd_labels_histogram(arg1: str, arg2: str, arg3: str, /) -> int:
        """Only in 6.0."""

    @staticmethod
    def statsd_labels_incr(arg1: str, /) -> int:
        """Only in 6.0."""

    @staticmethod
    def statsd_labels_set(arg1: str, arg2: str, arg3: str, /) -> int:
        """Only in 6.0."""

    @staticmethod
    def statsd_labels_stop(arg1: str, /) -> int:
        """Only in 6.0."""

    @staticmethod
    def statsd_set(key: str, value: str, /) -> int:
        """Sets count the number of unique values passed to a key."""

    @staticmethod
    def statsd_start(key: str, /) -> int:
        """statsd_start set an avp with the key name, and when statsd_stop(key) is used, the module will send statsd the ..."""

    @staticmethod
    def statsd_stop(key: str, /) -> int:
        """statsd_stop(key) get the avp string with the key and calculate the difference from the start time."""

statsd: _statsd

class _sworker:
    """KSR.sworker, of sworker. Only in 6.0."""

    @staticmethod
    def active() -> int:
        """Only in 6.0."""

    @staticmethod
    def task(arg1: str, /) -> int:
        """Only in 6.0."""

sworker: _sworker

class _tcpops:
    """KSR.tcpops, of tcpops."""

    @staticmethod
    def tcp_close_connection() -> int:
        """Trigger a close of the connection corresponding to current SIP message or to connection id 'conid'."""

    @staticmethod
    def tcp_close_connection_id(arg1: int, /) -> int: ...

    @staticmethod
    def tcp_conid_alive(conid: int, /) -> int:
        """Check the state of a TCP or WS connection ID."""

    @staticmethod
    def tcp_conid_state(conid: int, /) -> int:
        """Check the state of a TCP or WS connection ID."""

    @staticmethod
    def tcp_enable_closed_event() -> int:
        """Explicitly enables the 'tcp:closed' event route on a TCP connection."""

    @staticmethod
    def tcp_enable_closed_event_cid(arg1: int, /) -> int: ...

    @staticmethod
    def tcp_get_conid(hostport: str, pvname: str, /) -> int:
        """Get the connection id based on target host:port. Only in 6.0."""

    @staticmethod
    def tcp_keepalive_disable() -> int:
        """Disables keepalive on a TCP connection."""

    @staticmethod
    def tcp_keepalive_disable_cid(arg1: int, /) -> int: ...

    @staticmethod
    def tcp_keepalive_enable(conid: int, idle: int, count: int, /) -> int:
        """Enables keepalive on a TCP connection."""

    @staticmethod
    def tcp_keepalive_enable_cid(arg1: int, arg2: int, arg3: int, arg4: int, /) -> int: ...

    @staticmethod
    def tcp_set_connection_lifetime(conid: int, /) -> int:
        """Sets the connection lifetime of a connection (TCP)."""

    @staticmethod
    def tcp_set_connection_lifetime_cid(arg1: int, arg2: int, /) -> int: ...

    @staticmethod
    def tcp_set_otcpid(conid: int, /) -> int:
        """Set the value for outbound tcp connection id."""

    @staticmethod
    def tcp_set_otcpid_flag(mode: int, /) -> int:
        """Set or reset the internal flag for using or not the outbound tcp connection id for sending out."""

tcpops: _tcpops

class _textops:
    """KSR.textops, of textops."""

    @staticmethod
    def append_body_part(txt: str, content_type: str, /) -> int:
        """Append a part on multipart body SIP message."""

    @staticmethod
    def append_body_part_cd(arg1: str, arg2: str, arg3: str, /) -> int: ...

    @staticmethod
    def append_body_part_hex(txt: str, content_type: str, /) -> int:
        """Append a part on multipart body SIP message, with the content provided in hexa format."""

    @staticmethod
    def append_body_part_hex_cd(arg1: str, arg2: str, arg3: str, /) -> int: ...

    @staticmethod
    def cmp_istr(str1: str, str2: str, /) -> int:
        """The function returns true if the two parameters matches as string case insensitive comparison."""

    @staticmethod
    def cmp_str(str1: str, str2: str, /) -> int:
        """The function returns true if the two parameters matches as string case sensitive comparison."""

    @staticmethod
    def ends_with(str1: str, str2: str, /) -> int:
        """The function returns true if the first string ends with the second string."""

    @staticmethod
    def filter_body(content_type: str, /) -> int:
        """Filters multipart/mixed body by leaving out all other body parts except the first body part of given type."""

    @staticmethod
    def get_body_part(content_type: str, opv: str, /) -> int:
        """Return the content of a multipart body SIP message, storing it in opv."""

    @staticmethod
    def get_body_part_raw(content_type: str, opv: str, /) -> int:
        """Return the content of a multipart body SIP message, including headers and boundary string, storing it in opv."""

    @staticmethod
    def has_body() -> int:
        """has_body(mime)."""

    @staticmethod
    def has_body_type(arg1: str, /) -> int: ...

    @staticmethod
    def in_list(subject: str, list: str, separator: str, /) -> int:
        """Function checks if subject string is found in list string where list items are separated by separator string."""

    @staticmethod
    def in_list_prefix(subject: str, list: str, separator: str, /) -> int:
        """Function checks if any element in list string is a prefix for subject string where list items are separated ..."""

    @staticmethod
    def is_audio_on_hold() -> int:
        """The function returns true if the SIP message has a body attached and at least one audio stream in on hold."""

    @staticmethod
    def is_present_hf(hf_name: str, /) -> int:
        """Return true if a header field is present in message."""

    @staticmethod
    def is_present_hf_re(hf_name_re: str, /) -> int:
        """Return true if a header field whose name matches regular expression 'hf_name_re' is present in message."""

    @staticmethod
    def is_privacy(privacy_type: str, /) -> int:
        """The function returns true if the SIP message has a Privacy header field that includes the given privacy_type ..."""

    @staticmethod
    def regex_substring(itext: str, regexp: str, mindex: int, mcount: int, dpv: str, /) -> int:
        """Search in text with given regular expression then set dpv pseudo-variable with the matched token at provided ..."""

    @staticmethod
    def remove_body_part(content_type: str, /) -> int:
        """Remove a part on a multipart body SIP message."""

    @staticmethod
    def remove_hf(hname: str, /) -> int:
        """Remove from message all headers with name “hname”."""

    @staticmethod
    def remove_hf_exp(expmatch: str, expskip: str, /) -> int:
        """Remove from message all headers with name matching regular expression “expmatch”, but not matching regular ..."""

    @staticmethod
    def remove_hf_idx(hname: str, idx: int, /) -> int:
        """Remove from message the headers matching by name 'hname' with the index 'idx'."""

    @staticmethod
    def remove_hf_match(hname: str, op: str, expr: str, /) -> int:
        """Remove from message all headers with name 'hname' matching the body with expression “expr”, based on operator ..."""

    @staticmethod
    def remove_hf_re(re: str, /) -> int:
        """Remove from message all headers with name matching regular expression “re”."""

    @staticmethod
    def replace(re: str, txt: str, /) -> int:
        """Replaces the first occurrence of re with txt."""

    @staticmethod
    def replace_all(re: str, txt: str, /) -> int:
        """Replaces all occurrence of re with txt."""

    @staticmethod
    def replace_body(re: str, txt: str, /) -> int:
        """Replaces the first occurrence of re in the body of the message with txt."""

    @staticmethod
    def replace_body_all(re: str, txt: str, /) -> int:
        """Replaces all occurrence of re in the body of the message with txt."""

    @staticmethod
    def replace_body_atonce(re: str, txt: str, /) -> int:
        """Replaces all occurrence of re in the body of the message with txt."""

    @staticmethod
    def replace_body_str(match: str, repl: str, mode: str, /) -> int:
        """Replaces the first or all occurrence of 'match' with 'repl' by doing string comparison for matching."""

    @staticmethod
    def replace_hdrs(re: str, txt: str, /) -> int:
        """Replaces the first occurrence of re in the SIP headers of the message with txt."""

    @staticmethod
    def replace_hdrs_str(match: str, repl: str, mode: str, /) -> int:
        """Replaces the first or all occurrence of 'match' with 'repl' by doing string comparison for matching."""

    @staticmethod
    def replace_str(match: str, repl: str, mode: str, /) -> int:
        """Replaces the first or all occurrence of 'match' with 'repl' by doing string comparison for matching."""

    @staticmethod
    def search(re: str, /) -> int:
        """Searches for the re in the message."""

    @staticmethod
    def search_append(re: str, txt: str, /) -> int:
        """Searches for the first match of re and appends txt after it."""

    @staticmethod
    def search_append_body(re: str, txt: str, /) -> int:
        """Searches for the first match of re in the body of the message and appends txt after it."""

    @staticmethod
    def search_body(re: str, /) -> int:
        """Searches for the re in the body of the message."""

    @staticmethod
    def search_hf(hf: str, re: str, flags: str, /) -> int:
        """Searches for the re in the body of a header field."""

    @staticmethod
    def search_str(text: str, re: str, /) -> int:
        """Searches for the re in the body of the message."""

    @staticmethod
    def set_body(txt: str, content_type: str, /) -> int:
        """Set body to a SIP message."""

    @staticmethod
    def set_body_multipart(txt: str, content_type: str, boundary: str, /) -> int:
        """Set multipart body to a SIP message."""

    @staticmethod
    def set_body_multipart_boundary(arg1: str, /) -> int: ...

    @staticmethod
    def set_body_multipart_content(arg1: str, arg2: str, /) -> int: ...

    @staticmethod
    def set_body_multipart_mode() -> int: ...

    @staticmethod
    def set_reply_body(txt: str, content_type: str, /) -> int:
        """Set body to a SIP reply to be generated by Kamailio."""

    @staticmethod
    def starts_with(str1: str, str2: str, /) -> int:
        """The function returns true if the first string starts with the second string."""

    @staticmethod
    def str_any_in(txt: str, clist: str, /) -> int:
        """Return 1 (true) if any character in 'clist' is found inside 'txt'. Only in 6.0."""

    @staticmethod
    def str_find(str1: str, str2: str, /) -> int:
        """The function returns true (greater than 0) if the str2 string is found in str1, case sensitive comparison."""

    @staticmethod
    def str_ifind(str1: str, str2: str, /) -> int:
        """The function returns true (greater than 0) if the str2 string is found in str1, case insensitive comparison."""

    @staticmethod
    def subst(flags: str, /) -> int:
        """Replaces re with repl."""

    @staticmethod
    def subst_body(flags: str, /) -> int:
        """Replaces re with repl in the body of the message."""

    @staticmethod
    def subst_hf(hf: str, subexp: str, flags: str, /) -> int:
        """Substitutions in the body of a header field."""

    @staticmethod
    def subst_uri(flags: str, /) -> int:
        """Runs the re substitution on the message uri (like subst but works only on the uri)."""

    @staticmethod
    def subst_user(flags: str, /) -> int:
        """Runs the re substitution on the message uri (like subst_uri but works only on the user portion of the uri)."""

    @staticmethod
    def subst_v(itext: str, subexp: str, ovp: str, /) -> int:
        """Sed-like substitution subexp applied to itext, with result stored in opv. Only in 6.0."""

textops: _textops

class _textopsx:
    """KSR.textopsx, of textopsx."""

    @staticmethod
    def append_hf_value(hf: str, hvalue: str, /) -> int:
        """Append new header value after an existing header, if no index acquired append at the end of list."""

    @staticmethod
    def assign_hf_value(hf: str, hvalue: str, /) -> int:
        """Assign value to specified header value / param."""

    @staticmethod
    def assign_hf_value2(hf: str, hvalue: str, /) -> int:
        """Assign value to specified header."""

    @staticmethod
    def bl_iterator_append(iname: str, text: str, /) -> int:
        """Add text after the line at the current iterator possition."""

    @staticmethod
    def bl_iterator_end(iname: str, /) -> int:
        """Close the iterator identified by iname parameter."""

    @staticmethod
    def bl_iterator_insert(iname: str, text: str, /) -> int:
        """Add text before the line at the current iterator possition."""

    @staticmethod
    def bl_iterator_next(iname: str, /) -> int:
        """Move the iterator to the next line in the body."""

    @staticmethod
    def bl_iterator_rm(iname: str, /) -> int:
        """Remove the body line at the current iterator position."""

    @staticmethod
    def bl_iterator_start(iname: str, /) -> int:
        """Start an iterator for lines in the body of the current SIP message."""

    @staticmethod
    def bl_iterator_value(arg1: str, /) -> str | None: ...

    @staticmethod
    def change_reply_status(code: int, reason: str, /) -> int:
        """Intercept a SIP reply (in an onreply_route) and change its status code and reason phrase prior to forwarding ..."""

    @staticmethod
    def change_reply_status_code(vcode: int, /) -> int:
        """Change the status code for a SIP reply."""

    @staticmethod
    def exclude_hf_value(hf: str, hvalue: str, /) -> int:
        """Remove value from set if exists, eg."""

    @staticmethod
    def fnmatch(value: str, expr: str, /) -> int:
        """Match the value against the expr using shell-style pattern for file name matching (see man page for C ..."""

    @staticmethod
    def fnmatch_ex(arg1: str, arg2: str, arg3: str, /) -> int: ...

    @staticmethod
    def hf_iterator_append(iname: str, htext: str, /) -> int:
        """Add headers after the one at the current iterator possition."""

    @staticmethod
    def hf_iterator_end(iname: str, /) -> int:
        """Close the iterator identified by iname parameter."""

    @staticmethod
    def hf_iterator_hbody(arg1: str, /) -> str | None: ...

    @staticmethod
    def hf_iterator_hname(arg1: str, /) -> str | None: ...

    @staticmethod
    def hf_iterator_insert(iname: str, htext: str, /) -> int:
        """Add headers before the one at the current iterator possition."""

    @staticmethod
    def hf_iterator_next(iname: str, /) -> int:
        """Move the iterator to the next header."""

    @staticmethod
    def hf_iterator_prev(iname: str, /) -> int:
        """Move the iterator to the previous header."""

    @staticmethod
    def hf_iterator_rm(iname: str, /) -> int:
        """Remove the header at the current iterator position."""

    @staticmethod
    def hf_iterator_start(iname: str, /) -> int:
        """Start an iterator for headers in the current SIP message."""

    @staticmethod
    def hf_value_exists(hf: str, hvalue: str, /) -> int:
        """Check if value exists in set."""

    @staticmethod
    def include_hf_value(hf: str, hvalue: str, /) -> int:
        """Add value in set if not exists, eg."""

    @staticmethod
    def insert_hf_value(hf: str, hvalue: str, /) -> int:
        """Insert new header value before an existing header, if no index acquired insert before first hf header."""

    @staticmethod
    def keep_hf() -> int:
        """Remove headers that don't match the regular expression regexp."""

    @staticmethod
    def keep_hf_re(arg1: str, /) -> int: ...

    @staticmethod
    def msg_apply_changes() -> int:
        """Use this function to apply changes performed on SIP message content."""

    @staticmethod
    def msg_set_buffer(data: str, /) -> int:
        """Set the content of the SIP message buffer, replacing the exiting data."""

    @staticmethod
    def remove_body() -> int:
        """Use this function to remove the body of SIP requests or replies."""

    @staticmethod
    def remove_hf_value(hf_par: str, /) -> int:
        """Remove the header value from existing header, Note that a header may consist of comma delimited list of values."""

    @staticmethod
    def remove_hf_value2(arg1: str, arg2: str, /) -> int: ...

textopsx: _textopsx

class _timer:
    """KSR.timer, of timer. Only in 6.0."""

    @staticmethod
    def timer_enable(timer_id: str, enable_disable: int, /) -> int:
        """Enable/disable timer route specified by timer_id. Only in 6.0."""

timer: _timer

class _tls:
    """KSR.tls, of tls."""

    @staticmethod
    def cget(arg1: str, /) -> str | None: ...

    @staticmethod
    def is_peer_verified() -> int:
        """Returns true if the connection on which the message was received is TLS, the peer presented an X509 ..."""

    @staticmethod
    def set_connect_server_id(arg1: str, /) -> int: ...

tls: _tls

class _tm:
    """KSR.tm, of tm."""

    @staticmethod
    def ki_t_load_contacts_mode(arg1: int, /) -> int: ...

    @staticmethod
    def t_any_replied() -> int:
        """Returns true if at least one of the current transactions branches did receive some reply in the past."""

    @staticmethod
    def t_any_timeout() -> int:
        """Returns true if at least one of the current transactions branches did timeout."""

    @staticmethod
    def t_branch_replied() -> int:
        """Returns true if the failure route is executed for a branch that did receive at least one reply in the past ..."""

    @staticmethod
    def t_branch_timeout() -> int:
        """Returns true if the failure route is executed for a branch that did timeout."""

    @staticmethod
    def t_check_status(re: str, /) -> int:
        """Returns true if the regular expression “re” match the reply code of the response message as follows: * in ..."""

    @staticmethod
    def t_check_trans() -> int:
        """t_check_trans() can be used to quickly check if a message belongs or is related to a transaction."""

    @staticmethod
    def t_clean() -> int:
        """Cleans active but very old transactions."""

    @staticmethod
    def t_drop_replies(mode: str, /) -> int:
        """Drops all the previously received replies in failure_route block to make sure that none of them is picked up ..."""

    @staticmethod
    def t_drop_replies_all() -> int: ...

    @staticmethod
    def t_exists() -> int:
        """Return true if a transaction for the current message exists, without setting the global references. Only in 6.0."""

    @staticmethod
    def t_get_branch_index() -> int: ...

    @staticmethod
    def t_get_status_code() -> int:
        """Return the status code for transaction - the most relevant SIP reply status code, or -1 in case of error or ..."""

    @staticmethod
    def t_grep_status(code: int, /) -> int:
        """Returns true if 'code' is the final reply received (or locally generated) in at least one of the current ..."""

    @staticmethod
    def t_is_canceled() -> int:
        """Returns true if the current transaction was canceled."""

    @staticmethod
    def t_is_expired() -> int:
        """Returns true if the current transaction has already expired, i.e. the max_inv_lifetime/max_noninv_lifetime ..."""

    @staticmethod
    def t_is_retr_async_reply() -> int:
        """Check to see if the reply is a retransmitted reply on a transaction that is currently suspended ..."""

    @staticmethod
    def t_is_set(target: str, /) -> int:
        """Return true if the attribute specified by 'target' is set for transaction."""

    @staticmethod
    def t_load_contacts() -> int:
        """This is the first of the three functions that can be used to implement serial/parallel forking based on q and ..."""

    @staticmethod
    def t_lookup_cancel() -> int:
        """Returns true if the corresponding INVITE transaction exists for a CANCEL request."""

    @staticmethod
    def t_lookup_cancel_flags(arg1: int, /) -> int: ...

    @staticmethod
    def t_lookup_request() -> int:
        """Checks if a transaction exists."""

    @staticmethod
    def t_newtran() -> int:
        """Creates a new transaction, returns a negative value on error."""

    @staticmethod
    def t_next_contact_flow() -> int:
        """Function t_next_contact_flow() is the last of the three functions that can be used to implement ..."""

    @staticmethod
    def t_next_contacts() -> int:
        """Function t_next_contacts() is the second of the three functions that can be used to implement serial/parallel ..."""

    @staticmethod
    def t_on_branch(branch_route: str, /) -> int:
        """Sets the branch routing block, to which control is passed after forking (when a new branch is created)."""

    @staticmethod
    def t_on_branch_failure(branch_failure_route: str, /) -> int:
        """Sets the branch_failure routing block, to which control is passed on each negative response to a transaction."""

    @staticmethod
    def t_on_failure(failure_route: str, /) -> int:
        """Sets failure routing block, to which control is passed after a transaction completed with a negative result ..."""

    @staticmethod
    def t_on_reply(onreply_route: str, /) -> int:
        """Sets the reply routing block, to which control is passed when a reply for the current transaction is received."""

    @staticmethod
    def t_relay() -> int:
        """Relay a SIP request statefully either to the destination indicated in the current URI (if called without any ..."""

    @staticmethod
    def t_relay_to_flags(arg1: int, /) -> int: ...

    @staticmethod
    def t_relay_to_proto(arg1: str, /) -> int: ...

    @staticmethod
    def t_relay_to_proto_addr(arg1: str, arg2: str, arg3: int, /) -> int: ...

    @staticmethod
    def t_relay_to_proxy(arg1: str, /) -> int: ...

    @staticmethod
    def t_relay_to_proxy_flags(arg1: str, arg2: int, /) -> int: ...

    @staticmethod
    def t_release() -> int:
        """Remove transaction from memory (it will be first put on a wait timer to absorb delayed messages)."""

    @staticmethod
    def t_replicate(params: str, /) -> int:
        """Replicate the SIP request to a specific address."""

    @staticmethod
    def t_reply(code: int, reason_phrase: str, /) -> int:
        """Sends a stateful reply after a transaction has been established."""

    @staticmethod
    def t_reply_error() -> int:
        """Sends a stateful reply based in internal error code, similar to sl_send_error() from sl module. Only in 6.0."""

    @staticmethod
    def t_reset_fr() -> int:
        """Resets the fr_inv_timer and fr_timer for the current transaction to the default values (set using the tm ..."""

    @staticmethod
    def t_reset_max_lifetime() -> int:
        """Resets the maximum lifetime for the current INVITE or non-INVITE transaction to the default value (set using ..."""

    @staticmethod
    def t_reset_retr() -> int:
        """Resets the retr_timer1 and retr_timer2 for the current transaction to the default values (set using the tm ..."""

    @staticmethod
    def t_retransmit_reply() -> int:
        """Retransmits a reply sent previously by UAS transaction."""

    @staticmethod
    def t_save_lumps() -> int:
        """Forces the modifications of the processed SIP message to be saved in shared memory before t_relay() is called."""

    @staticmethod
    def t_send_reply(code: int, reason: str, /) -> int:
        """Creates the transaction if it does not exist (executing internally t_newtran()) and sends a stateful reply ..."""

    @staticmethod
    def t_set_auto_inv_100(arg1: int, /) -> int:
        """Switch automatically sending 100 replies to INVITEs on/off on a per transaction basis."""

    @staticmethod
    def t_set_disable_6xx(arg1: int, /) -> int:
        """Turn off/on 6xx replies special rfc conforming handling on a per transaction basis."""

    @staticmethod
    def t_set_disable_failover(arg1: int, /) -> int:
        """Turn off/on dns failover on a per transaction basis."""

    @staticmethod
    def t_set_disable_internal_reply(arg1: int, /) -> int:
        """Turn off/on sending internally a SIP reply in case of relay errors."""

    @staticmethod
    def t_set_fr(fr_inv_timeout: int, fr_timeout: int, /) -> int:
        """Sets the fr_inv_timeout and optionally fr_timeout for the current transaction or for transactions created ..."""

    @staticmethod
    def t_set_fr_inv(arg1: int, /) -> int: ...

    @staticmethod
    def t_set_max_lifetime(inv_lifetime: int, noninv_lifetime: int, /) -> int:
        """Sets the maximum lifetime for the current INVITE or non-INVITE transaction, or for transactions created ..."""

    @staticmethod
    def t_set_no_e2e_cancel_reason(arg1: int, /) -> int:
        """Enables/disables reason header (RFC 3326) copying from the triggering received CANCEL to the generated ..."""

    @staticmethod
    def t_set_retr(retr_t1_interval: int, retr_t2_interval: int, /) -> int:
        """Sets the retr_t1_interval and retr_t2_interval for the current transaction or for transactions created during ..."""

    @staticmethod
    def t_uac_send(method: str, ruri: str, nexthop: str, socket: str, headers: str, body: str, /) -> int:
        """Send a UAC request."""

    @staticmethod
    def t_use_uac_headers() -> int:
        """Set internal flags to tell tm to use UAC side for building headers for local generated requests (ACK, CANCEL) ..."""

tm: _tm

class _tmrec:
    """KSR.tmrec, of tmrec."""

    @staticmethod
    def is_leap_year(year: int, /) -> int:
        """Return true if the value from parameter is a leap year."""

    @staticmethod
    def is_leap_year_now() -> int: ...

    @staticmethod
    def match(arg1: str, /) -> int: ...

    @staticmethod
    def match_timestamp(arg1: str, arg2: int, /) -> int: ...

    @staticmethod
    def time_period_match(period: str, /) -> int:
        """Matches the point in time specified by the timestamp parameter, or the current time if the parameter is ..."""

    @staticmethod
    def time_period_match_timestamp(arg1: str, arg2: int, /) -> int: ...

tmrec: _tmrec

class _tmx:
    """KSR.tmx, of tmx."""

    @staticmethod
    def t_cancel_branches(which: str, /) -> int:
        """Cancel branches of an active SIP transaction."""

    @staticmethod
    def t_cancel_callid(callid: str, cseq: str, flag: int, /) -> int:
        """Cancel first INVITE transaction identified by callid and cseq."""

    @staticmethod
    def t_cancel_callid_reason(arg1: str, arg2: str, arg3: int, arg4: int, /) -> int: ...

    @staticmethod
    def t_continue(tindex: int, tlabel: int, rtname: str, /) -> int:
        """Continue the execution of the transaction identified by tindex and tlabel with the actions defined in ..."""

    @staticmethod
    def t_drop() -> int:
        """Drops the transaction with response code (500 default)."""

    @staticmethod
    def t_drop_rcode(arg1: int, /) -> int: ...

    @staticmethod
    def t_flush_flags() -> int:
        """Flush the flags from current SIP message into the already created transaction."""

    @staticmethod
    def t_flush_xflags() -> int:
        """Flush the extended flags from current SIP message into the already created transaction."""

    @staticmethod
    def t_is_branch_route() -> int:
        """Returns true if the top-executed route block is branch_route."""

    @staticmethod
    def t_is_failure_route() -> int:
        """Returns true if the top-executed route block is failure_route."""

    @staticmethod
    def t_is_reply_route() -> int:
        """Returns true if the top-executed route block is reply_route."""

    @staticmethod
    def t_is_request_route() -> int:
        """Returns true if the top-executed route block is request_route."""

    @staticmethod
    def t_precheck_trans() -> int:
        """Check if current processed message is handled by other process."""

    @staticmethod
    def t_reply_callid(callid: str, cseq: str, code: int, reason: str, /) -> int:
        """Send reply to first transaction identified by callid and cseq."""

    @staticmethod
    def t_reuse_branch() -> int:
        """Creates new 'main' branch by making copy of branch-failure branch."""

    @staticmethod
    def t_suspend() -> int:
        """Suspend the execution of SIP request in a transaction."""

tmx: _tmx

class _topos:
    """KSR.topos, of topos."""

    @staticmethod
    def tps_set_context(ctx: str, /) -> int:
        """Update the context at runtime."""

topos: _topos

class _tsilo:
    """KSR.tsilo, of tsilo."""

    @staticmethod
    def ts_append(domain: str, ruri: str, /) -> int:
        """The method add branches to all the stored transactions for the SIP ruri passed as parameter, performing a ..."""

    @staticmethod
    def ts_append_by_contact(domain: str, ruri: str, /) -> int:
        """Has almost the same intention as the ts_append(), but gives a possibility to append branches only for a ..."""

    @staticmethod
    def ts_append_by_contact_uri(arg1: str, arg2: str, arg3: str, /) -> int: ...

    @staticmethod
    def ts_append_to(tindex: int, tlabel: int, domain: str, /) -> int:
        """The method add branches to the transaction identified by tindex and tlabel, performing a contacts lookup on ..."""

    @staticmethod
    def ts_append_to_uri(arg1: int, arg2: int, arg3: str, arg4: str, /) -> int: ...

    @staticmethod
    def ts_store() -> int:
        """The method stores uri, tindex and tlabel of the current transaction."""

    @staticmethod
    def ts_store_uri(arg1: str, /) -> int: ...

tsilo: _tsilo

class _uac:
    """KSR.uac, of uac."""

    @staticmethod
    def uac_auth() -> int:
        """This function can be called only from failure route and will build the authentication response header and ..."""

    @staticmethod
    def uac_auth_mode(vmode: int, /) -> int:
        """This function can be called only from failure route and will build the authentication response header and ..."""

    @staticmethod
    def uac_reg_disable(attr: str, val: str, /) -> int:
        """Disable a remote registration record based on a filter specified by attribute and value."""

    @staticmethod
    def uac_reg_enable(attr: str, val: str, /) -> int:
        """Enable a remote registration record based on a filter specified by attribute and value."""

    @staticmethod
    def uac_reg_lookup(uuid: str, dst: str, /) -> int:
        """This function sets the PV dst to SIP URI that correspond to uuid in uac registrations table."""

    @staticmethod
    def uac_reg_lookup_uri(uri: str, dst: str, /) -> int:
        """This function sets the PV dst to SIP URI that correspond to the URI user in uac registrations table."""

    @staticmethod
    def uac_reg_refresh(luuid: str, /) -> int:
        """Refresh the uac remote registration record based on local uuid."""

    @staticmethod
    def uac_reg_request_to(user: str, mode: int, /) -> int:
        """This function can be used to send an authenticated request to a remote user in the uac registrations table."""

    @staticmethod
    def uac_reg_status(uuid: str, /) -> int:
        """This function returns the current registration status for the uuid."""

    @staticmethod
    def uac_replace_from(display: str, uri: str, /) -> int:
        """Replace in FROM header the display name and the URI part."""

    @staticmethod
    def uac_replace_from_uri(arg1: str, /) -> int: ...

    @staticmethod
    def uac_replace_to(display: str, uri: str, /) -> int:
        """Replace in TO header the display name and the URI part."""

    @staticmethod
    def uac_replace_to_uri(arg1: str, /) -> int: ...

    @staticmethod
    def uac_req_send() -> int:
        """This function sends a SIP message from the configuration file."""

    @staticmethod
    def uac_restore_from() -> int:
        """This function will check if the FROM URI was modified and will use the information stored in header parameter ..."""

    @staticmethod
    def uac_restore_to() -> int:
        """This function will check if the TO URI was modified and will use the information stored in header parameter ..."""

uac: _uac

class _uac_redirect:
    """KSR.uac_redirect, of uac_redirect."""

    @staticmethod
    def get_redirects(max: int, reason: int, /) -> int:
        """The function has same functionality as get_redirects(max) function, but it will produce accounting records."""

    @staticmethod
    def get_redirects_acc(arg1: int, arg2: int, arg3: str, /) -> int: ...

    @staticmethod
    def get_redirects_all() -> int: ...

uac_redirect: _uac_redirect

class _uri_db:
    """KSR.uri_db, of uri_db."""

    @staticmethod
    def check_from() -> int:
        """Check “From” username against URI table (if use_uri_table is set) or digest credentials (no DB backend ..."""

    @staticmethod
    def check_to() -> int:
        """Check “To” username against URI table (if use_uri_table is set) or digest credentials (no DB backend required)."""

    @staticmethod
    def check_uri(uri: str, /) -> int:
        """Check the username from the given uri against URI table (if use_uri_table is set) or digest credentials (no ..."""

    @staticmethod
    def check_uri_realm(arg1: str, arg2: str, arg3: str, /) -> int: ...

    @staticmethod
    def does_uri_exist() -> int:
        """Check if username in the request URI belongs to an existing user."""

uri_db: _uri_db

class _userblocklist:
    """KSR.userblocklist, of userblocklist."""

    @staticmethod
    def check_allowlist(table: str, /) -> int:
        """Finds the longest prefix that matches the request URI for the given table."""

    @staticmethod
    def check_blocklist(table: str, /) -> int:
        """Finds the longest prefix that matches the request URI for the given table."""

    @staticmethod
    def check_global_blocklist() -> int: ...

    @staticmethod
    def check_user_allowlist(arg1: str, arg2: str, /) -> int: ...

    @staticmethod
    def check_user_allowlist_number(arg1: str, arg2: str, arg3: str, /) -> int: ...

    @staticmethod
    def check_user_allowlist_table(arg1: str, arg2: str, arg3: str, arg4: str, /) -> int: ...

    @staticmethod
    def check_user_blocklist(arg1: str, arg2: str, /) -> int: ...

    @staticmethod
    def check_user_blocklist_number(arg1: str, arg2: str, arg3: str, /) -> int: ...

    @staticmethod
    def check_user_blocklist_table(arg1: str, arg2: str, arg3: str, arg4: str, /) -> int: ...

userblocklist: _userblocklist

class _utils:
    """KSR.utils, of utils."""

    @staticmethod
    def xcap_auth_status(watcher_uri: str, presentity_uri: str, /) -> int:
        """Function checks in the presence server database if a watcher is authorized to subscribe to event “presence” ..."""

utils: _utils

class _uuid:
    """KSR.uuid, of uuid."""

    @staticmethod
    def get() -> str | None: ...

    @staticmethod
    def rget() -> str | None: ...

    @staticmethod
    def tget() -> str | None: ...

uuid: _uuid

class _websocket:
    """KSR.websocket, of websocket."""

    @staticmethod
    def close() -> int: ...

    @staticmethod
    def close_conid(arg1: int, arg2: str, arg3: int, /) -> int: ...

    @staticmethod
    def close_reason(arg1: int, arg2: str, /) -> int: ...

    @staticmethod
    def handle_handshake() -> int: ...

websocket: _websocket

class _x:
    """KSR.x, of app_python3 itself. It has no exit and no drop: sys.exit() ends a route, KSR.set_drop() drops."""

    @staticmethod
    def modf(name: str, arg1: str = ..., arg2: str = ..., /) -> int:
        """Call a function of a module's kamailio.cfg interface. In 5.6 it crashes the server."""

x: _x

class _xcap_server:
    """KSR.xcap_server, of xcap_server."""

    @staticmethod
    def xcaps_del(uri: str, path: str, /) -> int:
        """Handle XCAP DELETE command."""

    @staticmethod
    def xcaps_get(uri: str, path: str, /) -> int:
        """Handle XCAP GET command."""

    @staticmethod
    def xcaps_put(uri: str, path: str, doc: str, /) -> int:
        """Handle XCAP PUT command."""

xcap_server: _xcap_server

class _xhttp:
    """KSR.xhttp, of xhttp."""

    @staticmethod
    def get_hu() -> str | None: ...

    @staticmethod
    def xhttp_reply(code: int, reason: str, ctype: str, body: str, /) -> int:
        """Send back a reply with content-type and body."""

xhttp: _xhttp

class _xhttp_pi:
    """KSR.xhttp_pi, of xhttp_pi."""

    @staticmethod
    def dispatch() -> int: ...

xhttp_pi: _xhttp_pi

class _xhttp_prom:
    """KSR.xhttp_prom, of xhttp_prom."""

    @staticmethod
    def check_uri() -> int: ...

    @staticmethod
    def counter_inc_l0(arg1: str, arg2: int, /) -> int: ...

    @staticmethod
    def counter_inc_l1(arg1: str, arg2: int, arg3: str, /) -> int: ...

    @staticmethod
    def counter_inc_l2(arg1: str, arg2: int, arg3: str, arg4: str, /) -> int: ...

    @staticmethod
    def counter_inc_l3(arg1: str, arg2: int, arg3: str, arg4: str, arg5: str, /) -> int: ...

    @staticmethod
    def counter_reset_l0(arg1: str, /) -> int: ...

    @staticmethod
    def counter_reset_l1(arg1: str, arg2: str, /) -> int: ...

    @staticmethod
    def counter_reset_l2(arg1: str, arg2: str, arg3: str, /) -> int: ...

    @staticmethod
    def counter_reset_l3(arg1: str, arg2: str, arg3: str, arg4: str, /) -> int: ...

    @staticmethod
    def dispatch() -> int: ...

    @staticmethod
    def gauge_reset_l0(arg1: str, /) -> int: ...

    @staticmethod
    def gauge_reset_l1(arg1: str, arg2: str, /) -> int: ...

    @staticmethod
    def gauge_reset_l2(arg1: str, arg2: str, arg3: str, /) -> int: ...

    @staticmethod
    def gauge_reset_l3(arg1: str, arg2: str, arg3: str, arg4: str, /) -> int: ...

    @staticmethod
    def gauge_set_l0(arg1: str, arg2: str, /) -> int: ...

    @staticmethod
    def gauge_set_l1(arg1: str, arg2: str, arg3: str, /) -> int: ...

    @staticmethod
    def gauge_set_l2(arg1: str, arg2: str, arg3: str, arg4: str, /) -> int: ...

    @staticmethod
    def gauge_set_l3(arg1: str, arg2: str, arg3: str, arg4: str, arg5: str, /) -> int: ...

    @staticmethod
    def histogram_observe_l0(arg1: str, arg2: str, /) -> int: ...

    @staticmethod
    def histogram_observe_l1(arg1: str, arg2: str, arg3: str, /) -> int: ...

    @staticmethod
    def histogram_observe_l2(arg1: str, arg2: str, arg3: str, arg4: str, /) -> int: ...

    @staticmethod
    def histogram_observe_l3(arg1: str, arg2: str, arg3: str, arg4: str, arg5: str, /) -> int: ...

xhttp_prom: _xhttp_prom

class _xhttp_rpc:
    """KSR.xhttp_rpc, of xhttp_rpc."""

    @staticmethod
    def dispatch() -> int: ...

xhttp_rpc: _xhttp_rpc

class _xlog:
    """KSR.xlog, of xlog."""

    @staticmethod
    def xalert(text: str, /) -> int:
        """Write to the log at level alert, variables expanded."""

    @staticmethod
    def xcrit(text: str, /) -> int:
        """Write to the log at level crit, variables expanded."""

    @staticmethod
    def xdbg(text: str, /) -> int:
        """Write to the log at level dbg, variables expanded."""

    @staticmethod
    def xerr(text: str, /) -> int:
        """Write to the log at level err, variables expanded."""

    @staticmethod
    def xinfo(text: str, /) -> int:
        """Write to the log at level info, variables expanded."""

    @staticmethod
    def xlog(level: str, text: str, /) -> int:
        """Write to the log, variables expanded; level is dbg, info, notice, warn, err, ..."""

    @staticmethod
    def xlog_facility(arg1: str, arg2: str, arg3: str, /) -> int:
        """Only in 6.0."""

    @staticmethod
    def xnotice(text: str, /) -> int:
        """Write to the log at level notice, variables expanded."""

    @staticmethod
    def xwarn(text: str, /) -> int:
        """Write to the log at level warn, variables expanded."""

xlog: _xlog

class _xmlrpc:
    """KSR.xmlrpc, of xmlrpc."""

    @staticmethod
    def dispatch_rpc() -> int:
        """This function processes an XMLRPC request, found in the body of the request."""

    @staticmethod
    def xmlrpc_reply(code: int, reason: str, /) -> int:
        """This function can be called from the config script to directly generate an XML-RPC reply."""

xmlrpc: _xmlrpc
