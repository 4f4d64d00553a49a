"""The native kernel's numbers are those of the layout, also where it is not built."""

from __future__ import annotations

import re
from pathlib import Path

from kemi.queue.format import layout
from kemi.queue.kernel import header

FOLDER = Path(header.PATH).parent


def test_the_header_is_what_the_layout_says() -> None:
    """Else: python3 -m kemi.queue.kernel.header"""
    assert Path(header.PATH).read_text("ascii") == header.text()


def test_every_number_that_it_uses_is_there() -> None:
    """And none of them is written down a second time."""
    used = {
        name
        for path in FOLDER.glob("*.[ch]")
        if path.name != "layout.h"
        for name in re.findall(r"\bK_[A-Z][A-Z0-9_]*\b", path.read_text("ascii"))
    }
    guards = {f"K_{path.stem.upper()}_H" for path in FOLDER.glob("*.h")}
    assert used - guards - header.numbers().keys() == set()
    assert header.numbers()["K_VERSION"] == layout.VERSION
