"""What a network or an engine may do, short of a kill: cut, swallow, hold up, refuse, be full."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
import time
from typing import TYPE_CHECKING

import pytest

import mqueue_kemi
from kemi.relay.engine import Durability
from kemi.relay.forward import Forward
from kemi.relay.server import RedisEngine
from kemi.relay.url import parse
from tests.relay.ledger import Run, relay
from tests.relay.proxy import Proxy
from tests.relay.servers import DURABLE
from tests.support.clients import attach
from tests.support.waits import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.processes.children import Children
    from tests.processes.serve import Serve
    from tests.relay.servers import EngineServer


def dropped(engine: EngineServer) -> int:
    """Items that came again, and were dropped."""
    with engine.client() as client:
        return sum(int(client.hget(key, "~") or 0) for key in client.keys("*:seen:*"))


@pytest.mark.parametrize("seconds", [0.7, pytest.param(120.0, marks=pytest.mark.stress)])
def test_a_network_that_breaks(serve: Serve, children: Children, engine: EngineServer, seconds: float) -> None:
    """Requests that are cut in the middle, replies that never come or come too late."""
    proxy = Proxy(engine.port, seed=7, every=15)
    children.fork(proxy.serve)
    proxy.close()
    run = Run(serve, children, f"{proxy.url}?timeout=0.5", "fsync")
    time.sleep(seconds)

    until(lambda: dropped(engine), "a reply is lost, and what was sent comes again")  # else this test tests nothing
    account = run.account(engine)
    assert account.added
    assert account[1:] == (0, 0, 0), account


def test_an_engine_that_stands_still(serve: Serve, children: Children, engine: EngineServer) -> None:
    """As with a disk that takes seconds for an fsync: no reply comes within the relay's timeout."""
    run = Run(serve, children, f"{engine.url}?timeout=0.5", "fsync")
    until(lambda: engine.items("q"), "items come")
    engine.hold()
    time.sleep(1.0)  # more than the relay's timeout
    engine.release()
    account = run.account(engine)
    assert account.added
    assert account[1:] == (0, 0, 0), account


SLOW_DISK = """
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>
int fdatasync(int fd) {
    usleep(random() % 40 ? 2000 : 700000);
    return syscall(SYS_fdatasync, fd);
}
"""


@pytest.mark.parametrize("kills", [1, pytest.param(50, marks=pytest.mark.stress)])
def test_a_disk_that_is_slow(
    serve: Serve, children: Children, start: Callable[..., EngineServer], tmp_path: Path, kills: int
) -> None:
    """An fsync that takes longer than the relay waits for a reply, now and then; and the engine is killed beside it."""
    compiler = (sysconfig.get_config_var("CC") or "cc").split()
    if shutil.which(compiler[0]) is None:
        pytest.skip(f"there is no {compiler[0]}, which makes the library that slows fsync")
    (tmp_path / "slow.c").write_text(SLOW_DISK, "ascii")
    library = str(tmp_path / "slow.so")
    subprocess.run([*compiler, "-shared", "-fPIC", "-o", library, str(tmp_path / "slow.c")], check=True)
    engine = start(*DURABLE, preload=library)
    run = Run(serve, children, f"{engine.url}?timeout=0.4", "fsync")

    def kill_engine() -> None:
        until(lambda: dropped(engine) > before, "a reply came too late, and what was sent comes again")
        engine.kill()
        engine.start()

    for _ in range(kills):
        before = dropped(engine)
        kill_engine()
    account = run.account(engine)
    assert account.added
    assert account[1:] == (0, 0, 0), account


def test_items_are_exact(serve: Serve, children: Children, engine: EngineServer) -> None:
    """Key, value, time of adding and id come there as they are here, whatever bytes they have."""
    queue = serve("name=q")
    pairs: list[tuple[str | bytes, str | bytes]] = [
        ("key", "value"),
        (b"\x00\r\n\xff", bytes(range(256))),
        ("", ""),
        ("\ud800", "v" * 300_000),
    ]
    assert all(queue.add_many(pairs))
    here = queue.peek(10)
    children.fork(lambda: relay(serve.instance, "q", engine.url, "fsync"))
    there = until(lambda: len(found := engine.items("q")) == len(pairs) and found, "all are there")
    assert [(item[b"k"], item[b"v"], float(item[b"t"])) for item in there] == [
        (item.key_bytes, item.value_bytes, item.added) for item in here
    ]
    ids = [item[b"i"] for item in there]
    assert len(set(ids)) == len(pairs)
    assert [b"f" in item for item in there] == [False, False, False, True]


