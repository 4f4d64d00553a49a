# SPDX-License-Identifier: GPL-2.0-or-later
"""The script of a server that tells what KEMI has. Runs inside Kamailio, with nothing of this package.

app_python3 is loaded first, so this runs after all modules are loaded and before any other one is started: also what a
module that cannot start here would bring is seen.
"""

from __future__ import annotations

import ctypes
import json
import os
from typing import Any


class Str(ctypes.Structure):
    """The core's str."""

    _fields_ = (("s", ctypes.c_void_p), ("len", ctypes.c_int))

    def text(self) -> str:
        """As Python has it."""
        return ctypes.string_at(self.s, self.len).decode() if self.s else ""


class Kemi(ctypes.Structure):
    """The core's sr_kemi_t."""

    _fields_ = (
        ("mname", Str),
        ("fname", Str),
        ("rtype", ctypes.c_int),
        ("func", ctypes.c_void_p),
        ("ptypes", ctypes.c_int * 6),
    )


class Module(ctypes.Structure):
    """The core's sr_kemi_module_t."""

    _fields_ = (("mname", Str), ("kexp", ctypes.POINTER(Kemi)))


class Place(ctypes.Structure):
    """Dl_info of dladdr(3)."""

    _fields_ = (
        ("fname", ctypes.c_char_p),
        ("fbase", ctypes.c_void_p),
        ("sname", ctypes.c_char_p),
        ("saddr", ctypes.c_void_p),
    )


def tables() -> list[dict[str, Any]]:
    """Every function in the core's tables, in their order.

    module is what the function says; shown is what its table says, and so KSR: KSR.ldap has one that says "secsipid".
    """
    core = ctypes.PyDLL(None)
    core.sr_kemi_modules_get.restype = ctypes.POINTER(Module)
    core.sr_kemi_param_map_get_name.restype = ctypes.POINTER(Str)
    modules = core.sr_kemi_modules_get()
    found = []
    for number in range(core.sr_kemi_modules_size_get()):
        index = 0
        while modules[number].kexp[index].func:
            entry = modules[number].kexp[index]
            found.append(
                {
                    "ret": _name_of(core, entry.rtype),
                    "module": entry.mname.text(),
                    "name": entry.fname.text(),
                    "params": _names_of(core, entry.ptypes),
                    "shown": modules[number].kexp[0].mname.text(),
                    "file": _file_of(core, entry.func),
                }
            )
            index += 1
    return found


# What the core has no name for: "long" came with 5.8, and the table of names was left as it was.
_NAMELESS = {1 << 3: "long"}


def _name_of(core: ctypes.PyDLL, kind: int) -> str:
    name = core.sr_kemi_param_map_get_name(kind)
    return name.contents.text() if name else _NAMELESS.get(kind, f"type{kind}")


def _names_of(core: ctypes.PyDLL, kinds: Any) -> str:
    """The types of a function's arguments, as the core writes them where it knows them all."""
    found = []
    for kind in kinds:
        if kind == 0:
            break
        found.append(_name_of(core, kind))
    return ", ".join(found) or "none"


def _file_of(core: ctypes.PyDLL, address: int) -> str:
    """The module's file that has the function; "" for the server itself."""
    place = Place()
    if not core.dladdr(ctypes.c_void_p(address), ctypes.byref(place)) or not place.fname:
        return ""
    name = os.path.basename(os.fsdecode(place.fname))
    return name[:-3] if name.endswith(".so") else ""


def names() -> dict[str, list[str]]:
    """What dir() shows: "" → the functions of KSR itself, and each module of it → its functions."""
    import KSR

    found: dict[str, list[str]] = {"": []}
    for name in dir(KSR):
        thing = getattr(KSR, name)
        if name.startswith("__"):
            continue
        if callable(thing):
            found[""].append(name)
        else:
            found[name] = [each for each in dir(thing) if not each.startswith("__")]
    return found


class Handler:
    """What app_python3 asks for: nothing happens here."""

    def child_init(self, _rank: int) -> int:
        """Nothing to do."""
        return 0


def mod_init() -> Handler:
    """Write what there is to the file that the environment names."""
    path = os.environ["KSR_PROBE"]
    with open(path + ".part", "w", encoding="utf-8") as file:
        json.dump({"tables": tables(), "dir": names()}, file)
    os.rename(path + ".part", path)
    return Handler()
