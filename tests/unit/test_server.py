"""Kamailio's core through its C symbols, with the symbols mocked: what is found, and what is done without."""

from __future__ import annotations

import ctypes
import re
from typing import TYPE_CHECKING, Any

import pytest

import mqueue_kemi
from kemi.server import core, standin, stop
from kemi.server.core import Unavailable
from kemi.server.embedder import Embedder
from kemi.spec import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_mock import MockerFixture

INIT, CHILD, DESTROY = 0x1111, 0x2222, 0x3333
Pointers = ctypes.c_void_p * 12
_made: list[Any] = []  # what an address was taken of


class Kamailio:
    """The memory of a core with the module app_python3 loaded: its sr_module, and the module's own exports."""

    def __init__(self, row: int = 9, **changes: Any) -> None:
        """row: where the three functions are in sr_module. changes: symbols that are otherwise."""
        self.module = Pointers(*[0x10 + number for number in range(12)])
        self.module[row : row + 3] = [INIT, CHILD, DESTROY]
        self.exports = Pointers(*[0x80 + number for number in range(7)], INIT, CHILD, DESTROY)
        self.symbols: dict[bytes, int | None] = {
            b"exports": ctypes.addressof(self.exports),
            **changes.get("symbols", {}),
        }
        self.found: int | None = ctypes.addressof(self.module) if changes.get("loaded", True) else None
        _made.append(self)


def install(mocker: MockerFixture, kamailio: Kamailio) -> Kamailio:
    """Let the core be found."""
    library = mocker.Mock()
    library.find_module_by_name = mocker.Mock(
        side_effect=lambda name: kamailio.found if name == b"app_python3" else None
    )
    mocker.patch.object(core, "library", return_value=library)
    mocker.patch.object(core, "trusted", return_value=library)
    dlsym = mocker.Mock(side_effect=lambda handle, name: kamailio.symbols.get(name) if handle == 0x11 else None)
    mocker.patch("ctypes.CDLL", return_value=mocker.Mock(dlsym=dlsym))
    return kamailio


@pytest.fixture(autouse=True)
def _nothing_is_hooked(mocker: MockerFixture) -> None:
    mocker.patch.object(stop, "_kept", [])


def test_outside_of_kamailio(ksr: Any) -> None:
    """Everything is as if there was nothing to do, and nothing is said."""
    assert not core.inside_kamailio()
    assert core.run_as() == (-1, -1)
    assert core.config_folder() is None
    with pytest.raises(Unavailable, match="this is not Kamailio"):
        stop.at_destroy(lambda: None)
    standin.take_place(mqueue_kemi._FUNCTIONS, lambda: None, Settings(), meet_new=lambda: None)
    assert not ksr.notice.call_count


@pytest.mark.parametrize(("symbol", "row"), [(b"exports", 9), (b"_app_python3_exports", 9), (b"exports", 2)])
def test_the_pointer_is_found(mocker: MockerFixture, symbol: bytes, row: int) -> None:
    """It is the third of the three functions, in the core's copy."""
    kamailio = Kamailio(row)
    kamailio.symbols = {symbol: kamailio.symbols[b"exports"]}
    install(mocker, kamailio)
    pointer = Embedder().destroy_pointer()
    assert pointer.value == DESTROY
    pointer.value = 0x4444
    assert kamailio.module[row + 2] == 0x4444
    assert kamailio.exports[9] == DESTROY


def twice() -> Kamailio:
    """Return a core where the functions stand in two places."""
    kamailio = Kamailio()
    kamailio.module[4:7] = [INIT, CHILD, DESTROY]
    return kamailio


def otherwise() -> Kamailio:
    """Return a core whose copy has another function."""
    kamailio = Kamailio()
    kamailio.module[11] = 0x5555
    return kamailio


