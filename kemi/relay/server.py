# SPDX-License-Identifier: GPL-2.0-or-later
"""Redis and Valkey as an engine: what is sent, how it is made durable, and what the server must be for that.

Before anything is sent the server is asked whether it can keep what is promised: a setting that would lose items is an
error that names the setting, its value, and what to write instead.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence

from kemi.errors import ConfigError, EngineError, MqueueError, NotAllowed
from kemi.relay.aof import FileBegunAnew
from kemi.relay.engine import Durability, Entry, Sent
from kemi.relay.link import EngineBusy, Link, QueueFull, connected, packed
from kemi.relay.scripts import CLAIM, FORWARD, GROUP, NEW_SOURCE, RETIRED, seen_of, sources_of, stream_of
from kemi.relay.url import Address

_CHECK_EVERY = 5.0  # seconds; the settings may be changed while the server runs
_OLDEST = (6, 2)
_WAITAOF = (7, 2)


class RedisEngine:
    """A Redis or Valkey server."""

    def __init__(self, address: Address, stream: str, durability: Durability, max_len: int = 0) -> None:
        """stream: the queue's name there. max_len: most items in it; 0 = any number."""
        self.address = address
        self.stream = stream
        self.durability = durability
        self.max_len = max_len
        self._link: Link | None = None
        self._file = FileBegunAnew()
        self._sources: set[str] = set()
        self._waits_for_disk = False
        self._checked = 0.0
        self.connections = 0  # how many there were, with this one

    def __str__(self) -> str:
        return f"{self.address}, durability={self.durability}"

    def connect(self) -> None:
        """As `Engine.connect`."""
        if self._link is not None and self._link.is_open():
            return
        self.close()
        link = connected(self.address)
        try:
            self._waits_for_disk = check(link, self.durability)
            check_commands(link, self.stream)
            self._file.ensure(link)
        except MqueueError:
            link.close()
            raise
        self._checked = time.monotonic()
        self._link = link
        self.connections += 1
        self._sources.clear()  # it may be another server, or an empty one

    def send(self, source: str, entries: Sequence[Entry], meanwhile: Callable[[], None]) -> Sent:
        """As `Engine.send`."""
        try:
            return self._send(source, entries, meanwhile)
        except QueueFull:
            raise
        except MqueueError:
            self.close()  # the next try may find another master
            raise

    def _send(self, source: str, entries: Sequence[Entry], meanwhile: Callable[[], None]) -> Sent:
        self.connect()
        link = self._link
        if link is None:
            raise EngineBusy("not connected")
        if time.monotonic() - self._checked > _CHECK_EVERY:
            self._waits_for_disk = check(link, self.durability)
            self._checked = time.monotonic()
        if source not in self._sources:
            self._announce(link, source)
        confirmation = self._confirmation()
        request = b"".join((self._request(source, entries), *(packed(*one) for one in confirmation)))
        replies = link.packed_script(FORWARD, request, 1 + len(confirmation), meanwhile)
        added, resent = replies[0]
        if added < 0:
            raise QueueFull(
                f"queue {self.stream!r} of {self.address} has {resent} items, and max_len={self.max_len}: the batch of "
                f"{len(entries)} stays here"
            )
        self._refuse_unconfirmed(replies[1:])
        return Sent(added, resent)

    def _request(self, source: str, entries: Sequence[Entry]) -> bytes:
        """The script's call, packed here, with one format for each item: half of what a batch costs."""
        head = (b"EVALSHA", FORWARD.sha, 2, stream_of(self.stream), seen_of(self.stream, source), self.max_len)
        parts = [packed(*head).replace(b"*6", b"*%d" % (6 + 3 * len(entries)), 1)]
        for slot, turn, name, added, key, value, flags in entries:
            about = b"%d %d %d %b %b" % (slot, turn, flags, name.encode(), repr(added).encode())
            parts.append(
                b"$%d\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(about), about, len(key), key, len(value), value)
            )
        return b"".join(parts)

    def _confirmation(self) -> list[tuple[object, ...]]:
        """The command that waits until what was sent is as durable as was asked for."""
        milliseconds = max(1, int(self.address.timeout * 800))  # the reply must come before the connection gives up
        replicas = self.durability.replicas
        if self._waits_for_disk:
            return [("WAITAOF", 1, 0, milliseconds), *([("WAIT", replicas, milliseconds)] if replicas else [])]
        return [("WAIT", replicas, milliseconds)] if replicas else []

    def _refuse_unconfirmed(self, replies: Sequence[object]) -> None:
        waited = list(replies)
        if self._waits_for_disk:
            local = waited.pop(0)
            if not isinstance(local, (list, tuple)) or local[0] < 1:
                raise EngineBusy(f"{self.address}: not on its disk within {self.address.timeout * 0.8:g} s")
        if self.durability.replicas:
            (count,) = waited
            if not isinstance(count, int) or count < self.durability.replicas:
                raise EngineBusy(
                    f"{self.address}: {count} replicas have it within {self.address.timeout * 0.8:g} s, and "
                    f"durability={self.durability} asks for {self.durability.replicas}"
                )

    def _announce(self, link: Link, source: str) -> None:
        """Tell the engine of a new source. What is known of its predecessors on this host goes after some time."""
        same_queue = source.rpartition("/")[0] + "/"
        known = [name.decode("utf-8", "surrogateescape") for name in link.call("SMEMBERS", sources_of(self.stream))]
        older = [seen_of(self.stream, name) for name in known if name.startswith(same_queue) and name != source]
        link.script(NEW_SOURCE, [sources_of(self.stream), *older[:1000]], source, RETIRED)
        self._sources.add(source)

    def ping(self) -> None:
        """As `Engine.ping`."""
        if self._link is not None:
            self._link.call("PING")

    def close(self) -> None:
        """As `Engine.close`."""
        if self._link is not None:
            self._link.close()
            self._link = None


