"""KEMI's functions of tm and tmx, as `ask` calls them: which return value means what."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from kemi.answers.tm import Identity, Suspended, Unaskable
from kemi.server.transactions import Transactions, kemi_continue


class Ksr:
    """A server that answers as a test says, and notes what was called."""

    def __init__(self, **values: Any) -> None:
        self.values: dict[str, Any] = {
            "is_ACK": False,
            "is_CANCEL": False,
            "t_is_reply_route": -1,
            "t_is_branch_route": -1,
            "t_is_failure_route": -1,
            "t_newtran": 1,
            "t_is_canceled": -1,
            "t_suspend": 1,
            "t_continue": 1,
            "t_set_fr": 1,
            "t_reset_fr": 1,
            **values,
        }
        self.calls: list[tuple[Any, ...]] = []
        self.variables: list[dict[str, Any]] = [{"$T(id_index)": 5, "$T(id_label)": 6}]
        self.tm = self.tmx = SimpleNamespace(**{name: self._function(name) for name in self.values})
        self.pv = SimpleNamespace(get=self._get, seti=lambda *_: None, unset=lambda *_: None)
        self.is_ACK, self.is_CANCEL = self._function("is_ACK"), self._function("is_CANCEL")

    def _function(self, name: str) -> Any:
        def call(*arguments: Any) -> Any:
            self.calls.append((name, *arguments))
            return self.values[name]

        return call

    def _get(self, name: str) -> Any:
        found = self.variables[0].get(name)
        if found is None and name.startswith("$T") and len(self.variables) > 1:
            del self.variables[0]  # the next one is there once the transaction is made
        return found


def made(monkeypatch: pytest.MonkeyPatch, **values: Any) -> tuple[Transactions, Ksr]:
    """Return what is tested, and the server around it."""
    ksr = Ksr(**values)
    monkeypatch.setitem(sys.modules, "KSR", ksr)
    return Transactions(lambda name: name == "then", kemi_continue), ksr


def test_a_suspension_that_the_caller_cancelled_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """t_suspend gives 1 for it as well."""
    transactions, _ = made(monkeypatch, t_is_canceled=1)
    assert transactions.suspend(3000) is Suspended.CANCELLED
    transactions, ksr = made(monkeypatch)
    assert transactions.suspend(3000) is Suspended.YES
    assert ksr.calls[0] == ("t_set_fr", 0, 3000)  # fr_inv_timer, the callee's own time, stays
    transactions, ksr = made(monkeypatch, t_suspend=-1)
    assert transactions.suspend(3000) is Suspended.NO
    assert ksr.calls[-1] == ("t_reset_fr",)


def test_the_transaction_is_made_if_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """A retransmission belongs to one, and gets none."""
    transactions, ksr = made(monkeypatch)
    assert transactions.identify() == Identity(5, 6)
    assert ("t_newtran",) not in ksr.calls
    for code, expected in ((1, Identity(5, 4294967295)), (0, None)):
        transactions, ksr = made(monkeypatch, t_newtran=code)
        ksr.variables = [{}, {"$T(id_index)": 5, "$T(id_label)": -1}]
        assert transactions.identify() == expected
    transactions, ksr = made(monkeypatch, t_newtran=-1)
    ksr.variables = [{}]
    with pytest.raises(Unaskable, match="tm made no transaction"):
        transactions.identify()


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("is_ACK", True, "an ACK or a CANCEL"),
        ("is_CANCEL", True, "an ACK or a CANCEL"),
        ("t_is_reply_route", 1, "a reply or a branch"),
        ("t_is_branch_route", 1, "a reply or a branch"),
    ],
)
def test_where_nobody_can_ask(monkeypatch: pytest.MonkeyPatch, name: str, value: object, text: str) -> None:
    transactions, ksr = made(monkeypatch, **{name: value})
    with pytest.raises(Unaskable, match=text):
        transactions.identify()
    assert ("t_newtran",) not in ksr.calls


def test_modules_that_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The text says what to load."""
    transactions, ksr = made(monkeypatch)
    del ksr.tmx
    with pytest.raises(Unaskable, match=r"loadmodule tmx\.so"):
        transactions.identify()


def test_numbers_without_a_sign_cross_as_c_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """A label above 2 ** 31 is a negative int there."""
    transactions, ksr = made(monkeypatch)
    assert transactions.go_on(Identity(65535, 0xFFFFFFFE), "then") == 1
    assert ksr.calls == [("t_continue", 65535, -2, "then")]
    assert transactions.has_route("then")
    assert not transactions.has_route("other")


def test_a_request_that_kamailio_made_up_gets_no_transaction(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a timer, an event route, child_init: it would never end. A real request with that URI gets one."""
    transactions, ksr = made(monkeypatch)
    ksr.variables = [{"$ou": "sip:you@kamailio.org", "$rm": "OPTIONS"}]
    with pytest.raises(Unaskable, match="there is no request here"):
        transactions.identify()
    assert "t_newtran" not in [name for name, *_ in ksr.calls]
    ksr.variables = [{"$ou": "sip:you@kamailio.org", "$rm": "INVITE"}, {"$T(id_index)": 5, "$T(id_label)": 6}]
    assert transactions.identify() == Identity(5, 6)


def test_a_transaction_that_waits_is_not_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be suspended twice, and never freed. In a failure route tm has ended the first suspension."""
    transactions, ksr = made(monkeypatch)
    noted: dict[str, int] = ksr.variables[0]
    ksr.pv.seti, ksr.pv.unset = noted.__setitem__, lambda name: noted.pop(name, None)
    assert transactions.identify() == Identity(5, 6)
    assert transactions.suspend(1000) is Suspended.YES
    with pytest.raises(Unaskable, match="waits for an answer already"):
        transactions.identify()
    ksr.values["t_is_failure_route"] = 1
    assert transactions.identify() == Identity(5, 6)
    assert transactions.suspend(1000) is Suspended.YES
    with pytest.raises(Unaskable, match="waits for an answer already"):
        transactions.identify()
    transactions.restore()
    assert transactions.identify() == Identity(5, 6)
    ksr.values["t_suspend"] = -1
    assert transactions.suspend(1000) is Suspended.NO
    assert transactions.identify() == Identity(5, 6)
