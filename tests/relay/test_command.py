"""`mqueue-kemi relay` as its users start it: beginning, ending, checks, files and metrics."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING

import pytest

from kemi.cli.main import main
from kemi.relay.aof import FileBegunAnew, NotBegunAnew
from tests.relay.servers import HOST, PATIENCE
from tests.support.ports import free_port
from tests.support.waits import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from kemi.relay.link import Link
    from tests.cli.command import Command, Done
    from tests.processes.serve import Serve
    from tests.relay.servers import EngineServer


def test_sigterm_ends_it_and_loses_nothing(
    serve: Serve, command: Command, engine: EngineServer, tmp_path: Path
) -> None:
    """What was sent is done here, what was not stays, and the metrics say so."""
    queue = serve("name=q")
    file = tmp_path / "relay.prom"
    process = command.start("relay", "q", engine.url, "--metrics", str(file), bare=False)
    assert all(queue.add_many([("k", str(number)) for number in range(500)]))
    until(lambda: not queue.held(), "all are relayed")
    engine.hold()
    assert all(queue.add_many([("k", str(number)) for number in range(500, 600)]))
    until(lambda: queue.stats().reserved, "the relay has some of them")
    process.send_signal(signal.SIGTERM)
    done = command.end(process)
    assert done.code == -signal.SIGTERM, done.err
    engine.release()
    assert [int(item.value) for item in queue.peek(1000)] == list(range(500, 600))
    assert all(item.startswith("mqueue-kemi: queue 'q': ") for item in done.err.splitlines()), done.err
    text = file.read_text()
    assert f'mqueue_kemi_relay_sent_total{{mqueue_instance="{serve.instance}",queue="q",direction="to"}} 500.0' in text
    assert 'direction="to"} 100.0' in text  # the lag
    process = command.start("relay", "q", engine.url, bare=False)
    until(lambda: not queue.held(), "the rest is relayed")
    process.send_signal(signal.SIGTERM)
    command.end(process)
    assert [int(item[b"v"]) for item in engine.items("q")] == list(range(600))


def test_an_engine_that_comes_later(serve: Serve, command: Command, start: Callable[..., EngineServer]) -> None:
    """The relay waits for it, and says so once."""
    queue = serve("name=q")
    assert queue.add("k", "v")
    port = free_port()
    process = command.start("relay", "q", f"redis://{HOST}:{port}/0", "--durability", "memory", bare=False)
    assert process.stderr is not None
    assert b"cannot connect" in process.stderr.readline()
    start(port=port)
    line = b"?"
    while b"connected to" not in line and line:  # one that only begins may be said to be slow, or loading
        line = process.stderr.readline()
        assert line.count(b"cannot connect") == 0, line
    until(lambda: not queue.held(), "all are relayed")
    process.send_signal(signal.SIGTERM)
    command.end(process)


@pytest.mark.parametrize(
    ("options", "durability", "says"),
    [
        (("--maxmemory-policy", "allkeys-lru"), "memory", "maxmemory-policy=allkeys-lru"),
        (("--appendonly", "no"), "fsync", "appendonly=no"),
        (("--appendonly", "yes", "--appendfsync", "no"), "fsync", "appendfsync=no"),
        (("--replica-serve-stale-data", "yes"), "replicas=1", "connected_slaves=0"),
    ],
)
def test_what_would_lose_items_is_refused(
    serve: Serve,
    command: Command,
    start: Callable[..., EngineServer],
    options: tuple[str, ...],
    durability: str,
    says: str,
) -> None:
    """The error names the setting and its value, and nothing is sent."""
    queue = serve("name=q")
    engine = start(*options)
    assert queue.add("k", "v")
    done = command("relay", "--check", "q", engine.url, "--durability", durability, bare=False)
    assert says in done.failed(6 if "replicas" in durability else 2)
    if "replicas" not in durability:
        assert says in command("relay", "q", engine.url, "--durability", durability, bare=False).failed(2)
    assert len(queue) == 1


def test_check_says_that_all_is_well(serve: Serve, command: Command, engine: EngineServer) -> None:
    serve("name=q")
    done = command("relay", "--check", "--json", "q", engine.url, bare=False)
    assert done.code == 0, done.err
    assert json.loads(done.out)["durability"] == "fsync"
    assert not engine.items("q")


def test_check_while_the_file_is_begun_anew(
    engine: EngineServer, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A relay waits for it. Before 7.0 a server does not tell whether it was done, and each check asks for it."""

    def not_yet(_: FileBegunAnew, link: Link) -> None:
        raise NotBegunAnew(link.where)

    monkeypatch.setattr(FileBegunAnew, "ensure", not_yet)
    assert main(["relay", "--check", "q", engine.url]) == 0
    assert "all is well" in capfd.readouterr().err


