"""The generator's own logic, and that what is committed belongs together; tests/server asks the real server."""

from __future__ import annotations

import ast
import keyword
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
    assert api.load().version.startswith("5.6.")
    assert f"KSR of Kamailio {api.load().version}" in STUB.read_text("utf-8")


def test_every_function_is_in_the_stubs() -> None:
    """Once, with as many arguments as it has."""
    found: dict[tuple[str, str], int] = {}
    for node in ast.parse(STUB.read_text("utf-8")).body:
        functions = node.body if isinstance(node, ast.ClassDef) else [node]
        module = node.name[1:] if isinstance(node, ast.ClassDef) else ""
        for each in functions:
            if isinstance(each, ast.FunctionDef):
                assert (module, each.name) not in found
                assert not each.args.args
                found[module, each.name] = len(each.args.posonlyargs)
    del found["x", "modf"]
    assert found == {
        (each.module, each.name + "_" * keyword.iskeyword(each.name)): len(each.types) for each in api.load().functions
    }
    assert len(found) > 1100


def test_types() -> None:
    """As the server gives them."""
    functions = {each.path: render.result(each) for each in api.load().functions}
    assert functions["sl.sl_send_reply"] == "int"
    assert functions["is_INVITE"] == "bool"
    assert functions["info"] == "None"
    assert functions["pv.get"] == functions["hdr.get"] == functions["htable.sht_get"] == "str | None"
    assert functions["pv.gete"] == functions["hdr.getw"] == "str"


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
    assert found.not_started == {"b": "because"}
    assert found.not_loaded == {"c": "no such symbol"}
    assert api.loads(api.dumps(found)) == found


@pytest.mark.parametrize("names", [{"m": ["one", "more"], "x": ["modf"]}, {"m": [], "x": ["modf"]}])
def test_dir_must_show_the_same(names: dict[str, list[str]]) -> None:
    with pytest.raises(StubgenError, match="dir"):
        collect.merge("1", {"a": answer(row("one"), names=names)}, lambda _: {})


def test_the_list_must_be_the_same() -> None:
    told = answer(row("one"))._replace(listed=[])
    with pytest.raises(StubgenError, match="does not list"):
        collect.merge("1", {"a": told}, lambda _: {})


def test_two_servers_must_not_contradict_each_other() -> None:
    with pytest.raises(StubgenError, match="before"):
        collect.merge("1", {"a": answer(row("one")), "b": answer(row("one", "str"))}, lambda _: {})


def test_what_a_module_needs_is_loaded_before_it() -> None:
    names = recipes.needs("rls")
    assert names[-1] == "rls"
    assert names.index("db_sqlite") < names.index("presence") < names.index("rls")
    assert len(set(names)) == len(names)


def test_a_config_has_the_servers_own_folder_and_port() -> None:
    text = server.config_text("dmq", "/tmp/x", 5099)
    assert 'modparam("dmq", "server_address", "sip:127.0.0.1:5099")' in text
    assert "{" not in text.replace("request_route { exit; }", "")
