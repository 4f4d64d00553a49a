"""Bad definitions keep Kamailio from starting; bad calls get the documented code and one clear line, no more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.server.harness import Kamailio

if TYPE_CHECKING:
    from tests.server.harness import Servers

ERROR = "kemi.errors.ConfigError: "  # the last line of the traceback that Kamailio logs
BAD_DEFINITIONS = {
    "no name": ["size=3"],
    "empty name": ["name=;size=3"],
    "unknown attribute": ["name=q;colour=red"],
    "size is no number": ["name=q;size=many"],
    "negative size": ["name=q;size=-1"],
    "maxbytes is no number": ["name=q;maxbytes=lots"],
    "dbmode out of range": ["name=q;dbmode=4"],
    "dbmode is no number": ["name=q;dbmode=yes"],
    "addmode out of range": ["name=q;addmode=3"],
    "negative addmode": ["name=q;addmode=-1"],
    "attribute without value": ["name=q;size"],
    "a name twice": ["name=q;size=3", "name=q;size=4"],
}
# Name and value, and what the line must say besides the name.
BAD_PARAMS = {
    "unknown parameter": ("colour", "red", "no such parameter"),
    "mode is no mode": ("mode", "rw-rw----x", "rw-rw----x"),
    "unknown group": ("group", "no-such-group", "no-such-group"),
    "lock_timeout is no number": ("lock_timeout", "soon", "soon"),
    "max_memory is no number": ("max_memory", "plenty", "plenty"),
    "empty instance": ("instance", "", "needs a name"),
    "negative mqueue_size": ("mqueue_size", -1, "-1"),
    "mqueue_addmode out of range": ("mqueue_addmode", 3, "3"),
}


@pytest.mark.parametrize("definitions", BAD_DEFINITIONS.values(), ids=BAD_DEFINITIONS.keys())
def test_a_bad_definition_is_refused(servers: Servers, definitions: list[str]) -> None:
    """Kamailio does not start; one line names the error, the parameter and the text; no segment is left."""
    server = servers.add(Kamailio(definitions))
    server.refused()
    assert len(server.process.log_lines(ERROR, '"mqueue"', definitions[-1])) == 1
    assert server.segments() == []


@pytest.mark.parametrize(("name", "value", "text"), BAD_PARAMS.values(), ids=BAD_PARAMS.keys())
def test_a_bad_parameter_is_refused(servers: Servers, name: str, value: object, text: str) -> None:
    """The same for the other parameters."""
    server = servers.add(Kamailio(params=[(name, value)]))
    server.refused()
    assert len(server.process.log_lines(ERROR, f'"{name}"', text)) == 1
    assert server.segments() == []


# The call, its code, and what the log line must say.
BAD_CALLS: dict[str, tuple[str, tuple[object, ...], int, str]] = {
    "add to an unknown queue": ("mq_add", ("nosuch", "k", "v"), -1, "nosuch"),
    "fetch from an unknown queue": ("mq_fetch", ("nosuch",), -1, "nosuch"),
    "size of an unknown queue": ("mq_size", ("nosuch",), -2, "nosuch"),
    "add without a queue": ("mq_add", (None, "k", "v"), -1, "NoneType"),
    "fetch from None": ("mq_fetch", (None,), -1, "NoneType"),
    "fetch from a number": ("mq_fetch", (7,), -1, "int"),
    "size of a number": ("mq_size", (7,), -2, "int"),
    "fetch from a list": ("mq_fetch", ([],), -1, "list"),
    "key None": ("mq_add", ("q", None, "v"), -1, "NoneType"),
    "value None": ("mq_add", ("q", "k", None), -1, "NoneType"),
    "key a number": ("mq_add", ("q", 7, "v"), -1, "int"),
    "value a number": ("mq_add", ("q", "k", 7), -1, "int"),
    "value a list": ("mq_add", ("q", "k", []), -1, "list"),
}


@pytest.mark.parametrize(("function", "arguments", "code", "word"), BAD_CALLS.values(), ids=BAD_CALLS.keys())
def test_a_bad_call_gets_its_code_and_one_line(
    servers: Servers, function: str, arguments: tuple[object, ...], code: int, word: str
) -> None:
    """The documented code, exactly one log line that names function and culprit; the queue is as before."""
    server = servers.start(Kamailio())
    before = len(server.process.log().splitlines())
    assert server.call(function, *arguments) == code
    lines = server.process.log().splitlines()[before:]
    assert len(lines) == 1
    assert function in lines[0]
    assert word in lines[0]
    assert "ERROR" in lines[0]
    assert server.run("return mq.mq_add('q', 'k', 'v'), mq.mq_size('q')") == (1, 1)


@pytest.mark.parametrize("function", ["mqk_get", "mqv_get"])
def test_the_slot_of_an_unknown_queue_is_null(servers: Servers, function: str) -> None:
    """Nothing was ever fetched from a queue that does not exist: None, "" and "<null>"."""
    server = servers.start(Kamailio())
    assert server.call(function, "nosuch") is None
    assert server.call(function + "e", "nosuch") == ""
    assert server.call(function + "w", "nosuch") == "<null>"
    assert server.call("mq_pv_free", "nosuch") == 1


def test_a_value_past_maxbytes_is_refused(servers: Servers) -> None:
    """An add past `maxbytes` gets -1 and one line, takes nothing out, and there is room again after a fetch."""
    server = servers.start(Kamailio(["name=q;maxbytes=1000"]))
    assert server.run("return [mq.mq_add('q', 'k', 'v' * 400) for _ in range(2)]") == [1, 1]
    before = len(server.process.log().splitlines())
    assert server.run("return mq.mq_add('q', 'k', 'v' * 400)") == -1
    lines = server.process.log().splitlines()[before:]
    assert len(lines) == 1
    assert "maxbytes" in lines[0]
    assert server.run("return mq.mq_size('q'), mq.mq_fetch('q'), mq.mq_add('q', 'k', 'v' * 400)") == (2, 1, 1)
