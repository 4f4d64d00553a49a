"""What a process outside calls, with the kernel and without it: the same results and errors."""

from __future__ import annotations

import pickle
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Callable

import pytest

from kemi.queue.client.attached import AttachedQueue
from kemi.queue.format.item import Item, key_of, value_of
from kemi.queue.kernel import choice
from tests.kernel.pairs import Pair, outcome

if TYPE_CHECKING:
    from kemi.queue.queue import Queue

CALLS: dict[str, Callable[[Any], object]] = {
    "add": lambda client: client.add("k", "v"),
    "add bytes": lambda client: client.add(b"\xff", b""),
    "add lone surrogates": lambda client: client.add("\udcff\ud800", "\udc80"),
    "add nothing": lambda client: client.add(),
    "add a number": lambda client: client.add("k", 1),
    "add by name": lambda client: client.add(value="v", key="k"),
    "fetch": lambda client: client.fetch(),
    "fetch with a time": lambda client: client.fetch(1.5),
    "fetch for ever": lambda client: client.fetch(None),
    "fetch by name": lambda client: client.fetch(timeout=2),
    "fetch with text": lambda client: client.fetch("1"),
    "fetch with a bool": lambda client: client.fetch(timeout=True),
    "fetch with NaN": lambda client: client.fetch(float("nan")),
    "fetch with two": lambda client: client.fetch(1, 2),
    "fetch by another name": lambda client: client.fetch(seconds=1),
}


def client_of(queue: Queue) -> Any:
    """A client that has this queue in use."""
    client: Any = AttachedQueue.__new__(AttachedQueue)
    client._current = SimpleNamespace(queue=queue, closed=False)
    return client


@pytest.mark.parametrize("name", CALLS)
def test_each_call(pair: Pair, name: str) -> None:
    found = []
    for queue in (pair.native, pair.pure):
        queue.add("first", "1")
        queue.add("second", "ä\udcff")
        kind, value = outcome(partial(CALLS[name], client_of(queue)))
        shown = (type(value).__name__, value.key, value.value, value.deadline) if isinstance(value, Item) else value
        found.append((kind, shown, len(queue)))
    assert found[0] == found[1]
    pair.header()


def test_an_item_is_whole(pair: Pair) -> None:
    """Its parts, what it equals, and its copy in another process."""
    pair.native.add("kä\udcff", "v" * 300)
    item = client_of(pair.native).fetch()
    assert type(item) is Item
    assert (item.key, item.value) == (key_of(item._record), value_of(item._record)) == ("kä\udcff", "v" * 300)
    assert item == pickle.loads(pickle.dumps(item))  # noqa: S301 - ours
    assert tuple(item) == (item.key, item.value)
    assert (item.deadline, item.left) == (None, None)
    assert item.age < 60
    assert choice.lib.calls()[0] > 0
