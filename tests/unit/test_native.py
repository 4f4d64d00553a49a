"""The handler for a native kamailio.cfg, with KSR.pv mocked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import mqueue_kemi
from kemi import asking
from kemi.server.ksr import Functions
from kemi.server.native import Handler
from mqueue_kemi import modparam, mq_add, mq_size

if TYPE_CHECKING:
    from pytest_mock import MockerFixture

MESSAGE = object()


class Variables:
    """$vn(...) of a server: bytes, as C has them; KSR gives and takes text only."""

    def __init__(self) -> None:
        self.values: dict[str, bytes | int] = {}

    def gete(self, name: str) -> str:
        """Give a variable as text, "" for null; `{s.encode.hexa}` gives hexadecimal digits."""
        if name.startswith("$("):
            name, transformation = name[2:-1].partition("{")[::2]
            assert transformation == "s.encode.hexa}"
            value = self.values[f"${name}"]
            assert isinstance(value, bytes)
            return value.hex() if len(value) < 30_000 else ""
        value = self.values.get(name, b"")
        assert isinstance(value, bytes)
        return value.decode()

    def sets(self, name: str, value: str) -> int:
        """Store a text: a C string, so without NUL."""
        assert "\0" not in value
        self.values[name] = value.encode()
        return 1

    def seti(self, name: str, value: int) -> int:
        """Store a number."""
        self.values[name] = value
        return 1

    def unset(self, name: str) -> int:
        """Make a variable null."""
        self.values.pop(name, None)
        return 1

    def evalx(self, name: str, expression: str) -> int:
        """Store what an expression gives; `{s.decode.hexa}` makes bytes of hexadecimal digits."""
        source, transformation = expression[2:-1].partition("{")[::2]
        assert transformation == "s.decode.hexa}"
        digits = self.values[f"${source}"]
        assert isinstance(digits, bytes)
        self.values[name] = bytes.fromhex(digits.decode())
        return 1


@pytest.fixture
def variables(server: Any) -> Variables:
    """Return the variables of a server with a queue."""
    modparam("mqueue", "mqueue", "name=q")
    mqueue_kemi.mod_init(object())
    server.pv = server.pvx = Variables()
    return server.pv  # type: ignore[no-any-return]


@pytest.fixture
def handler() -> Handler:
    """Return the handler."""
    return Handler(mqueue_kemi._FUNCTIONS, asking)


def test_a_process_needs_nothing(handler: Handler) -> None:
    """child_init is there, and 0 for every rank."""
    assert [handler.child_init(rank) for rank in (-2, -1, 0, 1, 9)] == [0] * 5


@pytest.mark.parametrize(
    "data", [b"text", b"", "é".encode(), b"\xff", b"\0", b"a\0b\xfe\xed\xa0\x80", b"\xff" * 20_000, b"x" * 100_000]
)
def test_an_item_goes_through(variables: Variables, handler: Handler, data: bytes) -> None:
    """Key and value cross in variables, and the bytes are the same."""
    variables.values |= {"$vn(mqk_q)": data, "$vn(mqv_q)": data + b"!"}
    assert handler.mq_add(MESSAGE, "q") == 1
    variables.values.clear()
    assert handler.mq_size(MESSAGE, "q") == variables.values["$vn(mq_size_q)"] == 1
    assert handler.mq_fetch(MESSAGE, "q") == 1
    assert variables.values["$vn(mqk_q)"] == data
    assert variables.values["$vn(mqv_q)"] == data + b"!"


def test_nothing_to_fetch(variables: Variables, handler: Handler) -> None:
    """-2, the variables are null, and the size is -1 with 0 in its variable."""
    variables.values |= {"$vn(mqk_q)": b"old", "$vn(mqv_q)": b"old"}
    assert handler.mq_fetch(MESSAGE, "q") == -2
    assert not variables.values
    assert handler.mq_size(MESSAGE, "q") == -1
    assert variables.values == {"$vn(mq_size_q)": 0}


def test_free(variables: Variables, handler: Handler) -> None:
    """The variables are null, and so is the slot."""
    variables.values |= {"$vn(mqk_q)": b"k", "$vn(mqv_q)": b"v"}
    handler.mq_add(MESSAGE, "q")
    handler.mq_fetch(MESSAGE, "q")
    assert handler.mq_pv_free(MESSAGE, "q") == 1
    assert not variables.values
    assert mqueue_kemi.mqk_get("q") is None


def test_an_unknown_queue(variables: Variables, handler: Handler, server: Any) -> None:
    """The documented codes, null variables, one line each."""
    variables.values |= {"$vn(mqk_no)": b"k", "$vn(mqv_no)": b"v", "$vn(mq_size_no)": 5}
    assert handler.mq_add(MESSAGE, "no") == -1
    assert handler.mq_fetch(MESSAGE, "no") == -1
    assert handler.mq_size(MESSAGE, "no") == -2
    assert handler.mq_pv_free(MESSAGE, "no") == 1
    assert not variables.values
    assert server.err.call_count == 3


def test_bytes_that_are_too_many(variables: Variables, handler: Handler, server: Any) -> None:
    """What cannot be read from a variable is not added: -1 and one line."""
    variables.values |= {"$vn(mqk_q)": b"k", "$vn(mqv_q)": b"\xff" * 40_000}
    assert handler.mq_add(MESSAGE, "q") == -1
    assert server.err.call_count == 1
    assert mq_size("q") == -1


def test_bytes_that_a_variable_cannot_hold(variables: Variables, handler: Handler, server: Any) -> None:
    """They are written out, with one line."""
    mq_add("q", "k", "\udcff\0" * 40_000)
    assert handler.mq_fetch(MESSAGE, "q") == 1
    assert variables.values["$vn(mqv_q)"] == b"\\xff\\x00" * 40_000
    assert server.err.call_count == 1


@pytest.mark.usefixtures("variables")
def test_codes_are_numbers(mocker: MockerFixture) -> None:
    """python_exec wants an int, whatever a function gives."""
    handler = Handler(Functions(*[mocker.Mock(return_value=True)] * len(Functions._fields)), asking)
    assert type(handler.mq_add(MESSAGE, "q")) is type(handler.mq_pv_free(MESSAGE, "q")) is int
