# SPDX-License-Identifier: GPL-2.0-or-later
"""How a command is said, explained and refused: argparse, but quick to start, with one line where it refuses."""

from __future__ import annotations

import argparse
import os

from kemi.cli.usage import codes, values
from kemi.names import OWNER_VARIABLE, VERSION
from kemi.text import one_line

TYPE_CHECKING = False  # the one of typing costs as much as the whole of argparse
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, NoReturn

_COLUMNS = 80  # where there is no terminal
OWNER_HELP = f"one more user whose queues are trusted; ${OWNER_VARIABLE} by default (see SECURITY.md)"


class Help(argparse.RawDescriptionHelpFormatter):
    """As wide as the terminal. argparse asks shutil for that, which imports all that can compress a file."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=_width())


def _width() -> int:
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns):
        return int(columns) - 2
    try:
        return (os.get_terminal_size(1).columns or _COLUMNS) - 2
    except OSError:
        return _COLUMNS - 2


class Parser(argparse.ArgumentParser):
    """Shows what it refuses as one line, without a password that was in a URL.

    That of a command is made when something is asked of it: at a start, most of them are not.
    """

    def __init__(self, *, define: Callable[[Parser], None] | None = None, **properties: Any) -> None:
        """define: adds a command's arguments."""
        if define is None:
            super().__init__(**properties)
        else:
            self._later = define, properties

    def __getattr__(self, name: str) -> Any:
        later = self.__dict__.pop("_later", None)
        if later is None:
            raise AttributeError(name)
        define, properties = later
        super().__init__(**properties)
        define(self)
        return getattr(self, name)

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and end."""
        super().error(one_line(message))


class Version(argparse._VersionAction):  # noqa: SLF001 - the class of action="version"
    """Says which kernel runs, too, which is looked up only then."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option: str | None = None,
    ) -> None:
        """Show it, and end."""
        from kemi.queue.kernel import choice

        self.version = f"mqueue-kemi {VERSION} (kernel: {choice.description()})"
        super().__call__(parser, namespace, values, option)


Commands = argparse._SubParsersAction  # noqa: SLF001 - it has no public name


def command(
    commands: Commands[Parser],
    name: str,
    run: str,
    text: str,
    own: Callable[[Parser], None] | None = None,
    more: str = "",
    json: str = "print the result as an object of JSON",
) -> None:
    """Add a command. own: adds the arguments that not every command has; more: what its help ends with."""

    def define(one: Parser) -> None:
        # Wherever it is said; what is not said here must not hide what was said before the command.
        one.add_argument(
            "--instance", type=values.text, default=argparse.SUPPRESS, metavar="I", help="the server's instance"
        )
        if json:
            one.add_argument("--json", action="store_true", help=json)
        one.add_argument("--owner", default=argparse.SUPPRESS, metavar="USER", help=OWNER_HELP)
        one.set_defaults(run=run)
        if own is not None:
            own(one)

    commands.add_parser(
        name,
        help=text,
        description=f"{text[0].upper()}{text[1:]}.",
        epilog=f"{more}\n\n{codes.as_text()}" if more else codes.as_text(),
        formatter_class=Help,
        allow_abbrev=False,
        define=define,
    )