# --- what the engine must be ------------------------------------------------------------------------------------------


def check(link: Link, durability: Durability) -> bool:
    """Raise an error if the engine would lose what it is sent. Returns True if it must be asked to wait for its disk.

    Raises ConfigError, NotAllowed, EngineError; EngineBusy for what may pass.
    """
    where = f"{link.address.scheme} server {link.where}"
    info = _usable(link, where)
    version = _version(info)
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        raise ConfigError(
            f"{where}: maxmemory-policy={policy}: it would drop items that nobody has read; CONFIG SET "
            "maxmemory-policy noeviction"
        )
    has_waitaof = version >= _WAITAOF or "valkey_version" in info
    if durability.fsync:
        _check_disk(link, info, where, has_waitaof=has_waitaof)
    replicas = int(info.get("connected_slaves", "0"))
    if replicas < durability.replicas:
        raise EngineBusy(f"{where}: connected_slaves={replicas}, and durability={durability} asks for more")
    return durability.fsync and has_waitaof


def check_reader(link: Link, queue: str) -> None:
    """Raise an error if a queue there cannot be relayed to here. Raises as `check`."""
    where = f"{link.address.scheme} server {link.where}"
    _usable(link, where)
    stream = stream_of(queue)
    _try_all(
        link,
        stream,
        where,
        ("XLEN", stream),
        ("XREAD", "COUNT", 1, "STREAMS", stream, "$"),
        ("XRANGE", stream, "0", "0"),
        ("XDEL", stream, "0-1"),
        ("XADD", f"{stream}:refused", "0-0", "k", "v"),
        ("XINFO", "STREAM", stream),
        ("SCRIPT", "LOAD", CLAIM.text),
        ("EVALSHA", "0" * 40, 1, stream),
        ("TIME",),
        ("HMGET", f"{stream}:reader", "owner"),
        ("HSET", f"{stream}:reader", "owner", "odd", "0"),
        ("HDEL", f"{stream}:reader", "~"),
    )
    for group in link.call("XINFO", "GROUPS", stream) if link.call("EXISTS", stream) else ():
        about = dict(zip(group[::2], group[1::2]))
        if about[b"name"] == GROUP.encode() and about[b"consumers"]:
            raise ConfigError(
                f"{where}: consumers take from queue {queue!r} too, {about[b'consumers']} of them: name a queue that is"
                f" only for this relay; if they are gone, XGROUP DESTROY {stream} {GROUP}"
            )


