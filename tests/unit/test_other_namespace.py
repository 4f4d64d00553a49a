"""A server in another pid namespace, as in a container: alive while it lives, taken over when it is dead."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kemi.errors import InstanceInUse
from kemi.instance import Instance, queues
from kemi.queue.catalog import header
from kemi.queue.format import layout
from kemi.spec import QueueSpec, Settings
from tests.unit.children import CHECKOUT

if TYPE_CHECKING:
    from collections.abc import Iterator

UNSHARE = shutil.which("unshare") or "unshare"
NAMESPACES = (UNSHARE, "--pid", "--fork", "--kill-child", "--mount-proc")

# Both are pid 1 of their namespaces. The first one forks a worker, which knows nothing and lives on.
SERVER = """
import os, signal, sys, time
sys.stdin.read(1)
from kemi.errors import InstanceInUse
from kemi.instance import Instance
from kemi.spec import QueueSpec, Settings
assert os.getpid() == 1
try:
    instance = Instance.open(Settings(instance=sys.argv[1]))
except InstanceInUse as error:
    print("in use", flush=True)
    sys.exit(3)
queue = instance.define(QueueSpec("q"))
instance.configure(queue, QueueSpec("q"))
print([item.key for item in queue.peek(None)], flush=True)
queue.add(sys.argv[2], "v")
print("added", flush=True)
if os.environ.get("STOP"):
    instance.close()
    sys.exit(0)
while True:
    signal.pause()
"""


@pytest.fixture(autouse=True)
def may_unshare() -> None:
    """Skip where this process may not have namespaces of its own."""
    if subprocess.run([*NAMESPACES, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no namespaces may be made here")


@pytest.fixture
def none_is_left() -> Iterator[None]:
    """Forget the queues of this process."""
    yield
    queues.clear()


def server(instance: str, key: str, **env: str) -> subprocess.Popen[str]:
    """Start a server."""
    process = subprocess.Popen(
        [*NAMESPACES, sys.executable, "-c", SERVER, instance, key],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT), **env},
    )
    assert process.stdin is not None
    process.stdin.write("x")
    process.stdin.close()
    return process


def said(process: subprocess.Popen[str]) -> str:
    """The next line."""
    assert process.stdout is not None
    return process.stdout.readline()


def end(process: subprocess.Popen[str]) -> None:
    """End the server as a kill of its container does."""
    child = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])
    os.kill(child, signal.SIGKILL)
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


@pytest.mark.usefixtures("none_is_left")
def test_a_server_in_a_container(instance: str) -> None:
    """In use while it lives, for the next container and for the host; taken over, with its items, when it is killed."""
    first = server(instance, "1")
    assert (said(first), said(first)) == ("[]\n", "added\n")
    second = server(instance, "2")
    assert (said(second), second.wait()) == ("in use\n", 3)
    assert second.stdout is not None
    second.stdout.close()
    with pytest.raises(InstanceInUse):
        Instance.open(Settings(instance=instance))
    end(first)
    third = server(instance, "3")
    assert (said(third), said(third)) == ("['1']\n", "added\n")
    end(third)
    ours = Instance.open(Settings(instance=instance))
    queue = ours.define(QueueSpec("q"))
    assert [item.key for item in queue.peek(None)] == ["1", "3"]
    assert queue.owner() == ours.owner
    ours.close()


@pytest.mark.usefixtures("none_is_left")
def test_a_life_lock_belongs_to_its_owner(instance: str) -> None:
    """Who takes over has no life lock until it tells its own, so it never dies with the one before."""
    ours = Instance.open(Settings(instance=instance))
    queue = ours.define(QueueSpec("q"))
    numbers = {segment.words[layout.W_OWNER_LIFE] for segment in (queue.segment, ours.registry.segment)}
    assert len(numbers) == 1
    assert numbers > {0} or 0 not in numbers
    header.set_owner(queue.segment, ours.owner._replace(namespace=1))
    assert queue.segment.words[layout.W_OWNER_LIFE] == 0
    assert not header.is_owner_dead(queue.segment)
    header.set_life(queue.segment, ours.registry.segment.words[layout.W_OWNER_LIFE])
    assert not header.is_owner_dead(queue.segment)
    ours.let_go()
    assert header.is_owner_dead(queue.segment)
    ours.close()
