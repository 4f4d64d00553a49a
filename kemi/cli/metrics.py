# SPDX-License-Identifier: GPL-2.0-or-later
"""Metrics for Prometheus: as text for node_exporter's textfile collector, and served with prometheus_client.

Only headers are read: a scrape takes no lock and needs no server. An instance that is not there is a metric too.
What is not there has no sample: no limit, no oldest item. A moment is a Unix timestamp, from which Prometheus tells the
age at the time of a query: time() - mqueue_kemi_oldest_timestamp_seconds.
"""

from __future__ import annotations

import contextlib
import os
import platform
import tempfile
from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import NamedTuple

from kemi import host
from kemi.answers.view import Totals, totals
from kemi.cli.call import Failure
from kemi.cli.usage.codes import UNUSABLE
from kemi.errors import MqueueError, UnknownQueue
from kemi.names import VERSION
from kemi.queue.catalog import ownership
from kemi.queue.catalog.view import InstanceView, QueueView
from kemi.queue.format import layout
from kemi.queue.format.outcome import Waited
from kemi.queue.format.statistics import reason_of

PREFIX = "mqueue_kemi_"
INSTANCE_LABEL = "mqueue_instance"  # not "instance", which Prometheus itself sets
GAUGE, COUNTER, HISTOGRAM = "gauge", "counter", "histogram"


class Metric(NamedTuple):
    """One metric with its samples: labels in a fixed order, and the number, or a histogram."""

    name: str  # a counter's without its _total
    kind: str
    help: str
    samples: list[tuple[dict[str, str], float]]
    buckets: list[tuple[dict[str, str], Waited]] = []  # noqa: RUF012 - never changed


def cumulative(waited: Waited) -> list[tuple[str, float]]:
    """A histogram as Prometheus has it: how many were at most so long, for each bound, and for none."""
    bounds = [repr(bound) for bound in waited.bounds] + ["+Inf"]
    return list(zip(bounds, map(float, accumulate(waited.counts))))


# Field of Stats → name, kind, help.
_OF_QUEUES = {
    "size": ("items", GAUGE, "Items in the queue."),
    "bytes": ("bytes", GAUGE, "Bytes of all items with their heads."),
    "memory": ("memory_bytes", GAUGE, "Shared memory that the queue holds."),
    "added": ("added", COUNTER, "Items added."),
    "fetched": ("fetched", COUNTER, "Items taken."),
    "dropped": ("dropped", COUNTER, "Oldest items removed because size was exceeded."),
    "replaced": ("replaced", COUNTER, "Items replaced by a newer one of the same key (addmode 2)."),
    "recovered": ("recovered", COUNTER, "Repairs after a process died in the middle of its work."),
    "high_water": ("high_water_items", GAUGE, "Most items at a time."),
    "size_limit": ("size_limit_items", GAUGE, "Most items that the queue may have (size)."),
    "byte_limit": ("byte_limit_bytes", GAUGE, "Most bytes that its items may take (maxbytes)."),
    "reserved": ("reserved_items", GAUGE, "Items that a consumer has taken and not done."),
    "dead_lettered": ("dead_lettered", COUNTER, "Items moved to dead_letter after max_deliveries."),
    "exhausted": ("exhausted", COUNTER, "Times that an item came back after its last delivery, with no dead_letter."),
    "unmoved": ("unmoved", COUNTER, "Moves to dead_letter that failed."),
    "expired": ("expired", COUNTER, "Items that were older than maxage."),
    "due": ("due_items", GAUGE, "Items that were given back for later."),
    "maxage": ("max_age_seconds", GAUGE, "How long an item is delivered for (maxage)."),
    "oldest": ("oldest_timestamp_seconds", GAUGE, "When the oldest item that can be taken was added."),
}


# Fields that have no sample while they are 0 or None.
_ABSENT = ("size_limit", "byte_limit", "maxage", "oldest")
_REFUSED = "Adds that were refused, by reason: full (maxbytes), no_memory, too_large, closed."
_WAITED = "Time that items were in the queue until they were taken or delivered for the first time."


