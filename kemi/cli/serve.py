"""The command serve-metrics: the metrics over HTTP, with prometheus_client."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from kemi.cli import metrics, signals
from kemi.cli.call import Call, Failure
from kemi.cli.codes import NO_PACKAGE, UNUSABLE


def serve_metrics(call: Call) -> int:
    """`serve-metrics --listen HOST:PORT`."""
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

    class Collector:
        """What prometheus_client asks at each scrape."""

        def collect(self) -> Iterator[Any]:
            for metric in metrics.collect(call.instance):
                labels = list(metric.samples[0][0]) if metric.samples else []
                family = families[metric.kind](metric.name, metric.help, labels=labels)
                for values, number in metric.samples:
                    family.add_metric(list(values.values()), number)
                yield family

    registry = prometheus_client.CollectorRegistry()
    registry.register(Collector())
    host, port = call.arguments.listen
    try:
        prometheus_client.start_http_server(port, host, registry=registry)
    except OSError as error:
        raise Failure(UNUSABLE, f"cannot listen on {host}:{port}: {error.strerror or error}") from None
    sys.stderr.write(f"mqueue-kemi: http://{host}:{port}/metrics has instance {call.instance!r}; Ctrl-C ends\n")
    while True:
        signals.wait()
