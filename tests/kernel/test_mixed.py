"""Processes of both kernels on one queue, killed at random: what one leaves, the other mends. An exact ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kemi.queue.kernel import choice
from tests.processes.test_random_kills import LONG, SECONDS, Load

if TYPE_CHECKING:
    from pathlib import Path

    from tests.processes.children import Children
    from tests.processes.serve import Serve


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
    load.judge(load.kill_at_random(LONG if stress else SECONDS))
