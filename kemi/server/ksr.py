# SPDX-License-Identifier: GPL-2.0-or-later
"""KSR.mqueue, put in place when the C module that has this name in KEMI is not loaded."""

from __future__ import annotations

from types import ModuleType
from typing import Any, Callable, NamedTuple, Optional

_Text = Optional[str]


class Functions(NamedTuple):
    """The functions of `mqueue_kemi`, for those who offer them in another form."""

    mq_add: Callable[..., int]
    mq_fetch: Callable[..., int]
    mq_pv_free: Callable[[str], int]
    mq_size: Callable[[str], int]
    mqk_get: Callable[[str], _Text]
    mqk_gete: Callable[[str], str]
    mqk_getw: Callable[[str], str]
    mqv_get: Callable[[str], _Text]
    mqv_gete: Callable[[str], str]
    mqv_getw: Callable[[str], str]


def put_in_place(functions: Functions) -> bool:
    """Have KSR.mqueue, as KEMI's reference describes it. False when there is one of the C module, which stays."""
    import KSR

    present = getattr(KSR, "mqueue", None)
    if present is not None:
        return isinstance(present, _Mqueue)
    KSR.mqueue = _Mqueue(functions)
    return True


class _Mqueue(ModuleType):
    """Like the other modules in KSR."""

    def __init__(self, functions: Functions) -> None:
        super().__init__("KSR.mqueue", "The mqueue module's functions, with KEMI's codes.")
        kemi: dict[str, Any] = {**functions._asdict(), "mq_size": _kemi_size(functions.mq_size)}
        vars(self).update(kemi)


def _kemi_size(mq_size: Callable[[str], int]) -> Callable[[str], int]:
    def kemi_size(queue: str) -> int:
        """How many items the queue has; -1 there is no such queue."""
        size = mq_size(queue)
        return size if size > 0 else size + 1

    kemi_size.__name__ = kemi_size.__qualname__ = "mq_size"
    return kemi_size
