"""ops/: the alerts and the dashboard with the real Prometheus, the units with systemd's own checker."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from kemi.cli import metrics, relaymetrics
from kemi.names import RELAY_METRICS_VARIABLE
from kemi.relay.forward import Counts
from tests.cli.command import CHECKOUT
from tests.support.ports import free_port
from tests.support.waits import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cli.command import Command
    from tests.processes.serve import Serve

OPS = CHECKOUT / "ops"
PROMETHEUS = OPS / "prometheus"
PANELS = json.loads((OPS / "grafana" / "mqueue_kemi.json").read_text("utf-8"))["panels"]
PARTS = ("bucket", "sum", "count")  # of a histogram
QUERIES = {f"{panel['title']} {at['refId']}": at["expr"] for panel in PANELS for at in panel["targets"]}


def tool(name: str) -> str:
    """Return the path of a program, which Debian has in the package prometheus."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed (apt install prometheus); sh tests/run.sh installs it")
    return path


def names(text: str) -> set[str]:
    """Return the metrics of ours that a text names."""
    return set(re.findall(r"mqueue_kemi_[a-z_]+", text)) - {"mqueue_kemi_rules", "mqueue_kemi_test"}


def test_every_metric_is_there() -> None:
    """A metric that is renamed is renamed in the alerts and on the dashboard too."""
    kinds = {f"{metrics.PREFIX}{name}{'_total' * (kind == 'counter')}" for name, kind, _ in metrics._OF_QUEUES.values()}
    others = ("up", "build_info", "max_memory_bytes", "unreadable", "refused_total")
    kinds |= {f"{metrics.PREFIX}{name}" for name in (*others, *(f"time_in_queue_seconds_{part}" for part in PARTS))}
    kinds |= names(relaymetrics.text("i", "q", "to", Counts(), (0, 0.0)))
    used = names(" ".join(QUERIES.values())) | names((PROMETHEUS / "mqueue_kemi.rules.yml").read_text("utf-8"))
    assert used <= kinds
    assert len(used) > 15


def test_alerts(tmp_path: Path) -> None:
    """Each fires when it should and no sooner; none for a queue without limits."""
    for name in ("mqueue_kemi.rules.yml", "mqueue_kemi.test.yml"):
        shutil.copy(PROMETHEUS / name, tmp_path)
    for argv in (["check", "config", str(PROMETHEUS / "prometheus.yml")], ["test", "rules", "mqueue_kemi.test.yml"]):
        done = subprocess.run([tool("promtool"), *argv], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    rules = (PROMETHEUS / "mqueue_kemi.rules.yml").read_text("utf-8")
    tested = set(re.findall(r"alertname: (\w+)", (PROMETHEUS / "mqueue_kemi.test.yml").read_text("utf-8")))
    assert tested == set(re.findall(r"alert: (\w+)", rules))


def test_the_tests_of_the_alerts_can_fail(tmp_path: Path) -> None:
    shutil.copy(PROMETHEUS / "mqueue_kemi.test.yml", tmp_path)
    rules = (PROMETHEUS / "mqueue_kemi.rules.yml").read_text("utf-8").replace("> 0.8", "> 0.999")
    (tmp_path / "mqueue_kemi.rules.yml").write_text(rules, "utf-8")
    argv = [tool("promtool"), "test", "rules", "mqueue_kemi.test.yml"]
    assert subprocess.run(argv, cwd=tmp_path, capture_output=True, check=False).returncode == 1


class Server:
    """A Prometheus that scrapes one exporter."""

    def __init__(self, folder: Path, target: str) -> None:
        config = (PROMETHEUS / "prometheus.yml").read_text("utf-8")
        assert '"127.0.0.1:9130"' in config
        config = f"global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n{config.replace('127.0.0.1:9130', target)}"
        (folder / "prometheus.yml").write_text(config, "utf-8")
        shutil.copy(PROMETHEUS / "mqueue_kemi.rules.yml", folder)
        self._log = (folder / "log").open("wb")
        self._folder = folder
        self.url = ""
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        """Start it on a port that is free; when another program was quicker, on another one."""
        for _ in range(5):
            address = f"127.0.0.1:{free_port()}"
            self.url = f"http://{address}"
            argv = ["--config.file=prometheus.yml", "--storage.tsdb.path=data", f"--web.listen-address={address}"]
            command = [tool("prometheus"), *argv]
            process = subprocess.Popen(command, cwd=self._folder, stdout=self._log, stderr=subprocess.STDOUT)
            until(partial(self._started, process), "Prometheus")
            if process.poll() is None:
                return process
        raise AssertionError((self._folder / "log").read_text())

    def _started(self, process: subprocess.Popen[bytes]) -> bool:
        return process.poll() is not None or self.ready()

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=10) as answer:  # noqa: S310 - http
                return bool(answer.status == 200)
        except (urllib.error.URLError, ConnectionError):
            return False

    def ask(self, what: str, **parameters: str) -> Any:
        """Return the data of an answer."""
        url = f"{self.url}/api/v1/{what}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310 - http
                found = json.loads(answer.read())
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from None
        assert found["status"] == "success", found
        return found["data"]

    def query(self, expression: str) -> list[Any]:
        """Return the samples of a query, as Grafana makes it of a panel's."""
        for variable, value in (("$instance", ".*"), ("$queue", ".*"), ("$__rate_interval", "10s")):
            expression = expression.replace(variable, value)
        found: list[Any] = self.ask("query", query=expression)["result"]
        return found

    def end(self) -> None:
        self.process.terminate()
        self.process.wait()
        self._log.close()


