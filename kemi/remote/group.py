# SPDX-License-Identifier: GPL-2.0-or-later
"""A queue of an engine, as one consumer of it: what is asked of the engine, and in whose name.

Each process is a consumer of its own name. What it has reserved is its own for the time of a lease, which is renewed as
long as the process lives and has it in its hands; of a process that was killed others get it when the lease is over.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar
from uuid import uuid4

from kemi.errors import ClientClosed, Disconnected, EngineError
from kemi.queue.delivery.hold import DONE, Hold, Settlement
from kemi.relay.link import Link, connected
from kemi.relay.scripts import GROUP, Script, stream_of
from kemi.relay.url import Address
from kemi.remote.scripts import ADD, PEEK, RENEW, SETTLE, STATS, TAKE

_SCAN = 0.5  # seconds between two looks for leases that are over
SLICE = 0.25  # seconds of one wait in the engine: as long may an item that was given back wait for somebody who waits

_Result = TypeVar("_Result")


class Entry(NamedTuple):
    """An item as the engine has it."""

    name: str  # the stream's own id of it
    deliveries: int
    fields: dict[bytes, bytes]


class Group:
    """The engine's part of a client. Safe with threads, each of which has a connection while it needs one."""

    def __init__(self, address: Address, queue: str) -> None:
        """queue: its name there."""
        self.address = address
        self.queue = queue
        self.closed = False
        self._stream = stream_of(queue)
        dead = stream_of(address.dead_letter) if address.dead_letter else self._stream
        self._keys = (self._stream, f"{self._stream}:back", f"{self._stream}:stats", dead)
        self._begin()

    def _begin(self) -> None:
        """Be a consumer of this process."""
        self._pid = os.getpid()
        self.consumer = f"{socket.gethostname()}-{self._pid}-{uuid4().hex[:8]}"
        self._links: deque[Link] = deque()
        self._scanned = 0.0
        self._held: dict[str, Callable[[], Hold | None]] = {}
        self._renewing = False
        self._guard = threading.Lock()

    # --- connections ------------------------------------------------------------------------------------------------

    def closed_error(self) -> ClientClosed:
        """What a call raises that comes too late."""
        return ClientClosed(f"queue {self.queue!r} of {self.address} is closed in this process")

    @contextlib.contextmanager
    def _link(self, *, last: bool) -> Iterator[Link]:
        """last: also when this is closed, for what has to be put right then."""
        if self.closed and not last:
            raise self.closed_error()
        if self._pid != os.getpid():
            self._begin()
        try:
            link = self._links.pop()
        except IndexError:
            link = connected(self.address)
        try:
            yield link
        finally:
            if link.is_open() and not self.closed:
                self._links.append(link)
            else:
                link.close()

    def _call(self, call: Callable[[Link], _Result], *, anew: bool = False, last: bool = False) -> _Result:
        """Ask the engine. anew: what a connection that broke in between may be asked again, on a new one."""
        try:
            with self._link(last=last) as link:
                return self._with_group(link, call)
        except Disconnected:
            if not anew or self.closed:
                raise
        self._drop_links()
        with self._link(last=last) as link:
            return self._with_group(link, call)

    def _with_group(self, link: Link, call: Callable[[Link], _Result]) -> _Result:
        try:
            return call(link)
        except EngineError as error:
            if "NOGROUP" not in str(error) and "no such key" not in str(error):
                raise
        self._make_group(link)
        return call(link)

    def _make_group(self, link: Link) -> None:
        try:
            link.call("XGROUP", "CREATE", self._stream, GROUP, "0", "MKSTREAM")
        except EngineError as error:
            if "BUSYGROUP" not in str(error):
                raise

    def _drop_links(self) -> None:
        """Connections that lie here may have broken with the one that did."""
        while self._links:
            self._links.pop().close()

    def ask(self, script: Script, *arguments: Any, anew: bool = False, last: bool = False) -> Any:
        """Run one of the consumers' scripts. Raises Disconnected, OutcomeUnknown, NotAllowed, EngineError."""
        return self._call(lambda link: link.script(script, self._keys, *arguments), anew=anew, last=last)

    def ping(self) -> None:
        """Raise what is wrong with the engine."""
        self._call(lambda link: link.call("PING"), anew=True)

    def close(self) -> None:
        """Give back what this process has, and let go. A call that waits gets nothing of it: it is closed already."""
        first, self.closed = not self.closed, True
        if first and self._pid == os.getpid():
            held = dict(self._held)
            for hold in held.values():
                if there := hold():
                    there.end()
            with contextlib.suppress(Exception):  # what cannot be given back is so when its lease is over
                self.give_back(list(held))
        self._drop_links()

    def give_back(self, names: Sequence[str]) -> None:
        """What nobody here wants, also after `close`: as if it had not been delivered."""
        self.settle(names, Settlement("give back", counted=False), last=True)

    # --- items ------------------------------------------------------------------------------------------------------

    def take(self, count: int) -> list[Entry]:
        """Reserve items that are there, as many as `count`, for this consumer."""
        now = time.monotonic()
        scan = now - self._scanned >= min(_SCAN, self.address.lease / 2)
        lease = int(self.address.lease * 1000)
        most = self.address.max_deliveries or 0
        found = self._call(
            lambda link: link.script(TAKE, self._keys, self.consumer, count, lease, most, int(scan)), anew=True
        )
        if scan:
            self._scanned = now
        return self._kept([Entry(name.decode(), deliveries, _dictionary(fields)) for name, deliveries, fields in found])

    def wait(self, count: int, seconds: float) -> list[Entry]:
        """Reserve items that come within some seconds, SLICE at most. They may also be there without being new."""
        milliseconds = max(1, int(min(seconds, SLICE) * 1000))

        def read(link: Link) -> Any:
            command = ("XREADGROUP", "GROUP", GROUP, self.consumer, "COUNT", count, "BLOCK", milliseconds)
            timeout = self.address.timeout + milliseconds / 1000
            return link.call(*command, "STREAMS", self._stream, ">", timeout=timeout)

        found = self._call(read, anew=True)
        if not found:
            return []
        return self._kept([Entry(name.decode(), 1, _dictionary(fields)) for name, fields in found[0][1]])

    def _kept(self, entries: list[Entry]) -> list[Entry]:
        """Entries that were just reserved. Raises ClientClosed when `close` came meanwhile: they go back."""
        # Written down before the look, as `close` marks before it looks: one of the two sees the other, or both do.
        self._held.update((entry.name, _not_yet) for entry in entries)
        if self.closed:
            with contextlib.suppress(Exception):
                self.give_back([entry.name for entry in entries])
            raise self.closed_error()
        return entries

    def settle(self, names: Sequence[str], how: Settlement, *, last: bool = False) -> int:
        """Settle what this consumer has reserved. Returns how many were its own until then."""
        settled = len(names) - len(self._settle(names, how, last=last))
        return settled if how.kind != "answer" else 0  # nobody asked

    def take_for_good(self, entries: Sequence[Entry]) -> list[Entry]:
        """Take reserved items out of the queue. Returns those that were still this consumer's."""
        lost = self._settle([entry.name for entry in entries], DONE)
        return [entry for entry in entries if entry.name not in lost]

    def _settle(self, names: Sequence[str], how: Settlement, *, last: bool = False) -> set[str]:
        """Returns those that were not this consumer's: a lease was over, or they were settled before."""
        if not names:
            return set()
        kind = "done" if how.kind == "answer" else how.kind
        lost = self.ask(SETTLE, self.consumer, kind, how.after, int(how.counted), how.reason, *names, last=last)
        for name in names:
            self._held.pop(name, None)
        return {name.decode() for name in lost}

    def add(self, records: Sequence[tuple[bytes, bytes, int]]) -> int:
        """Add key, value and flags of each, in order. Returns how many are there; the others are too many."""
        now = repr(time.time())
        arguments: list[Any] = [self.address.max_len or 0]
        for key, value, flags in records:
            arguments += (f"{flags} {now}", key, value)
        return int(self.ask(ADD, *arguments))

    def peek(self, count: int | None, *, reserved: bool) -> list[Entry]:
        """The oldest items; None: all."""
        found = self.ask(PEEK, count or 0, int(reserved), anew=True)
        return [Entry(name.decode(), 0, _dictionary(fields)) for name, fields in found]

    def add_again(self, entries: Sequence[Entry]) -> None:
        """Put items that were taken by a mistake behind all others."""
        for entry in entries:
            fields = {b"i": entry.name.encode(), **entry.fields}
            command = ("XADD", self._stream, "*", *(part for pair in fields.items() for part in pair))
            self._call(partial(_add, command), last=True)

    def numbers(self) -> tuple[int, int, int, int, int, dict[str, int]]:
        """Items, pending ones, given back and due, given back and not due, ever added, and the counters."""
        items, pending, due, later, added, flat = self.ask(STATS, anew=True)
        counters = {name.decode(): int(value) for name, value in _dictionary(flat).items()}
        return items, pending, due, later, added if added >= 0 else counters.get("added", 0), counters

    def memory(self) -> int:
        """Bytes that the engine needs for the queue; 0 where this user may not ask."""
        with contextlib.suppress(EngineError):
            return int(self._call(lambda link: link.call("MEMORY", "USAGE", self._stream), anew=True) or 0)
        return 0

    # --- leases -----------------------------------------------------------------------------------------------------

    def holds(self, name: str, hold: Hold) -> None:
        """Renew the lease of an item as long as somebody here has it."""
        self._held[name] = weakref.ref(hold)
        if not self._renewing:
            with self._guard:
                if not self._renewing:
                    self._renewing = True
                    threading.Thread(
                        target=self._renew, args=(self._pid,), name="mqueue_kemi lease", daemon=True
                    ).start()

    def _renew(self, pid: int) -> None:
        pause = threading.Event()
        while not self.closed and self._pid == pid:
            pause.wait(min(self.address.lease / 4, 5.0))
            for name, hold in list(self._held.items()):
                there = hold()
                if hold is not _not_yet and (there is None or there.is_over()):
                    self._held.pop(name, None)
            names = [name for name, hold in list(self._held.items()) if hold is not _not_yet]
            for first in range(0, len(names), 500):
                with contextlib.suppress(Exception):  # who settles hears what is wrong
                    self.ask(RENEW, self.consumer, *names[first : first + 500], anew=True)


def _not_yet() -> None:
    """What stands for the hold of an item whose call goes on: its lease is not renewed."""


def _add(command: Sequence[Any], link: Link) -> Any:
    return link.call(*command)


def _dictionary(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2]))
