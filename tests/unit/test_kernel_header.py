"""The native kernel's numbers are those of the layout, also where it is not built."""

from __future__ import annotations

from pathlib import Path

from kemi.queue.format import layout
from kemi.queue.kernel import header


def test_the_header_is_what_the_layout_says() -> None:
    """Else: python3 -m kemi.queue.kernel.header"""
    assert Path(header.PATH).read_text("ascii") == header.text()


def test_every_number_that_it_uses_is_there() -> None:
    """And it is this format's."""
    assert header.used() - {"K_WAITED_BOUNDS"} <= header.numbers().keys()
    assert header.numbers()["K_VERSION"] == layout.VERSION
