"""Whatever lies in a segment: a clear error or a consistent queue, never a crash, a hang, or memory beyond its own."""

from __future__ import annotations

import os
import random
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Callable

import pytest

from kemi.errors import ConfigError
from kemi.queue.shm.naming import SHM_DIR
from kemi.spec import Settings
from tests.processes.sound import faults
from tests.server.harness import Example, Kamailio
from tests.server.process import wait_until
from tests.server.sip import NoReplyError
from tests.stress import crowd, hostile
from tests.support.clients import attach, inner

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.server.harness import Server, Servers

MUTANTS, MANY_MUTANTS = 2_000, 1_000_000


@pytest.fixture
def instances() -> Iterator[list[str]]:
    """Return one instance for each process that tries mutants; what they leave is taken away."""
    names = [f"fuzz-{os.getpid()}-{number}" for number in range(min(4, os.cpu_count() or 1))]
    yield names
    for name in names:
        for path in Path(SHM_DIR).glob(f"mqk.{name}*"):
            path.unlink()


@pytest.mark.timeout(4 * 3600)
def test_mutated_segments(instances: list[str], stress: bool, seed: int, say: Callable[[str], None]) -> None:
    """Header, map, directory, records, key index, lock and length; one process in a crowd may crash without harm."""
    count = MANY_MUTANTS if stress else MUTANTS
    begin = time.monotonic()
    outcomes, failures = crowd.run("tests.stress.mutants", instances, seed, count)
    if stress:
        say(f"{count} mutants, seed {seed}, {time.monotonic() - begin:.0f} s: {outcomes}, {len(failures)} failed")
    assert failures == [], f"seed {seed}: {len(failures)} failed:\n" + "\n".join(map(str, failures[:20]))
    # Mutants that are all refused would try nothing behind the first look.
    assert min(outcomes.values()) > count / 100, outcomes


# --- parameters -------------------------------------------------------------------------------------------------------

STRINGS, MANY_STRINGS = 20_000, 1_000_000


def is_valid(settings: Settings) -> bool:
    """Are these values that the rest of the package can work with?"""
    for name, spec in settings.queues.items():
        limits = 0 <= spec.size < 1 << 31 and 0 <= spec.maxbytes <= 1 << 46
        modes = spec.addmode in (0, 1, 2) and spec.dbmode in (0, 1, 2, 3) and spec.recover in (0, 1, 2)
        if not (spec.name == name and name and limits and modes):
            return False
    right = 0 < settings.lock_timeout <= 3600 and 0 <= settings.max_memory <= 1 << 46 and settings.instance
    return bool(right and settings.mode & 0o600 == 0o600 and not settings.mode & ~0o666 and settings.group >= -1)


@pytest.mark.timeout(3600)
def test_parameters(stress: bool, seed: int, say: Callable[[str], None]) -> None:
    """Each is taken and valid, or a ConfigError that names the parameter; nothing else, and at once."""
    chance = random.Random(seed)  # noqa: S311 no secret
    count, taken, longest = MANY_STRINGS if stress else STRINGS, 0, 0.0
    for number in range(count):
        module, name, value = hostile.parameter(chance)
        what = f"seed {seed}, number {number}: {module!r}, {name!r}, {value!r}"
        settings = Settings()
        begin = time.thread_time()
        try:
            settings.set(module, name, value)  # type: ignore[arg-type]
            taken += 1
        except ConfigError as error:
            if "modparam(" not in str(error):
                pytest.fail(f"{what}: {error}")
        except Exception as error:  # noqa: BLE001 named with what it came from
            pytest.fail(f"{what}: {type(error).__name__}: {error}")
        longest = max(longest, time.thread_time() - begin)
        assert is_valid(settings), what
    assert longest < 2, f"{longest} s"
    assert 0.1 < taken / count < 0.9
    if stress:
        say(f"{count} parameters, seed {seed}: {taken} taken, the longest took {longest * 1000:.1f} ms")


# --- RPC and SIP ------------------------------------------------------------------------------------------------------

CALLS, MANY_CALLS = 600, 20_000
REQUESTS, MANY_REQUESTS = 600, 20_000
SAFE = [["key", "value"], ["", ""], ["\udcff", "x" * 3000]]


