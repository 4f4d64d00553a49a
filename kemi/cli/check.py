# SPDX-License-Identifier: GPL-2.0-or-later
"""`check`: judge a script, a definitions file or a kamailio.cfg before a server reads it; --live: a running server."""

from __future__ import annotations

import sys

from kemi.check.judge import Verdict, judge
from kemi.check.problems import ERROR
from kemi.cli.call import Call, Failure
from kemi.cli.usage.codes import DONE, USAGE, WRONG
from kemi.text import one_line


def check(call: Call) -> int:
    """`check FILE`, `check --live`."""
    arguments = call.arguments
    if arguments.live == (arguments.file is not None) or (arguments.live and (arguments.strict or arguments.define)):
        raise Failure(USAGE, "check takes a FILE, with --strict and --define; or --live alone")
    if arguments.live:
        from kemi.cli.live import live

        return live(call)
    defines = dict(text.partition("=")[::2] for text in arguments.define or [])
    try:
        verdict = judge(arguments.file, defines)
    except OSError as error:
        raise Failure(USAGE, f"{arguments.file}: {error.strerror}") from None
    if arguments.json:
        call.as_json(_as_json(verdict))
    else:
        _print(call, verdict)
    wrong = [problem for problem in verdict.problems if arguments.strict or problem.level == ERROR]
    return WRONG if wrong else DONE


def _print(call: Call, verdict: Verdict) -> None:
    for problem in verdict.problems:
        call.output.line(one_line(str(problem)))
    if not verdict.problems:
        queues = ", ".join(map(one_line, verdict.queues)) or "none"
        sys.stderr.write(f"mqueue-kemi: {one_line(verdict.files[0])}: nothing wrong; queues: {queues}\n")


def _as_json(verdict: Verdict) -> dict[str, object]:
    problems = [
        {"file": problem.place.file, "line": problem.place.line, "level": problem.level, "text": problem.text}
        for problem in verdict.problems
    ]
    return {
        "kind": verdict.kind,
        "files": verdict.files,
        "queues": verdict.queues,
        "callbacks": verdict.callbacks,
        "problems": problems,
    }
