"""The same calls to the real C module and to ours in one server: no difference but the documented ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.server.harness import Kamailio
from tests.server.remote import calls

if TYPE_CHECKING:
    from tests.server.harness import Servers

STEPS = 6000
PIECE = 60


def beside_the_c_module(workers: int = 1) -> Kamailio:
    """Set up a server with the same queues in both modules."""
    cfg = "\n".join(f'modparam("mqueue", "mqueue", "{text}")' for text in calls.DEFINITIONS)
    return Kamailio(calls.DEFINITIONS, modules=["mqueue"], cfg=cfg, workers=workers)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_one_process_sees_no_difference(servers: Servers, seed: int) -> None:
    """Thousands of random calls in one worker give the same results from both modules."""
    server = servers.start(beside_the_c_module())
    found = server.run(f"""
        from tests.server.remote.compare import differences
        return differences({seed}, 0, {STEPS})
    """)
    assert found == []


def test_two_processes_in_turn_see_no_difference(servers: Servers) -> None:
    """Queues are common to the workers, what each has fetched is its own, in both modules alike."""
    server = servers.start(beside_the_c_module(workers=2))
    for piece in range(STEPS // PIECE):
        found = server.run(
            f"""
            from tests.server.remote.compare import differences
            return differences(4, {piece * PIECE}, {(piece + 1) * PIECE})
            """,
            worker=piece % 2,
        )
        assert found == []


def test_the_sequence_meets_every_case() -> None:
    """The random calls reach each function with each queue, and fill and empty the queues."""
    seen = {(name, arguments[0]) for (name, arguments), _ in zip(calls.steps(1), range(STEPS))}
    assert seen == {(name, queue) for name in calls.CALLS for queue in calls.QUEUES}


def test_the_c_modules_functions_keep_their_name(servers: Servers) -> None:
    """With the C module loaded, KSR.mqueue is still its own: an empty queue has size 0 there."""
    server = servers.start(beside_the_c_module())
    assert server.run("return KSR.mqueue.mq_size('plain'), mq.mq_size('plain')") == (0, -1)
    server.run("KSR.mqueue.mq_add('plain', 'k', 'v')")
    assert server.run("return KSR.mqueue.mq_size('plain'), mq.mq_size('plain')") == (1, -1)