def test_a_replica_is_no_target(serve: Serve, command: Command, start: Callable[..., EngineServer]) -> None:
    serve("name=q")
    engine = start("--replicaof", HOST, str(free_port()))
    done = command("relay", "--check", "q", engine.url, "--durability", "memory", bare=False)
    assert "role=slave" in done.failed(6)


def test_a_key_of_another_program(serve: Serve, command: Command, engine: EngineServer) -> None:
    serve("name=q")
    with engine.client() as client:
        client.set("mqk:{q}", "mine")
    assert "is not a queue" in command("relay", "--check", "q", engine.url, bare=False).failed(6)


def test_a_user_with_few_rights(serve: Serve, command: Command, engine: EngineServer, tmp_path: Path) -> None:
    """The rights that the documentation names are enough, one less is an error, and no message shows the password."""
    queue = serve("name=q")
    rights = [
        "+@read",
        "+@write",
        "+@scripting",
        "+@connection",
        "+info",
        "+config|get",
        "+wait",
        "+waitaof",
        "+bgrewriteaof",
    ]
    with engine.client() as client:
        version = client.info("server")["redis_version"]
        if version < "7.2":
            rights.remove("+waitaof")
        client.execute_command("ACL", "SETUSER", "relay", "on", ">s3cret", "~mqk:{q}*", *rights)
    password = tmp_path / "password"
    password.write_text("s3cret\n")
    options = ("--user", "relay", "--password-file", str(password))
    done = command("relay", "--check", "q", engine.url, *options, bare=False)
    assert done.code == 0, done.err
    assert queue.add("k", "v")
    process = command.start("relay", "q", engine.url, *options, bare=False)
    until(lambda: engine.items("q"), "it relays")
    process.send_signal(signal.SIGTERM)
    assert "s3cret" not in command.end(process).err
    with engine.client() as client:
        client.execute_command("ACL", "SETUSER", "relay", "-xadd")
    said = command("relay", "--check", "q", engine.url, *options, bare=False).failed(4)
    assert "XADD" in said
    assert "s3cret" not in said
    password.write_text("wrong\n")
    said = command("relay", "--check", "q", engine.url, *options, bare=False).failed(4)
    assert "wrong" not in said.replace("WRONGPASS", "")
    url = f"redis://relay:s3cret@{HOST}:{free_port()}/0"
    said = command("relay", "--check", "q", url, bare=False).failed(6)
    assert "s3cret" not in said