@pytest.fixture
def prometheus(serve: Serve, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Return a Prometheus that has scraped our queues twice: rates need two samples."""
    queue = serve("name=limited;size=3;maxbytes=1m;max_deliveries=2", "name=unlimited")
    tool("prometheus")
    relay = tmp_path / "relay.prom"
    with monkeypatch.context() as patch:
        patch.setattr(relaymetrics, "time", SimpleNamespace(time=lambda: time.time() + 86400.0))  # never too old
        relay.write_text(relaymetrics.text(serve.instance, "limited", "to", Counts(connected=True), (7, 1.0)), "utf-8")
    options = ("--relay-metrics", str(relay))
    process = command.start("serve-metrics", "--listen", "127.0.0.1:0", *options, "--json", bare=False)
    assert process.stdout is not None
    target = json.loads(process.stdout.readline())["url"].split("/")[2]
    server = Server(tmp_path, target)
    try:
        for _ in range(5):
            queue.add("k", "v")
        until(lambda: server.query("count_over_time(mqueue_kemi_up[5m]) >= 3"), "three scrapes")
        yield server
    finally:
        server.end()


def test_a_real_prometheus(prometheus: Server, serve: Serve) -> None:
    """It takes all that the exporter gives; every panel shows something; the rules are evaluated without an error."""
    (target,) = prometheus.ask("targets")["activeTargets"]
    assert (target["health"], target["lastError"]) == ("up", "")
    for title, expression in QUERIES.items():
        assert prometheus.query(expression), (title, expression)
    (items,) = prometheus.query('mqueue_kemi_items{queue="limited"}')
    assert items["metric"]["mqueue_instance"] == serve.instance
    assert items["value"][1] == "3"
    assert not prometheus.query('mqueue_kemi_size_limit_items{queue="unlimited"}')
    until(
        lambda: all(rule["health"] == "ok" for group in prometheus.ask("rules")["groups"] for rule in group["rules"]),
        "the rules' first evaluation",
    )
    alerts = {(one["labels"]["alertname"], one["labels"].get("queue")) for one in prometheus.ask("alerts")["alerts"]}
    assert ("MqueueNearlyFull", "limited") in alerts  # 3 of 3 items: pending
    assert ("MqueueNearlyFull", "unlimited") not in alerts


# --- systemd ----------------------------------------------------------------------------------------------------------


UNITS = [
    "ops/systemd/mqueue-kemi-exporter.service",
    "ops/systemd/mqueue-kemi-worker@.service",
    "ops/systemd/mqueue-kemi-work@.service",
    "ops/systemd/mqueue-relay@.service",
    "conf/cdr-worker.service",
]
EXPOSURE = 4.0  # what systemd calls OK; 10 is a service that may do everything


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run systemd's own checker, which needs no systemd that runs."""
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed")
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=False)


def settings_of(path: str) -> dict[str, str]:
    lines = (CHECKOUT / path).read_text("utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


@pytest.mark.parametrize("path", UNITS)
def test_units(tmp_path: Path, path: str) -> None:
    """Systemd finds no fault with them, in use or in what they allow; nothing removes or hides the queues."""
    settings = settings_of(path)
    assert not {"DynamicUser", "RemoveIPC", "PrivateIPC", "PrivatePIDs", "LimitAS"} & settings.keys()
    unit = tmp_path / path.rpartition("/")[2].replace("@.", "@calls.")
    program = settings["ExecStart"].split()[0]
    unit.write_text((CHECKOUT / path).read_text("utf-8").replace(program, "/usr/bin/env"), "utf-8")  # which is there
    done = analyze("verify", "--man=no", str(unit))
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    done = analyze("security", "--offline=yes", "--no-pager", str(unit))
    if "unrecognized option" in done.stderr:
        pytest.skip("this systemd judges no unit that is not loaded")
    level = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    assert level is not None, done.stdout + done.stderr
    assert float(level[1]) <= EXPOSURE


@pytest.mark.parametrize("path", UNITS[:4])
def test_what_units_start(path: str) -> None:
    """It is a command line of ours."""
    from kemi.cli.usage.commands import parser

    command = settings_of(path)["ExecStart"].replace("%I", "calls").replace("%i", "calls").split()
    assert command[0] == "/usr/bin/mqueue-kemi"
    assert parser().parse_args(command[1:]).run in ("serve:serve_metrics", "move:consume", "work:work", "relay:relay")


def test_the_exporter_finds_the_relays_metrics() -> None:
    """The one unit writes where the other one reads, and the end of one relay leaves the others' files there."""
    relay, exporter = (settings_of(path) for path in (UNITS[3], UNITS[0]))
    folder = f"/run/{relay['RuntimeDirectory']}"
    assert relay["Environment"] == f"{RELAY_METRICS_VARIABLE}={folder}/%i.prom"
    assert relay["RuntimeDirectoryPreserve"] == "yes"
    assert exporter["ExecStart"].endswith(f" --relay-metrics {folder}")


def test_the_worker_runs_without_memory_to_write_and_execute(serve: Serve, command: Command) -> None:
    """What MemoryDenyWriteExecute= does, by the kernel's own switch."""
    queue = serve("name=a")
    queue.add("k", "v")
    switch = "import ctypes; assert ctypes.CDLL(None).prctl(65, 1, 0, 0, 0) == 0"  # PR_SET_MDWE
    if subprocess.run([sys.executable, "-c", switch], check=False, capture_output=True).returncode:
        pytest.skip("this kernel has no PR_SET_MDWE (Linux 6.3)")
    argv = command.argv("fetch", "a")
    program = f"{switch}; import os, sys; os.execv(sys.argv[1], sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", program, *argv],
        cwd=command.cwd,
        env=command.env(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "k\tv\n", "")
