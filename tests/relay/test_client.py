"""attach("q", "redis://..."): a queue of an engine is used as one of this host."""

from __future__ import annotations

import asyncio
import os
import pickle
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

import mqueue_kemi
from kemi.errors import ConfigError, Disconnected, ItemError, NotAllowed
from kemi.queue.format.outcome import AddResult
from mqueue_kemi import QueueClient, Reject, ReservedItem, Retry, worker
from tests.relay.ledger import relay
from tests.relay.servers import HOST, PATIENCE
from tests.support.ports import free_port
from tests.support.waits import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.processes.children import Children
    from tests.processes.serve import Serve
    from tests.relay.servers import EngineServer


def attach(queue: str, where: str, **options: Any) -> QueueClient:
    """With time for a reply on a busy machine."""
    return mqueue_kemi.attach(queue, where, **{"lock_timeout": PATIENCE, **options})


@pytest.fixture
def queue(start: Callable[..., EngineServer]) -> Iterator[QueueClient]:
    with attach("q", f"{start().url}?dead_letter=dead") as client:
        yield client


def pairs(count: int) -> list[tuple[str, str]]:
    return [(f"k{number}", str(number)) for number in range(count)]


def test_it_is_a_queue_client(queue: QueueClient) -> None:
    assert isinstance(queue, QueueClient)
    assert queue.name == "q"
    assert queue.where.startswith("redis://127.0.0.1:")


def test_what_is_added_is_fetched_in_order(queue: QueueClient) -> None:
    assert queue.add("k", "first") is AddResult.ADDED
    assert queue.add_many(pairs(1200)) == [AddResult.ADDED] * 1200
    assert len(queue) == 1201
    assert queue
    assert [item.value for item in queue.peek(2)] == ["first", "0"]
    item = queue.fetch()
    assert item is not None
    assert (item.key, item.value) == ("k", "first")
    assert 0 <= time.time() - item.added < PATIENCE
    assert [item.value for item in queue.fetch_many(2000)] == [str(number) for number in range(1200)]
    assert queue.fetch() is None
    assert queue.fetch_many(3, 0.01) == []


def test_any_bytes_come_back_exact(queue: QueueClient) -> None:
    assert queue.add(b"\x00\r\n\xff", bytes(range(256)))
    assert queue.add("\ud800", "é")
    first, second = queue.fetch_many(2)
    assert (first.key_bytes, first.value_bytes) == (b"\x00\r\n\xff", bytes(range(256)))
    assert (second.key, second.value) == ("\ud800", "é")
    with pytest.raises(ItemError):
        queue.add("k", 1)  # type: ignore[arg-type]


def test_a_wait_ends_when_an_item_comes(queue: QueueClient) -> None:
    threading.Timer(0.2, queue.add, ("k", "v")).start()
    assert queue.fetch(timeout=None).value == "v"
    begun = time.monotonic()
    assert queue.fetch(0.3) is None
    assert time.monotonic() - begun >= 0.3


def test_at_least_once(queue: QueueClient) -> None:
    """An exception gives the item back, ahead of the others; its id stays, and its deliveries are counted."""
    queue.add_many(pairs(3))
    with pytest.raises(ZeroDivisionError), queue.reserve() as item:
        1 / 0  # noqa: B018
    assert item is not None
    first = item.id
    with queue.reserve(PATIENCE) as item:
        assert item is not None
        assert (item.id, item.value, item.deliveries) == (first, "0", 2)
        assert queue.stats().reserved == 1
    assert item.settled
    with queue.reserve_many(10) as batch:
        assert [item.value for item in batch] == ["1", "2"]
        assert batch.done(batch[1:]) == 1
        assert batch.give_back() == 1
    assert len(queue) == 1
    taken = queue.reserve().take()
    assert taken is not None
    assert taken.done()
    assert not taken.done()
    stats = queue.stats()
    assert (stats.size, stats.reserved, stats.added, stats.fetched) == (0, 0, 3, 3)


def test_given_back_items_come_in_order(queue: QueueClient) -> None:
    queue.add_many(pairs(30))
    batch = queue.reserve_many(30).take()
    assert batch.give_back() == 30
    assert [item.value for item in queue.fetch_many(30)] == [str(number) for number in range(30)]


def test_a_delay(queue: QueueClient) -> None:
    queue.add_many(pairs(2))
    first, second = queue.reserve_many(2).take()
    assert first.give_back(after=3600)
    assert second.give_back(after=0.2)
    assert queue.stats().due >= 1
    assert len(queue.peek(None, reserved=True)) == 2
    again = queue.reserve(PATIENCE).take()
    assert again is not None
    assert (again.value, again.deliveries) == ("1", 2)
    assert again.done()
    assert (queue.stats().due, len(queue), queue.peek(None), queue.fetch()) == (1, 0, [], None)


def test_rejected_items_go_to_the_dead_letter_queue(queue: QueueClient, start: Callable[..., EngineServer]) -> None:
    queue.add("k", "v")
    item = queue.reserve().take()
    assert item is not None
    name = item.id
    assert item.reject("no such customer")
    with attach("dead", queue.where) as dead, dead.reserve() as letter:
        assert letter is not None
        assert (letter.id, letter.key, letter.value) == (name, "k", "v")
    assert queue.stats().dead_lettered == 1
    other = attach("q", f"{start().url}?max_deliveries=2&dead_letter=dead")
    with other:
        other.add("k", "v")
        for _ in range(2):
            again = other.reserve().take()
            assert again is not None
            again.give_back()
        assert other.fetch() is None
        with attach("dead", other.where) as dead:
            assert len(dead) == 1


