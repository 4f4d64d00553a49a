"""What of the server's core cannot be used is told in one line, and everything else works."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import pytest

from tests.server.harness import Reachable, release
from tests.server.transports import Answer, ask

if TYPE_CHECKING:
    from tests.server.harness import Servers

VARIABLES, COMMANDS, STOP = "$mqk, $mqv and $mq_size", "the RPC commands mqueue.*", "a hook at the server's stop"
BIND = "bind_mq for acc_json"
BOTH = {VARIABLES, COMMANDS}
ALL = {f"{VARIABLES}, {COMMANDS} and {STOP}"}  # in one line

INSTEAD = (
    "use mqk_gete, mqv_gete and mq_size",
    "mqueue_kemi",
    "the next start takes it over",
    "the C module mqueue and its queues",
    "the queues work without",
    "see docs/reference/versions.md",
)

VERSION = ".".join(map(str, release()))

# At the top of the script, before mod_init.
WITHOUT = """
    from kemi.server import core
    function = core.function
    def without(library, name, *types):
        return function(library, name if name != {symbol!r} else "no_" + name, *types)
    core.function = without
"""
OTHER_LAYOUT = "from kemi.server import pvars; pvars._NUMBER_AT += 1"
OTHER_SPEC = "from kemi.server import pvars; pvars.NAME_IN_SPEC += 8"
NO_EXPORTS = "from kemi.server import embedder; embedder._MODULES = ((b'app_python3', (b'nothing',)),)"
RAISING = "from kemi.server import rpc; rpc.RpcApi = None"


def broken(prelude: str, definitions: tuple[str, ...] = ("name=q",), **more: object) -> Reachable:
    """Set up a server whose script begins with these lines."""
    server = Reachable(definitions, **more)  # type: ignore[arg-type]
    script = server.home / "script.py"
    before, start, after = script.read_text("utf-8").partition("class Script(Probe):")
    script.write_text(before + textwrap.dedent(prelude) + "\n" + start + after, "utf-8")
    return server


def works(server: Reachable, without: set[str]) -> None:
    """See that all works but what is named."""
    assert server.run("return [f('q') for f in (mq.mq_size, mq.mq_fetch)] + [mq.mq_add('q', 'k', 'v')]") == [-1, -2, 1]
    assert server.run("return KSR.mqueue.mq_size('q'), KSR.mqueue.mq_fetch('q')") == (1, 1)
    without = {part for what in without for part in ([VARIABLES, COMMANDS, STOP] if {what} == ALL else [what])}
    if VARIABLES not in without:
        assert server.run("return KSR.pv.get('$mqk(q)'), KSR.pv.get('$mq_size(q)')") == ("k", 0)
    if COMMANDS not in without:
        for way in server.json:
            assert ask(way, "mqueue.get_size", "q") == Answer({"name": "q", "size": 0})
        assert server.kamcmd("mqueue.get_size", "q") == "{\n\tname: q\n\tsize: 0\n}\n"


def ends(server: Reachable, without: set[str]) -> None:
    """See that it stops cleanly, and takes its segments away when it can."""
    server.stop()
    stays = STOP in without or without == ALL
    assert bool(server.segments()) == stays
    if stays:
        for path in server.segments():
            path.unlink()


@pytest.mark.parametrize(
    ("prelude", "missing", "why"),
    [
        (WITHOUT.format(symbol="register_pvars_mod"), {VARIABLES}, "does not export no_register_pvars_mod"),
        (WITHOUT.format(symbol="pv_get_strval"), {VARIABLES}, "does not export no_pv_get_strval"),
        (WITHOUT.format(symbol="pv_get_sintval"), {VARIABLES}, "does not export no_pv_get_sintval"),
        (WITHOUT.format(symbol="pv_parse_spec2"), BOTH, "does not export no_pv_parse_spec2"),
        (WITHOUT.format(symbol="rpc_register_array"), {COMMANDS}, "does not export no_rpc_register_array"),
        (WITHOUT.format(symbol="my_desc"), {COMMANDS}, "does not export no_my_desc"),
        (WITHOUT.format(symbol="find_module_by_name"), {STOP, BIND}, "does not export no_find_module_by_name"),
        ("from kemi.server import core; core._NEWEST = (5, 5)", ALL, f"the C structs of Kamailio {VERSION}"),
        ("from kemi.server import core; core._OLDEST = (99, 0)", ALL, "are not known"),
        ("from kemi.server import core; core._POINTER_BYTES = 4", ALL, "64-bit little-endian machines only"),
        ("import sys; sys.byteorder = 'big'", ALL, "64-bit little-endian machines only"),
        ("from kemi.server import embedder; embedder._MODULE_POINTERS = 8", {STOP}, "found 0 times, not once"),
        (NO_EXPORTS, {STOP}, "exports of app_python3 was not found"),
        (OTHER_LAYOUT, {VARIABLES}, "does not come back"),
        (OTHER_SPEC, {VARIABLES}, "does not come back"),
        ("from kemi.server import values; values.VALUE_BYTES = 17", BOTH, "the flags of pv_value_t were not found"),
        ("from kemi.server.structs import PkgApi; PkgApi.name = b'other'", {COMMANDS}, "private memory is not known"),
        (RAISING, {COMMANDS}, "TypeError: 'NoneType' object is not callable"),
    ],
)
def test_without_a_part_of_the_core(servers: Servers, prelude: str, missing: set[str], why: str) -> None:
    """One line for each feature that is missing, with its reason and what to use instead; the rest works."""
    server = servers.start(broken(prelude))
    lines = server.told()
    assert len(lines) == len(missing), lines
    for what in missing:
        (line,) = server.process.log_lines("mqueue_kemi: ", f"{what} not available: ", why, "; ")
        assert line.endswith(INSTEAD)
    works(server, missing)
    ends(server, missing)


TAKEN_COMMAND = """
    import ctypes
    from kemi.server import core, structs
    function = structs.RpcFunction(lambda rpc, context: structs.Rpc.from_address(rpc).fault(context, 599, b"other's"))
    doc = (structs.Text * 2)(b"other", None)
    others = (structs.RpcExport * 2)(structs.RpcExport(b"mqueue.peek", function, doc, 0))
    register = core.function(core.trusted(), "rpc_register_array", ctypes.c_int, ctypes.c_void_p)
    assert register(ctypes.byref(others)) == 0
    kept = function, doc, others
