# SPDX-License-Identifier: GPL-2.0-or-later
"""Errors that are not ours: a signal handler of the program raised them, in the middle of our code.

A handler may raise anything: TimeoutError, which is an OSError; RuntimeError; Reentered, where it used a queue that the
call under way has locked. Our code expects errors of these kinds of the system and of itself, and must not take the
handler's for one of them: a time limit would pass unnoticed, and a call that is made again would do its work twice. So
where an expected error does not simply go on, it is asked where it comes from.

Python gives a handler the frame that it interrupts. That is how its own frame is known in a traceback.
"""

from __future__ import annotations

from types import FrameType, TracebackType

_OURS = ("kemi.", "mqueue_kemi")


def is_from_handler(error: BaseException) -> bool:
    """Return True if a signal handler raised this. To be asked where it is caught."""
    trace = error.__traceback__
    while trace is not None:
        frame = trace.tb_frame
        # The variables of our own frames are not asked for: Python would keep what is in them.
        if not str(frame.f_globals.get("__name__")).startswith(_OURS) and _is_handler(frame):
            return True
        trace = trace.tb_next
    return False


def _is_handler(frame: FrameType) -> bool:
    interrupted = frame.f_back
    if interrupted is None:
        return False
    return any(
        value is interrupted or (value.__class__ is tuple and any(part is interrupted for part in value))
        for value in frame.f_locals.values()
    )


class suppress:  # noqa: N801 - as contextlib.suppress, which it is but for what handlers raise
    """`contextlib.suppress`, but for what a signal handler raises."""

    __slots__ = ("_kinds",)

    def __init__(self, *kinds: type[BaseException]) -> None:
        self._kinds = kinds

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> bool:
        return error is not None and isinstance(error, self._kinds) and not is_from_handler(error)
