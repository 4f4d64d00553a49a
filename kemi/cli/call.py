"""What every command gets, and the exit codes."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass

from kemi import host
from kemi.cli.output import Output
from kemi.errors import UnknownQueue
from kemi.queue.queue import Queue

DONE = 0
NOTHING = 1  # there was no item
USAGE = 2  # argparse's own
MISSING = 3  # no such instance or queue
NOT_ALLOWED = 4
REFUSED = 5  # an item was not added
UNUSABLE = 6  # damaged, locked too long, in use, or a file that cannot be written
NO_PACKAGE = 7  # an optional Python package is not installed
COMMAND_FAILED = 8  # the command of --exec
INTERRUPTED = 130

MEANINGS = """exit codes:
    0  done
    1  there was no item
    2  the command line is wrong
    3  no such instance or queue
    4  this user may not use it
    5  an item was not added: full, no memory, too large, or not valid
    6  it cannot be used: damaged, its lock held too long, in use, closed, or output that cannot be written
    7  a Python package is missing, which the message names
    8  the command of --exec failed
  130  interrupted (Ctrl-C); SIGTERM and a closed pipe end it as these signals do"""


class Failure(Exception):
    """The command ends with this code, and this line on stderr."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass
class Call:
    """One command: its arguments, where its output goes, and how it gets at a queue."""

    arguments: Namespace
    output: Output
    attach: Callable[[str, str], Queue]

    @property
    def instance(self) -> str:
        """The instance asked for."""
        return str(self.arguments.instance)

    def queue(self) -> Queue:
        """The queue asked for, attached."""
        try:
            return self.attach(self.arguments.queue, self.instance)
        except UnknownQueue:
            raise UnknownQueue(host.no_queue(self.instance, self.arguments.queue)) from None

    def source(self) -> Queue:
        """The queue asked for, from which items are to be taken."""
        queue = self.queue()
        if queue.is_moving():
            sys.stderr.write(
                f"mqueue-kemi: queue {queue.name!r}: nobody can take its items, they were on their way to its table or "
                "from it; the next start of its server finds out where they are, as `mqueue-kemi save` does\n"
            )
        return queue
