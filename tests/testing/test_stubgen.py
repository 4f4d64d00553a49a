"""The generator's own logic, and that what is committed belongs together; tests/server asks the real server."""

from __future__ import annotations

import ast
import contextlib
import gc
import keyword
import sqlite3
import warnings
from pathlib import Path
from typing import Any

import pytest

from kemi.testing import api
from kemi.testing.stubgen import collect, readme, recipes, render, server
from kemi.testing.stubgen.server import Answer, StubgenError

STUB = Path(api.PATH).parent / "stubs/KSR-stubs/__init__.pyi"

README = """The SL Module

   3. Functions

        3.1. sl_send_reply(code, reason)

3. Functions

   3.1. sl_send_reply(code, reason)

3.1.  sl_send_reply(code, reason)

   For the current request, a reply is sent back. It has
   more text, e.g. this.

3.2.  t_relay([host, port])

   Relay a "message" statefully e.g. to a
   host. And more.

3.3.  t_set(0|1)

3.4.  t_long(class, "code" [, reason [, class]])

   x

4. Event Routes
"""


def test_the_stubs_are_what_the_generator_makes_of_the_data() -> None:
    assert STUB.read_text("utf-8") == render.stub(api.load())


def test_the_data_is_written_as_it_was_read() -> None:
    assert api.dumps(api.load()) == Path(api.PATH).read_text("utf-8")


def test_the_version_is_recorded() -> None:
    assert api.load().releases == ("5.6", "6.0")
    assert api.load().version == "5.6.3 and 6.0.1"
    assert f"KSR of Kamailio {api.load().version}" in STUB.read_text("utf-8")


def definitions() -> dict[tuple[str, str], list[ast.FunctionDef]]:
    """Module and name → each definition in the stubs."""
    found: dict[tuple[str, str], list[ast.FunctionDef]] = {}
    for node in ast.parse(STUB.read_text("utf-8")).body:
        functions = node.body if isinstance(node, ast.ClassDef) else [node]
        module = node.name[1:] if isinstance(node, ast.ClassDef) else ""
        for each in functions:
            if isinstance(each, ast.FunctionDef):
                assert not each.args.args
                found.setdefault((module, each.name), []).append(each)
    del found["x", "modf"]
    return found


def test_every_function_is_in_the_stubs() -> None:
    """With as many arguments as it has; of several definitions, each is an overload."""
    found = definitions()
    wanted: dict[tuple[str, str], set[int]] = {}
    for each in api.load().functions:
        key = each.module, each.name + "_" * keyword.iskeyword(each.name)
        wanted.setdefault(key, set()).add(len(each.types))
    assert {key: {len(each.args.posonlyargs) for each in nodes} for key, nodes in found.items()} == wanted
    for nodes in found.values():
        marked = ["overload" in map(ast.unparse, each.decorator_list) for each in nodes]
        assert all(marked) if len(nodes) > 1 else not any(marked)
    assert len(found) > 1300


@pytest.mark.parametrize(("release", "least"), [("5.6", 1189), ("6.0", 1310)])
def test_every_function_of_a_release(release: str, least: int) -> None:
    """What only one release has says so in its note, or in that of its class."""
    stubs = definitions()
    text = STUB.read_text("utf-8")
    functions = api.of(release).functions
    assert len(functions) >= least
    for each in functions:
        (whole,) = {one.releases for one in api.load().functions if one.form == each.form and release in one.releases}
        if whole == (release,):
            notes = [ast.get_docstring(one) or "" for one in stubs[each.module, each.name]]
            lonely = f"Only in {release}." in text.partition(f"class _{each.module}:")[2].partition("\n\n")[0]
            assert lonely or any(note.endswith(f"Only in {release}.") for note in notes), each.path


def test_what_6_has_beyond_5() -> None:
    only = {each.path for each in api.load().functions if each.releases == ("6.0",)}
    assert {"pv.getl", "pv.setl", "dialog.dlg_get_var", "tm.t_reply_error", "siputils.is_sip"} <= only
    assert len(only) > 130


def test_types() -> None:
    """As the server gives them."""
    functions = {each.path: render.result(each) for each in api.load().functions}
    assert functions["sl.sl_send_reply"] == "int"
    assert functions["is_INVITE"] == "bool"
    assert functions["info"] == "None"
    assert functions["hdr.get"] == functions["htable.sht_get"] == "str | None"
    assert functions["hdr.getw"] == "str"
    assert functions["pv.getl"] == "int"
    assert next(each.types for each in api.load().functions if each.path == "pv.setl") == ("str", "long")


