"""What serve-metrics gives on of relays' files: the numbers of each, whatever else lies there."""

from __future__ import annotations

import os
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from kemi.cli import metrics, relaymetrics
from kemi.cli.relaymetrics import collect, text
from kemi.relay.forward import Counts

if TYPE_CHECKING:
    from pathlib import Path

COUNTS = Counts(sent=5, resent=1, refused=2, disconnected=3, connected=True)
NUMBERS = {
    "connected": 1.0,
    "sent_total": 5.0,
    "resends_dropped_total": 1.0,
    "refused_total": 2.0,
    "disconnected_total": 3.0,
    "lag_items": 7.0,
    "lag_seconds": 0.5,
}


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the time, which stands still."""
    clock = [time.time()]
    monkeypatch.setattr(relaymetrics, "time", SimpleNamespace(time=lambda: clock[0]))
    return clock


def write(
    path: Path, queue: str = "cdr", *, instance: str = "k", direction: str = "to", counts: Counts = COUNTS
) -> str:
    metrics.write_file(str(path), text(instance, queue, direction, counts, (7, 0.5)))
    return str(path)


def read(*paths: str, instance: str | None = None) -> dict[tuple[str, str], float]:
    """Read what is given on as Prometheus does: name and queue (or file) → number."""
    content = metrics.as_text(collect(paths, instance))
    return {
        (sample.name.replace("mqueue_kemi_relay_", ""), sample.labels.get("queue", sample.labels.get("file", ""))): (
            sample.value
        )
        for family in text_string_to_metric_families(content)
        for sample in family.samples
    }


def of(found: dict[tuple[str, str], float], queue: str) -> dict[str, float]:
    return {name: value for (name, label), value in found.items() if label == queue}


def test_a_file(tmp_path: Path, now: list[float]) -> None:
    path = write(tmp_path / "any")
    found = read(path)
    assert of(found, "cdr") == {**NUMBERS, "written_timestamp_seconds": now[0]}
    assert of(found, path) == {"unreadable": 0.0}


def test_a_folder(tmp_path: Path, now: list[float]) -> None:
    """Its files *.prom are read. What others put there is no concern of ours, and no error."""
    del now
    write(tmp_path / "cdr.prom")
    write(tmp_path / "push.prom", "push")
    write(tmp_path / ".draft.prom.x", "draft")
    (tmp_path / "node.prom").write_text("node_load1 3\n")
    found = read(str(tmp_path), str(tmp_path / "cdr.prom"))  # named twice: read once
    assert {label for name, label in found if name == "sent_total"} == {"cdr", "push"}
    assert {label for name, label in found if name == "unreadable"} == {
        f"{tmp_path}/{name}.prom" for name in ("cdr", "push")
    }


def test_what_is_not_there_yet_is_no_error(tmp_path: Path) -> None:
    assert read(str(tmp_path / "none"), str(tmp_path / "none" / "cdr.prom")) == {}
    assert list(collect([], None)) == []


def test_both_directions_and_the_instance(tmp_path: Path, now: list[float]) -> None:
    """A queue may be relayed in and another out, by instances that share the folder."""
    del now
    write(tmp_path / "a.prom", "a")
    write(tmp_path / "b.prom", "b", direction="from")
    write(tmp_path / "c.prom", "c", instance="other")
    content = metrics.as_text(collect([str(tmp_path)], None))
    assert 'sent_total{mqueue_instance="k",queue="b",direction="from"} 5.0' in content
    assert 'sent_total{mqueue_instance="other",queue="c",direction="to"} 5.0' in content
    found = read(str(tmp_path), instance="k")
    assert {label for name, label in found if name == "sent_total"} == {"a", "b"}


def test_a_relay_that_is_gone(tmp_path: Path, now: list[float]) -> None:
    """It is not connected, how much waits is not known, and what it did stays."""
    path = write(tmp_path / "cdr.prom")
    written = now[0]
    now[0] += relaymetrics.STALE
    assert of(read(path), "cdr") == {**NUMBERS, "written_timestamp_seconds": written}
    now[0] += 1.0
    kept = {name: value for name, value in NUMBERS.items() if not name.startswith("lag_")}
    assert of(read(path), "cdr") == {**kept, "connected": 0.0, "written_timestamp_seconds": written}


@pytest.mark.parametrize("first", ["a.prom", "b.prom"])
def test_one_relay_in_two_files(tmp_path: Path, now: list[float], first: str) -> None:
    """Its settings named another file before: the newer one counts. Two samples of one name would fail the scrape."""
    write(tmp_path / first, counts=Counts(sent=1))
    now[0] += 1.0
    write(tmp_path / ("b.prom" if first == "a.prom" else "a.prom"))
    assert of(read(str(tmp_path)), "cdr")["sent_total"] == 5.0


@pytest.mark.parametrize("name", ['a "b"\\n\\', "a\nb", "\udcff", "é", "a}b,c=d"])
def test_any_name(tmp_path: Path, now: list[float], name: str) -> None:
    del now
    path = write(tmp_path / "cdr.prom", name)
    assert of(read(path), metrics.label_of(name))["sent_total"] == 5.0


@pytest.mark.parametrize(
    "content",
    [
        b"\xff",
        b"mqueue_kemi_relay_sent_total 5\n",
        b'mqueue_kemi_relay_sent_total{mqueue_instance="k",queue="q",direction="to"} many\n',
        b'mqueue_kemi_relay_sent_total{mqueue_instance="k",queue="q",direction="to"} 5\n',  # written when?
        b'mqueue_kemi_relay_sent_total{mqueue_instance="k",queue="q\n',
    ],
)
def test_a_file_that_is_none_of_ours(tmp_path: Path, now: list[float], content: bytes) -> None:
    """It is told of, and stops no other."""
    del now
    bad = tmp_path / "bad.prom"
    bad.write_bytes(content)
    write(tmp_path / "cdr.prom")
    found = read(str(tmp_path))
    assert of(found, str(bad)) == {"unreadable": 1.0}
    assert of(found, "cdr")["sent_total"] == 5.0
    assert of(found, "q") == {}


def test_files_that_cannot_be_read(tmp_path: Path, now: list[float]) -> None:
    """A pipe is not waited for."""
    del now
    os.mkfifo(tmp_path / "pipe.prom")
    (tmp_path / "loop.prom").symlink_to("loop.prom")
    (tmp_path / "folder.prom").mkdir()
    found = read(str(tmp_path))
    assert {label for (name, label), value in found.items() if value == 1.0} == {
        f"{tmp_path}/{name}.prom" for name in ("pipe", "loop", "folder")
    }


def test_a_newer_relay(tmp_path: Path, now: list[float]) -> None:
    """What this version does not know is left out."""
    del now
    path = tmp_path / "cdr.prom"
    write(path)
    more = 'mqueue_kemi_relay_speed{mqueue_instance="k",queue="cdr",direction="to"} 1.0\n'
    path.write_text(path.read_text() + more)
    assert set(of(read(str(path)), "cdr")) == {*NUMBERS, "written_timestamp_seconds"}
