# SPDX-License-Identifier: GPL-2.0-or-later
"""The numbers of the format as a C header: `python3 -m kemi.queue.kernel.header` writes layout.h anew.

One source of truth: `format.layout` says where everything lies, and a test compares this text with the file.
"""

from __future__ import annotations

import os
import re
import sys

from kemi.queue.format import layout
from kemi.queue.format.outcome import AddResult
from kemi.queue.lock import pthread

PATH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "segment", "layout.h")
# Of the C library's mutex, in the form that the kernel is built for.
_BOUNDS = "K_WAITED_BOUNDS"
_MUTEX = ("HOLDER_AT", "OWNER_AT", "LOST", "HOLDER_MASK")


def numbers() -> dict[str, int]:
    """Every number that the kernel may use, by its name there."""
    found = {f"K_{name}": value for name, value in vars(layout).items() if name.isupper() and isinstance(value, int)}
    found.update((f"K_{result.name}", int(result)) for result in AddResult)
    found.update((f"K_MUTEX_{name}", int(getattr(pthread, name))) for name in _MUTEX)
    return found


def used() -> set[str]:
    """Return the names that the kernel's sources use."""
    names: set[str] = set()
    for folder, _, files in os.walk(os.path.dirname(os.path.dirname(PATH))):
        sources = (os.path.join(folder, file) for file in files if file.endswith((".c", ".h")))
        for path in filter(PATH.__ne__, sources):
            with open(path, encoding="ascii") as source:
                names.update(re.findall(r"\bK_[A-Z][A-Z0-9_]*\b", source.read()))
    return {name for name in names if not name.endswith("_H")}


def text() -> str:
    """Return what layout.h must be. Raises KeyError for a name that is none."""
    known = numbers()
    bounds = ", ".join(map(repr, layout.WAITED_BOUNDS))
    lines = [f"#define {name} UINT64_C({known[name]:#x})" for name in sorted(used() - {_BOUNDS})]
    lines.append(f"#define {_BOUNDS} {{{bounds}}}")
    head = "/* Made by `python3 -m kemi.queue.kernel.header` from kemi/queue/format/layout.py: change that. */"
    guard = ["#ifndef K_LAYOUT_H", "#define K_LAYOUT_H", "#include <stdint.h>"]
    return "\n".join([head, *guard, "", *lines, "", "#endif", ""])


if __name__ == "__main__":
    with open(sys.argv[1] if len(sys.argv) > 1 else PATH, "w", encoding="ascii") as file:
        file.write(text())
