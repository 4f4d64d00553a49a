"""Processes of both kernels on one queue, killed at random: what one leaves, the other mends. An exact ledger."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

import pytest

from kemi.queue.kernel import choice
from tests.processes.sound import faults
from tests.processes.test_random_kills import LONG, PATIENCE, Load

if TYPE_CHECKING:
    from pathlib import Path

    from tests.processes.children import Children
    from tests.processes.serve import Serve

SECONDS = 3.0


class MixedLoad(Load):
    """Every second producer and every second consumer has no native kernel."""

    def _produce(self, name: str) -> None:
        self._choose(name)
        super()._produce(name)

    def _consume(self, name: str) -> None:
        self._choose(name)
        super()._consume(name)

    def _choose(self, name: str) -> None:
        if int(name.rpartition("-")[2]) % 2:
            choice.detach(self._queue)


@pytest.mark.parametrize("timeout", [0.0, 0.5], ids=["polling", "waiting"])
@pytest.mark.parametrize("addmode", [0, 1, 2])
def test_killed_at_random(
    serve: Serve,
    children: Children,
    tmp_path: Path,
    stress: bool,
    addmode: int,
    timeout: float,
) -> None:
    """Everything that was added comes out, but for one item at most in the hands of each killed consumer."""
    queue = serve(f"name=q;addmode={addmode}", lock_timeout="5")
    load = MixedLoad(queue, children, tmp_path, timeout)
    for _ in range(4):
        load.start("producer")
        load.start("consumer")
    seed = random.randrange(1 << 32)  # noqa: S311 no secret
    rng = random.Random(seed)  # noqa: S311 no secret
    end = time.monotonic() + (LONG if stress else SECONDS)
    while time.monotonic() < end or (time.monotonic() < end + PATIENCE and not queue.stats().recovered):
        time.sleep(rng.expovariate(100))
        load.kill(rng.choice(sorted(load.running)))
    load.finish()
    stats = queue.stats()
    where = f"seed {seed}: {len(load.killed)} killed, {stats}"
    assert load.wrong() == [], where
    assert queue.fetch() is None, where
    assert faults(queue) == [], where
    assert stats.recovered > 0, f"nobody was killed with the lock held: {where}"
    assert abs(stats.added - sum(load.added().values())) <= len(load.killed), where
    assert abs(stats.fetched - sum(map(len, load.taken()))) <= len(load.killed), where
