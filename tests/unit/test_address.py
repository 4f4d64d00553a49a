"""How a client comes to its queue: its times, waiting for a server, and pickled to another process."""

from __future__ import annotations

import asyncio
import copy
import math
import pickle
import sys
import threading
import time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

import mqueue_kemi
from kemi.errors import ConfigError, MqueueError, QueueClosed, UnknownQueue
from kemi.queue.client import current
from kemi.queue.client.current import CurrentQueue
from kemi.queue.format.item import Item
from kemi.queue.queue import Queue
from kemi.queue.sync import futex
from mqueue_kemi import aattach
from tests.conftest import HANG
from tests.support.clients import attach, inner
from tests.unit.servers import Server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_mock import MockerFixture

    from kemi.queue.client.attached import AttachedQueue


@pytest.fixture
def server(instance: str) -> Iterator[Server]:
    """Give a server that does not run yet."""
    made = Server(instance)
    yield made
    made.stop()


def pickled(client: AttachedQueue) -> AttachedQueue:
    """Return what another process gets."""
    again: AttachedQueue = pickle.loads(pickle.dumps(client))  # noqa: S301 - our own
    return again


# --- times ------------------------------------------------------------------------------------------------------------

NO_LOCK_TIMES = [math.inf, None, math.nan, "1", "1.0", True, 0, -1, -0.5, -math.inf, Decimal(1), b"1", [1]]


@pytest.mark.parametrize("value", NO_LOCK_TIMES, ids=repr)
def test_a_wrong_lock_timeout_is_refused_at_once(server: Server, value: Any) -> None:
    """With the text that names it, also where there is no such queue, which would be found out later."""
    for _ in range(2):
        with pytest.raises(ConfigError, match=r"lock_timeout=.*write seconds, a finite number more than 0"):
            attach("q", server.instance, lock_timeout=value)
        if not server.queues:
            server.start()


@pytest.mark.parametrize("value", [1, 0.001, 1e300, 10**400])
def test_a_right_lock_timeout(server: Server, value: float) -> None:
    """Any finite number of seconds; what is more than a year is a year."""
    server.start()
    with attach("q", server.instance, lock_timeout=value) as client:
        assert client.add("k", "v")
        assert client._current.address.lock_timeout == min(value, 86400 * 365)


@pytest.mark.parametrize("value", [math.nan, "1", True, b"", [1]], ids=repr)
def test_a_wrong_wait_is_refused_at_once(server: Server, value: Any) -> None:
    """As all times are."""
    server.start()
    with pytest.raises(ConfigError, match=r"wait=.*write a number of seconds"):
        attach("q", server.instance, wait=value)


# --- waiting for a server ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wait", [HANG, None, math.inf])
def test_it_waits_for_the_server(server: Server, wait: float | None) -> None:
    """A worker that is started before its server attaches when that has come."""
    starts = threading.Timer(0.3, server.start)
    starts.start()
    with attach("q", server.instance, wait=wait) as client:
        assert client.add("k", "v")
    starts.join()


def test_it_waits_for_the_queue(server: Server) -> None:
    """Also when the instance is there and has other queues."""
    server.start()
    made: list[Queue] = []
    starts = threading.Timer(
        0.3,
        lambda: made.append(Queue.create(server.instance, "late", window=16 << 20, registry=server.registry)),
    )
    starts.start()
    with attach("late", server.instance, wait=HANG) as client:
        assert client.add("k", "v")
    starts.join()
    made[0].remove()


@pytest.mark.parametrize("wait", [0, -1, 0.25])
def test_it_waits_no_longer(server: Server, wait: float) -> None:
    """The error says what is missing, and how long it was waited for; 0 and less do not wait."""
    begin = time.monotonic()
    end = r"\(waited 0.25 s\)$" if wait > 0 else r"is its server running\?$"
    with pytest.raises(UnknownQueue, match=f"{server.instance}.*{end}"):
        attach("q", server.instance, wait=wait)
    assert time.monotonic() - begin >= wait


def test_a_closed_queue_is_waited_for_to_the_end(server: Server, mocker: MockerFixture) -> None:
    """All of the seconds, by a clock that moves only while it waits."""
    server.start(closed=True)
    clock = mocker.patch.object(current, "time")
    clock.monotonic.return_value = 1000.0

    def pause(seconds: float) -> None:
        assert 0 < seconds <= current.RETRY
        clock.monotonic.return_value += seconds + 0.001

    mocker.patch.object(futex, "pause", pause)
    with attach("q", server.instance, wait=5.5, reattach=False):
        assert 1005.5 <= clock.monotonic.return_value < 1006


