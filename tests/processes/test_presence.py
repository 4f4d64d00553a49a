"""Who has a server's lock on the folder of shared memory, as an error names them."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from kemi.queue.shm import presence

if TYPE_CHECKING:
    from pytest_mock import MockerFixture

    from tests.processes.children import Children
    from tests.processes.serve import Serve


def test_a_descriptor_that_goes_meanwhile_hides_nobody(mocker: MockerFixture, serve: Serve, children: Children) -> None:
    """A working server opens and closes files all the time; its life lock may come behind one that went."""
    server = presence.Presence(os.geteuid(), serve.instance)
    child = children.fork(signal.pause)
    listdir = os.listdir

    def with_one_that_went(path: str) -> list[str]:
        return [*(["99999"] if path.endswith("/fd") else []), *listdir(path)]

    mocker.patch.object(os, "listdir", with_one_that_went)
    told = presence.vanished([os.geteuid()], serve.instance)
    assert told.startswith(f"its server lives (pid {child.pid}), but")
    server.end()
    assert presence.vanished([os.geteuid()], serve.instance) == ""
