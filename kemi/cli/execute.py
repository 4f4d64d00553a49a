# SPDX-License-Identifier: GPL-2.0-or-later
"""consume --exec: a command of the shell for each item.

The item's parts are never part of the command's text, so nothing that a caller sent is ever run: the value is on its
standard input, queue and key are in its environment.
"""

from __future__ import annotations

import os

from kemi.cli.lines import json_line
from kemi.queue.format.item import Item


class CommandFailed(Exception):
    """The command did not end with 0; says how it ended."""


def run(command: str, queue: str, item: Item, as_json: bool) -> None:
    """Run a command for an item and wait for its end. Raises CommandFailed.

    as_json: its standard input is the item's line of JSON, in place of the value.
    """
    import subprocess  # which `add` and `fetch` would wait for, too

    # The environment cannot hold a NUL; who needs such keys takes --json.
    key = item.key_bytes.replace(b"\0", b"\\x00")
    environment = {**os.environb, b"MQUEUE_KEY": key, b"MQUEUE_QUEUE": queue.encode("utf-8", "surrogateescape")}
    data = json_line(item) if as_json else item.value_bytes
    try:
        done = subprocess.run(["/bin/sh", "-c", command], input=data, env=environment, check=False)  # noqa: S603
    except OSError as error:  # no process, or a key longer than an environment may hold
        raise CommandFailed(f"cannot be started: {error.strerror}") from None
    if done.returncode < 0:
        raise CommandFailed(f"was ended by signal {-done.returncode}")
    if done.returncode:
        raise CommandFailed(f"ended with {done.returncode}")
