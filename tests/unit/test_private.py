"""Memory for an answer is asked for as the server will, and all of it is given back, with the server mocked."""

from __future__ import annotations

import ctypes
import re
from typing import Any

import pytest

from kemi.server.core import Unavailable
from kemi.server.private import Memory
from kemi.server.structs import PkgApi, PkgFree, PkgMalloc


class Pool:
    """Private memory of so many bytes, and the heap of this process."""

    def __init__(self, size: int, name: bytes = b"q_malloc") -> None:
        self.left = size
        self.blocks: dict[int, int] = {}
        self.kept = PkgMalloc(self.take), PkgFree(self.give)
        self.api = PkgApi(name=name, block=7, malloc=self.kept[0], free=self.kept[1])

    def take(self, block: int, size: int, *where: object) -> int:
        """Allocate."""
        assert block == 7
        assert where[1] == b"has_private"
        if size > self.left:
            return 0
        self.left -= size
        address = 0x1000 * (len(self.blocks) + 1)
        self.blocks[address] = size
        return address

    def give(self, block: int, address: int, *_: object) -> None:
        """Free."""
        assert block == 7
        self.left += self.blocks.pop(address)


def memory(monkeypatch: pytest.MonkeyPatch, pool: Pool | None) -> Memory:
    """Let the server have that memory."""

    def in_dll(_library: object, name: str) -> Any:
        if pool is None:
            raise ValueError(name)
        return pool.api

    monkeypatch.setattr("kemi.server.private.PkgApi", type("Api", (), {"in_dll": staticmethod(in_dll)}))
    return Memory(ctypes.PyDLL(None))


@pytest.mark.parametrize(("size", "fits"), [(0, True), (329_000, True), (330_000, False), (10**9, False)])
def test_three_blocks_must_fit(monkeypatch: pytest.MonkeyPatch, size: int, fits: bool) -> None:
    pool = Pool(1_000_000)
    assert memory(monkeypatch, pool).has_private(size) == fits
    assert (pool.left, pool.blocks) == (1_000_000, {}), "something was not given back"


def test_the_heap(monkeypatch: pytest.MonkeyPatch) -> None:
    found = memory(monkeypatch, Pool(0))
    assert found.has_heap(1 << 20)
    assert not found.has_heap(1 << 58)


@pytest.mark.parametrize("name", [None, b"", b"\x7fELF", b"Q_MALLOC", b"something"])
def test_memory_of_another_kind(monkeypatch: pytest.MonkeyPatch, name: bytes) -> None:
    with pytest.raises(Unavailable, match="private memory is not known"):
        memory(monkeypatch, Pool(1, name))


@pytest.mark.parametrize("name", [b"q_malloc", b"f_malloc", b"tlsf_malloc", b"sys_malloc"])
def test_the_known_kinds(monkeypatch: pytest.MonkeyPatch, name: bytes) -> None:
    assert memory(monkeypatch, Pool(100_000, name)).has_private(1)


def test_no_such_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Unavailable, match=re.escape("does not export _pkg_root")):
        memory(monkeypatch, None)
