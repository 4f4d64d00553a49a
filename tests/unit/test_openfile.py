"""No descriptor is lost, and nothing that a handler raises is dropped, wherever handlers raise in attach and close."""

from __future__ import annotations

import contextlib
import gc
import os
import random
import select
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from kemi.owner import this_process
from kemi.queue.catalog.registry import Registry
from kemi.queue.client.attached import AttachedQueue
from kemi.queue.queue import Queue
from kemi.queue.sync.openfile import OpenFile

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_mock import MockerFixture

ROUNDS = 1500
LONGEST = 1e-3  # seconds until the handler raises: some attach in that time


class Boom(Exception):
    """What the handler raises."""


def _files() -> list[str]:
    """What this process has open."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the one of the list itself
            found.append(os.readlink(f"/proc/self/fd/{number}"))
    return sorted(found)


def test_attach_and_close_lose_nothing(instance: str, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = Registry.create(instance, this_process(), 1 << 30)
    Queue.create(instance, "q", window=16 << 20, registry=registry)
    dropped: list[str] = []
    monkeypatch.setattr("sys.unraisablehook", lambda unraisable: dropped.append(repr(unraisable.object)))
    armed, booms = False, 0

    def strike(*_: object) -> None:
        nonlocal armed
        if armed:
            armed = False
            raise Boom

    before = signal.signal(signal.SIGALRM, strike)
    gc.collect()
    descriptors = _files()
    try:
        for _ in range(ROUNDS):
            try:
                armed = True
                signal.setitimer(signal.ITIMER_REAL, random.random() * LONGEST + 1e-6)  # noqa: S311 moments, no secrets
                AttachedQueue(instance, "q").close()
            except Boom:
                booms += 1
            armed = False
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert booms > ROUNDS // 100
    assert [text for text in dropped if "gc_callback" not in text] == []  # that is hypothesis's own
    gc.collect()
    assert _files() == descriptors


def test_a_descriptor_is_closed_in_c_beside_gevent(tmp_path: Path, mocker: MockerFixture) -> None:
    """Another poll than C's would let other greenlets run while Python drops an object."""
    polls = select.poll
    original = mocker.Mock(side_effect=lambda module, name: {("select", "poll"): polls}[module, name])
    mocker.patch.dict(sys.modules, {"gevent.monkey": mocker.Mock(get_original=original)})
    mocker.patch.object(select, "poll", side_effect=AssertionError("gevent's"))
    (tmp_path / "file").touch()
    file = OpenFile.open(str(tmp_path / "file"), os.O_RDWR)
    number = file.number
    file.keep()
    assert file.is_still()
    del file
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)
