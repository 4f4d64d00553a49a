"""An interpreter that ends in its own way with a queue open: `python -m tests.processes.leave HOW INSTANCE QUEUE`."""

from __future__ import annotations

import multiprocessing.resource_tracker
import os
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.clients import attach, inner

if TYPE_CHECKING:
    from mqueue_kemi import AttachedQueue


def children_of_this() -> list[str]:
    """Return the pids of this process's children."""
    tasks = Path("/proc/self/task").iterdir()
    return [pid for task in tasks for pid in (task / "children").read_text("ascii").split()]


def wait_in_a_thread(queue: AttachedQueue) -> None:
    """Let a thread wait for an item that does not come; the interpreter ends without it."""
    threading.Thread(target=lambda: list(queue.consume()), daemon=True).start()
    time.sleep(0.2)


def main(how: str, instance: str, name: str) -> None:
    """Use the queue; check that nothing was started; leave."""
    queue = attach(name, instance)
    queue.add("k", "v" * 300_000)
    assert queue.fetch() is not None
    assert queue.fetch(0.01) is None
    assert children_of_this() == []
    assert multiprocessing.resource_tracker._resource_tracker._pid is None  # type: ignore[attr-defined]
    if how == "thread":
        wait_in_a_thread(queue)
    elif how == "closed":
        queue.close()
    elif how == "twice":
        attach(name, instance).add("k", "v")
        queue.fetch()
        queue.close()
        queue.close()
    elif how == "in use":
        globals()["kept"] = (queue, queue.peek(), iter(queue.consume()), inner(queue).segment.words[0:8])
    elif how == "exit":
        sys.exit(0)
    elif how == "forked":
        pid = os.fork()
        if pid:
            assert os.waitpid(pid, 0)[1] == 0


if __name__ == "__main__":
    main(*sys.argv[1:])
