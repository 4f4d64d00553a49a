"""What a relay keeps in mind with durability=memory: an engine that is killed again and again gets it each time."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

from kemi.relay import forward
from kemi.relay.engine import Sent
from kemi.relay.forward import Forward
from tests.support.clients import attach

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pytest

    from kemi.relay.engine import Entry
    from tests.processes.serve import Serve


class Forgetful:
    """An engine that keeps nothing over its end."""

    def __init__(self) -> None:
        self.connections = 0
        self.items: dict[tuple[int, int], Entry] = {}
        self._is_connected = False

    def connect(self) -> None:
        if not self._is_connected:
            self.connections += 1
            self._is_connected = True

    def send(self, source: str, entries: Sequence[Entry], meanwhile: Callable[[], None]) -> Sent:  # noqa: ARG002
        new = {(entry.slot, entry.turn): entry for entry in entries if (entry.slot, entry.turn) not in self.items}
        self.items.update(new)
        return Sent(len(new), len(entries) - len(new))

    def ping(self) -> None:
        """It is there."""

    def close(self) -> None:
        self._is_connected = False

    def die(self) -> None:
        self.items.clear()
        self.close()


def test_what_was_sent_again_counts_as_sent_then(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed 4 s after the first sending, and 4 s after the second one, with a window of 5 s: it comes a third time."""
    now = [1000.0]
    monkeypatch.setattr(forward, "time", SimpleNamespace(monotonic=lambda: now[0], time=lambda: now[0]))
    queue = serve("name=q")
    engine = Forgetful()
    with attach("q", serve.instance) as attached:
        relay = Forward(attached, engine, replay=5.0)

        def turn() -> list[bytes]:
            """Relay what is there; return what the engine has."""
            relay._take(0.0)
            if relay._ready:
                relay._deliver(relay._ready[0], lambda: False, lambda _: None)
            else:
                relay._look(lambda _: None)
            return [entry.value for entry in engine.items.values()]

        queue.add("k", "old")
        assert turn() == [b"old"]
        for number in range(3):
            now[0] += 4.0
            engine.die()
            queue.add("k", str(number))
            assert b"old" in turn(), number
        now[0] += 5.5
        queue.add("k", "late")
        turn()  # the engine has lived for longer than the window: it is not kept in mind any more
        engine.die()
        assert turn() == [b"late"]


def test_the_lag_of_what_is_on_its_way(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that is away, and few items: all of them are in a batch, and they grow old."""
    queue = serve("name=q")
    engine = Forgetful()
    with attach("q", serve.instance) as attached:
        relay = Forward(attached, engine)
        assert relay.lag() == (0, 0.0)
        assert all(queue.add_many([("k", str(number)) for number in range(3)]))
        oldest = queue.stats().oldest
        assert oldest is not None
        monkeypatch.setattr(forward, "time", SimpleNamespace(monotonic=lambda: 0.0, time=lambda: oldest + 100.0))
        assert relay.lag() == (3, 100.0)
        relay._take(0.0)
        assert queue.stats().oldest is None
        items, seconds = relay.lag()
        assert (items, round(seconds)) == (3, 100)
        relay._deliver(relay._ready[0], lambda: False, lambda _: None)
        assert relay.lag() == (0, 0.0)