def collect(instance: str | None, queue: str | None = None) -> Iterator[Metric]:
    """All metrics of an instance, of all on this host (None), or of one queue. Raises UnknownQueue for a queue only."""
    all_found = host.find_all() if instance is None else [_find(instance, queue)]
    made_by = {"version": VERSION, "format": str(layout.VERSION), "python": platform.python_version()}
    yield Metric(f"{PREFIX}build_info", GAUGE, "What made these metrics: 1.", [(made_by, 1.0)])
    up = [(_own(found), float(_is_up(found))) for found in all_found]
    yield Metric(f"{PREFIX}up", GAUGE, "Whether the server of the instance is alive.", up)
    limits = [
        (_own(found), float(found.view.max_memory)) for found in all_found if isinstance(found.view, InstanceView)
    ]
    yield Metric(f"{PREFIX}max_memory_bytes", GAUGE, "Shared memory that all queues may hold.", limits)
    views = [
        ({**_own(found), "queue": label_of(name)}, view)
        for found in all_found
        for name, view in found.queues.items()
        if queue in (None, name)
    ]
    unreadable = [(labels, float(not isinstance(view, QueueView))) for labels, view in views]
    yield Metric(f"{PREFIX}unreadable", GAUGE, "Whether the queue cannot be read: damaged, or not allowed.", unreadable)
    for field, (name, kind, text) in _OF_QUEUES.items():
        numbers = [(labels, getattr(view.stats, field)) for labels, view in views if isinstance(view, QueueView)]
        samples = [(labels, float(number)) for labels, number in numbers if number or field not in _ABSENT]
        yield Metric(PREFIX + name, kind, text, samples)
    stats = [(labels, view.stats) for labels, view in views if isinstance(view, QueueView)]
    refused = [
        ({**labels, "reason": reason_of(result)}, float(count))
        for labels, found in stats
        for result, count in found.refusals.items()
    ]
    yield Metric(f"{PREFIX}refused", COUNTER, _REFUSED, refused)
    waited = [(labels, found.waited) for labels, found in stats]
    yield Metric(f"{PREFIX}time_in_queue_seconds", HISTOGRAM, _WAITED, [], waited)
    if queue is None:
        yield from _of_questions([(_own(found), found.name) for found in all_found])


def _of_questions(instances: list[tuple[dict[str, str], str]]) -> Iterator[Metric]:
    """What became of questions, of instances that have answers processes."""
    found: list[tuple[dict[str, str], Totals]] = []
    for labels, name in instances:
        with contextlib.suppress(MqueueError):  # its queues say so
            found.append((labels, totals(name)))
    found = [(labels, one) for labels, one in found if one.processes or one.asked]
    pending = [(labels, float(one.pending)) for labels, one in found]
    ends = [
        ({**labels, "result": end}, float(getattr(one, end)))
        for labels, one in found
        for end in ("answered", "failed", "timed_out", "cancelled", "gone", "withdrawn")
    ]
    late = [(labels, float(one.late)) for labels, one in found]
    slow = [(labels, float(one.slow)) for labels, one in found]
    yield Metric(f"{PREFIX}questions_pending", GAUGE, "Calls that wait for an answer.", pending)
    yield Metric(f"{PREFIX}questions_ended", COUNTER, "Questions that ended, by result.", ends)
    yield Metric(f"{PREFIX}answers_late", COUNTER, "Answers that nobody waited for any more.", late)
    yield Metric(f"{PREFIX}answer_routes_slow", COUNTER, "Routes of answers that took longer than 50 ms.", slow)


def _find(instance: str, queue: str | None) -> host.Found:
    try:
        found = host.find(instance)
    except UnknownQueue:
        return host.Found(instance, UnknownQueue(), {})
    if queue is not None and found.queues and queue not in found.queues:
        raise UnknownQueue(host.no_queue(instance, queue))
    return found


def _own(found: host.Found) -> dict[str, str]:
    return {INSTANCE_LABEL: label_of(found.name)}


def _is_up(found: host.Found) -> bool:
    return isinstance(found.view, InstanceView) and found.state() != ownership.DEAD


def label_of(text: str) -> str:
    """Return a name as a label's content: what is not UTF-8 is spelled out."""
    return text.encode("utf-8", "backslashreplace").decode()


def text(instance: str | None, queue: str | None = None) -> str:
    """All metrics in Prometheus' text format, version 0.0.4."""
    return as_text(collect(instance, queue))


def as_text(metrics: Iterable[Metric]) -> str:
    """Return metrics in Prometheus' text format."""
    lines = []
    for metric in metrics:
        name = f"{metric.name}_total" if metric.kind == COUNTER else metric.name
        lines += [f"# HELP {name} {metric.help}", f"# TYPE {name} {metric.kind}"]
        lines += [_line(name, labels, value) for labels, value in metric.samples]
        for labels, waited in metric.buckets:
            lines += [_line(f"{name}_bucket", {**labels, "le": le}, count) for le, count in cumulative(waited)]
            lines.append(_line(f"{name}_sum", labels, waited.total))
            lines.append(_line(f"{name}_count", labels, float(sum(waited.counts))))
    return "\n".join(lines) + "\n"


def _line(name: str, labels: dict[str, str], value: float) -> str:
    inside = ",".join(f'{label}="{_quoted(content)}"' for label, content in labels.items())
    return f"{name}{{{inside}}} {value!r}"


def _quoted(content: str) -> str:
    return content.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def write_file(path: str, content: str) -> None:
    """Put a file in place in one step, so that node_exporter never reads half of it. Raises Failure."""
    folder, name = os.path.split(os.path.abspath(path))
    try:
        fd, draft = tempfile.mkstemp(dir=folder, prefix=f".{name}.")
        try:
            with os.fdopen(fd, "w", encoding="utf-8") as file:
                file.write(content)
            os.chmod(draft, 0o644)
            os.replace(draft, path)
        except BaseException:
            os.unlink(draft)
            raise
    except OSError as error:
        raise Failure(UNUSABLE, f"cannot write {path}: {error.strerror}") from None
