# SPDX-License-Identifier: GPL-2.0-or-later
"""What every command gets. What reaches into shared memory is imported where it is used: the help needs none of it."""

from __future__ import annotations

from argparse import Namespace

from kemi.cli.output import Output, say
from kemi.errors import ConfigError, UnknownQueue

TYPE_CHECKING = False  # a checker takes it for true; the one of typing costs as much as the whole of argparse
if TYPE_CHECKING:
    from typing import Union

    from kemi.queue.client.attached import AttachedQueue
    from kemi.remote.client import EngineQueue

    AnyQueue = Union[AttachedQueue, EngineQueue]


_REPLY = 5.0  # seconds for an engine


class Failure(Exception):
    """The command ends with this code, and this line on stderr."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Call:
    """One command: its arguments, where its output goes, and how it gets at a queue."""

    def __init__(self, arguments: Namespace, output: Output) -> None:
        self.arguments = arguments
        self.output = output

    @property
    def instance(self) -> str:
        """The instance asked for. Raises ConfigError when that is an engine's URL."""
        if self._is_engine():
            raise ConfigError(
                f"--instance {self.arguments.instance}: this command is for an instance on this host; an engine's "
                "URL is for peek, add, fetch, consume, drain, fill and work"
            )
        return str(self.arguments.instance)

    def _is_engine(self) -> bool:
        return "://" in self.arguments.instance

    def where(self) -> str:
        """The instance or the engine asked for, without a password."""
        if not self._is_engine():
            return self.instance
        from kemi.relay.url import parse

        return str(parse(self.arguments.instance))

    def tell(self, text: str, **result: object) -> None:
        """Say how it ended: a line on stderr for people, or with --json an object on standard output."""
        if self.arguments.json:
            self.as_json({"instance": self.where(), "queue": self.arguments.queue, **result})
        elif text:
            say(text)

    def as_json(self, found: object) -> None:
        """Print one line of JSON, in ASCII."""
        import json

        self.output.line(json.dumps(found))

    def become_owner(self, *, anybody: bool = False) -> None:
        """Go on as the user whom the instance belongs to, before anything of it is mapped (see `become`)."""
        from kemi.cli import become

        become.owner_of(self.instance, self.arguments.owner, anybody=anybody)

    def queue(self) -> AnyQueue:
        """The queue asked for, attached."""
        if self._is_engine():
            from kemi.remote.client import EngineQueue

            return EngineQueue(self.arguments.queue, self.arguments.instance, lock_timeout=_REPLY)
        return self.local_queue()

    def local_queue(self) -> AttachedQueue:
        """The queue asked for, of an instance on this host."""
        from kemi import host
        from kemi.queue.client.attached import AttachedQueue

        self.become_owner()
        try:
            return AttachedQueue(self.instance, self.arguments.queue, owner=self.arguments.owner)
        except UnknownQueue:
            raise UnknownQueue(host.no_queue(self.instance, self.arguments.queue)) from None

    def source(self) -> AnyQueue:
        """The queue asked for, from which items are to be taken."""
        queue = self.queue()
        if getattr(queue, "is_moving", bool)():
            say(
                f"queue {queue.name!r}: nobody can take its items, they were on their way to its table or "
                "from it; the next start of its server finds out where they are, as `mqueue-kemi save` does"
            )
        return queue