def test_headings_of_a_readme() -> None:
    """Headings in the body count, those of the table of contents do not; optional arguments are told from others."""
    found = readme.parse(README)
    assert found["sl_send_reply"] == [
        readme.Entry(2, ("code", "reason"), "For the current request, a reply is sent back")
    ]
    assert found["t_relay"] == [readme.Entry(0, ("host", "port"), "Relay a 'message' statefully e.g. to a host")]
    assert found["t_set"] == [readme.Entry(1, ("",), "")]
    assert found["t_long"] == [readme.Entry(2, ("class_", "code", "reason", "class_"), "x")]


def test_a_heading_is_used_only_if_it_fits() -> None:
    entries = readme.parse(README)["t_relay"]
    assert readme.fitting(entries, 3) is None
    fit = readme.fitting(entries, 1)
    assert fit is not None
    assert fit.names == ("host",)


def test_no_readme(tmp_path: Path) -> None:
    assert readme.read("sl", str(tmp_path)) == {}


def row(name: str, params: str = "none", **more: Any) -> dict[str, Any]:
    return {"ret": "int", "module": "m", "name": name, "params": params, "shown": "m", "file": "m", **more}


def answer(*rows: dict[str, Any], listed: bool = True, names: dict[str, list[str]] | None = None) -> Answer:
    """What a server tells that has these functions."""
    plain = [{key: value for key, value in each.items() if key not in ("shown", "file")} for each in rows]
    shown = names if names is not None else {"": [], "m": [each["name"] for each in rows], "x": ["modf"]}
    return Answer(list(rows), shown, plain if listed else None, "" if listed else "because")


def test_what_servers_told_is_put_together() -> None:
    """Also what a module would bring that did not start; what could not be read is named."""
    unread = Answer(None, {}, None, "no such symbol")
    answers = {"b": answer(row("two", "str, int"), listed=False), "a": answer(row("one")), "c": unread}
    found = collect.merge("5.6.3", answers, lambda _: readme.parse("1.1.  two(x, x)\n\n   Text.\n"))
    assert [(each.path, each.types, each.names, each.doc) for each in found.functions] == [
        ("m.one", (), (), ""),
        ("m.two", ("str", "int"), ("x", "arg2"), "Text"),
    ]
    assert found.scans == {"5.6": api.Scan("5.6.3", {"b": "because"}, {"c": "no such symbol"})}
    assert {each.releases for each in found.functions} == {("5.6",)}
    assert api.loads(api.dumps(found)) == found


@pytest.mark.parametrize("names", [{"m": ["one", "more"], "x": ["modf"]}, {"m": [], "x": ["modf"]}])
def test_dir_must_show_the_same(names: dict[str, list[str]]) -> None:
    with pytest.raises(StubgenError, match="dir"):
        collect.merge("5.6.3", {"a": answer(row("one"), names=names)}, lambda _: {})


def test_the_list_must_be_the_same() -> None:
    told = answer(row("one"))._replace(listed=[])
    with pytest.raises(StubgenError, match="does not list"):
        collect.merge("5.6.3", {"a": told}, lambda _: {})


def test_two_servers_must_not_contradict_each_other() -> None:
    with pytest.raises(StubgenError, match="before"):
        collect.merge("5.6.3", {"a": answer(row("one")), "b": answer(row("one", "str"))}, lambda _: {})


def test_what_a_module_needs_is_loaded_before_it() -> None:
    names = recipes.needs("rls")
    assert names[-1] == "rls"
    assert names.index("db_sqlite") < names.index("presence") < names.index("rls")
    assert len(set(names)) == len(names)


def test_a_config_has_the_servers_own_folder_and_port() -> None:
    text = server.config_text("dmq", "/tmp/x", 5099)
    assert 'modparam("dmq", "server_address", "sip:127.0.0.1:5099")' in text
    assert "{" not in text.replace("request_route { exit; }", "")


# --- releases


def one_release(version: str, *rows: dict[str, Any]) -> api.Api:
    return collect.merge(version, {"a": answer(*rows)}, lambda _: {})


