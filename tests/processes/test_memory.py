"""A queue grows to a million items and gives its memory back. (How long an add takes, the bench says.)"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kemi.instance import queues
from kemi.queue.format.layout import CHUNK, FREE_SHIFT, MAX_FREE
from kemi.queue.log.core import ADDED
from tests.processes.serve import file_sizes

if TYPE_CHECKING:
    from pytest_mock import MockerFixture

    from kemi.queue.queue import Queue
    from tests.processes.children import Children
    from tests.processes.serve import Serve

MIB = 1 << 20
KEPT = MAX_FREE * CHUNK  # of what was used once
MILLION = 1_000_000
VALUE = "v" * 100
KEY = "{:08d}"
PAYLOAD = len(VALUE) + len(KEY.format(0))
OVERHEAD = 32  # bytes an item may need beside its key and value


def fill(queue: Queue, count: int) -> int:
    """Add so many items; returns how many were taken in."""
    return sum(queue.add(KEY.format(number), VALUE) == ADDED for number in range(count))


def drain(queue: Queue, count: int) -> bool:
    """Take so many items; returns whether they came in the order in which they were added."""
    return all((item := queue.fetch()) is not None and item.key == KEY.format(number) for number in range(count))


def test_a_million_items(serve: Serve, children: Children) -> None:
    """One process fills, another one empties: 32 bytes an item at most, and few MiB afterwards."""
    queue = serve("name=q")
    assert children.fork(lambda: fill(queue, MILLION)).result() == MILLION
    assert len(queue) == MILLION
    length, memory = file_sizes(queue)
    assert memory <= MILLION * (PAYLOAD + OVERHEAD)
    assert length <= MILLION * (PAYLOAD + OVERHEAD) + 2 * MIB
    assert queue.stats().memory == memory
    assert children.fork(lambda: drain(queue, MILLION)).result()
    assert queue.fetch() is None
    assert file_sizes(queue)[1] < KEPT + 2 * MIB
    assert queue.stats().memory == file_sizes(queue)[1]


@pytest.mark.parametrize("addmode", [1, 2])
def test_many_keys(serve: Serve, children: Children, addmode: int) -> None:
    """A queue with a key index gives back its memory and that of the index."""
    queue = serve(f"name=q;addmode={addmode}")
    count = 70_000  # more than two chunks of the key index hold
    assert children.fork(lambda: fill(queue, count)).result() == count
    assert file_sizes(queue)[1] <= count * (PAYLOAD + OVERHEAD + 16)
    assert children.fork(lambda: drain(queue, count)).result()
    assert file_sizes(queue)[1] < KEPT + 2 * MIB


def test_a_burst_in_a_queue_that_is_never_empty(serve: Serve) -> None:
    """Memory goes back as the burst is drained. (The file stays as long as it was: a hole costs nothing.)"""
    queue = serve("name=q")
    fill(queue, 150_000)
    assert file_sizes(queue)[1] > KEPT + 8 * MIB
    assert drain(queue, 149_990)
    kept = file_sizes(queue)[1]
    assert kept < KEPT + 2 * MIB
    for _ in range(8000):
        queue.add("k", VALUE)
        queue.pop()
    assert len(queue) == 10
    assert file_sizes(queue)[1] == kept


def test_a_small_share_of_little_memory_is_kept(serve: Serve) -> None:
    """So that queues that were long once leave room for others."""
    queue = serve("name=q", max_memory="64M")
    for _ in range(3):
        fill(queue, 60_000)
        assert drain(queue, 60_000)
        assert file_sizes(queue)[1] < 3 * MIB


def test_queues_together_keep_a_small_share(serve: Serve) -> None:
    """However many they are: those that were long once leave room for the others."""
    names = [f"q{number}" for number in range(8)]
    serve(*(f"name={name}" for name in names), max_memory="256M")
    many = [queues[name] for name in names]
    for queue in many:
        fill(queue, 30_000)
        assert drain(queue, 30_000)
    fixed = 2 * CHUNK  # of each, and more than what lies before its chunks
    assert sum(file_sizes(queue)[1] - fixed for queue in many) < (256 * MIB >> FREE_SHIFT) + MIB


def test_a_burst_that_comes_again_takes_no_memory_and_gives_none_back(serve: Serve, mocker: MockerFixture) -> None:
    queue = serve("name=q")
    fill(queue, 52_000)  # some more: where in its chunk the log begins is another place each time
    assert drain(queue, 52_000)
    reserve, release = (mocker.spy(queue.segment, name) for name in ("reserve", "release"))
    for _ in range(2):
        fill(queue, 50_000)
        assert drain(queue, 50_000)
    reserve.assert_not_called()
    release.assert_not_called()


def test_keys_replaced_without_end(serve: Serve) -> None:
    """With addmode 2 a queue whose few keys are replaced all the time stays small, though its oldest item stays."""
    queue = serve("name=q;addmode=2")
    queue.add("oldest", VALUE)
    for number in range(60_000):
        queue.add(KEY.format(number % 50), VALUE)
    assert len(queue) == 51
    assert max(file_sizes(queue)) < 3 * MIB
    assert queue.peek()[0].key == "oldest"


def test_giant_items_come_and_go(serve: Serve) -> None:
    """16 MiB at a time, whole, and no more than half of it stays."""
    queue = serve("name=q")
    for number in range(4):
        value = bytes([number]) * (16 * MIB)
        assert queue.add("giant", value) == ADDED
        assert queue.add("small", "") == ADDED
        item = queue.fetch()
        assert item is not None
        assert item.value_bytes == value
        assert queue.fetch() is not None
    assert file_sizes(queue)[1] < KEPT + 2 * MIB