def send_frame(path: Path, frame: bytes) -> None:
    """Send one frame to the ctl socket, and read what comes."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(0.05)
        sock.connect(str(path))
        with suppress(OSError):
            sock.sendall(frame)
            sock.recv(65536)


def send_datagram(path: Path, data: bytes, sock: socket.socket) -> None:
    with suppress(OSError):
        sock.sendto(data[:60_000], str(path))
        sock.recv(65536)


def write_line(path: Path, data: bytes) -> None:
    with path.open("wb", buffering=0) as file:
        file.write(data.replace(b"\0", b"")[:4000] + b"\n")


@pytest.mark.timeout(3600)
def test_hostile_rpc(servers: Servers, tmp_path: Path, stress: bool, seed: int, say: Callable[[str], None]) -> None:
    """Frames, datagrams and lines that are no calls, or calls with wrong arguments: it lives, its queues are sound."""
    fifo, dgram = tmp_path / "fifo", tmp_path / "dgram"
    cfg = f'modparam("jsonrpcs", "fifo_name", "{fifo}")\nmodparam("jsonrpcs", "dgram_socket", "{dgram}")'
    server = servers.start(Kamailio(["name=q;size=50", "name=safe"], modules=("jsonrpcs",), cfg=cfg))
    assert server.run(f"return [mq.mq_add('safe', key, value) for key, value in {SAFE!a}]") == [1] * len(SAFE)
    pids = server.process.pids()
    chance = random.Random(seed)  # noqa: S311 no secret
    count = MANY_CALLS if stress else CALLS
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "own"))
        sock.settimeout(0.05)
        for _ in range(count):
            name, arguments = hostile.command(chance)
            way = chance.randrange(3)
            if way == 0:
                send_frame(server.control, hostile.binrpc(chance, name, arguments))
            elif way == 1:
                send_datagram(dgram, hostile.json_call(chance, name, arguments), sock)
            else:
                write_line(fifo, hostile.json_call(chance, name, arguments))
    check_alive(server, pids, f"seed {seed}")
    left = "return [[mq.mqk_get('safe'), mq.mqv_get('safe')] for _ in range(9) if mq.mq_fetch('safe') == 1]"
    assert server.run(left) == SAFE, f"seed {seed}"
    if stress:
        say(f"{count} RPC calls, seed {seed}")


def is_served(server: Server) -> bool:
    """Is a request answered? One may be lost when the socket's buffer is full."""
    with suppress(NoReplyError):
        return server.ping(0)
    return False


def check_alive(server: Server, pids: list[int], where: str) -> None:
    """All processes are the same, requests are served, and the books of all queues agree."""
    assert server.process.pids() == pids, where
    assert server.answers(), where
    names = [line.split()[1] for line in server.kamcmd("mqueue.get_sizes").splitlines() if "name:" in line]
    assert names, where
    for name in names:
        with attach(name, server.instance) as queue:
            stats = queue.stats()
            # That line is the sum of all queues.
            wrong = [text for text in faults(inner(queue)) if not text.startswith("entry in the instance's quota")]
            assert wrong == [], f"{where}: {stats}"
    assert server.process.log_lines("Traceback") == [], server.process.log()[-3000:]


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("config", ["kamailio.cfg", "kamailio-native.cfg"])
def test_hostile_requests(servers: Servers, config: str, stress: bool, seed: int, say: Callable[[str], None]) -> None:
    """Requests to the servers of conf/: no UTF-8, NULs, huge and missing headers; a caller after that is queued."""
    server = servers.start(Example(config))
    pids = server.process.pids()
    chance = random.Random(seed)  # noqa: S311 no secret
    count = MANY_REQUESTS if stress else REQUESTS
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for number in range(count):
            sock.sendto(hostile.sip_request(chance, server.ports[0], number), ("127.0.0.1", server.ports[0]))
            if not number % 20:  # no faster than they are served
                wait_until(lambda: is_served(server), "requests are served", 60)
    assert server.request("MESSAGE", to=b"after", sender=b"everything").status == 202
    wait_until(lambda: "after - call from everything" in server.process.log(), "the caller after that is consumed")
    wait_until(lambda: not len(attach("myq", server.instance)), "the queue is drained")
    check_alive(server, pids, f"seed {seed}")
    if stress:
        say(f"{count} requests to {config}, seed {seed}")
