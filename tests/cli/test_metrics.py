"""Metrics: the text is what Prometheus reads, the numbers are the queue's, and a scrape survives every state."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import signal
import socket
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from kemi.cli import metrics
from kemi.names import VERSION
from kemi.queue.format import layout
from kemi.queue.format.statistics import NUMBERS
from tests.conftest import SHM
from tests.locked import locked
from tests.processes.children import PATIENCE
from tests.support.waits import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.command import Command
    from tests.processes.serve import Serve


def samples(text: str) -> dict[tuple[str, str], float]:
    """Read the text as Prometheus does: name and queue → number."""
    return {
        (
            sample.name.replace("mqueue_kemi_", "") + sample.labels.get("reason", "") + sample.labels.get("le", ""),
            sample.labels.get("queue", ""),
        ): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_every_statistic_is_a_metric() -> None:
    """A field that is added to Stats is a metric too, or left out on purpose."""
    assert set(NUMBERS) - {"addmode", "max_deliveries", "refused"} == set(metrics._OF_QUEUES)


def test_text(serve: Serve, command: Command) -> None:
    queue = serve("name=a;size=3", "name=b")
    for number in range(5):
        queue.add(str(number), "v")
    queue.fetch()
    done = command("stats", "--prometheus")
    assert (done.code, done.err) == (0, "")
    found = samples(done.out)
    expected = {"items": 2, "added_total": 5, "fetched_total": 1, "dropped_total": 2, "size_limit_items": 3}
    assert {key: found[key, "a"] for key in expected} == expected
    assert found["up", ""] == 1
    assert found["items", "b"] == 0
    assert queue.stats().oldest == pytest.approx(found["oldest_timestamp_seconds", "a"])
    assert found["unreadable", "a"] == 0
    families = {family.name: family for family in text_string_to_metric_families(done.out)}
    assert families["mqueue_kemi_added"].type == "counter"
    assert families["mqueue_kemi_items"].type == "gauge"
    assert families["mqueue_kemi_items"].samples[0].labels["mqueue_instance"] == serve.instance


def test_refusals_by_reason(serve: Serve, command: Command) -> None:
    queue = serve("name=a;maxbytes=1k")
    for size in (2000, 900, 900, 900):
        queue.add("k", "v" * size)
    found = {
        sample.labels["reason"]: sample.value
        for family in text_string_to_metric_families(command("stats", "--prometheus").out)
        for sample in family.samples
        if sample.name == "mqueue_kemi_refused_total"
    }
    assert set(found) == {"full", "too_large", "no_memory", "closed"}
    refused = queue.stats().refusals
    assert found == {result.name.lower(): count for result, count in refused.items()}
    assert sum(found.values()) == queue.stats().refused == 3
    assert re.search(r"refused +3 \(.*full.*\)", command("stats", "a").out)
    assert command("stats", "a", "--json").json()["refusals"] == found
    assert "a refused " in command("top", "-n", "1").out
    assert json.loads(command("top", "-n", "1", "--json").out)["instances"][0]["queues"][0]["refusals"] == found


def test_the_time_in_the_queue(serve: Serve, command: Command) -> None:
    """A histogram, as Prometheus reads one; and for people how long it is on average, and mostly."""
    queue = serve("name=a", "name=b")
    for _ in range(10):
        queue.add("k", "v")
        with queue.reserve():
            pass
    text = command("stats", "--prometheus").out
    (family,) = (one for one in text_string_to_metric_families(text) if one.name == "mqueue_kemi_time_in_queue_seconds")
    assert family.type == "histogram"
    for name, count in (("a", 10), ("b", 0)):
        mine = [sample for sample in family.samples if sample.labels["queue"] == name]
        bounds = [sample.labels["le"] for sample in mine if sample.name.endswith("_bucket")]
        numbers = [sample.value for sample in mine if sample.name.endswith("_bucket")]
        assert [float(bound) for bound in bounds] == [*layout.WAITED_BOUNDS, float("inf")]
        assert numbers == sorted(numbers)
        assert numbers[-1] == count
        assert {sample.value for sample in mine if sample.name.endswith("_count")} == {count}
    waited = queue.stats().waited
    (total,) = (one.value for one in family.samples if one.name.endswith("_sum") and one.labels["queue"] == "a")
    assert total == pytest.approx(waited.total)
    assert re.search(r"waited +[0-9.]+s on average, 95% at most", command("stats", "a").out)
    assert re.search(r"waited +-", command("stats", "b").out)
    assert command("stats", "a", "--json").json()["waited"]["counts"] == list(waited.counts)


def test_what_is_not_there_has_no_sample(serve: Serve, command: Command) -> None:
    """0 would be a limit that is always reached, and an item of 1970."""
    queue = serve("name=a", "name=b;size=3;maxbytes=1k")
    found = samples(command("stats", "--prometheus").out)
    absent = ("size_limit_items", "byte_limit_bytes", "max_age_seconds", "oldest_timestamp_seconds")
    assert [name for name in absent if (name, "a") in found] == []
    assert (found["size_limit_items", "b"], found["byte_limit_bytes", "b"]) == (3, 1024)
    queue.add("k", "v")
    assert ("oldest_timestamp_seconds", "a") in samples(command("stats", "--prometheus").out)


def test_build_info(command: Command) -> None:
    families = text_string_to_metric_families(command("stats", "--prometheus").out)
    (sample,) = next(family.samples for family in families if family.name == "mqueue_kemi_build_info")
    expected = {"version": VERSION, "format": str(layout.VERSION), "python": platform.python_version()}
    assert (sample.labels, sample.value) == (expected, 1)


def test_all_instances(serve: Serve, command: Command) -> None:
    """Each metric has its samples together, as Prometheus demands."""
    serve("name=a")
    for name in ("", ".a"):  # another one, as far as a look can tell
        shutil.copy(SHM / f"mqk.{serve.instance}{name}", SHM / f"mqk.{serve.instance}-other{name}")
    expected = {serve.instance, f"{serve.instance}-other"}
    for family in text_string_to_metric_families(command("stats", "--prometheus", "--all").out):
        labels = {sample.labels.get("mqueue_instance") for sample in family.samples}
        if family.name in ("mqueue_kemi_up", "mqueue_kemi_items", "mqueue_kemi_max_memory_bytes"):
            assert expected <= labels, family.name
    assert "leave the queue's name out" in command("stats", "--prometheus", "--all", "a").failed(2)
    assert "--all goes with --prometheus" in command("stats", "--all").failed(2)


def test_one_queue(serve: Serve, command: Command) -> None:
    serve("name=a", "name=b")
    assert {queue for _, queue in samples(command("stats", "--prometheus", "b").out)} == {"", "b"}
    assert "has no queue 'c'; there are: a, b" in command("stats", "--prometheus", "c").failed(3)


def test_names_that_need_quotes(serve: Serve, command: Command) -> None:
    serve('name=a"b\\c\nd\udcff')
    found = samples(command("stats", "--prometheus").out)
    assert found["items", 'a"b\\c\nd\\udcff'] == 0


def test_no_server(command: Command) -> None:
    """An alarm can be built on it: there is a number, not nothing."""
    done = command("stats", "--prometheus")
    assert done.code == 0
    assert samples(done.out) == {("build_info", ""): 1, ("up", ""): 0}


def test_a_dead_server(dead: Serve, command: Command) -> None:
    found = samples(command("stats", "--prometheus").out)
    assert (dead.running, found["up", ""], found["items", "q"]) == (False, 0, 3)


def test_a_queue_that_cannot_be_read(serve: Serve, command: Command) -> None:
    queue = serve("name=a", "name=b")
    queue.segment.bytes[0:8] = b"damaged!"
    found = samples(command("stats", "--prometheus").out)
    assert (found["unreadable", "a"], found["unreadable", "b"]) == (1, 0)
    assert ("items", "a") not in found
    queue.segment.bytes[0:8] = b"mqkemi-q"


def test_output_into_a_file(serve: Serve, command: Command, tmp_path: Path) -> None:
    """It is there as a whole, readable for node_exporter, and nothing else is left."""
    serve("name=a")
    path = tmp_path / "mqueue.prom"
    path.write_text("old")
    done = command("stats", "--prometheus", "--output", str(path))
    assert (done.code, done.out, done.err) == (0, "", "")
    assert samples(path.read_text("utf-8"))["up", ""] == 1
    assert path.stat().st_mode & 0o777 == 0o644
    assert os.listdir(tmp_path) == ["mqueue.prom"]
    text = command("stats", "--prometheus", "--output", str(tmp_path / "no" / "x")).failed(6)
    assert f"cannot write {tmp_path}/no/x: No such file or directory" in text


# --- serve-metrics ----------------------------------------------------------------------------------------------------


def scrape(port: int) -> str:
    return read(f"http://127.0.0.1:{port}/metrics")


def read(url: str) -> str:
    with urllib.request.urlopen(url, timeout=PATIENCE) as answer:  # noqa: S310 - http
        content: bytes = answer.read()
    return content.decode()


@pytest.fixture
def port(serve: Serve, command: Command) -> Any:
    """Return the port of a command that serves metrics; there is no queue yet."""
    del serve
    process = command.start("serve-metrics", "--listen", "127.0.0.1:0", bare=False)
    assert process.stderr is not None
    line = process.stderr.readline().decode()
    match = re.match(r"mqueue-kemi: http://127.0.0.1:([0-9]+)/metrics has instance", line)
    assert match, line
    return int(match[1])


def test_served_of_all_instances(serve: Serve, command: Command) -> None:
    serve("name=a")
    process = command.start("serve-metrics", "--listen", "localhost:0", "--all", "--json", bare=False)
    assert process.stdout is not None
    found = json.loads(process.stdout.readline())
    assert found["instance"] is None
    text = read(found["url"])  # localhost may be ::1
    assert f'mqueue_kemi_up{{mqueue_instance="{serve.instance}"}} 1.0' in text


def test_a_scrape_that_stands_still_stops_no_other(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as silent:
        silent.send(b"GET /metrics HTTP/1.1\r\n")
        assert samples(scrape(port))["up", ""] == 0


def test_served(serve: Serve, command: Command, port: int) -> None:
    """The same numbers as in the text; the server may come and go."""
    assert samples(scrape(port)) == {("build_info", ""): 1, ("up", ""): 0}
    serve("name=a").add("k", "v")
    text = samples(command("stats", "--prometheus").out)
    served = {key: value for key, value in samples(scrape(port)).items() if not key[0].endswith("_created")}
    assert served == text
    serve.stop()
    assert samples(scrape(port)) == {("build_info", ""): 1, ("up", ""): 0}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, -15)])
def test_serving_ends(command: Command, port: int, number: int, code: int) -> None:
    (process,) = command.started
    scrape(port)
    process.send_signal(number)
    assert process.wait(PATIENCE) == code
    assert process.stderr is not None
    assert process.stderr.read() == b""


def test_a_port_that_is_taken(command: Command, port: int) -> None:
    text = command("serve-metrics", "--listen", f"127.0.0.1:{port}", bare=False).failed(6)
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in text


def test_an_address_that_is_not_ours(command: Command) -> None:
    assert "cannot listen on 192.0.2.1:9130" in command(
        "serve-metrics", "--listen", "192.0.2.1:9130", bare=False
    ).failed(6)


def test_without_prometheus_client(command: Command) -> None:
    """The message names the package, of Debian too."""
    text = command("serve-metrics", "--listen", "127.0.0.1:9130").failed(7)
    assert "apt install python3-prometheus-client" in text


def test_a_scrape_stands_in_nobodys_way(serve: Serve, port: int) -> None:
    queue = serve("name=a")
    with locked(queue._mutex):
        until(lambda: samples(scrape(port))["items", "a"] == 0, "a scrape while the lock is held")
