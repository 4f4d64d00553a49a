"""A relay's metrics in what serve-metrics gives: a real relay, engine and exporter."""

from __future__ import annotations

import json
import signal
import urllib.request
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.relay.servers import PATIENCE
from tests.support.waits import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.command import Command
    from tests.processes.serve import Serve
    from tests.relay.servers import EngineServer


def served(url: str) -> dict[tuple[str, str, str], float]:
    """Scrape: name, queue and direction → number, of relays."""
    with urllib.request.urlopen(url, timeout=PATIENCE) as answer:  # noqa: S310 - http
        content = answer.read().decode()
    return {
        (
            sample.name.replace("mqueue_kemi_relay_", ""),
            sample.labels.get("queue", ""),
            sample.labels.get("direction", ""),
        ): (sample.value)
        for family in text_string_to_metric_families(content)
        for sample in family.samples
        if sample.name.startswith("mqueue_kemi_relay_")
    }


def of(found: dict[tuple[str, str, str], float], queue: str, direction: str) -> dict[str, float]:
    return {name: value for (name, *which), value in found.items() if which == [queue, direction]}


@pytest.fixture
def url(serve: Serve, command: Command, tmp_path: Path) -> str:
    """Return where the metrics are; the relays' folder is not there yet."""
    del serve
    options = ("--relay-metrics", str(tmp_path / "relays"))
    process = command.start("serve-metrics", "--listen", "127.0.0.1:0", *options, "--json", bare=False)
    assert process.stdout is not None
    found: str = json.loads(process.stdout.readline())["url"]
    return found


def test_a_relay_there_and_one_back(
    serve: Serve, command: Command, engine: EngineServer, tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has its numbers, wherever it was told to write them: by an option, its file, or the environment."""
    assert served(url) == {}
    queue = serve("name=q", "name=back")
    folder = tmp_path / "relays"
    folder.mkdir()
    assert all(queue.add_many([("k", str(number)) for number in range(300)]))
    monkeypatch.setenv("MQUEUE_KEMI_RELAY_METRICS", str(folder / "there.prom"))  # as its unit does
    there = command.start("relay", "q", engine.url, bare=False)
    want = {"sent_total": 300.0, "connected": 1.0, "lag_items": 0.0, "lag_seconds": 0.0}
    until(lambda: of(served(url), "q", "to").items() >= want.items(), "the exporter has what was relayed")
    settings = tmp_path / "back.toml"
    settings.write_text(
        f'queue = "back"\nfrom = "q"\nurl = "{engine.url}"\ninstance = "{serve.instance}"\n'
        f'metrics = "{folder}/back.prom"\n'
    )
    back = command.start("relay", "--config", str(settings), bare=False)
    until(lambda: served(url).get(("sent_total", "back", "from")) == 300.0, "and what came back")
    engine.hold()
    assert all(queue.add_many([("k", "v")] * 20))
    until(lambda: served(url).get(("lag_items", "q", "to")) == 20.0, "what waits is told")
    until(lambda: of(served(url), "q", "to").get("lag_seconds"), "and how long it does, though the relay has all of it")
    engine.kill()
    until(lambda: not served(url)["connected", "q", "to"], "that the engine is away is told")
    assert served(url)["disconnected_total", "q", "to"] > 0.0
    for process in (there, back):
        process.send_signal(signal.SIGTERM)
        command.end(process)
    assert served(url)["connected", "q", "to"] == 0.0
    labels = f'{{mqueue_instance="{serve.instance}",queue="q",direction="to"}}'
    assert f"mqueue_kemi_relay_lag_items{labels} 20.0\n" in (folder / "there.prom").read_text()


def test_refusals_are_told(serve: Serve, command: Command, engine: EngineServer, tmp_path: Path, url: str) -> None:
    """A queue there that is full: the batches stay here."""
    queue = serve("name=q")
    folder = tmp_path / "relays"
    folder.mkdir()
    assert all(queue.add_many([("k", "v")] * 20))
    options = ("--max-len", "10", "--metrics", str(folder / "q.prom"))
    process = command.start("relay", "q", engine.url, *options, bare=False)
    until(lambda: served(url).get(("refused_total", "q", "to"), 0.0) > 0.0, "a refusal is told")
    assert served(url)["sent_total", "q", "to"] == 0.0
    process.send_signal(signal.SIGTERM)
    command.end(process)


def test_an_exporter_of_another_instance(serve: Serve, command: Command, engine: EngineServer, tmp_path: Path) -> None:
    """Only with --all it has other instances' relays."""
    serve("name=q")
    file = tmp_path / "q.prom"
    relay = command.start("relay", "q", engine.url, "--metrics", str(file), bare=False)
    until(file.exists, "the relay has written")
    urls = []
    for which in (("--instance", "another"), ("--all",)):
        before, after = (which, ()) if len(which) > 1 else ((), which)
        options = ("--listen", "127.0.0.1:0", "--relay-metrics", str(file), "--json")
        process = command.start(*before, "serve-metrics", *after, *options, bare=False)
        assert process.stdout is not None
        urls.append(json.loads(process.stdout.readline())["url"])
    assert ("sent_total", "q", "to") not in served(urls[0])
    assert ("sent_total", "q", "to") in served(urls[1])
    relay.send_signal(signal.SIGTERM)
    command.end(relay)
