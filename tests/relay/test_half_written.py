"""An engine that was killed in the middle of writing a batch, and then once more: it has each item once."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from kemi.errors import NotAllowed
from kemi.relay.aof import FileBegunAnew
from kemi.relay.engine import Durability, Entry
from kemi.relay.link import EngineBusy, connected
from kemi.relay.server import RedisEngine
from kemi.relay.url import parse
from tests.relay.servers import DURABLE, PATIENCE, PROGRAMS, EngineServer
from tests.support.waits import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

COUNT = 40
BEFORE_7 = "appendonly.aof"  # the only file, which is replaced when it is begun anew
MULTI = b"*1\r\n$5\r\nMULTI\r\n"  # before a script's work
EVERYSEC = ("--appendonly", "yes", "--appendfsync", "everysec")
every_server = pytest.mark.parametrize("program", PROGRAMS or ("",))


def entries(first: int, last: int) -> list[Entry]:
    return [Entry(number, 1, f"id{number}", 1.5, b"k", b"%d" % number, 0) for number in range(first, last)]


def to(engine: EngineServer, user: str = "") -> RedisEngine:
    address = parse(f"unix://{user}{engine.socket}?timeout={PATIENCE}")
    return RedisEngine(address, "q", Durability.parse("memory"))


def send(engine: EngineServer, some: list[Entry]) -> int:
    """Send them over a connection of their own, as a relay does that was started. Returns how many were new."""
    relay = to(engine)
    while True:
        try:
            added = relay.send("source", some, lambda: None).added
        except EngineBusy:  # its file is begun anew first
            continue
        relay.close()
        return added


def written(engine: EngineServer) -> Path:
    """What it writes to, on its disk."""
    files = [*engine.folder.glob("appendonlydir/*.incr.aof")]
    path = max(files, key=lambda path: int(path.suffixes[-3].strip("."))) if files else engine.folder / BEFORE_7
    with engine.client() as client:
        until(lambda: client.info("persistence")["aof_pending_bio_fsync"] == 0, "all is on the disk")
        until(lambda: client.info("persistence")["aof_buffer_length"] == 0, "all is in the file")
    return path


def break_off(engine: EngineServer, part: float) -> None:
    """Send a batch to which there is no reply, since the server is killed when that part of it is in its file."""
    assert send(engine, entries(1, 1 + COUNT)) == COUNT
    path = written(engine)
    engine.kill()
    data = path.read_bytes()
    before = data.rindex(MULTI)
    os.truncate(path, before + int((len(data) - before) * part))
    engine.start()


def rewrites(engine: EngineServer) -> int:
    with engine.client() as client:
        about = client.info("persistence")
    assert about["aof_last_bgrewrite_status"] == "ok"
    if "aof_rewrites" not in about:
        pytest.skip("this server does not count how often its file was begun anew (from 7.0 on)")
    return int(about["aof_rewrites"])


def numbers(engine: EngineServer) -> list[int]:
    return [int(item[b"v"]) for item in engine.items("q")]


@every_server
@pytest.mark.parametrize("options", [DURABLE, EVERYSEC], ids=["always", "everysec"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.95])
def test_half_a_batch(start: Callable[..., EngineServer], program: str, options: tuple[str, ...], part: float) -> None:
    """It is sent again; at the server's next start nothing else is there."""
    engine = start(*options, program=program)
    assert send(engine, entries(0, 1)) == 1
    break_off(engine, part)
    assert "short read" in (engine.folder / "log").read_text()
    assert numbers(engine) == [0]
    assert send(engine, entries(1, 1 + COUNT)) == COUNT
    written(engine)
    engine.kill()
    engine.start()
    assert numbers(engine) == list(range(1 + COUNT))
    assert send(engine, entries(0, 2 + COUNT)) == 1  # and what it knows of the source is true


@every_server
def test_it_is_killed_while_it_begins_anew(start: Callable[..., EngineServer], program: str) -> None:
    """Both files are there then, and the server may refuse its first start; at the one after it each item is there."""
    engine = start(*DURABLE, program=program)
    send(engine, entries(0, 1))
    rewrites(engine)  # one that does not count is sent nothing meanwhile
    break_off(engine, 0.5)
    with engine.client() as client:
        client.config_set("rdb-key-save-delay", 30_000_000)  # microseconds for each key: it will not come to its end
        assert send(engine, entries(1, 1 + COUNT)) == COUNT
        assert client.info("persistence")["aof_rewrite_in_progress"] == 1
    engine.kill()
    engine.start()
    assert numbers(engine) == list(range(1 + COUNT))


@every_server
def test_once_for_each_start(start: Callable[..., EngineServer], program: str) -> None:
    """However many relays and connections there are."""
    engine = start(*DURABLE, program=program)
    for number in range(3):
        send(engine, entries(number, number + 1))
        assert rewrites(engine) == 1
    engine.kill()
    engine.start()
    assert rewrites(engine) == 0
    send(engine, entries(3, 4))
    assert rewrites(engine) == 1


@every_server
def test_a_user_who_may_not(start: Callable[..., EngineServer], program: str) -> None:
    """Nothing is sent, and the error names the command and what to write; without such a file it is not needed."""
    engine = start(*DURABLE, program=program)
    with engine.client() as client:
        client.execute_command("ACL", "SETUSER", "relay", "on", "nopass", "~*", "+@all", "-bgrewriteaof")
    with pytest.raises(NotAllowed, match=r"may not use BGREWRITEAOF.*\+bgrewriteaof"):
        to(engine, "relay:x@").connect()
    assert not engine.items("q")
    without = start(program=program)
    with without.client() as client:
        client.execute_command("ACL", "SETUSER", "relay", "on", "nopass", "~*", "+@all", "-bgrewriteaof")
    to(without, "relay:x@").connect()


def test_a_server_without_the_command(start: Callable[..., EngineServer]) -> None:
    """Who runs it has renamed it, and minds its files: it is used all the same."""
    engine = start(*DURABLE, "--rename-command", "BGREWRITEAOF", "")
    assert send(engine, entries(0, 3)) == 3


def test_servers_that_do_not_count(start: Callable[..., EngineServer], monkeypatch: pytest.MonkeyPatch) -> None:
    """Before 7.0 a server goes on writing to the old file meanwhile: nothing is sent before the new one is there."""
    engine = start(*DURABLE)
    link = connected(parse(f"unix://{engine.socket}?timeout={PATIENCE}"))
    state = {"aof_enabled": "1", "run_id": "one", "aof_rewrite_in_progress": "1", "aof_last_bgrewrite_status": "ok"}
    monkeypatch.setattr(link, "info", lambda: state)
    file = FileBegunAnew()
    for _ in range(3):
        with pytest.raises(EngineBusy, match="begun anew first"):
            file.ensure(link)
    state["aof_rewrite_in_progress"] = "0"
    file.ensure(link)
    assert rewrites(engine) == 1  # asked for once
    state["aof_last_bgrewrite_status"] = "err"
    with pytest.raises(EngineBusy, match="failed"):
        file.ensure(link)
    link.close()