"""
TAKEN_VARIABLE = """
    import ctypes
    from kemi.server import core, structs
    library = core.trusted()
    give = core.function(library, "pv_get_sintval", ctypes.c_int, *[ctypes.c_void_p] * 3, ctypes.c_long)
    get = structs.PvGet(lambda message, param, value: give(message, param, value, 77))
    parse = structs.PvParseName(lambda spec, name: 0)
    others = (structs.PvExport * 2)(structs.PvExport(structs.str_of(b"mqv"), 22, get, None, parse))
    core.function(library, "register_pvars_mod", ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(b"x", others)
    kept = get, parse, others
"""


def test_a_command_of_another_module(servers: Servers) -> None:
    """The name stays the other's, one line says so, and the other five commands work."""
    server = servers.start(broken(TAKEN_COMMAND))
    (line,) = server.told()
    assert "mqueue.peek not available: another module has this name; use" in line
    assert ask(server.http, "mqueue.peek", "q").code == 599
    works(server, set())
    ends(server, set())


def test_a_variable_of_another_module(servers: Servers) -> None:
    """The same with a pseudo-variable."""
    server = servers.start(broken(TAKEN_VARIABLE))
    (line,) = server.told()
    assert "$mqv not available: another module has this name; use" in line
    assert server.run("return KSR.pv.get('$mqv(q)')") == 77
    works(server, set())
    ends(server, set())


def test_beside_the_c_module(servers: Servers) -> None:
    """Its names win, ours say so once, and both work side by side."""
    server = Reachable(["name=q", "name=ours"], cfg='loadmodule "mqueue.so"\nmodparam("mqueue", "mqueue", "name=q")')
    servers.start(server)
    (line,) = server.told()
    assert "the C module mqueue is loaded" in line
    found = server.run("""
        mq.mq_add("q", "ours", "o")
        KSR.mqueue.mq_add("q", "theirs", "t")
        KSR.mqueue.mq_add("q", "theirs", "t")
        KSR.mqueue.mq_fetch("q")
        mq.mq_fetch("q")
        return KSR.pv.get("$mqk(q)"), mq.mqk_get("q"), KSR.mqueue.mqk_get("q"), KSR.pv.get("$mq_size(ours)")
    """)
    assert found == ("theirs", "ours", "theirs", None)
    for way in server.json:
        assert ask(way, "mqueue.get_sizes") == Answer([{"name": "q", "size": 1}])
    assert not [name for name in ask(server.http, "system.listMethods").result if name == "mqueue.peek"]
    ends(server, set())


def test_switched_off(servers: Servers) -> None:
    """modparam("mqueue", "core", 0): none of the three, no word about it, and the next start takes the queues over."""
    server = servers.start(broken("mqueue_kemi.modparam('mqueue', 'core', 0)"))
    assert not server.told()
    works(server, ALL)
    assert server.run("mq.mq_add('q', 'k', 'left'); return KSR.pv.get('$mqk(q)')") is None
    assert "command mqueue.get_size not found" in server.clients[0].run("mqueue.get_size", "q").out.decode()
    server.stop()
    assert server.segments()
    again = Reachable()
    again.instance = server.instance
    again.write_script(["name=q"])
    servers.start(again)
    assert again.run("return mq.mq_fetch('q'), mq.mqv_get('q')") == (1, "left")


FORCED = "from kemi.server import core; core._NEWEST = (5, 5); mqueue_kemi.modparam('mqueue', 'core', 'force')"


def test_an_unknown_version_is_tried_when_an_operator_says_so(servers: Servers) -> None:
    """modparam("mqueue", "core", "force"): one line says so, and all that its checks allow is there."""
    server = servers.start(broken(FORCED))
    (line,) = server.told()
    assert "only those of 5.6 to 5.5; they are tried, as" in line
    works(server, set())
    ends(server, set())


@pytest.mark.parametrize("layout", [OTHER_LAYOUT, OTHER_SPEC, "from kemi.server import values; values._NULL = 2"])
def test_the_checks_count_more_than_what_an_operator_says(servers: Servers, layout: str) -> None:
    """Where what was registered does not come back, it is off also when it was forced."""
    server = servers.start(broken(f"{FORCED}\n{layout}"))
    assert server.process.log_lines(f"{VARIABLES} not available: ")
    server.run("return mq.mq_add('q', 'k', 'v')")
    server.stop()
    assert server.segments() == []


def test_an_rpc_module_that_is_not_as_known(servers: Servers) -> None:
    """Its functions are called only when all of them lie in one module; the line says what was found."""
    prelude = """
        from kemi.server import structs
        structs.Rpc.fault = property(lambda rpc: structs.Pointer.in_dll(structs.ctypes.PyDLL(None), "stdout"))
    """
    server = servers.start(broken(prelude))
    assert server.run("return mq.mq_add('q', 'k', 'v')") == 1
    server._kamcmd("mqueue.fetch", "q")
    assert server.process.log_lines("mqueue_kemi: mqueue.fetch: Unavailable: the functions of an rpc_t are found in 2")
    assert server.run("return mq.mq_size('q')") == 1
