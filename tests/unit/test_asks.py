"""Which scripts seem to call `ask`, for the warning at the start that there is no answers process."""

from __future__ import annotations

from typing import Any

import pytest

from kemi import asking
from kemi.server import native

OURS = {
    "by the module": "import mqueue_kemi\ndef route(self, msg): return mqueue_kemi.ask('q', 'k', 'v', then='r')",
    "by another name": "import mqueue_kemi as mq\ndef route(self, msg): return mq.ask('q', 'k', 'v', then='r')",
    "by its own name": "from mqueue_kemi import ask\ndef route(self, msg): return ask('q', 'k', 'v', then='r')",
    "imported there": "def route(self, msg):\n    from mqueue_kemi import ask\n    return ask('q', 'k', 'v', then='r')",
}
OTHERS = {
    "a method of its own": "def route(self, msg): return self.ask(msg)\ndef ask(self, msg): return 1",
    "a function of its own": "def ask(msg): return 1\ndef route(self, msg): return ask(msg)",
    "another module's": "import json as web\ndef route(self, msg): return web.ask(msg)",
    "none": "import mqueue_kemi\ndef route(self, msg): return mqueue_kemi.mq_add('q', 'k', 'v')",
}
CASES = [*((text, True) for text in OURS.values()), *((text, False) for text in OTHERS.values())]


def handler(text: str) -> Any:
    """Return an object of a class whose methods are the functions of a text."""
    names: dict[str, Any] = {"__name__": "script"}
    exec(text, names)  # noqa: S102 - scripts are what is looked at
    return type("Handler", (), {"route": names["route"], "ask": names.get("ask")})()


@pytest.mark.parametrize(("text", "calls"), CASES)
def test_whose_ask_it_is(text: str, calls: bool) -> None:
    assert asking._asks(handler(text)) is calls


def test_every_native_configuration_has_mq_ask() -> None:
    """So that it is there says nothing."""
    functions: Any = None
    assert not asking._asks(native.Handler(functions, asking))
