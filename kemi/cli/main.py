"""From a command line to an exit code."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Callable, Sequence

from kemi.cli import codes, signals
from kemi.cli.call import Call, Failure
from kemi.cli.output import Output, say
from kemi.cli.parser import parser
from kemi.errors import ConfigError, MqueueError, NotAllowed, UnknownQueue


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code."""
    try:
        with signals.noted():
            return _run(arguments)
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


def _run(arguments: Sequence[str] | None) -> int:
    try:
        parsed = parser().parse_args(arguments)
    except SystemExit:
        sys.stdout.flush()  # the help; at the interpreter's end it is too late for a reader that went away
        raise
    from kemi.queue.shm import trust  # a help does without it

    try:
        trust.named_owner(parsed.owner)  # a user that there is not is a mistake, also where no queue is attached
        code: int = _command(parsed.run)(Call(parsed, Output()))
    except Failure as failure:
        return _say(failure.code, str(failure))
    except MqueueError as error:
        return _say(_code(error), str(error))
    except BrokenPipeError:
        raise
    except OSError as error:
        return _say(codes.UNUSABLE, f"cannot read or write: {error.strerror or error}")
    return code


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
