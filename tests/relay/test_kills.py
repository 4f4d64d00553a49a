"""Nothing is lost and nothing comes twice, whatever is killed: the relay, the engine, or both at once."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.relay.ledger import Run
from tests.relay.servers import DURABLE, HOST, PROGRAMS
from tests.support.waits import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.processes.children import Children
    from tests.processes.serve import Serve
    from tests.relay.servers import EngineServer

SHORT, LONG = 12, 200  # kills
SEED = 20
REPLAY = 5.0  # seconds: what a relay has by itself
STEP = 0.5  # seconds


@pytest.fixture(params=PROGRAMS or ("",))
def start(start: Callable[..., EngineServer], request: pytest.FixtureRequest) -> Callable[..., EngineServer]:
    """Return what starts engines: of each kind that is here."""
    return partial(start, program=request.param)


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


def lose_nothing(run: Run, engine: EngineServer, kills: int) -> None:
    """Kill the engine so many times: what was added is there once, and in order."""

    def kill_engine() -> None:
        engine.kill()
        engine.start()

    run.kills(kills, SEED, kill_engine)
    account = run.account(engine)
    assert account.added
    assert account[1:] == (0, 0, 0), account


@pytest.mark.parametrize("kills", [SHORT, pytest.param(LONG, marks=pytest.mark.stress)])
def test_memory_with_a_replay(serve: Serve, children: Children, start: Callable[..., EngineServer], kills: int) -> None:
    """An engine that is killed forgets all, and gets what was sent in the last seconds from a relay that lives."""
    engine = start("--appendonly", "no")
    run = Run(serve, children, f"{engine.url}?timeout=2", "memory", replay=600.0)
    lose_nothing(run, engine, kills)


@pytest.mark.parametrize("kills", [SHORT, pytest.param(LONG, marks=pytest.mark.stress)])
def test_memory_keeps_what_is_written_late(
    serve: Serve, children: Children, start: Callable[..., EngineServer], kills: int
) -> None:
    """With the window that a relay has by itself: an engine that writes once a second loses nothing by a kill."""
    engine = start("--appendonly", "yes", "--appendfsync", "everysec")
    run = Run(serve, children, f"{engine.url}?timeout=2", "memory", replay=REPLAY)
    lose_nothing(run, engine, kills)


def came_to(engine: EngineServer) -> list[tuple[int, int, float]]:
    """Producer, number, and time of adding of each item there."""
    return [(int(item[b"k"][1:]), int(item[b"v"]), float(item[b"t"])) for item in engine.items("q")]


def span(engine: EngineServer) -> float:
    """Seconds from the first item's coming to the last one's."""
    with engine.client() as client:
        ends = (*client.xrange("mqk:{q}", count=1), *client.xrevrange("mqk:{q}", count=1))
    moments = [int(name.partition(b"-")[0]) / 1000 for name, _ in ends]
    return moments[-1] - moments[0] if moments else 0.0


@pytest.mark.parametrize(("kills", "replay"), [(SHORT // 2, 0.5), pytest.param(LONG, REPLAY, marks=pytest.mark.stress)])
def test_memory_loses_what_is_older_than_the_window(
    serve: Serve, children: Children, start: Callable[..., EngineServer], kills: int, replay: float
) -> None:
    """And no more: after each kill an engine that forgets all has again what was sent in the last seconds, in order."""
    engine = start("--appendonly", "no")
    run = Run(serve, children, f"{engine.url}?timeout=2", "memory", replay=replay)
    lost = 0
    for _ in range(kills):
        until(lambda: span(engine) > replay + STEP, "some of it is older than the window")
        before = came_to(engine)
        engine.kill()
        killed = time.time()
        engine.start()
        until(lambda: any(float(item[b"t"]) > killed for item in engine.items("q")), "it relays again")  # noqa: B023
        came = came_to(engine)
        for producer in range(2):
            numbers = [number for one, number, _ in came if one == producer]
            first = numbers[0]
            assert numbers == list(range(first, first + len(numbers)))
            # Sent after it was added, so within the window before the kill, to which the relay's last look came.
            late = [number for one, number, added in before if one == producer and added > killed - replay]
            assert first <= min(late, default=first), (first, late)
            lost = max(lost, first)
    assert lost, "nothing was older than the window: the test shows nothing"
    run.account(engine)


@pytest.mark.parametrize("kills", [SHORT // 2, pytest.param(LONG, marks=pytest.mark.stress)])
def test_failover_to_a_lagging_replica(
    serve: Serve, children: Children, start: Callable[..., EngineServer], kills: int
) -> None:
    """What replicas=1 acknowledged is in the replica that becomes the master; the rest is sent again."""
    pair = Pair(start(), start())
    run = Run(serve, children, pair.url, "replicas=1")
    run.kills(kills, SEED, run.kill_relay, pair.fail_over, pair.fail_over, lambda: pair.fail_over(run.kill_relay))
    account = run.account(pair.master)
    assert account.added
    assert account[1:] == (0, 0, 0), account


@pytest.mark.parametrize("kills", [SHORT // 2, pytest.param(LONG, marks=pytest.mark.stress)])
def test_fsync_and_replicas(serve: Serve, children: Children, start: Callable[..., EngineServer], kills: int) -> None:
    """Safe from both: the loss of the master and its disk, and the end of all processes at once."""
    pair = Pair(start(*DURABLE), start(*DURABLE))
    run = Run(serve, children, pair.url, "fsync+replicas=1")
    run.kills(
        kills,
        SEED,
        run.kill_relay,
        pair.fail_over,
        lambda: pair.fail_over(run.kill_relay),
        pair.kill_both,
        lambda: pair.kill_both(run.kill_relay),
    )
    account = run.account(pair.master)
    assert account.added
    assert account[1:] == (0, 0, 0), account


class Pair:
    """A master and its replica."""

    def __init__(self, master: EngineServer, replica: EngineServer) -> None:
        self.master, self.replica = master, replica
        self.url = f"redis://{','.join(f'{HOST}:{engine.port}' for engine in (master, replica))}/0?timeout=2"
        follow(replica, master)

    def fail_over(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Lose the master with its disk, while the replica lags; the one becomes the other's."""
        self.replica.hold()
        time.sleep(0.05)
        self.master.kill()
        meanwhile()
        self.replica.release()
        with self.replica.client() as client:
            client.replicaof("NO", "ONE")
        self.master.forget()
        self.master.start()
        self.master, self.replica = self.replica, self.master
        follow(self.replica, self.master)

    def kill_both(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        """End both at once; what the master has then is what was on its disk."""
        for engine in (self.master, self.replica):
            engine.kill()
        meanwhile()
        for engine in (self.master, self.replica):
            engine.start()
        follow(self.replica, self.master)


def follow(replica: EngineServer, master: EngineServer) -> None:
    """Make one engine the replica of another one, and wait until it has all."""
    with replica.client() as client:
        client.replicaof(HOST, str(master.port))
        until(lambda: client.info("replication")["master_link_status"] == "up", "the replica has what the master has")
