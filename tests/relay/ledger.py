"""What was added here, and what came there: an exact account, whatever is killed in between.

Producers number their items; each adds until it is told to stop and then says how many the queue took. What came is in
the engine's stream. An item that is missing there is lost, one that is there twice is doubled, and a number behind a
higher one of the same producer came out of order.
"""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Callable, NamedTuple

from kemi.errors import MqueueError
from kemi.relay.engine import Durability
from kemi.relay.forward import Forward
from kemi.relay.server import RedisEngine
from kemi.relay.url import parse
from tests.relay.servers import PATIENCE
from tests.support.clients import attach
from tests.support.waits import until

if TYPE_CHECKING:
    from tests.processes.children import Child, Children
    from tests.processes.serve import Serve
    from tests.relay.servers import EngineServer

_LOCK_TIMEOUT = PATIENCE


class Account(NamedTuple):
    """How it came out."""

    added: int
    lost: int
    doubled: int
    disordered: int


def produce(instance: str, name: str, number: int) -> int:
    """Add items until SIGTERM comes. Returns how many the queue took, which are 0, 1, 2 and so on."""
    going = [True]
    signal.signal(signal.SIGTERM, lambda *_: going.clear())
    queue = attach(name, instance, lock_timeout=_LOCK_TIMEOUT)
    count = 0
    while going:
        for _ in range(20):
            if queue.add(f"p{number}", str(count)):
                count += 1
        time.sleep(0.02)
    return count


def relay(instance: str, name: str, url: str, durability: str, replay: float = 0.0, batch: int = 64) -> None:
    """Relay until this process is killed."""
    queue = attach(name, instance, lock_timeout=_LOCK_TIMEOUT)
    engine = RedisEngine(parse(url), name, Durability.parse(durability))
    while True:
        try:
            Forward(queue, engine, replay=replay, batch=batch, longest_pause=0.2).run(lambda: False, time.sleep)
        except MqueueError:
            time.sleep(0.02)  # the one before is not quite gone, and has the lock


class Run:
    """Producers, a relay, and what is killed. `kill` is called between two items of a producer, at any moment."""

    def __init__(self, serve: Serve, children: Children, url: str, durability: str, replay: float = 0.0) -> None:
        self.queue = serve("name=q")
        self.children = children
        self._start = partial(relay, serve.instance, "q", url, durability, replay)
        self._producers = [children.fork(partial(produce, serve.instance, "q", number)) for number in range(2)]
        self.relay: Child = children.fork(self._start)

    def kill_relay(self) -> None:
        self.relay.end()
        self.relay = self.children.fork(self._start)

    def kills(self, count: int, seed: int, *actions: Callable[[], None]) -> None:
        """Do one of the actions so often, each after a moment."""
        chance = random.Random(seed)
        for _ in range(count):
            time.sleep(chance.uniform(0.005, 0.12))
            chance.choice(actions)()

    def account(self, engine: EngineServer) -> Account:
        """Let the producers end and all items come, and compare."""
        for producer in self._producers:
            producer.send(signal.SIGTERM)
        want = [producer.result() for producer in self._producers]
        # One item more: a relay that has nothing to send notices an engine's end, and what that forgot, a second later.
        until(lambda: self.queue.add("end", ""), "there is room for the last item", PATIENCE)
        until(lambda: not self.queue.held(), "all items are relayed", 5 * PATIENCE)
        self.relay.end()
        came = [(int(item[b"k"][1:]), int(item[b"v"])) for item in engine.items("q") if item[b"k"] != b"end"]
        return compare(want, came)


def compare(want: list[int], came: list[tuple[int, int]]) -> Account:
    """The account of what producers added, and what came of each."""
    count = Counter(came)
    lost = sum(not count[producer, number] for producer, last in enumerate(want) for number in range(last))
    disordered = 0
    for producer in range(len(want)):
        numbers = [number for one, number in came if one == producer]
        disordered += sum(after < before for before, after in zip(numbers, numbers[1:]))
    return Account(sum(want), lost, len(came) - len(count), disordered)
