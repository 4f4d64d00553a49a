"""Metrics for Prometheus: as text for node_exporter's textfile collector, and served with prometheus_client.

Only headers are read: a scrape takes no lock and needs no server. An instance that is not there is a metric too.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from typing import NamedTuple

from kemi import host
from kemi.cli.call import Failure
from kemi.cli.codes import UNUSABLE
from kemi.errors import UnknownQueue
from kemi.queue.outcome import Stats
from kemi.queue.view import InstanceView, QueueView

PREFIX = "mqueue_kemi_"
INSTANCE_LABEL = "mqueue_instance"  # not "instance", which Prometheus itself sets
GAUGE, COUNTER = "gauge", "counter"


class Metric(NamedTuple):
    """One metric with its samples: labels in a fixed order, and the number."""

    name: str  # a counter's without its _total
    kind: str
    help: str
    samples: list[tuple[dict[str, str], float]]


# Field of Stats → name, kind, help.
_OF_QUEUES = {
    "size": ("items", GAUGE, "Items in the queue."),
    "bytes": ("bytes", GAUGE, "Bytes of all items with their heads."),
    "memory": ("memory_bytes", GAUGE, "Shared memory that the queue holds."),
    "added": ("added", COUNTER, "Items added."),
    "fetched": ("fetched", COUNTER, "Items taken."),
    "dropped": ("dropped", COUNTER, "Oldest items removed because size was exceeded."),
    "replaced": ("replaced", COUNTER, "Items replaced by a newer one of the same key (addmode 2)."),
    "refused": ("refused", COUNTER, "Items not added: maxbytes, no memory, or too large."),
    "recovered": ("recovered", COUNTER, "Repairs after a process died in the middle of its work."),
    "high_water": ("high_water_items", GAUGE, "Most items at a time."),
    "size_limit": ("size_limit_items", GAUGE, "The queue's size, 0 for no limit."),
    "byte_limit": ("byte_limit_bytes", GAUGE, "The queue's maxbytes, 0 for no limit."),
    "reserved": ("reserved_items", GAUGE, "Items that a consumer has taken and not done."),
    "dead_lettered": ("dead_lettered", COUNTER, "Items moved to dead_letter after max_deliveries."),
    "exhausted": ("exhausted", COUNTER, "Times that an item came back after its last delivery, with no dead_letter."),
    "oldest": ("oldest_age_seconds", GAUGE, "Age of the oldest item, 0 when there is none."),
}


def collect(instance: str, queue: str | None = None) -> Iterator[Metric]:
    """All metrics of an instance, or of one of its queues. Raises UnknownQueue for a queue only."""
    own = {INSTANCE_LABEL: _label(instance)}
    try:
        found = host.find(instance)
    except UnknownQueue:
        found = host.Found(instance, UnknownQueue(), {})
    if queue is not None and found.queues and queue not in found.queues:
        raise UnknownQueue(host.no_queue(instance, queue))
    up = isinstance(found.view, InstanceView) and found.state() != host.DEAD
    yield Metric(f"{PREFIX}up", GAUGE, "Whether the server of the instance is alive.", [(own, float(up))])
    if isinstance(found.view, InstanceView):
        limit = [(own, float(found.view.max_memory))]
        yield Metric(f"{PREFIX}max_memory_bytes", GAUGE, "Shared memory that all queues may hold.", limit)
    views = {name: view for name, view in found.queues.items() if queue in (None, name)}
    readable = {name: view.stats for name, view in views.items() if isinstance(view, QueueView)}
    unreadable = [({**own, "queue": _label(name)}, float(name not in readable)) for name in views]
    yield Metric(f"{PREFIX}unreadable", GAUGE, "Whether the queue cannot be read: damaged, or not allowed.", unreadable)
    now = time.time()
    for field, (name, kind, text) in _OF_QUEUES.items():
        samples = [({**own, "queue": _label(key)}, _value(field, stats, now)) for key, stats in readable.items()]
        yield Metric(PREFIX + name, kind, text, samples)


def _value(field: str, stats: Stats, now: float) -> float:
    if field == "oldest":
        return 0.0 if stats.oldest is None else max(0.0, now - stats.oldest)
    return float(getattr(stats, field))


def _label(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def text(instance: str, queue: str | None = None) -> str:
    """All metrics in Prometheus' text format, version 0.0.4."""
    lines = []
    for metric in collect(instance, queue):
        name = f"{metric.name}_total" if metric.kind == COUNTER else metric.name
        lines += [f"# HELP {name} {metric.help}", f"# TYPE {name} {metric.kind}"]
        for labels, value in metric.samples:
            inside = ",".join(f'{label}="{_quoted(content)}"' for label, content in labels.items())
            lines.append(f"{name}{{{inside}}} {value!r}")
    return "\n".join(lines) + "\n"


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
