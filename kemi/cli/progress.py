# SPDX-License-Identifier: GPL-2.0-or-later
"""A progress bar on stderr, when a person looks; rich's where it is installed, a plain one otherwise."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Callable

Advance = Callable[[int], None]

_WIDTH = 30
_EVERY = 0.1  # seconds


@contextmanager
def progress(what: str, total: int, output_fd: int | None = None) -> Iterator[Advance]:
    """Give a function that is told by how much the work went on; it shows nothing when nobody looks.

    output_fd: where the work's own lines go; on the same terminal a bar would only be in their way.
    """
    if not sys.stderr.isatty() or (output_fd is not None and os.isatty(output_fd)):
        yield lambda _count: None
        return
    try:
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
    except ImportError:
        yield from _plain(what, total)
        return
    from rich.console import Console

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=total or None)
        yield lambda count: bar.advance(task, count)


def _plain(what: str, total: int) -> Iterator[Advance]:
    done = 0
    shown = 0.0

    def advance(count: int) -> None:
        nonlocal done, shown
        done += count
        if time.monotonic() - shown > _EVERY:
            shown = time.monotonic()
            sys.stderr.write("\r" + bar_text(what, done, total))
            sys.stderr.flush()

    advance(0)
    try:
        yield advance
    finally:
        sys.stderr.write("\r" + bar_text(what, done, total) + "\n")
        sys.stderr.flush()


def bar_text(what: str, done: int, total: int) -> str:
    """One state of the plain bar."""
    if not total:
        return f"{what} {done}"
    share = min(done / total, 1.0)
    return f"{what} [{'#' * int(share * _WIDTH):<{_WIDTH}}] {share:4.0%}"
