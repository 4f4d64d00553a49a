"""`mqueue-kemi doctor`: all that a bug report needs, nothing of what is in the queues, and an answer in any trouble."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from kemi.names import VERSION
from kemi.queue.format import layout
from kemi.queue.kernel import choice
from tests.cli.command import NOBODY
from tests.conftest import SHM
from tests.locked import locked

if TYPE_CHECKING:
    from tests.cli.command import Command
    from tests.processes.children import Children
    from tests.processes.serve import Serve

CALLER = "sip:alice@example.org"


def ours(found: dict[str, Any], serve: Serve) -> Any:
    (instance,) = (one for one in found["instances"] if one["name"] == serve.instance)
    return instance


def test_what_a_report_needs(serve: Serve, command: Command) -> None:
    queue = serve("name=a;size=3", "name=b")
    queue.add("k", "v")
    found = command("doctor", "--json").json()
    versions = found["versions"]
    assert (versions["mqueue_kemi"], versions["memory format"]) == (VERSION, layout.VERSION)
    assert versions["kernel"] == choice.description()
    assert versions["kamailio"].startswith("version: kamailio ")
    assert found["limits"]["size of /dev/shm"] > 0
    assert found["limits"]["descriptors"]
    instance = ours(found, serve)
    assert (instance["server"], instance["pid"]) == ("alive", os.getpid())
    assert [one["name"] for one in instance["queues"]] == ["a", "b"]
    first = instance["queues"][0]
    assert (first["size"], first["size_limit"], first["lock"]) == (1, 3, "free")
    assert first["file"].startswith("-rw------- user 0 ")


def test_text_has_the_same(serve: Serve, command: Command) -> None:
    serve("name=a")
    done = command("doctor")
    assert (done.code, done.err) == (0, "")
    for line in (f"mqueue_kemi: {VERSION}", "size of /dev/shm: ", f"{serve.instance}:", "lock: free"):
        assert line in done.out


def test_no_content_and_no_password(serve: Serve, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    queue = serve("name=a;dbmode=0")
    queue.add(CALLER, CALLER)
    monkeypatch.setenv("MQUEUE_KEMI_DB_URL", "mysql://user:hunter2@host/db")
    for arguments in (["doctor"], ["doctor", "--json"]):
        done = command(*arguments)
        assert done.code == 0
        assert "alice" not in done.out
        assert "hunter2" not in done.out
        assert "MQUEUE_KEMI_DB_URL is set" in done.out


def test_a_lock_that_is_held(serve: Serve, command: Command) -> None:
    """It says who has it, and waits for nobody."""
    queue = serve("name=a")
    with locked(queue._mutex):
        lock = ours(command("doctor", "--json").json(), serve)["queues"][0]["lock"]
    assert lock.startswith("held by thread ")


def test_in_trouble(serve: Serve, command: Command) -> None:
    """A damaged queue, a draft and a missing segment are told; the rest is there all the same."""
    queue = serve("name=a", "name=b")
    queue.segment.bytes[0:8] = b"damaged!"
    own, away = SHM / f"mqk.{serve.instance}", SHM / f"mqk.{serve.instance}~away"
    own.rename(away)
    found = command("doctor", "--json").json()
    away.rename(own)
    queue.segment.bytes[0:8] = b"mqkemi-q"
    instance = ours(found, serve)
    assert "error" in instance
    assert "error" in instance["queues"][0]
    assert instance["queues"][1]["size"] == 0
    assert away.name in found["other files"]


def test_a_user_who_may_read_nothing(serve: Serve, command: Command, children: Children) -> None:
    serve("name=a")
    done = command.as_nobody(children, "doctor")
    assert done.code == 0, done.err
    assert f"user: {NOBODY}" in done.out
    assert "-rw------- user 0" in done.out


def test_no_kamailio(serve: Serve, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    from kemi.cli import doctor

    del serve, command
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    assert doctor._kamailio() == "not found"