def test_what_a_killed_consumer_had_comes_to_another_one(
    start: Callable[..., EngineServer], children: Children
) -> None:
    """When its lease is over; that of a living one is renewed for as long as it has the item."""
    lease = 4.0  # seconds
    url = f"{start().url}?lease={lease}"
    with attach("q", url) as queue, attach("q", url) as other:
        queue.add_many(pairs(2))
        mine = queue.reserve().take()
        assert mine is not None

        def die() -> None:
            item = queue.reserve().take()
            assert item is not None
            os.kill(os.getpid(), 9)

        children.fork(die).wait()
        with other.reserve(PATIENCE) as item:
            assert item is not None
            assert (item.value, item.deliveries) == ("1", 2)
        assert other.fetch(lease + 1) is None
        assert mine.done()


def test_a_client_pickles_as_its_address_and_works_after_a_fork(queue: QueueClient, children: Children) -> None:
    queue.add("k", "v")
    copy = pickle.loads(pickle.dumps(queue))  # noqa: S301
    assert len(copy) == 1
    assert children.fork(lambda: queue.add("k", "w").name).result() == "ADDED"
    assert len(queue) == 2
    copy.close()


def test_a_bound(start: Callable[..., EngineServer]) -> None:
    with attach("q", f"{start().url}?max_len=2") as queue:
        assert queue.add_many(pairs(3)) == [AddResult.ADDED, AddResult.ADDED, AddResult.FULL]
        assert queue.add("k", "v") is AddResult.FULL
        assert queue.stats().size_limit == 2


def test_no_memory_is_a_result(start: Callable[..., EngineServer]) -> None:
    with attach("q", start("--maxmemory", "1kb").url) as queue:
        assert queue.add("k", "v") is AddResult.NO_MEMORY


def test_an_engine_that_is_not_there() -> None:
    url = f"redis://user:s3cret@{HOST}:{free_port()}/0"
    with pytest.raises(Disconnected) as caught:
        attach("q", url)
    assert "s3cret" not in str(caught.value)
    with pytest.raises(ConfigError):
        attach("q", "http://there")
    with pytest.raises(ConfigError):
        attach("q", "redis://h", lock_timeout=0)


def test_an_engine_that_goes_and_comes_back(engine: EngineServer) -> None:
    with attach("q", engine.url, lock_timeout=PATIENCE) as queue:
        assert queue.add_many(pairs(2))
        engine.kill()
        with pytest.raises(Disconnected):
            queue.fetch()
        engine.start()
        assert [item.value for item in queue.fetch_many(5)] == ["0", "1"]


def test_a_wrong_password(start: Callable[..., EngineServer]) -> None:
    url = start("--requirepass", "right").url.replace("//", "//:wr0ng@")
    with pytest.raises(NotAllowed) as caught:
        attach("q", url)
    assert "wr0ng" not in str(caught.value)


def test_asyncio(queue: QueueClient) -> None:
    """The same calls; one that is cancelled has taken nothing."""

    async def main() -> None:
        async with await mqueue_kemi.aattach("q", queue.where, lock_timeout=PATIENCE) as client:
            assert await client.aadd("k", "0")
            assert await client.aadd_many(pairs(3)[1:]) == [AddResult.ADDED] * 2
            assert [item.value for item in await client.apeek(5)] == ["0", "1", "2"]
            item = await client.afetch()
            assert item is not None
            assert item.value == "0"
            async with client.areserve(PATIENCE) as reserved:
                assert reserved is not None
                assert reserved.value == "1"
            async with client.areserve_many(5) as batch:
                assert await batch.agive_back(batch) == 1
            assert (await client.astats()).size == 1
            assert (await client.afetch(None)).value == "2"
            for _ in range(10):
                waiting = asyncio.ensure_future(client.afetch(None))
                await asyncio.sleep(0.01)
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiting
            reserving = asyncio.ensure_future(client.areserve(None).take())
            await asyncio.sleep(0.05)
            reserving.cancel()
            await client.aadd("k", "last")
            last = await client.afetch(PATIENCE)
            assert last is not None
            assert last.value == "last"

    asyncio.run(main())


def test_consuming_until_told_to_stop(queue: QueueClient) -> None:
    queue.add_many(pairs(5))
    stop = threading.Event()
    seen = []
    for item in queue.consume(stop):
        seen.append(item.value)
        if len(seen) == 3:
            stop.set()
    for each in queue.reserve_each(lambda: len(seen) == 5):
        with each as reserved:
            seen.append(reserved.value)
    assert seen == ["0", "1", "2", "3", "4"]


def test_a_worker(queue: QueueClient) -> None:
    """It settles items there as it does here."""
    seen: list[str] = []
    tried: list[int] = []

    @worker("q")
    def work(item: ReservedItem) -> None:
        if item.value == "1" and not tried:
            tried.append(item.deliveries)
            raise Retry(after=0)
        if item.value == "2":
            raise Reject("never")
        seen.append(item.value)

    queue.add_many(pairs(4))
    tally = work.drain(queue)
    assert (tally.done, tally.rejected, tally.retried) == (3, 1, 1)
    assert sorted(seen) == ["0", "1", "3"]
    assert queue.stats().dead_lettered == 1


def test_what_is_relayed_is_taken_with_its_id(serve: Serve, children: Children, engine: EngineServer) -> None:
    here = serve("name=q")
    assert here.add("k", "v")
    item = here.reserve().take()
    assert item is not None
    name = item.id
    item.give_back()
    children.fork(lambda: relay(serve.instance, "q", engine.url, "fsync"))
    with attach("q", engine.url) as queue, queue.reserve(PATIENCE) as reserved:
        assert reserved is not None
        assert (reserved.id, reserved.key, reserved.value, reserved.added) == (name, "k", "v", item.added)
    until(lambda: not here.held(), "it is done here")