def test_an_engine_that_is_full(serve: Serve, children: Children, start: Callable[..., EngineServer]) -> None:
    """max_len refuses a batch whole, and nothing is lost; when there is room again, all comes in order."""
    engine = start()
    queue = serve("name=q")
    assert all(queue.add_many([("k", str(number)) for number in range(300)]))
    most = 100
    attached = attach("q", serve.instance)

    def run() -> None:
        forward = Forward(
            attached,
            RedisEngine(parse(engine.url), "q", Durability.parse("memory"), most),
            batch=64,
            longest_pause=0.1,
        )
        forward.run(lambda: False, time.sleep)

    child = children.fork(run)
    came: list[bytes] = []
    with engine.client() as client:
        while len(came) < 300:
            until(lambda: client.xlen("mqk:{q}"), "items come")
            assert client.xlen("mqk:{q}") <= most
            for name, fields in client.xrange("mqk:{q}"):
                came.append(fields[b"v"])
                client.xdel("mqk:{q}", name)
    child.end()
    assert came == [str(number).encode() for number in range(300)]


def test_no_memory_in_the_engine(serve: Serve, children: Children, start: Callable[..., EngineServer]) -> None:
    """What the engine has no memory for stays here, and comes once when there is some."""
    engine = start("--maxmemory-policy", "noeviction")
    queue = serve("name=q")
    with engine.client() as client:
        client.config_set("maxmemory", client.info("memory")["used_memory"] + (1 << 20))
    assert all(queue.add_many([(str(number), "x" * 1000) for number in range(4000)]))
    children.fork(lambda: relay(serve.instance, "q", engine.url, "memory"))
    with engine.client() as client:
        until(lambda: "errorstat_OOM" in client.info("errorstats"), "the engine refuses")
        assert client.xlen("mqk:{q}") < 4000
        client.config_set("maxmemory", 0)
    until(lambda: not queue.held(), "all are relayed")
    assert [int(item[b"k"]) for item in engine.items("q")] == list(range(4000))


def test_the_engine_is_away_and_the_queue_at_its_bound(serve: Serve, children: Children, engine: EngineServer) -> None:
    """Adds are refused and counted; what was accepted comes afterwards, once and in order."""
    queue = serve("name=q;maxbytes=100K")
    children.fork(lambda: relay(serve.instance, "q", engine.url, "fsync"))
    assert queue.add("k", "0")
    until(lambda: engine.items("q"), "the first item is there")
    engine.kill()
    accepted = [0, *(number for number in range(1, 3000) if queue.add("k", f"{number:060}"))]
    refused = queue.stats().refused
    assert refused == 3000 - len(accepted) > 0
    engine.start()
    until(lambda: not queue.held(), "all are relayed")
    assert [int(item[b"v"]) for item in engine.items("q")] == accepted


def test_one_relay_a_queue(serve: Serve, children: Children, engine: EngineServer) -> None:
    """A second one is refused, and may begin when the first one is killed."""
    queue = serve("name=q")
    first = children.fork(lambda: relay(serve.instance, "q", engine.url, "fsync"))
    assert queue.add("k", "1")
    until(lambda: engine.items("q"), "it relays")

    def second() -> str:
        attached = attach("q", serve.instance)
        try:
            Forward(attached, RedisEngine(parse(engine.url), "q", Durability())).run(lambda: True, time.sleep)
        except mqueue_kemi.SegmentError as error:
            return str(error)
        return "it began"

    assert "has a relay already" in children.fork(second).result()
    os.kill(first.pid, 9)
    first.wait()
    assert children.fork(second).result() == "it began"


def test_a_sip_server_that_is_started_anew(serve: Serve, children: Children, engine: EngineServer) -> None:
    """The relay goes on with the next one's queue, as another source; what is known of the one before goes some day."""
    queue = serve("name=q")
    assert all(queue.add_many([("k", str(number)) for number in range(50)]))
    children.fork(lambda: relay(serve.instance, "q", engine.url, "fsync"))
    until(lambda: len(engine.items("q")) == 50, "the first ones are there")
    serve.stop()
    queue = serve("name=q")
    assert all(queue.add_many([("k", str(number)) for number in range(50, 100)]))
    until(lambda: len(engine.items("q")) == 100, "all are there")
    assert [int(item[b"v"]) for item in engine.items("q")] == list(range(100))
    assert len({item[b"i"] for item in engine.items("q")}) == 100
    with engine.client() as client:
        lives = sorted(client.ttl(key) for key in client.keys("*:seen:*"))
    assert lives[0] == -1
    assert 0 < lives[1] <= 30 * 86400