def test_two_releases_are_put_together() -> None:
    """What both have in the same form is there once; another form, and what only one has, say so."""
    old = one_release("5.6.3", row("both"), row("gone"), row("other", "str"))
    new = one_release("6.0.1", row("both"), row("come"), row("other", "str, str"))
    found = api.merge(old, new)
    assert {(each.name, each.types): each.releases for each in found.functions} == {
        ("both", ()): ("5.6", "6.0"),
        ("come", ()): ("6.0",),
        ("gone", ()): ("5.6",),
        ("other", ("str",)): ("5.6",),
        ("other", ("str", "str")): ("6.0",),
    }
    assert api.merge(new, old) == found
    assert api.only(found, "5.6") == old
    assert api.only(found, "6.0") == new
    assert api.loads(api.dumps(found)) == found
    text = render.stub(found)
    assert text.count("Only in 5.6.") == text.count("Only in 6.0.") == 2
    assert text.count("@overload\n    @staticmethod\n    def other(") == 2


def test_a_release_is_read_again() -> None:
    """What it had is replaced, what the other has stays."""
    known = api.merge(one_release("5.6.3", row("a"), row("b")), one_release("6.0.1", row("a")))
    found = api.merge(known, one_release("5.6.4", row("b"), row("c")))
    assert found.version == "5.6.4 and 6.0.1"
    assert {each.name: each.releases for each in found.functions} == {"a": ("6.0",), "b": ("5.6",), "c": ("5.6",)}


def test_a_function_that_is_listed_twice() -> None:
    """Python has the one that came last; the same one twice is one."""
    twice = answer(row("lock", "str"), row("same"), row("lock", "str, str"), row("same"))
    found = collect.merge("6.0.1", {"a": twice}, lambda _: {})
    assert [(each.name, each.types) for each in found.functions] == [("lock", ("str", "str")), ("same", ())]


def test_two_modules_with_the_same_name() -> None:
    """As ims_qos and ims_qos_npn: both forms are there."""
    answers = {"a": answer(row("one", file="a")), "b": answer(row("one", "str", file="b"))}
    found = collect.merge("6.0.1", answers, lambda _: {})
    assert [each.types for each in found.functions] == [(), ("str",)]


def test_a_type_that_the_core_cannot_name() -> None:
    """It lists nothing for the whole function; one that is not known at all is Any."""
    told = answer(row("setl", "str, long"), row("odd", "str, type64"))
    listed: Any = [{**each, "params": None} for each in told.listed or []]
    found = collect.merge("6.0.1", {"a": told._replace(listed=listed)}, lambda _: {})
    assert [each.types for each in found.functions] == [("str", "type64"), ("str", "long")]
    assert "def setl(arg1: str, arg2: int, /) -> int: ..." in render.stub(found)
    assert "def odd(arg1: str, arg2: Any, /) -> int: ..." in render.stub(found)


def test_tables_that_are_there_already() -> None:
    """Two files may make the same table and write the same row of versions; any other error is one."""
    made = "CREATE TABLE t (id INTEGER PRIMARY KEY);\nINSERT INTO t VALUES (1);\nCREATE INDEX i ON t (id);\n"
    with contextlib.closing(sqlite3.connect(":memory:")) as database:
        recipes.create(database, made)
        recipes.create(database, made + "CREATE TABLE u (id INTEGER);\n")
        assert database.execute("SELECT count(*) FROM t").fetchone() == (1,)
        assert database.execute("SELECT count(*) FROM u").fetchone() == (0,)
        with pytest.raises(sqlite3.OperationalError, match="no such table"):
            recipes.create(database, "INSERT INTO nowhere VALUES (1);\n")


def test_a_database_is_closed_when_its_files_are_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x-create.sql").write_text("INSERT INTO nowhere VALUES (1);\n", "utf-8")
    monkeypatch.setattr(recipes, "SQL", str(tmp_path / "*-create.sql"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(sqlite3.OperationalError):
            recipes.prepare("auth_db", str(tmp_path))
        gc.collect()


@pytest.mark.parametrize("garbage", ["undefined symbol: _x_exports", "\ufffd1\ufffdU", 'a"\\b', ""])
def test_a_reason_is_the_same_in_each_run(garbage: str) -> None:
    """Kamailio 6.0 writes memory that is free already where a library's error should be."""
    log = f" 0(1) ERROR: <core> [core/sr_module.c:594]: ksr_load_module(): failure for x - dlerror: {garbage}\n"
    assert server._reason(log, "/tmp/x") == "<core> ksr_load_module(): failure for x"
