# SPDX-License-Identifier: GPL-2.0-or-later
"""One connection to an engine, by redis-py.

Its connections alone are used, not its clients. A client connects anew and sends again by itself when a connection
breaks; a WAIT on a new connection then says "all is there" of what was sent over the old one, and a script runs twice.
Here a connection that broke is over, and who used it decides what is sent again.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from kemi.errors import ConfigError, Disconnected, EngineError, MqueueError, NotAllowed, OutcomeUnknown
from kemi.relay.scripts import Script
from kemi.relay.url import Address

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 30.0  # seconds between two tries to connect

# Refusals that pass by themselves, or when the engine is put right: by the engine's code, which redis-py takes away
# from those that it has classes for. In an old engine's error of a script the code stands in the middle.
_PASSING = re.compile(
    r"\b(LOADING|READONLY|MASTERDOWN|OOM|MISCONF|BUSY|NOREPLICAS|TRYAGAIN|CLUSTERDOWN|UNBLOCKED|SHUTDOWN) "
)
_PASSING_CLASSES = ("BusyLoadingError", "ReadOnlyError", "OutOfMemoryError", "MasterDownError", "ClusterDownError")
_NOT_LET_IN = re.compile(
    r"\b(NOPERM|NOAUTH|WRONGPASS)\b|The user executing the script can't|ACL failure in script|invalid username-password"
)
_NOT_LET_IN_CLASSES = ("AuthenticationError", "NoPermissionError", "AuthenticationWrongNumberOfArgsError")


def packed(*arguments: Any) -> bytes:
    """A command as it is sent."""
    parts = [b"*%d\r\n" % len(arguments)]
    for argument in arguments:
        data = argument if isinstance(argument, bytes) else str(argument).encode("utf-8", "surrogateescape")
        parts.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(parts)


class EngineBusy(EngineError):
    """The engine refuses now, and may not later: no memory, loading, a replica, the queue at its bound."""


class QueueFull(EngineBusy):
    """A queue there has as many items as it may: max_len."""


def _redis() -> Any:
    try:
        import redis
        import redis.backoff
        import redis.retry
    except ImportError:
        raise ConfigError(
            "an engine needs the Python package redis: apt install python3-redis, or pip install 'mqueue-kemi[relay]'"
        ) from None
    return redis


class Link:
    """A connection. Not for several threads at once; not to be used after a fork."""

    def __init__(self, address: Address, host: tuple[str, int] | None = None) -> None:
        """Connect. Raises Disconnected, NotAllowed, EngineBusy, EngineError, ConfigError."""
        self._redis = redis = _redis()
        self.address = address
        self.where = f"{host[0]}:{host[1]}" if host else address.socket
        self.pid = os.getpid()
        self._connection = _connection(redis, address, host)
        try:
            self._connection.connect()
        except (redis.RedisError, OSError, ValueError) as error:
            self.close()
            raise self._translated(error, sent=False) from None

    def call(self, *arguments: Any, timeout: float | None = None) -> Any:
        """One command's reply. Raises as `calls`."""
        (reply,) = self.calls([arguments], timeout)
        if isinstance(reply, MqueueError):
            raise reply
        return reply

    def info(self) -> dict[str, str]:
        """What the engine says of itself. Raises as `call`."""
        text = self.call("INFO").decode("utf-8", "replace")
        return dict(line.split(":", 1) for line in text.splitlines() if ":" in line and not line.startswith("#"))

    def calls(self, commands: Sequence[Sequence[Any]], timeout: float | None = None) -> list[Any]:
        """Send commands together. Returns their replies; what the engine refuses is an error in the list.

        timeout: seconds for each reply, in place of the address's. Raises OutcomeUnknown; the connection is over then.
        """
        return self.exchange(b"".join(packed(*command) for command in commands), len(commands), timeout)

    def exchange(
        self, request: bytes, count: int, timeout: float | None = None, meanwhile: Callable[[], None] | None = None
    ) -> list[Any]:
        """`calls` of `count` commands that are packed."""
        connection, redis = self._connection, self._redis
        replies: list[Any] = []
        try:
            if getattr(connection, "_sock", None) is None:
                raise redis.ConnectionError("the connection is closed")  # a send would connect anew
            with self._within(timeout):
                connection.send_packed_command([request], check_health=False)
                if meanwhile is not None:
                    meanwhile()
                for _ in range(count):
                    try:
                        replies.append(connection.read_response())
                    except redis.ResponseError as error:
                        replies.append(self._translated(error, sent=True))
        except (redis.RedisError, OSError) as error:
            self.close()
            raise self._translated(error, sent=True) from None
        except BaseException:
            self.close()  # a reply that nobody read would be taken for the next one's
            raise
        return replies

    @contextlib.contextmanager
    def _within(self, timeout: float | None) -> Iterator[None]:
        sock = self._connection._sock  # noqa: SLF001 - there is no other way to wait longer for one reply
        if timeout is not None:
            sock.settimeout(timeout)
        yield
        if timeout is not None:
            sock.settimeout(self.address.timeout)

    def script(self, script: Script, keys: Sequence[str], *arguments: Any) -> Any:
        """Run a script. Raises as `call`."""
        (reply,) = self.script_and(script, keys, arguments)
        return reply

    def script_and(
        self, script: Script, keys: Sequence[str], arguments: Sequence[Any], *then: Sequence[Any]
    ) -> list[Any]:
        """Run a script, and commands after it, in one exchange. Returns the replies. Raises as `call`."""
        request = packed("EVALSHA", script.sha, len(keys), *keys, *arguments) + b"".join(packed(*one) for one in then)
        return self.packed_script(script, request, 1 + len(then))

    def packed_script(
        self, script: Script, request: bytes, count: int, meanwhile: Callable[[], None] | None = None
    ) -> list[Any]:
        """Run a script, and what follows it, all of it packed. Returns `count` replies. Raises as `call`.

        meanwhile: is called before the first reply is waited for.
        """
        replies = self.exchange(request, count, meanwhile=meanwhile)
        if isinstance(replies[0], _NoScript):
            self.call("SCRIPT", "LOAD", script.text)
            replies = self.exchange(request, count)
        for reply in replies:
            if isinstance(reply, MqueueError):
                raise reply
        return replies

    def is_open(self) -> bool:
        """Can it be used?"""
        return self.pid == os.getpid() and getattr(self._connection, "_sock", None) is not None

    def close(self) -> None:
        """End it. Any number of times."""
        with contextlib.suppress(Exception):
            self._connection.disconnect()

    def _translated(self, error: Exception, *, sent: bool) -> MqueueError:
        text = str(error) or type(error).__name__
        if isinstance(error, self._redis.exceptions.NoScriptError):
            return _NoScript(text)
        return translated(self._redis, error, text, f"{self.address.scheme} server {self.where}", sent=sent)


