# SPDX-License-Identifier: GPL-2.0-or-later
"""Which kernel does what queues do most often: Python's own, or the optional one in C.

MQUEUE_KEMI_KERNEL chooses: "auto" (the default) takes the native one where it was built, "native" insists on it, "pure"
does without. Both do the same stores on the same bytes, so processes with either use one queue together.

The native kernel does what it can do at once, and calls the Python code for the rest (see `_kernel.c`). So it is put
in place of a few functions, which it is given: `take_over` for queues, `script_functions` for a script's.
"""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from collections.abc import Callable, Iterable
from functools import partial

from kemi.names import KERNEL_VARIABLE
from kemi.queue.format import layout
from kemi.queue.sync.handlers import is_from_handler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

AUTO, NATIVE, PURE = "auto", "native", "pure"
# The native one, built to be struck at each of its stores; for tests.
CRASH_POINTS = "crash-points"
_MODULES = {AUTO: "_kernel", NATIVE: "_kernel", CRASH_POINTS: "_kernel_crash"}
_NOT_BUILT = "the native one was not built"
_IS_NEW: bool = sys.version_info >= (3, 10)
_TAKEN_OVER = ("add", "pop", "pop_wait", "add_many", "fetch_many", "reserve_some", "settle")
_CALLED = ("give_back_forgotten", "go_on_waiting", "wait_no_more")  # by the kernel alone
_pythons: dict[str, Callable[..., Any]] = {}  # what was in their place


def _wanted() -> str:
    wanted = os.environ.get(KERNEL_VARIABLE, "") or AUTO
    if wanted not in (AUTO, NATIVE, PURE, CRASH_POINTS):
        raise ImportError(f"{KERNEL_VARIABLE}={wanted!r}: it must be auto, native or pure", name=KERNEL_VARIABLE)
    return wanted


def _unsuited() -> str:
    """Why the native one cannot run in this Python; "" if it can."""
    if not _IS_NEW:
        return "the native one needs Python 3.10"
    if "t" in sys.abiflags:
        return "the native one needs a Python with its GIL"
    return ""


def _load(wanted: str) -> tuple[Any, str]:
    """Return the native kernel, and "", or None and why there is none."""
    if wanted == PURE:
        return None, f"{KERNEL_VARIABLE}=pure"
    if why := _unsuited():
        return None, why
    name = f"kemi.queue.kernel.{_MODULES[wanted]}"
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name == name:
            return None, _NOT_BUILT
        return None, f"the native one cannot be used: {error}"
    why = _unfit(module)
    return None if why else module, why


def _unfit(module: Any) -> str:
    """Why a native one cannot be used here; "" if it can."""
    built, present = f"{module.FORMAT}.{module.REVISION}", f"{layout.VERSION}.{layout.REVISION}"
    if built != present:
        return f"the native one is for memory format {built}, this is format {present}"
    # From Python 3.13 on, what a subinterpreter imports first is imported in the main one. A file that was built from
    # older sources may not have this function: it works all the same.
    if getattr(module, "interpreter", int)():
        return "the native one cannot be used: this is a subinterpreter"
    return ""


_choice = _wanted()
lib, why_not = _load(_choice)
if lib is None and _choice in (NATIVE, CRASH_POINTS):
    raise ImportError(
        f"{KERNEL_VARIABLE}={_choice}, and there is no native kernel: {why_not}; build it with "
        "`python3 setup.py build_ext --inplace`, or unset the variable",
        name=KERNEL_VARIABLE,
    )
if lib is None and _choice == AUTO and _IS_NEW and why_not != _NOT_BUILT:
    warnings.warn_explicit(f"its kernel is pure Python: {why_not}", RuntimeWarning, "mqueue_kemi", 0)

if TYPE_CHECKING:
    from kemi.queue.shm.segment import Segment

    class Client:
        """What each attached queue has of the kernel."""

    class Base:
        """What each queue has of the kernel."""

elif lib is not None:
    Base, Client = lib.Queue, lib.Client
else:

    class Base:
        """What each queue has of the kernel: nothing."""

        __slots__ = ()

    Client = Base


def name() -> str:
    """Which kernel runs, for people."""
    return "pure Python" if lib is None else CRASH_POINTS if _choice == CRASH_POINTS else "native"


def description() -> str:
    """As `name`, and why it is not the native one."""
    return f"{name()} ({why_not})" if why_not else name()


def sleeps() -> bool:
    """Whether the signal handler that calls this interrupts a sleep in the kernel, which has no item yet."""
    return bool(getattr(lib, "sleeps", bool)())


def attach(queue: Any, segment: Segment) -> None:
    """Let the kernel work on a queue's memory, which is checked."""
    if lib is not None:
        import ctypes  # who asks for the version does without

        whole = segment.reference(0, 1)  # keeps the mapping
        queue.kernel_attach(whole, ctypes.addressof(whole), segment.window)


def detach(queue: Any) -> None:
    """Keep the kernel from a queue's memory from now on."""
    if lib is not None:
        queue.kernel_detach()


def take_over(queue_type: Any, item_type: Any, adds: tuple[object, ...], reserved: tuple[object, ...]) -> None:
    """Put the kernel's functions in place of those of a class, which it then goes on with.

    item_type: what the kernel makes of a record; its key and value are the kernel's, too.
    adds: four results, what becomes of the rest after an error, and its type. reserved: the types of a hold, an item
    and a delivery, and how it is settled by the kernel.
    """
    if lib is None:
        return
    _pythons.update((name, getattr(queue_type, name)) for name in (*_TAKEN_OVER, *_CALLED))
    lib.install({f"item_{name}": getattr(item_type, name).fget for name in ("key", "value")})
    lib.set_results(*adds)
    lib.set_reserved(*reserved, partial)
    lib.set_item_type(item_type)
    lib.install({**_pythons, is_from_handler.__name__: is_from_handler})
    for name in _TAKEN_OVER:
        setattr(queue_type, name, getattr(lib.Queue, name))


def take_over_client(client_type: Any) -> None:
    """As `take_over`, for what a process outside of the server has."""
    if lib is None:
        return
    lib.install({"client_add": client_type.add, "client_fetch": client_type.fetch})
    client_type.add, client_type.fetch = lib.Client.add, lib.Client.fetch


def check_threads() -> bool:
    """Let other threads than the main one have what the kernel does alone. False if there is none.

    What it leaves to Python is refused there (see `beside`).
    """
    if lib is None:
        return False
    import threading

    from kemi.queue.kernel import beside

    lib.install({name: beside.refused(name, function, lib) for name, function in _pythons.items()})
    lib.keep_to_thread(threading.main_thread().ident)
    return True


def script_functions(
    functions: Iterable[Callable[..., Any]], queues: dict[str, Any], fetched: dict[str, bytes | None]
) -> list[Callable[..., Any]]:
    """Return a script's functions: the kernel's in place of those that it has, which it then goes on with."""
    by_name = {function.__name__: function for function in functions}
    if lib is not None:
        lib.install(by_name)
        lib.set_tables(queues, fetched)
    return [getattr(lib, name, function) for name, function in by_name.items()]
