"""The Protocol of a client: what has its methods is one, and its own methods are no way to use a queue."""

from __future__ import annotations

import inspect
import pickle

import pytest

import mqueue_kemi
from mqueue_kemi import AttachedQueue, QueueClient
from tests.unit import servers

server, queue = servers.server, servers.queue


def test_a_client_is_a_queue_client(queue: AttachedQueue) -> None:
    """By its class, and by its methods: their arguments are those of the Protocol."""
    assert isinstance(queue, QueueClient)
    assert mqueue_kemi.Queue is QueueClient
    for name, method in vars(QueueClient).items():
        if inspect.isfunction(method) and not name.startswith("_"):
            ours, theirs = (
                [(p.name, p.kind, p.default) for p in inspect.signature(one).parameters.values() if p.name != "self"]
                for one in (vars(AttachedQueue)[name], method)
            )
            assert ours == theirs, name
    assert not isinstance(object(), QueueClient)


@pytest.mark.parametrize("name", ["add", "fetch", "aadd", "reserve_each", "close"])
def test_the_protocols_own_methods_are_refused(queue: AttachedQueue, name: str) -> None:
    """`Queue.add(queue, key, value)` would do nothing, without a word."""
    with pytest.raises(TypeError, match=f"call {name} on what attach\\(\\) gave"):
        getattr(mqueue_kemi.Queue, name)(queue, "k", "v")
    assert len(queue) == 0


def test_looking_whether_it_is_one_does_not_attach_it(queue: AttachedQueue) -> None:
    """A check of the type must not do anything that can fail."""
    again = pickle.loads(pickle.dumps(queue))  # noqa: S301 - our own
    assert isinstance(again, QueueClient)
    assert (again.name, again.where, bool(again)) == ("q", queue.where, True)
    assert "attached at its first use" in repr(again)
    again.close()


def test_an_empty_queue_is_a_queue(queue: AttachedQueue) -> None:
    assert queue
    assert len(queue) == 0


def test_every_call_has_its_coroutine() -> None:
    """Named a..., with the same arguments."""
    calls = ["add", "add_many", "fetch", "fetch_many", "consume", "reserve", "reserve_many", "reserve_each", "peek"]
    for name in [*calls, "stats", "close"]:
        call, coroutine = getattr(AttachedQueue, name), getattr(AttachedQueue, f"a{name}")
        assert list(inspect.signature(call).parameters) == list(inspect.signature(coroutine).parameters)
