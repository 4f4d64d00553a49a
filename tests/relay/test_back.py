"""relay --from: what stands in an engine's queue comes to a queue here, once, whatever is killed."""

from __future__ import annotations

import random
import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from kemi.errors import ConfigError, MqueueError
from kemi.relay.aof import FileBegunAnew
from kemi.relay.back import Back
from kemi.relay.link import EngineBusy, connected
from kemi.relay.url import parse
from mqueue_kemi import attach
from tests.relay.ledger import compare
from tests.relay.servers import PATIENCE, redis
from tests.support.clients import attach as attach_here
from tests.support.waits import until

if TYPE_CHECKING:
    from tests.cli.command import Command
    from tests.processes.children import Children
    from tests.processes.serve import Serve
    from tests.relay.servers import EngineServer

SHORT, LONG = 12, 200  # kills
# Numbered commands; the number is there if and only if they are.
_SEND = """
local n = tonumber(redis.call('GET', KEYS[2]) or '0')
for i = n, n + 19 do redis.call('XADD', KEYS[1], '*', 'k', 'p0', 'v', i) end
redis.call('SET', KEYS[2], n + 20)
"""
STREAM = "mqk:{commands}"


def send(engine: EngineServer) -> None:
    """Send commands until SIGTERM comes, through an engine that is killed again and again."""
    going = [True]
    signal.signal(signal.SIGTERM, lambda *_: going.clear())
    while going:
        with suppress(redis.RedisError, OSError), engine.client() as client:
            while going:
                client.eval(_SEND, 2, STREAM, "{commands}n")
                time.sleep(0.02)


def sip(instance: str) -> None:
    """The server's own adds go on meanwhile."""
    queue = attach_here("q", instance, lock_timeout=PATIENCE)
    number = 0
    while True:
        queue.add("sip", str(number))
        number += 1
        time.sleep(0.001)


def relay(instance: str, engine: EngineServer, batch: int = 64) -> None:
    """Relay until this process is killed."""
    queue = attach_here("q", instance, lock_timeout=PATIENCE)
    while True:
        with suppress(MqueueError):
            Back(queue, parse(engine.url), "commands", batch=batch, longest_pause=0.2).run(lambda: False, time.sleep)


@pytest.mark.parametrize("kills", [SHORT, pytest.param(LONG, marks=pytest.mark.stress)])
def test_kills(serve: Serve, children: Children, engine: EngineServer, kills: int) -> None:
    """The relay, the engine, and both at once."""
    queue = serve("name=q")
    sender = children.fork(lambda: send(engine))
    children.fork(lambda: sip(serve.instance))
    child = children.fork(lambda: relay(serve.instance, engine))
    chance = random.Random(5)
    for _ in range(kills):
        time.sleep(chance.uniform(0.005, 0.12))
        strike = chance.choice(("relay", "relay", "engine", "both"))
        if strike != "engine":
            child.end()
        if strike != "relay":
            engine.kill()
            engine.start()
        if strike != "engine":
            child = children.fork(lambda: relay(serve.instance, engine))
    sender.send(signal.SIGTERM)
    sender.result()
    with engine.client() as client:
        sent = int(client.get("{commands}n"))
        until(lambda: not client.xlen(STREAM), "all commands are here", 5 * PATIENCE)
    child.end()
    came = [(0, int(item.value)) for item in queue.peek(1 << 30) if item.key == "p0"]
    account = compare([sent], came)
    assert account.added
    assert account[1:] == (0, 0, 0), account
    assert [item for item in queue.peek(1 << 30) if item.key == "sip"]


def test_a_full_queue_pauses_it(serve: Serve, children: Children, engine: EngineServer) -> None:
    """What does not fit stays there; all of it comes, in order."""
    serve("name=q;maxbytes=10K")
    with attach("commands", engine.url, lock_timeout=PATIENCE) as there:
        assert all(there.add_many([("k", f"{number:050}") for number in range(2000)]))
        children.fork(lambda: relay(serve.instance, engine))
        here = attach_here("q", serve.instance)
        until(lambda: here.stats().refused, "the queue is full")
        assert len(there.peek(None)) > 1000
        came: list[int] = []
        while len(came) < 2000:
            items = here.fetch_many(50, PATIENCE)
            assert items, "nothing comes any more"
            came += [int(item.value) for item in items]
    assert came == list(range(2000))


