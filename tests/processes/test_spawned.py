"""A client in processes that are made anew, not forked: multiprocessing's spawn and forkserver."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.processes.serve import items

if TYPE_CHECKING:
    from tests.processes.serve import Serve

CHECKOUT = Path(__file__).parents[2]

# As a user writes it: the queue goes to each call as an argument, the item as a copy.
PROGRAM = f"""
import sys
sys.path.insert(0, {str(CHECKOUT)!r})
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from tests.support.clients import attach

def render(item, results):
    return bool(results.add(item.key, item.value.upper()))

if __name__ == "__main__":
    method, instance = sys.argv[1:]
    context = get_context(method)
    with attach("jobs", instance) as jobs, attach("results", instance) as results:
        child = context.Process(target=results.add, args=("first", "0"))
        child.start()
        child.join(120)
        assert child.exitcode == 0, child.exitcode
        with ProcessPoolExecutor(2, context) as pool:
            done = list(pool.map(render, jobs.fetch_many(100), [results] * 100))
        print(sum(done), len(jobs))
"""


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_a_queue_goes_to_other_processes(serve: Serve, tmp_path: Path, method: str) -> None:
    """The children add to the same queue; when they and their helpers end, the queue is there with all items."""
    jobs = serve("name=jobs", "name=results")
    jobs.add_many([(str(number), f"value {number}") for number in range(100)])
    program = tmp_path / "pool.py"
    program.write_text(PROGRAM, "utf-8")
    argv = [sys.executable, "-bb", str(program), method, serve.instance]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=240, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("100 0\n", "", 0)
    from kemi.instance import queues

    found = items(queues["results"])
    assert found[0] == ("first", "0")
    assert sorted(found[1:], key=lambda item: int(item[0])) == [(str(n), f"VALUE {n}") for n in range(100)]
