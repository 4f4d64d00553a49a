"""Trust beside a Kamailio that root starts with -u kamailio: programs of several users, each an own interpreter."""

from __future__ import annotations

import json
import pwd
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.server.harness import Kamailio
from tests.server.test_cli import PYTHON, Commands

if TYPE_CHECKING:
    from tests.server.harness import Servers

STRANGER, WORKER, GROUP = 45002, 45003, 46000
USE = """
import json, os, sys
import mqueue_kemi
try:
    with mqueue_kemi.attach("q", sys.argv[1], owner=sys.argv[2] or None) as queue:
        outcome = [bool(queue.add("from", str(os.getuid()))), [item.key for item in queue.peek(9)]]
except mqueue_kemi.MqueueError as error:
    outcome = [type(error).__name__, str(error)]
print(json.dumps(outcome))
"""
FORGE = """
import os, sys
from kemi.owner import this_process
from kemi.queue.format import layout
from kemi.queue.queue import Queue
from kemi.queue.catalog.registry import Registry
from kemi.queue.shm.segment import Access
instance = sys.argv[1]
Registry.create(instance, this_process(), 1 << 30, access=Access(0o666))
Queue.create(instance, "q", window=layout.CHUNK, access=Access(0o666)).add("forged", "item")
"""


def run(folder: Path, code: str, user: int | str, *arguments: str, groups: str = "") -> str:
    """Run a program as another user."""
    who = [f"--reuid={user}", f"--regid={user}", f"--groups={groups}" if groups else "--clear-groups"]
    argv = ["setpriv", *who, PYTHON, "-B", "-c", code, *arguments]
    done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, timeout=60, check=True, env={})
    return done.stdout


def use(folder: Path, instance: str, user: int | str, owner: str = "", groups: str = "") -> Any:
    return json.loads(run(folder, USE, user, instance, owner, groups=groups))


@pytest.fixture
def server(servers: Servers) -> Kamailio:
    return servers.start(Kamailio(user="kamailio", params=[("mode", "0660"), ("group", str(GROUP))]))


def test_who_gets_at_the_servers_queue(server: Kamailio, readable: Path) -> None:
    """As kamailio, and a member of the group; root's worker when it names the user; a stranger never."""
    assert server.call("mq_add", "q", "mine", "v") == 1
    assert use(readable, server.instance, "kamailio") == [True, ["mine", "from"]]
    assert use(readable, server.instance, WORKER, groups=str(GROUP))[0] is True
    kind, text = use(readable, server.instance, 0)
    assert kind == "NotAllowed"
    assert f"belongs to user {pwd.getpwnam('kamailio').pw_uid} (kamailio)" in text
    assert use(readable, server.instance, 0, owner="kamailio")[0] is True
    kind, text = use(readable, server.instance, STRANGER)
    assert (kind, f"not allowed for user {STRANGER}" in text) == ("NotAllowed", True)
    assert server.run("return mq.mq_size('q'), mq.mq_fetch('q'), mq.mqk_get('q')") == (4, 1, "mine")


def test_roots_commands(server: Kamailio) -> None:
    """They become kamailio, whatever they do; also drop, when that server was killed."""
    assert server.call("mq_add", "q", "k", "v") == 1
    command = Commands(server.instance)
    try:
        assert command("peek", "q") == (0, "k\tv\n")
        code, out = command("consume", "q", "--exec", "id -un; id -Gn")
        assert (code, out.split()) == (0, ["kamailio", "kamailio"])
        assert command("add", "q", "1", "v") == (0, "")
        assert server.run("return mq.mq_size('q')") == 1
        server.process.kill()
        code, out = command("drop", "--yes")
        assert (code, "took away instance" in out) == (0, True), out
        assert server.segments() == []
    finally:
        command.end()


@pytest.mark.parametrize(("first", "second"), [("kamailio", ""), ("", "kamailio"), ("", ""), ("kamailio", "kamailio")])
def test_a_start_beside_a_living_server(servers: Servers, first: str, second: str) -> None:
    """Whoever they run as, it says that the instance is in use, by which process of whom, and nothing of removing."""
    server = servers.start(Kamailio(user=first, daemon=True))
    log = servers.add(Kamailio(user=second, daemon=True, instance=server.instance)).refused()
    uid = pwd.getpwnam(first or "root").pw_uid
    (line,) = [line for line in log.splitlines() if line.startswith("kemi.errors.")]
    assert f"in use by pid {server.main_pid}, user {uid} ({first or 'root'})" in line
    assert '"instance"' in line
    assert "remove" not in line
    assert server.call("mq_add", "q", "k", "v") == 1


def test_a_start_by_a_user_who_may_not_look(servers: Servers, readable: Path) -> None:
    """It says that the instance is in use, and by whose server."""
    server = servers.start(Kamailio())
    start = "from kemi.instance import Instance; from kemi.spec import Settings; import sys\ntry: "
    start += "Instance.open(Settings(instance=sys.argv[1]))\nexcept Exception as error: print(error)"
    out = run(readable, start, "kamailio", server.instance)
    assert f"instance '{server.instance}' in use by a server of user 0 (root)" in out


@pytest.mark.parametrize("user", [0, "kamailio", STRANGER])
def test_drop_of_a_living_server(server: Kamailio, readable: Path, user: int | str) -> None:
    """It is refused, says whose it is, and advises nobody to remove anything."""
    code = "import sys; from kemi.cli.main import main; sys.stderr = sys.stdout; print(main(sys.argv[1:]))"
    out = run(readable, code, user, "--instance", server.instance, "drop", "--yes")
    if user == STRANGER:
        assert f"user {pwd.getpwnam('kamailio').pw_uid} (kamailio)" in out
    else:
        assert f"pid {server.main_pid}, user {pwd.getpwnam('kamailio').pw_uid} (kamailio), which is not proved" in out
    assert "remove" not in out
    assert server.call("mq_add", "q", "k", "v") == 1


def test_a_stranger_takes_the_servers_name(servers: Servers, server: Kamailio, readable: Path) -> None:
    """After the server's end: nobody uses what he put there, the next start is refused and says who he is."""
    server.stop()
    try:
        run(readable, FORGE, STRANGER, server.instance)
        for user, owner, groups in (("kamailio", "", ""), (WORKER, "", str(GROUP)), (0, "", ""), (0, "kamailio", "")):
            kind, text = use(readable, server.instance, user, owner, groups)
            assert (kind, f"belongs to user {STRANGER}" in text) == ("NotAllowed", True)
        command = Commands(server.instance)
        for arguments in (("peek", "q"), ("drain", "q"), ("fetch", "q")):
            code, out = command(*arguments)
            assert (code, f"--owner {STRANGER}" in out) == (4, True), out
        command.end()
        second = servers.add(Kamailio(instance=server.instance, user="kamailio"))
        assert f"belongs to user {STRANGER}" in second.refused()
    finally:
        for path in Path("/dev/shm").glob(f"mqk.{server.instance}*"):
            path.unlink()
