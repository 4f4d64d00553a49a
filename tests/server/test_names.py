"""A routing script whose file has the name of our package: the server does not start, and its log says why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.server.harness import Kamailio

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.server.harness import Servers


class NamedKemi(Kamailio):
    """A server whose script is kemi.py."""

    def write_script(self, definitions: Sequence[str], params: Sequence[tuple[str, object]] = ()) -> None:
        super().write_script(definitions, params)
        (self.home / "script.py").rename(self.home / "kemi.py")

    def _config_text(self, timers: int, modules: Sequence[str], cfg: str) -> str:
        return super()._config_text(timers, modules, cfg).replace("/script.py", "/kemi.py")


def test_a_script_named_kemi_is_told(servers: Servers) -> None:
    """The line names the file, and what to rename."""
    server = servers.add(NamedKemi())
    server.refused()
    found = server.process.log_lines("ImportError: mqueue_kemi cannot use its own package kemi: ")
    assert len(found) == 1
    assert f"{server.home}/kemi.py has the name kemi too" in found[0]
    assert 'modparam("app_python3", "load"' in found[0]
