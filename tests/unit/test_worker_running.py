"""`run` and `arun` in this process: they wait for the server, end by `stop`, and give up when processes only die."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest

import mqueue_kemi
from kemi.errors import ConfigError
from kemi.worker import board, supervisor
from kemi.worker.board import Board
from kemi.worker.spec import Spec
from mqueue_kemi import ReservedItem, worker
from tests.processes.serve import Serve

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SOON = 60.0  # seconds that something may take on a busy machine


@pytest.fixture
def serve(_no_segment_is_left: None) -> Iterator[Serve]:
    server = Serve()
    yield server
    server.stop()


def test_arun_waits_for_the_server_and_ends_by_stop(serve: Serve) -> None:
    """An async worker and a plain one, in one event loop."""
    done: list[str] = []

    @worker("a", concurrency=5)
    async def async_(item: ReservedItem) -> None:
        await asyncio.sleep(0)
        done.append(item.key)

    @worker("b")
    def plain(item: ReservedItem) -> None:
        done.append(item.key)

    async def main() -> mqueue_kemi.Tally:
        running = asyncio.ensure_future(
            mqueue_kemi.arun(async_, plain, where=serve.instance, stop=lambda: len(done) == 20)
        )
        await asyncio.sleep(0.1)
        assert not running.done()
        first = serve("name=a", "name=b")
        first.add_many((str(number), "v") for number in range(10))
        from kemi.instance import queues

        queues["b"].add_many((str(number), "v") for number in range(10, 20))
        return await asyncio.wait_for(running, SOON)

    assert asyncio.run(main()).done == 20
    assert sorted(map(int, done)) == list(range(20))


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_arun_that_is_cancelled_gives_back(serve: Serve, kind: str) -> None:
    queue = serve("name=a")
    queue.add("1", "v")
    began: list[str] = []
    go_on: list[bool] = []
    if kind == "plain":

        @worker("a")
        def one(item: ReservedItem) -> None:
            began.append(item.key)
            while not go_on:
                time.sleep(0.01)

    else:

        @worker("a")
        async def one(item: ReservedItem) -> None:
            began.append(item.key)
            await asyncio.sleep(SOON)

    async def main() -> None:
        running = asyncio.ensure_future(mqueue_kemi.arun(one, where=serve.instance))
        while not began:
            await asyncio.sleep(0.01)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(main())
    with queue.reserve(timeout=SOON) as item:
        assert item is not None
        assert (item.key, item.deliveries) == ("1", 1)
    go_on.append(True)


def test_arun_says_what_is_wrong(serve: Serve) -> None:
    serve("name=a")
    decorate: Any = worker
    wrong = decorate("a", resource=lambda: 3)(lambda _item, _given: None)
    with pytest.raises(ConfigError, match="resource= must give a context"):
        asyncio.run(asyncio.wait_for(mqueue_kemi.arun(wrong, where=serve.instance), SOON))


def test_run_ends_by_stop(serve: Serve, tmp_path: Path) -> None:
    """It is called in a process that goes on afterwards: signals are as before, and no child is left."""
    import signal

    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)]
    queue = serve("name=a")
    queue.add("1", "v")
    out = tmp_path / "out"

    @worker("a", processes=2)
    def one(item: ReservedItem) -> None:
        out.write_text(item.key)

    def done() -> bool:
        return out.exists() and not queue.stats().reserved

    assert mqueue_kemi.run(one, where=serve.instance, stop=done) == 0
    assert out.read_text() == "1"
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)] == before


def test_who_only_dies_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pause doubles to its longest; an item that was finished in between begins the count anew."""
    spec = Spec(print, "q", name="calls:f")
    place = Board([spec]).places[0]
    child = supervisor._Child("calls:f", lambda: 0, place)
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0)
    pauses = []
    for _ in range(8):
        assert child.died()
        pauses.append(round(child.due - 1000.0, 1))
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    place.lanes[0].count(board.DONE)
    assert child.died()
    assert round(child.due - 1000.0, 1) == 0.1
    again = [child.died() for _ in range(supervisor.DEATHS - 1)]
    assert again == [True] * (supervisor.DEATHS - 2) + [False]
    assert place.read(board.DEATHS) == 8 + supervisor.DEATHS


def test_a_machine_that_was_started_a_minute_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its clock is smaller than a time limit of an hour, and what is earlier than its start is below 0."""
    spec = Spec(print, "q", timeout=3600.0, name="calls:f")
    place = Board([spec]).places[0]
    child = supervisor._Child("calls:f", lambda: 0, place)
    child.pid = 1
    clock = [60 * 10**9]
    monkeypatch.setattr(time, "monotonic_ns", lambda: clock[0])
    place.lanes[0].begin(0.0)
    assert not child.is_stuck()
    clock[0] -= 7200 * 10**9
    place.lanes[0].begin(0.0)
    clock[0] += 7200 * 10**9
    assert child.is_stuck()
    place.lanes[0].end()
    assert not child.is_stuck()