def test_who_would_not_outlive_a_closed_queue_waits_for_an_open_one(server: Server) -> None:
    """With reattach=False a queue that is closed (its rows are still loaded) is not there yet."""
    queue = server.start(closed=True)
    with attach("q", server.instance, wait=0.25, reattach=False) as client, pytest.raises(QueueClosed):
        client.fetch(1)
    opens = threading.Timer(0.3, queue.open)
    opens.start()
    with attach("q", server.instance, wait=HANG, reattach=False) as client:
        assert client.fetch(0.01) is None
    opens.join()


@pytest.mark.parametrize(("queue", "why"), [("q" * 300, "too long"), (5, "must be text"), (None, "must be text")])
def test_what_cannot_be_mended_by_waiting_is_told_at_once(server: Server, queue: Any, why: str) -> None:
    """No server will ever have such a queue, or such an instance."""
    with pytest.raises(MqueueError, match=why):
        attach(queue, server.instance, wait=None)
    with pytest.raises(MqueueError, match=why):
        attach("q", queue, wait=None)


# --- pickled ----------------------------------------------------------------------------------------------------------


def test_it_pickles_as_its_address(server: Server) -> None:
    """What comes out uses the same queue, with the same times, as a client of its own."""
    server.start()
    with attach("q", server.instance, lock_timeout=2.5, reattach=False) as client:
        again = pickled(client)
        assert (again.name, again.instance, again.closed) == ("q", server.instance, False)
        assert client.add("k", "v")
        item = again.fetch()
        assert item is not None
        assert item.key == "k"
        assert again._current.address[2:4] == (2.5, False)
        assert inner(again) is not inner(client)
        again.close()
        assert client.add("k", "v"), "closing the one leaves the other"


def test_it_attaches_at_its_first_use(server: Server) -> None:
    """Unpickling never fails: without a server the call says so, and works when there is one again."""
    server.start()
    with attach("q", server.instance) as client:
        data = pickle.dumps(client)
    server.stop()
    again: AttachedQueue = pickle.loads(data)  # noqa: S301 - our own
    assert "attached at its first use" in repr(again)
    for _ in range(2):
        with pytest.raises(UnknownQueue):
            again.add("k", "v")
    server.start()
    assert again.add("k", "v")
    assert "size=1" in repr(again)
    assert pickled(again).peek() == again.peek()
    again.close()


@pytest.mark.parametrize(
    "use",
    [
        lambda queue: queue.add("k", "v"),
        lambda queue: queue.add_many([("k", "v")]),
        lambda queue: queue.fetch(),
        lambda queue: queue.fetch_many(3),
        lambda queue: queue.reserve().__enter__(),
        lambda queue: queue.peek(),
        lambda queue: queue.peek(None, reserved=True),
        lambda queue: queue.stats(),
        lambda queue: queue.owner(),
        lambda queue: queue.is_closed(),
        lambda queue: queue.addmode,
        len,
    ],
)
def test_any_use_may_be_the_first(server: Server, use: Any) -> None:
    """Each of them attaches."""
    server.start()
    with attach("q", server.instance) as client:
        again = pickled(client)
    use(again)
    assert isinstance(inner(again), Queue)
    again.close()


