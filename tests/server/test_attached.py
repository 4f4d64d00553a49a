"""A consumer outside of the server, while the server is stopped, killed, started and reloaded."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from mqueue_kemi import QueueClosed
from tests.server.harness import Kamailio
from tests.server.process import wait_until
from tests.support.clients import attach

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mqueue_kemi import AttachedQueue
    from tests.server.harness import Servers

AT_ONCE = 20.0  # seconds; a consumer that does not notice waits for ever


class Consumer:
    """Takes items in a thread of this process, in its own way, until it is told to stop."""

    def __init__(self, queue: AttachedQueue, *, reserve: bool) -> None:
        self.queue = queue
        self.keys: list[str] = []
        self.errors: list[Exception] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._reserve if reserve else self._consume)
        self._thread.start()

    def _consume(self) -> None:
        try:
            for item in self.queue.consume(self._stop):
                self.keys.append(item.key)
        except Exception as error:  # noqa: BLE001 it is handed to the test
            self.errors.append(error)

    def _reserve(self) -> None:
        try:
            while not self._stop.is_set():
                with self.queue.reserve(0.2) as item:
                    if item is not None:
                        self.keys.append(item.key)
        except Exception as error:  # noqa: BLE001 it is handed to the test
            self.errors.append(error)

    def got(self, keys: list[str]) -> None:
        """Wait until it has taken exactly these."""
        wait_until(lambda: len(self.keys) >= len(keys) or bool(self.errors), f"{keys} are taken")
        assert self.errors == []
        assert self.keys == keys

    def end(self) -> None:
        self._stop.set()
        self._thread.join()


@pytest.fixture(params=[False, True], ids=["consume", "reserve"])
def consumers(request: pytest.FixtureRequest) -> Iterator[Consumers]:
    """Give the consumers of a test, which take items in one way or the other."""
    started = Consumers(request.param)
    yield started
    for consumer in started:
        consumer.end()
        consumer.queue.close()


class Consumers(list[Consumer]):
    """The consumers of one test."""

    def __init__(self, reserve: bool) -> None:
        super().__init__()
        self._reserve = reserve

    def start(self, instance: str) -> Consumer:
        self.append(Consumer(attach("q", instance), reserve=self._reserve))
        return self[-1]


def add(server: Kamailio, *keys: str) -> None:
    """Let the server add items."""
    for key in keys:
        assert server.call("mq_add", "q", key, "v") == 1


def test_stopped_and_started_again(servers: Servers, consumers: Consumers) -> None:
    """The consumer waits for the new server by itself, and goes on with its queue."""
    first = servers.start(Kamailio())
    consumer = consumers.start(first.instance)
    add(first, "a", "b")
    consumer.got(["a", "b"])
    first.stop()
    assert first.segments() == []
    wait_until(lambda: "ended" in repr(consumer.queue), "the consumer has noticed")
    second = servers.start(Kamailio(instance=first.instance))
    add(second, "c")
    begin = time.monotonic()
    consumer.got(["a", "b", "c"])
    add(second, "d")
    consumer.got(["a", "b", "c", "d"])
    assert time.monotonic() - begin < AT_ONCE
    assert f"instance '{first.instance}'" in repr(consumer.queue)


def test_killed_and_started_again(servers: Servers, consumers: Consumers) -> None:
    """`kill -9` of every process of the server: the consumer goes on, before, during and after the take-over."""
    first = servers.start(Kamailio(workers=2))
    consumer = consumers.start(first.instance)
    add(first, "a")
    consumer.got(["a"])
    first.process.kill()
    with attach("q", first.instance) as other:
        assert other.add("between", "v") == 1
    consumer.got(["a", "between"])
    second = servers.start(Kamailio(instance=first.instance))
    add(second, "b")
    begin = time.monotonic()
    consumer.got(["a", "between", "b"])
    assert time.monotonic() - begin < AT_ONCE


def test_reloaded(servers: Servers, consumers: Consumers) -> None:
    """A reload changes nothing for it."""
    server = servers.start(Kamailio(["name=q"]))
    consumer = consumers.start(server.instance)
    add(server, "a")
    consumer.got(["a"])
    server.write_script(["name=q;size=100", "name=more"])
    server.reload()
    add(server, "b", "c")
    consumer.got(["a", "b", "c"])
    assert consumer.queue.stats().size_limit == 100


def test_another_addmode_after_a_crash(servers: Servers, consumers: Consumers) -> None:
    """The new server makes the queue anew under its name; the consumer turns to it."""
    first = servers.start(Kamailio(["name=q"]))
    consumer = consumers.start(first.instance)
    add(first, "a")
    consumer.got(["a"])
    first.process.kill()
    second = servers.start(Kamailio(["name=q;addmode=2"], instance=first.instance))
    add(second, "b")
    consumer.got(["a", "b"])
    assert consumer.queue.stats().addmode == 2


def test_what_is_reserved_outlives_a_crash(servers: Servers) -> None:
    """Reserved before the server is killed, an item is its holder's until it is done, or given back to all."""
    first = servers.start(Kamailio())
    add(first, "a", "b")
    with attach("q", first.instance) as queue:
        one, two = queue.reserve(), queue.reserve()
        assert one.__enter__() is not None
        assert two.__enter__() is not None
        first.process.kill()
        second = servers.start(Kamailio(instance=first.instance))
        assert second.call("mq_size", "q") == -1
        one.__exit__(None)
        two.__exit__(ValueError)
        assert second.call("mq_size", "q") == 1
        assert second.run("return mq.mq_fetch('q'), mq.mqk_get('q')") == (1, "b")
        assert queue.stats().reserved == 0


def test_dead_letters_of_a_server(servers: Servers) -> None:
    """`max_deliveries` and `dead_letter` as the script has them; the server's own fetch finds them too."""
    server = servers.start(Kamailio(["name=q;max_deliveries=2;dead_letter=bad", "name=bad"]))
    add(server, "a", "b")
    with attach("q", server.instance) as queue:
        for _ in range(2):
            block = queue.reserve()
            item = block.__enter__()
            assert item is not None
            assert item.key == "a"
            block.__exit__(ValueError)
    assert server.run("return mq.mq_fetch('q'), mq.mqk_get('q'), mq.mq_fetch('bad'), mq.mqk_get('bad')") == (
        1,
        "b",
        1,
        "a",
    )


def test_an_error_where_it_is_wanted(servers: Servers) -> None:
    """With reattach=False the end of the server is an error, at once."""
    server = servers.start(Kamailio())
    with attach("q", server.instance, reattach=False) as queue:
        add(server, "last")
        stopper = threading.Timer(0.3, server.stop)
        stopper.start()
        items = queue.consume()
        assert next(items).key == "last"
        with pytest.raises(QueueClosed, match="closed by its server"):
            next(items)
        stopper.join()
        with pytest.raises(QueueClosed):
            queue.fetch()
        with pytest.raises(QueueClosed), queue.reserve():
            pass
