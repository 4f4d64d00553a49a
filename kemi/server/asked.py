# SPDX-License-Identifier: GPL-2.0-or-later
"""Was the server asked to end, or did it end by itself, because a process of it died?

Kamailio's own word for that, `sig_flag`, holds the first signal only. When everybody gets SIGTERM or SIGINT at once
(systemd's KillMode, Ctrl-C), a worker's end may reach the main process first, and the request to end is ignored there.

So the kernel takes a note: SIGTERM and SIGINT are delivered on a stack of their own (sigaltstack), where it writes for
each who sent it (siginfo). The handlers stay Kamailio's, and no code of ours runs in one. Where in that stack the note
lies is measured at the start, with a harmless signal; where that fails, `sig_flag` alone counts.

The main process of a daemon sends SIGTERM to its whole group, itself included. That would lie over the note of a
request that came before. So where it is still open who wants the end, the other processes of the group get it one by
one, in the callback with which the core begins its stop, and the core is told that it has no group of its own.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import signal
import struct
import time
from collections.abc import Callable, Iterator
from typing import Any

from kemi.server import core

_STACK = (
    1 << 18
)  # bytes; the kernel's frame takes some thousands, and a handler of Kamailio's may write a line to the log
_ENDS = (signal.SIGTERM, signal.SIGINT)
_NOTE = struct.Struct("<iii4xiI")  # the beginning of siginfo: signal, errno, code, pad, pid, uid
_FROM_A_CALL = range(-6, 1)  # codes of kill, tgkill and sigqueue: the pid is true then
_ON_STACK, _WITH_INFO, _DISABLED = 0x08000000, 4, 2
_GRACE = 1.0  # seconds; whoever signals all processes one after the other is done by then
_LOOK = 0.005  # seconds

_Callback = ctypes.CFUNCTYPE(None)


class _Action(ctypes.Structure):
    """struct sigaction of 64-bit Linux."""

    _fields_ = (
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_ulong * 16),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    )


class _Stack(ctypes.Structure):
    """stack_t."""

    _fields_ = (("at", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


class _Callbacks(ctypes.Structure):
    """sr_corecb_t: what the core calls when it is ready, and when it begins to stop."""

    _fields_ = (("ready", ctypes.c_void_p), ("shutdown", ctypes.c_void_p))


class Recorder:
    """Notes who asked this process to end. Raises Unavailable where that cannot be had."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._asked = False
        self._memory = mmap.mmap(-1, _STACK, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._view = (ctypes.c_char * _STACK).from_buffer(self._memory)
        before = _Stack()
        self._stack(_Stack(ctypes.addressof(self._view), 0, _STACK), before)
        try:
            self._at = self._measure()
        except BaseException:
            self._stack(before if before.at else _Stack(None, _DISABLED, 0), None)
            raise
        for number in _ENDS:
            action = self._action(number)
            action.flags |= _ON_STACK | _WITH_INFO
            self._set_action(number, action)

    def look(self) -> bool:
        """Did anybody but this process itself ask for the end?"""
        number, _, code, pid, _ = _NOTE.unpack_from(self._memory, self._at)
        if number in _ENDS and not (code in _FROM_A_CALL and pid == os.getpid()):
            self._asked = True
        return self._asked

    def _measure(self) -> int:
        """Where in the stack siginfo lies, found by a signal that changes nothing. Raises Unavailable."""
        before = self._action(signal.SIGWINCH)
        harmless = ctypes.cast(self._libc.abs, ctypes.c_void_p).value  # any function of a number
        self._set_action(signal.SIGWINCH, _Action(handler=harmless, flags=_ON_STACK | _WITH_INFO))
        try:
            signal.raise_signal(signal.SIGWINCH)
        finally:
            self._set_action(signal.SIGWINCH, before)
        note = _NOTE.pack(signal.SIGWINCH, 0, _FROM_A_CALL[0], os.getpid(), os.getuid())
        if self._memory[:].count(note) != 1:
            raise core.Unavailable("it was not found where the system notes who sends a signal")
        at = self._memory.find(note)
        self._memory[:] = bytes(_STACK)
        return at

    def _action(self, number: int) -> _Action:
        action = _Action()
        self._check(self._libc.sigaction(number, None, ctypes.byref(action)))
        return action

    def _set_action(self, number: int, action: _Action) -> None:
        self._check(self._libc.sigaction(number, ctypes.byref(action), None))

    def _stack(self, new: _Stack, before: _Stack | None) -> None:
        self._check(self._libc.sigaltstack(ctypes.byref(new), None if before is None else ctypes.byref(before)))

    @staticmethod
    def _check(code: int) -> None:
        if code:
            raise core.Unavailable(f"a signal's stack cannot be set: {os.strerror(ctypes.get_errno())}")


# What the kernel and C hold pointers to. Never to be collected.
_recorders: list[Recorder] = []
_kept: list[Any] = []


def note_from_now_on() -> None:
    """Begin to note who asks for the end. For the main process, before the fork, once. Raises Unavailable."""
    library = core.trusted()
    if _recorders or ctypes.c_int.in_dll(library, "dont_fork").value:
        return  # without workers nobody can come first; and the whole end would run in the signal's handler
    recorder = Recorder()
    _spare_at_shutdown(library, recorder)
    _recorders.append(recorder)


def _spare_at_shutdown(library: Any, recorder: Recorder) -> None:
    own_group = ctypes.c_int.in_dll(library, "own_pgid")
    address = core.function(library, "sr_corecb_get", ctypes.c_void_p)()
    if not address:
        raise core.Unavailable("the server has no callback for the beginning of its stop")
    callbacks = _Callbacks.from_address(address)
    before = _Callback(callbacks.shutdown) if callbacks.shutdown else None

    def shutdown() -> None:
        if own_group.value and core.last_signal() == signal.SIGCHLD and not recorder.look():
            own_group.value = 0
            _end_group()
        if before is not None:
            before()

    callback = _Callback(shutdown)
    _kept.extend((callback, before))
    callbacks.shutdown = ctypes.cast(callback, ctypes.c_void_p).value


def _end_group() -> None:
    """What the core does by kill(0, SIGTERM), but for this process."""
    group, told = os.getpgrp(), {os.getpid()}
    while new := set(_members(group)) - told:
        for pid in new:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        told |= new


def _members(group: int) -> Iterator[int]:
    """The processes of a group that still run."""
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
            state, _, its_group = file.read().rpartition(b")")[2].split()[:3]
            if int(its_group) == group and state not in (b"Z", b"X"):
                yield int(name)


def ended_by_itself(patience: float = _GRACE, sleep: Callable[[float], None] = time.sleep) -> bool:
    """At the server's end: was it not asked to end? A process of it died then, or its start failed.

    Whoever asks every process, one after the other, may come to this one last: it is waited for at most `patience`
    seconds.
    """
    number = core.last_signal()
    if number is None or number in _ENDS:
        return False
    if not _recorders:
        return True
    end = time.monotonic() + (patience if number == signal.SIGCHLD else 0)
    while not _recorders[0].look():
        if time.monotonic() >= end:
            return True
        sleep(_LOOK)
    return False
