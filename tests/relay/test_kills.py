"""Nothing is lost and nothing comes twice, whatever is killed: the relay, the engine, or both at once."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.relay.ledger import Run
from tests.relay.servers import DURABLE, HOST, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.processes.children import Children
    from tests.processes.serve import Serve
    from tests.relay.servers import EngineServer

SHORT, LONG = 12, 200  # kills
SEED = 20


def kill_all(run: Run, engines: list[EngineServer], kills: int) -> None:
    """Kill the relay, engines, and all of them."""

    def kill_engines() -> None:
        for engine in engines:
            engine.kill()
        for engine in engines:
            engine.start()

    def kill_both() -> None:
        for engine in engines:
            engine.kill()
        run.kill_relay()
        for engine in engines:
            engine.start()

    run.kills(kills, SEED, run.kill_relay, run.kill_relay, kill_engines, kill_both)


@pytest.mark.parametrize("kills", [SHORT, pytest.param(LONG, marks=pytest.mark.stress)])
def test_fsync(serve: Serve, children: Children, start: Callable[..., EngineServer], kills: int) -> None:
    """An engine that is killed has on its disk what it acknowledged."""
    engine = start(*DURABLE)
    run = Run(serve, children, f"{engine.url}?timeout=2", "fsync")
    kill_all(run, [engine], kills)
    account = run.account(engine)
    assert account.added
    assert account[1:] == (0, 0, 0), account


@pytest.mark.parametrize("kills", [SHORT, pytest.param(LONG, marks=pytest.mark.stress)])
def test_memory_with_a_replay(serve: Serve, children: Children, start: Callable[..., EngineServer], kills: int) -> None:
    """An engine that is killed forgets all, and gets what was sent in the last seconds from a relay that lives."""
    engine = start("--appendonly", "no")
    run = Run(serve, children, f"{engine.url}?timeout=2", "memory", replay=600.0)

    def kill_engine() -> None:
        engine.kill()
        engine.start()

    run.kills(kills, SEED, kill_engine)
    account = run.account(engine)
    assert account.added
    assert account[1:] == (0, 0, 0), account


@pytest.mark.parametrize("kills", [SHORT // 2, pytest.param(LONG, marks=pytest.mark.stress)])
def test_failover_to_a_lagging_replica(
    serve: Serve, children: Children, start: Callable[..., EngineServer], kills: int
) -> None:
    """What replicas=1 acknowledged is in the replica that becomes the master; the rest is sent again."""
    pair = [start(), start()]
    follow(pair[1], pair[0])
    hosts = ",".join(f"{HOST}:{engine.port}" for engine in pair)
    run = Run(serve, children, f"redis://{hosts}/0?timeout=2", "replicas=1")

    def fail_over() -> None:
        master, replica = pair
        replica.hold()  # it lags
        time.sleep(0.05)
        master.kill()
        replica.release()
        with replica.client() as client:
            client.replicaof("NO", "ONE")
        master.forget()
        master.start()
        pair[:] = [replica, master]
        follow(master, replica)

    run.kills(kills, SEED, run.kill_relay, fail_over, fail_over)
    account = run.account(pair[0])
    assert account.added
    assert account[1:] == (0, 0, 0), account


def follow(replica: EngineServer, master: EngineServer) -> None:
    """Make one engine the replica of another one, and wait until it has all."""
    with replica.client() as client:
        client.replicaof(HOST, str(master.port))
        until(lambda: client.info("replication")["master_link_status"] == "up", "the replica has what the master has")
