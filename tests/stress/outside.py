"""Processes outside the server that add and take, find their queues again when servers come and go, and keep books."""

from __future__ import annotations

import contextlib
import ctypes
import signal
import socket
import time
from typing import TYPE_CHECKING

from kemi.errors import MqueueError, UnknownQueue
from kemi.queue.log.core import ADDED
from mqueue_kemi import attach
from tests.stress.books import DEEP, Consumer, Producer

if TYPE_CHECKING:
    import mmap
    from collections.abc import Sequence

    from mqueue_kemi import Queue

RUN, NO_MORE_ADDS, END = 0, 1, 2  # phases of a run, in one shared byte
_PAUSE = 0.002  # seconds
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def end_with_parent() -> None:
    """Have this process killed when the one ends that started it, also while it is stopped."""
    if _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")


class Handles:
    """The queues of an instance, attached when they are there."""

    def __init__(self, instance: str) -> None:
        self._instance = instance
        self._open: dict[str, Queue] = {}

    def get(self, name: str) -> Queue | None:
        """Return a queue, or None while there is none: the only error that attach may give here."""
        if name not in self._open:
            try:
                self._open[name] = attach(name, self._instance)
            except UnknownQueue:
                time.sleep(_PAUSE)
                return None
        return self._open[name]

    def forget(self, name: str) -> None:
        """Look for another one next time."""
        with contextlib.suppress(MqueueError):
            self._open.pop(name).close()


def produce(folder: str, instance: str, queues: Sequence[str], phase: mmap.mmap) -> None:
    """Add to all queues in turn until no more is wanted."""
    end_with_parent()
    books = {queue: Producer(folder, queue) for queue in queues}
    handles = Handles(instance)
    while phase[0] == RUN:
        for name, book in books.items():
            queue = handles.get(name)
            if queue is None or _is_deep(queue):
                time.sleep(_PAUSE)
                continue
            key, value = book.next_item()
            try:
                added = queue.add(key, value) == ADDED
            except MqueueError:
                added = False
            book.done(added)
            if not added:  # closed by its server, or there is no memory
                handles.forget(name)
                time.sleep(_PAUSE)


def _is_deep(queue: Queue) -> bool:
    try:
        return len(queue) > DEEP
    except MqueueError:
        return False


def consume(folder: str, instance: str, queues: Sequence[str], phase: mmap.mmap) -> None:
    """Take from all queues in turn until the end."""
    end_with_parent()
    books = {queue: Consumer(folder, queue) for queue in queues}
    handles = Handles(instance)
    while phase[0] != END:
        for name, book in books.items():
            queue = handles.get(name)
            if queue is None:
                continue
            book.about_to_fetch()
            try:
                item = queue.fetch(0.01)
            except MqueueError:  # closed by its server and empty, or its lock is not to be had
                book.nothing()
                handles.forget(name)
                continue
            if item is None:
                book.nothing()
            else:
                book.took(item.key, item.value)


def call(ports: Sequence[int], pause: float) -> None:
    """Send a request to each worker again and again; nobody reads the answers."""
    end_with_parent()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        own = sock.getsockname()[1]
        number = 0
        while True:
            for port in ports:
                number += 1
                lines = [
                    f"MESSAGE sip:bob@127.0.0.1:{port} SIP/2.0",
                    f"Via: SIP/2.0/UDP 127.0.0.1:{own};branch=z9hG4bK-{number}",
                    f"From: <sip:alice@127.0.0.1>;tag={number}",
                    f"To: <sip:bob@127.0.0.1:{port}>",
                    f"Call-ID: {own}-{number}@127.0.0.1",
                    f"CSeq: {number} MESSAGE",
                    "Content-Length: 0",
                    "\r\n",
                ]
                with contextlib.suppress(OSError):
                    sock.sendto("\r\n".join(lines).encode(), ("127.0.0.1", port))
            time.sleep(pause)