def test_a_file_says_all(serve: Serve, command: Command, engine: EngineServer, tmp_path: Path) -> None:
    queue = serve("name=q")
    assert queue.add("k", "v")
    file = tmp_path / "q.toml"
    file.write_text(
        f'queue = "q"\nurl = "unix://{engine.socket}"\ninstance = "{serve.instance}"\nstream = "cdr"\nbatch = 10\n'
    )
    process = command.start("relay", "--config", str(file), bare=False)
    until(lambda: engine.items("cdr"), "it relays")
    process.send_signal(signal.SIGTERM)
    command.end(process)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('queue = "q"', "url is missing"),
        ('queue = "q"\nurl = "http://x"', '"http" is no engine'),
        ('queue = "q"\nurl = "redis://h"\nspeed = 1', "no setting speed"),
        ('queue = "q"\nurl = "redis://h"\nbatch = 0', "batch = 0"),
        ('queue = "q"\nurl = "redis://h"\nbatch = 1000', "batch = 1000"),
        ('queue = "q"\nurl = "redis://h"\nreplay = "5"', "replay = '5'"),
        ('queue = "q"\nurl = "redis://h"\ndurability = "some"', "durability=some"),
        ('queue = "q"\nurl = "redis://h"\ntls_ca = "/ca"', "write rediss://"),
        ('queue = "q"\nurl = "rediss://h"\ntls_ca = "ca"', "whole path"),
        ("queue = q", "is not TOML"),
    ],
)
def test_a_file_with_a_mistake(command: Command, tmp_path: Path, text: str, says: str) -> None:
    """One line names the file and what is wrong."""
    file = tmp_path / "q.toml"
    file.write_text(text)
    said = command("relay", "--config", str(file), bare=False).failed(2)
    assert says in said
    assert str(file) in said


def test_the_commands_take_a_url(command: Command, engine: EngineServer) -> None:
    """As they take the name of an instance."""

    def run(*arguments: str, stdin: bytes = b"") -> Done:
        return command("--instance", f"{engine.url}?timeout={PATIENCE}", *arguments, stdin=stdin, bare=False)

    for number in range(3):
        assert run("add", "q", "k", str(number)).code == 0
    assert run("peek", "q").out == "k\t0\nk\t1\nk\t2\n"
    assert run("fetch", "q").out == "k\t0\n"
    assert run("fetch", "q", "--reserve").out == "k\t1\n"
    drained = run("drain", "q", "--reserve").out
    assert json.loads(drained)["value"] == "2"
    assert run("fetch", "q").code == 1
    assert run("fill", "q", stdin=drained.encode()).code == 0
    assert run("consume", "q").out == "k\t2\n"
    assert "cannot connect" in command("--instance", f"redis://{HOST}:{free_port()}", "peek", "q", bare=False).failed(6)


@pytest.mark.parametrize(
    "arguments",
    [
        "sizes",
        "stats",
        "stats --prometheus",
        "stats --json q",
        "top -n 1",
        "check --live",
        "drop q",
        "save q --db-url sqlite:////none",
        "serve-metrics --listen 127.0.0.1:0",
        "relay q redis://h",
    ],
)
def test_a_command_for_this_host_only(command: Command, arguments: str) -> None:
    """It says so, and does not take the URL for a name, nor show its password."""
    url = f"redis://u:s3cret@{HOST}:{free_port()}/0"
    said = command("--instance", url, *arguments.split(), bare=False).failed(2)
    assert "an engine's URL is for peek, add" in said
    assert "s3cret" not in said


def test_json_shows_no_password(command: Command, engine: EngineServer) -> None:
    with engine.client() as client:
        client.execute_command("ACL", "SETUSER", "a@b", "on", ">s3cret", "~*", "+@all")
    url = f"redis://a%40b:s3cret@{HOST}:{engine.port}/0?timeout={PATIENCE}"
    for arguments in (("add", "--json", "q", "k", "v"), ("fill", "--json", "q")):
        found = command("--instance", url, *arguments, bare=False)
        assert (found.code, found.err) == (0, "")
        assert json.loads(found.out)["instance"] == f"redis://a%40b@{HOST}:{engine.port}/0"


def test_a_command_line_with_a_mistake(command: Command) -> None:
    assert "name a queue" in command("relay").failed(2)
    assert "the URL of an engine" in command("relay", "q").failed(2)
    assert "beside it" in command("relay", "q", "redis://h", "--config", "/f").failed(2)
    assert "is no engine" in command("relay", "q", "amqp://user:s3cret@host").failed(2)
