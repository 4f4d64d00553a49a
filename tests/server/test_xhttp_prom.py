"""The page about monitoring puts sizes of queues into Kamailio's own metrics: its script and lines, as they stand."""

from __future__ import annotations

import re
import urllib.request
from typing import TYPE_CHECKING

from tests.docs import pages
from tests.server.harness import CHECKOUT, Server
from tests.server.process import wait_until
from tests.server.sip import HOST
from tests.support.clients import attach
from tests.support.ports import free_ports

if TYPE_CHECKING:
    from pathlib import Path

    from tests.server.harness import Servers

PAGE = "docs/howto/monitoring.md"


def block(language: str) -> str:
    """Return the page's block about xhttp_prom."""
    (found,) = (one.code for one in pages.blocks(PAGE) if one.language == language and "xhttp_prom" in one.code)
    return found


class Prometheus(Server):
    """The page's server, with ports of its own."""

    def __init__(self) -> None:
        (self.http,) = free_ports(1)
        super().__init__()
        config = block("cfg").replace("/etc/kamailio", str(self.home)).replace("127.0.0.1:9494", f"{HOST}:{self.http}")
        more = f'#!KAMAILIO\nlisten=udp:{HOST}:{self.ports[0]}\nchildren=1\nloadmodule "ctl.so"\nloadmodule "kex.so"\n'
        self.config().write_text(more + config.replace("interval=5;", "interval=100000u;"), "utf-8")
        path = f"import sys\nsys.path.insert(0, {str(CHECKOUT)!r})\n"
        script = block("python").replace("QUEUES =", f'modparam("mqueue", "instance", {self.instance!r})\nQUEUES =')
        script = script.replace("        return 1\n", '        KSR.sl.send_reply(200, "OK")\n        return 1\n', 1)
        (self.home / "kamailio.py").write_text(path + script, "utf-8")

    def config(self) -> Path:
        return self.home / "kamailio.cfg"

    def _is_whole(self) -> bool:
        """Those that serve TCP wait in a way of their own; the test waits for what it needs."""
        return True

    def metrics(self) -> dict[str, int]:
        """Return what a scrape says of each queue."""
        try:
            with urllib.request.urlopen(f"http://{HOST}:{self.http}/metrics", timeout=10) as answer:
                text = answer.read().decode()
        except OSError:
            return {}
        sample = r'^kamailio_mqueue_items *\{queue="(\w+)"\} (\d+)'
        return {name: int(number) for name, number in re.findall(sample, text, re.MULTILINE)}


def test_sizes_are_in_kamailios_own_metrics(servers: Servers) -> None:
    server = servers.start(Prometheus())
    with attach("cdr", server.instance) as queue:
        queue.add_many([("k", "v")] * 3)
        wait_until(lambda: server.metrics() == {"calls": 0, "cdr": 3}, "three items are told")
        queue.fetch()
        wait_until(lambda: server.metrics() == {"calls": 0, "cdr": 2}, "two items are told")