class _NoScript(EngineError):
    """The engine does not have the script (it was started anew)."""


def translated(redis: Any, error: Exception, text: str, where: str, *, sent: bool) -> MqueueError:
    """What an error of redis-py means."""
    kind = type(error).__name__
    if kind in _NOT_LET_IN_CLASSES or _NOT_LET_IN.search(text):
        return NotAllowed(f"{where} refuses this user: {text}; see ACL GETUSER there, and user= and password_file=")
    if kind in _PASSING_CLASSES or _PASSING.search(text):
        return EngineBusy(f"{where} refuses now: {text}")
    if isinstance(error, (redis.ResponseError, ValueError)):
        return EngineError(f"{where} refuses: {text}")
    if sent:
        return OutcomeUnknown(f"{where}: no reply: {text}")
    return Disconnected(f"{where}: cannot connect: {text}")


def _connection(redis: Any, address: Address, host: tuple[str, int] | None) -> Any:
    """redis-py's connection for an address, not connected yet, which tries nothing twice."""
    options: dict[str, Any] = {
        "db": address.db,
        "username": address.user or None,
        "password": address.secret() or None,
        "socket_timeout": address.timeout,
        "retry_on_timeout": False,
        "retry": redis.retry.Retry(redis.backoff.NoBackoff(), 0),
        "health_check_interval": 0,
        "client_name": "mqueue-kemi",
    }
    if int(redis.__version__.partition(".")[0]) >= _KNOWS_PROTOCOLS:
        options["protocol"] = 2
    if host is None:
        return redis.UnixDomainSocketConnection(path=address.socket, **options)
    options.update(host=host[0], port=host[1], socket_connect_timeout=address.timeout, socket_keepalive=True)
    if not address.tls:
        return redis.Connection(**options)
    return redis.SSLConnection(
        ssl_cert_reqs="required",
        ssl_check_hostname=True,
        ssl_ca_certs=address.tls_ca or None,
        ssl_certfile=address.tls_cert or None,
        ssl_keyfile=address.tls_key or None,
        **options,
    )


_KNOWS_PROTOCOLS = 5  # redis-py


def connected(address: Address, *, master: bool = True) -> Link:
    """A connection to the first host that answers, and is a master. Raises as `Link`; of several errors the last."""
    last: MqueueError | None = None
    for host in address.hosts or (None,):
        try:
            link = Link(address, host)
            if not master or address.socket or _is_master(link):
                return link
        except (Disconnected, EngineBusy) as error:
            last = error
    raise last or EngineBusy(f"no host of {address} is a master")


def _is_master(link: Link) -> bool:
    if len(link.address.hosts) == 1:
        return True  # judged, and named, by the checks
    role = link.call("INFO", "replication")
    if b"role:master" in role:
        return True
    link.close()
    return False


class Backoff:
    """How long to wait before the next try: twice as long each time, with jitter, until one succeeds."""

    def __init__(self, first: float = FIRST_PAUSE, longest: float = LONGEST_PAUSE) -> None:
        self._first, self._longest = first, longest
        self._next = first

    def seconds(self) -> float:
        """The next pause."""
        pause = self._next
        self._next = min(self._longest, pause * 2)
        return pause * random.uniform(0.5, 1.0)  # noqa: S311 - so that not all try at the same moment

    def reset(self) -> None:
        """One try succeeded."""
        self._next = self._first