def test_what_is_no_item_is_set_aside(serve: Serve, children: Children, engine: EngineServer) -> None:
    """Fields that are missing, and an item that never fits, keep nothing back."""
    queue = serve("name=q;maxbytes=1M")
    with engine.client() as client:
        client.xadd(STREAM, {"k": "1", "v": b"\xff\x00"})
        client.xadd(STREAM, {"key": "no item"})
        client.xadd(STREAM, {"k": "2", "v": "2", "f": "x"})
        client.xadd(STREAM, {"k": "3", "v": "3", "t": "5.0"})
        children.fork(lambda: relay(serve.instance, engine))
        until(lambda: not client.xlen(STREAM), "all is read")
        assert client.xlen(f"{STREAM}:refused") == 2
    assert [(item.key, item.value_bytes) for item in queue.peek(10)] == [("1", b"\xff\x00"), ("3", b"3")]


def test_one_reader_a_stream(serve: Serve, engine: EngineServer) -> None:
    """Another host's relay is refused, and so is a stream from which consumers take."""
    serve("name=q")
    queue = attach_here("q", serve.instance)

    def begin(host: str) -> None:
        back = Back(queue, parse(engine.url, timeout=PATIENCE), "commands", host=host)
        back.run(lambda: back.counts.connected, time.sleep)

    begin("one")
    begin("one")
    with pytest.raises(ConfigError, match="is relayed to one/"):
        begin("two")
    with attach("taken", engine.url, lock_timeout=PATIENCE) as there:
        there.add("k", "v")
        there.fetch()
    with pytest.raises(ConfigError, match="consumers take from"):
        Back(queue, parse(engine.url, timeout=PATIENCE), "taken").run(lambda: False, time.sleep)


def begun_anew(file: FileBegunAnew, engine: EngineServer) -> bool:
    link = connected(parse(engine.url, timeout=PATIENCE))
    try:
        file.ensure(link)
    except EngineBusy:
        return False
    finally:
        link.close()
    return True


def test_a_host_and_its_clone(serve: Serve, engine: EngineServer) -> None:
    """What has the same name, but is another machine, waits until the one before has not looked for half a minute."""
    serve("name=q")
    queue = attach_here("q", serve.instance)

    def one(life: str) -> Back:
        back = Back(queue, parse(engine.url, timeout=PATIENCE), "commands")
        back._life = life
        back._file = file
        return back

    file = FileBegunAnew()  # one for all: before 7.0 each would have the file begun anew
    until(lambda: begun_anew(file, engine), "the file is begun anew")
    first, again, clone = one("first"), one("first"), one("clone")
    first._connect()
    again._connect()  # the relay was killed, and started again
    with pytest.raises(EngineBusy, match=r"another host or container of the same name .*--host-id"):
        clone._connect()
    with engine.client() as client:
        client.hincrby(f"{STREAM}:reader", "at", -31)
        clone._connect()
        with pytest.raises(EngineBusy, match="another host"):
            first._look_at_lag(first._connect())  # and is not beside it when it comes to life again
        client.hincrby(f"{STREAM}:reader", "at", 1000)  # the engine's clock was set back
        one("third")._connect()
        one("third").run(lambda: True, time.sleep)
        assert client.hget(f"{STREAM}:reader", "life") == b"third"  # it had no claim to give up
        third = one("third")
        third.run(lambda: third.counts.connected, time.sleep)
        assert not client.hexists(f"{STREAM}:reader", "life")
    first._connect()


@pytest.mark.parametrize("how", ["DEL", "FLUSHALL"])
def test_a_stream_that_begins_anew(serve: Serve, children: Children, engine: EngineServer, how: str) -> None:
    """Its ids may be lower than those before, as after the server's clock was set back: all of them come."""
    queue = serve("name=q")
    children.fork(lambda: relay(serve.instance, engine))
    with engine.client() as client:
        client.xadd(STREAM, {"k": "k", "v": "before"}, id="99999999999999-5")
        until(lambda: len(queue) and not client.xlen(STREAM), "it is here")
        if how == "DEL":
            client.delete(STREAM)
        else:
            client.flushall()
        for number in range(3):
            client.xadd(STREAM, {"k": "k", "v": str(number)})
        until(lambda: not client.xlen(STREAM), "all are here")
    assert [item.value for item in queue.peek(10)] == ["before", "0", "1", "2"]


def test_the_command(serve: Serve, command: Command, engine: EngineServer) -> None:
    queue = serve("name=q")
    assert command("relay", "--check", "--from", "commands", "q", engine.url, bare=False).code == 0
    process = command.start("relay", "--from", "commands", "q", engine.url, bare=False)
    with attach("commands", engine.url, lock_timeout=PATIENCE) as there:
        assert there.add("block", "sip:alice@example.org")
    (item,) = until(lambda: queue.peek(5), "it is here")
    assert (item.key, item.value) == ("block", "sip:alice@example.org")
    process.send_signal(signal.SIGTERM)
    done: Any = command.end(process)
    assert done.code == -signal.SIGTERM, done.err