def nothing() -> Kamailio:
    """Return a core where the functions are null, as many other pointers are."""
    kamailio = Kamailio()
    kamailio.module[9:12] = kamailio.exports[7:10] = [0, 0, 0]
    return kamailio


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: Kamailio(loaded=False), "neither the module app_python3 nor app_python3s was found"),
        (lambda: Kamailio(symbols={b"exports": None}), "the struct of exports of app_python3 was not found"),
        (twice, "found 2 times, not once"),
        (otherwise, "found 0 times, not once"),
        (nothing, "not once"),
    ],
    ids=["not loaded", "no exports", "twice", "otherwise", "null"],
)
def test_where_anything_is_doubtful(mocker: MockerFixture, make: Callable[[], Kamailio], why: str) -> None:
    """Nothing is touched, and the error says why."""
    kamailio = install(mocker, make())
    before = bytes(kamailio.module)
    with pytest.raises(Unavailable, match=re.escape(why)):
        stop.at_destroy(lambda: None)
    assert bytes(kamailio.module) == before


def hooked(mocker: MockerFixture, action: Callable[[], None]) -> tuple[Callable[[], None], list[str]]:
    """Hook an action before the core's own function; return what the core calls then, and what is called."""
    calls: list[str] = []
    own = ctypes.CFUNCTYPE(None)(lambda: calls.append("own"))
    _made.append(own)
    kamailio = Kamailio()
    address = ctypes.cast(own, ctypes.c_void_p).value
    kamailio.module[11] = kamailio.exports[9] = address
    install(mocker, kamailio)
    stop.at_destroy(action)
    assert kamailio.module[11] != address
    stop.at_destroy(action)
    return ctypes.CFUNCTYPE(None)(kamailio.module[11] or 0), calls


def test_the_core_calls_both(mocker: MockerFixture) -> None:
    """At its end the action is called once, and then what was there before; hooking twice is hooking once."""
    calls: list[str] = []
    destroy, own = hooked(mocker, lambda: calls.append(f"action, {len(own)} before"))
    destroy()
    assert (calls, own) == (["action, 0 before"], ["own"])


def test_an_error_does_not_reach_c(mocker: MockerFixture, ksr: Any) -> None:
    """It is one line in the log, and the core's own function is called."""

    def fail() -> None:
        raise SystemExit("too bad")

    destroy, own = hooked(mocker, fail)
    destroy()
    assert own == ["own"]
    ksr.err.assert_called_once_with("mqueue_kemi: at the server's stop: too bad\n")


@pytest.mark.parametrize(("ids", "expected"), [((0, 0), (-1, -1)), ((107, 0), (107, -1)), ((107, 112), (107, 112))])
def test_whom_the_server_will_be(mocker: MockerFixture, ids: tuple[int, int], expected: tuple[int, int]) -> None:
    """User and group of -u and -g, or -1 where none was asked for."""
    mocker.patch.object(core, "library", return_value=object())
    values = dict(zip(("uid", "gid"), map(ctypes.c_int, ids)))
    mocker.patch("ctypes.c_int", in_dll=lambda _, name: values[name])
    assert core.run_as() == expected


def test_a_server_without_these_symbols(mocker: MockerFixture) -> None:
    """What is not there counts as not asked for."""
    mocker.patch.object(core, "library", return_value=ctypes.PyDLL(None))
    assert core.run_as() == (-1, -1)
    assert core.config_folder() is None


@pytest.mark.parametrize(
    ("path", "folder"), [(b"/etc/kamailio/kamailio.cfg", "/etc/kamailio"), (b"", None), (None, None)]
)
def test_the_folder_of_the_configuration(mocker: MockerFixture, path: bytes | None, folder: str | None) -> None:
    """It is that of the file in use."""
    mocker.patch.object(core, "library", return_value=object())
    value = ctypes.c_char_p(path)
    mocker.patch("ctypes.c_char_p", in_dll=lambda _, name: value if name == "cfg_file" else None)
    assert core.config_folder() == folder
