# SPDX-License-Identifier: GPL-2.0-or-later
"""`check --live`: is the instance served by a living server? For the probes of containers and service managers.

Only headers are read: it takes no lock, so that a busy server does not fail it.
"""

from __future__ import annotations

import sys

from kemi import host
from kemi.cli.call import Call
from kemi.cli.usage.codes import DONE, WRONG
from kemi.errors import MqueueError
from kemi.queue.catalog import ownership
from kemi.text import one_line


def live(call: Call) -> int:
    """Return DONE or WRONG. Raises UnknownQueue when there is no such instance."""
    found = host.find(call.instance)
    owner = found.owner()
    problems = _problems(found)
    if call.arguments.json:
        pid = owner.pid if owner else None
        call.as_json(
            {
                "instance": call.instance,
                "server": found.state(),
                "pid": pid,
                "queues": list(found.queues),
                "problems": problems,
            }
        )
    else:
        for problem in problems:
            call.output.line(one_line(problem))
    if not problems and not call.arguments.json:
        queues = ", ".join(map(one_line, found.queues)) or "none"
        whose = f", pid {owner.pid}" if owner else ""
        sys.stderr.write(f"mqueue-kemi: instance {call.instance!r} is served{whose}; queues: {queues}\n")
    return WRONG if problems else DONE


def _problems(found: host.Found) -> list[str]:
    return [*_of_the_server(found), *(str(view) for view in found.queues.values() if isinstance(view, MqueueError))]


def _of_the_server(found: host.Found) -> list[str]:
    if isinstance(found.view, MqueueError):
        return [str(found.view)]
    owner, state = found.view.owner, found.state()
    if state == ownership.ALIVE:
        left_over = found.left_over()
        return [left_over] if left_over else []
    if state == ownership.DEAD:
        return [f"instance {found.name!r}: its server, pid {owner.pid}, is dead"]
    where = f"pid {owner.pid} of another pid namespace"
    return [f"instance {found.name!r}: its server, {where}, cannot be seen from here; run this where the server runs"]