def test_two_threads_may_use_it_first(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is attached once."""
    server.start()
    with attach("q", server.instance) as client:
        again = pickled(client)
    opened = []
    attach_it = CurrentQueue._open

    def slow(queue: CurrentQueue) -> object:
        opened.append(queue)
        time.sleep(0.1)
        return attach_it(queue)

    monkeypatch.setattr(CurrentQueue, "_open", slow)
    threads = [threading.Thread(target=again.add, args=("k", "v")) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(opened), len(again)) == (1, 4)
    again.close()


def test_closed_before_its_first_use(server: Server) -> None:
    """Closed is closed, as with any client; a closed one cannot be given away, nor copied."""
    server.start()
    client = attach("q", server.instance)
    again = pickled(client)
    assert copy.copy(client).add("k", "v")
    client.close()
    again.close()
    assert "closed in this process" in repr(again)
    with pytest.raises(ValueError, match="'q' is closed in this process"):
        again.add("k", "v")
    for closed in (client, again):
        with pytest.raises(ValueError, match="closed in this process: it cannot be given to another one"):
            pickle.dumps(closed)


def test_items_pickle(server: Server) -> None:
    """A fetched item goes to another process as a copy; so does a reserved one."""
    server.start()
    with attach("q", server.instance) as client:
        client.add_many([(b"\xff", "v"), ("k", "w")])
        item = client.fetch()
        assert item is not None
        again: Item = pickle.loads(pickle.dumps(item))  # noqa: S301 - our own
        assert (again, again.added) == (item, item.added)
        with client.reserve() as reserved:
            assert reserved is not None
            copied = pickle.loads(pickle.dumps(reserved))  # noqa: S301 - our own
            assert (copied, copied.deliveries) == (reserved, 1)


# --- what a client shows ----------------------------------------------------------------------------------------------


def test_completion_shows_what_works(server: Server) -> None:
    """Every name that `dir` gives can be had, and nothing private is among them."""
    server.start()
    with attach("q", server.instance) as client:
        shown = [name for name in dir(client) if not name.startswith("__")]
        assert {"add", "areserve_each", "where", "is_closed"} <= set(shown)
        assert [name for name in shown if name.startswith("_") or not hasattr(client, name)] == []
        assert {"__len__", "__class__", "__reduce__"} <= set(dir(client))


OF_THE_SERVER = ("adopt", "append_record", "clear", "create", "moving", "open", "publish", "remove", "set_limits")


@pytest.mark.parametrize("name", [*OF_THE_SERVER, "segment", "set_siblings", "_mutex", "_u64", "_log", "handle"])
def test_what_only_a_server_does_is_not_there(server: Server, name: str) -> None:
    """Not as a method, not as an attribute; nothing of the queue's parts is passed on."""
    queue = server.start()
    with attach("q", server.instance) as client:
        assert hasattr(queue, name)
        assert not hasattr(client, name)
        assert not issubclass(type(client), Queue)


# --- where a wait would stop others -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wait",
    [
        lambda queue: queue.fetch(0.2),
        lambda queue: queue.fetch(None),
        lambda queue: queue.fetch_many(2, 0.2),
        lambda queue: next(queue.consume()),
        lambda queue: queue.reserve(0.2).__enter__(),
    ],
)
def test_a_wait_in_the_thread_of_gevents_loop_is_refused(server: Server, mocker: MockerFixture, wait: Any) -> None:
    """The error says what works; what does not wait does its work there, and a thread of its pool may wait."""
    server.start()
    hub = mocker.MagicMock(name="the loop")
    local = mocker.MagicMock(get_hub_if_exists=mocker.MagicMock(return_value=hub))
    with attach("q", server.instance) as client:
        mocker.patch.dict(sys.modules, {"gevent._hub_local": local})
        with pytest.raises(
            MqueueError, match=r"threadpool.apply\(queue.fetch, \(5,\)\); or fetch\(\) without a timeout"
        ):
            wait(client)
        assert client.fetch() is None
        assert client.add("k", "v")
        with client.reserve() as item:
            assert item is not None
        for other in (mocker.MagicMock(main_hub=False), None):
            local.get_hub_if_exists.return_value = other
            assert client.fetch(0.01) is None


# --- where, and asyncio -----------------------------------------------------------------------------------------------


def test_where_and_its_old_name(server: Server) -> None:
    server.start()
    with pytest.warns(DeprecationWarning, match="instance=.* is attach\\(queue, where\\)"):
        by_old_name = attach("q", instance=server.instance)
    for client in (attach("q", where=server.instance), by_old_name):
        with client:
            assert client.add("k", "v")
            assert client.where == client.instance == server.instance


@pytest.mark.parametrize(("where", "words"), [("http://host/1", "is no engine"), (5, "must be text")])
def test_a_wrong_where(where: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        attach("q", where)
    with pytest.raises(ConfigError, match=words):
        asyncio.run(aattach("q", where))


def test_the_lock_timeout_is_given_by_name(server: Server) -> None:
    """The third argument without a name could be anything."""
    server.start()
    with pytest.raises(TypeError):
        mqueue_kemi.attach("q", server.instance, 0.5)  # type: ignore[misc]
