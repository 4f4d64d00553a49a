# SPDX-License-Identifier: GPL-2.0-or-later
"""The command serve-metrics: the metrics over HTTP, with prometheus_client."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Sequence
from itertools import chain
from socketserver import ThreadingMixIn
from typing import Any, Callable
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from kemi.cli import metrics, relaymetrics, signals
from kemi.cli.call import Call, Failure
from kemi.cli.output import say
from kemi.cli.usage.codes import NO_PACKAGE, UNUSABLE


class _Server(ThreadingMixIn, WSGIServer):
    """An HTTP server that answers each scrape in a thread of its own, so that one that stands still stops no other."""

    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    timeout = 30  # seconds for a request

    def log_message(self, *_: object) -> None:
        """Say nothing: a scrape is no event."""


def serve_metrics(call: Call) -> int:
    """`serve-metrics --listen HOST:PORT`."""
    instance = None if call.arguments.all else call.instance
    host, port = call.arguments.listen
    server = _listen(host, port, _application(instance, call.arguments.relay_metrics))
    url = _url(server)
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    if call.arguments.json:
        call.as_json({"instance": instance, "url": url})
    else:
        what = "all instances" if instance is None else f"instance {instance!r}"
        say(f"{url} has {what}; Ctrl-C ends")
    while True:
        signals.wait()


def _application(instance: str | None, relays: Sequence[str]) -> Callable[..., Any]:
    try:
        import prometheus_client
        from prometheus_client import core
    except ImportError:
        raise Failure(
            NO_PACKAGE,
            "serve-metrics needs the Python package prometheus_client: apt install python3-prometheus-client, or "
            "pip install prometheus-client; stats --prometheus does without",
        ) from None
    families = {metrics.GAUGE: core.GaugeMetricFamily, metrics.COUNTER: core.CounterMetricFamily}

    def histogram(metric: metrics.Metric) -> Any:
        labels = list(metric.buckets[0][0]) if metric.buckets else []
        family = core.HistogramMetricFamily(metric.name, metric.help, labels=labels)
        for values, waited in metric.buckets:
            family.add_metric(list(values.values()), metrics.cumulative(waited), waited.total)
        return family

    class Collector:
        """What prometheus_client asks at each scrape."""

        def collect(self) -> Iterator[Any]:
            for metric in chain(metrics.collect(instance), relaymetrics.collect(relays, instance)):
                if metric.kind == metrics.HISTOGRAM:
                    yield histogram(metric)
                    continue
                labels = list(metric.samples[0][0]) if metric.samples else []
                family = families[metric.kind](metric.name, metric.help, labels=labels)
                for values, number in metric.samples:
                    family.add_metric(list(values.values()), number)
                yield family

    registry = prometheus_client.CollectorRegistry()
    registry.register(Collector())
    application: Callable[..., Any] = prometheus_client.make_wsgi_app(registry)
    return application


def _listen(host: str, port: int, application: Callable[..., Any]) -> _Server:
    try:
        (family, _, _, _, address), *_ = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        kind = type("_Server", (_Server,), {"address_family": family})
        server: _Server = kind(address[:2], _Quiet)
    except OSError as error:
        raise Failure(UNUSABLE, f"cannot listen on {host}:{port}: {error.strerror or error}") from None
    server.set_app(application)
    return server


def _url(server: _Server) -> str:
    host, port = server.server_address[:2]
    name = host.decode() if isinstance(host, (bytes, bytearray)) else str(host)
    return f"http://{f'[{name}]' if ':' in name else name}:{port}/metrics"
