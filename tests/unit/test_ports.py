"""Ports for servers of tests: none is given to two."""

from __future__ import annotations

import socket
from multiprocessing import get_context
from pathlib import Path

import pytest

from tests.support import ports


def test_in_turn() -> None:
    """What was given is not given again soon, and it is none that the kernel gives to clients."""
    given = ports.free_ports(10) + ports.free_ports(10)
    assert len(set(given)) == 20
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text("ascii").split()[0])
    assert max(given) < lowest


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
def test_one_that_is_taken_is_passed_over(kind: socket.SocketKind) -> None:
    taken = ports.free_port()
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(kind == socket.SOCK_STREAM))  # as `_is_free` does
        sock.bind((ports.HOST, taken))
        if kind == socket.SOCK_STREAM:
            sock.listen()
        again = [ports.free_port() for _ in range(2 * ports.BLOCK)]
    assert taken not in again


def test_processes_have_blocks_of_their_own() -> None:
    mine = {port // ports.BLOCK for port in ports.free_ports(5)}
    with get_context("fork").Pool(1) as pool:
        theirs = {port // ports.BLOCK for port in pool.apply(ports.free_ports, (5,))}
    assert len(mine) == len(theirs) == 1
    assert mine != theirs
