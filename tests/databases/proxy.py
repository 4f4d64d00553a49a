"""Between a store and its database: a proxy on loopback that breaks or stalls the COMMIT of changed rows."""

from __future__ import annotations

import selectors
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from tests.databases.servers import HOST

if TYPE_CHECKING:
    from types import TracebackType

    from tests.databases.servers import DatabaseServer

# What becomes of the COMMIT. The client's connection is broken off at once,
DONE = "done"  # the database gets it
UNDONE = "undone"  # the database gets an end of the connection
LATE = "late"  # the database gets it when `deliver` is called
GIVEN_UP = "given up"  # the database gets an end of the connection when `deliver` is called
# or it stays open, and no answer comes.
UNANSWERED = "unanswered"  # the database gets it
SWALLOWED = "swallowed"  # the database gets nothing

_CHANGES = (b"INSERT INTO", b"DELETE FROM")
_PART = 1 << 16


class Proxy:
    """Passes everything on, until `breaks` says what becomes of a COMMIT. Both protocols have it as plain text."""

    def __init__(self, server: DatabaseServer) -> None:
        self._server = server
        self._listener = socket.create_server((HOST, 0))
        self._port: int = self._listener.getsockname()[1]
        self._released = threading.Event()
        self.breaks = ""
        self.broken = 0
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """The database's URL, by way of here."""
        return self._server.url.replace(f":{self._server.port}/", f":{self._port}/")

    def deliver(self) -> None:
        """Let a database that is kept waiting have what it waits for."""
        self._released.set()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.deliver()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client = self._listener.accept()[0]
            except OSError:
                return
            server = socket.create_connection((HOST, self._server.port))
            threading.Thread(target=self._serve, args=(client, server), daemon=True).start()

    def _serve(self, client: socket.socket, server: socket.socket) -> None:
        with client, server, suppress(OSError), selectors.DefaultSelector() as selector:
            selector.register(client, selectors.EVENT_READ)
            selector.register(server, selectors.EVENT_READ)
            changed = False
            while True:
                for key, _ in selector.select():
                    data = key.fileobj.recv(_PART)  # type: ignore[union-attr]
                    if not data:
                        return
                    if key.fileobj is server:
                        client.sendall(data)
                        continue
                    changed = changed or any(word in data for word in _CHANGES)
                    if self.breaks and changed and b"COMMIT" in data:
                        self._break(client, server, data)
                        return
                    server.sendall(data)

    def _break(self, client: socket.socket, server: socket.socket, commit: bytes) -> None:
        how = self.breaks
        if how in (DONE, UNANSWERED):
            server.sendall(commit)
            server.recv(_PART)  # so it is done, whatever comes next
        self.broken += 1
        if how not in (UNANSWERED, SWALLOWED):
            client.close()
        if how not in (DONE, UNDONE):
            self._released.wait(60)
        if how == LATE:
            server.sendall(commit)
            server.recv(_PART)
