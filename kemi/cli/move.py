# SPDX-License-Identifier: GPL-2.0-or-later
"""The commands that put items in and take them out: add, fetch, consume, drain."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Callable

from kemi.cli import execute, signals
from kemi.cli.call import Call, Failure
from kemi.cli.lines import json_line, text_line
from kemi.cli.output import Output, say
from kemi.cli.progress import Advance, progress
from kemi.cli.taking import put_back, taking, waiting
from kemi.cli.usage.codes import COMMAND_FAILED, DONE, NOTHING, REFUSED
from kemi.queue.format.item import Item

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kemi.cli.call import AnyQueue
    from kemi.cli.taking import Taking

_BATCH = 256  # items that drain takes at a time
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0  # seconds, after a command that failed

Deliver = Callable[[Item], None]


def add(call: Call) -> int:
    """`add Q K V`."""
    with call.queue() as queue:
        outcome = queue.add(call.arguments.key, call.arguments.value)
        if not outcome:
            raise Failure(REFUSED, f"not added: {queue.reason(outcome)}")
    call.tell("", result=outcome.name)
    return DONE


def fetch(call: Call) -> int:
    """`fetch Q`."""
    arguments = call.arguments
    with call.source() as queue, waiting(taking(queue, arguments.reserve), arguments.timeout) as item:
        if item is None:
            return NOTHING
        _writer(call)(item)
    return DONE


def _writer(call: Call) -> Deliver:
    line = json_line if call.arguments.json else text_line
    return lambda item: call.output.write(line(item))


# --- consume ----------------------------------------------------------------------------------------------------------


def consume(call: Call) -> int:
    """`consume Q`."""
    arguments = call.arguments
    deliver = _runner(call) if arguments.exec else _writer(call)
    wait = math.inf if arguments.follow else arguments.timeout
    most = arguments.count or sys.maxsize
    taken = 0
    pause = _FIRST_PAUSE
    with call.source() as queue:
        take = taking(queue, arguments.reserve)
        while taken < most:
            signals.check()
            try:
                if not _consume_one(take, wait, deliver):
                    break
            except execute.CommandFailed as error:
                _heed_failure(call, error)
                signals.wait(seconds=pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
                continue
            taken += 1
            pause = _FIRST_PAUSE
    return DONE if taken else NOTHING


def _consume_one(take: Taking, wait: float, deliver: Deliver) -> bool:
    """Take an item and deliver it; whatever is raised meanwhile puts it back. False if there is none."""
    with waiting(take, wait) as item:
        if item is None:
            return False
        deliver(item)
    return True


def _runner(call: Call) -> Deliver:
    arguments = call.arguments
    return lambda item: execute.run(arguments.exec, arguments.queue, item, arguments.json)


def _heed_failure(call: Call, error: execute.CommandFailed) -> None:
    signals.check()  # Ctrl-C ends the command too
    message = f"{call.arguments.exec!r} {error}; its item is put back"
    if not call.arguments.keep_going:
        raise Failure(COMMAND_FAILED, f"{message} (--keep-going goes on)") from None
    say(f"{message}, going on")


# --- drain ------------------------------------------------------------------------------------------------------------


def drain(call: Call) -> int:
    """`drain Q`."""
    taken = 0

    def count(number: int) -> None:
        nonlocal taken
        taken += number
        advance(number)
        signals.check()

    with call.source() as queue, progress("drain", len(queue), call.output.fd) as advance:
        if call.arguments.reserve:
            take = taking(queue, reserve=True)
            while _consume_one(take, 0.0, lambda item: call.output.write(json_line(item))):
                count(1)
        else:
            _drain_batches(queue, call.output, count)
    return DONE if taken else NOTHING


def _drain_batches(queue: AnyQueue, output: Output, count: Advance) -> None:
    signals.check()
    while items := queue.fetch_many(_BATCH):
        _write_or_put_back(queue, output, items)
        count(len(items))


def _write_or_put_back(queue: AnyQueue, output: Output, items: Sequence[Item]) -> None:
    lines = [json_line(item) for item in items]
    begin = output.written
    try:
        output.write(b"".join(lines))
    except BaseException:
        out = output.written - begin
        for number, line in enumerate(lines):
            out -= len(line)
            if out < 0:  # this one is not out as a whole
                put_back(queue, items[number:])
                break
        raise
