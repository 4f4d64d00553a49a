# SPDX-License-Identifier: GPL-2.0-or-later
"""From a command line to an exit code, and to the end of the process."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence

from kemi.cli import signals
from kemi.cli.call import Call, Failure
from kemi.cli.output import Output, say
from kemi.cli.usage import codes
from kemi.cli.usage.commands import parser
from kemi.errors import ConfigError, MqueueError, NotAllowed, UnknownQueue
from kemi.names import KERNEL_VARIABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

_SIMPLE = ("show:", "move:")  # commands that leave nothing behind but memory
_MOST_NEW = 50_000  # objects, before Python looks for cycles; its own few hundred come again and again during a start


def start() -> NoReturn:
    """Be the program mqueue-kemi: run its command, and end the process.

    After a simple command the system takes its memory back at once. Python would first take apart object by object what
    it has loaded, which needs a tenth of the time of all of it.
    """
    import gc

    gc.set_threshold(_MOST_NEW, 10, 10)
    said = Namespace(run="")
    try:
        code = main(None, said)
    except SystemExit as end:  # the parser's: nothing was run
        code = end.code if isinstance(end.code, int) else codes.USAGE
    if not said.run or said.run.startswith(_SIMPLE):
        os._exit(code)
    raise SystemExit(code)


def main(arguments: Sequence[str] | None = None, said: Namespace | None = None) -> int:
    """Run one command. Returns the exit code. said: gets what the command line says."""
    try:
        with signals.noted():
            return _run(arguments, said)
    except signals.Interrupted as interrupted:
        if interrupted.number != signal.SIGINT:
            signals.end_by(interrupted.number)
        return codes.INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what the interpreter still flushes at its end
        signals.end_by(signal.SIGPIPE)
        return 128 + signal.SIGPIPE
    except OSError as error:  # of the pipe that signals come through
        return _say(codes.UNUSABLE, f"cannot begin: {error.strerror or error}; see ulimit -n and fs.file-max")


def _run(arguments: Sequence[str] | None, said: Namespace | None) -> int:
    try:
        parsed = _parsed(arguments, said)
        from kemi.queue.shm import trust  # a help does without it

        trust.named_owner(parsed.owner)  # a user that there is not is a mistake, also where no queue is attached
        code: int = _command(parsed.run)(Call(parsed, Output()))
    except Failure as failure:
        return _say(failure.code, str(failure))
    except MqueueError as error:
        return _say(_code(error), str(error))
    except ImportError as error:
        if error.name != KERNEL_VARIABLE:
            raise
        return _say(codes.USAGE, str(error))
    except BrokenPipeError:
        raise
    except OSError as error:
        return _say(codes.UNUSABLE, f"cannot read or write: {error.strerror or error}")
    return code


def _parsed(arguments: Sequence[str] | None, said: Namespace | None) -> Namespace:
    try:
        return parser().parse_args(arguments, said)
    except SystemExit:
        sys.stdout.flush()  # the help; at the interpreter's end it is too late for a reader that went away
        raise


def _command(place: str) -> Callable[[Call], int]:
    """The function at a place like show:sizes: only the command that is run is imported."""
    module, _, function = place.partition(":")
    found: Callable[[Call], int] = getattr(importlib.import_module(f"kemi.cli.{module}"), function)
    return found


# The first class that fits.
_CODES: tuple[tuple[type[MqueueError], int], ...] = (
    (ConfigError, codes.USAGE),
    (UnknownQueue, codes.MISSING),
    (NotAllowed, codes.NOT_ALLOWED),
    (MqueueError, codes.UNUSABLE),
)


def _code(error: MqueueError) -> int:
    return next(code for kind, code in _CODES if isinstance(error, kind))


def _say(code: int, message: str) -> int:
    say(message)
    return code
