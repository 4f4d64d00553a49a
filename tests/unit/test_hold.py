"""What a reserved item is held by: its source settles it, once, in the process that reserved it."""

from __future__ import annotations

import asyncio
import os
import pickle
from typing import TYPE_CHECKING, Any

import pytest

from kemi.errors import ClientClosed, LockTimeout
from kemi.queue.delivery import hold
from kemi.queue.delivery.hold import DONE, GIVE_BACK, Hold, Settlement, settle_all
from kemi.queue.delivery.reserved import Batch, ReservedItem, holds_of, settle
from kemi.queue.format.item import record_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_mock import MockerFixture


class Recorder:
    """A source that notes what is settled."""

    def __init__(self) -> None:
        self.settled: list[tuple[list[Any], Settlement]] = []
        self.error: Exception | None = None

    def settle(self, tokens: Sequence[Any], how: Settlement) -> int:
        if self.error is not None:
            raise self.error
        self.settled.append((list(tokens), how))
        return len(tokens)

    async def asettle(self, tokens: Sequence[Any], how: Settlement) -> int:
        return self.settle(tokens, how)


def of(source: Recorder, *tokens: int) -> list[ReservedItem]:
    """Return reserved items of a source."""
    return [ReservedItem(record_of(b"k", b"v", 1.5), Hold(source, token, f"id-{token}", 1)) for token in tokens]


def test_a_source_gets_how_an_item_is_settled() -> None:
    """One method for all ways, so that an engine or a double has no more to do."""
    source = Recorder()
    items = of(source, 1, 2, 3, 4, 5)
    items[0].done()
    items[1].give_back(after=3)
    items[2].reject("why")
    items[3].answer("ü")
    settle(items[4], Settlement("give back", counted=False))
    assert source.settled == [
        ([1], DONE),
        ([2], Settlement("give back", after=3.0)),
        ([3], Settlement("reject", reason="why")),
        ([4], Settlement("answer", value="ü".encode())),
        ([5], Settlement("give back", counted=False)),
    ]


def test_what_a_source_could_not_do_stays_unsettled() -> None:
    """Except after LockTimeout, for which it keeps the settlement in mind."""
    source = Recorder()
    items = of(source, 1, 2)
    source.error = ConnectionError("gone")
    with pytest.raises(ConnectionError):
        settle_all(holds_of(items), DONE)
    assert [item.settled for item in items] == [False, False]
    source.error = LockTimeout("busy")
    with pytest.raises(LockTimeout):
        settle_all(holds_of(items[:1]), GIVE_BACK)
    assert [item.settled for item in items] == [True, False]


def test_a_copy_is_settled_in_every_process(mocker: MockerFixture) -> None:
    """Also in one that is pid 1, as the first of a container is."""
    (item,) = of(Recorder(), 1)
    copy = pickle.loads(pickle.dumps(item))  # noqa: S301 - our own
    for pid in (1, os.getpid()):
        mocker.patch.object(hold, "_getpid", return_value=pid)
        assert copy.settled


def test_what_a_closed_client_has_is_settled_by_its_close() -> None:
    """Each way says that it did nothing, and there is nothing more to do."""
    source = Recorder()
    source.error = ClientClosed("closed in this process")
    items = of(source, 1, 2, 3, 4)
    assert items[0].done() is False
    assert asyncio.run(items[1].adone()) is False
    assert settle_all(holds_of(items[2:3]), DONE) == 0
    assert asyncio.run(Batch(items[3:]).adone()) == 0
    assert all(item.settled for item in items)


WAYS: dict[str, Callable[[ReservedItem], object]] = {
    "settle": lambda item: item.done(),
    "asettle": lambda item: asyncio.run(item.adone()),
    "settle_all": lambda item: Batch([item]).done(),
    "asettle_all": lambda item: asyncio.run(Batch([item]).adone()),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("error", [ClientClosed("closed"), LockTimeout("busy")], ids=["closed", "late"])
def test_an_error_that_a_signal_handler_raised_says_nothing_of_the_item(
    mocker: MockerFixture, way: str, error: Exception
) -> None:
    """It comes out, and the item is to be settled still."""
    mocker.patch.object(hold, "is_from_handler", return_value=True)
    source = Recorder()
    source.error = error
    (item,) = of(source, 1)
    with pytest.raises(type(error)):
        WAYS[way](item)
    assert not item.settled
    source.error = None
    assert WAYS[way](item) == 1


@pytest.mark.parametrize("way", WAYS)
def test_a_lock_that_was_not_had_is_an_error_and_the_item_is_settled(way: str) -> None:
    """Its source keeps the settlement in mind; another one is in vain."""
    source = Recorder()
    source.error = LockTimeout("busy")
    (item,) = of(source, 1)
    with pytest.raises(LockTimeout, match="busy"):
        WAYS[way](item)
    assert item.settled
    source.error = None
    assert WAYS[way](item) == 0
    assert source.settled == []


@pytest.mark.parametrize("way", WAYS)
def test_what_was_not_this_processs_any_more_is_settled_and_not_counted(way: str, mocker: MockerFixture) -> None:
    source = Recorder()
    mocker.patch.object(source, "settle", return_value=0)
    (item,) = of(source, 1)
    assert not WAYS[way](item)
    assert item.settled


def test_a_batch_of_which_one_source_is_late_settles_the_others_first() -> None:
    runs: list[Callable[[list[ReservedItem]], object]] = [
        lambda items: Batch(items).done(),
        lambda items: asyncio.run(Batch(items).adone()),
    ]
    for run in runs:
        late, well = Recorder(), Recorder()
        late.error = LockTimeout("busy")
        items = [*of(late, 1), *of(well, 2, 3)]
        with pytest.raises(LockTimeout):
            run(items)
        assert well.settled == [([2, 3], DONE)]
        assert all(item.settled for item in items)


def test_nothing_is_settled_where_a_copy_came_from() -> None:
    nowhere = hold.Nowhere()
    assert nowhere.settle([1, 2], DONE) == asyncio.run(nowhere.asettle([1, 2], DONE)) == 0
