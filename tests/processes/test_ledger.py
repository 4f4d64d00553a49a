"""The ledger finds a loss, a duplicate, a stranger and a wrong order: it is what the other tests here rest on."""

from __future__ import annotations

from tests.processes.ledger import check, number_of, value_of

ADDED = {"a": 3, "b": 2}
WHOLE = [[("a", 0), ("b", 0), ("a", 2)], [("a", 1), ("b", 1)]]


def test_all_is_well() -> None:
    assert check(ADDED, WHOLE) == []


def test_a_loss_is_found() -> None:
    assert check(ADDED, [WHOLE[0], [("a", 1)]]) == ["1 lost, 0 may be: [('b', 1)]"]
    assert check(ADDED, [WHOLE[0]], may_miss=1) == ["2 lost, 1 may be: [('a', 1), ('b', 1)]"]
    assert check(ADDED, [WHOLE[0]], may_miss=2) == []


def test_a_duplicate_is_found() -> None:
    assert check(ADDED, [*WHOLE, [("b", 0)]]) == ["b 0 came twice"]


def test_a_stranger_is_found() -> None:
    assert check(ADDED, [*WHOLE, [("a", 3)]]) == ["a 3 was never added"]
    assert check(ADDED, [*WHOLE, [("a", 3)]], uncertain={"a"}) == []
    assert check(ADDED, [*WHOLE, [("a", 4)]], uncertain={"a"}) == ["a 4 was never added"]
    assert check(ADDED, [*WHOLE, [("c", 0)]]) == ["c 0 was never added"]


def test_a_wrong_order_is_found() -> None:
    assert check({"a": 2}, [[("a", 1), ("a", 0)]]) == ["consumer 0 got a 0 after 1"]


def test_a_torn_value_is_found() -> None:
    value = value_of(7, 1000)
    assert number_of(value) == 7
    assert number_of(value[:500] + "x" + value[501:]) == -1
    assert number_of(value[:-1]) == -1
