"""More queues than `ulimit -n 1024` has descriptors: the server raises its own limit, and a client needs two."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.server.harness import Kamailio

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.server.harness import Servers

QUEUES = 1100
LIMIT = 1024
CHECKOUT = Path(__file__).resolve().parents[2]

# Attach to the last queue; then to one after the other, until the process has no descriptor left.
CLIENT = """
import json, resource, sys
import mqueue_kemi as mq
resource.setrlimit(resource.RLIMIT_NOFILE, (1024, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
instance, last = sys.argv[1], int(sys.argv[2])
with mq.attach(f"q{last}", instance) as queue:
    item = queue.fetch(60)
    added = bool(queue.add("from", "outside"))
attached, error = [], ""
try:
    for number in range(last):
        attached.append(mq.attach(f"q{number}", instance))
except mq.MqueueError as refused:
    error = str(refused)
some = len(attached)
free = bool(attached[0].add("k", "v"))
for queue in attached:
    queue.close()
with mq.attach("q0", instance) as queue:
    again = queue.fetch().key
print(json.dumps([item.key, added, some, error, free, again]))
"""


@pytest.fixture
def low_limit() -> Iterator[None]:
    """Start what is started with `ulimit -n 1024`."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (LIMIT, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.usefixtures("low_limit")
def test_1100_queues(servers: Servers) -> None:
    """Start, add and fetch in a worker; add and fetch by a client that has a low limit of its own."""
    definitions = [f"name=q{number}" for number in range(QUEUES)]
    server = servers.start(Kamailio(definitions, workers=2, params=[("max_memory", "8G")]))
    last = QUEUES - 1
    assert server.run(f"return [mq.mq_add(f'q{{n}}', 'k', str(n)) for n in range({QUEUES})] == [1] * {QUEUES}")
    assert server.run(f"return [mq.mq_fetch(f'q{{n}}') for n in range({last})] == [1] * {last}", worker=1)
    done = subprocess.run(
        [sys.executable, "-c", CLIENT, server.instance, str(last)],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    key, added, some, error, free, again = json.loads(done.stdout)
    assert (key, added, free, again) == ("k", True, True, "k")
    assert 400 < some < LIMIT
    assert "ulimit -n" in error
    assert "1024 descriptors" in error
    assert server.call("mq_size", f"q{last}") == 1
    server.stop()
    assert server.segments() == []
