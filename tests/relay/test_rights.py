"""The rights on a server that the documentation names: enough for all that each user does, and one less is an error."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from kemi.errors import NotAllowed
from mqueue_kemi import attach
from tests.cli.command import CHECKOUT
from tests.relay.servers import DURABLE, HOST, PATIENCE, PROGRAMS
from tests.support.waits import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.command import Command
    from tests.processes.serve import Serve
    from tests.relay.servers import EngineServer

PAGE = CHECKOUT / "docs" / "howto" / "many-machines.md"
every_server = pytest.mark.parametrize("program", PROGRAMS or ("none",))


def rights_of(user: str) -> list[str]:
    """Return what the page gives to a user."""
    head = f"ACL SETUSER {user} on >PASSWORD "
    (line,) = (line for line in PAGE.read_text("utf-8").splitlines() if line.startswith(head))
    return line[len(head) :].split()


def let_in(engine: EngineServer, user: str, *more: str) -> str:
    """Give a user what the page says, and this; return the URL with which that user comes."""
    with engine.client() as client:
        names = set(client.acl_cat("slow"))
        rights = [right for right in rights_of(user) if right != "+waitaof" or "waitaof" in names]
        client.execute_command("ACL", "SETUSER", user, "reset", "on", ">s3cret", *rights, *more)
    return f"redis://{user}:s3cret@{HOST}:{engine.port}/0"


@every_server
def test_of_the_relay(serve: Serve, command: Command, start: Callable[..., EngineServer], program: str) -> None:
    engine = start(*DURABLE, program=program)
    queue = serve("name=cdr")
    url = let_in(engine, "relay")
    assert command("relay", "--check", "cdr", url, bare=False).code == 0
    assert queue.add("k", "v")
    process = command.start("relay", "cdr", url, bare=False)
    until(lambda: engine.items("cdr"), "it relays")
    process.send_signal(signal.SIGTERM)
    done = command.end(process)
    assert "refuses" not in done.err, done.err


@every_server
def test_of_the_way_back(serve: Serve, command: Command, start: Callable[..., EngineServer], program: str) -> None:
    engine = start(*DURABLE, program=program)
    queue = serve("name=cmd")
    url = let_in(engine, "back")
    assert command("relay", "--check", "--from", "commands", "cmd", url, bare=False).code == 0
    with engine.client() as client:
        client.xadd("mqk:{commands}", {"k": "k", "v": "v"})
        client.xadd("mqk:{commands}", {"other": "no item"})
        process = command.start("relay", "--from", "commands", "cmd", url, bare=False)
        until(lambda: len(queue) == 1, "it relays")
        until(lambda: client.xlen("mqk:{commands}:refused") == 1, "it sets aside what is no item")
    process.send_signal(signal.SIGTERM)
    done = command.end(process)
    assert "refuses" not in done.err, done.err
    with engine.client() as client:
        assert client.hget("mqk:{commands}:reader", "life") is None, "it gave up its claim"


@every_server
def test_of_a_worker(start: Callable[..., EngineServer], program: str) -> None:
    """All that a queue there can do."""
    engine = start(*DURABLE, program=program)
    url = f"{let_in(engine, 'worker')}?dead_letter=failed&max_deliveries=2&max_len=100&timeout={PATIENCE}"
    with attach("cdr", url) as queue:
        assert all(queue.add_many([("k", str(number)) for number in range(6)]))
        assert queue.fetch(PATIENCE)
        for settle in ("done", "reject", "give_back", "later"):
            with queue.reserve(PATIENCE) as item:
                assert item
                if settle == "later":
                    item.give_back(after=0.01)
                else:
                    getattr(item, settle)()
        for count in (len(queue), len(queue.peek(10)), queue.stats().size):
            assert count in (2, 3)  # of three, one comes later
        assert queue.stats().dead_lettered == 1

        def came_twice() -> bool:
            for item in queue.reserve_many(10, 0.1).take():
                item.give_back()
            return len(engine.items("failed")) == 4

        until(came_twice, "what came twice is with the dead letters")


@every_server
def test_one_less(serve: Serve, command: Command, start: Callable[..., EngineServer], program: str) -> None:
    """The check of each of them names the command."""
    engine = start(*DURABLE, program=program)
    serve("name=q")
    url = let_in(engine, "relay", "-info")
    assert "info" in command("relay", "--check", "cdr", url, bare=False).failed(4)
    for less in ("-time", "-xdel", "-xread", "-hset", "-hdel", "-evalsha", "-xinfo"):
        url = let_in(engine, "back", less)
        said = command("relay", "--check", "--from", "commands", "q", url, bare=False).failed(4)
        assert less[1:].upper() in said, (less, said)
    url = let_in(engine, "worker", "-time")
    with pytest.raises(NotAllowed), attach("cdr", url) as queue:
        queue.fetch(0.0)
