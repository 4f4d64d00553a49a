"""Ports of 127.0.0.1 for what a test starts: nobody else is given them between now and that start.

A port that the kernel chooses is one that it gives to others too: to any client for a connection, to a test beside this
one. So they are taken from below that range, each test process from a block of its own, in turn.
"""

from __future__ import annotations

import atexit
import itertools
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

HOST = "127.0.0.1"
FIRST, BLOCK = 10_240, 64
_LOCAL = Path("/proc/sys/net/ipv4/ip_local_port_range")  # which the kernel chooses from
_blocks: dict[int, Iterator[int]] = {}  # by process: a fork has its own


def free_ports(count: int) -> list[int]:
    """Return ports that nobody has for UDP or TCP."""
    mine = _blocks.get(os.getpid())
    if mine is None:
        mine = _blocks[os.getpid()] = _claimed()
    free = list(itertools.islice(filter(_is_free, itertools.islice(mine, BLOCK)), count))
    assert len(free) == count, f"of {BLOCK} ports, so many are free: {len(free)}"
    return free


def free_port() -> int:
    return free_ports(1)[0]


def _claimed() -> Iterator[int]:
    """Claim a block for this process, until it ends; return its ports, again and again."""
    end = int(_LOCAL.read_text("ascii").split()[0])
    blocks = range(FIRST, end - BLOCK, BLOCK)
    for number in range(len(blocks)):
        first = blocks[(os.getpid() + number) % len(blocks)]
        # A name in the network's own namespace, which nobody has to remove.
        claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            claim.bind(f"\0mqueue-kemi-test-ports-{first}")
        except OSError:
            claim.close()
            continue
        atexit.register(claim.close)
        return itertools.cycle(range(first, first + BLOCK))
    raise AssertionError("every block of ports is taken by another test process")


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.socket() as tcp:
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: what has ended is no hindrance
        try:
            udp.bind((HOST, port))
            tcp.bind((HOST, port))
        except OSError:
            return False
    return True
