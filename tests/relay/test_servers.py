"""Every server that is installed (Redis 7.0 in Debian 12, Redis 8.0 and Valkey 8.1 in Debian 13), also over TLS."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from kemi.errors import Disconnected
from mqueue_kemi import attach
from tests.databases.secure import certificate
from tests.relay.ledger import Run, relay
from tests.relay.servers import DURABLE, HOST, PATIENCE, PROGRAMS
from tests.relay.test_kills import follow, kill_all
from tests.support.waits import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.command import Command
    from tests.processes.children import Children
    from tests.processes.serve import Serve
    from tests.relay.servers import EngineServer

every_server = pytest.mark.parametrize("program", PROGRAMS or ("none",))
SHORT, LONG = 6, 200  # kills


@every_server
@pytest.mark.parametrize("kills", [SHORT, pytest.param(LONG, marks=pytest.mark.stress)])
def test_nothing_is_lost_or_doubled(
    serve: Serve, children: Children, start: Callable[..., EngineServer], program: str, kills: int
) -> None:
    engine = start(*DURABLE, program=program)
    run = Run(serve, children, f"{engine.url}?timeout=2", "fsync")
    kill_all(run, [engine], kills)
    account = run.account(engine)
    assert account.added
    assert account[1:] == (0, 0, 0), account


@every_server
def test_its_queues_are_used_as_ours(start: Callable[..., EngineServer], program: str) -> None:
    with attach("q", f"{start(program=program).url}?dead_letter=dead", lock_timeout=PATIENCE) as queue:
        assert all(queue.add_many([("k", str(number)) for number in range(6)]))
        first = queue.reserve().take()
        assert first is not None
        with queue.reserve(PATIENCE) as item:
            assert item is not None
            assert item.value == "1"
        first.give_back()
        again = queue.reserve().take()
        assert again is not None
        assert (again.id, again.value, again.deliveries) == (first.id, "0", 2)
        again.reject("no reason")
        later = queue.reserve().take()
        assert later is not None
        later.give_back(after=3600)
        assert [item.value for item in queue.peek(None)] == ["3", "4", "5"]
        assert [queue.fetch(PATIENCE) for _ in range(3)]
        stats = queue.stats()
        assert (stats.size, stats.reserved, stats.due, stats.fetched, stats.dead_lettered) == (0, 0, 1, 4, 1)
        assert stats.added == 6


@every_server
def test_tls_is_verified(
    serve: Serve, command: Command, start: Callable[..., EngineServer], program: str, tmp_path: Path
) -> None:
    """The authority must be known, and the certificate be of the host that was named."""
    certificate(tmp_path)
    files = ("--tls-cert-file", f"{tmp_path}/cert.pem", "--tls-key-file", f"{tmp_path}/key.pem")
    engine = start(*DURABLE, *files, "--tls-auth-clients", "no", program=program, tls=True)
    place = f"rediss://{HOST}:{engine.port}/0"
    with attach("q", f"{place}?tls_ca={tmp_path}/cert.pem", lock_timeout=PATIENCE) as queue:
        assert queue.add("k", "v")
    with pytest.raises(Disconnected, match="certificate"):
        attach("q", place, lock_timeout=PATIENCE)
    with pytest.raises(Disconnected):
        attach("q", f"rediss://localhost:{engine.port}/0?tls_ca={tmp_path}/cert.pem", lock_timeout=PATIENCE)
    with pytest.raises(Disconnected):
        attach("q", f"redis://{HOST}:{engine.port}/0", lock_timeout=PATIENCE)
    serve("name=q")
    options = ("--tls-ca", f"{tmp_path}/cert.pem", "--json")
    done = command("relay", "--check", "q", place, *options, bare=False)
    assert done.code == 0, done.err
    assert json.loads(done.out)["durability"] == "fsync"


@every_server
def test_everysec_is_enough_where_the_server_can_be_asked(
    serve: Serve, command: Command, start: Callable[..., EngineServer], program: str
) -> None:
    """From 7.2 on each batch waits for the disk; before, appendfsync must be always."""
    serve("name=q")
    engine = start("--appendonly", "yes", "--appendfsync", "everysec", program=program)
    with engine.client() as client:
        info = client.info("server")
    can_be_asked = "valkey_version" in info or tuple(map(int, info["redis_version"].split(".")[:2])) >= (7, 2)
    done = command("relay", "--check", "q", engine.url, bare=False)
    if can_be_asked:
        assert done.code == 0, done.err
    else:
        assert "appendfsync=everysec" in done.failed(2)


@every_server
@pytest.mark.parametrize("durability", ["replicas=1", "fsync+replicas=1"])
def test_an_item_stays_until_a_replica_has_it(
    serve: Serve, children: Children, start: Callable[..., EngineServer], program: str, durability: str
) -> None:
    """However often it is sent again meanwhile: a resend adds nothing, and must not count as what the replica has."""
    master, replica = start(*DURABLE, program=program), start(*DURABLE, program=program)
    follow(replica, master)
    queue = serve("name=q")
    children.fork(lambda: relay(serve.instance, "q", f"{master.url}?timeout=0.5", durability))
    assert queue.add("k", "1")
    until(lambda: not queue.held(), "the replica has it")
    assert len(replica.items("q")) == 1
    replica.hold()
    assert queue.add("k", "2")
    with master.client() as client:
        until(lambda: any(int(client.hget(key, "~")) > 2 for key in client.keys("*:seen:*")), "it is sent again")
    assert queue.held() == 1
    replica.release()
    until(lambda: not queue.held(), "the replica has it")
    assert [item[b"v"] for item in replica.items("q")] == [b"1", b"2"]
