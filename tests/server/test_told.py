"""What the log tells: the queues at a start, what a stop discards, and what was meant where a script is wrong."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from tests.server.harness import Kamailio

if TYPE_CHECKING:
    from pathlib import Path

    from tests.server.harness import Servers


def test_a_start_tells_its_queues_and_a_stop_what_it_discards(servers: Servers) -> None:
    """One line each, with the numbers; a stop that discards nothing says nothing."""
    server = servers.start(Kamailio(["name=a", "name=b", "name=empty", "name=kept;recover=2"], workers=2))
    ready = f"mqueue_kemi: instance '{server.instance}' is ready, with a, b, empty, kept; kernel: "
    assert [line.partition("): ")[2][: len(ready)] for line in server.process.log_lines("is ready")] == [ready]
    assert server.run("return [mq.mq_add(q, 'k', 'v') for q in ('a', 'a', 'a', 'b', 'kept')]") == [1] * 5
    server.stop()
    assert len(server.process.log_lines("discarded")) == 1
    (line,) = server.process.log_lines(
        "mqueue_kemi: 4 items discarded at this stop, as dbmode and recover of their queues"
    )
    assert line.endswith("say: a 3, b 1")
    again = servers.start(Kamailio(["name=a", "name=kept"], instance=server.instance))
    assert again.process.log_lines("is ready, with a, kept (1 items)")
    assert again.call("mq_fetch", "kept") == 1
    again.stop()
    assert again.process.log_lines("discarded") == []


class WithoutModInit(Kamailio):
    """A server whose script forgets ours."""

    def write_script(self, *args: object, **kwargs: object) -> None:
        super().write_script(*args, **kwargs)  # type: ignore[arg-type]
        path = self.home / "script.py"
        text = path.read_text("utf-8").replace("return mqueue_kemi.mod_init(Script())", "return Script()")
        path.write_text(text, "utf-8")


def test_a_forgotten_mod_init_is_told(servers: Servers) -> None:
    """Not that there are no queues: what is missing in the script."""
    server = servers.start(WithoutModInit())
    assert server.call("mq_add", "q", "k", "v") == -1
    assert server.process.log_lines("mq_add('q')", "return mqueue_kemi.mod_init(Script())")


class OtherPath(Kamailio):
    """A server with another folder first on PATH."""

    path = ""

    def env(self) -> dict[str, str]:
        return {"PATH": f"{self.path}:/usr/sbin:/usr/bin:/sbin:/bin"}


def test_a_package_that_is_missing_for_another_python_on_path(servers: Servers, tmp_path: Path) -> None:
    """The embedded interpreter takes its packages from the first python3 on PATH: the error names it, and the cure."""
    venv = tmp_path / "venv"
    argv = ["/usr/bin/python3", "-I", "-m", "venv", "--without-pip", str(venv)]
    subprocess.run(argv, check=True, timeout=120, capture_output=True)
    OtherPath.path = str(venv / "bin")
    params = [("db_url", f"sqlite:///{tmp_path}/db")]
    server = servers.add(OtherPath(["name=q;dbmode=1"], params=params))
    server.refused()
    (line,) = server.process.log_lines("kemi.errors.ConfigError: db_url: Python's sqlalchemy is missing")
    assert f"sys.prefix {venv}" in line
    assert f"the first python3 on PATH, {venv}/bin/python3" in line
    assert "start the server with another PATH" in line
