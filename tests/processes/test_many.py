"""Many producers and consumers at once, of every kind: nothing lost, nothing twice, order kept."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Any, Callable

import pytest

from kemi.queue.log.core import ADDED
from tests.processes.ledger import check
from tests.processes.load import END, PATIENCE, consume, produce
from tests.processes.serve import items

if TYPE_CHECKING:
    from kemi.queue.queue import Queue
    from tests.processes.children import Children
    from tests.processes.serve import Serve

EACH = 3  # producers, and consumers
COUNT = 8000  # items of a producer
LONG = 20

Waiter = Callable[[], Any]


class Threads:
    """Threads of this process, all with the same queue object."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    def _start(self, action: Callable[[], object]) -> Waiter:
        results: list[object] = []
        thread = threading.Thread(target=lambda: results.append(action()))
        thread.start()

        def wait() -> object:
            thread.join(PATIENCE)
            return results[0]

        return wait

    def producer(self, name: str, count: int) -> Waiter:
        return self._start(lambda: produce(self._queue, name, count))

    def consumer(self, timeout: float) -> Waiter:
        return self._start(lambda: consume(self._queue, timeout))


class Forked:
    """Processes forked from the one that made the queue, as Kamailio's workers are."""

    def __init__(self, queue: Queue, children: Children) -> None:
        self._queue = queue
        self._children = children

    def producer(self, name: str, count: int) -> Waiter:
        return partial(self._children.fork(lambda: produce(self._queue, name, count)).result, PATIENCE)

    def consumer(self, timeout: float) -> Waiter:
        return partial(self._children.fork(lambda: consume(self._queue, timeout)).result, PATIENCE)


class Unrelated:
    """Interpreters of their own, which know the queue's name."""

    def __init__(self, queue: Queue, children: Children, instance: str) -> None:
        self._names = (instance, queue.name)
        self._children = children

    def _run(self, role: str, *arguments: object) -> Waiter:
        program = self._children.program("tests.processes.worker", role, *self._names, *arguments)
        return partial(program.result, PATIENCE)

    def producer(self, name: str, count: int) -> Waiter:
        return self._run("produce", name, count)

    def consumer(self, timeout: float) -> Waiter:
        return self._run("consume", timeout)


@pytest.mark.parametrize("timeout", [0.0, 5.0], ids=["polling", "waiting"])
@pytest.mark.parametrize("kinds", ["forked", "unrelated", "threads", "mixed"])
def test_many_at_once(serve: Serve, children: Children, stress: bool, kinds: str, timeout: float) -> None:
    """Each item arrives once, whole, and after those that its producer added before it."""
    queue = serve("name=q")
    count = COUNT * LONG if stress else COUNT
    available: dict[str, Forked | Unrelated | Threads] = {
        "forked": Forked(queue, children),
        "unrelated": Unrelated(queue, children, serve.instance),
        "threads": Threads(queue),
    }
    # Threads last: nothing is forked from a process that has some.
    chosen = list(available.values()) if kinds == "mixed" else [available[kinds]] * EACH
    consumers, producers = [], []
    for number, kind in enumerate(chosen):
        consumers.append(kind.consumer(timeout))
        producers.append(kind.producer(f"p{number}", count))
    added = {f"p{number}": producer() for number, producer in enumerate(producers)}
    for _ in consumers:
        assert queue.add(END, "") == ADDED
    taken = [[(name, number) for name, number in consumer()] for consumer in consumers]
    assert added == dict.fromkeys(added, count)
    assert check(added, taken) == []
    assert items(queue) == []


def test_one_consumer_sees_one_order(serve: Serve, children: Children) -> None:
    """What one process added comes to one consumer in exactly that order."""
    queue = serve("name=q")
    producer = children.fork(lambda: produce(queue, "p", COUNT))
    consumer = children.fork(lambda: consume(queue, 5.0))
    assert producer.result(PATIENCE) == COUNT
    queue.add(END, "")
    assert consumer.result(PATIENCE) == [["p", number] for number in range(COUNT)]
