"""The queue that has a name now: from one server to the next, with threads and signal handlers."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from kemi.errors import ClientClosed
from kemi.queue.client import current
from kemi.queue.client.address import Address
from kemi.queue.client.current import CurrentQueue
from kemi.queue.format.outcome import AddResult
from kemi.queue.log.core import ADDED
from kemi.queue.queue import Queue
from tests.conftest import HANG
from tests.support.clients import inner
from tests.unit import servers
from tests.unit.servers import Server, later

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_mock import MockerFixture

    from kemi.queue.client.attached import AttachedQueue


server, queue = servers.server, servers.queue


def test_a_file_that_was_removed(server: Server, queue: AttachedQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has said that the queue is closed: it is noticed all the same."""
    monkeypatch.setattr(current, "LOOK", 0.1)
    server.queue.segment.unlink()
    server.registry.segment.unlink()
    old = server.queue
    thread = later(0.2, server.start, lambda: server.queue.add("k", "v"))
    item = queue.fetch(20)
    thread.join()
    assert item is not None
    assert item.key == "k"
    old.remove()


def test_a_queue_that_is_closed_is_waited_for_until_the_last_moment(
    instance: str, server: Server, mocker: MockerFixture
) -> None:
    """By who would not outlive it: half a second before the end it may still be opened."""
    server.queue.remove()
    closed = Queue.create(instance, "q", window=16 << 20, registry=server.registry, closed=True)
    mocker.patch("kemi.queue.client.current.time").monotonic.return_value = 1000.0
    looks = mocker.patch("kemi.queue.client.current.futex.pause", side_effect=lambda _seconds: closed.open())
    found = CurrentQueue(Address(instance, "q", 0.5, reattach=False))
    found.open_within(0.5)
    assert not found.queue.is_closed()
    looks.assert_called_once_with(min(0.5, current.RETRY))
    found.close()
    server.queues.append(closed)


def _while_it_changes_over(queue: AttachedQueue, mocker: MockerFixture, handler: Callable[[], object]) -> list[object]:
    """What a fetch gives when a handler runs in the moment in which it turns to the next server."""
    found: list[object] = []
    find = queue._current._open
    handlers = iter([handler])

    def interrupted(_: object) -> object:
        new = find()
        next(handlers, lambda: None)()
        return new

    def fetch() -> None:
        try:
            found.append(queue.fetch(0.1))
        except ClientClosed as error:
            found.append(type(error))

    mocker.patch.object(CurrentQueue, "_open", interrupted)
    thread = threading.Thread(target=fetch, daemon=True)
    thread.start()
    thread.join(HANG)
    if thread.is_alive():
        current._after_fork()  # a new one; else the rest would wait for it, too
        pytest.fail("it waits for itself")
    return found


def test_a_handler_closes_the_queue_while_it_changes_over(
    server: Server, queue: AttachedQueue, mocker: MockerFixture
) -> None:
    server.stop()
    server.start()
    assert _while_it_changes_over(queue, mocker, queue.close) == [ClientClosed]
    with pytest.raises(ClientClosed):
        queue.add("k", "v")


def test_a_handler_uses_the_queue_while_it_changes_over(
    server: Server, queue: AttachedQueue, mocker: MockerFixture
) -> None:
    server.stop()
    server.start()
    results: list[AddResult] = []
    assert _while_it_changes_over(queue, mocker, lambda: results.append(queue.add("k", "v"))) != [None]
    assert results == [ADDED]


def test_what_is_closed_turns_to_no_other_server(server: Server, queue: AttachedQueue) -> None:
    """Another thread closed it, after this one has seen that its server ended."""
    old = inner(queue)
    server.stop()
    server.start()
    queue.close()
    with pytest.raises(ClientClosed):
        queue._current.renew(old)
    assert inner(queue) is old


def test_many_threads_change_over_together(server: Server, queue: AttachedQueue) -> None:
    """Each item of the new queue comes once."""
    taken: list[str] = []
    stop = threading.Event()
    threads = [
        threading.Thread(target=lambda: taken.extend(item.key for item in queue.consume(stop))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for turn in range(3):
        queue.add_many((f"{turn}-{number}", "") for number in range(100))
        deadline = time.monotonic() + HANG
        while len(taken) < (turn + 1) * 100 and time.monotonic() < deadline:
            time.sleep(0.01)
        server.stop()
        server.start()
    stop.set()
    for thread in threads:
        thread.join()
    assert sorted(taken) == sorted(f"{turn}-{number}" for turn in range(3) for number in range(100))
