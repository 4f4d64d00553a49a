"""The hook at the server's end: where it runs, how often, and however the end comes about."""

from __future__ import annotations

import os
import signal
import textwrap
from typing import TYPE_CHECKING

import pytest

from tests.server.harness import Kamailio
from tests.server.process import wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.server.harness import Servers

ANY_MODE = pytest.mark.parametrize("daemon", [False, True], ids=["-DD", "daemon"])
ATEXIT = pytest.mark.parametrize("options", [(), ("--atexit=no",), ("--atexit=yes",)], ids=["", "no", "yes"])

# What the hook finds when it runs.
WATCH = """
    import os
    from kemi import lifecycle
    from kemi.instance import queues
    stop = lifecycle.stop
    def watched(*arguments):
        with open("/proc/self/task/%d/children" % os.getpid()) as file:
            children = file.read().split()
        with open("/proc/self/stat") as file:
            parent = file.read().split()[3]
        KSR.info("HOOK %d children %d items %s\\n" % (os.getpid(), len(children), [len(q) for q in queues.values()]))
        KSR.info("HOOK reads %s\\n" % KSR.pv.get("$mq_size(q)"))
        stop(*arguments)
    lifecycle.stop = watched
"""


class Watched(Kamailio):
    """A server that tells when its hook runs."""

    def __init__(self, options: Sequence[str] = (), *, daemon: bool = False, handler: str = "pass") -> None:
        self._options = options
        super().__init__(["name=q", "name=w"], workers=2, timers=1, daemon=daemon, handler=handler)
        self.write_script(["name=q", "name=w"])

    def options(self) -> list[str]:
        return list(self._options)

    def write_script(self, definitions: Sequence[str], params: Sequence[tuple[str, object]] = ()) -> None:
        super().write_script(definitions, params)
        script = self.home / "script.py"
        before, start, after = script.read_text("utf-8").partition("class Script(Probe):")
        script.write_text(before + textwrap.dedent(WATCH) + "\n" + start + after, "utf-8")

    def hooks(self) -> list[str]:
        """Return what the hook wrote."""
        return [line.partition("HOOK ")[2] for line in self.process.log_lines("HOOK ")]


@ANY_MODE
@ATEXIT
def test_it_runs_once_in_the_main_process(servers: Servers, daemon: bool, options: Sequence[str]) -> None:
    """After all others are gone, with the items still there and Kamailio's functions still working."""
    server = servers.start(Watched(options, daemon=daemon))
    main = server.main_pid
    assert server.run("return [mq.mq_add('w', 'k', 'v') for _ in range(3)]") == [1] * 3
    server.stop()
    assert server.hooks() == [f"{main} children 0 items [0, 3]", "reads 0"]
    assert server.segments() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_any_signal_that_ends_it(servers: Servers, number: int) -> None:
    """Ctrl-C and SIGTERM."""
    server = servers.start(Watched())
    os.kill(server.main_pid, number)
    server.process.wait_gone()
    assert len(server.hooks()) == 2
    assert server.segments() == []


def test_ended_by_an_operator(servers: Servers) -> None:
    """`kamcmd core.kill` is an end like any other."""
    server = servers.start(Watched(daemon=True))
    server.kamcmd("core.kill")
    server.process.wait_gone()
    assert len(server.hooks()) == 2
    assert server.segments() == []


def test_after_reloads(servers: Servers) -> None:
    """Workers that have run mod_init again have no hook of their own, and new queues go too."""
    server = servers.start(Watched())
    for number in range(3):
        server.write_script(["name=q", "name=w", f"name=new{number}"])
        server.reload()
        # A worker does not reload while the timer runs the script.
        add = f"return mq.mq_size('new{number}') == 1 or mq.mq_add('new{number}', 'k', 'v') == 1"
        wait_until(lambda: server.run(add, worker=number % 2), "the worker reloads")  # noqa: B023 called at once
    assert len([path for path in server.segments() if "~" not in path.name]) == 6  # the other worker may be making one
    server.stop()
    assert len(server.hooks()) == 2
    assert server.segments() == []


def test_a_process_of_the_script(servers: Servers) -> None:
    """A child that the script forks and that ends does not end the queues."""
    server = servers.start(Watched())
    code = """
        import os
        pid = os.fork()
        if not pid:
            os._exit(0)
        os.waitpid(pid, 0)
        return mq.mq_add('w', 'k', 'v')
    """
    assert server.run(code) == 1
    assert server.call("mq_size", "w", worker=1) == 1
    assert server.hooks() == []


@ANY_MODE
def test_a_start_that_fails_late(servers: Servers, daemon: bool) -> None:
    """The queues were there when the script failed: they go with it."""
    server = servers.add(Watched(daemon=daemon))
    script = server.home / "script.py"
    made = "mqueue_kemi.mod_init(Script())"
    text = script.read_text("utf-8")
    assert made in text
    script.write_text(text.replace(f"return {made}", f"{made}; raise RuntimeError('too late')"), "utf-8")
    server.refused()
    assert server.process.log_lines("RuntimeError: too late")
    assert server.segments() == []


def test_a_hook_that_fails_stops_nothing(servers: Servers) -> None:
    """An error in it is one line; the server ends as it would without it."""
    server = Watched()
    script = server.home / "script.py"
    text = script.read_text("utf-8").replace(
        "    stop(*arguments)\n", "    stop(*arguments)\n    raise SystemExit(7)\n"
    )
    assert "SystemExit" in text
    script.write_text(text, "utf-8")
    servers.start(server)
    server.stop()
    wait_until(lambda: server.process.log_lines("mqueue_kemi: at the server's stop: 7"), "the line")
    assert server.segments() == []
