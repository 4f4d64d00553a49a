# SPDX-License-Identifier: GPL-2.0-or-later
"""The commands that only look: sizes, get_size, peek, stats, instances."""

from __future__ import annotations

import pwd
import time

from kemi import host, kept
from kemi.cli.call import Call, Failure
from kemi.cli.output import bytes_text, duration_text, say
from kemi.cli.usage.codes import DONE, NOTHING, USAGE
from kemi.errors import MqueueError, SegmentMissing
from kemi.queue.catalog.view import InstanceView, QueueView
from kemi.queue.format.outcome import Stats
from kemi.queue.format.statistics import details_of, mean_wait, numbers_of, reason_of, wait_within
from kemi.queue.shm import trust
from kemi.text import printable

_MOST = 0.95  # of the items, in what is said of the time in the queue


def sizes(call: Call) -> int:
    """`sizes`."""
    found = host.find(call.instance)
    items = {name: view.stats.size for name, view in found.queues.items() if isinstance(view, QueueView)}
    if call.arguments.json:
        call.as_json([{"instance": call.instance, "queue": name, "items": count} for name, count in items.items()])
    else:
        for name, count in items.items():
            call.output.line(f"{printable(name)}\t{count}")
    for view in found.queues.values():
        if isinstance(view, MqueueError):
            raise view
    return DONE


def get_size(call: Call) -> int:
    """`get_size Q`."""
    items = host.find_queue(call.instance, call.arguments.queue).stats.size
    if call.arguments.json:
        call.tell("", items=items)
    else:
        call.output.line(str(items))
    return DONE


def peek(call: Call) -> int:
    """`peek Q`."""
    from kemi.cli.lines import json_line, text_line

    line = json_line if call.arguments.json else text_line
    with call.queue() as queue:
        items = queue.peek(call.arguments.count)
    for item in items:
        call.output.write(line(item))
    return DONE if items else NOTHING


# --- stats ------------------------------------------------------------------------------------------------------------


def stats(call: Call) -> int:
    """`stats [Q]`."""
    arguments = call.arguments
    if arguments.prometheus:
        from kemi.cli import metrics

        if arguments.all and arguments.queue is not None:
            raise Failure(USAGE, "--all is all queues of all instances; leave the queue's name out")
        text = metrics.text(None if arguments.all else call.instance, arguments.queue)
        if arguments.output:
            metrics.write_file(arguments.output, text)
        else:
            call.output.write(text.encode())
        return DONE
    if arguments.output or arguments.all:
        raise Failure(USAGE, f"{'--output' if arguments.output else '--all'} goes with --prometheus")
    views = _views(call)
    if arguments.json:
        found = [
            {"instance": call.instance, "queue": name, **numbers_of(view.stats), **details_of(view.stats)}
            for name, view in views.items()
        ]
        call.as_json(found[0] if arguments.queue is not None else found)
    else:
        for name, view in views.items():
            call.output.line("\n".join(_description(name, view.stats)))
    return DONE


def _views(call: Call) -> dict[str, QueueView]:
    name = call.arguments.queue
    if name is not None:
        return {name: host.find_queue(call.instance, name)}
    views: dict[str, QueueView] = {}
    for queue, view in host.find(call.instance).queues.items():
        if isinstance(view, MqueueError):
            raise view
        views[queue] = view
    return views


def _description(name: str, stats: Stats) -> list[str]:
    lines = [f"{printable(name)}:"]
    numbers = numbers_of(stats)
    width = max(map(len, numbers))
    for field, value in numbers.items():
        shown = value
        if field == "oldest":
            shown = "-" if value is None else f"{duration_text(time.time() - value)} ago"
        elif (field.endswith("_limit") or field == "maxage") and not value:
            shown = "none"
        elif field == "refused" and value:
            shown = f"{value} ({refusals_text(stats)})"
        lines.append(f"  {field.replace('_', ' '):<{width}}  {shown}")
    lines.append(f"  {'waited':<{width}}  {_waited_text(stats)}")
    return lines


def refusals_text(stats: Stats) -> str:
    """Refused adds by reason: "2 full, 1 too large"."""
    counts = {result: count for result, count in stats.refusals.items() if count}
    return ", ".join(f"{count} {reason_of(result).replace('_', ' ')}" for result, count in counts.items())


def _waited_text(stats: Stats) -> str:
    """How long items were in the queue."""
    mean = mean_wait(stats.waited)
    if mean is None:
        return "-"
    longest = wait_within(stats.waited, _MOST)
    most = "" if longest is None else f", {_MOST:.0%} at most {duration_text(longest)}"
    return f"{duration_text(mean)} on average{most}"


# --- instances --------------------------------------------------------------------------------------------------------

_HEADINGS = ["INSTANCE", "SERVER", "PID", "USER", "QUEUES", "ITEMS", "MEMORY"]


def instances(call: Call) -> int:
    """`instances`."""
    found = host.find_all()
    if call.arguments.json:
        call.as_json([_as_json(one) for one in found])
        return DONE
    if found:
        call.output.table([_HEADINGS, *map(_row, found)])
    for one in found:
        for error in _errors(one):
            say(error)
    return DONE


def _row(found: host.Found) -> list[object]:
    owner = found.owner()
    views = _readable(found)
    user = _user(found.view.user) if isinstance(found.view, InstanceView) else "-"
    items: object = sum(view.stats.size for view in views) if len(views) == len(found.queues) else "-"
    memory: object = bytes_text(sum(view.stats.memory for view in views)) if items != "-" else "-"
    return [found.name, found.state(), owner.pid if owner else "-", user, len(found.queues), items, memory]


def _readable(found: host.Found) -> list[QueueView]:
    return [view for view in found.queues.values() if isinstance(view, QueueView)]


def _errors(found: host.Found) -> list[str]:
    # An instance's own segment that is missing is told by its state.
    views = [found.view, *found.queues.values()]
    errors = [str(view) for view in views if isinstance(view, MqueueError) and not isinstance(view, SegmentMissing)]
    left_over = found.left_over()
    beside = [f"{path} {kept.KEPT_BESIDE}" for path in kept.files(found.name)]
    return errors + ([left_over] if left_over else []) + list(map(_strange, _strangers(found))) + beside


def _strangers(found: host.Found) -> list[tuple[str, int]]:
    """Queues that belong to another user than their instance, which nobody uses."""
    if not isinstance(found.view, InstanceView):
        return []
    user = found.view.user
    return [
        (name, view.user) for name, view in found.queues.items() if isinstance(view, QueueView) and view.user != user
    ]


def _strange(queue: tuple[str, int]) -> str:
    return f"queue {queue[0]!r} belongs to {trust.shown(queue[1])}, not to its instance's user: it is not used"


def _as_json(found: host.Found) -> dict[str, object]:
    owner = found.owner()
    queues = {
        name: {"error": str(view)}
        if isinstance(view, MqueueError)
        else {"items": view.stats.size, "bytes": view.stats.bytes, "memory": view.stats.memory}
        for name, view in found.queues.items()
    }
    return {
        "instance": found.name,
        "server": found.state(),
        "pid": owner.pid if owner else None,
        "max_memory": found.view.max_memory if isinstance(found.view, InstanceView) else None,
        "queues": queues,
        "errors": _errors(found),
    }


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
