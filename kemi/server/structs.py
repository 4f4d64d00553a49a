# SPDX-License-Identifier: GPL-2.0-or-later
"""C structs of Kamailio and how its functions are called: layouts only, the same in all versions that `core` trusts."""

from __future__ import annotations

import ctypes

Int, Size, Pointer, Text = ctypes.c_int, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_char_p


class Str(ctypes.Structure):
    """Kamailio's `str`: bytes and how many."""

    _fields_ = (("s", Text), ("len", Int))


class StrAt(ctypes.Structure):
    """`Str`, for bytes that C owns and that are no C string: where they are, and how many."""

    _fields_ = (("s", ctypes.POINTER(ctypes.c_char)), ("len", Int))

    def bytes(self) -> bytes:
        """A copy of them."""
        start, length = self.s, self.len
        return start[:length] if start and length > 0 else b""


def str_of(data: bytes) -> Str:
    """The `str` of these bytes, which it keeps alive."""
    return Str(data, len(data))


# --- pseudo-variables: core/pvar.h ------------------------------------------------------------------------------------

PVT_OTHER = 22

# int parse_name(pv_spec_t *spec, str *name); int getf(sip_msg_t *message, pv_param_t *param, pv_value_t *value)
PvParseName = ctypes.CFUNCTYPE(Int, Pointer, ctypes.POINTER(StrAt))
PvGet = ctypes.CFUNCTYPE(Int, Pointer, ctypes.POINTER(Size), Pointer)

# The union `u` of pv_name_t, which has room for a number of ours: in pv_spec_t, and in the pv_param_t within it.
NAME_IN_SPEC = 40
NAME_IN_PARAM = 16
# pv_value_t: a str first, then a number and flags whose places depend on the version. More than its size.
VALUE_BYTES = 64
# pv_spec_t: more than its size.
SPEC_BYTES = 1024


class PvExport(ctypes.Structure):
    """pv_export_t: one class of pseudo-variables. A list of them ends with one of zeros."""

    _fields_ = (
        ("name", Str),
        ("type", Int),
        ("getf", PvGet),
        ("setf", Pointer),
        ("parse_name", PvParseName),
        ("parse_index", Pointer),
        ("init_param", Pointer),
        ("iparam", Int),
    )


# --- RPC: core/rpc.h --------------------------------------------------------------------------------------------------

RET_ARRAY = 1

# void function(rpc_t *rpc, void *context)
RpcFunction = ctypes.CFUNCTYPE(None, Pointer, Pointer)

# Those with `...` in C are called with more arguments than are named here. PYFUNCTYPE: they neither wait nor call back,
# so the lock of the interpreter is kept.
RpcFault = ctypes.PYFUNCTYPE(None, Pointer, Int, Text)
RpcVarargs = ctypes.PYFUNCTYPE(Int, Pointer, Text)


class Rpc(ctypes.Structure):
    """rpc_t: what a command may call to read its parameters and to answer."""

    _fields_ = (
        ("fault", RpcFault),
        ("send", Pointer),
        ("add", RpcVarargs),
        ("scan", RpcVarargs),
        ("rpl_printf", Pointer),
        ("struct_add", RpcVarargs),
    )


class RpcExport(ctypes.Structure):
    """rpc_export_t: one command. A list of them ends with one of zeros."""

    _fields_ = (
        ("name", Text),
        ("function", RpcFunction),
        ("doc", ctypes.POINTER(Text)),
        ("flags", ctypes.c_uint),
    )


class DlInfo(ctypes.Structure):
    """What dladdr tells of an address."""

    _fields_ = (("file", Text), ("base", Pointer), ("symbol", Text), ("at", Pointer))


# --- commands of modules: core/sr_module.h, modules/mqueue/api.h ------------------------------------------------------

_COMMAND = (
    ("name", Text),
    ("function", Pointer),
    ("param_no", Int),
    ("fixup", Pointer),
    ("free_fixup", Pointer),
    ("flags", ctypes.c_uint),
)


class Command(ctypes.Structure):
    """cmd_export_t: a command as a module exports it. A list of them ends with one of zeros."""

    _fields_ = _COMMAND

    def told(self) -> tuple[object, ...]:
        """What the core copies as it is."""
        return self.name, self.function, self.param_no, self.fixup, self.flags


class KsrCommand(ctypes.Structure):
    """ksr_cmd_export_t: the same as the core keeps it."""

    _fields_ = (*_COMMAND, ("fixup_flags", ctypes.c_uint), ("module", Pointer))

    def told(self) -> tuple[object, ...]:
        """What the core has copied from the module's own."""
        return self.name, self.function, self.param_no, self.fixup, self.flags


class MqApi(ctypes.Structure):
    """mq_api_t: what the C module gives to modules that ask for bind_mq."""

    _fields_ = (("add", Pointer),)


# int bind_mq(mq_api_t *api), int add(str *queue, str *key, str *value)
BindMq = ctypes.CFUNCTYPE(Int, Pointer)
MqAdd = ctypes.CFUNCTYPE(Int, Pointer, Pointer, Pointer)


# --- private memory: core/mem/memapi.h --------------------------------------------------------------------------------

# void *malloc(void *block, size_t size, ...), void free(void *block, void *memory, ...): a file, function, line and
# module follow, which only a build that looks for mistakes reads.
PkgMalloc = ctypes.PYFUNCTYPE(Pointer, Pointer, Size, Text, Text, ctypes.c_uint, Text)
PkgFree = ctypes.PYFUNCTYPE(None, Pointer, Pointer, Text, Text, ctypes.c_uint, Text)


class PkgApi(ctypes.Structure):
    """sr_pkg_api_t, as far as it is used."""

    _fields_ = (
        ("name", Text),
        ("pool", Pointer),
        ("block", Pointer),
        ("malloc", PkgMalloc),
        ("mallocxz", Pointer),
        ("realloc", Pointer),
        ("reallocxf", Pointer),
        ("free", PkgFree),
    )
