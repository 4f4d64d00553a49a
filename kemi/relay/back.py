# SPDX-License-Identifier: GPL-2.0-or-later
"""The relay from a queue of an engine to one of this host: each entry comes once.

The position in the stream is stored by the same commit as the item, in the queue's own memory. Whatever is killed, the
next relay reads on from there, and what was added already is not added again. Only then the entry is removed there.

One relay reads a stream, since what it has read is removed: the engine remembers whose it is, and under which name the
position is stored. An engine that lost all gives another name, so that its ids may begin anew; so it does for a stream
that was deleted. A host is told from its clone, which has its machine-id, by its life: who reads renews its claim.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import NamedTuple, Union
from uuid import uuid4

from kemi.errors import ConfigError, EngineError, MqueueError, Unavailable
from kemi.owner import this_process
from kemi.queue.client.attached import AttachedQueue, queue_in_use
from kemi.queue.format.item import Item, record_of
from kemi.queue.format.layout import W_CREATED
from kemi.queue.format.outcome import AddResult
from kemi.relay.aof import FileBegunAnew
from kemi.relay.forward import Counts, Tell, host_id
from kemi.relay.link import LONGEST_PAUSE, Backoff, EngineBusy, Link, connected
from kemi.relay.scripts import CLAIM, RELEASE, stream_of
from kemi.relay.server import check_reader
from kemi.relay.url import Address

BATCH = 256  # entries
_WAIT = 1.0  # seconds of one wait in the engine
_LAG_EVERY = 2.0  # seconds
_CLAIMED = 30  # seconds that a claim holds against another life of what has the same name

Position = tuple[int, int]
Pair = tuple[Union[str, bytes], Union[str, bytes]]


def _life() -> str:
    """What tells this host, or container, from one of the same name: it is another one after each start of it."""
    found = ""
    with contextlib.suppress(OSError):
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            found = file.read().strip()
        found += f"/{this_process().namespace}"
    return found


class _Entry(NamedTuple):
    name: bytes
    position: Position
    pair: Pair | None  # None: no item


class Back:
    """The relay to one queue."""

    def __init__(
        self,
        queue: AttachedQueue,
        address: Address,
        stream: str,
        *,
        host: str = "",
        batch: int = BATCH,
        longest_pause: float = LONGEST_PAUSE,
        tell: Tell = lambda _: None,
    ) -> None:
        """stream: the queue's name there. host: what to call this host. longest_pause: seconds between two tries."""
        self.queue = queue
        self.counts = Counts()
        self._address = address
        self._name = stream
        self._stream = stream_of(stream)
        self._life = _life()
        self._reader = f"{host or host_id()}/{queue.instance}/{queue.name}"
        self._most = batch
        self._tell = tell
        self._told = ""
        self._backoff = Backoff(longest=longest_pause)
        self._link: Link | None = None
        self._file = FileBegunAnew()
        self._source = ""
        self._created = 0  # of the queue that the position is of
        self._after: Position = (0, 0)
        self._lag = (0, 0.0)
        self._lag_at = 0.0

    # --- the loop ---------------------------------------------------------------------------------------------------

    def run(self, stopped: Callable[[], bool], pause: Callable[[float], None]) -> None:
        """Relay until it is time to stop. pause: sleeps; may raise what ends this.

        Raises at the start what does not pass: ConfigError, NotAllowed, EngineError.
        """
        begun = False
        try:
            while not stopped():
                try:
                    link = self._connect()
                    begun = True
                    full = self._pass_on(link, self._read(link))
                except MqueueError as error:
                    if not begun and not isinstance(error, (Unavailable, EngineBusy)):
                        raise
                    self._note(error)
                    full = True
                if full:
                    pause(self._backoff.seconds())
                else:
                    self._backoff.reset()
        finally:
            if self._link is not None and self._source:
                with contextlib.suppress(MqueueError):
                    self._link.script(RELEASE, [f"{self._stream}:reader"], self._life)
            self._disconnect()

    def _connect(self) -> Link:
        """Have a connection, and know how far this queue is."""
        link = self._link
        if link is None or not link.is_open():
            link = connected(self._address)
            self._link = link
            check_reader(link, self._name)
            self._file.ensure(link)
            self._source = self._claim(link)
            self._created = 0
            self._lag_at = 0.0
        queue = queue_in_use(self.queue)
        created = queue.segment.words[W_CREATED]
        if created != self._created:
            self._after = queue.position(self._source) or (0, 0)
            self._claim_again(link)
            self._remove_done(link)
            self._created = created
        if not self.counts.connected:
            self.counts.connected = True
            self._say(f"connected to {self._address}, from {self._name!r}")
        return link

    def _claim(self, link: Link, after: str = "") -> str:
        """Be the only one who reads the stream. Returns the name of its positions; after: the last one, if known."""
        keys = [f"{self._stream}:reader", self._stream]
        owner, name, left = link.script(CLAIM, keys, self._reader, uuid4().hex, self._life, after, _CLAIMED)
        if owner.decode("utf-8", "replace") != self._reader:
            raise ConfigError(
                f"queue {self._name!r} of {self._address} is relayed to {owner.decode('utf-8', 'replace')} (host, "
                f"instance, queue): give each of them a queue of its own; if that one is gone for good, DEL "
                f"{self._stream}:reader there"
            )
        if left:
            raise EngineBusy(
                f"queue {self._name!r} of {self._address} was read {_CLAIMED - left} s ago by another host or "
                f"container of the same name ({self._reader}): this one begins {_CLAIMED} s after its last look; if "
                "both are to live, they need different names: --host-id, or another /etc/machine-id"
            )
        return str(name.decode("ascii", "replace"))

    def _claim_again(self, link: Link) -> None:
        """Renew the claim. A stream that began anew has its first position."""
        source = self._claim(link, _name(self._after))
        if source != self._source:
            self._source, self._after = source, self.queue.position(source) or (0, 0)

    def _remove_done(self, link: Link) -> None:
        """Remove what was added and, by a kill in between, not removed."""
        while self._after > (0, 0):
            old = link.call("XRANGE", self._stream, "-", _name(self._after), "COUNT", self._most)
            if not old:
                return
            link.call("XDEL", self._stream, *(name for name, _ in old))
            self.counts.resent += len(old)

    def _read(self, link: Link) -> list[_Entry]:
        """The entries behind the position; wait a moment for the first one."""
        self._look_at_lag(link)
        command = (
            "XREAD",
            "COUNT",
            self._most,
            "BLOCK",
            int(_WAIT * 1000),
            "STREAMS",
            self._stream,
            _name(self._after),
        )
        found = link.call(*command, timeout=self._address.timeout + _WAIT)
        return [_entry(name, fields) for name, fields in found[0][1]] if found else []

    def _pass_on(self, link: Link, entries: list[_Entry]) -> bool:
        """Add entries here and remove them there. Returns True if the queue here does not take more."""
        while entries:
            good = _leading(entries)
            results = self._add(good) if good else []
            taken = next((n for n, result in enumerate(results) if not result), len(results))
            if taken:
                self.counts.sent += sum(result is AddResult.ADDED for result in results[:taken])
                self._after = entries[taken - 1].position
                link.call("XDEL", self._stream, *(entry.name for entry in entries[:taken]))
                self._told = ""
            if taken < len(results) and results[taken] is not AddResult.TOO_LARGE:
                self.counts.refused += 1
                self._say(f"waits: {results[taken].reason}")
                self.queue.is_closed()  # turns to the next server's queue when this one was ended
                return True
            entries = entries[taken:]
            if entries and (taken < len(results) or entries[0].pair is None):
                self._set_aside(link, entries.pop(0))
        return False

    def _add(self, entries: list[_Entry]) -> list[AddResult]:
        queue = queue_in_use(self.queue)
        if queue.segment.words[W_CREATED] != self._created:
            return [AddResult.CLOSED]  # the next look finds its position
        return queue.add_from(self._source, [(entry.position, *entry.pair) for entry in entries if entry.pair])

    def _set_aside(self, link: Link, entry: _Entry) -> None:
        """Keep an entry there, out of the way, that no queue here will ever take."""
        (whole,) = link.call("XRANGE", self._stream, entry.name, entry.name) or ((entry.name, []),)
        if whole[1]:
            link.call("XADD", f"{self._stream}:refused", "*", *whole[1])
        link.call("XDEL", self._stream, entry.name)
        self._after = entry.position
        self.counts.refused += 1
        why = "it is too large for the queue here" if entry.pair else "it has no fields k and v, or no whole numbers"
        self._say(f"entry {entry.name.decode()} is in {self._stream}:refused now: {why}")

    def _disconnect(self) -> None:
        self.counts.connected = False
        if self._link is not None:
            self._link.close()
            self._link = None

    # --- what people hear -------------------------------------------------------------------------------------------

    def _note(self, error: MqueueError) -> None:
        if isinstance(error, EngineError):
            self.counts.refused += 1
            self._disconnect()
        elif isinstance(error, Unavailable):
            self.counts.disconnected += self._link is None or not self._link.is_open()
            self.counts.connected = self._link is not None and self._link.is_open()
        self.counts.last_error = str(error)
        self._say(f"{error}; trying again")

    def _say(self, text: str) -> None:
        if text != self._told:
            self._told = text
            with contextlib.suppress(OSError):
                self._tell(f"queue {self.queue.name!r}: {text}")

    def _look_at_lag(self, link: Link) -> None:
        if time.monotonic() - self._lag_at < _LAG_EVERY:
            return
        self._claim_again(link)
        self._lag_at = time.monotonic()
        length = link.call("XLEN", self._stream)
        first = link.call("XRANGE", self._stream, "-", "+", "COUNT", 1)
        age = max(0.0, time.time() - _position(first[0][0])[0] / 1000) if first else 0.0
        self._lag = (length, age)

    def lag(self) -> tuple[int, float]:
        """Items that are still there, and the age of the oldest one, seconds; some seconds old."""
        return self._lag


def _name(position: Position) -> str:
    return f"{position[0]}-{position[1]}"


def _position(name: bytes) -> Position:
    major, _, minor = name.partition(b"-")
    return int(major), int(minor)


def _entry(name: bytes, flat: list[bytes]) -> _Entry:
    """An entry as it was read. Other programs may write there too: what is needed are k and v."""
    fields = dict(zip(flat[::2], flat[1::2]))
    pair: Pair | None = None
    with contextlib.suppress(KeyError, ValueError):
        key, value, flags = fields[b"k"], fields[b"v"], int(fields.get(b"f", 0))
        pair = (key, value)
        if flags:
            item = Item(record_of(key, value, 0.0, flags))
            pair = (item.key, item.value)
    return _Entry(name, _position(name), pair)


def _leading(entries: list[_Entry]) -> list[_Entry]:
    """Those before the first one that is no item."""
    return entries[: next((n for n, entry in enumerate(entries) if entry.pair is None), len(entries))]