def _usable(link: Link, where: str) -> dict[str, str]:
    """What the server says of itself. Raises ConfigError, EngineBusy when it is none that can be written to."""
    info = link.info()
    if _version(info) < _OLDEST:
        raise ConfigError(f"{where}: redis_version={info.get('redis_version')}: at least 6.2 is needed")
    if info.get("role", "master") != "master":
        raise EngineBusy(f"{where}: role={info['role']}: it takes no items; name the master")
    if info.get("cluster_enabled") == "1":
        raise ConfigError(f"{where}: cluster_enabled=1: a cluster is not supported; name a server of its own")
    return info


def _version(info: dict[str, str]) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", info.get("redis_version", "0"))[:2])


def _check_disk(link: Link, info: dict[str, str], where: str, *, has_waitaof: bool) -> None:
    """`fsync` needs an append-only file that is on the disk before a reply, or an engine that can be asked to wait."""
    if info.get("aof_enabled") != "1":
        raise ConfigError(
            f"{where}: appendonly=no, and durability=fsync needs an append-only file; CONFIG SET appendonly yes, or "
            "choose durability=memory"
        )
    try:
        appendfsync = _setting(link, "appendfsync")
        delayed = _setting(link, "no-appendfsync-on-rewrite")
    except NotAllowed:
        if has_waitaof:
            return  # each batch is asked for
        raise NotAllowed(
            f"{where}: this user may not read the setting appendfsync, which durability=fsync needs with this version; "
            "ACL SETUSER ... +config|get"
        ) from None
    if has_waitaof:
        if appendfsync == "no":
            raise ConfigError(f"{where}: appendfsync=no, and durability=fsync needs always (or everysec, slowly)")
        return
    if appendfsync != "always":
        raise ConfigError(
            f"{where}: appendfsync={appendfsync}, and durability=fsync needs always: this version has no WAITAOF; "
            "CONFIG SET appendfsync always"
        )
    if delayed != "no":
        raise ConfigError(
            f"{where}: no-appendfsync-on-rewrite={delayed}, with which appendfsync always is not kept while the file "
            "is rewritten; CONFIG SET no-appendfsync-on-rewrite no"
        )


def _setting(link: Link, name: str) -> str:
    reply = link.call("CONFIG", "GET", name)
    return reply[1].decode() if len(reply) > 1 else ""


def check_commands(link: Link, queue: str) -> None:
    """Try what will be sent, in forms that change nothing: what is not allowed is known before the first item."""
    where = f"{link.address.scheme} server {link.where}"
    stream = stream_of(queue)
    _try_all(
        link,
        stream,
        where,
        ("SCRIPT", "LOAD", FORWARD.text),
        ("HMGET", f"{stream}:seen:check", "0"),
        ("HINCRBY", f"{stream}:seen:check", "~", "no number"),
        ("HSET", f"{stream}:seen:check", "0", "0", "odd"),
        ("SMEMBERS", f"{stream}:sources"),
        ("TTL", f"{stream}:seen:check"),
        ("EXPIRE", f"{stream}:seen:check", "1"),
        ("XLEN", stream),
        ("XADD", stream, "0-0", "k", "v"),
        ("WAIT", 0, 1),
        ("EVALSHA", "0" * 40, 1, stream),
    )


def _try_all(link: Link, stream: str, where: str, *trials: tuple[object, ...]) -> None:
    """Raise an error for what is not allowed, or not there."""
    for trial, reply in zip(trials, link.calls(trials)):
        if isinstance(reply, NotAllowed):
            on = f" on {stream}*" if len(trial) > 1 else ""
            raise NotAllowed(f"{where}: this user may not use {trial[0]}{on}: {reply}")
        if isinstance(reply, EngineBusy):
            raise reply
        if isinstance(reply, EngineError) and "WRONGTYPE" in str(reply):
            raise EngineError(f"{where}: {trial[1]} is not a queue: another program has that key; choose stream=NAME")
        if isinstance(reply, EngineError) and "unknown command" in str(reply):
            raise ConfigError(f"{where}: it has no command {trial[0]} (renamed, or another kind of server)")
