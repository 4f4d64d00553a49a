"""Between a relay and its engine: a network that cuts connections, swallows replies and holds them up."""

from __future__ import annotations

import random
import selectors
import socket
import threading
import time
from contextlib import suppress

from tests.relay.servers import HOST

_PART = 1 << 16
HELD = 0.7  # seconds; longer than the relay waits for a reply


class Proxy:
    """Run `serve` in a process of its own. One part in `every` of what passes is not passed on as it should be."""

    def __init__(self, port: int, seed: int, every: int) -> None:
        self._to = port
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        self._chance = random.Random(seed)
        self._every = every

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}/0"

    def serve(self) -> None:
        """Pass on what comes, for ever."""
        while True:
            client = self._listener.accept()[0]
            try:
                engine = socket.create_connection((HOST, self._to))
            except OSError:
                client.close()
                continue
            threading.Thread(target=self._pass_on, args=(client, engine), daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _pass_on(self, client: socket.socket, engine: socket.socket) -> None:
        with client, engine, suppress(OSError), selectors.DefaultSelector() as selector:
            selector.register(client, selectors.EVENT_READ)
            selector.register(engine, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    to_client = key.fileobj is engine
                    data = (engine if to_client else client).recv(_PART)
                    if not data or not self._passed(client if to_client else engine, data, reply=to_client):
                        return

    def _passed(self, to: socket.socket, data: bytes, *, reply: bool) -> bool:
        """Pass on a part, or break the connection off. True: it goes on."""
        if self._chance.randrange(self._every):
            to.sendall(data)
            return True
        if not reply:  # half of a request, and an end; the engine may have whole ones before it
            to.sendall(data[: self._chance.randrange(len(data))])
        elif not self._chance.randrange(4):  # a reply that comes when nobody waits for it any more
            time.sleep(HELD)
            to.sendall(data)
        return False
