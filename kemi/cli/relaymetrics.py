# SPDX-License-Identifier: GPL-2.0-or-later
"""Metrics of relays: the file that each of them writes, and what `serve-metrics` gives on of such files.

A relay writes its file every few seconds. One that was killed leaves it as it was last: it is told by its age.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from kemi.cli import metrics
from kemi.cli.metrics import COUNTER, GAUGE, INSTANCE_LABEL, Metric
from kemi.readfile import read_file

if TYPE_CHECKING:
    from kemi.relay.forward import Counts

EVERY = 5.0  # seconds between two writings
STALE = 30.0  # seconds after which what was written is not what is
SUFFIX = ".prom"  # of the files of a folder that are read
_PREFIX = f"{metrics.PREFIX}relay_"
_CONNECTED, _WRITTEN = "connected", "written_timestamp_seconds"
_OF_NOW = ("lag_items", "lag_seconds")  # have no sample when the file is stale

# Name → kind, help.
_KINDS = {
    _CONNECTED: (GAUGE, "Whether the relay is connected to the engine."),
    "sent": (COUNTER, "Items that the engine has for good, or that came from it."),
    "resends_dropped": (COUNTER, "Items that were sent again and were there already."),
    "refused": (COUNTER, "Times that a batch was refused: by the engine, or a full queue."),
    "disconnected": (COUNTER, "Times that there was no connection, or no reply."),
    "lag_items": (GAUGE, "Items that are to be relayed."),
    "lag_seconds": (GAUGE, "Age of the oldest item that is to be relayed."),
    _WRITTEN: (GAUGE, "When this was written."),
}
_UNREADABLE = "Whether a file of a relay's metrics cannot be read; that it is not there is no error."


class _Labels(NamedTuple):
    """Which relay it is."""

    instance: str
    queue: str
    direction: str

    def as_dict(self) -> dict[str, str]:
        return {INSTANCE_LABEL: self.instance, "queue": self.queue, "direction": self.direction}


_Numbers = dict[str, float]  # of one relay, by name


def text(instance: str, queue: str, direction: str, counts: Counts, lag: tuple[int, float]) -> str:
    """A relay's metrics in Prometheus' text format. direction: "to" or "from" the engine. lag: items, seconds."""
    labels = _Labels(metrics.label_of(instance), metrics.label_of(queue), direction)
    values = (counts.connected, counts.sent, counts.resent, counts.refused, counts.disconnected, *lag, time.time())
    return metrics.as_text(_as_metrics({labels: dict(zip(_KINDS, map(float, values)))}))


def _as_metrics(relays: dict[_Labels, _Numbers]) -> Iterator[Metric]:
    for name, (kind, about) in _KINDS.items():
        samples = [(labels.as_dict(), numbers[name]) for labels, numbers in relays.items() if name in numbers]
        yield Metric(_PREFIX + name, kind, about, samples)


def collect(paths: Sequence[str], instance: str | None) -> Iterator[Metric]:
    """The metrics of the relays of an instance (None: of all) that write their files there.

    paths: files, or folders whose files *.prom are read; other metrics in them are not heeded. What a relay that is
    gone wrote last stays, but for connected, which is 0 then, and the lag, which has no sample.
    """
    if not paths:
        return
    relays: dict[_Labels, _Numbers] = {}
    unreadable: dict[str, bool] = {}
    for path in _files(paths, unreadable):
        try:
            found = _parsed(read_file(path).decode())
        except FileNotFoundError:
            continue
        except (OSError, ValueError):
            unreadable[path] = True
            continue
        for labels, numbers in found.items():
            known = relays.get(labels)
            if known is None or known[_WRITTEN] < numbers[_WRITTEN]:  # one relay, two files: the newer one
                relays[labels] = numbers
        if found:
            unreadable[path] = False
    wanted = None if instance is None else metrics.label_of(instance)
    yield from _as_metrics(
        {labels: _aged(numbers) for labels, numbers in relays.items() if wanted in (None, labels.instance)}
    )
    judged = [({"file": metrics.label_of(path)}, float(wrong)) for path, wrong in unreadable.items()]
    yield Metric(f"{_PREFIX}unreadable", GAUGE, _UNREADABLE, judged)


def _files(paths: Sequence[str], unreadable: dict[str, bool]) -> Iterator[str]:
    """Each file once, in order. A folder that cannot be read is entered in `unreadable`."""
    found: list[str] = []
    for path in paths:
        try:
            names = os.listdir(path) if os.path.isdir(path) else None
        except FileNotFoundError:
            continue
        except OSError:
            unreadable[path] = True
            continue
        if names is None:
            found.append(path)
        else:
            found += sorted(os.path.join(path, name) for name in names if name.endswith(SUFFIX))
    yield from dict.fromkeys(found)


def _aged(numbers: _Numbers) -> _Numbers:
    """What holds now of what was written then."""
    if time.time() - numbers[_WRITTEN] <= STALE:
        return numbers
    return {**{name: value for name, value in numbers.items() if name not in _OF_NOW}, _CONNECTED: 0.0}


_LABEL = r'%s="((?:[^"\\\n]|\\["\\n])*)"'
_LINE = re.compile(
    rf"{_PREFIX}([a-z_]+)\{{" + ",".join(_LABEL % name for name in (INSTANCE_LABEL, "queue", "direction")) + r"\} (\S+)"
)
_ESCAPED = {"\\\\": "\\", '\\"': '"', "\\n": "\n"}


def _plain(escaped: re.Match[str]) -> str:
    return _ESCAPED[escaped[0]]


def _parsed(content: str) -> dict[_Labels, _Numbers]:
    """The numbers of each relay in a file. Raises ValueError where a relay's line is none of ours."""
    found: dict[_Labels, _Numbers] = {}
    for line in content.split("\n"):
        if not line.startswith(_PREFIX):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise ValueError(line)
        name = match[1].removesuffix("_total")
        if name in _KINDS:  # a newer version's relay may have more
            labels = (re.sub(r"\\.", _plain, match[number]) for number in (2, 3, 4))
            found.setdefault(_Labels(*labels), {})[name] = float(match[5])
    if any(_WRITTEN not in numbers for numbers in found.values()):
        raise ValueError(_WRITTEN)
    return found
